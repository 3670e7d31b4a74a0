package reconcile

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const stack = "churn"

// decision leaves out what every change has beside its decision.
var decision = cmp.Options{cmpopts.IgnoreUnexported(Change{}), cmpopts.IgnoreFields(Change{}, "Digest", "Precondition")}

func TestDecide(t *testing.T) {
	owned := func(l Live) *Live {
		l.Owner = stack
		return &l
	}
	for name, test := range map[string]struct {
		resource Resource
		live     *Live
		options  Options
		want     *Change // nil: not in the plan
	}{
		"absent": {resource: Resource{Desired: body{"a": 1}}, want: &Change{Action: Create, Diff: []FieldDiff{{Path: "a", After: 1.0}}}},
		"same":   {resource: Resource{Desired: body{"a": 1}}, live: owned(Live{Body: body{"a": 1}}), want: &Change{Action: NoOp}},
		"differs": {resource: Resource{Desired: body{"a": 1}}, live: owned(Live{Body: body{"a": 2}}),
			want: &Change{Action: Update, Diff: []FieldDiff{{Path: "a", Before: 2.0, After: 1.0}}}},
		"the server's word decides": {resource: Resource{Desired: body{"cpu": "1000m"}}, live: owned(Live{Body: body{"cpu": "1"}, Predicted: body{"cpu": "1"}}),
			want: &Change{Action: NoOp}},
		"an operation is running": {resource: Resource{Desired: body{"a": 1}}, live: owned(Live{Body: body{"a": 1}, State: InProgress, Status: "Creating"}),
			want: &Change{Action: Wait, Why: "Creating"}},
		"its last operation failed": {resource: Resource{Desired: body{"a": 1}}, live: owned(Live{Body: body{"a": 1}, State: Unhealthy, Status: "Failed"}),
			want: &Change{Action: Wait, Why: "Failed"}},
		"another stack's": {resource: Resource{Desired: body{"a": 1}, Adopt: true}, live: &Live{Owner: "other", Body: body{"a": 1}},
			want: &Change{Action: Refuse, Reason: ReasonOwned, Why: `it belongs to stack "other"`}},
		"nobody's": {resource: Resource{Desired: body{"a": 1}}, live: &Live{Body: body{"a": 1}},
			want: &Change{Action: Refuse, Reason: ReasonOwned, Why: "it exists and bears no stack's name; `adopt: true` takes it over"}},
		"nobody's, adopted": {resource: Resource{Desired: body{"a": 1}, Adopt: true}, live: &Live{Body: body{"a": 2}},
			want: &Change{Action: Update, Diff: []FieldDiff{{Path: "a", Before: 2.0, After: 1.0}}}},
		"immutable, forbidden": {
			resource: Resource{Desired: body{"cidr": "b"}, Immutable: map[string]Strategy{"cidr": {Refuse, "a cluster keeps it"}}},
			live:     owned(Live{Body: body{"cidr": "a"}}),
			want:     &Change{Action: Refuse, Reason: ReasonImmutable, Why: "a cluster keeps it", Diff: []FieldDiff{{Path: "cidr", Before: "a", After: "b"}}}},
		"immutable, by the server's word": {
			resource: Resource{Desired: body{"a": 1}},
			live:     owned(Live{Body: body{"a": 2}, Refused: &Failure{Reason: ReasonImmutable, Err: errors.New("a: it is kept")}}),
			want:     &Change{Action: Refuse, Reason: ReasonImmutable, Why: "a: it is kept", Diff: []FieldDiff{{Path: "a", Before: 2.0, After: 1.0}}}},
		"immutable, replaced": {
			resource: Resource{Desired: body{"size": "b"}, Immutable: map[string]Strategy{"size": {Replace, "a new one"}}},
			live:     owned(Live{Body: body{"size": "a"}}),
			want:     &Change{Action: Replace, Why: "a new one", Diff: []FieldDiff{{Path: "size", Before: "a", After: "b"}}}},
		"immutable, rotated, protected": {
			resource: Resource{Protect: true, Desired: body{"size": "b"}, Immutable: map[string]Strategy{"size": {Rotate, "a new one beside it"}}},
			live:     owned(Live{Body: body{"size": "a"}, Protected: true}),
			want:     &Change{Action: Rotate, Why: "a new one beside it", Diff: []FieldDiff{{Path: "size", Before: "a", After: "b"}}}},
		"absent, and would be refused": {
			resource: Resource{Desired: body{"a": 1}}, live: &Live{Absent: true, Refused: &Failure{Reason: ReasonUnsupported, Err: errors.New("a: there is none")}},
			want: &Change{Action: Refuse, Reason: ReasonUnsupported, Why: "a: there is none", Diff: []FieldDiff{{Path: "a", After: 1.0}}}},
		"absent, and only noted": {
			resource: Resource{Desired: body{"a": 1}}, live: &Live{Absent: true, Notes: []Note{{Level: Warning, Message: "it will be dear"}}},
			want: &Change{Action: Create, Diff: []FieldDiff{{Path: "a", After: 1.0}}}},
		"immutable, replaced, protected on the live object only": {
			resource: Resource{Desired: body{"size": "b"}, Immutable: map[string]Strategy{"size": {Replace, "a new one"}}},
			live:     owned(Live{Body: body{"size": "a"}, Protected: true}),
			want: &Change{Action: Refuse, Reason: ReasonProtected, Why: "a new one, and it is protected",
				Diff: []FieldDiff{{Path: "size", Before: "a", After: "b"}}}},
		"destroy":                  {resource: Resource{Desired: body{"a": 1}}, live: owned(Live{Body: body{"a": 1}}), options: Options{Destroy: true}, want: &Change{Action: Delete}},
		"destroy, absent":          {resource: Resource{Desired: body{"a": 1}}, options: Options{Destroy: true}},
		"destroy, somebody else's": {resource: Resource{Desired: body{"a": 1}}, live: &Live{Owner: "other"}, options: Options{Destroy: true}},
		"destroy, retained":        {resource: Resource{Retain: true}, live: owned(Live{}), options: Options{Destroy: true}},
		"destroy, attached":        {resource: Resource{}, live: owned(Live{Attached: true}), options: Options{Destroy: true}, want: &Change{Action: Detach}},
		"destroy, protected": {resource: Resource{}, live: owned(Live{Protected: true}), options: Options{Destroy: true},
			want: &Change{Action: Refuse, Reason: ReasonProtected, Why: "it is protected: set `protect: false` in the file and apply that first"}},
		"data is not planned": {resource: Resource{Data: true}},
	} {
		t.Run(name, func(t *testing.T) {
			test.resource.Address = "x/1"
			world := &World{}
			if test.live != nil {
				test.live.Address = "x/1"
				if test.live.Absent {
					world.Absent = []Live{*test.live}
				} else {
					world.Live = []Live{*test.live}
				}
			}
			plan, err := NewPlan(stack, []Resource{test.resource}, world, test.options)
			if err != nil {
				t.Fatal(err)
			}
			want := []Change{}
			if test.want != nil {
				test.want.Address = "x/1"
				want = append(want, *test.want)
			}
			if diff := cmp.Diff(want, plan.Changes, decision); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatHasLeftTheFile(t *testing.T) {
	for name, test := range map[string]struct {
		live  Live
		prune bool
		want  Action
	}{
		"prune is off":        {Live{Owner: stack}, false, Keep},
		"prune":               {Live{Owner: stack}, true, Delete},
		"attached":            {Live{Owner: stack, Attached: true}, true, Detach},
		"protected":           {Live{Owner: stack, Protected: true}, true, Refuse},
		"protected, no prune": {Live{Owner: stack, Protected: true}, false, Keep},
		"another stack's":     {Live{Owner: "other"}, true, ""},
		"nobody's":            {Live{}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			test.live.Address = "x/1"
			plan, err := NewPlan(stack, nil, &World{Live: []Live{test.live}}, Options{Prune: test.prune})
			if err != nil {
				t.Fatal(err)
			}
			var got Action
			if len(plan.Changes) > 0 {
				got = plan.Changes[0].Action
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// What lives in something that is deleted needs no deletion of its own; what lives in
// something that is only detached does.
func TestDeletionsCoveredByAnother(t *testing.T) {
	world := &World{Live: []Live{
		{Address: "cluster/made", Owner: stack},
		{Address: "kube/made/Namespace/n", Owner: stack, Within: "cluster/made"},
		{Address: "kube/made/Service/s", Owner: stack, Within: "kube/made/Namespace/n"},
		{Address: "cluster/used", Owner: stack, Attached: true},
		{Address: "kube/used/Namespace/n", Owner: stack, Within: "cluster/used"},
		{Address: "kube/used/Service/s", Owner: stack, Within: "kube/used/Namespace/n"},
	}}
	plan, err := NewPlan(stack, nil, world, Options{Prune: true})
	if err != nil {
		t.Fatal(err)
	}
	got := map[Address]Action{}
	for _, c := range plan.Changes {
		got[c.Address] = c.Action
	}
	want := map[Address]Action{"cluster/made": Delete, "cluster/used": Detach, "kube/used/Namespace/n": Delete}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestReferences(t *testing.T) {
	desired := []Resource{
		{Address: "image/a"},
		{Address: "kube/d", DependsOn: []Address{"image/a"}, Desired: body{"image": Ref{"image/a", "ref"}}},
	}
	plan, err := NewPlan(stack, desired, &World{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := plan.Changes[1].Diff[0].After; got != Unknown {
		t.Errorf("before the image is there: %v", got)
	}
	plan, err = NewPlan(stack, desired, &World{Outputs: Outputs{"image/a": {"ref": "r@sha256:1"}}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := plan.Changes[1].Diff[0].After; got != "r@sha256:1" {
		t.Errorf("when it is there: %v", got)
	}
}

func TestOnly(t *testing.T) {
	desired := []Resource{{Address: "a"}, {Address: "b", DependsOn: []Address{"a"}}, {Address: "c"}}
	plan, err := NewPlan(stack, desired, &World{}, Options{Only: []Address{"b"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := plan.addresses(); got != "a, b" {
		t.Errorf("got %s", got)
	}
	if _, err := NewPlan(stack, desired, &World{}, Options{Only: []Address{"zzz"}}); err == nil {
		t.Error("an address that is not there was taken")
	}
}

func TestBadGraphs(t *testing.T) {
	for name, resources := range map[string][]Resource{
		"cycle":      {{Address: "a", DependsOn: []Address{"b"}}, {Address: "b", DependsOn: []Address{"a"}}},
		"undeclared": {{Address: "a", DependsOn: []Address{"b"}}},
		"twice":      {{Address: "a"}, {Address: "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewPlan(stack, resources, &World{}, Options{}); err == nil {
				t.Error("taken")
			}
		})
	}
}

// TestDeterministic: whatever the order in which resources and live objects come, the plan
// is the same, byte for byte, and every resource stands behind what it depends on.
func TestDeterministic(t *testing.T) {
	var desired []Resource
	var live []Live
	for i := range 20 {
		a := Address(rune('a' + i))
		r := Resource{Address: a, Desired: body{"n": i, "m": body{"x": 1, "y": 2}}}
		if i > 2 {
			r.DependsOn = []Address{Address(rune('a' + i/2)), Address(rune('a' + i/3))}
		}
		desired = append(desired, r)
		if i%3 == 0 {
			live = append(live, Live{Address: a, Owner: stack, Body: body{"n": i % 2}})
		}
	}
	var first []byte
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 2))
		r.Shuffle(len(desired), func(i, j int) { desired[i], desired[j] = desired[j], desired[i] })
		plan, err := NewPlan(stack, desired, &World{Live: live}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(plan)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = data
		}
		if diff := cmp.Diff(string(first), string(data)); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
		for i, c := range plan.Changes {
			for _, dependency := range c.DependsOn {
				if j := slices.IndexFunc(plan.Changes, func(c Change) bool { return c.Address == dependency }); j > i {
					t.Fatalf("%s stands before %s", c.Address, dependency)
				}
			}
		}
	}
}
