package kube

import (
	"time"

	"github.com/amlaks/amlaks/reconcile"
)

// grantSpreads is how long a role assignment takes, at most, to be known everywhere ("up to 10
// minutes": learn.microsoft.com, "Troubleshoot Azure RBAC", symptoms of role assignment changes).
const grantSpreads = 10 * time.Minute

// comesAfter is what a Deployment waits for and can do without: that its cluster may pull. An
// owner may have seen to that in a way that nobody sees.
func (d *Driver) comesAfter(o object) []reconcile.Address {
	if o.kind != kindDeployment || d.wiring.PullGranted == nil {
		return nil
	}
	return []reconcile.Address{d.wiring.PullGranted(o.cluster).Address}
}

// pullsBy is when a cluster that may pull from the registry can: a pull that fails before that
// may only be too early. The kubelet tries again by itself.
func (d *Driver) pullsBy(cluster string, known reconcile.Outputs) time.Time {
	if d.wiring.PullGranted == nil {
		return time.Time{}
	}
	ref := d.wiring.PullGranted(cluster)
	granted, err := time.Parse(time.RFC3339, known[ref.Address][ref.Output])
	if err != nil {
		return time.Time{} // nobody knows
	}
	return granted.Add(grantSpreads)
}
