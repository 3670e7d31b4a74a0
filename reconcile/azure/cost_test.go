package azure_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

const without = ", without disks, load balancer and addresses, traffic, logs, registry and storage"

func inDollars(t *testing.T) azure.Advice {
	return azure.Advice{CacheDir: t.TempDir(), Cost: &azure.Cost{Currency: "USD"}}
}

// wantCost compares what is said of costs alone.
func wantCost(t *testing.T, p *reconcile.Plan, want ...string) {
	t.Helper()
	var got []string
	for _, n := range p.Notes {
		if n.Reason == reconcile.ReasonCost {
			if n.Level != reconcile.Info {
				t.Errorf("%s is a %s", n.Message, n.Level)
			}
			got = append(got, string(n.Address)+": "+n.Message)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("costs (-want +got):\n%s", diff)
	}
}

// The sandbox's list has 0.272 for a Standard_D4ds_v5, among prices that must not be taken.
func TestCost(t *testing.T) {
	t.Parallel()
	w := start(t)
	advice := inDollars(t)
	one, two := small("agentCount: 1"), small("agentCount: 2")
	wantCost(t, w.advised(one, advice),
		"cluster/prod: costs about 198.56 USD a month"+without,
		"cluster/prod: pool agents, 1 x Standard_D4ds_v5 at 0.272 an hour: 198.56")
	w.wantCompute(1, 1, 2) // the answer has two pages
	w.converge(one, reconcile.Options{})
	w.ClearRequests()
	wantCost(t, w.advised(two, advice),
		"cluster/prod: costs about 397.12 (now 198.56) USD a month"+without,
		"cluster/prod: pool agents, 2 x Standard_D4ds_v5 at 0.272 an hour: 397.12 (now 198.56)")
	wantCost(t, w.advised(one, advice),
		"cluster/prod: costs about 198.56 USD a month"+without,
		"cluster/prod: pool agents, 1 x Standard_D4ds_v5 at 0.272 an hour: 198.56")
	w.wantCompute(0, 1, 0) // it is kept for a day
	for _, r := range w.Requests("arm") {
		if r.Path == "/api/retail/prices" && r.Headers["Authorization"] != "" {
			t.Error("a token was sent to the price list")
		}
	}
	// Spot, a range, a tier, and a pool that comes.
	prod := strings.Replace(small("agentCount: 3", "nodePools: [{name: more, vmSize: Standard_D8ds_v5, minCount: 1, maxCount: 3, spot: true}]"), "DevTest", "FastProd", 1)
	wantCost(t, w.advised(prod, advice),
		"cluster/prod: costs about 728.25 to 847.38 (now 198.56) USD a month"+without,
		"cluster/prod: pool agents, 3 x Standard_D4ds_v5 at 0.272 an hour: 595.68 (now 198.56)",
		"cluster/prod: pool more, 1 to 3 x spot Standard_D8ds_v5 at 0.0816 an hour: 59.57 to 178.70 (now 0.00)",
		"cluster/prod: tier Standard of the control plane: 73.00 (now 0.00)")
	// What has left the file costs until it is gone.
	wantCost(t, w.advised(nothing, advice),
		"cluster/prod: costs about 198.56 USD a month"+without+"; it has left the file",
		"cluster/prod: pool agents, 1 x Standard_D4ds_v5 at 0.272 an hour: 198.56")
}

// TestCostOfWhatStays counts a pool that only --prune removes.
func TestCostOfWhatStays(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.converge(small(onePool, "nodePools: [{name: more, vmSize: Standard_D8ds_v5, agentCount: 1}]"), reconcile.Options{})
	wantCost(t, w.advised(small(onePool), inDollars(t)),
		"cluster/prod: costs about 595.68 USD a month"+without,
		"cluster/prod: pool agents, 1 x Standard_D4ds_v5 at 0.272 an hour: 198.56",
		"cluster/prod: pool more, 1 x Standard_D8ds_v5 at 0.544 an hour, has left the file: 397.12")
}

// TestCostOfTiers: one that is given up costs nothing more.
func TestCostOfTiers(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.converge(small(onePool), reconcile.Options{})
	w.overlay(clusterID("prod"), map[string]any{"sku": map[string]any{"tier": "standard"}})
	wantCost(t, w.advised(small(onePool), inDollars(t)),
		"cluster/prod: costs about 198.56 (now 271.56) USD a month"+without,
		"cluster/prod: pool agents, 1 x Standard_D4ds_v5 at 0.272 an hour: 198.56",
		"cluster/prod: tier Free of the control plane: 0.00 (now 73.00)")
}

// TestCostOfAutoscalers begins with the nodes that are there.
func TestCostOfAutoscalers(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.converge(small(onePool, "nodePools: [{name: more, vmSize: Standard_D4ds_v5, agentCount: 3}]"), reconcile.Options{})
	wantCost(t, w.advised(small(onePool, "nodePools: [{name: more, vmSize: Standard_D4ds_v5, minCount: 1, maxCount: 5}]"), inDollars(t)),
		"cluster/prod: costs about 794.24 to 1191.36 (now 794.24) USD a month"+without,
		"cluster/prod: pool agents, 1 x Standard_D4ds_v5 at 0.272 an hour: 198.56",
		"cluster/prod: pool more, 3 to 5 x Standard_D4ds_v5 at 0.272 an hour: 595.68 to 992.80 (now 595.68)")
}

// TestCostFigures are for programs.
func TestCostFigures(t *testing.T) {
	t.Parallel()
	p := start(t).advised(small("agentCount: 1"), inDollars(t))
	want := map[string]any{
		"currency": "USD", "hoursPerMonth": 730.0, "before": map[string]any{"min": 0.0, "max": 0.0}, "after": map[string]any{"min": 198.56, "max": 198.56},
	}
	content, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var plan struct {
		Notes []struct{ Data map[string]any }
	}
	if err := json.Unmarshal(content, &plan); err != nil || len(plan.Notes) == 0 {
		t.Fatal(err, plan)
	}
	if diff := cmp.Diff(want, plan.Notes[0].Data); diff != "" {
		t.Error(diff)
	}
}

// TestCostInEuro is of an attached cluster, which is as it is.
func TestCostInEuro(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.byHand(sandbox.ClusterRequest{Name: "theirs", VMSize: "standard_d4DS_v5", AgentCount: 2}, nil)
	w.overlay(clusterID("theirs"), map[string]any{"sku": map[string]any{"tier": "Premium"}})
	attached := clusters("- {name: shared, attach: {resourceGroup: " + sandbox.ResourceGroup + ", clusterName: theirs}, purpose: DevTest}")
	wantCost(t, w.advised(attached, azure.Advice{Cost: &azure.Cost{Currency: "EUR"}}),
		"cluster/shared: costs about 768.31 EUR a month"+without,
		"cluster/shared: pool nodepool1, 2 x standard_d4DS_v5 at 0.25024 an hour: 365.35",
		"cluster/shared: tier Premium of the control plane: 402.96")
}

// TestNoEstimate fails no plan.
func TestNoEstimate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		fault *sandbox.Fault
		stack string
		money string
		want  string
	}{
		{"an error", &sandbox.Fault{Path: "/api/retail/prices", Status: http.StatusForbidden, Count: 1}, small(onePool), "USD",
			"cluster/prod: no estimate of what it costs: Standard_D4ds_v5 in westeurope: the price list cannot be read: HTTP 403"},
		{"a currency that the list does not have", nil, small(onePool), "XYZ",
			"cluster/prod: no estimate of what it costs: Standard_D4ds_v5 in westeurope: the price list cannot be read: HTTP 400"},
		{"a size that is not sold", nil, small(onePool, "nodePools: [{name: old, vmSize: Standard_NX8_v9, agentCount: 1}]"), "USD",
			"cluster/prod: no estimate of what it costs: Standard_NX8_v9 in westeurope: no price is published"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := start(t)
			if test.fault != nil {
				w.fault(*test.fault)
			}
			p := w.advised(test.stack, azure.Advice{Cost: &azure.Cost{Currency: test.money}})
			wantCost(t, p, test.want)
			if p.Pending() == 0 {
				t.Error("nothing is to be done")
			}
		})
	}
}

// TestThrottledPriceList waits as it is asked to.
func TestThrottledPriceList(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fault(sandbox.Fault{Path: "/api/retail/prices", Status: http.StatusTooManyRequests, RetryAfter: sandbox.Duration(time.Second), Count: 1})
	wantCost(t, w.advised(small(onePool), inDollars(t)),
		"cluster/prod: costs about 198.56 USD a month"+without,
		"cluster/prod: pool agents, 1 x Standard_D4ds_v5 at 0.272 an hour: 198.56")
}
