package reconcile

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// noting is a driver that only says something.
type noting []Live

func (noting) Name() string                                           { return "noting" }
func (n noting) Observe(context.Context, Request) ([]Live, error)     { return n, nil }
func (noting) Read(context.Context, Step) (*Live, error)              { return nil, nil }
func (noting) Apply(context.Context, Step) (map[string]string, error) { return nil, nil }

func TestNotes(t *testing.T) {
	desired := []Resource{{Address: "x/1", Driver: "noting", Desired: body{"a": 1}}, {Address: "x/2", Driver: "noting", Desired: body{"a": 1}}}
	world, err := Observe(t.Context(), []Driver{noting{
		{Address: "x/2", Absent: true, Outputs: map[string]string{"id": "of what is not there"}, Notes: []Note{{Level: Warning, Message: "late"}, {Level: Info, Message: "dear"}}},
		{Address: "x/1", Owner: stack, Body: body{"a": 1}, Notes: []Note{{Level: Info, Message: "full"}, {Address: "service/churn", Level: Warning, Message: "no room"}}},
	}}, stack, desired)
	if err != nil {
		t.Fatal(err)
	}
	if len(world.Outputs) > 0 {
		t.Errorf("what is not there has outputs: %v", world.Outputs)
	}
	plan := func(o Options) *Plan {
		p, err := NewPlan(stack, desired, world, o)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	whole := plan(Options{})
	want := []Note{
		{Address: "service/churn", Level: Warning, Message: "no room"},
		{Address: "x/2", Level: Warning, Message: "late"},
		{Address: "x/1", Level: Info, Message: "full"},
		{Address: "x/2", Level: Info, Message: "dear"},
	}
	if diff := cmp.Diff(want, whole.Notes); diff != "" {
		t.Error(diff)
	}
	if got := []Action{whole.Changes[0].Action, whole.Changes[1].Action}; got[0] != NoOp || got[1] != Create {
		t.Errorf("actions %v", got)
	}
	if diff := cmp.Diff([]Note{want[0], want[2]}, plan(Options{Only: []Address{"x/1"}}).Notes); diff != "" {
		t.Errorf("with --only x/1: %s", diff)
	}
}

// What is not there is refused if anybody refuses it, and all that is said of it is said.
func TestAbsentTwice(t *testing.T) {
	desired := []Resource{{Address: "x/1", Driver: "noting", Desired: body{"a": 1}}}
	refusing := Live{Address: "x/1", Absent: true, Refused: &Failure{Reason: ReasonUnsupported, Err: errors.New("no such version")}}
	saying := Live{Address: "x/1", Absent: true, Notes: []Note{{Level: Info, Message: "dear"}}}
	for _, order := range []noting{{refusing, saying}, {saying, refusing}} {
		world, err := Observe(t.Context(), []Driver{order}, stack, desired)
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewPlan(stack, desired, world, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if c := p.Changes[0]; c.Action != Refuse || c.Reason != ReasonUnsupported || len(p.Notes) != 1 {
			t.Errorf("%s %s, %d notes", c.Action, c.Reason, len(p.Notes))
		}
	}
}

// By which way an update goes is said behind the table's sentence, and decides nothing.
func TestWhy(t *testing.T) {
	desired := []Resource{{Address: "x/1", Driver: "noting", Desired: body{"a": 2}, Immutable: map[string]Strategy{"a": {Action: Rotate, Why: "a: anew"}}}}
	change := func(l Live, r []Resource) Change {
		p, err := NewPlan(stack, r, &World{Live: []Live{l}}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return p.Changes[0]
	}
	live := Live{Address: "x/1", Owner: stack, Body: body{"a": 1}}
	before := change(live, desired)
	live.Why = "half of it is done"
	after := change(live, desired)
	if after.Action != Rotate || after.Why != "a: anew; half of it is done" || after.Digest != before.Digest {
		t.Errorf("%s, %q", after.Action, after.Why)
	}
	desired[0].Immutable = nil
	if c := change(live, desired); c.Action != Update || c.Why != "half of it is done" {
		t.Errorf("%s, %q", c.Action, c.Why)
	}
	desired[0].Desired = body{"a": 1}
	if c := change(live, desired); c.Action != NoOp || c.Why != "" {
		t.Errorf("%s, %q", c.Action, c.Why)
	}
}
