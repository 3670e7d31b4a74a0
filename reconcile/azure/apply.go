package azure

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/amlaks/amlaks/reconcile"
)

// settleEvery is how often a cluster with an operation on it is looked at. AKS allows one
// GET a second for each cluster in the long run.
const settleEvery = 2 * time.Second

var createOnly = http.Header{"If-None-Match": {"*"}}

func (d *Driver) applyCluster(ctx context.Context, step reconcile.Step, t target) (map[string]string, error) {
	switch step.Change.Action {
	case reconcile.Delete:
		return nil, d.remove(ctx, t.id, step.Progress)
	case reconcile.Create:
		own := step.Resource.Spec.(*clusterSpec)
		content := overlay(body{}, step.Desired, nil, "") // without nulls
		properties := content["properties"].(body)
		pools := make([]any, len(own.pools))
		for i, pool := range own.pools {
			profile, err := asBody(pool)
			if err != nil {
				return nil, err
			}
			// A pool under an autoscaler still needs a size to begin with.
			if profile["count"] == nil {
				profile["count"] = profile["minCount"]
			}
			pools[i] = profile
		}
		properties["agentPoolProfiles"] = pools
		if err := d.create(ctx, step, t.id, content); err != nil {
			return nil, err
		}
	default: // Update, Wait
		if err := d.update(ctx, step, t.id); err != nil {
			return nil, err
		}
	}
	kubeconfig, err := d.kubeconfig(ctx, t.id)
	if err != nil {
		return nil, err
	}
	return map[string]string{OutputID: t.id, OutputKubeconfig: kubeconfig, OutputLocation: locationOf(step)}, nil
}

// locationOf is the region of the cluster of a step: declared, or that of the one that is there.
func locationOf(step reconcile.Step) string {
	if location := text(step.Desired, "location"); location != "" || step.Live == nil {
		return location
	}
	return text(step.Live.Body, "location")
}

func (d *Driver) applyPool(ctx context.Context, step reconcile.Step, t target) error {
	switch step.Change.Action {
	case reconcile.Delete:
		for _, m := range t.members {
			if err := d.remove(ctx, poolID(t.clusterID, m.name), step.Progress); err != nil {
				return err
			}
		}
		return nil
	case reconcile.Create:
		return d.createPool(ctx, step, t)
	default: // Update, Wait
		return d.update(ctx, step, t.id)
	}
}

// applyAttached writes or removes the one tag that says who uses the cluster.
func (d *Driver) applyAttached(ctx context.Context, step reconcile.Step, t target) (map[string]string, error) {
	detach := step.Change.Action == reconcile.Detach
	err := d.retry(ctx, t.id, step.Progress, func() error {
		live, err := d.settled(ctx, t.id, step.Progress)
		switch {
		case err != nil:
			return err
		case live == nil && detach:
			return nil
		case live == nil:
			return gone(t.id)
		case step.Change.Action == reconcile.Wait:
			return nil
		}
		// A PATCH of an AKS cluster carries all its tags and nothing else, so those that others
		// write in the meantime are lost unless it is sent under the ETag.
		tags := body{}
		if old, ok := live["tags"].(body); ok {
			maps.Copy(tags, old)
		}
		if detach {
			delete(tags, tagAttached+d.stack.Name)
		} else {
			maps.Copy(tags, step.Desired["tags"].(body))
		}
		step.Progress("waiting for Azure to tag it")
		return d.arm.write(ctx, http.MethodPatch, t.id, aksVersion, body{"tags": tags}, ifMatch(live))
	})
	if err != nil {
		return nil, explain("tag "+t.id, err)
	}
	if detach {
		return nil, nil
	}
	kubeconfig, err := d.kubeconfig(ctx, t.id)
	return map[string]string{OutputID: t.id, OutputKubeconfig: kubeconfig, OutputLocation: locationOf(step)}, err
}

// create makes what is not there. If an earlier request of ours did it, and only its answer
// was lost, the running operation is joined.
func (d *Driver) create(ctx context.Context, step reconcile.Step, id string, content body) error {
	there := false
	err := d.retry(ctx, id, step.Progress, func() error {
		step.Progress("waiting for Azure to create it")
		err := d.arm.write(ctx, http.MethodPut, id, aksVersion, content, createOnly)
		if !isStatus(err, http.StatusConflict, http.StatusPreconditionFailed) {
			return err
		}
		live, readErr := d.settled(ctx, id, step.Progress)
		if readErr != nil {
			return readErr
		}
		if live == nil {
			return err // a pool, and another operation runs on its cluster
		}
		owner := text(live, "tags", tagStack) + text(live, "properties", "tags", tagStack)
		if owner != d.stack.Name && (owner != "" || !step.Resource.Adopt) {
			return &reconcile.Failure{
				Reason: reconcile.ReasonOwned,
				Err:    fmt.Errorf("create %s: it appeared in the meantime and belongs to somebody else", id),
				Hint:   "plan again",
			}
		}
		there = true
		return nil
	})
	switch {
	case err != nil:
		return explain("create "+id, err)
	case there:
		return d.update(ctx, step, id)
	}
	return d.verify(ctx, step, id, step.Desired)
}

// update overlays what is owned on what is live and sends it back under its ETag. Nothing
// is sent when nothing differs and the last operation went well.
func (d *Driver) update(ctx context.Context, step reconcile.Step, id string) error {
	if err := d.upgrade(ctx, step, id); err != nil {
		return err
	}
	var want body
	err := d.retry(ctx, id, step.Progress, func() error {
		live, err := d.settled(ctx, id, step.Progress)
		if err != nil {
			return err
		}
		if live == nil {
			return gone(id)
		}
		want = d.wanted(step.Resource, step.Desired, live)
		how, _ := state(text(live, "properties", "provisioningState"))
		if how == reconcile.Settled && !differs(step.Resource, want, live) {
			return nil
		}
		content := writable(overlay(live, want, step.Resource.Compare, ""), readOnlyOf(id))
		// AKS changes a cluster's pools only through themselves once it exists.
		delete(content["properties"].(body), "agentPoolProfiles")
		step.Progress("waiting for Azure to update it")
		return d.arm.write(ctx, http.MethodPut, id, aksVersion, content, ifMatch(live))
	})
	if err != nil {
		return explain("update "+id, err)
	}
	return d.verify(ctx, step, id, want)
}

func gone(id string) error {
	return &reconcile.Failure{Reason: reconcile.ReasonStale, Err: fmt.Errorf("%s is gone", id), Hint: "plan again"}
}

// remove deletes and waits; what is gone already is fine.
func (d *Driver) remove(ctx context.Context, id string, progress func(string)) error {
	err := d.retry(ctx, id, progress, func() error {
		if live, err := d.settled(ctx, id, progress); err != nil || live == nil {
			return err
		}
		progress("waiting for Azure to delete it")
		return d.arm.write(ctx, http.MethodDelete, id, aksVersion, nil, nil)
	})
	if err == nil || isStatus(err, http.StatusNotFound) {
		return nil
	}
	return explain("delete "+id, err)
}

// retry sends a write again when it ran into another operation, until ctx ends.
func (d *Driver) retry(ctx context.Context, id string, progress func(string), write func() error) error {
	for {
		err := write()
		if !retryable(err) {
			return err
		}
		progress("waiting for another operation on it to end")
		if err := pause(ctx, d.settleEvery); err != nil {
			return fmt.Errorf("wait for another operation on %s: %w", id, err)
		}
	}
}

// settled reads a cluster or a pool when no operation runs on it; nil if it is not there.
func (d *Driver) settled(ctx context.Context, id string, progress func(string)) (body, error) {
	return d.settledOf(ctx, id, aksVersion, progress)
}

// settledOf is settled of any resource.
func (d *Driver) settledOf(ctx context.Context, id, version string, progress func(string)) (body, error) {
	for {
		live, err := d.arm.get(ctx, id, version)
		if err != nil {
			return nil, explain("read "+id, err)
		}
		if live == nil {
			return nil, nil
		}
		running, status := state(text(live, "properties", "provisioningState"))
		if running != reconcile.InProgress {
			return live, nil
		}
		progress(status)
		if err := pause(ctx, d.settleEvery); err != nil {
			return nil, fmt.Errorf("wait for %s: %w", id, err)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// ifMatch makes a write count only if nobody has written since live was read. The ETag is at
// the top of a cluster and among the properties of a pool.
func ifMatch(live body) http.Header {
	etag := text(live, "eTag")
	if etag == "" {
		etag = text(live, "properties", "eTag")
	}
	if etag == "" {
		return nil
	}
	return http.Header{"If-Match": {etag}}
}
