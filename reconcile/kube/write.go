package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/retry"
)

// Something that is waited for is looked at soon, as small pods are ready in tenths of a
// second, and then ever less often, down to every pollEvery.
const (
	firstPoll = 50 * time.Millisecond
	pollEvery = 500 * time.Millisecond
)

// writeTries is how often a write that met another writer's is begun again, as kubectl does
// (maxPatchRetry of its apply).
const writeTries = 5

// write applies the object as the file has it, if it is the stack's or nobody's.
func (d *Driver) write(ctx context.Context, c *client, o object, step reconcile.Step) error {
	var err error
	for range writeTries {
		if err = d.writeOnce(ctx, c, o, step); reconcile.ReasonOf(err) != reconcile.ReasonConflict {
			return err
		}
		step.Progress("somebody else is changing it: looking again")
		if pauseErr := retry.Pause(ctx, pollEvery); pauseErr != nil {
			return fmt.Errorf("%w: %w", pauseErr, err)
		}
	}
	return err
}

func (d *Driver) writeOnce(ctx context.Context, c *client, o object, step reconcile.Step) error {
	live, err := c.objects(o.kind, o.namespace).Get(ctx, o.name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return explain("read "+string(o.address()), err)
	case live.GetLabels()[LabelStack] != d.stack.Name && !(step.Resource.Adopt && live.GetLabels()[LabelStack] == ""):
		return &reconcile.Failure{
			Reason: reconcile.ReasonOwned,
			Err:    fmt.Errorf("%s %s/%s exists and is not the stack's", o.kind, o.namespace, o.name),
			Hint:   "remove it, or label it " + LabelStack + "=" + d.stack.Name + " to hand it over",
		}
	case live.GetDeletionTimestamp() != nil: // what is applied to it would go with it
		if err := c.waitGone(ctx, o, live.GetUID(), step.Progress); err != nil {
			return err
		}
	}
	result, err := c.apply(ctx, o, &unstructured.Unstructured{Object: step.Desired}, metav1.ApplyOptions{FieldManager: manager, Force: true})
	if err != nil {
		return explain("apply", err)
	}
	if o.keys && !hasKeys(result) {
		return c.generateKeys(ctx, result)
	}
	return nil
}

func (c *client) apply(ctx context.Context, o object, want *unstructured.Unstructured, options metav1.ApplyOptions) (*unstructured.Unstructured, error) {
	return c.objects(o.kind, o.namespace).Apply(ctx, o.name, plainNumbers(want), options)
}

// remove deletes the object that was observed, and no other of the same name, and waits
// until it and what depends on it are gone.
func (d *Driver) remove(ctx context.Context, step reconcile.Step) error {
	h, ok := step.Live.Handle.(handle)
	if !ok {
		return fmt.Errorf("%s was not observed", step.Change.Address)
	}
	foreground := metav1.DeletePropagationForeground
	options := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &h.uid}, PropagationPolicy: &foreground}
	var err error
	for range writeTries {
		err = h.client.objects(h.kind, h.namespace).Delete(ctx, h.name, options)
		if !apierrors.IsConflict(err) {
			break
		}
		// Another one by now, or a conflict that passes: only a look can tell.
		gone, lookErr := h.client.isGone(ctx, h.object, h.uid)
		if gone || lookErr != nil {
			return explain("read", lookErr)
		}
		if pauseErr := retry.Pause(ctx, pollEvery); pauseErr != nil {
			return fmt.Errorf("%w: %w", pauseErr, explain("delete", err))
		}
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return explain("delete", err)
	}
	return h.client.waitGone(ctx, h.object, h.uid, step.Progress)
}

// isGone tells whether the object is not there, or another one of that name.
func (c *client) isGone(ctx context.Context, o object, uid types.UID) (bool, error) {
	live, err := c.objects(o.kind, o.namespace).Get(ctx, o.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	return err == nil && live.GetUID() != uid, err
}

// waitGone waits until an object whose deletion was accepted is gone.
func (c *client) waitGone(ctx context.Context, o object, uid types.UID, progress func(string)) error {
	said := false
	return poll(ctx, func() (bool, error) {
		gone, err := c.isGone(ctx, o, uid)
		if !gone && !said {
			progress("waiting until it is gone")
			said = true
		}
		return gone, passing(explain("read", err))
	})
}

// waitAddress waits until the front end's Service is reached from outside.
func (c *client) waitAddress(ctx context.Context, o object, progress func(string)) (map[string]string, error) {
	var address, host string
	said := false
	err := poll(ctx, func() (bool, error) {
		object, err := c.get(ctx, kindService, o.namespace, o.name)
		if err != nil {
			return false, passing(explain("read", err))
		}
		service := object.(*corev1.Service)
		address = frontEndAddress(service)
		host, _ = ingress(service)
		if address == "" && isLoadBalancer(service) {
			if !said {
				progress("waiting for the load balancer's address")
				said = true
			}
			return false, nil
		}
		return true, nil
	})
	if reason := reconcile.ReasonOf(err); reason != "" && reason != reconcile.ReasonNotHealthy {
		return nil, err // it could not be looked at
	}
	if err != nil {
		detail, stop := context.WithTimeout(context.WithoutCancel(ctx), detailTimeout)
		defer stop()
		return nil, &reconcile.Failure{
			Reason: reconcile.ReasonNotHealthy,
			Err:    fmt.Errorf("the load balancer got no address: %w%s", err, c.lastEvent(detail, o.namespace, "Service", o.name)),
			Hint:   "kubectl describe service " + o.name + " -n " + o.namespace,
		}
	}
	if address == "" {
		return nil, nil
	}
	return map[string]string{OutputAddress: address, OutputHost: host}, nil
}

// passing swallows an error that may pass by itself while something is waited for: the
// API server restarting, or a moment of too many requests.
func passing(err error) error {
	switch reconcile.ReasonOf(err) {
	case reconcile.ReasonUnavailable, reconcile.ReasonThrottled:
		return nil
	}
	return err
}

// poll calls done until it is, or fails, or ctx ends.
func poll(ctx context.Context, done func() (bool, error)) error {
	wait := firstPoll
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		ok, err := done()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
		}
		wait = min(2*wait, pollEvery)
		timer.Reset(wait)
	}
}

var errNoKeys = errors.New("the service has no keys yet")
