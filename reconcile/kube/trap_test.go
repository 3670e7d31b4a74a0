package kube

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

// trap is a stack of its own on the API server of the package's tests.
type trap struct {
	*testing.T
	kubeconfig string
	admin      *client
	stack      *spec.Stack
}

func (w *trap) service() *spec.Service { return &w.stack.Services[0] }

// open is a run over a copy of the stack as it is now.
func (w *trap) open() *run {
	w.Helper()
	stack := *w.stack
	stack.Services = slices.Clone(w.stack.Services)
	return start(w.T, w.kubeconfig, &stack, false)
}

func (w *trap) converge() {
	w.Helper()
	succeeded(w.T, w.open().apply(w.T, reconcile.Options{}))
}

// wantSteady checks that there is nothing to do; silently: without asking the server for a dry-run.
func (w *trap) wantSteady(silently bool) {
	w.Helper()
	r := w.open()
	plan := r.plan(w.T, reconcile.Options{Prune: true})
	for _, c := range plan.Changes {
		if c.Action.Pending() {
			w.Errorf("it would %s %s: %v %s", c.Action, c.Address, c.Diff, c.Why)
		}
	}
	if n := r.requests.seen["dry-run"]; silently && n > 0 {
		w.Errorf("%d dry-runs were needed to see that nothing has changed", n)
	}
	succeeded(w.T, reconcile.Apply(w.Context(), r.drivers, plan, reconcile.ApplyOptions{}))
	if writes := r.requests.seen["PATCH"] + r.requests.seen["POST"] + r.requests.seen["PUT"] + r.requests.seen["DELETE"]; writes > 0 {
		w.Errorf("%d writes: %v", writes, r.requests.seen)
	}
}

// diff is that of the service's Deployment in a plan.
func (w *trap) diff() []reconcile.FieldDiff {
	w.Helper()
	for _, c := range w.open().plan(w.T, reconcile.Options{}).Changes {
		if c.Address == Address("dev", "Deployment", "churn") {
			return c.Diff
		}
	}
	w.Fatal("the Deployment is not in the plan")
	return nil
}

func (w *trap) deployment() *appsv1.Deployment {
	w.Helper()
	d, err := w.admin.typed.AppsV1().Deployments(Namespace(w.stack.Name)).Get(w.Context(), "churn", metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return d
}

func (w *trap) container() corev1.Container {
	w.Helper()
	for _, c := range w.deployment().Spec.Template.Spec.Containers {
		if c.Name == "scoring" {
			return c
		}
	}
	w.Fatal("the scoring container is gone")
	return corev1.Container{}
}

// patch changes the Deployment as somebody else does.
func (w *trap) patch(kind types.PatchType, body string) {
	w.Helper()
	_, err := w.admin.typed.AppsV1().Deployments(Namespace(w.stack.Name)).Patch(w.Context(), "churn", kind, []byte(body), metav1.PatchOptions{FieldManager: "somebody"})
	if err != nil {
		w.Fatal(err)
	}
}
