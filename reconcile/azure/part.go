package azure

import (
	"context"

	"github.com/amlaks/amlaks/reconcile"
)

// part is a resource of this driver that is neither a cluster nor a pool. It is the Spec of one
// that is declared, and the Handle of one that was seen and has left the file.
type part interface {
	// read is reconcile.Driver's Read.
	read(ctx context.Context, d *Driver, step reconcile.Step) (*reconcile.Live, error)
	// apply is reconcile.Driver's Apply.
	apply(ctx context.Context, d *Driver, step reconcile.Step) (map[string]string, error)
}

// partOf is the part that a step works on; nil for clusters and pools.
func partOf(step reconcile.Step) part {
	if step.Live != nil {
		if p, ok := step.Live.Handle.(part); ok {
			return p
		}
	}
	if step.Resource != nil {
		if p, ok := step.Resource.Spec.(part); ok {
			return p
		}
	}
	return nil
}
