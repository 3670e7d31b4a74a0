package spec

import "testing"

// TestClusterDiagnostics: the rules between the fields of a cluster.
func TestClusterDiagnostics(t *testing.T) {
	runDiagnosticCases(t, []diagnosticCase{
		{"too few vCPU", "agentCount: 3", "agentCount: 2", `
amlaks.yaml:7:5: clusters[0].agentCount: 2 x Standard_D4ds_v5 is 8 vCPU, and purpose FastProd needs 12
    7 |     agentCount: 2
      |                 ^
      = hint: raise agentCount, take a larger vmSize, or set purpose: DevTest
`},
		{"too few vCPU by default size", `    vmSize: Standard_D4ds_v5
    agentCount: 3`, "    vmSize: Standard_D2ds_v5", `
amlaks.yaml:5:5: clusters[0].agentCount: 3 x Standard_D2ds_v5 is 6 vCPU, and purpose FastProd needs 12
    5 |   - name: prod
      |     ^
      = hint: raise agentCount, take a larger vmSize, or set purpose: DevTest
amlaks.yaml:6:5: warning: clusters[0].vmSize: Standard_D2ds_v5 has 2 vCPU: AKS recommends 4 for the nodes of its own pods
    6 |     vmSize: Standard_D2ds_v5
      |             ^
      = hint: take Standard_D4ds_v5
`},
		{"DevTest may be small", "agentCount: 3", `agentCount: 1
    purpose: DevTest`, ``},
		{"pools count", "agentCount: 3", `agentCount: 1
    nodePools: [{name: a, vmSize: Standard_D8ds_v5}]`, `
amlaks.yaml:7:5: warning: clusters[0].agentCount: AKS runs its own pods on these nodes, and recommends at least 2 of them, better 3: the loss of one stops the cluster
    7 |     agentCount: 1
      |                 ^
      = hint: raise agentCount
`},
		{"spot and range count as the nodes they always have", "agentCount: 3", `agentCount: 1
    nodePools: [{name: a, vmSize: Standard_D8ds_v5, spot: true}, {name: b, vmSize: Standard_D8ds_v5, minCount: 0, maxCount: 3}]`, `
amlaks.yaml:7:5: clusters[0].agentCount: 1 x Standard_D4ds_v5 with the node pools is 4 vCPU, and purpose FastProd needs 12
    7 |     agentCount: 1
      |                 ^
      = hint: raise agentCount, take a larger vmSize, or set purpose: DevTest
`},
		{"unknown size", `Standard_D4ds_v5
    agentCount: 3`, `Standard_D4dsv5
    agentCount: 1`, `
amlaks.yaml:6:5: warning: clusters[0].vmSize: Standard_D4dsv5 is not a size that amlaks knows: its vCPU and GPUs are not checked
    6 |     vmSize: Standard_D4dsv5
      |             ^
      = hint: did you mean Standard_D4d_v5?
amlaks.yaml:7:5: warning: clusters[0].agentCount: AKS runs its own pods on these nodes, and recommends at least 2 of them, better 3: the loss of one stops the cluster
    7 |     agentCount: 1
      |                 ^
      = hint: raise agentCount
`},
		{"retired sizes", "vmSize: Standard_D4ds_v5", `vmSize: Standard_D3_v2
    nodePools: [{name: gpu, vmSize: Standard_NC6s_v3}]`, `
amlaks.yaml:6:5: warning: clusters[0].vmSize: Azure retires Standard_D3_v2 (Dv2) on 2028-05-01
    6 |     vmSize: Standard_D3_v2
      |             ^
      = hint: take Standard_D4ds_v5
amlaks.yaml:7:29: warning: clusters[0].nodePools[0].vmSize: Azure retires Standard_NC6s_v3 (NCv3) on 2025-09-30
    7 |     nodePools: [{name: gpu, vmSize: Standard_NC6s_v3}]
      |                                     ^
      = hint: take Standard_NC4as_T4_v3 or Standard_NC24ads_A100_v4
`},
		{"vnet in part", "    agentCount: 3", `    agentCount: 3
    vnet: {resourceGroup: net, name: hub}`, `
amlaks.yaml:8:5: clusters[0].vnet.dnsServiceIP: is required
    8 |     vnet: {resourceGroup: net, name: hub}
      |     ^
amlaks.yaml:8:5: clusters[0].vnet.serviceCidr: is required
    8 |     vnet: {resourceGroup: net, name: hub}
      |     ^
amlaks.yaml:8:5: clusters[0].vnet.subnet: is required
    8 |     vnet: {resourceGroup: net, name: hub}
      |     ^
`},
		{"dns outside", "    agentCount: 3", `    agentCount: 3
    vnet: {resourceGroup: net, name: hub, subnet: aks, serviceCidr: 10.0.0.0/16, dnsServiceIP: 10.1.0.10}`, `
amlaks.yaml:8:82: clusters[0].vnet.dnsServiceIP: must be inside serviceCidr, 10.0.0.0/16
    8 |     vnet: {resourceGroup: net, name: hub, subnet: aks, serviceCidr: 10.0.0.0/16, dnsServiceIP: 10.1.0.10}
      |                                                                                                ^
`},
		{"dns first", "    agentCount: 3", `    agentCount: 3
    vnet: {resourceGroup: net, name: hub, subnet: aks, serviceCidr: 10.0.0.0/16, dnsServiceIP: 10.0.0.1}`, `
amlaks.yaml:8:82: clusters[0].vnet.dnsServiceIP: must be a later address of serviceCidr than 10.0.0.1
    8 |     vnet: {resourceGroup: net, name: hub, subnet: aks, serviceCidr: 10.0.0.0/16, dnsServiceIP: 10.0.0.1}
      |                                                                                                ^
      = hint: the network address and the first after it are taken, by the Kubernetes API
`},
		{"dns network", "    agentCount: 3", `    agentCount: 3
    vnet: {resourceGroup: net, name: hub, subnet: aks, serviceCidr: 10.0.0.0/16, dnsServiceIP: 10.0.0.0}`, `
amlaks.yaml:8:82: clusters[0].vnet.dnsServiceIP: must be a later address of serviceCidr than 10.0.0.1
    8 |     vnet: {resourceGroup: net, name: hub, subnet: aks, serviceCidr: 10.0.0.0/16, dnsServiceIP: 10.0.0.0}
      |                                                                                                ^
      = hint: the network address and the first after it are taken, by the Kubernetes API
`},
		{"cidr not a network", "    agentCount: 3", `    agentCount: 3
    vnet: {resourceGroup: net, name: hub, subnet: aks, serviceCidr: 10.0.0.5/16, dnsServiceIP: 10.0.0.10}`, `
amlaks.yaml:8:56: clusters[0].vnet.serviceCidr: must be an address range with its network address, such as 10.0.0.0/16
    8 |     vnet: {resourceGroup: net, name: hub, subnet: aks, serviceCidr: 10.0.0.5/16, dnsServiceIP: 10.0.0.10}
      |                                                                     ^
`},
		{"not addresses", "    agentCount: 3", `    agentCount: 3
    vnet: {resourceGroup: net, name: hub, subnet: aks, serviceCidr: ten, dnsServiceIP: eleven}`, `
amlaks.yaml:8:56: clusters[0].vnet.serviceCidr: must be an address range with its network address, such as 10.0.0.0/16
    8 |     vnet: {resourceGroup: net, name: hub, subnet: aks, serviceCidr: ten, dnsServiceIP: eleven}
      |                                                                     ^
amlaks.yaml:8:74: clusters[0].vnet.dnsServiceIP: must be an IP address, such as 10.0.0.10
    8 |     vnet: {resourceGroup: net, name: hub, subnet: aks, serviceCidr: ten, dnsServiceIP: eleven}
      |                                                                                        ^
`},
		{"attach excludes what makes a cluster", `    vmSize: Standard_D4ds_v5
    agentCount: 3`, `    attach: {resourceGroup: a, clusterName: b}
    vmSize: Standard_D4ds_v5
    agentCount: 3
    kubernetesVersion: "1.36"
    adopt: true
    nodePools: []`, `
amlaks.yaml:7:5: clusters[0].vmSize: is for a cluster that amlaks makes, and this one is attached
    7 |     vmSize: Standard_D4ds_v5
      |             ^
      = hint: take it out: an attached cluster keeps its own
amlaks.yaml:8:5: clusters[0].agentCount: is for a cluster that amlaks makes, and this one is attached
    8 |     agentCount: 3
      |                 ^
      = hint: take it out: an attached cluster keeps its own
amlaks.yaml:9:5: clusters[0].kubernetesVersion: is for a cluster that amlaks makes, and this one is attached
    9 |     kubernetesVersion: "1.36"
      |                        ^
      = hint: take it out: an attached cluster keeps its own
amlaks.yaml:10:5: clusters[0].adopt: is for a cluster that amlaks makes, and this one is attached
   10 |     adopt: true
      |            ^
      = hint: take it out: an attached cluster keeps its own
amlaks.yaml:11:5: clusters[0].nodePools: is for a cluster that amlaks makes, and this one is attached
   11 |     nodePools: []
      |                ^
      = hint: take it out: an attached cluster keeps its own
`},
		{"attach may have ssl and an internal address", `    vmSize: Standard_D4ds_v5
    agentCount: 3`, `    attach: {resourceGroup: a, clusterName: b}
    loadBalancerType: InternalLoadBalancer`, ``},
		{"attach by both", `    vmSize: Standard_D4ds_v5
    agentCount: 3`, "    attach: {resourceGroup: a, clusterName: b, resourceId: /x}", `
amlaks.yaml:6:48: clusters[0].attach.resourceId: cannot stand beside resourceGroup and clusterName
    6 |     attach: {resourceGroup: a, clusterName: b, resourceId: /x}
      |                                                            ^
      = hint: keep one of the two forms
`},
		{"attach by half", `    vmSize: Standard_D4ds_v5
    agentCount: 3`, "    attach: {resourceGroup: a}", `
amlaks.yaml:6:5: clusters[0].attach.clusterName: is required beside resourceGroup
    6 |     attach: {resourceGroup: a}
      |     ^
`},
		{"attach by nothing", `    vmSize: Standard_D4ds_v5
    agentCount: 3`, "    attach: {}", `
amlaks.yaml:6:5: clusters[0].attach: must have one of clusterName, resourceGroup, resourceId
    6 |     attach: {}
      |             ^
`},
		{"attach by a wrong ID", `    vmSize: Standard_D4ds_v5
    agentCount: 3`, "    attach: {resourceId: /subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/a/providers/Microsoft.Compute/virtualMachines/b}", `
amlaks.yaml:6:14: clusters[0].attach.resourceId: must be /subscriptions/ID/resourceGroups/GROUP/providers/Microsoft.ContainerService/managedClusters/NAME
    6 |     attach: {resourceId: /subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/a/providers/Microsoft.Compute/virtualMachines/b}
      |                          ^
`},
		{"attached twice", "services:", `  - name: one
    attach: {resourceGroup: a, clusterName: b}
  - name: two
    attach: {resourceId: /subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/A/providers/Microsoft.ContainerService/managedClusters/B}
services:`, `
amlaks.yaml:11:5: clusters[2].attach: is the same AKS cluster as that of clusters[1]
   11 |     attach: {resourceId: /subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/A/providers/Microsoft.ContainerService/managedClusters/B}
      |             ^
      = hint: let the services of both refer to one cluster
`},
		{"names twice", "services:", `  - name: Prod
    nodePools: [{name: a, vmSize: Standard_D4ds_v5}, {name: a, vmSize: Standard_D4ds_v5}]
services:`, `
amlaks.yaml:8:5: clusters[1].name: Prod is the name of clusters[0] already
    8 |   - name: Prod
      |           ^
amlaks.yaml:9:55: clusters[1].nodePools[1].name: a is the name of clusters[1].nodePools[0] already
    9 |     nodePools: [{name: a, vmSize: Standard_D4ds_v5}, {name: a, vmSize: Standard_D4ds_v5}]
      |                                                             ^
`},
		{"subnet without internal load balancer", "    agentCount: 3", `    agentCount: 3
    loadBalancerSubnet: a`, `
amlaks.yaml:8:5: clusters[0].loadBalancerSubnet: is only for loadBalancerType InternalLoadBalancer
    8 |     loadBalancerSubnet: a
      |                         ^
`},
		{"private and authorized ranges", "    agentCount: 3", `    agentCount: 3
    privateCluster: true
    authorizedIpRanges: [10.0.0.0/8]`, `
amlaks.yaml:9:5: clusters[0].authorizedIpRanges: cannot stand beside privateCluster: a private cluster has no public address to guard
    9 |     authorizedIpRanges: [10.0.0.0/8]
      |                         ^
`},
		{"authorized ranges", "    agentCount: 3", `    agentCount: 3
    authorizedIpRanges: [10.0.0.0/8, 10.0.0.1, home]`, `
amlaks.yaml:8:48: clusters[0].authorizedIpRanges[2]: must be an address range, such as 203.0.113.0/24
    8 |     authorizedIpRanges: [10.0.0.0/8, 10.0.0.1, home]
      |                                                ^
`},
		{"pool counts", "    agentCount: 3", `    agentCount: 3
    nodePools:
      - {name: a, vmSize: Standard_D4ds_v5, agentCount: 1, minCount: 1, maxCount: 2}
      - {name: b, vmSize: Standard_D4ds_v5, minCount: 1}
      - {name: c, vmSize: Standard_D4ds_v5, maxCount: 1}
      - {name: d, vmSize: Standard_D4ds_v5, minCount: 3, maxCount: 2}`, `
amlaks.yaml:9:45: clusters[0].nodePools[0].agentCount: cannot stand beside minCount and maxCount: the cluster autoscaler owns the count
    9 |       - {name: a, vmSize: Standard_D4ds_v5, agentCount: 1, minCount: 1, maxCount: 2}
      |                                                         ^
amlaks.yaml:10:45: clusters[0].nodePools[1].minCount: needs maxCount beside it
   10 |       - {name: b, vmSize: Standard_D4ds_v5, minCount: 1}
      |                                                       ^
amlaks.yaml:11:45: clusters[0].nodePools[2].maxCount: needs minCount beside it
   11 |       - {name: c, vmSize: Standard_D4ds_v5, maxCount: 1}
      |                                                       ^
amlaks.yaml:12:45: clusters[0].nodePools[3].minCount: is more than maxCount, 2
   12 |       - {name: d, vmSize: Standard_D4ds_v5, minCount: 3, maxCount: 2}
      |                                                       ^
`},
		{"own tags", "    agentCount: 3", `    agentCount: 3
    tags: {amlaks-stack: other}`, `
amlaks.yaml:8:12: clusters[0].tags.amlaks-stack: names that begin with amlaks- are amlaks's own
    8 |     tags: {amlaks-stack: other}
      |                          ^
`},
		{"docker bridge", "    agentCount: 3", `    agentCount: 3
    dockerBridgeCidr: 172.17.0.1/16`, `
amlaks.yaml:8:5: warning: clusters[0].dockerBridgeCidr: is ignored: AKS has no Docker bridge any more
    8 |     dockerBridgeCidr: 172.17.0.1/16
      |                       ^
      = hint: take it out
`},
	})
}
