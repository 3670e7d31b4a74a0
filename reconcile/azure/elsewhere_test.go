package azure_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// otherSubscription is a second one that the identity sees.
const otherSubscription = "99999999-0000-0000-0000-000000000001"

func twoSubscriptions(o *sandbox.Options) { o.Subscriptions = []string{otherSubscription} }

func otherID(name string) string {
	return strings.Replace(clusterID(name), sandbox.SubscriptionID, otherSubscription, 1)
}

// attachID attaches a cluster of the other subscription.
func attachID(name, cluster string) string {
	return fmt.Sprintf("- {name: %s, purpose: DevTest, attach: {resourceId: %s}}", name, otherID(cluster))
}

// A cluster that was attached from another subscription is found again when it has left the
// file, and detached.
func TestAttachFromAnotherSubscription(t *testing.T) {
	t.Parallel()
	w := start(t, twoSubscriptions)
	w.byHand(sandbox.ClusterRequest{Name: "theirs", SubscriptionID: otherSubscription}, map[string]any{"team": "risk"})
	own := "- {name: prod, purpose: DevTest, protect: false}"
	both := clusters(own + "\n" + attachID("shared", "theirs"))
	result := w.converge(both, reconcile.Options{})
	if got := result.Outputs["cluster/shared"]; got[azure.OutputID] != otherID("theirs") || got[azure.OutputKubeconfig] != kubeconfig {
		t.Errorf("outputs of the attached cluster: %v", got)
	}
	want := map[string]any{"team": "risk", "amlaks-attached-churn": "shared@" + sandbox.SubscriptionID}
	if diff := cmp.Diff(want, w.get(otherID("theirs"), "tags")); diff != "" {
		t.Errorf("tags while attached (-want +got):\n%s", diff)
	}
	w.wantSteady(both, reconcile.Options{})
	w.plan(clusters(own), reconcile.Options{}).wantActions(map[reconcile.Address]reconcile.Action{"cluster/shared": reconcile.Keep})
	s := w.plan(clusters(own), reconcile.Options{Prune: true})
	s.wantActions(map[reconcile.Address]reconcile.Action{"cluster/shared": reconcile.Detach})
	w.ClearRequests()
	wantDone(t, s.apply(t.Context()))
	w.wantWrites("PATCH theirs if match")
	if diff := cmp.Diff(any(map[string]any{"team": "risk"}), w.get(otherID("theirs"), "tags")); diff != "" {
		t.Errorf("tags after it was detached (-want +got):\n%s", diff)
	}
	w.wantSteady(clusters(own), reconcile.Options{Prune: true})
}

// Stacks of one name in two subscriptions are two stacks: neither takes what is the other's
// for something that has left its file.
func TestSameNameInAnotherSubscription(t *testing.T) {
	t.Parallel()
	w := start(t, twoSubscriptions)
	w.byHand(sandbox.ClusterRequest{Name: "made", SubscriptionID: otherSubscription}, map[string]any{"amlaks-stack": "churn", "amlaks-protect": "false"})
	w.byHand(sandbox.ClusterRequest{Name: "used", SubscriptionID: otherSubscription}, map[string]any{"amlaks-attached-churn": "shared"})
	w.byHand(sandbox.ClusterRequest{Name: "lent"}, map[string]any{"amlaks-attached-churn": "shared@" + otherSubscription})
	bare := clusters("- {name: prod, purpose: DevTest, protect: false}")
	w.converge(bare, reconcile.Options{})
	for _, o := range []reconcile.Options{{Prune: true}, {Destroy: true}} {
		w.converge(bare, o)
	}
	if w.get(otherID("made"), "id") == nil {
		t.Error("the other stack's cluster is gone")
	}
	if got := w.get(otherID("used"), "tags", "amlaks-attached-churn"); got != "shared" {
		t.Errorf("the cluster that the other stack uses bears %v", got)
	}
	if got := w.tags("lent")["amlaks-attached-churn"]; got != "shared@"+otherSubscription {
		t.Errorf("the cluster that is lent to the other stack bears %v", got)
	}
	// One that the other has attached is refused to us: both would own one namespace in it.
	s := w.plan(clusters(attach("shared", "lent")), reconcile.Options{})
	s.wantActions(map[reconcile.Address]reconcile.Action{"cluster/shared": reconcile.Refuse})
	w.ClearRequests()
	wantFailure(t, s.apply(t.Context()), "cluster/shared", reconcile.Refused, reconcile.ReasonOwned)
	w.wantWrites()
}

// A subscription that may be seen and not looked into is passed over; one that cannot be read
// for another reason fails the plan, because what is attached there would be missed.
func TestSubscriptionsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	w := start(t, twoSubscriptions)
	w.fault(sandbox.Fault{Method: "GET", Path: otherSubscription, Status: http.StatusForbidden, Code: "AuthorizationFailed"})
	w.plan(small(onePool), reconcile.Options{}).wantActions(map[reconcile.Address]reconcile.Action{
		"cluster/prod": reconcile.Create, "cluster/prod/pool/agents": reconcile.Create,
	})
	w.fault(sandbox.Fault{Method: "GET", Path: otherSubscription, Status: http.StatusBadRequest, Code: "Broken"})
	_, err := w.open(w.connect(false), small(onePool), reconcile.Options{})
	if err == nil || !strings.Contains(err.Error(), "list AKS clusters of subscription "+otherSubscription) {
		t.Errorf("got %v", err)
	}
}

// Looking into other subscriptions costs one list each, and nothing where there is none.
func TestObserveRequests(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		options func(*sandbox.Options)
		lists   int
	}{
		"one subscription":  {func(*sandbox.Options) {}, 1},
		"two subscriptions": {twoSubscriptions, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, test.options)
			w.plan(small(onePool), reconcile.Options{})
			got := map[string]int{}
			for _, r := range w.Requests("arm") {
				_, after, _ := strings.Cut(strings.ToLower(r.Path), "/providers/")
				got[r.Method+" "+after]++
			}
			want := map[string]int{
				"GET ": 1, "GET microsoft.containerservice/managedclusters": test.lists,
				"GET microsoft.machinelearningservices/workspaces/ml-prod": 1, "GET microsoft.machinelearningservices/workspaces/ml-prod/computes": 1, "GET microsoft.containerregistry/registries/mlprod": 1,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("requests of a plan (-want +got):\n%s", diff)
			}
		})
	}
}

// What its owner does to an attached cluster, or failed to do, is told and stops nothing.
func TestAttachedInTrouble(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.byHand(sandbox.ClusterRequest{Name: "existing"}, nil)
	stack := clusters(attach("shared", "existing"))
	w.converge(stack, reconcile.Options{})
	for provisioning, why := range map[string]string{
		"Failed": "its last operation ended as Failed", "Canceled": "its last operation ended as Canceled",
		"Upgrading": "an operation is running on it: Upgrading",
	} {
		w.overlay(clusterID("existing"), map[string]any{"properties": map[string]any{"provisioningState": provisioning}})
		w.ClearRequests()
		s := w.plan(stack, reconcile.Options{})
		if c := s.plan.Changes[0]; c.Action != reconcile.NoOp || c.Why != why {
			t.Errorf("%s: %s, %q", provisioning, c.Action, c.Why)
		}
		result := s.apply(t.Context())
		wantDone(t, result)
		w.wantWrites()
		if result.Outputs["cluster/shared"][azure.OutputKubeconfig] != kubeconfig {
			t.Errorf("%s: what lives in it cannot be reached", provisioning)
		}
	}
}
