package azure_test

import (
	"net/http"
	"strings"
	"testing"

	ml "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/machinelearning/armmachinelearning/v4"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

const (
	computeAt = reconcile.Address("cluster/shared/compute")
	computeID = group + "/providers/Microsoft.MachineLearningServices/workspaces/ml-prod/computes/shared"
)

// registered is a stack whose cluster is registered in the workspace, with more keys of the cluster.
func registered(more string) string {
	return clusters(strings.TrimSuffix(attach("shared", "existing"), "}") + ", attachToWorkspace: true" + more + "}")
}

func existing(t *testing.T) *world {
	t.Helper()
	w := start(t)
	w.byHand(sandbox.ClusterRequest{Name: "existing"}, map[string]any{"team": "risk"})
	return w
}

// wantDetached checks that nothing was deleted but by detaching, and the cluster is there.
func (w *world) wantDetached() {
	w.t.Helper()
	n := 0
	for _, r := range w.writes() {
		if r.Method != http.MethodDelete {
			continue
		}
		n++
		if got := r.Query["underlyingResourceAction"]; len(got) != 1 || got[0] != "Detach" {
			w.t.Errorf("DELETE %s %v", r.Path, r.Query)
		}
	}
	if n == 0 || w.get(clusterID("existing"), "id") == nil || w.get(computeID, "id") != nil {
		w.t.Errorf("%d deletions; the cluster %v, the compute %v", n, w.get(clusterID("existing"), "id"), w.get(computeID, "id"))
	}
}

// The entry is made once, as v1 made it, and taken away without the cluster.
func TestCompute(t *testing.T) {
	t.Parallel()
	w := existing(t)
	stack := registered(", loadBalancerType: InternalLoadBalancer, loadBalancerSubnet: scoring")
	s := w.plan(stack, reconcile.Options{})
	s.wantActions(map[reconcile.Address]reconcile.Action{"cluster/shared": reconcile.Update, computeAt: reconcile.Create})
	w.ClearRequests()
	wantDone(t, s.apply(t.Context()))
	for _, r := range w.writes() {
		if !strings.EqualFold(r.Path, computeID) {
			continue
		}
		var sent ml.ComputeResource
		understood(t, r.Body, &sent)
		aks, ok := sent.Properties.(*ml.AKS)
		if !ok || *aks.ResourceID != clusterID("existing") || *aks.Properties.ClusterPurpose != ml.ClusterPurposeDevTest ||
			*aks.Properties.LoadBalancerType != ml.LoadBalancerTypeInternalLoadBalancer || *aks.Properties.LoadBalancerSubnet != "scoring" ||
			*sent.Tags["amlaks-stack"] != "churn" || *sent.Location != "westeurope" {
			t.Errorf("sent %s", r.Body)
		}
	}
	w.wantSteady(stack, reconcile.Options{Prune: true})
	w.plan(clusters(attach("shared", "existing")), reconcile.Options{}).wantActions(map[reconcile.Address]reconcile.Action{computeAt: reconcile.Keep})
	w.ClearRequests()
	s = w.plan(clusters(attach("shared", "existing")), reconcile.Options{Prune: true})
	s.wantActions(map[reconcile.Address]reconcile.Action{computeAt: reconcile.Detach})
	wantDone(t, s.apply(t.Context()))
	w.wantDetached()
	w.converge(stack, reconcile.Options{})
	w.ClearRequests()
	w.converge(stack, reconcile.Options{Destroy: true})
	w.wantDetached()
}

// One that is there is never written over: it will do, or the plan says why not.
func TestComputeThatIsThere(t *testing.T) {
	t.Parallel()
	put := func(of string) string {
		return `{"location": "westeurope", "properties": {"computeType": "AKS", "resourceId": "` + of + `", "properties": {"clusterPurpose": "FastProd"}}}`
	}
	for name, test := range map[string]struct {
		of      string
		more    string
		refused bool
		note    string
		hidden  bool
	}{
		"the same":           {clusterID("existing"), ", purpose: FastProd", false, "", false},
		"with a purpose":     {clusterID("existing"), "", false, "clusterPurpose FastProd, not DevTest", false},
		"of another":         {clusterID("other"), "", true, "", false},
		"that shows nothing": {clusterID("existing"), "", false, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := existing(t)
			w.byHand(sandbox.ClusterRequest{Name: "other"}, nil)
			w.nodes("Standard_D8ds_v5 1")
			w.make(computeID, put(test.of))
			stack := registered("")
			if test.more != "" {
				stack = strings.Replace(stack, "purpose: DevTest", "purpose: FastProd", 1)
			}
			w.converge(strings.Replace(stack, "attachToWorkspace: true", "attachToWorkspace: false", 1), reconcile.Options{Prune: true})
			if test.hidden {
				w.overlay(computeID, map[string]any{"properties": map[string]any{"properties": nil, "resourceId": nil}})
			}
			w.ClearRequests()
			s := w.plan(stack, reconcile.Options{})
			if test.refused {
				s.wantActions(map[reconcile.Address]reconcile.Action{computeAt: reconcile.Refuse})
			} else {
				s.wantActions(nil)
			}
			if notes := s.plan.Notes; (test.note != "") != (len(notes) == 1) || len(notes) == 1 && !strings.Contains(notes[0].Message, test.note) {
				t.Errorf("notes %v, want %q", notes, test.note)
			}
			s.apply(t.Context())
			w.converge(stack, reconcile.Options{Destroy: true})
			for _, r := range w.writes() {
				if strings.Contains(r.Path, "/computes/") {
					t.Errorf("%s %s", r.Method, r.Path)
				}
			}
		})
	}
}

// Azure ML may refuse it, at once or later: that is told, all else goes on, and what has left
// the file goes too.
func TestComputeRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault  sandbox.Fault
		reason reconcile.Reason
	}{
		"not supported": {sandbox.Fault{Status: 400, Code: "NotSupported"}, reconcile.ReasonUnsupported},
		"gone":          {sandbox.Fault{Status: 409, Code: "Conflict"}, reconcile.ReasonUnsupported},
		"forbidden":     {sandbox.Fault{Status: 403, Code: "AuthorizationFailed"}, reconcile.ReasonForbidden},
		"later":         {sandbox.Fault{Operation: "failed:NotSupported"}, reconcile.ReasonUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := existing(t)
			w.byHand(sandbox.ClusterRequest{Name: "former"}, nil)
			w.converge(clusters(attach("former", "former")), reconcile.Options{})
			test.fault.Method, test.fault.Path = http.MethodPut, "computes/shared"
			w.fault(test.fault)
			result := w.plan(registered(""), reconcile.Options{Prune: true}).apply(t.Context())
			wantFailure(t, result, computeAt, reconcile.Failed, test.reason)
			if hint := reconcile.HintOf(outcome(t, result, computeAt).Err); !strings.Contains(hint, "attachToWorkspace: false") {
				t.Errorf("hint %q", hint)
			}
			for _, o := range result.Outcomes {
				if o.Change.Address != computeAt && o.Phase != reconcile.Done {
					t.Errorf("%s: %s %v", o.Change.Address, o.Phase, o.Err)
				}
			}
			if w.tags("former")["amlaks-attached-churn"] != nil || result.Outputs["cluster/shared"]["kubeconfig"] != kubeconfig {
				t.Errorf("scoring does not go on: former %v, outputs %v", w.tags("former"), result.Outputs)
			}
			// One that was never finished is the stack's own to begin anew.
			w.converge(registered(""), reconcile.Options{Prune: true})
			w.wantSteady(registered(""), reconcile.Options{Prune: true})
			w.converge(clusters(attach("shared", "existing")), reconcile.Options{Prune: true})
		})
	}
}

// An answer that is lost is no second request.
func TestComputeIsJoined(t *testing.T) {
	t.Parallel()
	for _, reset := range []string{"before", "after"} {
		t.Run(reset, func(t *testing.T) {
			t.Parallel()
			w := existing(t)
			w.fault(sandbox.Fault{Method: http.MethodPut, Path: "computes/shared", Reset: reset})
			w.plan(registered(""), reconcile.Options{}).apply(t.Context())
			w.converge(registered(""), reconcile.Options{})
			w.wantSteady(registered(""), reconcile.Options{Prune: true})
		})
	}
}

// One who may not see computes has none, unless the file asks for one.
func TestComputesUnseen(t *testing.T) {
	t.Parallel()
	w := existing(t)
	w.fault(sandbox.Fault{Path: "/computes$", Status: 403, Code: "AuthorizationFailed", Count: 2})
	w.plan(clusters(attach("shared", "existing")), reconcile.Options{}).wantActions(map[reconcile.Address]reconcile.Action{"cluster/shared": reconcile.Update})
	if _, err := w.open(w.connect(true), registered(""), reconcile.Options{}); reconcile.ReasonOf(err) != reconcile.ReasonForbidden {
		t.Errorf("%v", err)
	}
}
