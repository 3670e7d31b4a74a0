package azure_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	aks "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"
	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// atVersion is small at a version of Kubernetes.
func atVersion(version string, more ...string) string {
	return small(append([]string{fmt.Sprintf("agentCount: 1, kubernetesVersion: %q", version)}, more...)...)
}

// versionsAsked counts how often the region's versions were asked for.
func (w *world) versionsAsked() int {
	w.t.Helper()
	n := 0
	for _, r := range w.Requests("arm") {
		if strings.HasSuffix(r.Path, "/locations/westeurope/kubernetesVersions") {
			n++
		}
	}
	return n
}

// versionWrites are the writes with the version in each.
func (w *world) versionWrites() []string {
	w.t.Helper()
	var lines []string
	for _, r := range w.writes() {
		var sent struct {
			Properties struct{ KubernetesVersion, OrchestratorVersion string }
		}
		if err := json.Unmarshal(r.Body, &sent); err != nil {
			w.t.Fatal(err)
		}
		lines = append(lines, line(r)+" "+sent.Properties.KubernetesVersion+sent.Properties.OrchestratorVersion)
	}
	return lines
}

// One minor at a time, the control plane before the pools, each a request that changes nothing
// else; the plan says by which way.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	w := start(t)
	pool := clusterID("prod") + "/agentPools/agents"
	for name, test := range map[string]struct {
		before, after string
		why           string
		writes        []string
	}{
		"one minor": {
			before: atVersion("1.35"), after: atVersion("1.36"),
			writes: []string{"PUT prod if match 1.36", "PUT prod/agentPools/agents if match 1.36"},
		},
		"three minors": {
			before: atVersion("1.34"), after: atVersion("1.37"), why: "Kubernetes goes from 1.34.2 to 1.37 by way of 1.35 and 1.36, one minor at a time",
			writes: []string{
				"PUT prod if match 1.35", "PUT prod if match 1.36", "PUT prod if match 1.37",
				"PUT prod/agentPools/agents if match 1.35", "PUT prod/agentPools/agents if match 1.36", "PUT prod/agentPools/agents if match 1.37",
			},
		},
		"a patch": {
			before: atVersion("1.36.1"), after: atVersion("1.36.2"),
			writes: []string{"PUT prod if match 1.36.2", "PUT prod/agentPools/agents if match 1.36.2"},
		},
		"patch to its minor":  {before: atVersion("1.36.1"), after: atVersion("1.36")},
		"a minor by its name": {before: atVersion("1.35"), after: atVersion("1.35.2"), writes: []string{"PUT prod if match 1.35.2", "PUT prod/agentPools/agents if match 1.35.2"}},
		"not owned before":    {before: small(onePool), after: atVersion("1.37"), writes: []string{"PUT prod if match 1.37", "PUT prod/agentPools/agents if match 1.37"}},
		"with other changes": {
			before: atVersion("1.35"), after: atVersion("1.36", "tags: {cost: a}"),
			writes: []string{"PUT prod if match 1.36", "PUT prod if match 1.36", "PUT prod/agentPools/agents if match 1.36"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{Sandbox: w.Sandbox, t: t}
			w.converge(test.before, reconcile.Options{})
			w.overlay(clusterID("prod"), map[string]any{"properties": map[string]any{"newerSystemProfile": map[string]any{"enabled": true}}})
			w.overlay(pool, map[string]any{"properties": map[string]any{"newerThanTheSdk": map[string]any{"a": 1.0}}})
			w.ClearRequests()
			s := w.plan(test.after, reconcile.Options{})
			if why := s.why("cluster/prod"); why != test.why {
				t.Errorf("why: %q", why)
			}
			if why := s.why(agentsPool); why != test.why {
				t.Errorf("why of the pool: %q", why)
			}
			wantDone(t, s.apply(t.Context()))
			if diff := cmp.Diff(test.writes, w.versionWrites()); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
			if got := w.get(clusterID("prod"), "properties", "newerSystemProfile", "enabled"); got != true {
				t.Errorf("the cluster's newerSystemProfile.enabled is %v now", got)
			}
			if got := w.get(pool, "properties", "newerThanTheSdk", "a"); got != 1.0 {
				t.Errorf("the pool's newerThanTheSdk.a is %v now", got)
			}
			if writes := w.writes(); len(writes) > 0 && strings.Contains(string(writes[0].Body), "cost") {
				t.Error("the upgrade carries another change")
			}
			w.wantSteady(test.after, reconcile.Options{})
			if n := w.versionsAsked(); n != 0 {
				t.Errorf("a plan without changes asked %d times for the versions", n)
			}
			w.converge(test.after, reconcile.Options{Destroy: true})
		})
	}
}

// What AKS would not take is refused in the plan, with what it would take.
func TestVersionRefused(t *testing.T) {
	t.Parallel()
	w := start(t)
	for name, test := range map[string]struct {
		before, after string
		meanwhile     string // the version that the pool runs
		address       reconcile.Address
		why           string
	}{
		"new, too old":         {after: atVersion("1.29"), why: "properties.kubernetesVersion: AKS does not have Kubernetes 1.29 in westeurope; it has 1.34, 1.35, 1.36, 1.37, 1.38 (preview)"},
		"new, no such patch":   {after: atVersion("1.36.9"), why: "AKS does not have Kubernetes 1.36.9 in westeurope; of 1.36 it has 1.36.1, 1.36.2"},
		"new, long-term only":  {after: atVersion("1.33"), why: "AKS has Kubernetes 1.33 in westeurope only with long-term support (tier Premium), which amlaks does not buy; without it has 1.34,"},
		"upgrade, not there":   {before: atVersion("1.36"), after: atVersion("1.40"), why: "AKS takes one minor at a time, and does not have Kubernetes 1.39"},
		"upgrade, patch":       {before: atVersion("1.36"), after: atVersion("1.37.7"), why: "of 1.37 it has 1.37.1, 1.37.2"},
		"back by a minor":      {before: atVersion("1.36"), after: atVersion("1.35"), why: "it runs Kubernetes 1.36.2, and AKS cannot go back to 1.35"},
		"back by a patch":      {before: atVersion("1.36"), after: atVersion("1.36.1"), why: "it runs Kubernetes 1.36.2, and AKS cannot go back to 1.36.1"},
		"too far ahead":        {before: atVersion("1.35"), after: atVersion("1.37"), meanwhile: "1.33.2", why: `node pool agents runs 1.33.2, and AKS has at most 3 minors between nodes and control plane: apply kubernetesVersion "1.36" first, which takes the pools along, and then "1.37"`},
		"a pool that is ahead": {before: atVersion("1.36"), after: atVersion("1.36"), meanwhile: "1.37.1", address: agentsPool, why: "it runs Kubernetes 1.37.1, and AKS cannot go back to 1.36"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{Sandbox: w.Sandbox, t: t}
			if test.before != "" {
				w.converge(test.before, reconcile.Options{})
			}
			if test.meanwhile != "" {
				w.overlay(clusterID("prod")+"/agentPools/agents", map[string]any{"properties": map[string]any{"orchestratorVersion": test.meanwhile, "currentOrchestratorVersion": test.meanwhile}})
			}
			if test.address == "" {
				test.address = "cluster/prod"
			}
			w.ClearRequests()
			s := w.plan(test.after, reconcile.Options{})
			result := s.apply(t.Context())
			wantFailure(t, result, test.address, reconcile.Refused, reconcile.ReasonUnsupported)
			if why := s.why(test.address); !strings.Contains(why, test.why) {
				t.Errorf("why: %q", why)
			}
			w.wantWrites()
			if test.before != "" {
				w.converge(test.before, reconcile.Options{Destroy: true})
			}
		})
	}
}

// What can be had and should rather not is a note. One question answers for all clusters.
func TestVersionNotes(t *testing.T) {
	t.Parallel()
	w := start(t)
	of := func(version, name string) string {
		return fmt.Sprintf("- {name: %s, purpose: DevTest, protect: false, kubernetesVersion: %q}", name, version)
	}
	stack := clusters(of("1.38", "next") + "\n" + of("1.34.2", "last") + "\n" + of("1.36", "good"))
	s := w.plan(stack, reconcile.Options{})
	want := []reconcile.Note{
		{Address: "cluster/last", Level: reconcile.Warning, Reason: reconcile.ReasonUnsupported,
			Message: "Kubernetes 1.34.2 is the oldest that AKS supports, and loses its support when the next one comes",
			Hint:    "take one of 1.35, 1.36, 1.37", Data: map[string]any{"kubernetesVersion": "1.34.2", "preview": false}},
		{Address: "cluster/next", Level: reconcile.Warning, Reason: reconcile.ReasonUnsupported,
			Message: "Kubernetes 1.38 is a preview in AKS: it has no support, and may not be upgraded from",
			Hint:    "for production take one of 1.34, 1.35, 1.36, 1.37", Data: map[string]any{"kubernetesVersion": "1.38", "preview": true}},
	}
	if diff := cmp.Diff(want, s.plan.Notes); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	if n := w.versionsAsked(); n != 1 {
		t.Errorf("the versions were asked for %d times", n)
	}
	wantDone(t, s.apply(t.Context()))
	w.wantSteady(stack, reconcile.Options{})
}

// A new pool of a cluster whose version is owned has it too, and one that is not stays out of it.
func TestVersionOfNewPool(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.converge(atVersion("1.35"), reconcile.Options{})
	w.ClearRequests()
	w.converge(atVersion("1.35", gpuPool), reconcile.Options{})
	var sent aks.AgentPool
	understood(t, w.writes()[0].Body, &sent)
	if v := sent.Properties.OrchestratorVersion; v == nil || *v != "1.35" {
		t.Errorf("orchestratorVersion %v", v)
	}
}

// Killed after any request of an upgrade over two minors, the next run ends it.
func TestUpgradeKilledAnywhere(t *testing.T) {
	t.Parallel()
	w := start(t, func(o *sandbox.Options) { o.OperationTime = 30 * time.Millisecond })
	for n := 1; ; n++ {
		w.converge(atVersion("1.35"), reconcile.Options{})
		killed := w.killed(atVersion("1.37"), reconcile.Options{}, func(at int, _ *http.Request) bool { return at == n })
		wantDone(t, w.plan(atVersion("1.37"), reconcile.Options{}).apply(t.Context()))
		w.wantIdle("prod")
		w.wantSteady(atVersion("1.37"), reconcile.Options{})
		if got := w.pool("agents", "currentOrchestratorVersion"); got != "1.37.2" || t.Failed() {
			t.Fatalf("killed after request %d: the pool runs %v", n, got)
		}
		if !killed {
			if n < 10 {
				t.Fatalf("an upgrade has %d requests only", n-1)
			}
			return
		}
		w.converge(atVersion("1.37"), reconcile.Options{Destroy: true})
	}
}
