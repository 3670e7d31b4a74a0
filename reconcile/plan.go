package reconcile

import (
	"fmt"
	"slices"
	"strings"
)

// Action is what a plan does to a resource.
type Action string

// The actions.
const (
	NoOp    Action = "no-op"
	Create  Action = "create"
	Update  Action = "update"
	Replace Action = "replace"
	Rotate  Action = "rotate" // made anew beside the old one, which is then emptied and removed
	Delete  Action = "delete"
	Detach  Action = "detach" // stop using it, leave it as it is
	Wait    Action = "wait"   // nothing to change; what is running on it is joined
	Keep    Action = "keep"   // has left the file, and prune is off
	Refuse  Action = "refuse" // must not be done; Why says the reason
)

// deletes tells whether the action takes something away.
func (a Action) deletes() bool { return a == Delete || a == Detach }

// Pending tells whether the action would do something.
func (a Action) Pending() bool { return a != NoOp && a != Keep && a != Wait }

// FieldDiff is one path that would change. Before or After is nil when the path is
// not there on that side.
type FieldDiff struct {
	Path   string `json:"path"`
	Before any    `json:"before"`
	After  any    `json:"after"`
}

// Change is what a plan does to one resource.
type Change struct {
	Address   Address     `json:"address"`
	Driver    string      `json:"driver"`
	Action    Action      `json:"action"`
	Summary   string      `json:"summary,omitempty"`
	Reason    Reason      `json:"reason,omitempty"` // of a refusal
	Why       string      `json:"why,omitempty"`    // for people
	Diff      []FieldDiff `json:"diff,omitempty"`
	DependsOn []Address   `json:"dependsOn,omitempty"`
	// Precondition is what was there when the change was planned.
	Precondition Precondition `json:"precondition"`
	// Digest tells one decision from another: the same world and the same file give the same
	// one. Summary, Why and DependsOn do not count.
	Digest string `json:"digest"`

	resource *Resource
	live     *Live
	absent   *Live   // what is said of it, when it is not there
	now      *Change // what it would be by now, if that is not what it was planned to be
}

// Precondition is what a change was planned upon.
type Precondition struct {
	Exists bool   `json:"exists"`
	Owner  string `json:"owner,omitempty"` // the stack whose name it bore; empty: nobody's
	// Version is that of what was there, if a value of it is not shown: by the diff alone
	// another hidden value would look like the one that the change was planned upon.
	Version string `json:"version,omitempty"`
}

// PlanFormat is the version of the plan's JSON form. A reader takes every plan of its own
// major version; a newer minor one has only more fields.
const PlanFormat = "1.1"

// Plan is the whole difference between a file and the world, in the order in which it
// would be carried out. It is data: it holds no secret and no connection. Its JSON form is
// described by schema/plan.schema.json.
type Plan struct {
	FormatVersion string `json:"formatVersion"`
	Stack         string `json:"stack"`
	// Target is the workspace the stack belongs to (its resource ID): the same stack may be
	// in several, and a plan of one is nothing to another.
	Target  string   `json:"target,omitempty"`
	Options Options  `json:"options"`
	Changes []Change `json:"changes"`
	Notes   []Note   `json:"notes,omitempty"`

	outputs Outputs // what was known when it was made
}

// Options narrow or widen what a plan may do.
type Options struct {
	// Target is the plan's.
	Target string `json:"-"`
	// Prune deletes what bears the stack's name and has left the file.
	Prune bool `json:"prune"`
	// Destroy deletes everything that bears the stack's name.
	Destroy bool `json:"destroy"`
	// Only, if not empty, are the addresses to consider, with what they depend on.
	Only []Address `json:"only,omitempty"`
}

// Pending counts the changes that would do something.
func (p *Plan) Pending() int {
	n := 0
	for _, change := range p.Changes {
		if change.Action.Pending() {
			n++
		}
	}
	return n
}

// Count gives how many changes have the action.
func (p *Plan) Count(action Action) int {
	n := 0
	for _, change := range p.Changes {
		if change.Action == action {
			n++
		}
	}
	return n
}

// CheckDeletes refuses a plan that deletes more than most resources: an accident in a file
// must not empty a cluster. Destroying is no accident.
func (p *Plan) CheckDeletes(most int) error {
	n := p.Count(Delete)
	if n <= most || p.Options.Destroy {
		return nil
	}
	return &Failure{
		Reason: ReasonTooManyDeletes,
		Err:    fmt.Errorf("it would delete %d resources, and %d are allowed at a time; nothing was changed", n, most),
		Hint:   fmt.Sprintf("if that is meant: --max-deletes %d, or maxDeletes in the file", n),
	}
}

// NewPlan compares what is desired with what was observed. It is pure: the same
// arguments give the same plan, byte for byte.
func NewPlan(stack string, desired []Resource, world *World, o Options) (*Plan, error) {
	desired, err := sorted(desired)
	if err != nil {
		return nil, err
	}
	live := make(map[Address]*Live, len(world.Live))
	for i := range world.Live {
		live[world.Live[i].Address] = &world.Live[i]
	}
	absent := make(map[Address]*Live, len(world.Absent))
	for i := range world.Absent {
		// Several may say something of it; what refuses counts.
		if a := &world.Absent[i]; absent[a.Address] == nil || absent[a.Address].Refused == nil {
			absent[a.Address] = a
		}
	}
	p := &Plan{FormatVersion: PlanFormat, Stack: stack, Target: o.Target, Options: o, Changes: []Change{}, Notes: world.notes(), outputs: world.Outputs}
	declared := make(map[Address]bool, len(desired))
	for i := range desired {
		r := &desired[i]
		declared[r.Address] = true
		if r.Data {
			continue
		}
		c := Change{Address: r.Address, Driver: r.Driver, Summary: r.Summary, DependsOn: r.DependsOn, resource: r, live: live[r.Address], absent: absent[r.Address]}
		p.decide(&c, p.outputs)
		if o.Destroy && c.Action == NoOp {
			continue
		}
		p.Changes = append(p.Changes, c)
	}
	for i := range world.Live {
		l := &world.Live[i]
		if declared[l.Address] || l.Owner != stack {
			continue
		}
		c := Change{Address: l.Address, Driver: l.Driver, DependsOn: l.DependsOn, live: l}
		p.decide(&c, p.outputs)
		p.Changes = append(p.Changes, c)
	}
	p.dropCovered()
	if len(o.Only) > 0 {
		if err := p.narrow(o.Only); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// decide fills in what is to be done about a resource, given what is declared, what is there,
// and the outputs that are known.
func (p *Plan) decide(c *Change, known Outputs) {
	switch {
	case c.resource == nil:
		leave(c, p.Options.Prune || p.Options.Destroy)
	case p.Options.Destroy:
		destroy(c, p.Stack)
	default:
		converge(c, p.Stack, known)
	}
	if c.live != nil {
		c.Precondition = Precondition{Exists: true, Owner: c.live.Owner}
		if slices.ContainsFunc(c.Diff, func(d FieldDiff) bool { return d.Before == masked }) {
			c.Precondition.Version = c.live.Version
		}
	}
	c.Digest = c.digest()
}

// converge fills in the change of a resource that the file declares.
func converge(c *Change, stack string, known Outputs) {
	r, l := c.resource, c.live
	want := resolveBody(r.Desired, known)
	if l == nil {
		c.Action = Create
		c.Diff = compareOwned(want, nil, r.Compare)
		if c.absent != nil && c.absent.Refused != nil {
			c.refuse(c.absent.Refused.Reason, c.absent.Refused.Error())
		}
		return
	}
	if l.Predicted != nil {
		c.Diff = compareWhole(l.Body, l.Predicted, r.Compare)
	} else {
		c.Diff = compareOwned(want, l.Body, r.Compare)
	}
	switch {
	case l.Owner != stack && l.Owner != "":
		c.refuse(ReasonOwned, fmt.Sprintf("it belongs to stack %q", l.Owner))
		return
	case l.Owner == "" && !r.Adopt:
		c.refuse(ReasonOwned, "it exists and bears no stack's name; `adopt: true` takes it over")
		return
	case l.Refused != nil:
		c.refuse(l.Refused.Reason, l.Refused.Error())
		return
	}
	c.Action = Update
	for _, diff := range c.Diff {
		strategy, ok := r.Immutable[listIndex.ReplaceAllString(diff.Path, "[*]")]
		if !ok {
			continue
		}
		c.Why = strategy.Why
		if strategy.Action == Refuse {
			c.refuse(ReasonImmutable, strategy.Why)
			return
		}
		c.Action = strategy.Action
	}
	if len(c.Diff) > 0 && l.Why != "" {
		c.Why = strings.TrimPrefix(c.Why+"; "+l.Why, "; ")
	}
	switch {
	case c.Action == Replace && (r.Protect || l.Protected):
		c.refuse(ReasonProtected, c.Why+", and it is protected")
	case len(c.Diff) > 0:
	case l.State == InProgress || l.State == Unhealthy:
		c.Action, c.Why = Wait, l.Status
	default:
		c.Action, c.Why = NoOp, l.Status
	}
}

// destroy fills in the change of a declared resource when everything is to go.
func destroy(c *Change, stack string) {
	c.Action = NoOp
	if c.live == nil || c.live.Owner != stack || c.resource.Retain {
		return
	}
	leave(c, true)
	c.Why = ""
	if c.Action == Refuse {
		c.Why = "it is protected: set `protect: false` in the file and apply that first"
	}
}

// leave fills in the change of something that has left the file.
func leave(c *Change, prune bool) {
	switch {
	case !prune:
		c.Action, c.Why = Keep, "it has left the file; --prune would remove it"
	case c.live.Attached:
		c.Action, c.Why = Detach, "it has left the file; it was attached, so it stays as it is"
	case c.live.Protected:
		c.refuse(ReasonProtected, "it has left the file, but it is protected: bring it back with `protect: false`, apply, and remove it then")
	default:
		c.Action, c.Why = Delete, "it has left the file"
	}
}

func (c *Change) refuse(reason Reason, why string) {
	c.Action, c.Reason, c.Why = Refuse, reason, why
}

// dropCovered takes out what goes away by itself with something it lives in.
func (p *Plan) dropCovered() {
	gone := map[Address]bool{}
	for _, c := range p.Changes {
		if c.Action == Delete {
			gone[c.Address] = true
		}
	}
	p.Changes = slices.DeleteFunc(p.Changes, func(c Change) bool {
		return c.Action == Delete && c.live.Within != "" && gone[c.live.Within]
	})
}

// narrow keeps the named changes and those that they depend on.
func (p *Plan) narrow(only []Address) error {
	byAddress := map[Address]*Change{}
	for i := range p.Changes {
		byAddress[p.Changes[i].Address] = &p.Changes[i]
	}
	keep := map[Address]bool{}
	var add func(Address)
	add = func(a Address) {
		if c := byAddress[a]; c != nil && !keep[a] {
			keep[a] = true
			for _, dependency := range c.DependsOn {
				add(dependency)
			}
		}
	}
	for _, a := range only {
		if byAddress[a] == nil {
			return fmt.Errorf("%s is not in this stack; it has %s", a, p.addresses())
		}
		add(a)
	}
	p.Changes = slices.DeleteFunc(p.Changes, func(c Change) bool { return !keep[c.Address] })
	p.Notes = slices.DeleteFunc(p.Notes, func(n Note) bool { return byAddress[n.Address] != nil && !keep[n.Address] })
	return nil
}

func (p *Plan) addresses() string {
	names := make([]string, len(p.Changes))
	for i, c := range p.Changes {
		names[i] = string(c.Address)
	}
	return strings.Join(names, ", ")
}

// sorted puts resources behind what they depend on, otherwise by address.
func sorted(resources []Resource) ([]Resource, error) {
	byAddress := make(map[Address]*Resource, len(resources))
	order := make([]Address, 0, len(resources))
	for i := range resources {
		r := &resources[i]
		if byAddress[r.Address] != nil {
			return nil, fmt.Errorf("%s is declared twice", r.Address)
		}
		byAddress[r.Address] = r
		order = append(order, r.Address)
	}
	slices.Sort(order)
	const visiting, visited = 1, 2
	mark := map[Address]int{}
	out := make([]Resource, 0, len(resources))
	var visit func(Address) error
	visit = func(a Address) error {
		switch mark[a] {
		case visited:
			return nil
		case visiting:
			return fmt.Errorf("%s depends on itself", a)
		}
		mark[a] = visiting
		for _, dependency := range slices.Sorted(slices.Values(byAddress[a].DependsOn)) {
			if byAddress[dependency] == nil {
				return fmt.Errorf("%s depends on %s, which is not declared", a, dependency)
			}
			if err := visit(dependency); err != nil {
				return err
			}
		}
		for _, before := range slices.Sorted(slices.Values(byAddress[a].After)) {
			if byAddress[before] == nil {
				continue
			}
			if err := visit(before); err != nil {
				return err
			}
		}
		mark[a] = visited
		out = append(out, *byAddress[a])
		return nil
	}
	for _, a := range order {
		if err := visit(a); err != nil {
			return nil, err
		}
	}
	return out, nil
}
