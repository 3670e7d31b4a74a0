package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/amlaks/amlaks/reconcile/sandbox/cluster"
)

// controlPlane starts a new, empty Kubernetes and gives the file of its kubeconfig. It has no
// node: no Deployment here has a replica.
func (r *report) controlPlane(ctx context.Context) (kubeconfig string, stop func(), err error) {
	binary, err := cluster.Binary(ctx, "", os.Stderr)
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp(r.dir, "cluster-")
	if err != nil {
		return "", nil, err
	}
	c, err := cluster.Start(ctx, cluster.Options{Dir: dir, Name: "bench", Binary: binary})
	if err != nil {
		return "", nil, err
	}
	return filepath.Join(dir, "kubeconfig"), c.Stop, nil
}

// child measures this program's own verb over a stack of so many services.
func (r *report) child(ctx context.Context, verb, kubeconfig string, services int) (usage, error) {
	self, err := os.Executable()
	if err != nil {
		return usage{}, err
	}
	return told(ctx, self, "ours", verb, kubeconfig, stackName(services), fmt.Sprint(services))
}

// objects writes the stack's objects into a file, for peers.
func (r *report) objects(ctx context.Context, kubeconfig string, services int) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	u, err := measure(ctx, nil, nil, self, "ours", "render", kubeconfig, stackName(services), fmt.Sprint(services))
	if err != nil {
		return "", err
	}
	file := filepath.Join(r.dir, fmt.Sprintf("objects-%d.json", services))
	return file, os.WriteFile(file, u.stdout, 0o600)
}

// stackName keeps stacks of different sizes apart in one cluster.
func stackName(services int) string { return fmt.Sprintf("bench-%d", services) }
