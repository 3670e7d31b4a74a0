package azure

import (
	"context"
	"slices"

	"github.com/amlaks/amlaks/reconcile"
)

// Read implements reconcile.Driver: one GET of the cluster, which has its pools in it, and one POST for
// its credentials.
func (d *Driver) Read(ctx context.Context, step reconcile.Step) (*reconcile.Live, error) {
	if p := partOf(step); p != nil {
		return p.read(ctx, d, step)
	}
	t, err := d.target(step)
	if err != nil {
		return nil, err
	}
	found, err := d.arm.get(ctx, t.clusterID, aksVersion)
	if err != nil {
		return nil, explain("read "+t.clusterID, err)
	}
	if found == nil {
		return nil, nil
	}
	address := step.Change.Address
	var all []reconcile.Live
	if t.pool == "" {
		if all, err = d.liveCluster(ctx, address, found, t.attached); err != nil {
			return nil, err
		}
	} else {
		all = d.livePools(clusterOf(address), found)
	}
	i := slices.IndexFunc(all, func(l reconcile.Live) bool { return l.Address == address })
	if i < 0 {
		return nil, nil
	}
	live := all[i]
	if step.Desired != nil {
		d.predict(step.Resource, step.Desired, &live)
	}
	return &live, nil
}
