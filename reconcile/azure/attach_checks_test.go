package azure_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// attachFor attaches a cluster for a purpose.
func attachFor(purpose string) string {
	return clusters(strings.Replace(attach("shared", "existing"), "DevTest", purpose, 1))
}

// nodes are a cluster's pools as SIZE COUNT, spot ones as SIZE COUNT Spot.
func (w *world) nodes(pools ...string) {
	w.t.Helper()
	for i, pool := range pools {
		fields := strings.Fields(pool + " Regular")
		var count int
		if _, err := fmt.Sscan(fields[1], &count); err != nil {
			w.t.Fatal(err)
		}
		name := fmt.Sprintf("pool%d", i)
		content := fmt.Sprintf(`{"properties": {"mode": "User", "vmSize": %q, "count": %d, "scaleSetPriority": %q}}`, fields[0], count, fields[2])
		if status, answer := w.send(http.MethodPut, clusterID("existing")+"/agentPools/"+name, content); status != http.StatusCreated {
			w.t.Fatalf("HTTP %d: %v", status, answer)
		}
		w.wantIdle("existing")
	}
}

// What v1 asked of a cluster is asked in the plan, before anything is written to it.
func TestAttachChecks(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		purpose string
		nodes   []string // beside one Standard_D4ds_v5, of 4 vCPU
		overlay map[string]any
		reason  reconcile.Reason // of the refusal
		says    string
		note    string
	}{
		"enough":                 {"FastProd", []string{"Standard_D4ds_v5 2"}, nil, "", "", ""},
		"enough of two sizes":    {"DenseProd", []string{"Standard_D8ds_v5 1"}, nil, "", "", ""},
		"too small":              {"FastProd", []string{"Standard_D4ds_v5 1"}, nil, reconcile.ReasonTooSmall, "has 8 vCPU in nodes that stay, and purpose FastProd needs 12: add nodes to the cluster, or set purpose: DevTest", ""},
		"spot nodes may go":      {"FastProd", []string{"Standard_D64ds_v5 1 Spot"}, nil, reconcile.ReasonTooSmall, "has 4 vCPU", ""},
		"no node is no vCPU":     {"FastProd", []string{"Standard_D64ds_v5 0"}, nil, reconcile.ReasonTooSmall, "has 4 vCPU", ""},
		"small for DevTest":      {"DevTest", nil, nil, "", "", ""},
		"a size nobody knows":    {"FastProd", []string{"Standard_X1_v99 1"}, nil, "", "", "amlaks does not know Standard_X1_v99"},
		"stopped":                {"DevTest", nil, map[string]any{"properties": map[string]any{"powerState": map[string]any{"code": "Stopped"}}}, reconcile.ReasonUnavailable, "az aks start --resource-group ml-prod --name existing", ""},
		"without local accounts": {"DevTest", nil, map[string]any{"properties": map[string]any{"disableLocalAccounts": true}}, reconcile.ReasonForbidden, "--enable-local-accounts", ""},
		"too old":                {"DevTest", nil, map[string]any{"properties": map[string]any{"currentKubernetesVersion": "1.19.3"}}, reconcile.ReasonUnsupported, "runs Kubernetes 1.19.3, which AKS does not support in westeurope any more", ""},
		"of another stack too":   {"DevTest", nil, map[string]any{"tags": map[string]any{"amlaks-attached-fraud": "x"}}, "", "", "used by stack fraud too"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t)
			w.byHand(sandbox.ClusterRequest{Name: "existing"}, map[string]any{})
			w.nodes(test.nodes...)
			w.overlay(clusterID("existing"), test.overlay)
			w.ClearRequests()
			s := w.plan(attachFor(test.purpose), reconcile.Options{})
			want := reconcile.Update
			if test.reason != "" {
				want = reconcile.Refuse
			}
			if c := s.plan.Changes[0]; c.Action != want || c.Reason != test.reason || !strings.Contains(c.Why, test.says) {
				t.Errorf("%s %q: %s; want %s %q: %s", c.Action, c.Reason, c.Why, want, test.reason, test.says)
			}
			if notes := s.plan.Notes; (test.note != "") != (len(notes) == 1) || len(notes) == 1 && !strings.Contains(notes[0].Message, test.note) {
				t.Errorf("notes %v, want %q", notes, test.note)
			}
			result := s.apply(t.Context())
			if test.reason != "" {
				wantFailure(t, result, "cluster/shared", reconcile.Refused, test.reason)
				w.wantWrites()
			} else {
				wantDone(t, result)
				w.wantSteady(attachFor(test.purpose), reconcile.Options{})
			}
		})
	}
}

// A cluster in use that has become too small goes on being used, and that is said.
func TestAttachedHasBecomeTooSmall(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.byHand(sandbox.ClusterRequest{Name: "existing", AgentCount: 3}, nil)
	w.converge(attachFor("FastProd"), reconcile.Options{})
	w.overlay(clusterID("existing")+"/agentPools/nodepool1", map[string]any{"properties": map[string]any{"count": 2.0}})
	s := w.plan(attachFor("FastProd"), reconcile.Options{})
	s.wantActions(nil)
	if notes := s.plan.Notes; len(notes) != 1 || notes[0].Level != reconcile.Warning || notes[0].Reason != reconcile.ReasonTooSmall {
		t.Errorf("notes %v", notes)
	}
}

// A stopped cluster is not used, and can still be detached; what is in it is then not seen.
func TestAttachedIsStopped(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.byHand(sandbox.ClusterRequest{Name: "existing"}, map[string]any{"team": "risk"})
	w.converge(attachFor("DevTest"), reconcile.Options{})
	w.overlay(clusterID("existing"), map[string]any{"properties": map[string]any{"powerState": map[string]any{"code": "Stopped"}}})
	s := w.plan(attachFor("DevTest"), reconcile.Options{})
	s.wantActions(map[reconcile.Address]reconcile.Action{"cluster/shared": reconcile.Refuse})
	if s.known["cluster/shared"]["kubeconfig"] != "" {
		t.Error("a stopped cluster is asked what is in it")
	}
	s = w.plan(nothing, reconcile.Options{Prune: true})
	s.wantActions(map[reconcile.Address]reconcile.Action{"cluster/shared": reconcile.Detach})
	if notes := s.plan.Notes; len(notes) != 1 || !strings.Contains(notes[0].Message, "stays when it is detached") {
		t.Errorf("notes %v", notes)
	}
	wantDone(t, s.apply(t.Context()))
	if diff := cmp.Diff(map[string]any{"team": "risk"}, w.tags("existing")); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
}

// A cluster may be in another region than the workspace.
func TestAttachFromAnotherRegion(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.byHand(sandbox.ClusterRequest{Name: "existing"}, nil)
	w.overlay(clusterID("existing"), map[string]any{"location": "eastus2"})
	w.converge(pulling(attach("shared", "existing")), reconcile.Options{})
	w.wantSteady(pulling(attach("shared", "existing")), reconcile.Options{})
	if got := w.get(clusterID("existing"), "location"); got != "eastus2" {
		t.Errorf("it is in %v now", got)
	}
}
