package azure

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

// DriverName is the driver's Name.
const DriverName = "azure"

// Outputs of the resources of this driver.
const (
	OutputLocation   = "location"   // workspace, cluster: region
	OutputRegistry   = "registry"   // workspace: login server, host or host:port
	OutputKubeconfig = "kubeconfig" // cluster: secret
	OutputID         = "id"         // cluster: resource ID
)

// The tags by which an AKS cluster is known to amlaks.
const (
	tagStack    = "amlaks-stack"
	tagProtect  = "amlaks-protect"
	tagAttached = "amlaks-attached-" // + stack; its value is the cluster's name in the file
	tagPool     = "amlaks-pool"      // of an AKS pool with another name than in the file: that name
)

// WorkspaceAddress is the address of the stack's workspace.
func WorkspaceAddress(s *spec.Stack) reconcile.Address {
	return reconcile.Address("workspace/" + s.Workspace.Name)
}

// WorkspaceID is the resource ID of the stack's workspace.
func WorkspaceID(s *spec.Stack) string {
	w := s.Workspace
	return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.MachineLearningServices/workspaces/%s", w.SubscriptionID, w.ResourceGroup, w.Name)
}

// ClusterAddress is the address of a cluster by its name in the file.
func ClusterAddress(name string) reconcile.Address {
	return reconcile.Address("cluster/" + name)
}

func poolAddress(cluster reconcile.Address, pool string) reconcile.Address {
	return cluster + reconcile.Address("/pool/"+pool)
}

// Driver is the reconcile.Driver of this package.
type Driver struct {
	arm     *client
	prices  string // where prices are asked for
	stack   *spec.Stack
	options Options

	settleEvery  time.Duration
	principalFor time.Duration

	mu       sync.Mutex
	writers  map[string]*sync.Mutex // by cluster ID: AKS takes one operation at a time
	versions map[string][]release   // of Kubernetes, by region
}

// Options are what the driver needs beside a connection. The zero value works, but for what
// a field says.
type Options struct {
	// Advice makes plans say more than their changes; nil: nothing is asked for that.
	Advice *Advice
	// Nodes empties the nodes of a pool that is rotated. Without it no pool can be.
	Nodes Nodes
}

// New makes the driver of one run over one stack.
func New(connection *Connection, stack *spec.Stack, o Options) (*Driver, error) {
	c, err := newClient(connection)
	if err != nil {
		return nil, err
	}
	return &Driver{
		arm: c, prices: priceList(connection), stack: stack, options: o, settleEvery: settleEvery, principalFor: principalFor,
		writers: map[string]*sync.Mutex{}, versions: map[string][]release{},
	}, nil
}

// Name implements reconcile.Driver.
func (d *Driver) Name() string { return DriverName }

// Apply implements reconcile.Driver.
func (d *Driver) Apply(ctx context.Context, step reconcile.Step) (map[string]string, error) {
	if p := partOf(step); p != nil {
		return p.apply(ctx, d, step)
	}
	target, err := d.target(step)
	if err != nil {
		return nil, err
	}
	if step.Change.Action == reconcile.Rotate {
		return nil, d.rotate(ctx, step, target)
	}
	release := d.hold(target.clusterID)
	defer release()
	switch {
	case target.attached:
		return d.applyAttached(ctx, step, target)
	case target.pool != "":
		return nil, d.applyPool(ctx, step, target)
	default:
		return d.applyCluster(ctx, step, target)
	}
}

// target is what a step works on.
type target struct {
	clusterID string
	id        string // of the cluster or the pool
	pool      string // its name in the file; empty for a cluster
	attached  bool
	members   []member // the AKS pools that stand for a live pool
	drains    []string // those of them that have to go
}

// target reads it off the declared resource, or off the live one when it has left the file.
func (d *Driver) target(step reconcile.Step) (target, error) {
	if step.Live != nil {
		if t, ok := step.Live.Handle.(target); ok {
			return t, nil
		}
	}
	if step.Resource != nil {
		switch declared := step.Resource.Spec.(type) {
		case *clusterSpec:
			return target{clusterID: declared.id, id: declared.id, attached: declared.Attach != nil}, nil
		case *poolSpec:
			return target{clusterID: declared.clusterID, id: declared.id, pool: declared.name}, nil
		}
	}
	return target{}, fmt.Errorf("%s is not a cluster or a pool", step.Change.Address)
}

// hold waits until no other step of this run writes to the cluster.
func (d *Driver) hold(clusterID string) (release func()) {
	d.mu.Lock()
	writer := d.writers[clusterID]
	if writer == nil {
		writer = new(sync.Mutex)
		d.writers[clusterID] = writer
	}
	d.mu.Unlock()
	writer.Lock()
	return writer.Unlock
}
