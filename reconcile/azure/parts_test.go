package azure_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// everyPart is a stack with one of each of what is neither a cluster nor a pool.
var everyPart = inWorkspace(createKeys, "- {name: prod, purpose: DevTest, agentCount: 1, protect: false, attachToWorkspace: true}")

// exactly carries a plan out as a saved one: each resource is read again right before.
func (s *session) exactly() *reconcile.Result {
	return reconcile.Apply(s.world.t.Context(), []reconcile.Driver{s.driver}, s.plan, reconcile.ApplyOptions{Timeout: time.Minute, Exact: true})
}

// A plan of parts is a promise like any other: what is there right before is what counts.
func TestPartsExactly(t *testing.T) {
	t.Parallel()
	w := start(t, noWorkspace)
	wantDone(t, w.plan(everyPart, reconcile.Options{}).exactly())
	w.wantSteady(everyPart, reconcile.Options{Prune: true})
	// What somebody else does meanwhile is not done again.
	left := strings.Replace(strings.Replace(everyPart, ", attachToWorkspace: true", "", 1), "location: westeurope", "location: westeurope, grantAcrPull: false", 1)
	s := w.plan(everyPart, reconcile.Options{Destroy: true})
	s.wantActions(map[reconcile.Address]reconcile.Action{
		"cluster/prod": reconcile.Delete, pullAddress: reconcile.Delete, "cluster/prod/compute": reconcile.Detach,
	})
	w.detach("prod")
	w.ClearRequests()
	wantDone(t, s.exactly())
	for _, r := range w.writes() {
		if strings.Contains(r.Path, "/computes/") {
			t.Errorf("it was detached again: %s %s", r.Method, r.Path)
		}
	}
	w.wantAssignmentsOn(partIDs["containerRegistry"])
	w.converge(left, reconcile.Options{})
	s = w.plan(everyPart, reconcile.Options{})
	s.wantActions(map[reconcile.Address]reconcile.Action{pullAddress: reconcile.Create, "cluster/prod/compute": reconcile.Create})
	w.assign(partIDs["containerRegistry"], acrPull, w.kubelet("prod"), "")
	w.make(madeWorkspaceID+"/computes/prod", `{"location": "westeurope", "properties": {"computeType": "AKS", "resourceId": "`+clusterID("prod")+`", "properties": {"clusterPurpose": "DevTest"}}}`)
	w.ClearRequests()
	wantDone(t, s.exactly())
	w.wantWrites()
}

// A workspace that appears between plan and apply is used, and one that is being made is joined.
func TestPartsAppear(t *testing.T) {
	t.Parallel()
	w := start(t, noWorkspace)
	first, second := w.plan(everyPart, reconcile.Options{}), w.plan(everyPart, reconcile.Options{})
	wantDone(t, first.apply(t.Context()))
	w.ClearRequests()
	wantDone(t, second.exactly())
	w.wantWrites()
}

// detach takes a compute away as somebody would by hand.
func (w *world) detach(name string) {
	w.t.Helper()
	id := madeWorkspaceID + "/computes/" + name
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodDelete, w.ARMEndpoint()+id+"?api-version=2024-04-01&underlyingResourceAction=Detach", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.Token())
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	response.Body.Close()
	w.until(func() bool { return w.get(id, "id") == nil })
}

// What only reads writes nothing, whatever there is to make.
func TestPartsReadOnly(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]func(*sandbox.Options){"nothing there": noWorkspace, "a workspace": func(*sandbox.Options) {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, options)
			s, err := w.open(w.connect(true), everyPart, reconcile.Options{})
			if err != nil {
				t.Fatal(err)
			}
			w.wantWrites()
			for _, o := range s.apply(t.Context()).Outcomes {
				if o.Change.Action == reconcile.Create && o.Phase == reconcile.Done {
					t.Errorf("%s was made over a connection that only reads", o.Change.Address)
				}
			}
			w.wantWrites()
		})
	}
}
