package azure_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure"
	"github.com/amlaks/amlaks/reconcile/sandbox"
	"github.com/amlaks/amlaks/spec"
)

// load is what a service asks for, as the Kubernetes driver would render it.
type load struct {
	name      string
	least     int
	most      int
	cpu, gib  float64
	gpu       int64
	tolerates bool
}

func (l load) workload() azure.Workload {
	w := azure.Workload{Name: l.name, Service: l.name, Min: l.least, Max: max(l.least, l.most), CPU: int64(l.cpu * 1000), Memory: int64(l.gib * (1 << 30)), GPU: l.gpu}
	if l.gpu > 0 || l.tolerates {
		w.Tolerations = []azure.Toleration{{Key: "sku", Value: "gpu", Effect: "NoSchedule"}}
	}
	return w
}

var frontEnd = azure.Workload{Name: "amlaks-fe", Min: 1, Max: 1, CPU: 100, Memory: 64 << 20}

// on puts loads on cluster prod, beside a front end.
func on(cluster string, all ...load) func(string) []azure.Workload {
	return func(name string) []azure.Workload {
		if name != cluster {
			return nil
		}
		out := []azure.Workload{frontEnd}
		for _, l := range all {
			out = append(out, l.workload())
		}
		return out
	}
}

// advised plans with advice, over a connection that cannot write.
func (w *world) advised(text string, advice azure.Advice) *reconcile.Plan {
	w.t.Helper()
	return w.advisedStack(parse(w.t, text), advice)
}

func (w *world) advisedStack(stack *spec.Stack, advice azure.Advice) *reconcile.Plan {
	w.t.Helper()
	driver, err := azure.New(w.connect(true), stack, azure.Options{Advice: &advice})
	if err != nil {
		w.t.Fatal(err)
	}
	resources, err := driver.Resources()
	if err != nil {
		w.t.Fatal(err)
	}
	seen, err := reconcile.Observe(w.t.Context(), []reconcile.Driver{driver}, stack.Name, resources)
	if err != nil {
		w.t.Fatal(err)
	}
	plan, err := reconcile.NewPlan(stack.Name, resources, seen, reconcile.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	return plan
}

// said is what a plan's notes say, without their figures.
func said(p *reconcile.Plan) []string {
	var out []string
	for _, n := range p.Notes {
		line := fmt.Sprintf("%s %s: %s", n.Level, n.Address, n.Message)
		if n.Hint != "" {
			line += " | " + n.Hint
		}
		out = append(out, line)
	}
	return out
}

func wantSaid(t *testing.T, p *reconcile.Plan, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, said(p)); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
}

// wantCompute checks how often Microsoft.Compute and the price list have been asked.
func (w *world) wantCompute(skus, usages, prices int) {
	w.t.Helper()
	var got [3]int
	for _, r := range w.Requests("arm") {
		switch {
		case strings.HasSuffix(r.Path, "/skus"):
			got[0]++
		case strings.HasSuffix(r.Path, "/usages"):
			got[1]++
		case r.Path == "/api/retail/prices":
			got[2]++
		}
	}
	if want := [3]int{skus, usages, prices}; got != want {
		w.t.Errorf("asked for sizes, quotas and prices %v times, want %v", got, want)
	}
}

func TestFit(t *testing.T) {
	t.Parallel()
	w := start(t)
	// A node of Standard_D4ds_v5 has 3.51 vCPU and 11.15 GiB for pods; AKS' own take 0.79 vCPU of
	// one, the front end 0.1.
	const gpuPool = "nodePools: [{name: gpu, vmSize: Standard_NC4as_T4_v3, agentCount: 1, taints: [\"sku=gpu:NoSchedule\"]}]"
	for _, test := range []struct {
		name  string
		stack string
		loads []load
		want  []string
	}{
		{"room for all, and for an update", small("agentCount: 2"), []load{{name: "churn", least: 2, cpu: 1, gib: 1}}, nil},
		{"nothing on it", small("agentCount: 2"), nil, nil},
		{"one node too few", small("agentCount: 2"), []load{{name: "churn", least: 3, cpu: 2, gib: 8}}, []string{
			"warning cluster/prod: service churn needs 3 replicas of 2 vCPU, 8 GiB, and the nodes have room for 2: short of 2.27 GiB | agentCount: 4 would do",
		}},
		{"short of vCPU", small("agentCount: 1"), []load{{name: "churn", least: 3, cpu: 1, gib: 0.5}}, []string{
			"warning cluster/prod: service churn needs 3 replicas of 1 vCPU, 512 MiB, and the nodes have room for 2: short of 0.38 vCPU | agentCount: 2 would do",
		}},
		{"a replica larger than any node", small("agentCount: 5"), []load{{name: "churn", least: 1, cpu: 8, gib: 4}}, []string{
			"warning cluster/prod: service churn needs 8 vCPU, 4 GiB for a replica, and the largest node has room for 3.51 vCPU, 11.15 GiB | a nodePools entry of a larger vmSize, or smaller resources in services[]",
		}},
		{"enough in sum, and on no node", small("agentCount: 3"), []load{{name: "big", least: 3, cpu: 1.9, gib: 1}, {name: "wide", least: 1, cpu: 1.85, gib: 1}}, []string{
			"warning cluster/prod: service wide needs 1 replica of 1.85 vCPU, 1 GiB, and the nodes have room for 0: what is free is spread over nodes that each have too little | agentCount: 5 would do",
		}},
		{"more GPUs than there are", small("agentCount: 1", gpuPool), []load{{name: "vision", least: 2, cpu: 1, gib: 1, gpu: 1}}, []string{
			"warning cluster/prod: service vision needs 2 replicas of 1 vCPU, 1 GiB, 1 GPU, and the nodes have room for 1: short of 1 GPU | agentCount: 3 for node pool gpu would do",
		}},
		{"the last GPU: no update", small("agentCount: 1", gpuPool), []load{{name: "vision", least: 1, cpu: 1, gib: 1, gpu: 1}}, []string{
			"warning cluster/prod: a change of service vision would wait for a node: an update makes one replica more before it takes one away, and there is no room for it | agentCount: 2 for node pool gpu would do",
		}},
		{"a pool that nobody tolerates", small("agentCount: 1", "nodePools: [{name: mine, vmSize: Standard_NC4as_T4_v3, agentCount: 1, taints: [\"team=risk:NoSchedule\"]}]"),
			[]load{{name: "vision", least: 1, cpu: 1, gib: 1, gpu: 1}}, []string{
				"warning cluster/prod: service vision needs 1 vCPU, 1 GiB, 1 GPU for a replica, and does not tolerate the taints of the nodes that are large enough: pool mine [team=risk:NoSchedule] | a node pool without taints; services with gpu tolerate sku=gpu:NoSchedule",
			}},
		{"an autoscaler makes room", small("agentCount: 1", "nodePools: [{name: more, vmSize: Standard_D4ds_v5, minCount: 0, maxCount: 3}]"),
			[]load{{name: "churn", least: 5, cpu: 2, gib: 1}}, []string{
				"warning cluster/prod: service churn needs 5 replicas of 2 vCPU, 1 GiB, and the nodes have room for 4: what is free is spread over nodes that each have too little | agentCount: 3 would do",
			}},
		{"not as many as could be", small("agentCount: 2"), []load{{name: "churn", least: 1, most: 10, cpu: 1, gib: 0.5}}, []string{
			"info cluster/prod: with all services at maxReplicas, 4 of 11 replicas would have no room: churn 6 of 10 | agentCount: 4 would do",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantSaid(t, w.advised(test.stack, azure.Advice{Workloads: on("prod", test.loads...)}), test.want...)
		})
	}
	w.wantWrites()
}

// TestFitOfMany says the first ones one by one.
func TestFitOfMany(t *testing.T) {
	t.Parallel()
	w := start(t)
	var all []load
	for i := range 30 {
		all = append(all, load{name: fmt.Sprintf("s%02d", i), least: 1, cpu: 5, gib: 1})
	}
	got := said(w.advised(small(onePool), azure.Advice{Workloads: on("prod", all...)}))
	if len(got) != 11 || !slices.ContainsFunc(got, func(s string) bool {
		return strings.Contains(s, "and so for 20 more: s10, s11, s12, s13, s14 and 15 more")
	}) {
		t.Errorf("%q", got)
	}
}

// TestFitFigures are for programs.
func TestFitFigures(t *testing.T) {
	t.Parallel()
	p := start(t).advised(small(onePool), azure.Advice{Workloads: on("prod", load{name: "churn", least: 3, cpu: 1, gib: 0.5})})
	want := []reconcile.Note{{
		Address: "cluster/prod", Level: reconcile.Warning, Reason: reconcile.ReasonUnschedulable,
		Data: map[string]any{
			"service": "churn", "deployment": "churn", "replicas": 3, "placed": 2, "cause": "full", "agentCounts": map[string]any{"agents": 2},
			"each": map[string]any{"cpu": 1.0, "memoryGiB": 0.5, "gpu": int64(0)}, "short": map[string]any{"cpu": 0.382, "memoryGiB": 0.0, "gpu": int64(0)},
		},
	}}
	for i := range p.Notes {
		p.Notes[i].Message, p.Notes[i].Hint = "", ""
	}
	if diff := cmp.Diff(want, p.Notes); diff != "" {
		t.Error(diff)
	}
}

// TestFitOfLiveClusters takes the nodes that are there, where the file says nothing of them.
func TestFitOfLiveClusters(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.byHand(sandbox.ClusterRequest{Name: "theirs", AgentCount: 2}, nil)
	attached := clusters("- {name: shared, attach: {resourceGroup: " + sandbox.ResourceGroup + ", clusterName: theirs}, purpose: DevTest}")
	loads := on("shared", load{name: "churn", least: 7, cpu: 1, gib: 0.5})
	wantSaid(t, w.advised(attached, azure.Advice{Workloads: loads}),
		"warning cluster/shared: service churn needs 7 replicas of 1 vCPU, 512 MiB, and the nodes have room for 6: short of 0.87 vCPU; what others run there is not counted"+
			" | az aks nodepool scale --node-count 3 --name nodepool1 --ids "+clusterID("theirs")+" would do")

	// What is not for pods of ours does not count: nodes of Windows, and stopped ones.
	w.overlay(clusterID("theirs")+"/agentPools/nodepool1", map[string]any{"properties": map[string]any{"powerState": map[string]any{"code": "Stopped"}}})
	if got := said(w.advised(attached, azure.Advice{Workloads: loads})); len(got) != 2 || !strings.Contains(got[1], "there is no node that runs pods") {
		t.Errorf("%q", got)
	}
	w.wantCompute(0, 0, 0) // the sizes are known, and no node is added
}

// TestFitWithoutWhatLeaves does not count on nodes that are on their way out, nor says anything
// of somebody else's.
func TestFitWithoutWhatLeaves(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.converge(small(onePool, "nodePools: [{name: more, vmSize: Standard_D8ds_v5, agentCount: 1}]"), reconcile.Options{})
	advice := azure.Advice{Workloads: on("prod", load{name: "churn", least: 3, cpu: 1, gib: 0.5})}
	if got := said(w.advised(small(onePool), advice)); len(got) != 1 || !strings.Contains(got[0], "room for 2: short of 0.38 vCPU | agentCount: 2 would do") {
		t.Errorf("%q", got)
	}
	w.overlay(clusterID("prod"), map[string]any{"tags": map[string]any{"amlaks-stack": "theirs"}})
	wantSaid(t, w.advised(small(onePool), advice))
}

// TestFitOfUnknownSizes takes what Azure says of them.
func TestFitOfUnknownSizes(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.byHand(sandbox.ClusterRequest{Name: "theirs", VMSize: "Standard_D4ds_v9"}, nil)
	attached := clusters("- {name: shared, attach: {resourceGroup: " + sandbox.ResourceGroup + ", clusterName: theirs}, purpose: DevTest}")
	advice := azure.Advice{CacheDir: t.TempDir(), Workloads: on("shared", load{name: "churn", least: 3, cpu: 1, gib: 0.5})}
	for range 3 {
		if got := said(w.advised(attached, advice)); len(got) != 1 || !strings.Contains(got[0], "room for 2: short of 0.38 vCPU") {
			t.Errorf("%q", got)
		}
	}
	w.wantCompute(1, 0, 0)

	w.fault(sandbox.Fault{Path: "/skus$", Status: http.StatusForbidden, Code: "AuthorizationFailed", Count: 1})
	advice.CacheDir = ""
	wantSaid(t, w.advised(attached, advice),
		"info cluster/shared: whether the services fit cannot be said: nothing is known of VM size Standard_D4ds_v9, and Azure's list of sizes cannot be read: HTTP 403 AuthorizationFailed"+
			" | give the identity Reader on the subscription (Microsoft.Compute/skus/read, Microsoft.Compute/locations/usages/read)")
}

// TestNothingChangedNothingAsked: a plan that changes nothing asks Azure no more than it did.
func TestNothingChangedNothingAsked(t *testing.T) {
	t.Parallel()
	w := start(t)
	text := small("agentCount: 2")
	w.converge(text, reconcile.Options{})
	advice := azure.Advice{Workloads: on("prod", load{name: "churn", least: 1, cpu: 1, gib: 1})}
	for _, test := range []struct {
		name   string
		advice azure.Advice
	}{{"without advice", azure.Advice{}}, {"with it", advice}} {
		w.ClearRequests()
		p := w.advised(text, test.advice)
		if n := len(w.Requests("arm")); n != 6 || p.Pending() != 0 {
			t.Errorf("%s: %d requests, %d changes", test.name, n, p.Pending())
		}
		wantSaid(t, p)
	}
}
