package azure_test

import (
	"encoding/json"
	"net/http"
	"testing"

	aks "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"
	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure"
)

// understood decodes a sent body with the SDK's type and checks that nothing is lost: ARM
// refuses or, worse, drops what it does not know.
func understood(t *testing.T, sent json.RawMessage, into any) {
	t.Helper()
	if err := json.Unmarshal(sent, into); err != nil {
		t.Fatal(err)
	}
	kept, err := json.Marshal(into)
	if err != nil {
		t.Fatal(err)
	}
	var before, after any
	if json.Unmarshal(sent, &before) != nil || json.Unmarshal(kept, &after) != nil {
		t.Fatal("not JSON")
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the SDK's type does not hold all that was sent (-sent +understood):\n%s", diff)
	}
}

// Every shape of cluster is one request that AKS understands, under If-None-Match, with the
// tags in it; what comes back of it is no drift.
func TestCreate(t *testing.T) {
	t.Parallel()
	w := start(t)
	vnet := `vnet: {resourceGroup: net, name: hub, subnet: aks, serviceCidr: 10.0.0.0/16, dnsServiceIP: 10.0.0.10}`
	for name, test := range map[string]struct {
		more  string
		check func(t *testing.T, sent aks.ManagedCluster)
	}{
		"small": {onePool, func(t *testing.T, sent aks.ManagedCluster) {
			if got := *sent.Properties.DNSPrefix; got != "churn-prod" {
				t.Errorf("dnsPrefix %s", got)
			}
			if *sent.SKU.Tier != aks.ManagedClusterSKUTierFree || sent.Properties.KubernetesVersion != nil {
				t.Errorf("tier %s, kubernetesVersion %v", *sent.SKU.Tier, sent.Properties.KubernetesVersion)
			}
		}},
		"version and tags": {onePool + `, kubernetesVersion: "1.35", tags: {cost: "7"}`, func(t *testing.T, sent aks.ManagedCluster) {
			if *sent.Properties.KubernetesVersion != "1.35" || *sent.Tags["cost"] != "7" {
				t.Errorf("version %s, tags %v", *sent.Properties.KubernetesVersion, sent.Tags)
			}
		}},
		"network": {onePool + ", " + vnet + ", authorizedIpRanges: [203.0.113.0/24, 198.51.100.0/24]", func(t *testing.T, sent aks.ManagedCluster) {
			subnet := "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/hub/subnets/aks"
			if got := *sent.Properties.AgentPoolProfiles[0].VnetSubnetID; got != subnet {
				t.Errorf("subnet %s", got)
			}
			if len(sent.Properties.APIServerAccessProfile.AuthorizedIPRanges) != 2 || *sent.Properties.NetworkProfile.DNSServiceIP != "10.0.0.10" {
				t.Errorf("%v, %s", sent.Properties.APIServerAccessProfile, *sent.Properties.NetworkProfile.DNSServiceIP)
			}
		}},
		"private": {onePool + ", privateCluster: true", func(t *testing.T, sent aks.ManagedCluster) {
			if !*sent.Properties.APIServerAccessProfile.EnablePrivateCluster {
				t.Error("it would be public")
			}
		}},
		"pools": {`agentCount: 2, nodePools: [{name: gpu, vmSize: Standard_NC4as_T4_v3, minCount: 1, maxCount: 4, spot: true, labels: {accelerator: nvidia}, taints: ["sku=gpu:NoSchedule"]}]`,
			func(t *testing.T, sent aks.ManagedCluster) {
				pools := sent.Properties.AgentPoolProfiles
				if len(pools) != 2 || *pools[0].Count != 2 || *pools[0].Mode != aks.AgentPoolModeSystem || *pools[1].Mode != aks.AgentPoolModeUser {
					t.Fatalf("pools %v", pools)
				}
				gpu := pools[1]
				if *gpu.Count != 1 || *gpu.MaxCount != 4 || !*gpu.EnableAutoScaling || *gpu.ScaleSetPriority != aks.ScaleSetPrioritySpot || *gpu.NodeTaints[0] != "sku=gpu:NoSchedule" {
					t.Errorf("pool gpu: %+v", gpu)
				}
			}},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{Sandbox: w.Sandbox, t: t}
			w.ClearRequests()
			stack := small(test.more)
			result := w.converge(stack, reconcile.Options{})
			w.wantWrites("PUT prod if none")
			if t.Failed() {
				t.FailNow()
			}
			var sent aks.ManagedCluster
			understood(t, w.writes()[0].Body, &sent)
			if *sent.Location != "westeurope" {
				t.Errorf("location %s, want the workspace's", *sent.Location)
			}
			if sent.Tags["amlaks-stack"] == nil || *sent.Tags["amlaks-stack"] != "churn" || *sent.Tags["amlaks-protect"] != "false" {
				t.Errorf("tags in the request: %v", sent.Tags)
			}
			for _, pool := range sent.Properties.AgentPoolProfiles {
				if pool.Tags["amlaks-stack"] == nil || *pool.Tags["amlaks-stack"] != "churn" {
					t.Errorf("tags of pool %s: %v", *pool.Name, pool.Tags)
				}
			}
			test.check(t, sent)
			outputs := result.Outputs[azure.ClusterAddress("prod")]
			if outputs[azure.OutputKubeconfig] != kubeconfig || outputs[azure.OutputLocation] != "westeurope" || outputs[azure.OutputID] != clusterID("prod") {
				t.Errorf("outputs %v", outputs)
			}
			w.wantSteady(stack, reconcile.Options{})
			w.converge(stack, reconcile.Options{Destroy: true})
		})
	}
}

func TestCreatePlan(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.plan(small(onePool, "nodePools: [{name: gpu, vmSize: Standard_NC4as_T4_v3}]"), reconcile.Options{})
	s.wantActions(map[reconcile.Address]reconcile.Action{
		"cluster/prod": reconcile.Create, "cluster/prod/pool/agents": reconcile.Create, "cluster/prod/pool/gpu": reconcile.Create,
	})
	wantDone(t, s.apply(t.Context()))
	// One run's requests are found together in the activity log.
	ids := map[string]bool{}
	for _, r := range w.Requests("arm") {
		ids[r.Headers["X-Ms-Correlation-Request-Id"]] = true
	}
	if len(ids) != 1 || ids[""] {
		t.Errorf("correlation ids %v, want one", ids)
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	w := start(t)
	stack := small("agentCount: 1, nodePools: [{name: gpu, vmSize: Standard_NC4as_T4_v3}]")
	w.converge(stack, reconcile.Options{})
	w.ClearRequests()
	s := w.plan(stack, reconcile.Options{Destroy: true})
	s.wantActions(map[reconcile.Address]reconcile.Action{"cluster/prod": reconcile.Delete}) // its pools go with it
	wantDone(t, s.apply(t.Context()))
	w.wantWrites("DELETE prod")
	if status, _ := w.send(http.MethodGet, clusterID("prod"), ""); status != http.StatusNotFound {
		t.Errorf("the cluster answers HTTP %d", status)
	}
	if again := w.plan(stack, reconcile.Options{Destroy: true}); len(again.plan.Changes) != 0 {
		t.Errorf("a second destroy has %v", again.actions())
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	w := start(t)
	one := `- {name: one, purpose: DevTest, protect: false}`
	two := `- {name: two, purpose: DevTest, protect: false}`
	w.converge(clusters(one+"\n"+two), reconcile.Options{})
	kept := w.plan(clusters(one), reconcile.Options{})
	kept.wantActions(map[reconcile.Address]reconcile.Action{"cluster/two": reconcile.Keep, "cluster/two/pool/agents": reconcile.Keep})
	w.ClearRequests()
	wantDone(t, kept.apply(t.Context()))
	w.wantWrites()
	pruned := w.plan(clusters(one), reconcile.Options{Prune: true})
	pruned.wantActions(map[reconcile.Address]reconcile.Action{"cluster/two": reconcile.Delete})
	wantDone(t, pruned.apply(t.Context()))
	w.wantWrites("DELETE two")
	w.wantSteady(clusters(one), reconcile.Options{Prune: true})
}
