package sandbox_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"
)

// Versions are as AKS has them: listed, taken a minor at a time, and refused with its codes.
func TestVersions(t *testing.T) {
	s := start(t, t.TempDir())
	clusters, pools := aks(t, s)
	listed, err := clusters.ListKubernetesVersions(t.Context(), "westeurope", nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range listed.Values {
		names = append(names, *v.Version)
		if official := slices.ContainsFunc(v.Capabilities.SupportPlan, func(p *armcontainerservice.KubernetesSupportPlan) bool {
			return *p == armcontainerservice.KubernetesSupportPlanKubernetesOfficial
		}); official == (*v.Version == "1.33") {
			t.Errorf("%s: support without an extra plan: %v", *v.Version, official)
		}
		if patch := v.PatchVersions[*v.Version+".1"]; patch == nil || *patch.Upgrades[0] != *v.Version+".2" {
			t.Errorf("%s: patches %v", *v.Version, v.PatchVersions)
		}
	}
	if !slices.Equal(names, []string{"1.33", "1.34", "1.35", "1.36", "1.37", "1.38"}) {
		t.Errorf("versions %v", names)
	}

	create(t, clusters, "prod")
	live, err := clusters.Get(t.Context(), group, "prod", nil)
	if err != nil {
		t.Fatal(err)
	}
	cluster := func(version string) error {
		sent := armcontainerservice.ManagedCluster{Location: live.Location, Identity: live.Identity, SKU: live.SKU, Tags: live.Tags,
			Properties: &armcontainerservice.ManagedClusterProperties{DNSPrefix: live.Properties.DNSPrefix, EnableRBAC: live.Properties.EnableRBAC, KubernetesVersion: to.Ptr(version)}}
		poller, err := clusters.BeginCreateOrUpdate(t.Context(), group, "prod", sent, nil)
		if err != nil {
			return err
		}
		_, err = poller.PollUntilDone(t.Context(), nil)
		return err
	}
	name := *live.Properties.AgentPoolProfiles[0].Name
	pool := func(version string) error {
		there, err := pools.Get(t.Context(), group, "prod", name, nil)
		if err != nil {
			return err
		}
		there.Properties.OrchestratorVersion = to.Ptr(version)
		poller, err := pools.BeginCreateOrUpdate(t.Context(), group, "prod", name, armcontainerservice.AgentPool{Properties: there.Properties}, nil)
		if err != nil {
			return err
		}
		_, err = poller.PollUntilDone(t.Context(), nil)
		return err
	}
	if *live.Properties.CurrentKubernetesVersion != "1.36.2" {
		t.Fatalf("a new cluster runs %s", *live.Properties.CurrentKubernetesVersion)
	}
	wantCode(t, cluster("1.35"), http.StatusBadRequest, "OperationNotAllowed") // back
	wantCode(t, cluster("1.38"), http.StatusBadRequest, "OperationNotAllowed") // over 1.37
	wantCode(t, cluster("1.20"), http.StatusBadRequest, "K8sVersionNotSupported")
	wantCode(t, cluster("1.37.9"), http.StatusBadRequest, "K8sVersionNotSupported")
	wantCode(t, pool("1.37"), http.StatusBadRequest, "NodePoolMcVersionIncompatible") // ahead of the control plane
	if err := cluster("1.37.1"); err != nil {
		t.Fatal(err)
	}
	if there, err := pools.Get(t.Context(), group, "prod", name, nil); err != nil || *there.Properties.CurrentOrchestratorVersion != "1.36.2" {
		t.Errorf("the pool went along: %v", err)
	}
	wantCode(t, pool("1.37.2"), http.StatusBadRequest, "NodePoolMcVersionIncompatible")
	wantCode(t, pool("1.35"), http.StatusBadRequest, "AgentPoolUpgradeVersionNotAllowed")
	if err := pool("1.37.1"); err != nil {
		t.Fatal(err)
	}
	if there, err := pools.Get(t.Context(), group, "prod", name, nil); err != nil || *there.Properties.CurrentOrchestratorVersion != "1.37.1" {
		t.Errorf("the pool was not upgraded: %v", err)
	}
	if err := s.Overlay(*live.ID+"/agentPools/"+name, map[string]any{"properties": map[string]any{"currentOrchestratorVersion": "1.34.2"}}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, cluster("1.38"), http.StatusBadRequest, "NodePoolMcVersionIncompatible") // four minors
}

// What AKS does not take as a system pool or as an identity is refused.
func TestClusterRules(t *testing.T) {
	s := start(t, t.TempDir())
	clusters, _ := aks(t, s)
	for name, test := range map[string]struct {
		change func(*armcontainerservice.ManagedCluster)
		code   string
	}{
		"small": {func(c *armcontainerservice.ManagedCluster) {
			c.Properties.AgentPoolProfiles[0].VMSize = to.Ptr("Standard_D1_v2")
		}, "SystemPoolSkuTooLow"},
		"spot": {func(c *armcontainerservice.ManagedCluster) {
			c.Properties.AgentPoolProfiles[0].ScaleSetPriority = to.Ptr(armcontainerservice.ScaleSetPrioritySpot)
		}, "InvalidParameter"},
		"few pods": {func(c *armcontainerservice.ManagedCluster) {
			c.Properties.AgentPoolProfiles[0].MaxPods = to.Ptr[int32](20)
		}, "InvalidParameter"},
		"no identity": {func(c *armcontainerservice.ManagedCluster) {
			c.Identity.Type = to.Ptr(armcontainerservice.ResourceIdentityTypeUserAssigned)
		}, "InvalidParameter"},
		"no issuer": {func(c *armcontainerservice.ManagedCluster) {
			c.Properties.SecurityProfile = &armcontainerservice.ManagedClusterSecurityProfile{WorkloadIdentity: &armcontainerservice.ManagedClusterSecurityProfileWorkloadIdentity{Enabled: to.Ptr(true)}}
		}, "BadRequest"},
		"long-term": {func(c *armcontainerservice.ManagedCluster) { c.Properties.KubernetesVersion = to.Ptr("1.33") }, "K8sVersionNotSupported"},
		"pool too new": {func(c *armcontainerservice.ManagedCluster) {
			c.Properties.AgentPoolProfiles[0].OrchestratorVersion = to.Ptr("1.37")
		}, "NodePoolMcVersionIncompatible"},
	} {
		t.Run(name, func(t *testing.T) {
			sent := armcontainerservice.ManagedCluster{
				Location: to.Ptr("westeurope"), Identity: &armcontainerservice.ManagedClusterIdentity{Type: to.Ptr(armcontainerservice.ResourceIdentityTypeSystemAssigned)},
				Properties: &armcontainerservice.ManagedClusterProperties{DNSPrefix: to.Ptr("prod"), AgentPoolProfiles: []*armcontainerservice.ManagedClusterAgentPoolProfile{{
					Name: to.Ptr("agents"), VMSize: to.Ptr("Standard_D4ds_v5"), Count: to.Ptr[int32](1), Mode: to.Ptr(armcontainerservice.AgentPoolModeSystem)}}},
			}
			test.change(&sent)
			_, err := clusters.BeginCreateOrUpdate(t.Context(), group, "prod", sent, nil)
			wantCode(t, err, http.StatusBadRequest, test.code)
		})
	}
}
