package kube

import (
	"context"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// fewWaiting is up to how many Deployments are looked at one by one. More are read by one
// LIST for all who wait, and their pods are looked at in turns, so that a thousand rollouts
// ask no more of the API server than a few do.
const fewWaiting = 8

// rollouts reads the Deployments of one namespace for all who wait for one.
type rollouts struct {
	client    *client
	namespace string

	mu      sync.Mutex
	waiting int
	next    *round // that everybody who asks now is in
	last    time.Time
}

// round is one reading. What it found is there when done is closed.
type round struct {
	names map[string]bool
	done  chan struct{}
	found map[string]*appsv1.Deployment
	err   error
}

// rolloutsIn gives the one that everybody who waits in the namespace shares.
func (c *client) rolloutsIn(namespace string) *rollouts {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rollouts == nil {
		c.rollouts = map[string]*rollouts{}
	}
	if c.rollouts[namespace] == nil {
		c.rollouts[namespace] = &rollouts{client: c, namespace: namespace}
	}
	return c.rollouts[namespace]
}

// enter counts one who waits, until leave is called.
func (r *rollouts) enter() (leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.waiting--
	}
}

// patience is how long who waits lets pass between two looks at pods.
func (r *rollouts) patience() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return pollEvery * time.Duration(r.waiting/fewWaiting)
}

// read gives the Deployment as it is at a moment after the call.
func (r *rollouts) read(ctx context.Context, name string) (*appsv1.Deployment, error) {
	now := r.join(ctx, name)
	select {
	case <-now.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if now.err != nil {
		return nil, now.err
	}
	if d := now.found[name]; d != nil {
		return d, nil
	}
	return nil, apierrors.NewNotFound(kindDeployment.resource().GroupResource(), name)
}

// join makes the name one of the next round, which begins at once unless there are many.
func (r *rollouts) join(ctx context.Context, name string) *round {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == nil {
		r.next = &round{names: map[string]bool{}, done: make(chan struct{}), found: map[string]*appsv1.Deployment{}}
		var gather time.Duration
		if r.waiting > fewWaiting {
			gather = max(0, time.Until(r.last.Add(pollEvery)))
		}
		// Whoever asked first may stop waiting; the others do not.
		ctx := context.WithoutCancel(ctx)
		time.AfterFunc(gather, func() { r.run(ctx) })
	}
	r.next.names[name] = true
	return r.next
}

func (r *rollouts) run(ctx context.Context) {
	r.mu.Lock()
	now := r.next
	r.next, r.last = nil, time.Now()
	r.mu.Unlock()
	defer close(now.done)
	if len(now.names) > fewWaiting {
		now.err = r.client.pages(ctx, kindDeployment, r.namespace, func(items []runtime.Object) error {
			for _, item := range items {
				if d := item.(*appsv1.Deployment); now.names[d.Name] {
					now.found[d.Name] = essence(d)
				}
			}
			return nil
		})
		return
	}
	for name := range now.names {
		object, err := r.client.get(ctx, kindDeployment, r.namespace, name)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			now.err = err
			return
		default:
			now.found[name] = object.(*appsv1.Deployment)
		}
	}
}

// essence is what a rollout is read off, without what a thousand Deployments are large by.
func essence(d *appsv1.Deployment) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: d.Name, Namespace: d.Namespace, Generation: d.Generation, Annotations: d.Annotations},
		Spec:       appsv1.DeploymentSpec{Replicas: d.Spec.Replicas, Selector: d.Spec.Selector},
		Status:     d.Status,
	}
}
