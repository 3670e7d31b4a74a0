package sandbox_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"
	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// ask makes a GET, with the token if it goes to Resource Manager, and gives status and answer.
func ask(t *testing.T, s *sandbox.Sandbox, path string, token bool, query ...string) (int, map[string]any) {
	t.Helper()
	values := url.Values{}
	for i := 0; i+1 < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	target := path
	if !strings.HasPrefix(target, "http") {
		target = s.ARMEndpoint() + path + "?" + values.Encode()
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token {
		r.Header.Set("Authorization", "Bearer "+s.Token())
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(io.LimitReader(response.Body, 16<<20)).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, answer
}

const compute = "/subscriptions/" + sandbox.SubscriptionID + "/providers/Microsoft.Compute"

// quotas are current/limit, by name.
func quotas(t *testing.T, s *sandbox.Sandbox, location string) map[string]string {
	t.Helper()
	status, answer := ask(t, s, compute+"/locations/"+location+"/usages", true, "api-version", "2024-07-01")
	if status != http.StatusOK {
		t.Fatalf("%d %v", status, answer)
	}
	all := map[string]string{}
	for _, item := range answer["value"].([]any) {
		u := item.(map[string]any)
		all[u["name"].(map[string]any)["value"].(string)] = fmt.Sprintf("%v/%v", u["currentValue"], u["limit"])
	}
	return all
}

func TestUsages(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	clusters, pools := aks(t, s)
	create(t, clusters, "prod") // three of Standard_D4ds_v5
	for name, limit := range map[string]int{"standardDDSv5Family": 16, "cores": 100, "lowPriorityCores": 7} {
		if err := s.SetQuota(name, limit); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetQuota("standardNothingFamily", 1); err == nil {
		t.Error("a quota that Azure does not have")
	}
	pool := func(size string, count int32, spot bool) armcontainerservice.AgentPool {
		p := &armcontainerservice.ManagedClusterAgentPoolProfileProperties{VMSize: &size, Count: &count, Mode: to.Ptr(armcontainerservice.AgentPoolModeUser)}
		if spot {
			p.ScaleSetPriority = to.Ptr(armcontainerservice.ScaleSetPrioritySpot)
		}
		return armcontainerservice.AgentPool{Properties: p}
	}
	put := func(name string, p armcontainerservice.AgentPool) error {
		poller, err := pools.BeginCreateOrUpdate(t.Context(), group, "prod", name, p, nil)
		if err == nil {
			_, err = poller.PollUntilDone(t.Context(), nil)
		}
		return err
	}
	wantCode(t, put("big", pool("Standard_D8ds_v5", 1, false)), http.StatusBadRequest, "ErrCode_InsufficientVCPUQuota")
	wantCode(t, put("spot", pool("Standard_D8ds_v5", 1, true)), http.StatusBadRequest, "ErrCode_InsufficientVCPUQuota")
	if err := put("one", pool("Standard_D4ds_v5", 1, false)); err != nil {
		t.Error(err)
	}
	if err := put("spot", pool("Standard_D4ds_v5", 1, true)); err != nil {
		t.Error(err)
	}
	// To shrink is never too much; to grow by one is.
	if err := put("one", pool("Standard_D4ds_v5", 0, false)); err != nil {
		t.Error(err)
	}
	wantCode(t, put("one", pool("Standard_D4ds_v5", 2, false)), http.StatusBadRequest, "ErrCode_InsufficientVCPUQuota")
	_, err := clusters.BeginCreateOrUpdate(t.Context(), group, "second", newCluster(), nil)
	wantCode(t, err, http.StatusBadRequest, "ErrCode_InsufficientVCPUQuota")

	if err := s.RestrictSize("Standard_E4s_v5"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, put("e", pool("Standard_E4s_v5", 1, false)), http.StatusBadRequest, "BadRequest")
	if err := s.RestrictSize("Standard_None"); err == nil {
		t.Error("a size that Azure does not have")
	}
	s.Close()
	s = start(t, dir) // all of it is kept
	all := quotas(t, s, "westeurope")
	got := map[string]string{}
	for _, name := range []string{"standardDDSv5Family", "cores", "lowPriorityCores", "standardESv5Family"} {
		got[name] = all[name]
	}
	want := map[string]string{"standardDDSv5Family": "12/16", "cores": "12/100", "lowPriorityCores": "4/7", "standardESv5Family": "0/2000"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if elsewhere := quotas(t, s, "North Europe"); elsewhere["cores"] != "0/100" {
		t.Errorf("elsewhere %s", elsewhere["cores"])
	}
	status, answer := ask(t, s, compute+"/skus", true, "api-version", "2021-07-01", "$filter", "location eq 'westeurope'")
	if content, _ := json.Marshal(answer); status != http.StatusOK || !strings.Contains(string(content), "NotAvailableForSubscription") {
		t.Errorf("%d: the restriction is forgotten", status)
	}
}

func TestSKUs(t *testing.T) {
	s := start(t, t.TempDir())
	if status, _ := ask(t, s, compute+"/skus", true, "api-version", "2021-07-01", "$filter", "name eq 'x'"); status != http.StatusBadRequest {
		t.Errorf("a filter that Azure does not have: %d", status)
	}
	if status, _ := ask(t, s, compute+"/skus", false, "api-version", "2021-07-01"); status != http.StatusUnauthorized {
		t.Errorf("without a token: %d", status)
	}
	_, one := ask(t, s, compute+"/skus", true, "api-version", "2021-07-01", "$filter", "location eq 'westeurope'")
	_, all := ask(t, s, compute+"/skus", true, "api-version", "2021-07-01")
	if n, m := len(one["value"].([]any)), len(all["value"].([]any)); n < 150 || m <= n {
		t.Errorf("%d sizes in a region, %d in all", n, m)
	}
}

// TestPrices has pages, and prices beside the one that is wanted.
func TestPrices(t *testing.T) {
	s := start(t, t.TempDir())
	const path = "/api/retail/prices"
	filter := "serviceName eq 'Virtual Machines' and armRegionName eq 'westeurope' and armSkuName eq 'Standard_D4ds_v5' and priceType eq 'Consumption'"
	if status, _ := ask(t, s, path, true, "$filter", filter); status != http.StatusBadRequest {
		t.Errorf("a token was taken: %d", status)
	}
	if status, _ := ask(t, s, path, false, "$filter", filter, "currencyCode", "'XYZ'"); status != http.StatusBadRequest {
		t.Errorf("an unknown currency: %d", status)
	}
	var names []string
	pages := 0
	for next, query := path, []string{"$filter", filter, "currencyCode", "'EUR'"}; next != ""; pages++ {
		status, page := ask(t, s, next, false, query...)
		if status != http.StatusOK || page["BillingCurrency"] != "EUR" {
			t.Fatalf("%d %v", status, page)
		}
		for _, item := range page["Items"].([]any) {
			price := item.(map[string]any)
			names = append(names, fmt.Sprint(price["productName"], " ", price["meterName"]))
			if price["armSkuName"] != "Standard_D4ds_v5" || price["type"] != "Consumption" {
				t.Errorf("not asked for: %v", price)
			}
		}
		next, _ = page["NextPageLink"].(string)
	}
	if pages != 2 || len(names) != 8 {
		t.Errorf("%d pages of %q", pages, names)
	}
	_, none := ask(t, s, path, false, "$filter", strings.Replace(filter, "D4ds", "d4ds", 1))
	if items := none["Items"].([]any); len(items) != 0 {
		t.Errorf("the list minds the case: %v", items)
	}
}
