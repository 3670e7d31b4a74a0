package azure_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	aks "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// What changes in the file is written to the resource that it belongs to, and to no other.
func TestUpdate(t *testing.T) {
	t.Parallel()
	w := start(t)
	const (
		gpu     = "nodePools: [{name: gpu, vmSize: Standard_NC4as_T4_v3}]"
		cluster = reconcile.Address("cluster/prod")
		agents  = reconcile.Address("cluster/prod/pool/agents")
		other   = reconcile.Address("cluster/prod/pool/gpu")
	)
	type actions = map[reconcile.Address]reconcile.Action
	for name, test := range map[string]struct {
		before, after string // of the cluster's keys
		prune         bool
		meanwhile     map[string]any // what the service makes of it
		want          actions
		writes        []string
	}{
		"agentCount": {
			before: "agentCount: 1", after: "agentCount: 2",
			want: actions{agents: reconcile.Update}, writes: []string{"PUT prod/agentPools/agents if match"},
		},
		"pool added": {
			before: onePool, after: onePool + ", " + gpu,
			want: actions{other: reconcile.Create}, writes: []string{"PUT prod/agentPools/gpu if none"},
		},
		"autoscaled pool added": {
			before: onePool, after: onePool + ", nodePools: [{name: gpu, vmSize: Standard_NC4as_T4_v3, minCount: 1, maxCount: 3}]",
			want: actions{other: reconcile.Create}, writes: []string{"PUT prod/agentPools/gpu if none"},
		},
		"pool removed": {
			before: onePool + ", " + gpu, after: onePool,
			want: actions{other: reconcile.Keep},
		},
		"pool pruned": {
			before: onePool + ", " + gpu, after: onePool, prune: true,
			want: actions{other: reconcile.Delete}, writes: []string{"DELETE prod/agentPools/gpu"},
		},
		"taints": {
			before: onePool + `, nodePools: [{name: gpu, vmSize: Standard_NC4as_T4_v3, taints: ["a=b:NoSchedule"]}]`, after: onePool + ", " + gpu,
			want: actions{other: reconcile.Update}, writes: []string{"PUT prod/agentPools/gpu if match"},
		},
		"labels": {
			before: onePool + ", " + gpu, after: onePool + ", nodePools: [{name: gpu, vmSize: Standard_NC4as_T4_v3, labels: {accelerator: nvidia, team: risk}}]",
			want: actions{other: reconcile.Update}, writes: []string{"PUT prod/agentPools/gpu if match"},
		},
		"tags": {
			before: onePool, after: onePool + `, tags: {cost: "7"}`,
			want: actions{cluster: reconcile.Update}, writes: []string{"PUT prod if match"},
		},
		"version": {
			before: onePool + `, kubernetesVersion: "1.35"`, after: onePool + `, kubernetesVersion: "1.36"`,
			want: actions{cluster: reconcile.Update, agents: reconcile.Update}, writes: []string{"PUT prod if match", "PUT prod/agentPools/agents if match"},
		},
		"version given up": {before: onePool + `, kubernetesVersion: "1.35"`, after: onePool},
		"address ranges in another order": {
			before: onePool + ", authorizedIpRanges: [203.0.113.0/24, 198.51.100.0/24]", after: onePool + ", authorizedIpRanges: [198.51.100.0/24, 203.0.113.0/24]",
		},
		"spelled otherwise by the service": {
			before: onePool, after: onePool,
			meanwhile: map[string]any{"location": "West Europe", "sku": map[string]any{"name": "base", "tier": "FREE"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{Sandbox: w.Sandbox, t: t}
			w.converge(small(test.before), reconcile.Options{})
			if test.meanwhile != nil {
				w.overlay(clusterID("prod"), test.meanwhile)
			}
			w.ClearRequests()
			s := w.plan(small(test.after), reconcile.Options{Prune: test.prune})
			s.wantActions(test.want)
			wantDone(t, s.apply(t.Context()))
			w.wantWrites(test.writes...)
			w.wantSteady(small(test.after), reconcile.Options{})
			w.converge(small(test.after), reconcile.Options{Destroy: true})
		})
	}
}

// An update keeps what no version of the SDK knows, and what others have written.
func TestUpdateKeepsTheRest(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.converge(small(onePool), reconcile.Options{})
	pool := clusterID("prod") + "/agentPools/agents"
	w.overlay(clusterID("prod"), map[string]any{
		"tags":       map[string]any{"team": "risk"},
		"properties": map[string]any{"newerSystemProfile": map[string]any{"enabled": true}, "networkProfile": map[string]any{"newerThanTheSdk": "x"}},
	})
	w.overlay(pool, map[string]any{"properties": map[string]any{"newerThanTheSdk": map[string]any{"a": 1.0}}})
	for name, test := range map[string]struct {
		stack, write string
	}{
		"tags":       {small("agentCount: 1", "tags: {cost: a}"), "PUT prod if match"},
		"protect":    {strings.Replace(small("agentCount: 1", "tags: {cost: b}"), "protect: false", "protect: true", 1), "PUT prod if match"},
		"agentCount": {small("agentCount: 3", "tags: {cost: b}"), "PUT prod/agentPools/agents if match"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{Sandbox: w.Sandbox, t: t}
			w.converge(small("agentCount: 1", "tags: {cost: b}"), reconcile.Options{})
			w.ClearRequests()
			w.converge(test.stack, reconcile.Options{})
			w.wantWrites(test.write)
			if got := w.get(clusterID("prod"), "properties", "newerSystemProfile", "enabled"); got != true {
				t.Errorf("newerSystemProfile.enabled is %v now", got)
			}
			if got := w.get(clusterID("prod"), "properties", "networkProfile", "newerThanTheSdk"); got != "x" {
				t.Errorf("networkProfile.newerThanTheSdk is %v now", got)
			}
			if got := w.get(pool, "properties", "newerThanTheSdk", "a"); got != 1.0 {
				t.Errorf("the pool's newerThanTheSdk.a is %v now", got)
			}
			if got := w.tags("prod")["team"]; got != "risk" {
				t.Errorf("tag team is %v now", got)
			}
			for _, r := range w.writes() {
				if strings.Contains(string(r.Body), "agentPoolProfiles") {
					t.Errorf("%s carries pools", line(r))
				}
			}
		})
	}
}

// The body of an update is, but for what is newer, one that the SDK's types understand.
func TestUpdateBody(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.converge(small("agentCount: 1"), reconcile.Options{})
	w.ClearRequests()
	w.converge(small("agentCount: 2", "tags: {cost: a}"), reconcile.Options{})
	for _, r := range w.writes() {
		if strings.Contains(r.Path, "/agentPools/") {
			var sent aks.AgentPool
			understood(t, r.Body, &sent)
			if *sent.Properties.Count != 2 {
				t.Errorf("count %d", *sent.Properties.Count)
			}
			continue
		}
		var sent aks.ManagedCluster
		understood(t, r.Body, &sent)
		if *sent.Tags["cost"] != "a" {
			t.Errorf("tags %v", sent.Tags)
		}
	}
	w.wantWrites("PUT prod if match", "PUT prod/agentPools/agents if match")
}

// A cluster or a pool whose last operation came to nothing is sent again, and is well then.
func TestMend(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.converge(small(onePool), reconcile.Options{})
	pool := clusterID("prod") + "/agentPools/agents"
	for _, ended := range []string{"Failed", "Canceled"} {
		for id, test := range map[string]struct {
			address reconcile.Address
			write   string
		}{
			clusterID("prod"): {"cluster/prod", "PUT prod if match"},
			pool:              {"cluster/prod/pool/agents", "PUT prod/agentPools/agents if match"},
		} {
			w.overlay(id, map[string]any{"properties": map[string]any{"provisioningState": ended}})
			w.ClearRequests()
			s := w.plan(small(onePool), reconcile.Options{})
			s.wantActions(map[reconcile.Address]reconcile.Action{test.address: reconcile.Wait})
			wantDone(t, s.apply(t.Context()))
			w.wantWrites(test.write)
			w.wantSteady(small(onePool), reconcile.Options{})
		}
	}
}

// AKS runs one operation on a cluster at a time: several changes to one do not collide.
func TestOneWriter(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.converge(small("agentCount: 1", "nodePools: [{name: a, vmSize: Standard_D4ds_v5}, {name: b, vmSize: Standard_D4ds_v5}]"), reconcile.Options{})
	w.ClearRequests()
	w.converge(small("agentCount: 2", "nodePools: [{name: a, vmSize: Standard_D4ds_v5, agentCount: 2}, {name: c, vmSize: Standard_D4ds_v5}, {name: d, vmSize: Standard_D4ds_v5}]"), reconcile.Options{Prune: true})
	var lines []string
	for _, r := range w.writes() {
		lines = append(lines, line(r))
		if r.Status >= 400 {
			t.Errorf("%s: HTTP %d", line(r), r.Status)
		}
	}
	slices.Sort(lines)
	want := []string{"DELETE prod/agentPools/b", "PUT prod/agentPools/a if match", "PUT prod/agentPools/agents if match", "PUT prod/agentPools/c if none", "PUT prod/agentPools/d if none"}
	if !slices.Equal(lines, want) {
		t.Errorf("writes %q, want %q", lines, want)
	}
}

// What somebody else writes between the look and the write is seen by the ETag, and kept.
func TestWriteRace(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.converge(small(onePool), reconcile.Options{})
	w.byHand(sandbox.ClusterRequest{Name: "existing"}, map[string]any{"team": "risk"})
	attached := clusters("- {name: prod, purpose: DevTest, protect: false, tags: {cost: a}}\n- {name: shared, purpose: DevTest, attach: {resourceGroup: ml-prod, clusterName: existing}}")
	for _, test := range []struct{ name, stack, cluster, write string }{
		{"update", small(onePool, "tags: {cost: a}"), "prod", "PUT prod if match"},
		{"attach", attached, "existing", "PATCH existing if match"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := &world{Sandbox: w.Sandbox, t: t}
			w.ClearRequests()
			s := w.plan(test.stack, reconcile.Options{})
			var once sync.Once
			s.each = func(e reconcile.Event) {
				if e.Phase == reconcile.Progress && strings.HasPrefix(e.Message, "waiting for Azure to ") {
					once.Do(func() {
						w.overlay(clusterID(test.cluster), map[string]any{"tags": map[string]any{"raced": test.name}})
					})
				}
			}
			wantDone(t, s.apply(t.Context()))
			w.wantWrites(test.write, test.write)
			if first := w.writes()[0].Status; first != 412 {
				t.Errorf("the first write got HTTP %d, want 412", first)
			}
			if got := w.tags(test.cluster)["raced"]; got != test.name {
				t.Errorf("the tag that was written meanwhile is %v", got)
			}
			w.wantSteady(test.stack, reconcile.Options{})
		})
	}
}
