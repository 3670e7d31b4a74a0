package azure_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	aks "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

func attach(name, cluster string) string {
	return fmt.Sprintf("- {name: %s, purpose: DevTest, attach: {resourceGroup: ml-prod, clusterName: %s}}", name, cluster)
}

// An attached cluster gets one tag and loses it again; nothing else of it is touched.
func TestAttach(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.byHand(sandbox.ClusterRequest{Name: "existing"}, map[string]any{"team": "risk", "amlaks-stack": "another"})
	w.byHand(sandbox.ClusterRequest{Name: "second"}, nil)
	pools := w.get(clusterID("existing"), "properties", "agentPoolProfiles")
	both := clusters(attach("shared", "existing") + "\n" + attach("other", "second"))
	for _, test := range []struct {
		name, stack string
		options     reconcile.Options
		want        map[reconcile.Address]reconcile.Action
		writes      []string
		tags        map[string]any
	}{
		{"attach", both, reconcile.Options{}, map[reconcile.Address]reconcile.Action{"cluster/shared": reconcile.Update, "cluster/other": reconcile.Update},
			nil, map[string]any{"team": "risk", "amlaks-stack": "another", "amlaks-attached-churn": "shared"}},
		{"keep", clusters(attach("other", "second")), reconcile.Options{}, map[reconcile.Address]reconcile.Action{"cluster/shared": reconcile.Keep},
			nil, map[string]any{"team": "risk", "amlaks-stack": "another", "amlaks-attached-churn": "shared"}},
		{"rename", clusters(attach("common", "existing") + "\n" + attach("other", "second")), reconcile.Options{}, map[reconcile.Address]reconcile.Action{"cluster/common": reconcile.Update},
			[]string{"PATCH existing if match"}, map[string]any{"team": "risk", "amlaks-stack": "another", "amlaks-attached-churn": "common"}},
		{"detach", clusters(attach("other", "second")), reconcile.Options{Prune: true}, map[reconcile.Address]reconcile.Action{"cluster/common": reconcile.Detach},
			[]string{"PATCH existing if match"}, map[string]any{"team": "risk", "amlaks-stack": "another"}},
		{"destroy", clusters(attach("other", "second")), reconcile.Options{Destroy: true}, map[reconcile.Address]reconcile.Action{"cluster/other": reconcile.Detach},
			[]string{"PATCH second if match"}, map[string]any{"team": "risk", "amlaks-stack": "another"}},
	} {
		w.ClearRequests()
		s := w.plan(test.stack, test.options)
		s.wantActions(test.want)
		result := s.apply(t.Context())
		wantDone(t, result)
		if test.writes != nil {
			w.wantWrites(test.writes...)
		}
		for _, r := range w.writes() {
			var sent aks.TagsObject
			understood(t, r.Body, &sent)
		}
		if diff := cmp.Diff(test.tags, w.tags("existing")); diff != "" {
			t.Errorf("%s: tags (-want +got):\n%s", test.name, diff)
		}
		if test.name == "attach" {
			outputs := result.Outputs["cluster/shared"]
			if outputs[azure.OutputKubeconfig] != kubeconfig || outputs[azure.OutputLocation] != "westeurope" || outputs[azure.OutputID] != clusterID("existing") {
				t.Errorf("outputs %v", outputs)
			}
			w.wantSteady(test.stack, reconcile.Options{})
		}
	}
	if diff := cmp.Diff(pools, w.get(clusterID("existing"), "properties", "agentPoolProfiles")); diff != "" {
		t.Errorf("pools of the attached cluster (-before +after):\n%s", diff)
	}
}

func TestAttachMissing(t *testing.T) {
	t.Parallel()
	w := start(t)
	_, err := w.open(w.connect(false), clusters(attach("shared", "nowhere")), reconcile.Options{})
	if reconcile.ReasonOf(err) != reconcile.ReasonNotFound {
		t.Errorf("%v, reason %q; want NotFound", err, reconcile.ReasonOf(err))
	}
}

// A name that the file gives to another cluster means that one, and the former is detached.
func TestAttachAnother(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.byHand(sandbox.ClusterRequest{Name: "former"}, nil)
	w.byHand(sandbox.ClusterRequest{Name: "another"}, nil)
	w.converge(clusters(attach("shared", "former")), reconcile.Options{})
	stack := clusters(attach("shared", "another"))
	s := w.plan(stack, reconcile.Options{Prune: true})
	s.wantActions(map[reconcile.Address]reconcile.Action{"cluster/shared": reconcile.Update, "cluster/ml-prod/former": reconcile.Detach})
	result := s.apply(t.Context())
	wantDone(t, result)
	if got := result.Outputs["cluster/shared"][azure.OutputID]; got != clusterID("another") {
		t.Errorf("cluster/shared is %s", got)
	}
	if w.tags("another")["amlaks-attached-churn"] != "shared" || w.tags("former")["amlaks-attached-churn"] != nil {
		t.Errorf("tags: another %v, former %v", w.tags("another"), w.tags("former"))
	}
	w.wantSteady(stack, reconcile.Options{Prune: true})
}

// A stack's cluster of the same name in another resource group is not the declared one.
func TestSameNameElsewhere(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.byHand(sandbox.ClusterRequest{Name: "prod", ResourceGroup: "former"}, map[string]any{"amlaks-stack": "churn", "amlaks-protect": "true"})
	s := w.plan(small(onePool), reconcile.Options{Prune: true})
	s.wantActions(map[reconcile.Address]reconcile.Action{
		"cluster/prod": reconcile.Create, "cluster/prod/pool/agents": reconcile.Create, "cluster/former/prod": reconcile.Refuse,
	})
	s.apply(t.Context())
	if w.get(clusterID("prod"), "id") == nil {
		t.Error("the declared cluster was not made")
	}
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.byHand(sandbox.ClusterRequest{Name: "prod"}, map[string]any{"team": "risk"})
	stack := small("adopt: true", onePool)
	w.ClearRequests()
	s := w.plan(stack, reconcile.Options{})
	s.wantActions(map[reconcile.Address]reconcile.Action{"cluster/prod": reconcile.Update, "cluster/prod/pool/agents": reconcile.Create})
	result := s.apply(t.Context())
	wantDone(t, result)
	w.wantWrites("PUT prod if match", "PUT prod/agentPools/agents if none")
	if diff := cmp.Diff(map[string]any{"team": "risk", "amlaks-stack": "churn", "amlaks-protect": "false"}, w.tags("prod")); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	if result.Outputs["cluster/prod"][azure.OutputKubeconfig] != kubeconfig {
		t.Error("no kubeconfig of it is known")
	}
	if w.get(clusterID("prod")+"/agentPools/nodepool1", "id") == nil {
		t.Error("the pool that it had is gone")
	}
	// Once it is the stack's, adopt may leave the file.
	w.wantSteady(small(onePool), reconcile.Options{Prune: true})
}

// A pool of the declared name, in a cluster that is adopted, is adopted with it.
func TestAdoptPool(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.byHand(sandbox.ClusterRequest{Name: "prod"}, nil)
	stack := small("adopt: true", onePool, "nodePools: [{name: nodepool1, vmSize: Standard_D4ds_v5}]")
	// AKS keeps one system pool: the stack's own takes that over from nodepool1.
	w.converge(stack, reconcile.Options{})
	if got := w.get(clusterID("prod")+"/agentPools/nodepool1", "properties", "tags", "amlaks-stack"); got != "churn" {
		t.Errorf("nodepool1 belongs to %v", got)
	}
	w.wantSteady(stack, reconcile.Options{})
}
