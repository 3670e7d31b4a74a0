package azure

import (
	"context"

	"github.com/amlaks/amlaks/reconcile"
)

// Read implements reconcile.Driver: one GET of the cluster or the pool, and one POST for a
// cluster's credentials.
func (d *Driver) Read(ctx context.Context, step reconcile.Step) (*reconcile.Live, error) {
	if p := partOf(step); p != nil {
		return p.read(ctx, d, step)
	}
	t, err := d.target(step)
	if err != nil {
		return nil, err
	}
	found, err := d.arm.get(ctx, t.id, aksVersion)
	if err != nil {
		return nil, explain("read "+t.id, err)
	}
	if found == nil {
		return nil, nil
	}
	var live reconcile.Live
	if t.pool == "" {
		all, err := d.liveCluster(ctx, step.Change.Address, found, t.attached)
		if err != nil {
			return nil, err
		}
		live = all[0]
	} else {
		properties, _ := found["properties"].(body)
		live = livePool(step.Change.Address, t, properties)
	}
	if step.Desired != nil {
		d.predict(step.Resource, step.Desired, &live)
	}
	return &live, nil
}
