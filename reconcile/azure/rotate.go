package azure

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/amlaks/amlaks/reconcile"
)

// Nodes is what the driver needs of Kubernetes to rotate a pool. Pools are named as AKS has
// them, which labels their nodes so (kubernetes.azure.com/agentpool). Everything may be
// repeated, and Drain begins where it was cut short.
type Nodes interface {
	// WaitReady returns when the pool has that many nodes that are Ready and take pods; a
	// cordon of Drain's is taken off them.
	WaitReady(ctx context.Context, kubeconfig, pool string, count int, progress func(string)) error
	// Drain cordons the pools' nodes and evicts their pods, within their disruption budgets. It
	// returns when none is left but those of DaemonSets and of the nodes themselves.
	Drain(ctx context.Context, kubeconfig string, pools []string, progress func(string)) error
	// Drained tells how many of the pools' nodes are so. It only reads.
	Drained(ctx context.Context, kubeconfig string, pools []string) (done, all int, err error)
}

// createPool makes a pool, unless a new cluster has brought it along.
func (d *Driver) createPool(ctx context.Context, step reconcile.Step, t target) error {
	cluster, members, err := d.members(ctx, step, t)
	if err != nil {
		return err
	}
	name := freeName(t.pool, cluster, step.Resource.Spec.(*poolSpec).others)
	if len(members) > 0 {
		name = members[0].name
	}
	id := poolID(t.clusterID, name)
	if len(members) > 0 {
		live, err := d.settled(ctx, id, step.Progress)
		if err != nil {
			return err
		}
		if live != nil && !differs(step.Resource, d.wanted(step.Resource, step.Desired, live), live) {
			return nil
		}
	}
	return d.create(ctx, step, id, poolContent(name, t.pool, body{"properties": body{}}, step.Desired))
}

// members reads the cluster, and those of its AKS pools that stand for the step's.
func (d *Driver) members(ctx context.Context, step reconcile.Step, t target) (body, []member, error) {
	cluster, err := d.arm.get(ctx, t.clusterID, aksVersion)
	if err != nil {
		return nil, nil, explain("read "+t.clusterID, err)
	}
	if cluster == nil {
		return nil, nil, gone(t.clusterID)
	}
	for _, l := range d.livePools(clusterOf(step.Change.Address), cluster) {
		if l.Address == step.Change.Address {
			return cluster, l.Handle.(target).members, nil
		}
	}
	return cluster, nil, nil
}

// rotate makes the pool that takes the place, moves the pods there and removes what is left.
// Each time it looks at what is there, so it does not matter how far an earlier run got, and
// what the file said then. The cluster's other changes go on while pods are moved.
func (d *Driver) rotate(ctx context.Context, step reconcile.Step, t target) error {
	if d.options.Nodes == nil {
		return errors.New("the driver was given nobody who can empty the nodes")
	}
	stays, err := d.successor(ctx, step, t)
	if err != nil {
		return err
	}
	kubeconfig := step.Outputs[clusterOf(step.Change.Address)][OutputKubeconfig]
	if kubeconfig == "" {
		if kubeconfig, err = d.kubeconfig(ctx, t.clusterID); err != nil {
			return err
		}
	}
	step.Waiting()
	live, err := d.arm.get(ctx, poolID(t.clusterID, stays), aksVersion)
	if err != nil {
		return explain("read node pool "+stays, err)
	}
	count, _ := at(live, "properties", "count").(float64)
	if err := d.options.Nodes.WaitReady(ctx, kubeconfig, stays, int(count), step.Progress); err != nil {
		return fmt.Errorf("wait for the nodes of pool %s: %w", stays, err)
	}
	_, members, err := d.members(ctx, step, t)
	if err != nil {
		return err
	}
	var leaving []string
	for _, m := range members {
		if m.name != stays {
			leaving = append(leaving, m.name)
		}
	}
	if len(leaving) == 0 {
		return nil
	}
	if err := d.options.Nodes.Drain(ctx, kubeconfig, leaving, step.Progress); err != nil {
		return fmt.Errorf("move the pods of node pool %s to %s: %w", strings.Join(leaving, " and "), stays, err)
	}
	for _, name := range leaving {
		step.Progress("removing node pool " + name + ", which is empty")
		if err := d.removeHeld(ctx, t.clusterID, poolID(t.clusterID, name), step.Progress); err != nil {
			return err
		}
	}
	return nil
}

func (d *Driver) removeHeld(ctx context.Context, clusterID, id string, progress func(string)) error {
	release := d.hold(clusterID)
	defer release()
	return d.remove(ctx, id, progress)
}

// successor gives the name of the AKS pool that takes the place: as it is there, brought in
// line, or made.
func (d *Driver) successor(ctx context.Context, step reconcile.Step, t target) (string, error) {
	release := d.hold(t.clusterID)
	defer release()
	cluster, members, err := d.members(ctx, step, t)
	if err != nil {
		return "", err
	}
	if len(members) == 0 {
		return "", gone(t.id)
	}
	stays, leaving := split(step.Resource, step.Desired, members)
	if stays != nil {
		return stays.name, d.update(ctx, step, poolID(t.clusterID, stays.name))
	}
	name := freeName(t.pool, cluster, step.Resource.Spec.(*poolSpec).others)
	step.Progress("making node pool " + name)
	old := leaving[len(leaving)-1].body
	content := poolContent(name, t.pool, inherited(old, step.Desired), d.wanted(step.Resource, step.Desired, old))
	return name, d.create(ctx, step, poolID(t.clusterID, name), content)
}

// notInherited is what a new pool has of its own: its state, the version, which
// follows the control plane unless the file says one, and what AKS chose for the VM size.
func notInherited(name string, sameSize, samePriority bool) bool {
	switch name {
	case "powerState", "status", "orchestratorVersion":
		return true
	case "osDiskSizeGB", "osDiskType", "kubeletDiskType", "gpuInstanceProfile", "gpuProfile":
		return !sameSize
	case "spotMaxPrice", "scaleSetEvictionPolicy":
		return !samePriority
	}
	return false
}

// inherited is what a new pool takes over of the old one: what others have set there, and
// what no version of the SDK knows.
func inherited(old, desired body) body {
	same := func(name string) bool {
		return strings.EqualFold(text(old, "properties", name), text(desired, "properties", name))
	}
	out := clone(writable(old, poolReadOnly))
	properties := out["properties"].(body)
	for name := range properties {
		if notInherited(name, same("vmSize"), same("scaleSetPriority")) {
			delete(properties, name)
		}
	}
	if labels, _ := properties["nodeLabels"].(body); labels != nil && !same("scaleSetPriority") {
		key, _, _ := strings.Cut(spotTaint, "=")
		delete(labels, key)
	}
	return out
}

// poolContent is what a pool is made of that stands for one of the file's under an AKS name.
func poolContent(name, as string, from, want body) body {
	content := overlay(from, want, nil, "")
	properties := content["properties"].(body)
	tags, _ := properties["tags"].(body)
	if name == as {
		delete(tags, tagPool)
	} else {
		tags[tagPool] = as
	}
	lower, isRange := properties["minCount"].(float64)
	upper, _ := properties["maxCount"].(float64)
	count, given := properties["count"].(float64)
	switch {
	case isRange && !given: // a pool under an autoscaler still needs a size to begin with
		properties["count"] = lower
	case isRange:
		properties["count"] = slices.Min([]float64{max(count, lower), upper})
	}
	return content
}
