// Package drivertest is the conformance suite that every driver of the engine passes.
//
// A driver's own test describes its [World] (a real server below the wire, and what a
// resource of the driver is like) and calls [Run], which walks one resource of it, the
// subject, through its whole life: absent, made, unchanged, changed, drifted, left, foreign,
// with answers that are lost, runs that are killed and runs that meet each other.
//
// Everything is seen from two sides: through the driver, as the engine sees it, and past it,
// by the world's own look at the server. Requests are counted on the wire, below the driver's
// retries and guards. What a driver cannot have by its nature is said in [Nature], with a
// reason that the test's output shows, and the suite then checks the counterpart: nothing is skipped.
package drivertest

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"testing"

	"github.com/amlaks/amlaks/reconcile"
)

// Revision is a state of the stack's file.
type Revision string

// The revisions that a world must be able to open.
const (
	Base      Revision = "base"      // the subject is declared, neither protected nor adopting
	Changed   Revision = "changed"   // as Base, but the subject's body differs in World.Changed
	Without   Revision = "without"   // the subject has left the file; what it depends on is still there
	Adopting  Revision = "adopting"  // as Base, and takes over what bears no stack's name
	Protected Revision = "protected" // as Base, and must not be deleted
)

// World is what the suite has to know of a driver.
type World struct {
	// Start makes an empty place. The suite makes many of them, side by side.
	Start func(t *testing.T) Place
	// Subject is the address of the resource under test.
	Subject reconcile.Address
	// Changed are the paths at which Base and Changed differ.
	Changed []string
	// Drifted are the paths that Place.Drift changes.
	Drifted []string
	// Writes tells whether a request could change something; nil: all but GET and HEAD.
	Writes func(*http.Request) bool
	Nature Nature
}

// Nature says what resources of a driver cannot have, each with the reason why. The empty
// one promises everything.
type Nature struct {
	// ContentAddressed: its name is the hash of what it is. A changed one is another one made
	// beside it, and the only drift there is, is that it has gone.
	ContentAddressed string
	// Retained: it is never deleted, not even by destroy.
	Retained string
	// Ownerless: it bears no stack's name, or another's rightly so; what Place.Foreign makes
	// is beside it and stays as it is.
	Ownerless string
	// Attached: it is there before, so that making it is an update; leaving it is a detach.
	Attached string
	// Within: it lives in something of the stack, which is the one thing to destroy, with all in it.
	Within string
	// Unchangeable: all that is owned of it is in its address. Changed changes what is not.
	Unchangeable string
	// Unprotected: the file cannot protect it.
	Unprotected string
	// Hidden: Changed changes a value that no plan shows. Whatever else is written to it between
	// plan and apply makes the plan stale, because that value might be it.
	Hidden string
	// NoSecrets: the driver never sees one.
	NoSecrets string
}

// Invocation is one run of amlaks over a place.
type Invocation struct {
	Stack    string // one of Place.Stacks
	Revision Revision
	ReadOnly bool
	// Wrap must be put below everything that the driver does to its requests (retries,
	// guards), right above the connection.
	Wrap func(http.RoundTripper) http.RoundTripper
}

// Place is one world with two stacks, which have nothing in it yet. Its methods other than
// Open act past the driver, as somebody else with all rights would; those that cannot do
// what they are for end the test.
type Place interface {
	// Stacks are the names of the stack under test and of another one, which declares a
	// resource like the subject for itself, at any address.
	Stacks() (ours, theirs string)
	// Open makes the drivers and renders the resources of one run, as a new process would.
	// The subject's driver is the last; those before it may stand for others, whose
	// resources the subject needs.
	Open(t *testing.T, i Invocation) ([]reconcile.Driver, []reconcile.Resource)
	// Live is what is there at the place of a stack's subject as the server has it, whoever
	// it belongs to, without what the server changes by itself; "" if nothing is.
	Live(t *testing.T, stack string) string
	// Objects names everything in the world, sorted. The name of a stack is not in them, so
	// that those of two places can be compared.
	Objects(t *testing.T) []string
	// Drift changes the subject at World.Drifted.
	Drift(t *testing.T)
	// Touch changes something that the file does not own; look reads it back.
	Touch(t *testing.T) (look func() string)
	// Foreign makes what bears another owner's name, or with "" none, where our subject
	// would be (if Ownerless: beside it); look reads it back.
	Foreign(t *testing.T, owner string) (look func() string)
	// Remove takes our subject away, and is done when it is gone.
	Remove(t *testing.T)
	// Secrets are what no plan, event or error may hold: those that are known by now.
	Secrets(t *testing.T) []string
}

// width is how many parts of the suite run at a time.
const width = "12"

// Main runs the tests of a package and gives the exit code. More of them run side by side
// than there are processors, because they wait for servers more than they compute; -parallel
// says otherwise.
func Main(m *testing.M) int {
	if err := flag.Set("test.parallel", width); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	return m.Run()
}

// Run walks the driver through everything that the engine relies on.
func Run(t *testing.T, w World) {
	s := &suite{World: w, made: reconcile.Create, left: reconcile.Delete}
	if w.Writes == nil {
		s.Writes = func(r *http.Request) bool { return r.Method != http.MethodGet && r.Method != http.MethodHead }
	}
	if w.Nature.Attached != "" {
		s.made, s.left = reconcile.Update, reconcile.Detach
	}
	n := w.Nature
	for _, part := range []struct {
		name    string
		walk    func(*ground)
		natures []string // those that change what the part expects
	}{
		{"empty world", (*ground).emptyWorld, []string{n.Attached, n.Within}},
		{"plan is deterministic", (*ground).deterministic, nil},
		{"create, then nothing", (*ground).create, nil},
		{"update", (*ground).update, []string{n.ContentAddressed, n.Unchangeable}},
		{"drift", (*ground).drift, []string{n.ContentAddressed}},
		{"what is not owned", (*ground).unowned, nil},
		{"left the file", (*ground).leaves, []string{n.Retained, n.Attached}},
		{"protected", (*ground).protected, []string{n.Unprotected}},
		{"destroy", (*ground).destroy, []string{n.Retained, n.Attached}},
		{"gone already", (*ground).goneAlready, []string{n.Retained}},
		{"another stack's", (*ground).foreign, []string{n.Ownerless, n.Within}},
		{"nobody's", (*ground).nobodys, []string{n.Ownerless, n.Within}},
		{"appears meanwhile", (*ground).appears, []string{n.Ownerless}},
		{"two stacks", (*ground).twoStacks, []string{n.Retained}},
		{"read-only", (*ground).readOnly, []string{n.Unchangeable, n.Retained}},
		{"read", (*ground).read, []string{n.Unchangeable, n.Retained}},
		{"saved plan", (*ground).saved, []string{n.Unchangeable, n.Retained}},
		{"stale plan", (*ground).stale, []string{n.ContentAddressed, n.Unchangeable, n.Hidden}},
		{"secrets", (*ground).secrets, []string{n.NoSecrets}},
		{"in trouble", (*ground).trouble, []string{n.ContentAddressed, n.Unchangeable, n.Retained}},
	} {
		s.on(t, part.name, func(g *ground) {
			for _, why := range part.natures {
				if why != "" {
					g.t.Logf("by its nature: %s", why)
				}
			}
			part.walk(g)
		})
	}
}

// suite is a world and what its nature makes of the actions.
type suite struct {
	World
	made reconcile.Action // what makes the subject
	left reconcile.Action // what ends it
}

// on walks one part on a place of its own. Nothing that was said there may hold a secret.
func (s *suite) on(t *testing.T, name string, walk func(*ground)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		g := s.newGround(t)
		walk(g)
		g.wantSecretsKept()
	})
}

func (s *suite) newGround(t *testing.T) *ground {
	t.Helper()
	g := &ground{suite: s, t: t, place: s.Start(t), tap: &tap{created: map[string]int{}}}
	g.ours, g.theirs = g.place.Stacks()
	return g
}
