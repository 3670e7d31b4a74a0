package azure_test

import (
	"strings"
	"testing"

	"github.com/amlaks/amlaks/reconcile"
)

// Who needs a role in the network is said before the cluster is made, and not afterwards.
func TestNetworkNote(t *testing.T) {
	t.Parallel()
	w := start(t)
	const vnet = "vnet: {resourceGroup: net, name: hub, subnet: aks, serviceCidr: 10.0.0.0/16, dnsServiceIP: 10.0.0.10}"
	const identity = "/subscriptions/a/resourceGroups/b/providers/Microsoft.ManagedIdentity/userAssignedIdentities/aks"
	for name, test := range map[string]struct{ stack, hint string }{
		"no network":    {stack: small(onePool)},
		"own identity":  {small(onePool, vnet), "to the identity that Azure makes for it"},
		"user-assigned": {small(onePool, vnet, "identity: {userAssigned: "+identity+"}"), "to " + identity},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{Sandbox: w.Sandbox, t: t}
			notes := w.plan(test.stack, reconcile.Options{}).plan.Notes
			if test.hint == "" {
				if len(notes) != 0 {
					t.Errorf("notes %v", notes)
				}
				return
			}
			if len(notes) != 1 || notes[0].Level != reconcile.Info || !strings.Contains(notes[0].Hint, test.hint) {
				t.Errorf("notes %v", notes)
			}
			w.converge(test.stack, reconcile.Options{})
			if notes := w.plan(test.stack, reconcile.Options{}).plan.Notes; len(notes) != 0 {
				t.Errorf("notes on a cluster that is there: %v", notes)
			}
			w.converge(test.stack, reconcile.Options{Destroy: true})
		})
	}
}
