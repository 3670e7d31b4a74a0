package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/client-go/tools/metrics"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/kube"
	"github.com/amlaks/amlaks/reconcile/kube/routes"
	"github.com/amlaks/amlaks/spec"
)

// The engine and the Kubernetes driver run here as cmd/amlaks runs them, in a process of its
// own; Azure and the registry are left out, and images are said to be there. What is measured
// is therefore rendering, observing, planning and applying of Kubernetes objects.

// imageRef is what every service and the front end run. No Deployment here has a replica, so
// nobody pulls it.
const imageRef = "registry.example/bench@sha256:0000000000000000000000000000000000000000000000000000000000000000"

const clusterName = "bench"

// mostRouted services have room in the front end's table of routes, a ConfigMap of at most
// 1 MiB. More are measured without it.
const mostRouted = 2000

// objectsOf a service with keys: ServiceAccount, Secret, Service, Deployment.
const objectsOf = 4

// world stands for the drivers of Azure and of images.
type world struct {
	kubeconfig string
	images     []reconcile.Address
}

func (w world) Name() string { return "world" }

func (w world) Observe(_ context.Context, r reconcile.Request) ([]reconcile.Live, error) {
	live := []reconcile.Live{{Address: "cluster/" + clusterName, Owner: r.Stack, Outputs: map[string]string{"kubeconfig": w.kubeconfig}}}
	for _, address := range w.images {
		live = append(live, reconcile.Live{Address: address, Owner: r.Stack, Outputs: map[string]string{"ref": imageRef}})
	}
	return live, nil
}

func (w world) Read(context.Context, reconcile.Step) (*reconcile.Live, error) { return nil, nil }

func (w world) Apply(context.Context, reconcile.Step) (map[string]string, error) {
	return nil, errors.New("nothing here is to be changed")
}

// stackOf gives a stack of so many services without replicas.
func stackOf(name string, services int) *spec.Stack {
	zero := 0
	s := &spec.Stack{Name: name, Clusters: []spec.Cluster{{Name: clusterName, FrontEnd: spec.FrontEnd{Expose: spec.ExposeClusterIP, Port: 80}}}}
	for i := range services {
		s.Services = append(s.Services, spec.Service{
			Name: fmt.Sprintf("service-%05d", i), Cluster: clusterName, Models: []spec.Model{{Name: "churn", Version: strconv.Itoa(i)}},
			AuthMode: spec.AuthKey, NumReplicas: &zero,
			Inference: spec.Inference{BaseImage: spec.ScratchImage, Port: 5001, Routes: spec.Routes{Scoring: "/score", Liveness: "/", Readiness: "/"},
				EnvironmentVariables: map[string]string{"LOG_LEVEL": "info"}},
			Resources:        spec.Resources{CPU: 0.1, MemoryInGB: 0.5},
			ScoringTimeoutMs: 60000, MaxConcurrentRequestsPerContainer: 1, MaxQueueWaitMs: 500,
			Liveness: spec.Liveness{InitialDelaySeconds: 310, PeriodSeconds: 10, TimeoutSeconds: 2, SuccessThreshold: 1, FailureThreshold: 3},
		})
	}
	return s
}

func imageOf(service string) reconcile.Ref {
	return reconcile.Ref{Address: reconcile.Address("image/" + service), Output: "ref"}
}

// answer is the one line that a measured child prints about itself; one of a peer has the
// first three.
type answer struct {
	Objects  int `json:"objects"`
	Changed  int `json:"changed"`
	Requests int `json:"requests"`
	Writes   int `json:"writes"`
	// Milliseconds of each part.
	RenderMs  float64 `json:"renderMs"`
	ObserveMs float64 `json:"observeMs"`
	PlanMs    float64 `json:"planMs"`
	ApplyMs   float64 `json:"applyMs"`
}

// ours is the child `bench ours VERB KUBECONFIG STACK SERVICES`; render prints the objects.
func ours(ctx context.Context, verb, kubeconfigFile, name string, services int, out io.Writer) error {
	kubeconfig, err := os.ReadFile(kubeconfigFile)
	if err != nil {
		return err
	}
	debug.SetGCPercent(30) // as cmd/amlaks does
	var requests, writes atomic.Int64
	metrics.Register(metrics.RegisterOpts{RequestResult: &counter{&requests, &writes}})
	var a answer
	began := time.Now()
	lap := func(into *float64) {
		*into, began = float64(time.Since(began).Microseconds())/1000, time.Now()
	}
	stack := stackOf(name, services)
	driver := kube.New(stack, kube.Wiring{
		Kubeconfig: func(name string) reconcile.Ref {
			return reconcile.Ref{Address: reconcile.Address("cluster/" + name), Output: "kubeconfig"}
		},
		Image:         func(service, _ string) reconcile.Ref { return imageOf(service) },
		FrontEndImage: imageOf(kube.FrontEnd),
	}, os.Getenv, verb != "apply")
	resources, err := driver.Resources()
	if err != nil {
		return err
	}
	if services > mostRouted {
		unroutable := kube.Address(clusterName, "ConfigMap", routes.ConfigMap)
		resources = slices.DeleteFunc(resources, func(r reconcile.Resource) bool { return r.Address == unroutable })
	}
	outside := world{kubeconfig: string(kubeconfig), images: []reconcile.Address{imageOf(kube.FrontEnd).Address}}
	for _, service := range stack.Services {
		outside.images = append(outside.images, imageOf(service.Name).Address)
	}
	for _, address := range append([]reconcile.Address{"cluster/" + clusterName}, outside.images...) {
		resources = append(resources, reconcile.Resource{Address: address, Driver: outside.Name(), Data: true})
	}
	lap(&a.RenderMs)
	if verb == "render" {
		return render(resources, func(string) string { return imageRef }, out)
	}
	drivers := []reconcile.Driver{outside, driver}
	observed, err := reconcile.Observe(ctx, drivers, stack.Name, resources)
	if err != nil {
		return err
	}
	lap(&a.ObserveMs)
	plan, err := reconcile.NewPlan(stack.Name, resources, observed, reconcile.Options{})
	if err != nil {
		return err
	}
	lap(&a.PlanMs)
	a.Objects, a.Changed = len(plan.Changes), plan.Pending()
	if verb == "apply" {
		if err := carryOut(ctx, drivers, plan); err != nil {
			return err
		}
		lap(&a.ApplyMs)
	}
	a.Requests, a.Writes = int(requests.Load()), int(writes.Load())
	return json.NewEncoder(out).Encode(a)
}

func carryOut(ctx context.Context, drivers []reconcile.Driver, plan *reconcile.Plan) error {
	result := reconcile.Apply(ctx, drivers, plan, reconcile.ApplyOptions{})
	for _, outcome := range result.Outcomes {
		if outcome.Err != nil {
			return fmt.Errorf("%s: %w", outcome.Change.Address, outcome.Err)
		}
	}
	return nil
}

// render prints the objects as the List that peers are given, Deployments with their images.
func render(resources []reconcile.Resource, image func(deployment string) string, out io.Writer) error {
	items := []any{}
	for _, r := range resources {
		if r.Data {
			continue
		}
		if _, name, ok := strings.Cut(string(r.Address), "/Deployment/"); ok {
			pod := r.Desired["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
			pod["containers"].([]any)[0].(map[string]any)["image"] = image(name)
		}
		items = append(items, r.Desired)
	}
	return json.NewEncoder(out).Encode(map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
}

// counter counts every request of client-go in this process, retries included.
type counter struct{ requests, writes *atomic.Int64 }

func (c *counter) Increment(_ context.Context, _, method, _ string) {
	c.requests.Add(1)
	if method != "GET" {
		c.writes.Add(1)
	}
}
