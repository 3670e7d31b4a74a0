package sandbox_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"
	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

func TestClusterLifecycle(t *testing.T) {
	s := start(t, t.TempDir())
	clusters, _ := aks(t, s)
	made := create(t, clusters, "prod")
	if got := *made.Properties.ProvisioningState; got != "Succeeded" {
		t.Errorf("provisioning state %s", got)
	}
	if *made.Location != "westeurope" || *made.Tags["amlaks-stack"] != "churn" || *made.Properties.AgentPoolProfiles[0].Count != 3 {
		t.Errorf("the cluster is not as it was sent: %v %v", *made.Location, made.Tags)
	}
	credentials, err := clusters.ListClusterAdminCredentials(t.Context(), group, "prod", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(credentials.Kubeconfigs[0].Value); got != kubeconfig {
		t.Errorf("kubeconfig %q", got)
	}
	tagging, err := clusters.BeginUpdateTags(t.Context(), group, "prod", armcontainerservice.TagsObject{Tags: map[string]*string{"a": to.Ptr("b")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tagged, err := tagging.PollUntilDone(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]*string{"a": to.Ptr("b")}, tagged.Tags); diff != "" {
		t.Error(diff)
	}
	if *tagged.ETag == *made.ETag {
		t.Error("a write left the entity tag as it was")
	}
	deleting, err := clusters.BeginDelete(t.Context(), group, "prod", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := deleting.PollUntilDone(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	_, err = clusters.Get(t.Context(), group, "prod", nil)
	wantCode(t, err, http.StatusNotFound, "ResourceNotFound")
}

func TestPools(t *testing.T) {
	s := start(t, t.TempDir())
	clusters, pools := aks(t, s)
	create(t, clusters, "prod")
	before, err := clusters.Get(t.Context(), group, "prod", nil)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, properties armcontainerservice.ManagedClusterAgentPoolProfileProperties, options *armcontainerservice.AgentPoolsClientBeginCreateOrUpdateOptions) error {
		poller, err := pools.BeginCreateOrUpdate(t.Context(), group, "prod", name, armcontainerservice.AgentPool{Properties: &properties}, options)
		if err != nil {
			return err
		}
		_, err = poller.PollUntilDone(t.Context(), nil)
		return err
	}
	gpu := armcontainerservice.ManagedClusterAgentPoolProfileProperties{VMSize: to.Ptr("Standard_NC4as_T4_v3"), Count: to.Ptr[int32](1), NodeTaints: []*string{to.Ptr("sku=gpu:NoSchedule")}}
	if err := write("gpu", gpu, nil); err != nil {
		t.Fatal(err)
	}
	live, err := pools.Get(t.Context(), group, "prod", "gpu", nil)
	if err != nil {
		t.Fatal(err)
	}
	after, err := clusters.Get(t.Context(), group, "prod", nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(after.Properties.AgentPoolProfiles) != 2 || *after.ETag != *before.ETag {
		t.Errorf("after a pool's PUT: %d pools, entity tag changed %v; want 2, and the cluster's own tag as it was", len(after.Properties.AgentPoolProfiles), *after.ETag != *before.ETag)
	}
	gpu.VMSize = to.Ptr("Standard_NC8as_T4_v3")
	wantCode(t, write("gpu", gpu, nil), http.StatusBadRequest, "PropertyChangeNotAllowed")
	gpu.VMSize = to.Ptr("STANDARD_NC4AS_T4_V3")
	gpu.Count = to.Ptr[int32](2)
	stale := &armcontainerservice.AgentPoolsClientBeginCreateOrUpdateOptions{IfMatch: to.Ptr(`"stale"`)}
	wantCode(t, write("gpu", gpu, stale), http.StatusPreconditionFailed, "PreconditionFailed")
	if err := write("gpu", gpu, &armcontainerservice.AgentPoolsClientBeginCreateOrUpdateOptions{IfMatch: live.Properties.ETag}); err != nil {
		t.Errorf("with the right entity tag: %v", err)
	}
	_, err = pools.BeginDelete(t.Context(), group, "prod", "agentpool", nil)
	wantCode(t, err, http.StatusBadRequest, "OperationNotAllowed")
	deleting, err := pools.BeginDelete(t.Context(), group, "prod", "gpu", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := deleting.PollUntilDone(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	pager := pools.NewListPager(group, "prod", nil)
	page, err := pager.NextPage(t.Context())
	if err != nil || len(page.Value) != 1 {
		t.Errorf("%d pools left, %v", len(page.Value), err)
	}
}

func TestClusterRefusals(t *testing.T) {
	s := start(t, t.TempDir())
	clusters, _ := aks(t, s)
	live := create(t, clusters, "prod")
	for name, test := range map[string]struct {
		change func(*armcontainerservice.ManagedCluster)
		status int
		code   string
	}{
		"a new pool": {func(c *armcontainerservice.ManagedCluster) {
			c.Properties.AgentPoolProfiles = append(c.Properties.AgentPoolProfiles, &armcontainerservice.ManagedClusterAgentPoolProfile{Name: to.Ptr("more"), VMSize: to.Ptr("Standard_D4ds_v5")})
		}, 400, "InvalidParameter"},
		"a pool dropped": {func(c *armcontainerservice.ManagedCluster) {
			c.Properties.AgentPoolProfiles[0].Name = to.Ptr("other")
		}, 400, "InvalidParameter"},
		"vmSize": {func(c *armcontainerservice.ManagedCluster) {
			c.Properties.AgentPoolProfiles[0].VMSize = to.Ptr("Standard_D8ds_v5")
		}, 400, "PropertyChangeNotAllowed"},
		"dnsPrefix": {func(c *armcontainerservice.ManagedCluster) { c.Properties.DNSPrefix = to.Ptr("x") }, 400, "PropertyChangeNotAllowed"},
		"location":  {func(c *armcontainerservice.ManagedCluster) { c.Location = to.Ptr("northeurope") }, 400, "PropertyChangeNotAllowed"},
		"serviceCidr": {func(c *armcontainerservice.ManagedCluster) {
			c.Properties.NetworkProfile = &armcontainerservice.NetworkProfile{ServiceCidr: to.Ptr("10.1.0.0/16")}
		}, 400, "PropertyChangeNotAllowed"},
	} {
		t.Run(name, func(t *testing.T) {
			body := newCluster()
			test.change(&body)
			wantCode(t, put(t, clusters, "prod", body), test.status, test.code)
		})
	}
	t.Run("create over", func(t *testing.T) {
		_, err := clusters.BeginCreateOrUpdate(t.Context(), group, "prod", newCluster(), &armcontainerservice.ManagedClustersClientBeginCreateOrUpdateOptions{IfNoneMatch: to.Ptr("*")})
		wantCode(t, err, http.StatusPreconditionFailed, "PreconditionFailed")
	})
	t.Run("nothing changed by refusals", func(t *testing.T) {
		now, err := clusters.Get(t.Context(), group, "prod", nil)
		if err != nil {
			t.Fatal(err)
		}
		if *now.ETag != *live.ETag {
			t.Error("a refused write has changed the entity tag")
		}
	})
	t.Run("the live body is accepted", func(t *testing.T) {
		if err := put(t, clusters, "prod", live); err != nil {
			t.Error(err)
		}
	})
}

// Properties that the SDK's version does not know: accepted when they are live, kept by a
// client that sends them back, and lost by one that does not.
func TestUnknownProperties(t *testing.T) {
	s := start(t, t.TempDir())
	clusters, _ := aks(t, s)
	create(t, clusters, "prod")
	target := s.ARMEndpoint() + clusterID("prod") + "?api-version=2025-02-01"
	if err := s.Overlay(clusterID("prod"), map[string]any{"properties": map[string]any{"hostedSystemProfile": map[string]any{"enabled": true}}}); err != nil {
		t.Fatal(err)
	}
	_, body := raw(t, s, http.MethodGet, target, "")
	if !strings.Contains(body, "hostedSystemProfile") {
		t.Fatal("GET does not show what was written over the resource")
	}
	if status, _ := raw(t, s, http.MethodPut, target, body); status != http.StatusOK {
		t.Errorf("PUT of the live body: %d", status)
	}
	awaitState(t, clusters, "prod", "Succeeded")
	if _, body = raw(t, s, http.MethodGet, target, ""); !strings.Contains(body, "hostedSystemProfile") {
		t.Error("a client that sent it back has lost it")
	}
	status, body := raw(t, s, http.MethodPut, target, strings.Replace(body, `"properties":{`, `"properties":{"replicas":3,`, 1))
	if status != http.StatusBadRequest || !strings.Contains(body, `properties.replicas`) {
		t.Errorf("an unknown property: %d %s", status, body)
	}
	live, err := clusters.Get(t.Context(), group, "prod", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := put(t, clusters, "prod", live.ManagedCluster); err != nil {
		t.Fatal(err)
	}
	if _, body = raw(t, s, http.MethodGet, target, ""); strings.Contains(body, "hostedSystemProfile") {
		t.Error("a client that left it out has not lost it")
	}
}

func TestPaging(t *testing.T) {
	s := start(t, t.TempDir(), func(o *sandbox.Options) { o.PageSize = 2 })
	clusters, _ := aks(t, s)
	var want []string
	for i := range 5 {
		want = append(want, fmt.Sprintf("c%d", i))
		create(t, clusters, want[i])
	}
	s.ClearRequests()
	var got []string
	for pager := clusters.NewListPager(nil); pager.More(); {
		page, err := pager.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, cluster := range page.Value {
			got = append(got, *cluster.Name)
		}
	}
	if !slices.Equal(got, want) || calls(s, "arm", http.MethodGet) != 3 {
		t.Errorf("got %v in %d requests", got, calls(s, "arm", http.MethodGet))
	}
	pager := clusters.NewListByResourceGroupPager("other", nil)
	if page, err := pager.NextPage(t.Context()); err != nil || len(page.Value) != 0 || pager.More() {
		t.Errorf("another resource group has %d clusters, %v", len(page.Value), err)
	}
}

func TestAuthorization(t *testing.T) {
	s := start(t, t.TempDir())
	path := s.ARMEndpoint() + clusterID("prod")
	for name, test := range map[string]struct {
		target, authorization string
		status                int
		code                  string
	}{
		"no token":    {path + "?api-version=2025-02-01", "", 401, "AuthenticationFailed"},
		"wrong token": {path + "?api-version=2025-02-01", "Bearer x", 401, "AuthenticationFailed"},
		"no version":  {path, "Bearer " + s.Token(), 400, "MissingApiVersionParameter"},
		"no route":    {s.ARMEndpoint() + "/x?api-version=1", "Bearer " + s.Token(), 404, "InvalidResourceType"},
		"not there":   {path + "?api-version=2025-02-01", "Bearer " + s.Token(), 404, "ResourceNotFound"},
		"other subscription": {s.ARMEndpoint() + "/subscriptions/x/providers/Microsoft.ContainerService/managedClusters?api-version=1",
			"Bearer " + s.Token(), 404, "SubscriptionNotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, test.target, nil)
			if err != nil {
				t.Fatal(err)
			}
			if test.authorization != "" {
				request.Header.Set("Authorization", test.authorization)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			var body struct {
				Error struct{ Code, Message string }
			}
			if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != test.status || body.Error.Code != test.code || body.Error.Message == "" {
				t.Errorf("got %d %+v", response.StatusCode, body.Error)
			}
		})
	}
	for _, request := range s.Requests("all") {
		if text, err := json.Marshal(request); err != nil || strings.Contains(string(text), s.Token()) {
			t.Errorf("the log holds the token: %s, %v", text, err)
		}
	}
}
