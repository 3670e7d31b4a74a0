package drivertest

import "github.com/amlaks/amlaks/reconcile"

// wantLeft checks that every verb leaves what look reads as it is.
func (g *ground) wantLeft(look func() string) {
	g.t.Helper()
	before := look()
	for _, run := range []struct {
		revision Revision
		options  reconcile.Options
	}{{Base, plain}, {Changed, prune}, {Without, prune}, {Base, plain}, {Base, destroy}} {
		g.converge(run.revision, run.options)
		g.wantSame("what somebody else has there", before, look())
	}
}

// wantRefused checks that no run takes hold of the subject, which is not ours, or away.
func (g *ground) wantRefused(look func() string, revisions ...Revision) {
	g.t.Helper()
	before := look()
	for _, revision := range revisions {
		x := g.open(revision).planned(plain).wantAction(reconcile.Refuse)
		wantReason(g.t, x.outcome(x.apply()), reconcile.Refused, reconcile.ReasonOwned)
		g.wantSame("what is refused", before, look())
	}
	for _, run := range []struct {
		revision Revision
		options  reconcile.Options
	}{{Without, prune}, {Without, destroy}, {Base, destroy}} {
		x := g.open(run.revision).planned(run.options)
		if c := x.change(); c != nil && c.Action != reconcile.NoOp {
			g.t.Errorf("the plan has %s %s", c.Action, c.Address)
		}
		if g.Nature.Within == "" || run.options.Prune {
			x.wantDone(x.apply())
		}
		g.wantSame("what is not ours", before, look())
	}
}

// foreign: what bears another stack's name is not touched, whatever the file says.
func (g *ground) foreign() {
	look := g.place.Foreign(g.t, g.theirs)
	if g.Nature.Ownerless != "" {
		g.wantLeft(look)
		return
	}
	g.wantRefused(look, Base, Adopting)
}

// nobodys: what bears no stack's name is taken over when the file says so, and only then.
func (g *ground) nobodys() {
	look := g.place.Foreign(g.t, "")
	if g.Nature.Ownerless != "" {
		g.wantLeft(look)
		return
	}
	g.wantRefused(look, Base)
	x := g.open(Adopting).planned(plain).wantAction(reconcile.Update)
	x.wantDone(x.apply())
	g.wantSteady(Adopting, plain)
	g.wantSteady(Base, plain) // it is the stack's now
	g.converge(Without, prune)
	g.wantGone()
}

// appears: what somebody else makes between plan and apply is left alone too.
func (g *ground) appears() {
	x := g.open(Base).planned(plain).wantAction(g.made)
	look := g.place.Foreign(g.t, g.theirs)
	before := look()
	result := x.apply()
	if g.Nature.Ownerless != "" {
		x.wantDone(result)
	} else {
		wantReason(g.t, x.outcome(result), reconcile.Failed, reconcile.ReasonOwned, reconcile.ReasonStale)
	}
	g.wantSame("what appeared", before, look())
}

// twoStacks: another stack beside ours is in no plan of ours, and nothing we do changes it.
func (g *ground) twoStacks() {
	g.converge(Base, plain, g.as(g.theirs))
	before := g.place.Live(g.t, g.theirs)
	if before == "" {
		g.t.Fatal("the other stack's is not there")
	}
	ours := map[reconcile.Address]bool{}
	for _, revision := range []Revision{Base, Changed} {
		for _, r := range g.open(revision).resources {
			ours[r.Address] = true
		}
	}
	for _, run := range []struct {
		revision Revision
		options  reconcile.Options
		action   reconcile.Action // of the subject; "": whatever it is
	}{{Base, plain, g.made}, {Changed, prune, ""}, {Without, prune, ""}, {Base, prune, ""}, {Base, destroy, ""}} {
		x := g.open(run.revision).planned(run.options)
		if run.action != "" {
			x.wantAction(run.action)
		}
		for _, c := range x.plan.Changes {
			if !ours[c.Address] || c.Action == reconcile.Refuse {
				g.t.Errorf("the plan of %s has %s %s: %s", run.revision, c.Action, c.Address, c.Why)
			}
		}
		x.wantDone(x.apply())
		g.wantSame("the other stack's", before, g.place.Live(g.t, g.theirs))
	}
	g.wantSteady(Base, prune, g.as(g.theirs))
}
