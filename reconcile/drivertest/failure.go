package drivertest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/amlaks/amlaks/reconcile"
)

// onlyReads is what a read-only driver says of a request that it does not make.
const onlyReads = "only reads"

// act is a part of a resource's life that writes.
type act struct {
	name          string
	before, after Revision // before is what is there; "" is nothing
	options       reconcile.Options
}

// acts are those that the subject has by its nature.
func (s *suite) acts() []act {
	acts := []act{{name: "create", after: Base}}
	if s.Nature.Unchangeable == "" {
		acts = append(acts, act{name: "update", before: Base, after: Changed})
	}
	if s.Nature.Retained == "" {
		acts = append(acts, act{name: "delete", before: Base, after: Without, options: prune})
	}
	return acts
}

// begin brings the world to where the act starts, and plans it.
func (g *ground) begin(a act, change ...func(*Invocation)) *session {
	g.t.Helper()
	if a.before != "" {
		g.converge(a.before, plain)
	}
	return g.open(a.after, change...).planned(a.options)
}

// wantEnd checks that the act has come to the end that it has when nothing goes wrong:
// nothing more to do, these objects and no others, and each of them made once.
func (g *ground) wantEnd(a act, objects []string) {
	g.t.Helper()
	g.wantSteady(a.after, a.options)
	g.wantObjects(objects)
	if a.after == Without {
		g.wantGone()
	} else {
		g.wantThere()
	}
	if again := g.tap.again(); len(again) > 0 && g.Nature.ContentAddressed == "" {
		g.t.Errorf("made more than once: %q", again)
	}
}

// calm is an act when nothing goes wrong.
type calm struct {
	act
	requests, writes int
	objects          []string
}

// trouble walks every act once in peace, to know its requests and its end, and then again
// with every kind of trouble at each of them.
func (g *ground) trouble() {
	for _, a := range g.acts() {
		g.t.Run(a.name, func(t *testing.T) {
			var c calm
			t.Run("in peace", func(t *testing.T) {
				g := g.newGround(t)
				x := g.begin(a)
				mark := x.wire.mark()
				x.wantDone(x.apply())
				all, writes := x.wire.since(mark)
				if len(writes) == 0 {
					t.Fatalf("it wrote nothing: %v", all)
				}
				c = calm{act: a, requests: len(all), writes: len(writes), objects: g.place.Objects(t)}
				g.wantEnd(a, c.objects)
			})
			if t.Failed() {
				return
			}
			for n := 1; n <= c.writes; n++ {
				g.on(t, fmt.Sprintf("answer %d of %d lost", n, c.writes), func(g *ground) { g.lost(c, n) })
			}
			for n := 1; n <= c.requests; n++ {
				g.on(t, fmt.Sprintf("killed at request %d of %d", n, c.requests), func(g *ground) { g.killed(c, n) })
			}
			if a.before != "" && a.after != Without || g.made == reconcile.Update {
				for n := 1; n <= c.writes; n++ {
					g.on(t, fmt.Sprintf("another writer before write %d of %d", n, c.writes), func(g *ground) { g.raced(c, n) })
				}
			}
			g.on(t, "two runs at once", func(g *ground) { g.twice(c) })
		})
	}
}

// lost: the nth write took effect and its answer never came. The run ends well, or the next
// does.
func (g *ground) lost(c calm, n int) {
	x := g.begin(c.act)
	x.wire.arm(func(w *wire) { w.loseWrite = n })
	result := x.apply()
	if !x.wire.troubled() {
		g.t.Error("no answer was lost")
	}
	if result.Count(reconcile.Done) < len(result.Outcomes) {
		g.converge(c.after, c.options)
	}
	g.wantEnd(c.act, c.objects)
}

// raced: right before the nth write somebody changes what the file does not own. That stays.
func (g *ground) raced(c calm, n int) {
	x := g.begin(c.act)
	var look func() string
	var touched string
	x.wire.arm(func(w *wire) {
		w.holdWrite, w.before = n, func() {
			look = g.place.Touch(g.t)
			touched = look()
		}
	})
	result := x.apply()
	if look == nil {
		g.t.Fatal("there was no such write")
	}
	for _, o := range result.Outcomes {
		if o.Phase != reconcile.Done && reconcile.ReasonOf(o.Err) != reconcile.ReasonConflict {
			g.t.Errorf("%s %s is %s: %v", o.Change.Action, o.Change.Address, o.Phase, o.Err)
		}
	}
	g.converge(c.after, c.options)
	g.wantSame("what somebody else wrote meanwhile", touched, look())
	g.wantSteady(c.after, c.options)
}

// killed: the run ends at its nth request. The next one, a new process, brings the world
// where it belongs.
func (g *ground) killed(c calm, n int) {
	x := g.begin(c.act)
	x.wire.arm(func(w *wire) { w.dieAfter = n })
	result := x.apply()
	if !x.wire.troubled() { // what is waited for may come sooner than it did in peace
		x.wantDone(result)
	}
	g.converge(c.after, c.options)
	g.wantEnd(c.act, c.objects)
}

// twice: two runs with the same plan meet. One may have to give way, and says so.
func (g *ground) twice(c calm) {
	first := g.begin(c.act)
	second := g.open(c.after).planned(c.options)
	ended := make(chan *reconcile.Result)
	go func() { ended <- first.apply() }()
	for _, result := range []*reconcile.Result{second.apply(), <-ended} {
		for _, o := range result.Outcomes {
			gaveWay := []reconcile.Reason{reconcile.ReasonConflict, reconcile.ReasonStale, reconcile.ReasonDependencyFailed}
			if o.Phase != reconcile.Done && !slices.Contains(gaveWay, reconcile.ReasonOf(o.Err)) {
				g.t.Errorf("%s %s is %s: %v", o.Change.Action, o.Change.Address, o.Phase, o.Err)
			}
		}
	}
	g.converge(c.after, c.options)
	g.wantEnd(c.act, c.objects)
}

// readOnly: a driver that only reads sees what is to do, refuses every write, and says so.
func (g *ground) readOnly() {
	for _, a := range g.acts() {
		x := g.begin(a, readOnly)
		if x.change() == nil || !x.change().Action.Pending() {
			g.t.Fatalf("%s: the plan has nothing to do", a.name)
		}
		result := x.wantQuiet()
		if o := x.outcome(result); o.Phase == reconcile.Done {
			g.t.Errorf("%s %s is done", o.Change.Action, o.Change.Address)
		}
		if !slices.ContainsFunc(result.Outcomes, func(o reconcile.Outcome) bool {
			return o.Phase == reconcile.Failed && strings.Contains(o.Err.Error(), onlyReads)
		}) {
			g.t.Errorf("%s: no change failed because the driver %s", a.name, onlyReads)
		}
	}
}

// minSecret keeps the suite from finding a secret in any text by chance.
const minSecret = 8

// secrets: what a run knows is in no plan, no event and no error, whatever goes wrong. Every
// part of the suite checks that of what it did; this one shows that there are secrets to keep.
func (g *ground) secrets() {
	g.converge(Base, plain)
	g.converge(Changed, plain)
	carried := 0
	for _, secret := range g.wantSecretsKept() {
		if len(secret) < minSecret {
			g.t.Errorf("a secret of %d characters", len(secret))
		}
		if g.tap.carried(secret) {
			carried++
		}
	}
	if g.Nature.NoSecrets != "" && (carried > 0 || g.tap.signedIn()) {
		g.t.Error("there are secrets")
	}
	if g.Nature.NoSecrets == "" && carried == 0 {
		g.t.Error("no secret went over the wire, so this shows nothing")
	}
	x := g.open(Base)
	x.wire.arm(func(w *wire) { w.dieAfter = 1 })
	if x.look(plain) == nil {
		g.t.Error("a run that was killed while it observed says nothing")
	}
}
