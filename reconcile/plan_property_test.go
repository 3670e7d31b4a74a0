package reconcile

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// randomWorld is a stack's file and a cloud, which hold some of the same addresses: the
// stack's, another's and nobody's, protected and attached ones, fields that nobody owns.
func randomWorld(r *rand.Rand) ([]Resource, *cloud, []Live) {
	c := newCloud()
	var desired []Resource
	var live []Live
	for i := range 4 + r.IntN(8) {
		a := Address(fmt.Sprintf("r%02d", i))
		declared, there := r.IntN(4) > 0, r.IntN(3) > 0
		if declared {
			resource := Resource{Address: a, Driver: "cloud", Desired: randomBody(r, 2), Adopt: r.IntN(3) == 0, Protect: r.IntN(4) == 0}
			for _, before := range desired {
				if r.IntN(4) == 0 {
					resource.DependsOn = append(resource.DependsOn, before.Address)
					resource.Desired["of-"+string(before.Address)] = Ref{before.Address, "id"}
				}
			}
			desired = append(desired, resource)
		}
		if there {
			owner := []string{stack, stack, "other", ""}[r.IntN(4)]
			c.live[a], c.owner[a] = randomBody(r, 2), owner
			live = append(live, Live{Address: a, Driver: "cloud", Owner: owner, Body: maps.Clone(c.live[a]), State: Settled,
				Protected: r.IntN(4) == 0, Attached: r.IntN(5) == 0, Outputs: map[string]string{"id": "id-of-" + string(a)}})
		}
	}
	return desired, c, live
}

// TestPlanProperties: for any file and any world,
//   - what is not the stack's, or is protected, is left as it is, and nothing is deleted
//     without being asked to be;
//   - once the plan is carried out nothing of it is left to do;
//   - everything stands behind what it depends on;
//   - a plan that was saved and read again is bound to the same decisions.
func TestPlanProperties(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 3))
		desired, c, live := randomWorld(r)
		o := Options{Prune: r.IntN(2) == 0, Destroy: r.IntN(6) == 0}
		world := &World{Live: live, Outputs: Outputs{}}
		for _, l := range live {
			world.Outputs[l.Address] = l.Outputs
		}
		plan, err := NewPlan(stack, desired, world, o)
		if err != nil {
			t.Fatal(err)
		}
		at := map[Address]int{}
		for i, change := range plan.Changes {
			at[change.Address] = i
		}
		for i, change := range plan.Changes {
			l := change.live
			switch {
			case l != nil && l.Owner == "other" && change.Action.Pending() && change.Action != Refuse,
				l != nil && l.Protected && (change.Action == Delete || change.Action == Replace),
				l != nil && l.Attached && change.Action == Delete,
				change.Action == Delete && !o.Prune && !o.Destroy,
				change.Action == Refuse && change.Why == "",
				change.Action == Update && len(change.Diff) == 0,
				change.Action == NoOp && len(change.Diff) > 0:
				t.Fatalf("seed %d: %+v", seed, change)
			}
			for _, dependency := range change.DependsOn {
				if j, ok := at[dependency]; ok && j > i {
					t.Fatalf("seed %d: %s stands before %s", seed, change.Address, dependency)
				}
			}
		}
		bound, extra := save(t, plan).Bind(plan)
		for i := range bound.Changes {
			if bound.Changes[i].now != nil || bound.Changes[i].Action.Pending() != plan.Changes[i].Action.Pending() || extra != 0 {
				t.Fatalf("seed %d: saved and read again: %+v, was %+v", seed, bound.Changes[i], plan.Changes[i])
			}
		}
		before := map[Address]body{}
		for a, b := range c.live {
			before[a] = maps.Clone(b)
		}
		result := Apply(t.Context(), []Driver{c}, plan, ApplyOptions{})
		left := c.plan(t, desired, o)
		for _, outcome := range result.Outcomes {
			a := outcome.Change.Address
			i := slices.IndexFunc(left.Changes, func(c Change) bool { return c.Address == a })
			if outcome.Phase == Done && i >= 0 && left.Changes[i].Action.Pending() && !outcome.Change.Action.deletes() {
				t.Fatalf("seed %d: %s was carried out, and the next plan has %s %v", seed, outcome.Change.Action, left.Changes[i].Action, left.Changes[i].Diff)
			}
			if outcome.Phase != Done {
				if diff := cmp.Diff(before[a], c.live[a]); diff != "" {
					t.Fatalf("seed %d: %s %s was %s, and yet: %s", seed, outcome.Change.Action, a, outcome.Phase, diff)
				}
			}
		}
	}
}
