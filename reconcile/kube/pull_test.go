package kube

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

// pulling is a driver whose clusters may pull since a given time.
func pulling() *Driver {
	ref := func(name, output string) func(string) reconcile.Ref {
		return func(cluster string) reconcile.Ref {
			return reconcile.Ref{Address: reconcile.Address("cluster/" + cluster + name), Output: output}
		}
	}
	return New(&spec.Stack{Name: "churn"}, Wiring{Kubeconfig: ref("", "kubeconfig"), PullGranted: ref("/acrPull", "since")}, nil, true)
}

// Deployments, and nothing else, come after the right to pull.
func TestDeploymentsComeAfterThePull(t *testing.T) {
	d := pulling()
	want := []reconcile.Address{"cluster/prod/acrPull"}
	if diff := cmp.Diff(want, d.comesAfter(object{cluster: "prod", kind: kindDeployment})); diff != "" {
		t.Errorf("a Deployment comes after (-want +got):\n%s", diff)
	}
	if got := d.comesAfter(object{cluster: "prod", kind: kindService}); got != nil {
		t.Errorf("a Service comes after %v", got)
	}
	d.wiring.PullGranted = nil
	if got := d.comesAfter(object{cluster: "prod", kind: kindDeployment}); got != nil {
		t.Errorf("where nothing is known of it a Deployment comes after %v", got)
	}
}

// A pull that fails while a new role is still spreading fails no rollout.
func TestPullsThatAreTooEarly(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	pod := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(now.Add(-5 * time.Minute))},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "401 Unauthorized"}},
		}}},
	}
	for since, fails := range map[string]bool{
		now.Add(-6 * time.Minute).Format(time.RFC3339):  false,
		now.Add(-11 * time.Minute).Format(time.RFC3339): true,
		"":         true,
		"nonsense": true,
	} {
		known := reconcile.Outputs{"cluster/prod/acrPull": {"since": since}}
		err := diagnose([]corev1.Pod{pod}).fatal(now, pulling().pullsBy("prod", known))
		if (err != nil) != fails {
			t.Errorf("granted at %q: %v, want a failure: %v", since, err, fails)
		}
	}
}
