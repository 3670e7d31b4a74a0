package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure"
	"github.com/amlaks/amlaks/reconcile/image"
	"github.com/amlaks/amlaks/reconcile/kube"
	"github.com/amlaks/amlaks/reconcile/model"
	"github.com/amlaks/amlaks/spec"
)

// load reads the file and prints every diagnostic; an invalid one is an error.
func (a *app) load(file string) (*spec.Stack, error) {
	stack, diagnostics := spec.Load(file)
	if err := diagnostics.Format(a.err); err != nil {
		return nil, err
	}
	if stack == nil {
		return nil, diagnostics
	}
	return stack, nil
}

// session is one stack with the drivers that reach its world.
type session struct {
	stack     *spec.Stack
	target    string // the workspace's resource ID
	kube      *kube.Driver
	drivers   []reconcile.Driver
	resources []reconcile.Resource

	seen   reconcile.Outputs // by the last plan
	seenAt time.Time
}

// connect gives the way to Azure as who --auth says, in the workspace's cloud.
func (a *app) connect(w spec.Workspace, readOnly bool) (*azure.Connection, error) {
	return azure.Connect(a.getenv, version, readOnly, azure.Identity{
		Auth: a.auth, Cloud: w.Cloud, SubscriptionID: w.SubscriptionID,
	})
}

// open wires the drivers together: what one needs of another is said here, and nowhere else.
func (a *app) open(stack *spec.Stack, readOnly bool) (*session, error) {
	if a.getenv("GOGC") == "" {
		// From here on it waits for others most of its time, and memory is the dearer thing: a
		// first apply of 1,000 services takes 139 MiB this way, and 178 MiB without.
		debug.SetGCPercent(30)
	}
	connection, err := a.connect(stack.Workspace, readOnly)
	if err != nil {
		return nil, err
	}
	var kubeDriver *kube.Driver
	azureDriver, err := azure.New(connection, stack, azure.Options{
		Advice: a.advice(func() *kube.Driver { return kubeDriver }),
		Nodes:  kube.NewNodes(stack.Name, readOnly),
	})
	if err != nil {
		return nil, err
	}
	models, err := model.New(connection.Credential, connection.Options, modelOptions(stack.Workspace))
	if err != nil {
		return nil, err
	}
	frontEnd, err := a.frontEndBinary()
	if err != nil {
		return nil, err
	}
	imageDriver := image.New(image.Options{
		Models: models, FrontEndBinary: frontEnd, Keychain: image.ACRKeychain(connection.Credential), ReadOnly: readOnly,
		Registry: reconcile.Ref{Address: azure.WorkspaceAddress(stack), Output: azure.OutputRegistry},
	})
	kubeDriver = kube.New(stack, kube.Wiring{
		Kubeconfig: func(cluster string) reconcile.Ref {
			return reconcile.Ref{Address: azure.ClusterAddress(cluster), Output: azure.OutputKubeconfig}
		},
		Location: func(cluster string) reconcile.Ref {
			return reconcile.Ref{Address: azure.ClusterAddress(cluster), Output: azure.OutputLocation}
		},
		Image: func(service, version string) reconcile.Ref {
			return reconcile.Ref{Address: image.Address(service, version), Output: image.OutputRef}
		},
		FrontEndImage: reconcile.Ref{Address: image.FrontEndAddress, Output: image.OutputRef},
		PullGranted: func(cluster string) reconcile.Ref {
			return reconcile.Ref{Address: azure.AcrPullAddress(cluster), Output: azure.OutputPullGranted}
		},
		Vault: connection.Secret,
	}, a.getenv, readOnly)
	s := &session{stack: stack, target: azure.WorkspaceID(stack), kube: kubeDriver, drivers: a.reading(stack, azureDriver, imageDriver, kubeDriver)}
	for _, render := range []func() ([]reconcile.Resource, error){
		azureDriver.Resources,
		func() ([]reconcile.Resource, error) { return imageDriver.Resources(stack), nil },
		kubeDriver.Resources,
	} {
		resources, err := render()
		if err != nil {
			return nil, err
		}
		s.resources = append(s.resources, resources...)
	}
	return s, nil
}

// plan observes the world and compares.
func (s *session) plan(ctx context.Context, o reconcile.Options) (*reconcile.Plan, error) {
	o.Target = s.target
	at := time.Now()
	world, err := reconcile.Observe(ctx, s.drivers, s.stack.Name, s.resources)
	if err != nil {
		return nil, err
	}
	s.seen, s.seenAt = world.Outputs, at
	return reconcile.NewPlan(s.stack.Name, s.resources, world, o)
}

// frontEndBinary is the amlaks-fe that is put into clusters.
func (a *app) frontEndBinary() (string, error) {
	path := a.frontEnd
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		path = filepath.Join(filepath.Dir(self), "amlaks-fe")
	}
	if _, err := os.Stat(path); err != nil {
		return "", &reconcile.Failure{
			Reason: reconcile.ReasonNotFound,
			Err:    fmt.Errorf("the front end's binary is not at %s", path),
			Hint:   "make build puts amlaks-fe beside amlaks; --front-end names another place",
		}
	}
	return path, nil
}

// service gives a service of the stack, and its cluster opened.
func (a *app) service(ctx context.Context, name string, readOnly bool) (*spec.Service, *kube.Cluster, error) {
	stack, err := a.load(a.file)
	if err != nil {
		return nil, nil, err
	}
	for i := range stack.Services {
		s := &stack.Services[i]
		if s.Name != name {
			continue
		}
		connection, err := a.connect(stack.Workspace, readOnly)
		if err != nil {
			return nil, nil, err
		}
		driver, err := azure.New(connection, stack, azure.Options{})
		if err != nil {
			return nil, nil, err
		}
		kubeconfig, err := driver.Kubeconfig(ctx, s.Cluster)
		if err != nil {
			return nil, nil, err
		}
		cluster, err := kube.Open(kubeconfig, stack.Name, readOnly)
		return s, cluster, err
	}
	return nil, nil, usageError{fmt.Errorf("%s has no service %q", a.file, name)}
}

var errNoAddress = errors.New("the front end has no address that can be reached from here")

// scoringURI is a service's URL below the front end's address.
func scoringURI(address, service string) string {
	return address + "/api/v1/service/" + service + "/score"
}
