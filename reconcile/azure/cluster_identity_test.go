package azure_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	aks "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"

	"github.com/amlaks/amlaks/reconcile"
)

// A cluster has one identity: Azure's own, or one that is named, whatever it had before.
func TestClusterIdentity(t *testing.T) {
	t.Parallel()
	w := start(t)
	const id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/"
	named := func(name string) string { return small(onePool, "identity: {userAssigned: "+id+name+"}") }
	have := func() string {
		identities, _ := w.get(clusterID("prod"), "identity", "userAssignedIdentities").(map[string]any)
		kind, _ := w.get(clusterID("prod"), "identity", "type").(string)
		return strings.Join(append([]string{kind}, slices.Sorted(maps.Keys(identities))...), " ")
	}
	for _, step := range []struct{ stack, want string }{
		{small(onePool), "SystemAssigned"},
		{named("one"), "UserAssigned " + id + "one"},
		{named("two"), "UserAssigned " + id + "two"},
		{small(onePool), "SystemAssigned"},
		{named("one"), "UserAssigned " + id + "one"},
	} {
		w.ClearRequests()
		w.converge(step.stack, reconcile.Options{})
		if got := have(); got != step.want {
			t.Fatalf("identity %q, want %q", got, step.want)
		}
		if writes := w.writes(); len(writes) != 1 {
			t.Errorf("%d writes, want one", len(writes))
		}
		w.wantSteady(step.stack, reconcile.Options{})
	}
	// Resource IDs know no case: Azure may spell it otherwise.
	w.overlay(clusterID("prod"), map[string]any{"identity": map[string]any{"userAssignedIdentities": map[string]any{
		id + "one": nil, strings.ToLower(id) + "one": map[string]any{"clientId": "c", "principalId": "p"},
	}}})
	w.wantSteady(named("one"), reconcile.Options{})
	w.converge(small(onePool, "identity: {userAssigned: "+id+"one}", "tags: {a: b}"), reconcile.Options{})
	if got := have(); got != "UserAssigned "+strings.ToLower(id)+"one" {
		t.Errorf("identity %q", got)
	}
	var sent aks.ManagedCluster
	understood(t, w.writes()[len(w.writes())-1].Body, &sent)
	if !*sent.Properties.OidcIssuerProfile.Enabled || !*sent.Properties.SecurityProfile.WorkloadIdentity.Enabled {
		t.Error("the issuer, or workload identity, is not on")
	}
}
