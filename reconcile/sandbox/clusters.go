package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

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
	logf       func(string, ...any)

	mu      sync.Mutex
	started map[string]*started
}

// started is one cluster; its lock makes calls for the same cluster follow one another.
type started struct {
	mu      sync.Mutex
	cluster *cluster.Cluster
}

func newClusters(ctx context.Context, s *Sandbox) (*clusters, error) {
	c := &clusters{
		dir: s.path("clusters"), kubeconfig: s.options.Kubeconfig, registry: s.Registry(), logf: s.options.Logf, started: map[string]*started{},
	}
	if c.kubeconfig != nil {
		return c, nil
	}
	var err error
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
		c.started[id] = &started{}
	}
	return c.started[id]
}

// Apply implements arm.Kubernetes.
func (c *clusters) Apply(ctx context.Context, id string, pools []arm.Pool) error {
	if c.kubeconfig != nil {
		return nil
	}
	nodes := make([]cluster.Pool, len(pools))
	for i, pool := range pools {
		nodes[i] = cluster.Pool{Name: pool.Name, VMSize: pool.VMSize, Count: pool.Count, Labels: pool.Labels, Taints: pool.Taints}
	}
	entry := c.entry(id)
	entry.mu.Lock()
	defer entry.mu.Unlock()
	if entry.cluster != nil {
		return entry.cluster.SetPools(ctx, nodes)
	}
	dir := c.folder(id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	started, err := cluster.Start(ctx, cluster.Options{
		Dir: dir, Name: filepath.Base(id), Binary: c.binary, Pools: nodes, Registry: c.registry,
		Logf: func(format string, args ...any) { c.logf(filepath.Base(id)+": "+format, args...) },
	})
	if err != nil {
		return err
	}
	entry.cluster = started
	return nil
}

// Kubeconfig implements arm.Kubernetes.
func (c *clusters) Kubeconfig(id string) ([]byte, error) {
	if c.kubeconfig != nil {
		return c.kubeconfig, nil
	}
	entry := c.entry(id)
	if !entry.mu.TryLock() { // held while it starts
		return nil, errors.New("it is being started")
	}
	defer entry.mu.Unlock()
	if entry.cluster == nil {
		return nil, errors.New("it is not running")
	}
	return entry.cluster.Kubeconfig(), nil
}

// Remove implements arm.Kubernetes.
func (c *clusters) Remove(_ context.Context, id string) error {
	entry := c.entry(id)
	entry.mu.Lock()
	defer entry.mu.Unlock()
	if entry.cluster != nil {
		entry.cluster.Stop()
		entry.cluster = nil
	}
	return os.RemoveAll(c.folder(id))
}

// folder is that of a cluster: its resource group and name are unique together.
func (c *clusters) folder(id string) string {
	parts := strings.Split(id, "/") // "", subscriptions, S, resourcegroups, G, providers, P, managedclusters, NAME
	return filepath.Join(c.dir, parts[4]+"_"+parts[8])
}

func (c *clusters) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	var stopping sync.WaitGroup
	for _, entry := range c.started {
		stopping.Go(func() {
			entry.mu.Lock()
			defer entry.mu.Unlock()
			if entry.cluster != nil {
				entry.cluster.Stop()
				entry.cluster = nil
			}
		})
	}
	stopping.Wait()
}
