package azure

import (
	aks "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"

	"github.com/amlaks/amlaks/spec"
)

// clusterIdentity is what the cluster acts as.
func clusterIdentity(c spec.Cluster) *aks.ManagedClusterIdentity {
	if c.Identity == nil {
		return &aks.ManagedClusterIdentity{Type: to.Ptr(aks.ResourceIdentityTypeSystemAssigned)}
	}
	return &aks.ManagedClusterIdentity{
		Type:                   to.Ptr(aks.ResourceIdentityTypeUserAssigned),
		UserAssignedIdentities: map[string]*aks.ManagedServiceIdentityUserAssignedIdentitiesValue{c.Identity.UserAssigned: {}},
	}
}

// oneIdentity spells the wanted user-assigned identity as it is there (resource IDs know no
// case), and takes away every other: AKS has one at most.
func oneIdentity(want, live body) {
	wanted, _ := at(want, "identity", "userAssignedIdentities").(body)
	there, _ := at(live, "identity", "userAssignedIdentities").(body)
	if len(wanted) == 0 || len(there) == 0 {
		return
	}
	only := body{}
	for id := range there {
		only[id] = nil
	}
	for id, value := range wanted {
		only[spelled(there, id)] = value
	}
	set(want, only, "identity", "userAssignedIdentities")
}
