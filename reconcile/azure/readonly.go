package azure

import (
	"maps"
	"strings"
)

// What only the service sets, by the comments of the SDK's types (a test compares the lists):
// an update overlays what is live, and sends all of it back but for these. * stands for any
// item of a list or key of a map.
var (
	clusterReadOnly = []string{
		"eTag", "id", "name", "systemData", "type",
		"identity.principalId", "identity.tenantId",
		"identity.userAssignedIdentities.*.clientId", "identity.userAssignedIdentities.*.principalId",
		"properties.addonProfiles.*.identity",
		"properties.agentPoolProfiles.*.currentOrchestratorVersion", "properties.agentPoolProfiles.*.eTag",
		"properties.agentPoolProfiles.*.nodeImageVersion", "properties.agentPoolProfiles.*.provisioningState",
		"properties.azurePortalFQDN", "properties.currentKubernetesVersion", "properties.fqdn",
		"properties.ingressProfile.webAppRouting.identity", "properties.maxAgentPools",
		"properties.networkProfile.loadBalancerProfile.effectiveOutboundIPs", "properties.networkProfile.natGatewayProfile.effectiveOutboundIPs",
		"properties.oidcIssuerProfile.issuerURL",
		"properties.podIdentityProfile.userAssignedIdentities.*.provisioningInfo", "properties.podIdentityProfile.userAssignedIdentities.*.provisioningState",
		"properties.powerState", "properties.privateFQDN", "properties.privateLinkResources.*.privateLinkServiceID",
		"properties.provisioningState", "properties.resourceUID",
	}
	poolReadOnly = []string{
		"id", "name", "type", "properties.currentOrchestratorVersion", "properties.eTag", "properties.nodeImageVersion", "properties.provisioningState",
	}
)

// readOnlyOf gives the list for a cluster or a pool.
func readOnlyOf(id string) []string {
	if strings.Contains(id, "/agentPools/") {
		return poolReadOnly
	}
	return clusterReadOnly
}

// writable is a body without what only the service sets. The body itself stays as it is.
func writable(b body, readOnly []string) body {
	for _, path := range readOnly {
		b, _ = without(b, strings.Split(path, ".")).(body)
	}
	return b
}

func without(v any, path []string) any {
	switch v := v.(type) {
	case body:
		keys := []string{path[0]}
		if path[0] == "*" {
			keys = keys[:0]
			for key := range v {
				keys = append(keys, key)
			}
		}
		out := maps.Clone(v)
		for _, key := range keys {
			if _, there := v[key]; !there {
				continue
			}
			if len(path) == 1 {
				delete(out, key)
			} else {
				out[key] = without(v[key], path[1:])
			}
		}
		return out
	case []any:
		if path[0] != "*" || len(path) == 1 {
			return v
		}
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = without(item, path[1:])
		}
		return out
	}
	return v
}
