package azure_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	aks "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"
	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

const agentsPool = reconcile.Address("cluster/prod/pool/agents")

// larger is small with another vmSize.
func larger(more ...string) string {
	return strings.Replace(small(more...), "Standard_D4ds_v5", "Standard_D8ds_v5", 1)
}

func (w *world) wantPools(want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.poolNames()); diff != "" {
		w.t.Errorf("AKS pools (-want +got):\n%s", diff)
	}
}

func (s *session) wantCalls(want ...string) {
	s.world.t.Helper()
	if diff := cmp.Diff(want, s.nodes.calls); diff != "" {
		s.world.t.Errorf("what was asked of Kubernetes (-want +got):\n%s", diff)
	}
}

// why is what the plan says of a change.
func (s *session) why(address reconcile.Address) string {
	for _, c := range s.plan.Changes {
		if c.Address == address {
			return c.Why
		}
	}
	return ""
}

// What AKS cannot change is had by a new pool: made, filled, and only then the old one goes.
func TestRotate(t *testing.T) {
	t.Parallel()
	w := start(t)
	gpu := func(more string) string {
		return small(onePool, "nodePools: [{name: gpu, vmSize: Standard_NC4as_T4_v3, "+more+"}]")
	}
	type test struct {
		before, after string
		address       reconcile.Address
		path          string
		writes, calls []string
		check         func(t *testing.T, w *world, sent aks.AgentPool)
	}
	for name, test := range map[string]test{
		"vmSize": {
			before: small("agentCount: 2"), after: larger("agentCount: 2"), address: agentsPool, path: "properties.vmSize",
			writes: []string{"PUT prod/agentPools/agentsr if none", "DELETE prod/agentPools/agents"}, calls: []string{"ready agentsr 2", "drain agents"},
			check: func(t *testing.T, w *world, sent aks.AgentPool) {
				if p := sent.Properties; *p.Mode != aks.AgentPoolModeSystem || *p.Tags["amlaks-pool"] != "agents" || *p.Tags["amlaks-stack"] != "churn" || *p.Count != 2 {
					t.Errorf("mode %s, tags %v, count %d", *p.Mode, p.Tags, *p.Count)
				}
			},
		},
		"vmSize and count": {
			before: small("agentCount: 2"), after: larger("agentCount: 3"), address: agentsPool, path: "properties.count",
			writes: []string{"PUT prod/agentPools/agentsr if none", "DELETE prod/agentPools/agents"}, calls: []string{"ready agentsr 3", "drain agents"},
		},
		"zones": {
			before: small("agentCount: 2"), after: small("agentCount: 2", "zones: [1, 3]"), address: agentsPool, path: "properties.availabilityZones",
			writes: []string{"PUT prod/agentPools/agentsr if none", "DELETE prod/agentPools/agents"}, calls: []string{"ready agentsr 2", "drain agents"},
			check: func(t *testing.T, _ *world, sent aks.AgentPool) {
				if zones := sent.Properties.AvailabilityZones; len(zones) != 2 || *zones[1] != "3" {
					t.Errorf("zones %v", zones)
				}
			},
		},
		"maxPods": {
			before: small("agentCount: 2"), after: small("agentCount: 2", "maxPods: 60"), address: agentsPool, path: "properties.maxPods",
			writes: []string{"PUT prod/agentPools/agentsr if none", "DELETE prod/agentPools/agents"}, calls: []string{"ready agentsr 2", "drain agents"},
		},
		"spot given up": {
			before: gpu("spot: true"), after: gpu("agentCount: 1"), address: "cluster/prod/pool/gpu", path: "properties.scaleSetPriority",
			writes: []string{"PUT prod/agentPools/gpur if none", "DELETE prod/agentPools/gpu"}, calls: []string{"ready gpur 1", "drain gpu"},
			check: func(t *testing.T, w *world, _ aks.AgentPool) {
				if labels := w.pool("gpur", "nodeLabels"); at(labels, "kubernetes.azure.com/scalesetpriority") != nil || w.pool("gpur", "spotMaxPrice") != nil {
					t.Errorf("the new pool has still what a spot pool has: labels %v, price %v", labels, w.pool("gpur", "spotMaxPrice"))
				}
			},
		},
		"under an autoscaler": {
			before: gpu("minCount: 2, maxCount: 5"), after: strings.Replace(gpu("minCount: 2, maxCount: 3"), "NC4as", "NC8as", 1),
			address: "cluster/prod/pool/gpu", path: "properties.vmSize",
			writes: []string{"PUT prod/agentPools/gpur if none", "DELETE prod/agentPools/gpu"}, calls: []string{"ready gpur 3", "drain gpu"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{Sandbox: w.Sandbox, t: t}
			w.converge(test.before, reconcile.Options{})
			if strings.Contains(test.before, "maxCount: 5") { // the autoscaler has been at it
				w.overlay(clusterID("prod")+"/agentPools/gpu", map[string]any{"properties": map[string]any{"count": 4.0}})
			}
			w.ClearRequests()
			s := w.plan(test.after, reconcile.Options{})
			s.wantActions(map[reconcile.Address]reconcile.Action{test.address: reconcile.Rotate})
			if why := s.why(test.address); !strings.Contains(why, "a new node pool is made") || strings.Contains(why, "under way") {
				t.Errorf("why: %q", why)
			}
			for _, c := range s.plan.Changes {
				if c.Address == test.address && !slices.ContainsFunc(c.Diff, func(d reconcile.FieldDiff) bool { return d.Path == test.path }) {
					t.Errorf("the diff has no %s: %v", test.path, c.Diff)
				}
			}
			w.wantWrites()
			wantDone(t, s.apply(t.Context()))
			w.wantWrites(test.writes...)
			s.wantCalls(test.calls...)
			var sent aks.AgentPool
			understood(t, w.writes()[0].Body, &sent)
			if test.check != nil {
				test.check(t, w, sent)
			}
			w.wantSteady(test.after, reconcile.Options{})
			w.converge(test.after, reconcile.Options{Destroy: true})
		})
	}
}

// Rotated again, a pool gets its own name back; a name that another pool has is not taken.
func TestRotateNames(t *testing.T) {
	t.Parallel()
	w := start(t)
	pools := func(vmSize string) string {
		return small(onePool, "nodePools: [{name: abcdefghijkl, vmSize: "+vmSize+"}, {name: abcdefghijkr, vmSize: Standard_D4ds_v5}]")
	}
	w.converge(pools("Standard_D4ds_v5"), reconcile.Options{})
	w.converge(pools("Standard_D8ds_v5"), reconcile.Options{})
	w.wantPools("abcdefghijkr", "abcdefghijr2", "agents")
	w.converge(pools("Standard_D4ds_v5"), reconcile.Options{})
	w.wantPools("abcdefghijkl", "abcdefghijkr", "agents")
	if tag := at(w.pool("abcdefghijkl", "tags"), "amlaks-pool"); tag != nil {
		t.Errorf("a pool of its own name has the tag amlaks-pool: %v", tag)
	}
	w.wantSteady(pools("Standard_D4ds_v5"), reconcile.Options{})
	// A pool whose name a rotated one has taken meanwhile gets another.
	w.converge(larger(onePool), reconcile.Options{Prune: true})
	w.wantPools("agentsr")
	with := larger(onePool, "nodePools: [{name: agentsr, vmSize: Standard_D4ds_v5}]")
	w.converge(with, reconcile.Options{})
	w.wantPools("agentsr", "agentsrr")
	w.wantSteady(with, reconcile.Options{})
	w.converge(larger(onePool), reconcile.Options{Prune: true})
	w.wantPools("agentsr")
}

// stuck begins a rotation to the larger size that ends when the nodes are to be emptied.
func (w *world) stuck(stack string) *session {
	w.t.Helper()
	s := w.plan(stack, reconcile.Options{})
	s.nodes.fail = &reconcile.Failure{Reason: reconcile.ReasonEvictionBlocked, Err: errors.New("a budget allows no eviction"), Hint: "change it"}
	result := s.apply(w.t.Context())
	wantFailure(w.t, result, agentsPool, reconcile.Failed, reconcile.ReasonEvictionBlocked)
	if err := outcome(w.t, result, agentsPool).Err; reconcile.HintOf(err) != "change it" || !strings.Contains(err.Error(), "move the pods of node pool agents to agentsr: a budget") {
		w.t.Errorf("error %v", err)
	}
	w.wantPools("agents", "agentsr")
	return s
}

// A rotation that was cut short is the same change in the next plan, which says how far it got.
func TestRotateGoesOn(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.converge(small("agentCount: 3"), reconcile.Options{})
	stack := larger("agentCount: 3")
	first := w.stuck(stack)
	w.ClearRequests()
	n := &nodes{w: w, done: 2, all: 3}
	s, err := w.openWith(n, w.connect(true), stack, reconcile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.wantActions(map[reconcile.Address]reconcile.Action{agentsPool: reconcile.Rotate})
	if why := s.why(agentsPool); !strings.HasSuffix(why, "; its rotation is under way: node pool agentsr takes the place of agents, 2 of whose 3 nodes are empty") {
		t.Errorf("why: %q", why)
	}
	s.wantCalls("look at agents")
	digest := func(p *reconcile.Plan) string {
		for _, c := range p.Changes {
			if c.Address == agentsPool {
				return c.Digest
			}
		}
		return ""
	}
	if digest(first.plan) != digest(s.plan) {
		t.Error("the change has another digest than before its first request")
	}
	w.wantWrites()
	// The plan of before the first request is still good.
	result := reconcile.Apply(t.Context(), []reconcile.Driver{w.plan(stack, reconcile.Options{}).driver}, first.plan, reconcile.ApplyOptions{Exact: true})
	wantDone(t, result)
	w.wantWrites("DELETE prod/agentPools/agents")
	w.wantPools("agentsr")
	w.wantSteady(stack, reconcile.Options{})
	// And done it is nothing to do.
	again := reconcile.Apply(t.Context(), []reconcile.Driver{w.plan(stack, reconcile.Options{}).driver}, first.plan, reconcile.ApplyOptions{Exact: true})
	wantDone(t, again)
	w.wantPools("agentsr")
}

// The file may be changed, back or further, in the middle of a rotation.
func TestRotateChangedMind(t *testing.T) {
	t.Parallel()
	w := start(t)
	third := strings.Replace(small("agentCount: 2"), "Standard_D4ds_v5", "Standard_D16ds_v5", 1)
	for name, test := range map[string]struct {
		stack   string
		options reconcile.Options
		want    reconcile.Action
		writes  []string
		pools   []string
	}{
		"back": {stack: small("agentCount: 2"), want: reconcile.Rotate, writes: []string{"DELETE prod/agentPools/agentsr"}, pools: []string{"agents"}},
		"back with fewer nodes": {stack: small("agentCount: 1"), want: reconcile.Rotate,
			writes: []string{"PUT prod/agentPools/agents if match", "DELETE prod/agentPools/agentsr"}, pools: []string{"agents"}},
		"on to a third": {stack: third, want: reconcile.Rotate,
			writes: []string{"PUT prod/agentPools/agentsr2 if none", "DELETE prod/agentPools/agents", "DELETE prod/agentPools/agentsr"}, pools: []string{"agentsr2"}},
		"destroyed": {stack: larger("agentCount: 2"), options: reconcile.Options{Destroy: true}, writes: []string{"DELETE prod"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{Sandbox: w.Sandbox, t: t}
			w.converge(small("agentCount: 2"), reconcile.Options{})
			w.stuck(larger("agentCount: 2"))
			w.ClearRequests()
			s := w.plan(test.stack, test.options)
			if test.want != "" {
				s.wantActions(map[reconcile.Address]reconcile.Action{agentsPool: test.want})
			}
			wantDone(t, s.apply(t.Context()))
			w.wantWrites(test.writes...)
			if test.pools != nil {
				w.wantPools(test.pools...)
				w.wantSteady(test.stack, reconcile.Options{})
				w.converge(test.stack, reconcile.Options{Destroy: true})
			}
		})
	}
}

// A pool that leaves the file in the middle of its rotation goes with all that stands for it.
func TestRotateLeftTheFile(t *testing.T) {
	t.Parallel()
	w := start(t)
	with := func(vmSize string) string {
		return small(onePool, "nodePools: [{name: gpu, vmSize: "+vmSize+"}]")
	}
	w.converge(with("Standard_NC4as_T4_v3"), reconcile.Options{})
	s := w.plan(with("Standard_NC8as_T4_v3"), reconcile.Options{})
	s.nodes.fail = errors.New("stuck")
	s.apply(t.Context())
	w.wantPools("agents", "gpu", "gpur")
	kept := w.plan(small(onePool), reconcile.Options{})
	kept.wantActions(map[reconcile.Address]reconcile.Action{"cluster/prod/pool/gpu": reconcile.Keep})
	w.converge(small(onePool), reconcile.Options{Prune: true})
	w.wantPools("agents")
}

// Two pools that are both as the file says are one too many.
func TestRotateTwoAlike(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.converge(small(onePool), reconcile.Options{})
	w.stuck(small(onePool, "maxPods: 60"))
	// maxPods is nobody's now: both would do.
	s := w.plan(small(onePool), reconcile.Options{})
	s.wantActions(map[reconcile.Address]reconcile.Action{agentsPool: reconcile.Rotate})
	if why := s.why(agentsPool); !strings.HasPrefix(why, "more than one node pool stands for it") {
		t.Errorf("why: %q", why)
	}
	wantDone(t, s.apply(t.Context()))
	w.wantPools("agents")
	w.wantSteady(small(onePool), reconcile.Options{})
}

// What others have set on a pool, and what is newer than the SDK, goes along to the new one;
// what AKS chose for the old size does not.
func TestRotateInherits(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.converge(small(onePool), reconcile.Options{})
	w.overlay(clusterID("prod")+"/agentPools/agents", map[string]any{"properties": map[string]any{
		"newerThanTheSdk": map[string]any{"a": 1.0}, "nodeLabels": map[string]any{"of": "others"}, "osDiskType": "Ephemeral",
		"upgradeSettings": map[string]any{"maxSurge": "33%"}, "tags": map[string]any{"cost": "7"},
	}})
	w.overlay(clusterID("prod"), map[string]any{"properties": map[string]any{"newerSystemProfile": map[string]any{"enabled": true}}})
	w.converge(larger(onePool), reconcile.Options{})
	for path, want := range map[string]any{
		"newerThanTheSdk": map[string]any{"a": 1.0}, "nodeLabels": map[string]any{"of": "others"}, "osDiskType": "Managed",
		"upgradeSettings": map[string]any{"maxSurge": "33%"}, "tags": map[string]any{"cost": "7", "amlaks-stack": "churn", "amlaks-pool": "agents"},
	} {
		if diff := cmp.Diff(want, w.pool("agentsr", path)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	if got := w.get(clusterID("prod"), "properties", "newerSystemProfile", "enabled"); got != true {
		t.Errorf("the cluster's newerSystemProfile.enabled is %v now", got)
	}
}

// Killed after any request of a rotation, the next run ends it, and the old pool never goes
// before the new one's nodes are there.
func TestRotateKilledAnywhere(t *testing.T) {
	t.Parallel()
	w := start(t, func(o *sandbox.Options) { o.OperationTime = 30 * time.Millisecond })
	sizes := []string{small("agentCount: 2"), larger("agentCount: 2")}
	w.converge(sizes[0], reconcile.Options{})
	for n := 1; ; n++ {
		stack := sizes[n%2]
		killed := w.killed(stack, reconcile.Options{}, func(at int, _ *http.Request) bool { return at == n })
		s := w.plan(stack, reconcile.Options{})
		wantDone(t, s.apply(t.Context()))
		if pools := w.poolNames(); len(pools) != 1 {
			t.Fatalf("killed after request %d: pools %v", n, pools)
		}
		w.wantIdle("prod")
		w.wantSteady(stack, reconcile.Options{})
		if t.Failed() {
			t.Fatalf("killed after request %d", n)
		}
		if !killed {
			if n < 6 {
				t.Fatalf("a rotation has %d requests only", n-1)
			}
			return
		}
	}
}
