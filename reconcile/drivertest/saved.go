package drivertest

import (
	"context"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/amlaks/amlaks/reconcile"
)

// mostReads is how many requests Read may make: for the resource, and for what it gives away
// (credentials) or would become (a dry-run).
const mostReads = 2

// reader stands before the driver and reads the subject right before it is changed.
type reader struct {
	reconcile.Driver
	*session
	seen *reconcile.Live // what Observe gave
	read bool
}

// Apply implements reconcile.Driver.
func (r *reader) Apply(ctx context.Context, step reconcile.Step) (map[string]string, error) {
	if step.Change.Address == r.Subject {
		r.read = true
		mark := r.wire.mark()
		live, err := r.Driver.Read(ctx, step)
		if err != nil {
			r.t.Errorf("read: %v", err)
		}
		all, writes := r.wire.since(mark)
		if len(all) == 0 || len(all) > mostReads || len(writes) > 0 {
			r.t.Errorf("Read made the requests %v", all)
		}
		// What depends on what, and what the driver keeps for itself, only Observe can know.
		ignored := cmpopts.IgnoreFields(reconcile.Live{}, "Driver", "Handle", "DependsOn", "Within")
		if diff := cmp.Diff(r.seen, live, ignored); diff != "" {
			r.t.Errorf("%s (-observed +read):\n%s", r.Subject, diff)
		}
	}
	return r.Driver.Apply(ctx, step)
}

// read: right before a change, the driver gives of the one resource what it observed of it.
func (g *ground) read() {
	for _, a := range g.acts() {
		x := g.begin(a)
		r := &reader{Driver: x.drivers[len(x.drivers)-1], session: x}
		for i := range x.world.Live {
			if x.world.Live[i].Address == g.Subject {
				r.seen = &x.world.Live[i]
			}
		}
		if (r.seen == nil) != (x.change().Action == reconcile.Create) {
			g.t.Fatalf("observed %v, and the plan has %s", r.seen, x.change().Action)
		}
		x.drivers[len(x.drivers)-1] = r
		x.wantDone(x.apply(func(o *reconcile.ApplyOptions) { o.Parallelism = 1 }))
		if !r.read {
			g.t.Errorf("%s: %s was not changed", a.name, g.Subject)
		}
	}
}

// saved: a plan that was written down is carried out by another process, once, if the
// decision is still the same.
func (g *ground) saved() {
	for _, a := range g.acts() {
		x := g.begin(a)
		data, err := x.plan.Encode()
		if err != nil {
			g.t.Fatal(err)
		}
		g.say(string(data))
		for _, again := range []bool{false, true} {
			y := g.bind(data, a)
			mark := y.wire.mark()
			y.wantDone(y.apply(exact))
			if _, writes := y.wire.since(mark); (len(writes) == 0) != again {
				g.t.Errorf("%s, done before: %t: it wrote %v", a.name, again, writes)
			}
		}
		g.wantSteady(a.after, a.options)
	}
}

func exact(o *reconcile.ApplyOptions) { o.Exact = true }

// bind makes a saved plan ready in a new process.
func (g *ground) bind(data []byte, a act) *session {
	g.t.Helper()
	plan, err := reconcile.DecodePlan("plan.json", data)
	if err != nil {
		g.t.Fatal(err)
	}
	y := g.open(a.after).planned(a.options)
	bound, extra := plan.Bind(y.plan)
	if extra != 0 {
		g.t.Errorf("%s: %d changes more than in the plan", a.name, extra)
	}
	y.plan = bound
	return y
}

// stale: what is read right before a change tells whether it is still the one planned.
func (g *ground) stale() {
	g.converge(Base, plain)
	x := g.open(Changed).planned(plain)
	g.place.Drift(g.t)
	drifted := g.place.Live(g.t, g.ours)
	result := x.apply(exact)
	if g.Nature.Unchangeable == "" && g.Nature.ContentAddressed == "" {
		wantReason(g.t, x.outcome(result), reconcile.Refused, reconcile.ReasonStale)
	} else {
		x.wantDone(result)
	}
	g.wantSame("what is not what was planned upon", drifted, g.place.Live(g.t, g.ours))

	// What is not owned does not count.
	g.converge(Base, plain)
	x = g.open(Changed).planned(plain)
	look := g.place.Touch(g.t)
	touched := look()
	result = x.apply(exact)
	g.wantSame("what is not owned", touched, look())
	if g.Nature.Hidden != "" {
		wantReason(g.t, x.outcome(result), reconcile.Refused, reconcile.ReasonStale)
		return
	}
	x.wantDone(result)
	g.wantSteady(Changed, plain)
}
