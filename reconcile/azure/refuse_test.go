package azure_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
)

// What must not be done is said in the plan, and nothing is written.
func TestRefusals(t *testing.T) {
	t.Parallel()
	w := start(t)
	vnet := func(dns string) string {
		return "vnet: {resourceGroup: net, name: hub, subnet: aks, serviceCidr: 10.0.0.0/16, dnsServiceIP: " + dns + "}"
	}
	protected := func(stack string) string { return strings.Replace(stack, "protect: false", "protect: true", 1) }
	bare := clusters("- {name: kept, purpose: DevTest, protect: false}")
	for name, test := range map[string]struct {
		before  string         // what is there
		tags    map[string]any // written over it
		stack   string
		options reconcile.Options
		refused reconcile.Address
		reason  reconcile.Reason
		why     string
		skipped reconcile.Address
	}{
		"another stack's": {
			before: small(onePool), tags: map[string]any{"amlaks-stack": "another"}, stack: small("agentCount: 2", "adopt: true"),
			refused: "cluster/prod", reason: reconcile.ReasonOwned, why: `"another"`, skipped: "cluster/prod/pool/agents",
		},
		"nobody's": {
			before: small(onePool), tags: map[string]any{"amlaks-stack": nil}, stack: small(onePool),
			refused: "cluster/prod", reason: reconcile.ReasonOwned, why: "adopt: true", skipped: "cluster/prod/pool/agents",
		},
		"protected, pruned": {
			before: protected(small(onePool)), stack: bare, options: reconcile.Options{Prune: true},
			refused: "cluster/prod", reason: reconcile.ReasonProtected, why: "protect: false",
		},
		"protected, destroyed": {
			before: protected(small(onePool)), stack: small(onePool), options: reconcile.Options{Destroy: true},
			refused: "cluster/prod", reason: reconcile.ReasonProtected, why: "protect: false",
		},
		"virtual network": {
			before: small(onePool, vnet("10.0.0.10")), stack: strings.Replace(small(onePool, vnet("10.0.0.10")), "name: hub", "name: other", 1),
			refused: "cluster/prod/pool/agents", reason: reconcile.ReasonImmutable, why: "one virtual network",
		},
		"dnsServiceIP": {
			before: small(onePool, vnet("10.0.0.10")), stack: small("agentCount: 2", vnet("10.0.0.11")),
			refused: "cluster/prod", reason: reconcile.ReasonImmutable, why: "properties.networkProfile.dnsServiceIP", skipped: "cluster/prod/pool/agents",
		},
		"private": {
			before: small(onePool), stack: small("agentCount: 2", "privateCluster: true"),
			refused: "cluster/prod", reason: reconcile.ReasonImmutable, why: "enablePrivateCluster", skipped: "cluster/prod/pool/agents",
		},
		"location": {
			before: small(onePool), stack: strings.Replace(small("agentCount: 2"), "workspace: {", "workspace: {location: northeurope, ", 1),
			refused: "cluster/prod", reason: reconcile.ReasonImmutable, why: "location", skipped: "cluster/prod/pool/agents",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{Sandbox: w.Sandbox, t: t}
			w.converge(bare, reconcile.Options{})
			w.converge(test.before, reconcile.Options{})
			if test.tags != nil {
				w.overlay(clusterID("prod"), map[string]any{"tags": test.tags})
			}
			before := w.get(clusterID("prod"))
			w.ClearRequests()
			s := w.plan(test.stack, test.options)
			result := s.apply(t.Context())
			wantFailure(t, result, test.refused, reconcile.Refused, test.reason)
			if why := outcome(t, result, test.refused).Change.Why; !strings.Contains(why, test.why) {
				t.Errorf("why: %q, want it to name %s", why, test.why)
			}
			if test.skipped != "" {
				wantFailure(t, result, test.skipped, reconcile.Skipped, reconcile.ReasonDependencyFailed)
			}
			if !test.options.Prune && !test.options.Destroy {
				w.wantWrites()
			}
			if diff := cmp.Diff(before, w.get(clusterID("prod"))); diff != "" {
				t.Errorf("the cluster (-before +after):\n%s", diff)
			}
			if test.tags != nil {
				for _, r := range w.Requests("arm") {
					if r.Method == "POST" && strings.Contains(r.Path, "/prod/") {
						t.Errorf("%s: credentials of a foreign cluster were read", r.Path)
					}
				}
			}
			w.overlay(clusterID("prod"), map[string]any{"tags": map[string]any{"amlaks-stack": "churn", "amlaks-protect": "false"}})
			w.converge(small(onePool), reconcile.Options{Destroy: true, Only: []reconcile.Address{"cluster/prod"}})
		})
	}
}

// One that has gone meanwhile is not made again by an update: the plan did not say so.
func TestGoneMeanwhile(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.converge(small(onePool), reconcile.Options{})
	s := w.plan(small("agentCount: 2", "tags: {cost: a}"), reconcile.Options{})
	w.converge(small(onePool), reconcile.Options{Destroy: true})
	result := s.apply(t.Context())
	wantFailure(t, result, "cluster/prod", reconcile.Failed, reconcile.ReasonStale)
	if w.get(clusterID("prod"), "id") != nil {
		t.Error("the cluster is there again")
	}
}
