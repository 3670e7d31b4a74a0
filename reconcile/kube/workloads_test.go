package kube

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

// TestWorkloads compares what is said of the Deployments with the Deployments.
func TestWorkloads(t *testing.T) {
	stack := stackOf("vision", "churn")
	stack.Clusters[0].FrontEnd.Replicas = 3
	stack.Services[0].NumReplicas, stack.Services[0].AutoScaler = nil, &spec.AutoScaler{MinReplicas: 2, MaxReplicas: 7}
	stack.Services[1].Resources = spec.Resources{CPU: 1.5, MemoryInGB: 2, CPULimit: ptr(2.0)}
	stack.Services[1].Versions = []spec.Version{{Name: "blue", TrafficPercentile: 90, IsDefault: true}, {Name: "green", TrafficPercentile: 10}}
	three := 3
	stack.Services[1].NumReplicas = &three
	stack.Services = append(stack.Services, spec.Service{Name: "other", Cluster: "elsewhere"})
	stack.Clusters = append(stack.Clusters, spec.Cluster{Name: "elsewhere"})
	driver := New(stack, Wiring{
		Kubeconfig:    func(string) reconcile.Ref { return reconcile.Ref{Address: "cluster/dev"} },
		Image:         func(string, string) reconcile.Ref { return reconcile.Ref{Address: "image/x"} },
		FrontEndImage: reconcile.Ref{Address: "image/fe"},
	}, func(string) string { return "" }, true)
	all := driver.Workloads("dev")
	byName := map[string]Workload{}
	type summary struct {
		Name, Service  string
		Min, Max       int
		CPU, MemoryMiB int64
		GPU            int64
	}
	var got []summary
	for _, w := range all {
		byName[w.Deployment] = w
		got = append(got, summary{w.Deployment, w.Service, w.Min, w.Max, w.Requests.Cpu().MilliValue(), w.Requests.Memory().Value() >> 20, w.GPU()})
	}
	want := []summary{
		{"amlaks-fe", "", 3, 3, 100, 64, 0},
		{"vision", "vision", 2, 7, 100, 512, 1},
		{"churn-blue", "churn", 3, 3, 1500, 2048, 0},
		{"churn-green", "churn", 3, 3, 1500, 2048, 0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	resources, err := driver.Resources()
	if err != nil {
		t.Fatal(err)
	}
	deployments := 0
	for _, r := range resources {
		o := r.Spec.(object)
		if o.kind != kindDeployment || o.cluster != "dev" {
			continue
		}
		deployments++
		body := r.Desired
		delete(body["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any), "image")
		content, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		var rendered appsv1.Deployment
		if err := json.Unmarshal(content, &rendered); err != nil {
			t.Fatal(err)
		}
		w, pod := byName[o.name], rendered.Spec.Template.Spec
		if w.Min != int(*rendered.Spec.Replicas) {
			t.Errorf("%s: %d replicas, and the Deployment has %d", o.name, w.Min, *rendered.Spec.Replicas)
		}
		for name, quantity := range pod.Containers[0].Resources.Requests {
			if said := w.Requests[name]; said.Cmp(quantity) != 0 {
				t.Errorf("%s: %s %s, and the Deployment asks for %s", o.name, name, said.String(), quantity.String())
			}
		}
		if diff := cmp.Diff([][]corev1.Toleration{pod.Tolerations}, [][]corev1.Toleration{w.Tolerations}); diff != "" {
			t.Errorf("%s: tolerations %s", o.name, diff)
		}
		if diff := cmp.Diff(pod.NodeSelector, w.Selector); diff != "" {
			t.Errorf("%s: selector %s", o.name, diff)
		}
	}
	if deployments != len(all) {
		t.Errorf("%d Deployments, and %d workloads", deployments, len(all))
	}
}

func ptr[T any](v T) *T { return &v }
