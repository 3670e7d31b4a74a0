package azure_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure"
	"github.com/amlaks/amlaks/reconcile/sandbox"
	"github.com/amlaks/amlaks/spec"
)

const family = "standardDDSv5Family"

func (w *world) quota(name string, limit int) {
	w.t.Helper()
	if err := w.SetQuota(name, limit); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) restrict(size string, zones ...string) {
	w.t.Helper()
	if err := w.RestrictSize(size, zones...); err != nil {
		w.t.Fatal(err)
	}
}

// asked is how more quota is asked for, in hints.
func asked(quota, kind, limit string) string {
	return " | ask for it: portal, Quotas, Compute; or az quota update --resource-name \"" + quota + "\" --resource-type " + kind + " --limit-object value=" + limit +
		" --scope /subscriptions/" + sandbox.SubscriptionID + "/providers/Microsoft.Compute/locations/westeurope"
}

func TestQuota(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.quota(family, 10)
	w.quota("lowPriorityCores", 3)
	text := small("agentCount: 3")
	wantSaid(t, w.advised(text, azure.Advice{}),
		"warning cluster/prod: the new nodes need 12 of Standard DDSv5 Family vCPUs in westeurope, and 10 of 10 are left: Azure will refuse them"+asked(family, "dedicated", "12"))
	w.wantCompute(1, 1, 0)
	// And it does.
	result := w.plan(text, reconcile.Options{}).apply(t.Context())
	if o := outcome(t, result, "cluster/prod"); o.Err == nil || !strings.Contains(o.Err.Error(), "Insufficient vcpu quota requested 12, remaining 10") {
		t.Errorf("%v", o.Err)
	}
	// What is left counts, not the limit; and of a pool that grows only what it grows by.
	w.converge(small("agentCount: 1"), reconcile.Options{})
	wantSaid(t, w.advised(small("agentCount: 2"), azure.Advice{}))
	wantSaid(t, w.advised(small("agentCount: 3"), azure.Advice{}),
		"warning cluster/prod: the new nodes need 8 of Standard DDSv5 Family vCPUs in westeurope, and 6 of 10 are left: Azure will refuse them"+asked(family, "dedicated", "12"))
	// Spot has a quota of its own for all families.
	wantSaid(t, w.advised(small(onePool, "nodePools: [{name: spot, vmSize: Standard_D8ds_v5, agentCount: 1, spot: true}]"), azure.Advice{}),
		"warning cluster/prod: the new nodes need 8 of Total Regional Low-priority vCPUs in westeurope, and 3 of 3 are left: Azure will refuse them"+asked("lowPriorityCores", "lowPriority", "8"))
	// Spot or not, a pool of the other kind is a new one.
	w.quota(family, 100)
	w.converge(small(onePool, "nodePools: [{name: more, vmSize: Standard_D8ds_v5, agentCount: 1}]"), reconcile.Options{})
	if got := said(w.advised(small(onePool, "nodePools: [{name: more, vmSize: Standard_D8ds_v5, agentCount: 1, spot: true}]"), azure.Advice{})); len(got) != 1 || !strings.Contains(got[0], "need 8 of Total Regional Low-priority vCPUs") {
		t.Errorf("%q", got)
	}
	w.converge(small(onePool), reconcile.Options{Prune: true})
	w.quota(family, 10)
	// An autoscaler's pool begins small.
	wantSaid(t, w.advised(small(onePool, "nodePools: [{name: more, vmSize: Standard_D4ds_v5, minCount: 1, maxCount: 9}]"), azure.Advice{}),
		"info cluster/prod: at maxCount the new nodes need 36 of Standard DDSv5 Family vCPUs in westeurope, and 6 of 10 are left: their autoscaler would stop there"+asked(family, "dedicated", "40"))
	// The names in the two lists differ in blanks.
	w.quota("Standard NCASv3_T4 Family", 0)
	if got := said(w.advised(small(onePool, "nodePools: [{name: gpu, vmSize: Standard_NC4as_T4_v3, agentCount: 1}]"), azure.Advice{})); len(got) != 1 || !strings.Contains(got[0], "need 4 of Standard NCASv3_T4 Family vCPUs") {
		t.Errorf("%q", got)
	}
	w.quota(family, 1000)
	w.quota("cores", 6)
	if got := said(w.advised(small("agentCount: 2"), azure.Advice{})); len(got) != 1 || !strings.Contains(got[0], "need 4 of Total Regional vCPUs in westeurope, and 2 of 6 are left") {
		t.Errorf("%q", got)
	}
}

// TestQuotaOfUpgrades counts the nodes that AKS adds while it upgrades the others.
func TestQuotaOfUpgrades(t *testing.T) {
	t.Parallel()
	w := start(t)
	before := small("agentCount: 2", "kubernetesVersion: \"1.35\"", "nodePools: [{name: more, vmSize: Standard_D8ds_v5, agentCount: 1}]")
	w.converge(before, reconcile.Options{})
	w.quota(family, 20)
	wantSaid(t, w.advised(before, azure.Advice{}))
	after := strings.Replace(before, "1.35", "1.36", 1)
	wantSaid(t, w.advised(after, azure.Advice{}),
		"warning cluster/prod: the new nodes, with 8 vCPU that an upgrade adds for a while, need 8 of Standard DDSv5 Family vCPUs in westeurope, and 4 of 20 are left: Azure will refuse them"+asked(family, "dedicated", "24"))
	w.overlay(clusterID("prod")+"/agentPools/agents", map[string]any{"properties": map[string]any{"upgradeSettings": map[string]any{"maxSurge": "75%"}}})
	w.quota(family, 23)
	if got := said(w.advised(after, azure.Advice{})); len(got) != 1 || !strings.Contains(got[0], "with 8 vCPU that an upgrade adds") {
		t.Errorf("%q", got)
	}
	w.quota(family, 24)
	wantSaid(t, w.advised(after, azure.Advice{}))
}

// TestQuotaOfSeveral adds up what several clusters need.
func TestQuotaOfSeveral(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.quota(family, 10)
	line := func(name string) string {
		return "- {name: " + name + ", purpose: DevTest, vmSize: Standard_D4ds_v5, agentCount: 2}\n"
	}
	const need = ": the new nodes (of 2 clusters together) need 16 of Standard DDSv5 Family vCPUs in westeurope, and 10 of 10 are left: Azure will refuse them"
	wantSaid(t, w.advised(clusters(line("one")+line("two")), azure.Advice{}),
		"warning cluster/one"+need+asked(family, "dedicated", "16"), "warning cluster/two"+need+asked(family, "dedicated", "16"))
}

// TestAvailability refuses what the subscription cannot have.
func TestAvailability(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.restrict("Standard_D4ds_v5")
	why := func(p *reconcile.Plan, address reconcile.Address) string {
		for _, c := range p.Changes {
			if c.Address == address && c.Action == reconcile.Refuse && c.Reason == reconcile.ReasonUnsupported {
				return c.Why
			}
		}
		return ""
	}
	const restricted = "this subscription may not create Standard_D4ds_v5 in westeurope (NotAvailableForSubscription): take Standard_D4as_v5, Standard_D4ads_v5, Standard_D4d_v5; or ask Azure for access: portal, Help + support, Service and subscription limits"
	if got := why(w.advised(small(onePool), azure.Advice{}), "cluster/prod"); got != "node pool agents: "+restricted {
		t.Errorf("a restricted size: %q", got)
	}
	other := strings.Replace(small(onePool), "Standard_D4ds_v5", "Standard_D4ds_v6", 1)
	p := w.advised(other, azure.Advice{})
	if p.Count(reconcile.Refuse) != 0 {
		t.Errorf("another size is refused too: %+v", p.Changes)
	}
	w.converge(other, reconcile.Options{})
	more := strings.Replace(small(onePool, "nodePools: [{name: more, vmSize: Standard_D4ds_v5, agentCount: 1}]"), "Standard_D4ds_v5", "Standard_D4ds_v6", 1)
	p = w.advised(more, azure.Advice{})
	if got := why(p, "cluster/prod/pool/more"); got != "node pool more: "+restricted || p.Count(reconcile.Refuse) != 1 {
		t.Errorf("a new pool of it: %q, %d refused", got, p.Count(reconcile.Refuse))
	}
	// A size that no region has (spec knows it, and it is gone).
	gone := small(onePool, "nodePools: [{name: old, vmSize: Standard_NX8_v9, agentCount: 1}]")
	gone = strings.Replace(gone, "Standard_D4ds_v5", "Standard_D4ds_v6", 1)
	if got := why(w.advised(gone, azure.Advice{}), "cluster/prod/pool/old"); !strings.HasPrefix(got, "node pool old: westeurope has no VM size Standard_NX8_v9: take another vmSize") {
		t.Errorf("a size of nowhere: %q", got)
	}
	// What is there already is nobody's to refuse.
	w.restrict("Standard_D4ds_v6")
	if p := w.advised(other, azure.Advice{}); p.Pending() != 0 || p.Count(reconcile.Refuse) != 0 {
		t.Errorf("%+v", p.Changes)
	}
}

// TestRefusalIsNotCached: what was not to be had yesterday may be today.
func TestRefusalIsNotCached(t *testing.T) {
	t.Parallel()
	w := start(t)
	advice := azure.Advice{CacheDir: t.TempDir()}
	w.restrict("Standard_D4ds_v5")
	for range 2 {
		if p := w.advised(small(onePool), advice); p.Count(reconcile.Refuse) != 1 {
			t.Fatalf("%+v", p.Changes)
		}
	}
	w.wantCompute(2, 2, 0) // the second asks again before it refuses
	w.restrict("Standard_D4ds_v5", "3")
	if p := w.advised(small(onePool), advice); p.Count(reconcile.Refuse) != 0 {
		t.Errorf("%+v", p.Changes)
	}
	w.wantCompute(3, 3, 0)
	if p := w.advised(small(onePool), advice); p.Count(reconcile.Refuse) != 0 {
		t.Errorf("%+v", p.Changes)
	}
	w.wantCompute(3, 4, 0)
	files, err := filepath.Glob(filepath.Join(advice.CacheDir, "azure", "skus-*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	info, err := os.Stat(files[0])
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() > 64<<10 {
		t.Errorf("%v, %v", info, err)
	}
	// A cache that is no cache is read past.
	if err := os.WriteFile(files[0], []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p := w.advised(small(onePool), advice); p.Count(reconcile.Refuse) != 0 {
		t.Errorf("%+v", p.Changes)
	}
	w.wantCompute(4, 5, 0)
}

// TestWhatCannotBeRead fails no plan.
func TestWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	const hint = " | give the identity Reader on the subscription (Microsoft.Compute/skus/read, Microsoft.Compute/locations/usages/read)"
	for _, test := range []struct{ path, want string }{
		{"/skus$", "info cluster/prod: whether westeurope has the VM sizes and the vCPU quota for the new nodes cannot be said: HTTP 403 AuthorizationFailed" + hint},
		{"/usages$", "info cluster/prod: whether westeurope has the VM sizes and the vCPU quota for the new nodes cannot be said: HTTP 403 AuthorizationFailed" + hint},
	} {
		t.Run(test.path, func(t *testing.T) {
			t.Parallel()
			w := start(t)
			w.fault(sandbox.Fault{Path: test.path, Status: http.StatusForbidden, Code: "AuthorizationFailed", Count: 1})
			p := w.advised(small(onePool), azure.Advice{})
			wantSaid(t, p, test.want)
			if p.Count(reconcile.Create) != 2 {
				t.Errorf("%+v", p.Changes)
			}
		})
	}
	t.Run("a size that only the list knows", func(t *testing.T) {
		t.Parallel()
		w := start(t)
		w.fault(sandbox.Fault{Path: "/skus$", Status: http.StatusForbidden, Code: "AuthorizationFailed", Count: 1})
		wantSaid(t, w.advised(strings.Replace(small(onePool), "Standard_D4ds_v5", "Standard_D4ds_v9", 1), azure.Advice{}),
			"info cluster/prod: whether westeurope has the VM sizes and the vCPU quota for the new nodes cannot be said: HTTP 403 AuthorizationFailed"+hint)
	})
}

// TestSizesAgree compares the table that amlaks brings with what the list says of those sizes.
func TestSizesAgree(t *testing.T) {
	t.Parallel()
	w := start(t)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.ARMEndpoint()+"/subscriptions/"+sandbox.SubscriptionID+
		"/providers/Microsoft.Compute/skus?api-version=2021-07-01&%24filter="+url.QueryEscape("location eq 'westeurope'"), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+w.Token())
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Value []struct {
			Name, ResourceType string
			Capabilities       []struct{ Name, Value string }
		}
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &answer); err != nil {
		t.Fatal(err)
	}
	known := 0
	for _, sku := range answer.Value {
		size, ok := spec.VMSize(sku.Name)
		if !ok || sku.ResourceType != "virtualMachines" {
			continue
		}
		known++
		says := map[string]string{}
		for _, c := range sku.Capabilities {
			says[c.Name] = c.Value
		}
		want := map[string]any{"vCPU": float64(size.VCPU), "GiB": size.MemoryGiB, "GPU or FPGA": float64(size.GPU + size.FPGA)}
		got := map[string]any{}
		for name, capability := range map[string]string{"vCPU": "vCPUs", "GiB": "MemoryGB", "GPU or FPGA": "GPUs"} {
			n := 0.0
			if text := says[capability]; text != "" {
				if err := json.Unmarshal([]byte(text), &n); err != nil {
					t.Fatal(err)
				}
			}
			got[name] = n
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", sku.Name, diff)
		}
	}
	if known < 100 {
		t.Errorf("%d sizes are in both", known)
	}
}
