package azure_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// TestPitfall has the list "Pitfalls to encode as tests" (docs: plan, diff and apply
// algorithms) against Resource Manager; each name begins with the list's own words. Webhook
// mutation is Kubernetes' alone: reconcile/kube has it.
func TestPitfall(t *testing.T) {
	t.Parallel()
	shared := start(t, func(o *sandbox.Options) { o.Subscriptions = []string{otherSubscription} })
	id := clusterID("prod")
	pool := id + "/agentPools/agents"
	for name, test := range map[string]func(t *testing.T, w *world){
		"defaulted fields": func(t *testing.T, w *world) {
			w.converge(small(onePool), reconcile.Options{})
			for _, path := range []string{"properties.maxAgentPools", "properties.networkProfile.outboundType", "properties.nodeResourceGroup"} {
				if w.liveValue(id, path) == nil {
					t.Errorf("nothing has filled in %s: the test tries nothing", path)
				}
			}
			w.wantSteady(small(onePool), reconcile.Options{})
		},
		"defaulted fields, default depending on another field": func(t *testing.T, w *world) {
			spot := withGPU("spot: true, agentCount: 1")
			w.converge(spot, reconcile.Options{})
			for _, path := range []string{"properties.spotMaxPrice", "properties.nodeTaints", "properties.nodeLabels"} {
				if w.liveValue(id+"/agentPools/gpu", path) == nil {
					t.Errorf("a spot pool has no %s: the test tries nothing", path)
				}
			}
			if w.liveValue(id, "properties.networkProfile.podCidr") != "10.244.0.0/16" {
				t.Error("overlay networking has brought no podCidr")
			}
			w.wantSteady(spot, reconcile.Options{})
			labelled := withGPU("spot: true, agentCount: 1, labels: {a: b}, taints: [\"sku=gpu:NoSchedule\"]")
			w.converge(labelled, reconcile.Options{})
			w.wantSteady(labelled, reconcile.Options{})
		},
		"normalised strings, eastus vs East US": func(t *testing.T, w *world) {
			east := strings.Replace(small(onePool), "workspace: {", "workspace: {location: eastus, ", 1)
			w.converge(east, reconcile.Options{})
			w.overlay(id, map[string]any{"location": "East US"})
			w.wantSteady(east, reconcile.Options{})
		},
		"normalised strings, ID casing": func(t *testing.T, w *world) {
			stack := small(onePool, "vnet: {resourceGroup: Net, name: Hub, subnet: aks, serviceCidr: 10.0.0.0/16, dnsServiceIP: 10.0.0.10}")
			w.converge(stack, reconcile.Options{})
			w.overlay(id, map[string]any{"id": strings.Replace(strings.ToLower(id), "managedclusters", "managedClusters", 1)})
			subnet := w.get(pool, "properties", "vnetSubnetID").(string)
			w.overlay(pool, map[string]any{"properties": map[string]any{"vnetSubnetID": strings.ToLower(subnet)}})
			w.wantSteady(stack, reconcile.Options{Prune: true})
			changed := strings.Replace(stack, "agentCount: 1", "agentCount: 2, tags: {cost: a}", 1)
			w.converge(changed, reconcile.Options{})
			w.wantSteady(changed, reconcile.Options{Prune: true})
		},
		"normalised strings, ID casing of an attached one": func(t *testing.T, w *world) {
			w.byHand(sandbox.ClusterRequest{Name: "existing"}, nil)
			w.overlay(clusterID("existing"), map[string]any{"id": strings.Replace(clusterID("existing"), "resourceGroups", "resourcegroups", 1)})
			stack := clusters("- {name: shared, purpose: DevTest, attach: {resourceId: " + strings.ToUpper(clusterID("existing")[:40]) + clusterID("existing")[40:] + "}}")
			w.converge(stack, reconcile.Options{})
			w.wantSteady(stack, reconcile.Options{Prune: true})
			w.plan(clusters("- {name: prod, purpose: DevTest, protect: false}"), reconcile.Options{Prune: true}).wantActions(map[reconcile.Address]reconcile.Action{
				"cluster/prod": reconcile.Create, "cluster/prod/pool/agents": reconcile.Create, "cluster/shared": reconcile.Detach,
			})
			w.converge(stack, reconcile.Options{Destroy: true})
		},
		"normalised strings, tag names": func(t *testing.T, w *world) {
			w.converge(small(onePool, "tags: {cost: a}"), reconcile.Options{})
			upper := small(onePool, "tags: {Cost: a}")
			w.wantSteady(upper, reconcile.Options{})
			w.converge(small(onePool, "tags: {Cost: b}"), reconcile.Options{})
			if got := w.tags("prod")["cost"]; got != "b" {
				t.Errorf("cost is %v", got)
			}
			w.converge(small(onePool), reconcile.Options{})
			if got := w.tags("prod")["cost"]; got != nil {
				t.Errorf("cost is still %v", got)
			}
		},
		"normalised strings, CIDR": func(t *testing.T, w *world) {
			stack := small(onePool, "authorizedIpRanges: [203.0.113.7, 198.51.100.0/24]")
			w.converge(stack, reconcile.Options{})
			want := []any{"203.0.113.7/32", "198.51.100.0/24"}
			if diff := cmp.Diff(any(want), w.liveValue(id, "properties.apiServerAccessProfile.authorizedIPRanges")); diff != "" {
				t.Errorf("nothing was normalised (-want +got):\n%s", diff)
			}
			w.wantSteady(stack, reconcile.Options{})
		},
		"normalised strings, version": func(t *testing.T, w *world) {
			stack := small(onePool, `kubernetesVersion: "1.36"`)
			w.converge(stack, reconcile.Options{})
			w.overlay(id, map[string]any{"properties": map[string]any{"kubernetesVersion": "1.36.5"}}) // auto-upgrade of patches
			w.wantSteady(stack, reconcile.Options{})
			changed := small(onePool, `kubernetesVersion: "1.36"`, "tags: {cost: a}")
			w.converge(changed, reconcile.Options{})
			if got := w.liveValue(id, "properties.kubernetesVersion"); got != "1.36.5" {
				t.Errorf("an update of a tag has sent the version: %v", got)
			}
		},
		"write-only secrets": func(t *testing.T, w *world) {
			w.converge(small(onePool), reconcile.Options{})
			w.overlay(id, map[string]any{"properties": map[string]any{"windowsProfile": map[string]any{"adminUsername": "azureuser", "adminPassword": "not-to-be-seen"}}})
			if w.liveValue(id, "properties.windowsProfile.adminPassword") != nil {
				t.Error("GET shows the password: the test tries nothing")
			}
			w.wantSteady(small(onePool), reconcile.Options{})
			w.ClearRequests()
			w.converge(small(onePool, "tags: {cost: a}"), reconcile.Options{})
			for _, r := range w.writes() {
				if strings.Contains(string(r.Body), "adminPassword") {
					t.Errorf("%s sends a password that it cannot know", line(r))
				}
			}
			if got := w.liveValue(id, "properties.windowsProfile.adminUsername"); got != "azureuser" {
				t.Errorf("adminUsername is %v now", got)
			}
		},
		"list order and keyed lists, agentPoolProfiles": func(t *testing.T, w *world) {
			stack := small(onePool, "nodePools: [{name: zeta, vmSize: Standard_D4ds_v5}, {name: alpha, vmSize: Standard_D8ds_v5, agentCount: 2}]")
			w.converge(stack, reconcile.Options{})
			profiles := w.liveValue(id, "properties.agentPoolProfiles").([]any)
			if at(profiles[1], "name") != "alpha" {
				t.Error("the pools are in the file's order: the test tries nothing")
			}
			w.wantSteady(stack, reconcile.Options{})
			w.wantSteady(small(onePool, "nodePools: [{name: alpha, vmSize: Standard_D8ds_v5, agentCount: 2}, {name: zeta, vmSize: Standard_D4ds_v5}]"), reconcile.Options{})
		},
		"list order and keyed lists, taints": func(t *testing.T, w *world) {
			stack := withGPU(`taints: ["a=b:NoSchedule", "c=d:NoExecute"]`)
			w.converge(stack, reconcile.Options{})
			w.overlay(id+"/agentPools/gpu", map[string]any{"properties": map[string]any{"nodeTaints": []any{"c=d:NoExecute", "a=b:NoSchedule"}}})
			w.wantSteady(stack, reconcile.Options{})
		},
		"null vs absent vs zero vs empty map": func(t *testing.T, w *world) {
			w.converge(small(onePool), reconcile.Options{})
			for _, properties := range []map[string]any{
				{"apiServerAccessProfile": map[string]any{}}, {"apiServerAccessProfile": nil},
				{"apiServerAccessProfile": map[string]any{"authorizedIPRanges": []any{}, "enablePrivateCluster": false}},
			} {
				w.overlay(id, map[string]any{"properties": properties})
				w.wantSteady(small(onePool), reconcile.Options{})
			}
			for _, properties := range []map[string]any{
				{"nodeTaints": nil, "nodeLabels": nil, "enableAutoScaling": nil}, {"nodeTaints": []any{}, "nodeLabels": map[string]any{}, "enableAutoScaling": false},
			} {
				w.overlay(pool, map[string]any{"properties": properties})
				w.wantSteady(small(onePool), reconcile.Options{})
			}
			empty := withGPU("minCount: 0, maxCount: 3") // zero is a value
			w.converge(empty, reconcile.Options{})
			if got := w.liveValue(id+"/agentPools/gpu", "properties.minCount"); got != 0.0 {
				t.Errorf("minCount %v", got)
			}
			w.wantSteady(empty, reconcile.Options{})
		},
		"PUT≠GET payload": func(t *testing.T, w *world) {
			stack := small(onePool, "authorizedIpRanges: [203.0.113.7]")
			w.ClearRequests()
			w.converge(stack, reconcile.Options{})
			if sent := string(w.writes()[0].Body); !strings.Contains(sent, `"203.0.113.7"`) || strings.Contains(sent, "provisioningState") || strings.Contains(sent, "null") {
				t.Errorf("the PUT was %s", sent)
			}
			w.wantSteady(stack, reconcile.Options{})
			// What a GET gave goes back with an update, its read-only fields with it, and is taken.
			w.converge(small(onePool, "authorizedIpRanges: [203.0.113.7, 203.0.113.8]"), reconcile.Options{})
		},
		"eventual consistency after write": func(t *testing.T, w *world) {
			w.converge(small(onePool), reconcile.Options{})
			for _, test := range []struct {
				reads int
				warns bool
			}{{3, false}, {50, true}} {
				w.Stale(id, test.reads)
				w.Stale(pool, test.reads)
				s := w.plan(small("agentCount: 2", "tags: {cost: a}"), reconcile.Options{})
				wantDone(t, s.apply(t.Context()))
				warned := map[reconcile.Address]bool{}
				for _, e := range s.events {
					warned[e.Address] = warned[e.Address] || strings.HasPrefix(e.Message, "warning: ")
				}
				if warned["cluster/prod"] != test.warns || warned["cluster/prod/pool/agents"] != test.warns {
					t.Errorf("%d stale reads: warnings of %v", test.reads, warned)
				}
				w.Stale(id, 0)
				w.Stale(pool, 0)
				w.wantSteady(small("agentCount: 2", "tags: {cost: a}"), reconcile.Options{})
				w.converge(small(onePool), reconcile.Options{})
			}
		},
		"transitional provisioningState": func(t *testing.T, w *world) {
			w.converge(small(onePool), reconcile.Options{})
			for _, provisioning := range []string{"Upgrading", "Scaling", "SomethingNew"} {
				w.overlay(id, map[string]any{"properties": map[string]any{"provisioningState": provisioning}})
				w.ClearRequests()
				s := w.plan(small(onePool), reconcile.Options{})
				s.wantActions(map[reconcile.Address]reconcile.Action{"cluster/prod": reconcile.Wait})
				var once sync.Once
				s.each = func(e reconcile.Event) {
					if e.Phase == reconcile.Progress && strings.Contains(e.Message, provisioning) {
						once.Do(func() {
							w.overlay(id, map[string]any{"properties": map[string]any{"provisioningState": "Succeeded"}})
						})
					}
				}
				wantDone(t, s.apply(t.Context()))
				w.wantWrites()
			}
		},
		"fields another actor owns": func(t *testing.T, w *world) {
			scaled := withGPU("minCount: 1, maxCount: 5, labels: {a: b}")
			w.converge(scaled, reconcile.Options{})
			others := map[string]any{"azurepolicy": map[string]any{"enabled": true}}
			w.overlay(id, map[string]any{"tags": map[string]any{"policy": "x"}, "properties": map[string]any{"addonProfiles": others}})
			w.overlay(id+"/agentPools/gpu", map[string]any{"properties": map[string]any{
				"count": 4.0, "nodeLabels": map[string]any{"kubernetes.azure.com/x": "y"}, "tags": map[string]any{"policy": "x"},
			}})
			w.wantSteady(scaled, reconcile.Options{})
			changed := strings.Replace(withGPU("minCount: 1, maxCount: 6, labels: {a: c}"), "protect: false", "protect: false, tags: {cost: a}", 1)
			w.converge(changed, reconcile.Options{})
			for path, want := range map[string]any{"tags.policy": "x", "properties.addonProfiles": others} {
				if diff := cmp.Diff(want, w.liveValue(id, path)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", path, diff)
				}
			}
			for path, want := range map[string]any{
				"properties.count": 4.0, "properties.tags.policy": "x", "properties.nodeLabels": map[string]any{"a": "c", "kubernetes.azure.com/x": "y"},
			} {
				if diff := cmp.Diff(want, w.liveValue(id+"/agentPools/gpu", path)); diff != "" {
					t.Errorf("the pool's %s (-want +got):\n%s", path, diff)
				}
			}
		},
		"removed-from-spec field": func(t *testing.T, w *world) { // TestLeftTheFile has them all
			w.converge(small(onePool, "tags: {cost: a}"), reconcile.Options{})
			w.plan(small(onePool), reconcile.Options{}).wantActions(map[reconcile.Address]reconcile.Action{"cluster/prod": reconcile.Update})
			w.converge(small(onePool), reconcile.Options{})
			if got, there := w.tags("prod")["cost"]; there {
				t.Errorf("cost is still %v", got)
			}
		},
		"create-time-only fields": func(t *testing.T, w *world) { // the table: TestPromise5EveryFieldIsUpdatableOrInTheTable
			w.byHand(sandbox.ClusterRequest{Name: "prod"}, nil)
			stack := small(onePool, "adopt: true")
			w.converge(stack, reconcile.Options{})
			if got := w.liveValue(id, "properties.dnsPrefix"); got != "prod" {
				t.Errorf("dnsPrefix %v: it is not that of the cluster that was there", got)
			}
			w.wantSteady(stack, reconcile.Options{})
		},
		"partial PUT that resets omitted fields": func(t *testing.T, w *world) {
			w.converge(small(onePool), reconcile.Options{})
			merge := map[string]any{"autoUpgradeProfile": map[string]any{"upgradeChannel": "stable"}, "workloadAutoScalerProfile": map[string]any{"keda": map[string]any{"enabled": true}}}
			w.overlay(id, map[string]any{"properties": merge})
			w.overlay(pool, map[string]any{"properties": map[string]any{"upgradeSettings": map[string]any{"maxSurge": "33%"}}})
			changed := small("agentCount: 2", "tags: {cost: a}")
			w.converge(changed, reconcile.Options{})
			for path, want := range merge {
				if diff := cmp.Diff(want, w.liveValue(id, "properties."+path)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", path, diff)
				}
			}
			if got := w.liveValue(pool, "properties.upgradeSettings.maxSurge"); got != "33%" {
				t.Errorf("the pool's maxSurge is %v", got)
			}
			// Such a PUT does reset: else the above could not fail.
			if status, answer := w.send(http.MethodPut, pool, `{"properties": {"vmSize": "Standard_D4ds_v5", "count": 2, "mode": "System"}}`); status != http.StatusOK {
				t.Fatalf("HTTP %d: %v", status, answer)
			}
			w.wantIdle("prod")
			if got := w.liveValue(pool, "properties.upgradeSettings"); got != nil {
				t.Errorf("a PUT without upgradeSettings has left %v", got)
			}
			w.overlay(pool, map[string]any{"properties": map[string]any{"tags": map[string]any{"amlaks-stack": "churn"}}})
		},
		"preview API versions returning extra fields": func(t *testing.T, w *world) {
			w.converge(small(onePool), reconcile.Options{})
			newer := map[string]any{"newerThanTheSdk": map[string]any{"mode": "x", "list": []any{1.0, map[string]any{"a": "b"}}}}
			w.overlay(id, map[string]any{"properties": newer, "newerAtTheTop": "y"})
			w.overlay(pool, map[string]any{"properties": newer})
			w.wantSteady(small(onePool), reconcile.Options{})
			w.converge(small("agentCount: 2", "tags: {cost: a}"), reconcile.Options{})
			for _, of := range []string{id, pool} {
				if diff := cmp.Diff(newer["newerThanTheSdk"], w.liveValue(of, "properties.newerThanTheSdk")); diff != "" {
					t.Errorf("%s (-want +got):\n%s", of, diff)
				}
			}
			if got := w.get(id, "newerAtTheTop"); got != "y" {
				t.Errorf("newest is %v", got)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{Sandbox: shared.Sandbox, t: t}
			test(t, w)
			w.converge(clusters("- {name: prod, purpose: DevTest, protect: false}"), reconcile.Options{Destroy: true})
		})
	}
}
