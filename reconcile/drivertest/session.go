package drivertest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
)

// timeout bounds each change: one that takes longer has gone wrong.
const timeout = time.Minute

// ground is a place and everything that was said on it to anybody.
type ground struct {
	*suite
	t            *testing.T
	place        Place
	ours, theirs string
	tap          *tap

	mu   sync.Mutex
	said strings.Builder // plans, events and errors
}

// say keeps what a user, a log or a pipeline would get to see.
func (g *ground) say(v any) {
	data, err := json.Marshal(v)
	if err != nil {
		data = fmt.Append(nil, v)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.said.Write(data)
	g.said.WriteByte('\n')
}

func (g *ground) sayError(err error) {
	if err != nil {
		g.say([]string{err.Error(), reconcile.HintOf(err), fmt.Sprintf("%+v", err)})
	}
}

// wantSecretsKept fails if a secret was said. It gives the secrets.
func (g *ground) wantSecretsKept() []string {
	g.t.Helper()
	secrets := g.place.Secrets(g.t)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, secret := range secrets {
		quoted, err := json.Marshal(secret)
		if err != nil {
			g.t.Fatal(err)
		}
		for _, form := range []string{secret, string(quoted[1 : len(quoted)-1]), base64.StdEncoding.EncodeToString([]byte(secret))} {
			if at := strings.Index(g.said.String(), form); at >= 0 {
				g.t.Errorf("a secret was told: ...%s[%d characters of it]", g.said.String()[max(0, at-100):at], len(form))
			}
		}
	}
	return secrets
}

// session is one run of amlaks: drivers and connections of its own.
type session struct {
	*ground
	wire      *wire
	ctx       context.Context
	stack     string
	drivers   []reconcile.Driver
	resources []reconcile.Resource
	world     *reconcile.World
	plan      *reconcile.Plan
}

// open starts a run.
func (g *ground) open(revision Revision, change ...func(*Invocation)) *session {
	g.t.Helper()
	ctx, cancel := context.WithCancel(g.t.Context())
	g.t.Cleanup(cancel)
	x := &session{ground: g, ctx: ctx, wire: &wire{writes: g.Writes, place: g.tap, kill: cancel}}
	i := Invocation{Stack: g.ours, Revision: revision, Wrap: x.wire.wrap}
	for _, c := range change {
		c(&i)
	}
	x.stack = i.Stack
	x.drivers, x.resources = g.place.Open(g.t, i)
	return x
}

func readOnly(i *Invocation) { i.ReadOnly = true }
func (g *ground) as(stack string) func(*Invocation) {
	return func(i *Invocation) { i.Stack = stack }
}

// look observes and plans. Neither may write.
func (x *session) look(o reconcile.Options) error {
	x.t.Helper()
	mark := x.wire.mark()
	var err error
	x.world, err = reconcile.Observe(x.ctx, x.drivers, x.stack, x.resources)
	if err == nil {
		x.plan, err = reconcile.NewPlan(x.stack, x.resources, x.world, o)
		x.say(x.plan)
	}
	x.sayError(err)
	if _, writes := x.wire.since(mark); len(writes) > 0 {
		x.t.Errorf("observing wrote: %v", writes)
	}
	return err
}

func (x *session) planned(o reconcile.Options) *session {
	x.t.Helper()
	if err := x.look(o); err != nil {
		x.t.Fatalf("observe: %v", err)
	}
	return x
}

// apply carries the plan out.
func (x *session) apply(options ...func(*reconcile.ApplyOptions)) *reconcile.Result {
	o := reconcile.ApplyOptions{Timeout: timeout, Emit: func(e reconcile.Event) { x.say(e) }}
	for _, option := range options {
		option(&o)
	}
	result := reconcile.Apply(x.ctx, x.drivers, x.plan, o)
	for _, o := range result.Outcomes {
		x.sayError(o.Err)
		x.say(o.Now)
	}
	return result
}

// change is what the plan does to the subject; nil if it is not in it.
func (x *session) change() *reconcile.Change {
	i := slices.IndexFunc(x.plan.Changes, func(c reconcile.Change) bool { return c.Address == x.Subject })
	if i < 0 {
		return nil
	}
	return &x.plan.Changes[i]
}

// declared is the subject as the file has it.
func (x *session) declared() reconcile.Resource {
	x.t.Helper()
	i := slices.IndexFunc(x.resources, func(r reconcile.Resource) bool { return r.Address == x.Subject })
	if i < 0 {
		x.t.Fatalf("the file does not declare %s", x.Subject)
	}
	return x.resources[i]
}

// wantAction checks what the plan does to the subject.
func (x *session) wantAction(want reconcile.Action) *session {
	x.t.Helper()
	switch c := x.change(); {
	case c == nil:
		x.t.Fatalf("%s is not in the plan, want %s", x.Subject, want)
	case c.Action != want:
		x.t.Fatalf("the plan has %s %s (%s) %v, want %s", c.Action, c.Address, c.Why, c.Diff, want)
	}
	return x
}

// wantOnlySubject checks that the plan does nothing to anything else.
func (x *session) wantOnlySubject() *session {
	x.t.Helper()
	for _, c := range x.plan.Changes {
		if c.Address != x.Subject && (c.Action.Pending() || c.Action == reconcile.Wait) {
			x.t.Errorf("the plan has %s %s too: %v", c.Action, c.Address, c.Diff)
		}
	}
	return x
}

// wantPaths checks at which paths the subject would change.
func (x *session) wantPaths(want []string) *session {
	x.t.Helper()
	var got []string
	for _, d := range x.change().Diff {
		got = append(got, d.Path)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		x.t.Errorf("changed paths (-want +got):\n%s", diff)
	}
	return x
}

// outcome is how the subject's change ended.
func (x *session) outcome(result *reconcile.Result) reconcile.Outcome {
	x.t.Helper()
	for _, o := range result.Outcomes {
		if o.Change.Address == x.Subject {
			return o
		}
	}
	x.t.Fatalf("%s is not in the result", x.Subject)
	return reconcile.Outcome{}
}

func (x *session) wantDone(result *reconcile.Result) {
	x.t.Helper()
	for _, o := range result.Outcomes {
		if o.Phase != reconcile.Done {
			x.t.Errorf("%s %s: %s: %v", o.Change.Action, o.Change.Address, o.Phase, o.Err)
		}
	}
}

// wantQuiet applies the plan, which must not write.
func (x *session) wantQuiet() *reconcile.Result {
	x.t.Helper()
	mark := x.wire.mark()
	result := x.apply()
	if _, writes := x.wire.since(mark); len(writes) > 0 {
		x.t.Errorf("it wrote: %v", writes)
	}
	return result
}

// converge runs a revision to its end, by new drivers.
func (g *ground) converge(revision Revision, o reconcile.Options, change ...func(*Invocation)) {
	g.t.Helper()
	x := g.open(revision, change...).planned(o)
	x.wantDone(x.apply())
}

// wantSteady checks that a new run finds nothing to do, and does nothing.
func (g *ground) wantSteady(revision Revision, o reconcile.Options, change ...func(*Invocation)) {
	g.t.Helper()
	x := g.open(revision, change...).planned(o)
	for _, c := range x.plan.Changes {
		if c.Action != reconcile.NoOp && c.Action != reconcile.Keep {
			g.t.Errorf("there is still %s %s: %s %v", c.Action, c.Address, c.Why, c.Diff)
		}
	}
	x.wantDone(x.wantQuiet())
}

// wantSame compares what was there with what is.
func (g *ground) wantSame(what, before, after string) {
	g.t.Helper()
	if diff := cmp.Diff(before, after); diff != "" {
		g.t.Errorf("%s (-before +after):\n%s", what, diff)
	}
}

// wantThere checks by the server's word that our subject is there, and gives it.
func (g *ground) wantThere() string {
	g.t.Helper()
	live := g.place.Live(g.t, g.ours)
	if live == "" {
		g.t.Fatalf("%s is not there", g.Subject)
	}
	return live
}

func (g *ground) wantGone() {
	g.t.Helper()
	if live := g.place.Live(g.t, g.ours); live != "" {
		g.t.Fatalf("%s is still there: %s", g.Subject, live)
	}
}

// wantObjects checks what is in the world.
func (g *ground) wantObjects(want []string) {
	g.t.Helper()
	if diff := cmp.Diff(want, g.place.Objects(g.t)); diff != "" {
		g.t.Errorf("what is in the world (-want +got):\n%s", diff)
	}
}

// wantReason checks that something was not done, for one of these reasons.
func wantReason(t *testing.T, o reconcile.Outcome, phase reconcile.Phase, reasons ...reconcile.Reason) {
	t.Helper()
	if o.Phase != phase || !slices.Contains(reasons, reconcile.ReasonOf(o.Err)) {
		t.Errorf("%s is %s, reason %q: %v; want %s, %q", o.Change.Address, o.Phase, reconcile.ReasonOf(o.Err), o.Err, phase, reasons)
	}
	if o.Err == nil || errors.Is(o.Err, errDead) {
		t.Errorf("%s ended with %v", o.Change.Address, o.Err)
	}
}
