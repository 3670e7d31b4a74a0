package spec

import "testing"

// TestPoolDiagnostics: what AKS asks of nodes, and of the names and zones of pools.
func TestPoolDiagnostics(t *testing.T) {
	const prod = `    vmSize: Standard_D4ds_v5
    agentCount: 3`
	runDiagnosticCases(t, []diagnosticCase{
		{"too small for a system pool", prod, "    purpose: DevTest\n    vmSize: Standard_D1_v2", `
amlaks.yaml:7:5: clusters[0].vmSize: Standard_D1_v2 has 1 vCPU and 3.5 GiB: AKS needs nodes of at least 2 vCPU and 4 GiB for its own pods
    7 |     vmSize: Standard_D1_v2
      |             ^
      = hint: take Standard_D2ds_v5
amlaks.yaml:7:5: warning: clusters[0].vmSize: Azure retires Standard_D1_v2 (Dv2) on 2028-05-01
    7 |     vmSize: Standard_D1_v2
      |             ^
      = hint: take Standard_D2ds_v5
`},
		{"a small node of DevTest", prod, "    purpose: DevTest\n    vmSize: Standard_D2ds_v5\n    agentCount: 1", ``},
		{"burstable", prod, "    vmSize: Standard_B8ms\n    agentCount: 3", `
amlaks.yaml:6:5: warning: clusters[0].vmSize: Azure retires Standard_B8ms (Bv1) on 2028-11-15
    6 |     vmSize: Standard_B8ms
      |             ^
      = hint: take Standard_D8ds_v5
amlaks.yaml:6:5: warning: clusters[0].vmSize: Standard_B8ms is burstable, which AKS does not support for its own pods: the cluster stalls when its credits are used up
    6 |     vmSize: Standard_B8ms
      |             ^
      = hint: take Standard_D4ds_v5
`},
		{"own name", "    agentCount: 3", `    agentCount: 3
    nodePools: [{name: agents, vmSize: Standard_D4ds_v5}, {name: a, vmSize: Standard_D1_v2}]`, `
amlaks.yaml:8:18: clusters[0].nodePools[0].name: agents is the name of the cluster's own pool, that of vmSize and agentCount
    8 |     nodePools: [{name: agents, vmSize: Standard_D4ds_v5}, {name: a, vmSize: Standard_D1_v2}]
      |                        ^
      = hint: give it another name
amlaks.yaml:8:69: clusters[0].nodePools[1].vmSize: Standard_D1_v2 has 1 vCPU: nodes of AKS need at least 2
    8 |     nodePools: [{name: agents, vmSize: Standard_D4ds_v5}, {name: a, vmSize: Standard_D1_v2}]
      |                                                                             ^
      = hint: take Standard_D2ds_v5
amlaks.yaml:8:69: warning: clusters[0].nodePools[1].vmSize: Azure retires Standard_D1_v2 (Dv2) on 2028-05-01
    8 |     nodePools: [{name: agents, vmSize: Standard_D4ds_v5}, {name: a, vmSize: Standard_D1_v2}]
      |                                                                             ^
      = hint: take Standard_D2ds_v5
`},
		{"zones", "    agentCount: 3", `    agentCount: 3
    zones: [1, 2, 1]
    nodePools: [{name: a, vmSize: Standard_D4ds_v5, zones: [4]}, {name: b, vmSize: Standard_D4ds_v5, zones: [3, 3]}]`, `
amlaks.yaml:8:19: clusters[0].zones[2]: zone 1 is entry 0 already
    8 |     zones: [1, 2, 1]
      |                   ^
amlaks.yaml:9:61: clusters[0].nodePools[0].zones[0]: must be at most 3
    9 |     nodePools: [{name: a, vmSize: Standard_D4ds_v5, zones: [4]}, {name: b, vmSize: Standard_D4ds_v5, zones: [3, 3]}]
      |                                                             ^
amlaks.yaml:9:113: clusters[0].nodePools[1].zones[1]: zone 3 is entry 0 already
    9 |     nodePools: [{name: a, vmSize: Standard_D4ds_v5, zones: [4]}, {name: b, vmSize: Standard_D4ds_v5, zones: [3, 3]}]
      |                                                                                                                 ^
`},
		{"pods", "    agentCount: 3", `    agentCount: 3
    maxPods: 20
    nodePools: [{name: a, vmSize: Standard_D4ds_v5, maxPods: 500}]`, `
amlaks.yaml:8:5: clusters[0].maxPods: must be at least 30
    8 |     maxPods: 20
      |              ^
amlaks.yaml:9:53: clusters[0].nodePools[0].maxPods: must be at most 250
    9 |     nodePools: [{name: a, vmSize: Standard_D4ds_v5, maxPods: 500}]
      |                                                              ^
`},
		{"identity", "    agentCount: 3", `    agentCount: 3
    identity: {userAssigned: aks}`, `
amlaks.yaml:8:16: clusters[0].identity.userAssigned: must be /subscriptions/ID/resourceGroups/GROUP/providers/Microsoft.ManagedIdentity/userAssignedIdentities/NAME
    8 |     identity: {userAssigned: aks}
      |                              ^
`},
		{"attached", prod, `    attach: {resourceGroup: a, clusterName: b}
    zones: [1]
    maxPods: 30
    identity: {userAssigned: /subscriptions/a/resourceGroups/b/providers/Microsoft.ManagedIdentity/userAssignedIdentities/c}`, `
amlaks.yaml:7:5: clusters[0].zones: is for a cluster that amlaks makes, and this one is attached
    7 |     zones: [1]
      |            ^
      = hint: take it out: an attached cluster keeps its own
amlaks.yaml:8:5: clusters[0].maxPods: is for a cluster that amlaks makes, and this one is attached
    8 |     maxPods: 30
      |              ^
      = hint: take it out: an attached cluster keeps its own
amlaks.yaml:9:5: clusters[0].identity: is for a cluster that amlaks makes, and this one is attached
    9 |     identity: {userAssigned: /subscriptions/a/resourceGroups/b/providers/Microsoft.ManagedIdentity/userAssignedIdentities/c}
      |               ^
      = hint: take it out: an attached cluster keeps its own
`},
	})
}
