// Package kube is the driver for what lives in a cluster: the namespace of a stack, its
// front end, and for each service a Deployment, a Service and its keys.
//
// Everything is written by server-side apply under the field manager "amlaks", and found
// again by the label amlaks.io/stack. Observation is one LIST for each kind in the stack's
// namespace, page by page; an object whose fields owned by that manager are what would be
// sent is unchanged, with no further request, and otherwise a dry-run of the apply decides.
package kube

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

// DriverName is the driver's Name.
const DriverName = "kube"

// The labels that everything amlaks makes bears.
const (
	LabelStack   = "amlaks.io/stack"
	LabelService = "amlaks.io/service"
	LabelKeys    = "amlaks.io/keys" // "true" on the Secrets that hold a service's keys
	labelManaged = "app.kubernetes.io/managed-by"
	labelName    = "app.kubernetes.io/name"
)

// Field managers. Keys have their own, so that applying the rest of their Secret never
// takes them away.
const (
	manager     = "amlaks"
	keysManager = "amlaks-keys"
)

// OutputAddress is an output of a cluster's front end Service: where it is reached,
// http://HOST[:PORT], or https://CNAME[:PORT].
const OutputAddress = "address"

// OutputHost is an output of it too: the load balancer's own IP address or host name, to which
// DNS is to lead the name of its certificate.
const OutputHost = "host"

// Wiring says under which outputs other drivers give what this one needs, and who reads for it
// what is not theirs.
type Wiring struct {
	Kubeconfig func(cluster string) reconcile.Ref
	// Location is the region of a cluster, as Resource Manager writes it. nil: names that it is
	// part of are not told.
	Location      func(cluster string) reconcile.Ref
	Image         func(service, version string) reconcile.Ref
	FrontEndImage reconcile.Ref
	// PullGranted, if not nil, says since when a cluster may pull from the registry (RFC 3339).
	// Deployments come after it, and a pull that fails soon after that is waited out.
	PullGranted func(cluster string) reconcile.Ref
	// Vault reads a secret of Key Vault, or the one behind a certificate, by its URI. nil:
	// there is none to read from.
	Vault func(ctx context.Context, uri string) (value, contentType string, err error)
	// Now is the clock by which certificates expire; nil: the machine's.
	Now func() time.Time
}

// Driver is the reconcile.Driver of this package.
type Driver struct {
	stack    *spec.Stack
	wiring   Wiring
	readOnly bool
	getenv   func(string) string
	comparer *comparer
	// wrap, if not nil, sees every request: tests count them.
	wrap func(http.RoundTripper) http.RoundTripper

	mu      sync.Mutex
	clients map[string]*client // by kubeconfig
	lock    *LockOptions       // nil: this run keeps nobody out
	leases  map[*client]*lease
}

// New makes the driver of one run over one stack. A read-only one refuses every request
// that could change something. Secrets that the file refers to are read through getenv.
func New(stack *spec.Stack, wiring Wiring, getenv func(string) string, readOnly bool) *Driver {
	return &Driver{
		stack: stack, wiring: wiring, readOnly: readOnly, getenv: getenv, clients: map[string]*client{}, leases: map[*client]*lease{},
		comparer: newComparer(),
	}
}

// Name implements reconcile.Driver.
func (d *Driver) Name() string { return DriverName }

// Namespace is where a stack's objects live in its clusters.
func Namespace(stack string) string { return "amlaks-" + stack }

// Address is that of an object in a cluster.
func Address(cluster, kind, name string) reconcile.Address {
	return reconcile.Address(fmt.Sprintf("kube/%s/%s/%s", cluster, kind, name))
}

// client gives the one client of a cluster for the whole run.
func (d *Driver) client(kubeconfig string) (*client, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.clients[kubeconfig]; c != nil {
		return c, nil
	}
	c, err := newClient(kubeconfig, d.readOnly, d.wrap)
	if err != nil {
		return nil, err
	}
	d.clients[kubeconfig] = c
	return c, nil
}

// Apply implements reconcile.Driver.
func (d *Driver) Apply(ctx context.Context, step reconcile.Step) (map[string]string, error) {
	if step.Live != nil && step.Resource == nil || step.Change.Action == reconcile.Delete {
		return nil, d.remove(ctx, step)
	}
	o, c, err := d.reach(step)
	if err != nil {
		return nil, err
	}
	if o.kind != kindNamespace { // which it is in may be new
		if _, err := d.hold(ctx, c, time.Time{}); err != nil {
			return nil, err
		}
	}
	if step.Change.Action != reconcile.Wait {
		if err := d.write(ctx, c, o, step); err != nil {
			return nil, err
		}
	}
	step.Waiting()
	switch {
	case o.kind == kindDeployment:
		return nil, c.waitRollout(ctx, o.namespace, o.name, d.pullsBy(o.cluster, step.Outputs), step.Progress)
	case o.kind == kindService && o.frontEnd:
		return c.waitAddress(ctx, o, step.Progress)
	}
	return nil, nil
}
