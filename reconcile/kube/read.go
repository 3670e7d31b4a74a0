package kube

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/amlaks/amlaks/reconcile"
)

// Read implements reconcile.Driver: one GET, and a dry-run if what is there is not what
// would be sent.
func (d *Driver) Read(ctx context.Context, step reconcile.Step) (*reconcile.Live, error) {
	o, c, err := d.reach(step)
	if err != nil {
		return nil, err
	}
	item, err := c.get(ctx, o.kind, o.namespace, o.name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, explain("read", err)
	}
	l := d.live(c, o, item)
	if step.Desired == nil || l.Owner != d.stack.Name {
		l.Body = shown(item, o)
		return l, nil
	}
	return l, d.predict(ctx, c, o, step.Desired, item, l, false)
}

// reach gives the object of a step and its cluster: as observed, or as declared.
func (d *Driver) reach(step reconcile.Step) (object, *client, error) {
	if step.Live != nil {
		if h, ok := step.Live.Handle.(handle); ok {
			return h.object, h.client, nil
		}
	}
	if step.Resource == nil {
		return object{}, nil, fmt.Errorf("%s was not observed", step.Change.Address)
	}
	o := step.Resource.Spec.(object)
	kubeconfig := step.Inputs[inputKubeconfig]
	if kubeconfig == "" {
		return object{}, nil, fmt.Errorf("the cluster %s gave no kubeconfig", o.cluster)
	}
	c, err := d.client(kubeconfig)
	return o, c, err
}
