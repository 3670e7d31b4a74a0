package drivertest

import (
	"encoding/json"
	"slices"

	"github.com/amlaks/amlaks/reconcile"
)

var (
	plain   = reconcile.Options{}
	prune   = reconcile.Options{Prune: true}
	destroy = reconcile.Options{Destroy: true}
)

// emptyWorld: not to be there is not an error, and there is nothing to destroy.
func (g *ground) emptyWorld() {
	before := g.place.Objects(g.t)
	g.open(Base, readOnly).planned(plain).wantAction(g.made)
	x := g.open(Base).planned(destroy)
	if c := x.change(); c != nil && c.Action.Pending() {
		g.t.Errorf("the plan has %s %s", c.Action, c.Address)
	}
	if g.Nature.Within == "" {
		x.wantDone(x.wantQuiet())
	}
	g.wantObjects(before)
}

// deterministic: two runs on the same world plan the same, byte for byte.
func (g *ground) deterministic() {
	plan := func(revision Revision, o reconcile.Options) string {
		data, err := json.Marshal(g.open(revision).planned(o).plan)
		if err != nil {
			g.t.Fatal(err)
		}
		return string(data)
	}
	for _, made := range []bool{false, true} {
		if made {
			g.converge(Base, plain)
		}
		for _, revision := range []Revision{Base, Changed, Without} {
			g.wantSame("two plans of "+string(revision), plan(revision, prune), plan(revision, prune))
		}
	}
}

// create: what is absent is made, and a second run changes and writes nothing.
func (g *ground) create() {
	x := g.open(Base).planned(plain).wantAction(g.made)
	x.wantDone(x.apply())
	before := g.wantThere()
	g.wantSteady(Base, plain)
	g.wantSame(string(g.Subject), before, g.wantThere())
}

// update: what has changed in the file is exactly what the plan shows and the apply does.
func (g *ground) update() {
	g.converge(Base, plain)
	before, objects := g.wantThere(), g.place.Objects(g.t)
	x := g.open(Changed).planned(plain)
	switch {
	case g.Nature.Unchangeable != "":
		x.wantAction(reconcile.NoOp)
		x.wantDone(x.wantQuiet())
		g.wantSame(string(g.Subject), before, g.wantThere())
		return
	case g.Nature.ContentAddressed != "":
		x.wantAction(reconcile.Create).wantOnlySubject()
		x.wantDone(x.apply())
		g.wantSame("the former one", before, g.wantThere())
		if got := g.place.Objects(g.t); len(got) != len(objects)+1 {
			g.t.Errorf("there is %q, want one more than %q", got, objects)
		}
	default:
		x.wantAction(reconcile.Update).wantOnlySubject().wantPaths(g.Changed)
		x.wantDone(x.apply())
		if g.wantThere() == before {
			g.t.Errorf("%s is as it was", g.Subject)
		}
		g.wantSteady(Changed, plain)
		g.open(Base).planned(plain).wantAction(reconcile.Update).wantPaths(g.Changed)
		g.converge(Base, plain)
		g.wantSame(string(g.Subject)+", changed and back", before, g.wantThere())
	}
	g.wantSteady(Base, plain)
}

// drift: what somebody else did to what is owned is seen, and put back.
func (g *ground) drift() {
	g.converge(Base, plain)
	before := g.wantThere()
	g.place.Drift(g.t)
	x := g.open(Base).planned(plain)
	if g.Nature.ContentAddressed != "" {
		g.wantGone()
		x.wantAction(reconcile.Create).wantOnlySubject()
	} else {
		if g.wantThere() == before {
			g.t.Fatal("nothing has drifted")
		}
		x.wantAction(reconcile.Update).wantOnlySubject().wantPaths(g.Drifted)
	}
	x.wantDone(x.apply())
	g.wantSame(string(g.Subject)+", drifted and back", before, g.wantThere())
	g.wantSteady(Base, plain)
}

// unowned: what the file does not own is not seen, and an update leaves it as it is.
func (g *ground) unowned() {
	g.converge(Base, plain)
	look := g.place.Touch(g.t)
	touched := look()
	g.wantSteady(Base, plain)
	g.wantSame("what is not owned, after a run", touched, look())
	g.converge(Changed, plain)
	g.wantSame("what is not owned, after an update", touched, look())
}

// leaves: what has left the file is kept, and goes with prune.
func (g *ground) leaves() {
	empty := g.place.Objects(g.t)
	g.converge(Base, plain)
	before := g.wantThere()
	if g.Nature.Retained != "" {
		for _, o := range []reconcile.Options{plain, prune} {
			x := g.open(Without).planned(o)
			if c := x.change(); c != nil && c.Action != reconcile.Keep {
				g.t.Errorf("the plan has %s %s", c.Action, c.Address)
			}
			x.wantDone(x.wantQuiet())
			g.wantSame(string(g.Subject), before, g.wantThere())
		}
		return
	}
	kept := g.open(Without).planned(plain).wantAction(reconcile.Keep)
	kept.wantDone(kept.wantQuiet())
	g.wantSame(string(g.Subject), before, g.wantThere())

	pruned := g.open(Without).planned(prune).wantAction(g.left)
	pruned.wantDone(pruned.apply())
	g.wantGone()
	g.wantSteady(Without, prune)
	if g.Nature.Attached != "" {
		g.wantObjects(empty)
	}
	g.converge(Base, plain)
	g.wantThere()
}

// protected: what the file protected is not deleted, even when its block has left the file.
func (g *ground) protected() {
	if g.Nature.Unprotected != "" {
		if g.open(Protected).declared().Protect {
			g.t.Errorf("%s is protected", g.Subject)
		}
		return
	}
	g.converge(Protected, plain)
	before := g.wantThere()
	for _, run := range []struct {
		revision Revision
		options  reconcile.Options
	}{{Without, prune}, {Without, destroy}, {Protected, destroy}, {Base, destroy}} {
		x := g.open(run.revision).planned(run.options).wantAction(reconcile.Refuse)
		wantReason(g.t, x.outcome(x.wantQuiet()), reconcile.Refused, reconcile.ReasonProtected)
		g.wantSame(string(g.Subject), before, g.wantThere())
	}
	g.converge(Base, plain)
	g.converge(Without, prune)
	g.wantGone()
}

// destroy leaves nothing that is the stack's.
func (g *ground) destroy() {
	empty := g.place.Objects(g.t)
	g.converge(Base, plain)
	before := g.wantThere()
	x := g.open(Base).planned(destroy)
	if g.Nature.Retained != "" {
		x.wantDone(x.wantQuiet())
		g.wantSame(string(g.Subject), before, g.wantThere())
		return
	}
	x.wantDone(x.apply())
	g.wantGone()
	g.wantObjects(empty)
	again := g.open(Base).planned(destroy)
	if again.plan.Pending() != 0 {
		g.t.Errorf("a second destroy has %v", again.plan.Changes)
	}
	again.wantDone(again.wantQuiet())
}

// goneAlready: what somebody else deleted first is deleted.
func (g *ground) goneAlready() {
	g.converge(Base, plain)
	if g.Nature.Retained != "" {
		x := g.open(Base).planned(destroy)
		g.place.Remove(g.t)
		x.wantDone(x.wantQuiet())
		g.wantGone()
		return
	}
	first, second := g.open(Without).planned(prune).wantAction(g.left), g.open(Without).planned(prune).wantAction(g.left)
	first.wantDone(first.apply())
	second.wantDone(second.apply())
	g.wantGone()

	g.converge(Base, plain)
	x := g.open(Without).planned(prune).wantAction(g.left)
	g.place.Remove(g.t)
	x.wantDone(x.apply())
	g.wantGone()
	if slices.ContainsFunc(g.open(Without).planned(prune).plan.Changes, func(c reconcile.Change) bool { return c.Address == g.Subject }) {
		g.t.Errorf("%s is still in the plan", g.Subject)
	}
}
