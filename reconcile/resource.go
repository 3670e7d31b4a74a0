// Package reconcile is the engine of amlaks: it compares what a stack's file
// declares with what is there, and does what is missing.
//
// Data goes one way. Drivers render [Resource]s and observe [Live] ones;
// [NewPlan], which is pure, compares the two into a [Plan]; [Apply] walks the
// plan's graph and tells what happens as [Event]s. There is no state file: who
// owns an object is written on the object.
//
// The engine knows no Azure, no registry and no Kubernetes. What one driver
// needs of another (a kubeconfig, an image digest) passes through it as an
// output of a resource.
package reconcile

import (
	"context"
	"time"
)

// Address names a resource in a stack, for ever: cluster/prod, image/churn,
// kube/prod/Deployment/churn. It is what --only takes and what plans show.
type Address string

// Ref stands in a Desired body, or among Inputs, for a value that another
// resource has when it is there.
type Ref struct {
	Address Address
	Output  string
}

// Unknown is what a Ref becomes in a plan when its resource is not there yet.
const Unknown = "(known after apply)"

// Outputs are what resources give to those that depend on them, by address and
// output name. They may hold secrets (a kubeconfig), so they never leave the process.
type Outputs map[Address]map[string]string

// Resource is one thing a stack declares.
type Resource struct {
	Address   Address
	Driver    string    // the Name of the driver that observes and applies it
	DependsOn []Address // what must be there first
	// After is what it waits for and can do without: if that is changed by the same plan, its
	// end is waited for, whatever it is.
	After []Address
	// Inputs are what the driver needs to reach or make it, beside Desired. They are not shown.
	Inputs map[string]Ref
	// Desired is the JSON body (nil, bool, float64, string, []any, map[string]any, and Ref)
	// that holds only what the file owns: a path that is not in it is somebody else's.
	Desired map[string]any
	// Compare says how the paths that are not compared exactly are; see [Comparator].
	Compare map[string]Comparator
	// Immutable says what a change of a path that cannot be updated means.
	Immutable map[string]Strategy
	// Protect refuses to delete or replace it, and is written on the live object.
	Protect bool
	// Adopt takes over a live one that bears no stack's name.
	Adopt bool
	// Data: read, never written. The plan does not list it.
	Data bool
	// Optional: nothing needs it. When it fails that is told, and holds nothing else back.
	Optional bool
	// Retain: made, never deleted, not even by destroy (an image in a registry).
	Retain bool
	// Summary is what it is, in a few words: the line that a plan shows of a creation.
	Summary string
	// Spec is what the driver rendered it from, for the driver's own use.
	Spec any
}

// Comparator is how two values at a path are compared.
type Comparator string

// The comparators. A path without one is compared exactly.
const (
	Fold       Comparator = "fold"       // letters' case does not matter
	Region     Comparator = "region"     // "West Europe" is westeurope
	Set        Comparator = "set"        // a list whose order does not matter
	CIDRSet    Comparator = "cidrSet"    // such a list of address ranges: 203.0.113.7 is 203.0.113.7/32
	Minor      Comparator = "minor"      // 1.36 means any 1.36.x
	WriteOnly  Comparator = "writeOnly"  // never read back: no difference can be seen; shown masked
	CreateOnly Comparator = "createOnly" // counts when it is made, and not afterwards
	Sensitive  Comparator = "sensitive"  // compared exactly, shown masked, with all below it
	exact      Comparator = ""
)

// Strategy is what the plan makes of a change to an immutable path.
type Strategy struct {
	Action Action // Rotate, Replace or Refuse
	Why    string // the sentence shown in the plan
}

// State is how a live resource is doing.
type State string

// The states of a live resource.
const (
	Settled    State = "settled"
	InProgress State = "inProgress" // an operation is running on it; join it
	Unhealthy  State = "unhealthy"  // there, but not doing its work
)

// Live is a resource as it was observed. One that was not observed is not there.
type Live struct {
	Address Address
	Driver  string
	// Absent: it is not there. Refused and Notes, which say why making it would fail and what
	// else is known of it, are all that counts then.
	Absent bool
	// Owner is the stack whose name it bears; empty: nobody's.
	Owner string
	// Body is what is there. It may hold more than the file owns.
	Body map[string]any
	// Predicted, if not nil, is the server's own word (a server-side-apply dry-run) on what
	// Desired would make of Body. The plan then compares the two whole.
	Predicted map[string]any
	// Refused, if not nil, is the server's own word that it would not make Desired of Body.
	Refused *Failure
	// Version is the ETag or resourceVersion it was observed at.
	Version string
	State   State
	Status  string // a sentence on State, for people
	// Why is what a plan says of an update of it: by which steps, or how far an earlier run got.
	// It may be another each time, and is part of no digest.
	Why string
	// Protected: whoever made it wrote on it that it must not be deleted.
	Protected bool
	// Attached: made by somebody else; leaving the file detaches it and deletes nothing.
	Attached bool
	// Notes are what a plan is to say of it beside the change.
	Notes []Note
	// DependsOn orders the deletion of one that has left the file: it goes before these.
	DependsOn []Address
	// Within is what it lives in: when that is deleted, it needs no deletion of its own.
	Within Address
	// Handle is the driver's own: what it needs to work on the resource later.
	Handle  any
	Outputs map[string]string
}

// Request is what a driver is asked to observe.
type Request struct {
	Stack string
	// Resources are the driver's own, their Refs resolved, or Unknown.
	Resources []Resource
	// Outputs are those of everything observed so far, of other drivers too.
	Outputs Outputs
	// Inputs are the resolved Inputs of Resources, where they are known.
	Inputs Outputs
}

// Step is one change for a driver to carry out.
type Step struct {
	Stack  string
	Change Change
	// Desired is the resource's body with every Ref resolved; nil for a deletion.
	Desired map[string]any
	// Inputs are the resource's, resolved. For a deletion they are empty.
	Inputs map[string]string
	// Outputs are everything known now.
	Outputs Outputs
	// Live is as observed by the plan; nil for a creation.
	Live *Live
	// Resource is nil for a deletion.
	Resource *Resource
	// Progress tells what the step is doing or waiting for.
	Progress func(message string)
	// Waiting tells that from now on the step only looks whether it has taken effect: another
	// change may begin. It may be called more than once.
	Waiting func()
}

// Driver brings one kind of world (Azure, a registry, a cluster) to the engine.
// Its methods may be called from many goroutines.
type Driver interface {
	Name() string
	// Observe reads, and only reads: what is there of the resources, and everything else
	// that bears the stack's name. Not to be there is not an error.
	Observe(context.Context, Request) ([]Live, error)
	// Read is Observe of the one resource of a step, right before it is carried out; nil if it
	// is not there. Like Observe it only reads.
	Read(context.Context, Step) (*Live, error)
	// Apply carries out one change and waits until it has taken effect. It must be safe to
	// repeat: a process killed at any point leaves nothing that a second run does not finish.
	Apply(context.Context, Step) (outputs map[string]string, err error)
}

// Phase is where in its life an event finds a change.
type Phase string

// The phases of a change.
const (
	Started  Phase = "started"
	Progress Phase = "progress"
	Done     Phase = "done"
	Failed   Phase = "failed"
	Skipped  Phase = "skipped"
	Refused  Phase = "refused"
)

// Event is something that happened while a plan was applied.
type Event struct {
	Time    time.Time     `json:"time"`
	Address Address       `json:"address"`
	Action  Action        `json:"action"`
	Phase   Phase         `json:"phase"`
	Message string        `json:"message,omitempty"`
	Reason  Reason        `json:"reason,omitempty"` // of a change that failed, was skipped or refused
	Hint    string        `json:"hint,omitempty"`
	Elapsed time.Duration `json:"elapsedNs"`
}
