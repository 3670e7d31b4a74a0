package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// world is a driver over a map: a whole small cloud, for the walk over the graph.
type world struct {
	mu      sync.Mutex
	order   []string // "create a", in the order in which they ended
	fail    map[Address]error
	takes   time.Duration
	waits   bool // leaves its place to others while it takes that long
	running int
	most    int
}

func (w *world) Name() string { return "world" }

func (w *world) Observe(context.Context, Request) ([]Live, error) { return nil, nil }

func (w *world) Read(context.Context, Step) (*Live, error) { return nil, nil }

func (w *world) Apply(ctx context.Context, s Step) (map[string]string, error) {
	w.mu.Lock()
	w.running++
	w.most = max(w.most, w.running)
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.running--
		w.order = append(w.order, fmt.Sprintf("%s %s %v", s.Change.Action, s.Change.Address, s.Desired["from"]))
		w.mu.Unlock()
	}()
	if w.waits {
		s.Waiting()
	}
	select {
	case <-time.After(w.takes):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if err := w.fail[s.Change.Address]; err != nil {
		return nil, err
	}
	return map[string]string{"id": "id-of-" + string(s.Change.Address)}, nil
}

func mustPlan(t *testing.T, desired []Resource, live []Live, o Options) *Plan {
	t.Helper()
	for i := range desired {
		desired[i].Driver = "world"
	}
	for i := range live {
		live[i].Driver, live[i].Owner = "world", stack
	}
	plan, err := NewPlan(stack, desired, &World{Live: live}, o)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func chain() []Resource {
	return []Resource{
		{Address: "a", Desired: body{"from": "file"}},
		{Address: "b", DependsOn: []Address{"a"}, Desired: body{"from": Ref{"a", "id"}}},
		{Address: "c", DependsOn: []Address{"b"}, Desired: body{"from": Ref{"b", "id"}}},
		{Address: "other", Desired: body{"from": "file"}},
	}
}

func TestApplyFollowsTheGraph(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{takes: time.Second}
		result := Apply(t.Context(), []Driver{w}, mustPlan(t, chain(), nil, Options{}), ApplyOptions{})
		slices.Sort(w.order[:2]) // a and other, side by side
		want := []string{"create a file", "create other file", "create b id-of-a", "create c id-of-b"}
		if diff := cmp.Diff(want, w.order); diff != "" {
			t.Error(diff)
		}
		if result.Count(Done) != 4 || w.most != 2 {
			t.Errorf("%d done, %d at a time", result.Count(Done), w.most)
		}
	})
}

func TestWhatOnlyWaitsTakesNoPlace(t *testing.T) {
	for _, test := range []struct {
		waits bool
		most  int
	}{{false, 1}, {true, 2}} {
		synctest.Test(t, func(t *testing.T) {
			w := &world{takes: time.Second, waits: test.waits}
			result := Apply(t.Context(), []Driver{w}, mustPlan(t, chain(), nil, Options{}), ApplyOptions{Parallelism: 1})
			if w.most != test.most || result.Count(Done) != 4 {
				t.Errorf("waits %v: %d at a time, want %d; %d done", test.waits, w.most, test.most, result.Count(Done))
			}
		})
	}
}

// What comes after another waits for its end, whatever that is, and for nothing that is not there.
func TestAfter(t *testing.T) {
	for _, fail := range []error{nil, errors.New("forbidden")} {
		synctest.Test(t, func(t *testing.T) {
			w := &world{takes: time.Second, fail: map[Address]error{"z": fail}}
			desired := []Resource{
				{Address: "a", After: []Address{"z", "nowhere"}, Desired: body{"from": "file"}},
				{Address: "z", Desired: body{"from": "file"}},
			}
			result := Apply(t.Context(), []Driver{w}, mustPlan(t, desired, nil, Options{}), ApplyOptions{})
			if diff := cmp.Diff([]string{"create z file", "create a file"}, w.order); diff != "" || w.most != 1 {
				t.Errorf("%d at a time, in the order (-want +got):\n%s", w.most, diff)
			}
			if want := 2; fail == nil && result.Count(Done) != want || fail != nil && result.Count(Skipped) != 0 {
				t.Errorf("%v: %v", fail, result.Outcomes)
			}
		})
	}
	if _, err := NewPlan(stack, []Resource{{Address: "a", After: []Address{"b"}}, {Address: "b", DependsOn: []Address{"a"}}}, &World{}, Options{}); err == nil {
		t.Error("two that wait for each other were planned")
	}
}

// What nothing needs holds no deletion back when it fails.
func TestOptional(t *testing.T) {
	for _, optional := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := &world{fail: map[Address]error{"a": errors.New("refused")}}
			plan := mustPlan(t, []Resource{{Address: "a", Optional: optional, Desired: body{"from": "file"}}}, []Live{{Address: "old"}}, Options{Prune: true})
			result := Apply(t.Context(), []Driver{w}, plan, ApplyOptions{})
			if got := result.Count(Done) == 1; got != optional || result.Count(Failed) != 1 {
				t.Errorf("optional %v: %v", optional, result.Outcomes)
			}
		})
	}
}

func TestFailureStaysLocal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{fail: map[Address]error{"b": errors.New("no quota")}}
		plan := mustPlan(t, chain(), []Live{{Address: "old"}}, Options{Prune: true})
		result := Apply(t.Context(), []Driver{w}, plan, ApplyOptions{})
		got := map[Address]string{}
		for _, o := range result.Outcomes {
			got[o.Change.Address] = fmt.Sprint(o.Phase, ": ", o.Err)
		}
		want := map[Address]string{
			"a": "done: <nil>", "other": "done: <nil>", "b": "failed: no quota", "c": "skipped: because b",
			"old": "skipped: because b", // nothing is taken away while something failed
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestDeletionsGoLastAndInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{takes: time.Second}
		live := []Live{{Address: "y"}, {Address: "z", DependsOn: []Address{"y"}}}
		Apply(t.Context(), []Driver{w}, mustPlan(t, []Resource{{Address: "a"}}, live, Options{Prune: true}), ApplyOptions{})
		if diff := cmp.Diff([]string{"create a <nil>", "delete z <nil>", "delete y <nil>"}, w.order); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRefusedSkipsItsDependents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		plan := mustPlan(t, chain(), nil, Options{})
		for i := range plan.Changes {
			if plan.Changes[i].Address == "a" {
				plan.Changes[i].refuse(ReasonOwned, "somebody else's")
			}
		}
		result := Apply(t.Context(), []Driver{w}, plan, ApplyOptions{})
		if result.Count(Refused) != 1 || result.Count(Skipped) != 2 || result.Count(Done) != 1 {
			t.Errorf("%+v", result.Outcomes)
		}
	})
}

func TestParallelism(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{takes: time.Second}
		var desired []Resource
		for i := range 30 {
			desired = append(desired, Resource{Address: Address(fmt.Sprintf("r%02d", i))})
		}
		began := time.Now()
		Apply(t.Context(), []Driver{w}, mustPlan(t, desired, nil, Options{}), ApplyOptions{Parallelism: 3})
		if w.most != 3 || time.Since(began) != 10*time.Second {
			t.Errorf("%d at a time, %s", w.most, time.Since(began))
		}
	})
}

func TestDrainLetsFinishWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{takes: time.Minute}
		drain := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(drain) })
		result := Apply(t.Context(), []Driver{w}, mustPlan(t, chain(), nil, Options{}), ApplyOptions{Drain: drain})
		if diff := cmp.Diff(2, result.Count(Done)); diff != "" {
			t.Error(diff)
		}
		for _, o := range result.Outcomes {
			if o.Phase == Skipped && ReasonOf(o.Err) != ReasonInterrupted && ReasonOf(o.Err) != ReasonDependencyFailed {
				t.Errorf("%s: %v", o.Change.Address, o.Err)
			}
		}
	})
}

func TestTimeoutIsAReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{takes: time.Hour}
		result := Apply(t.Context(), []Driver{w}, mustPlan(t, []Resource{{Address: "a"}}, nil, Options{}), ApplyOptions{Timeout: time.Minute})
		if got := ReasonOf(result.Outcomes[0].Err); got != ReasonNotHealthy {
			t.Errorf("reason %q: %v", got, result.Outcomes[0].Err)
		}
	})
}

func TestEventsTellTheWholeStory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failure := &Failure{Reason: ReasonForbidden, Err: errors.New("no role"), Hint: "ask for one"}
		w := &world{takes: time.Second, fail: map[Address]error{"b": fmt.Errorf("create: %w", failure)}}
		var got []string
		Apply(t.Context(), []Driver{w}, mustPlan(t, chain()[:3], nil, Options{}), ApplyOptions{Emit: func(e Event) {
			got = append(got, fmt.Sprintf("%s %s %s %s|%s|%s", e.Phase, e.Address, e.Elapsed, e.Message, e.Reason, e.Hint))
		}})
		want := []string{"started a 0s ||", "done a 1s ||", "started b 0s ||",
			"failed b 1s create: no role|Forbidden|ask for one", "skipped c 0s because b|DependencyFailed|"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// What has nothing to do is not skipped when something that it depends on fails; what comes
// behind it is, and names the failure.
func TestNothingToDoIsNotSkipped(t *testing.T) {
	c := converged(t, file("churn:1", 1))
	c.owner["image"] = "other"
	desired := file("churn:1", 1)
	var last Address
	for i := range desired {
		if desired[i].Address == "deployment" {
			last = "behind"
			behind := desired[i]
			behind.Address, behind.DependsOn = last, []Address{"deployment"}
			desired = append(desired, behind)
			break
		}
	}
	plan := c.plan(t, desired, Options{})
	var events []Event
	result := Apply(t.Context(), []Driver{c}, plan, ApplyOptions{Emit: func(e Event) { events = append(events, e) }})
	got := map[Address]Phase{}
	for _, o := range result.Outcomes {
		got[o.Change.Address] = o.Phase
		if o.Change.Address == last && o.Err.Error() != "because image" {
			t.Errorf("%s: %v", last, o.Err)
		}
	}
	if got["image"] != Refused || got["deployment"] != Done || got[last] != Skipped {
		t.Errorf("ended as %v", got)
	}
	for _, e := range events {
		if e.Address == "deployment" {
			t.Errorf("an event of what has nothing to do: %+v", e)
		}
	}
}
