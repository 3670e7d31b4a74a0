package sandbox_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"
	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// Azure compares tag names without regard to case, keeps the first spelling, and has limits.
func TestTagNames(t *testing.T) {
	s := start(t, t.TempDir())
	clusters, _ := aks(t, s)
	live := create(t, clusters, "prod")
	live.Tags = map[string]*string{"Cost": to.Ptr("a")}
	if err := put(t, clusters, "prod", live); err != nil {
		t.Fatal(err)
	}
	live.Tags = map[string]*string{"cost": to.Ptr("b"), "gone": nil}
	if err := put(t, clusters, "prod", live); err != nil {
		t.Fatal(err)
	}
	shown, err := clusters.Get(t.Context(), group, "prod", nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]*string{"Cost": to.Ptr("b")}, shown.Tags); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	for name, test := range map[string]struct {
		tags map[string]*string
		code string
	}{
		"twice":      {map[string]*string{"a": to.Ptr("1"), "A": to.Ptr("2")}, "DuplicateTagNames"},
		"no name":    {map[string]*string{"a/b": to.Ptr("1")}, "InvalidTagNames"},
		"long value": {map[string]*string{"a": to.Ptr(strings.Repeat("v", 257))}, "InvalidTagNames"},
	} {
		live.Tags = test.tags
		t.Run(name, func(t *testing.T) { wantCode(t, put(t, clusters, "prod", live), http.StatusBadRequest, test.code) })
	}
}

// An autoscaler and its bounds come together or not at all; a spot pool gets AKS' own taint.
func TestPoolHabits(t *testing.T) {
	s := start(t, t.TempDir())
	clusters, pools := aks(t, s)
	create(t, clusters, "prod")
	send := func(properties armcontainerservice.ManagedClusterAgentPoolProfileProperties) error {
		properties.VMSize = to.Ptr("Standard_D4ds_v5")
		poller, err := pools.BeginCreateOrUpdate(t.Context(), group, "prod", "extra", armcontainerservice.AgentPool{Properties: &properties}, nil)
		if err == nil {
			_, err = poller.PollUntilDone(t.Context(), nil)
		}
		return err
	}
	wantCode(t, send(armcontainerservice.ManagedClusterAgentPoolProfileProperties{EnableAutoScaling: to.Ptr(true)}), http.StatusBadRequest, "InvalidParameter")
	wantCode(t, send(armcontainerservice.ManagedClusterAgentPoolProfileProperties{MinCount: to.Ptr[int32](1), MaxCount: to.Ptr[int32](2)}), http.StatusBadRequest, "InvalidParameter")
	if err := send(armcontainerservice.ManagedClusterAgentPoolProfileProperties{ScaleSetPriority: to.Ptr(armcontainerservice.ScaleSetPrioritySpot)}); err != nil {
		t.Fatal(err)
	}
	live, err := pools.Get(t.Context(), group, "prod", "extra", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := live.Properties; len(got.NodeTaints) != 1 || *got.NodeTaints[0] != "kubernetes.azure.com/scalesetpriority=spot:NoSchedule" || *got.SpotMaxPrice != -1 {
		t.Errorf("a spot pool: taints %v, price %v", got.NodeTaints, got.SpotMaxPrice)
	}
}

// So many reads after a write are those of a replica that has not heard of it.
func TestStaleReads(t *testing.T) {
	s := start(t, t.TempDir())
	clusters, _ := aks(t, s)
	live := create(t, clusters, "prod")
	s.Stale(clusterID("prod"), 2)
	live.Tags = map[string]*string{"new": to.Ptr("yes")}
	poller, err := clusters.BeginCreateOrUpdate(t.Context(), group, "prod", live, nil)
	if err != nil {
		t.Fatal(err)
	}
	for !poller.Done() { // without the SDK's own last GET
		if _, err := poller.Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var seen []bool
	for range 3 {
		shown, err := clusters.Get(t.Context(), group, "prod", nil)
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, shown.Tags["new"] != nil)
	}
	if diff := cmp.Diff([]bool{false, false, true}, seen); diff != "" {
		t.Errorf("whether a read shows the write (-want +got):\n%s", diff)
	}
}

// Further subscriptions are listed, and hold clusters of their own.
func TestSubscriptions(t *testing.T) {
	const other = "99999999-0000-0000-0000-000000000001"
	s := start(t, t.TempDir(), func(o *sandbox.Options) { o.Subscriptions = []string{other} })
	if err := s.CreateCluster(t.Context(), sandbox.ClusterRequest{Name: "theirs", SubscriptionID: other}); err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]string{
		"/subscriptions?api-version=2022-12-01": other,
		"/subscriptions/" + other + "/providers/Microsoft.ContainerService/managedClusters?api-version=2025-02-01":                  "managedClusters/theirs",
		"/subscriptions/" + sandbox.SubscriptionID + "/providers/Microsoft.ContainerService/managedClusters?api-version=2025-02-01": `"value":[]`,
	} {
		if status, answer := raw(t, s, http.MethodGet, s.ARMEndpoint()+target, ""); status != http.StatusOK || !strings.Contains(answer, want) {
			t.Errorf("GET %s: HTTP %d: %s", target, status, answer)
		}
	}
}
