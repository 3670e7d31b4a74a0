package arm

import (
	"net/http"

	"github.com/amlaks/amlaks/spec"
)

// checkSystemPool refuses what AKS does not take for its own pods ("use system node pools").
func checkSystemPool(name string, pool body) *apiError {
	if text(pool, "mode") != "System" {
		return nil
	}
	pods, given := at(pool, "maxPods").(float64)
	size, known := spec.VMSize(text(pool, "vmSize"))
	switch {
	case known && (size.VCPU < 2 || size.MemoryGiB < 4):
		return refusal(http.StatusBadRequest, "SystemPoolSkuTooLow", "System node pool must use VM sku with more than 2 cores and 4GB memory. Nodepool name: %s.", name)
	case text(pool, "scaleSetPriority") == "Spot":
		return refusal(http.StatusBadRequest, "InvalidParameter", "The system node pool '%s' cannot have scaleSetPriority Spot.", name)
	case given && pods < 30:
		return refusal(http.StatusBadRequest, "InvalidParameter", "The value of parameter agentPoolProfile.maxPods is invalid: system node pool '%s' must support at least 30 pods.", name)
	}
	return nil
}

// checkIdentity refuses a cluster without an identity that it could act as, and what cannot
// be turned off again.
func checkIdentity(sent, live body) *apiError {
	issuer := at(sent, "properties.oidcIssuerProfile.enabled") == true
	identities, _ := at(sent, "identity.userAssignedIdentities").(body)
	userAssigned := text(sent, "identity.type") == "UserAssigned"
	switch {
	case userAssigned && len(identities) != 1, !userAssigned && len(identities) > 0:
		return refusal(http.StatusBadRequest, "InvalidParameter", "identity.userAssignedIdentities must have exactly one identity with type UserAssigned, and none otherwise.")
	case at(live, "properties.oidcIssuerProfile.enabled") == true && !issuer:
		return refusal(http.StatusBadRequest, "BadRequest", "OIDC issuer cannot be disabled once it was enabled.")
	case at(sent, "properties.securityProfile.workloadIdentity.enabled") == true && !issuer:
		return refusal(http.StatusBadRequest, "BadRequest", "Workload identity needs the OIDC issuer: set oidcIssuerProfile.enabled.")
	}
	return nil
}

// defaultIdentity fills in what Azure makes of an identity: the IDs of its principal.
func defaultIdentity(cluster body) {
	const client, principal, tenant = "33333333-3333-3333-3333-333333333333", "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
	if text(cluster, "identity.type") == "SystemAssigned" {
		put(cluster, "identity.principalId", principal)
		put(cluster, "identity.tenantId", tenant)
	}
	identities, _ := at(cluster, "identity.userAssignedIdentities").(body)
	for id := range identities {
		identities[id] = body{"clientId": client, "principalId": principal}
	}
	if at(cluster, "properties.oidcIssuerProfile.enabled") == true {
		put(cluster, "properties.oidcIssuerProfile.issuerURL", "https://"+text(cluster, "location")+".oic.prod-aks.azure.com/"+tenant+"/"+text(cluster, "name")+"/")
	}
}
