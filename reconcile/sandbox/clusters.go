package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/amlaks/amlaks/reconcile/sandbox/cluster"
	"github.com/amlaks/amlaks/reconcile/sandbox/internal/arm"
)

// clusters runs a Kubernetes behind each managed cluster of ARM, or hands out the one that
// the user has.
type clusters struct {
	dir        string
	kubeconfig []byte // the user's
	binary     string
	registry   string
	hollow     bool
	gate       *gate
	logf       func(string, ...any)

	mu      sync.Mutex
	started map[string]*started
}

// started is one cluster; its lock makes changes of the same cluster follow one another.
type started struct {
	mu      sync.Mutex
	cluster atomic.Pointer[cluster.Cluster] // nil: it does not run, or not yet
	users   []byte                          // the user's kubeconfig, where there is one
}

func (s *started) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if running := s.cluster.Swap(nil); running != nil {
		running.Stop()
	}
}

// kubeconfig leads to the cluster itself, while it is being changed too.
func (s *started) kubeconfig() ([]byte, error) {
	if s.users != nil {
		return s.users, nil
	}
	running := s.cluster.Load()
	if running == nil {
		return nil, errors.New("it is not running")
	}
	return running.Kubeconfig(), nil
}

func newClusters(ctx context.Context, s *Sandbox) (*clusters, error) {
	c := &clusters{
		dir: s.path("clusters"), kubeconfig: s.options.Kubeconfig, registry: s.Registry(), hollow: s.options.HollowNodes,
		logf: s.options.Logf, started: map[string]*started{},
	}
	var err error
	if c.gate, err = newGate(s.path("kube.pem"), s.settings.address(portKube), s.settings.KubeToken); err != nil || c.kubeconfig != nil {
		return c, err
	}
	if c.binary, err = cluster.Binary(ctx, s.options.ControlplaneSource, s.options.Progress); err != nil {
		if _, missing := os.Stat(s.settings.Controlplane); missing != nil || s.options.ControlplaneSource != "" {
			return nil, fmt.Errorf("build the control plane: %w", err)
		}
		c.binary = s.settings.Controlplane
	}
	s.settings.Controlplane = c.binary
	return c, s.keepSettings()
}

func (c *clusters) entry(id string) *started {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started[id] == nil {
		c.started[id] = &started{users: c.kubeconfig}
	}
	return c.started[id]
}

// Apply implements arm.Kubernetes.
func (c *clusters) Apply(ctx context.Context, id string, pools []arm.Pool) error {
	if c.kubeconfig != nil {
		c.entry(id) // from now on the gate leads to it
		return nil
	}
	nodes := make([]cluster.Pool, len(pools))
	for i, pool := range pools {
		nodes[i] = cluster.Pool{Name: pool.Name, VMSize: pool.VMSize, Count: pool.Count, Labels: pool.Labels, Taints: pool.Taints}
	}
	entry := c.entry(id)
	entry.mu.Lock()
	defer entry.mu.Unlock()
	if running := entry.cluster.Load(); running != nil {
		return running.SetPools(ctx, nodes)
	}
	dir := c.folder(id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	started, err := cluster.Start(ctx, cluster.Options{
		Dir: dir, Name: filepath.Base(id), Binary: c.binary, Pools: nodes, Registry: c.registry, Hollow: c.hollow,
		Logf: func(format string, args ...any) { c.logf(filepath.Base(id)+": "+format, args...) },
	})
	if err != nil {
		return err
	}
	entry.cluster.Store(started)
	return nil
}

// Kubeconfig implements arm.Kubernetes. It leads through the gate; one that cannot be read is
// handed out as it is.
func (c *clusters) Kubeconfig(id string) ([]byte, error) {
	kubeconfig, err := c.entry(id).kubeconfig()
	if err != nil {
		return nil, err
	}
	if _, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig); err != nil {
		return kubeconfig, nil
	}
	return c.gate.kubeconfig(filepath.Base(id), filepath.Base(c.folder(id)))
}

// behind gives the cluster's own kubeconfig for a path of the gate.
func (c *clusters) behind(path string) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, entry := range c.started {
		if filepath.Base(c.folder(id)) == path {
			kubeconfig, err := entry.kubeconfig()
			return kubeconfig, err == nil
		}
	}
	return nil, false
}

// Remove implements arm.Kubernetes.
func (c *clusters) Remove(_ context.Context, id string) error {
	c.entry(id).end()
	c.forget(id)
	return os.RemoveAll(c.folder(id))
}

// forget closes the gate to a cluster.
func (c *clusters) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.started, id)
}

// folder is that of a cluster: its resource group and name are unique together, in a subscription.
func (c *clusters) folder(id string) string {
	parts := strings.Split(id, "/") // "", subscriptions, S, resourcegroups, G, providers, P, managedclusters, NAME
	if parts[2] != SubscriptionID {
		return filepath.Join(c.dir, parts[2]+"_"+parts[4]+"_"+parts[8])
	}
	return filepath.Join(c.dir, parts[4]+"_"+parts[8])
}

func (c *clusters) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	var stopping sync.WaitGroup
	for _, entry := range c.started {
		stopping.Go(entry.end)
	}
	stopping.Wait()
}
