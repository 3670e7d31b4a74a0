// Package cluster runs a real Kubernetes cluster on loopback for the sandbox:
// no Docker, no root, nothing outside one folder.
package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/amlaks/amlaks/reconcile/sandbox/cluster/internal/isolate"
)

// Pool is a node pool as AKS has it: Count nodes of one VM size.
type Pool struct {
	Name, VMSize string
	Count        int
	Labels       map[string]string
	// Taints are key=value:Effect or key:Effect.
	Taints []string
}

// Options of a cluster.
type Options struct {
	// Dir holds all of the cluster: keys, etcd's data, logs, images, volumes.
	// A cluster that is started on it again is the same cluster.
	Dir string
	// Name is the cluster's in its kubeconfig.
	Name string
	// Binary is what Binary returned.
	Binary string
	Pools  []Pool
	// Registry is host:port of the plain HTTP registry on loopback that images may come from.
	Registry string
	// Hollow nodes have no machine behind them: every pod is Ready at once, and nothing runs.
	Hollow bool
	Logf   func(string, ...any)
}

// Cluster is a running one.
type Cluster struct {
	dir, name, binary string
	registry          string
	hollow            bool
	logf              func(string, ...any)
	state             *state
	pki               pki
	kubeconfig        []byte
	client            kubernetes.Interface
	spawner           *spawner

	cancel context.CancelFunc
	parts  []*component
	nodes  *nodes
	stop   sync.Once
}

// Start starts the cluster and returns when its API server is ready and all
// its nodes are Ready. ctx bounds the start only; Stop ends the cluster.
func Start(ctx context.Context, o Options) (_ *Cluster, err error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	for _, d := range []string{dir, filepath.Join(dir, "log")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	c := &Cluster{
		dir: dir, name: o.Name, binary: o.Binary, registry: o.Registry, hollow: o.Hollow, logf: o.Logf,
		pki: pki{filepath.Join(dir, "pki")}, spawner: newSpawner(),
	}
	running, cancel := context.WithCancel(withLog(context.WithoutCancel(ctx), o.Logf))
	c.cancel = cancel
	defer func() {
		if err != nil {
			c.Stop()
		}
	}()
	if !o.Hollow {
		if err := isolate.Check(c.spawner.start, dir); err != nil {
			return nil, fmt.Errorf("pods cannot run on this machine: %w", err)
		}
	}
	if c.state, err = openState(dir); err != nil {
		return nil, err
	}
	if err := c.pki.ensure(c.state.address()); err != nil {
		return nil, fmt.Errorf("make the cluster's keys: %w", err)
	}
	if c.kubeconfig, err = c.makeKubeconfig(); err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(dir, "kubeconfig"), c.kubeconfig, 0o600); err != nil {
		return nil, err
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(c.kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = -1, -1 // one machine, one user: nothing to be polite to
	config.WarningHandler = rest.NoWarnings{}
	if c.client, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	if err := c.state.awaitFree(ctx); err != nil {
		return nil, err
	}
	parts, err := c.components()
	if err != nil {
		return nil, err
	}
	for _, part := range parts {
		// Each needs the one before it, and waits long between its tries.
		switch part.name {
		case "kube-apiserver":
			err = c.await(ctx, "etcd", c.etcdListens)
		case "kube-controller-manager":
			err = c.await(ctx, "the API server", c.apiServerReady)
		}
		if err != nil {
			return nil, err
		}
		c.parts = append(c.parts, part)
		go part.run(running, c.spawner, c.logf)
	}
	if c.nodes, err = startNodes(running, c); err != nil {
		return nil, fmt.Errorf("start the nodes: %w", err)
	}
	if err := c.SetPools(ctx, o.Pools); err != nil {
		return nil, err
	}
	return c, nil
}

// startTimeout is for one component on a machine that is busy with other work.
const startTimeout = 3 * time.Minute

// await waits until a component does its work.
func (c *Cluster) await(ctx context.Context, what string, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := poll(ctx, ready); err != nil {
		return fmt.Errorf("%s is not ready (see %s): %w", what, filepath.Join(c.dir, "log"), err)
	}
	return nil
}

func (c *Cluster) etcdListens(ctx context.Context) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp4", c.state.endpoint(portEtcd))
	if err != nil {
		return err
	}
	return conn.Close()
}

func (c *Cluster) apiServerReady(ctx context.Context) error {
	_, err := c.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	return err
}

// RestartAPIServer kills the API server, as a crash does, and returns when the one that its
// supervisor starts in its place is ready.
func (c *Cluster) RestartAPIServer(ctx context.Context) error {
	for _, part := range c.parts {
		if part.name == "kube-apiserver" {
			if err := part.kill(ctx); err != nil {
				return err
			}
		}
	}
	return c.await(ctx, "the API server", c.apiServerReady)
}

// pollEvery is for things on this machine that take tenths of a second.
const pollEvery = 30 * time.Millisecond

// poll tries until try succeeds or ctx is done, and gives the last error.
func poll(ctx context.Context, try func(context.Context) error) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// MaybeRunContainer does the work of a container's process, and never returns,
// in a process that a Cluster has started for that; in any other it returns at
// once. Pods run as copies of the program that started the Cluster, so its main
// (and TestMain in tests) must call this before all else.
func MaybeRunContainer() { isolate.Main() }

// Kubeconfig is the administrator's.
func (c *Cluster) Kubeconfig() []byte { return slices.Clone(c.kubeconfig) }

// Stop ends the pods, the nodes and the control plane, and returns when none
// of their processes is left. What the cluster holds stays in its folder.
func (c *Cluster) Stop() {
	c.stop.Do(func() {
		if c.nodes != nil {
			c.nodes.stop()
		}
		c.cancel()
		for _, part := range c.parts {
			<-part.done
		}
		c.spawner.close()
		if c.state != nil {
			c.state.close()
		}
	})
}
