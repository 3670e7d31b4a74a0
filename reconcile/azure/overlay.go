package azure

import (
	"context"
	"fmt"
	"maps"

	"github.com/amlaks/amlaks/reconcile"
)

// overlay lays the owned values over the live body; lists are replaced whole, and null takes
// a key away. What is equal already stays as it is spelled, and what counts only when
// a resource is made stays as it is, because AKS refuses to change it.
func overlay(live, owned body, how map[string]reconcile.Comparator, under string) body {
	out := maps.Clone(live)
	for key, value := range owned {
		path := under + key
		if how[path] == reconcile.CreateOnly {
			continue
		}
		if below, isObject := value.(body); isObject {
			liveBelow, liveIsObject := out[key].(body)
			if !liveIsObject {
				liveBelow = body{}
			}
			out[key] = overlay(liveBelow, below, how, path+".")
			continue
		}
		comparator := map[string]reconcile.Comparator{"v": how[path]}
		switch {
		case len(reconcile.Differences(body{"v": value}, body{"v": out[key]}, comparator)) == 0:
		case value == nil:
			delete(out, key)
		default:
			out[key] = value
		}
	}
	return out
}

// readBacks is how often what was written is read again: Resource Manager may show a moment
// longer what was there before.
const readBacks = 5

// verify reads back what was written: a service may take a request and keep something else.
func (d *Driver) verify(ctx context.Context, step reconcile.Step, id string, want body) error {
	for try := 1; ; try++ {
		live, err := d.arm.get(ctx, id, aksVersion)
		if err != nil {
			return explain("read back "+id, err)
		}
		diffs := reconcile.Differences(want, live, step.Resource.Compare)
		if len(diffs) == 0 {
			return nil
		}
		if try < readBacks {
			if err := pause(ctx, d.settleEvery); err != nil {
				return fmt.Errorf("read back %s: %w", id, err)
			}
			continue
		}
		for _, diff := range diffs {
			step.Progress(fmt.Sprintf("warning: Azure kept %s as %v, not %v", diff.Path, diff.Before, diff.After))
		}
		return nil
	}
}
