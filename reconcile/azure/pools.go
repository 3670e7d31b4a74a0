package azure

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	aks "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

// spotTaint is put on every node of a spot pool by AKS, which shows it among the pool's own
// (azurerm asks for it in its files for that reason: hashicorp/terraform-provider-azurerm,
// kubernetes_cluster_node_pool, node_taints).
const spotTaint = "kubernetes.azure.com/scalesetpriority=spot:NoSchedule"

var poolCompare = map[string]reconcile.Comparator{
	"properties.mode":                reconcile.Fold,
	"properties.vmSize":              reconcile.Fold,
	"properties.osType":              reconcile.Fold,
	"properties.type":                reconcile.Fold,
	"properties.vnetSubnetID":        reconcile.Fold,
	"properties.scaleSetPriority":    reconcile.Default(string(aks.ScaleSetPriorityRegular)),
	"properties.enableAutoScaling":   reconcile.Default("false"),
	"properties.nodeTaints":          reconcile.Set,
	"properties.availabilityZones":   reconcile.Set,
	"properties.orchestratorVersion": reconcile.Minor,
}

// poolImmutable is from azurerm's lists of what forces a new node pool and of what it rotates a
// pool for (azure-sdk notes, August 2026). AKS' own change of a VM size in place is a preview.
var poolImmutable = func() map[string]reconcile.Strategy {
	table := immutable("AKS cannot change it, and amlaks makes no other pools", "properties.osType", "properties.type")
	for _, path := range []string{
		"properties.vmSize", "properties.availabilityZones", "properties.maxPods", "properties.vnetSubnetID", "properties.scaleSetPriority",
	} {
		table[path] = reconcile.Strategy{Action: reconcile.Rotate, Why: path + ": AKS cannot change it in place: a new node pool is made, " +
			"the pods of the old one are moved there within their disruption budgets, and the old one is removed"}
	}
	table[pathExtra] = reconcile.Strategy{Action: reconcile.Rotate, Why: "more than one node pool stands for it: one stays, " +
		"the pods of the others are moved there within their disruption budgets, and they are removed"}
	return table
}()

// clusterPools are the cluster's pools: the one of vmSize and agentCount, and nodePools.
func clusterPools(c spec.Cluster) []spec.NodePool {
	own := spec.NodePool{Name: spec.SystemPool, VMSize: c.VMSize, AgentCount: c.AgentCount, Zones: c.Zones, MaxPods: c.MaxPods}
	return append([]spec.NodePool{own}, c.NodePools...)
}

// otherPools are the names of the cluster's pools but for one.
func otherPools(c spec.Cluster, name string) []string {
	var names []string
	for _, pool := range clusterPools(c) {
		if pool.Name != name {
			names = append(names, pool.Name)
		}
	}
	return names
}

func poolID(clusterID, name string) string { return clusterID + "/agentPools/" + name }

func poolSummary(pool aks.ManagedClusterAgentPoolProfile) string {
	if pool.Count == nil {
		return "node pool, " + *pool.VMSize
	}
	return fmt.Sprintf("node pool, %d x %s", *pool.Count, *pool.VMSize)
}

func (d *Driver) poolProfile(c spec.Cluster, pool spec.NodePool) (aks.ManagedClusterAgentPoolProfile, error) {
	tags := map[string]*string{tagStack: to.Ptr(d.stack.Name)}
	profile := aks.ManagedClusterAgentPoolProfile{
		Name:              to.Ptr(pool.Name),
		Mode:              to.Ptr(aks.AgentPoolModeUser),
		VMSize:            to.Ptr(pool.VMSize),
		OSType:            to.Ptr(aks.OSTypeLinux),
		Type:              to.Ptr(aks.AgentPoolTypeVirtualMachineScaleSets),
		ScaleSetPriority:  to.Ptr(aks.ScaleSetPriorityRegular),
		EnableAutoScaling: to.Ptr(false),
		Tags:              tags,
	}
	if pool.Name == spec.SystemPool {
		profile.Mode = to.Ptr(aks.AgentPoolModeSystem)
	}
	if c.KubernetesVersion != "" { // AKS upgrades a control plane without its pools
		profile.OrchestratorVersion = to.Ptr(c.KubernetesVersion)
	}
	if pool.MaxPods != nil {
		profile.MaxPods = to.Ptr(int32(*pool.MaxPods))
	}
	for _, zone := range pool.Zones {
		profile.AvailabilityZones = append(profile.AvailabilityZones, to.Ptr(strconv.Itoa(zone)))
	}
	switch {
	case pool.MinCount != nil && pool.MaxCount != nil:
		profile.EnableAutoScaling = to.Ptr(true)
		profile.MinCount = to.Ptr(int32(*pool.MinCount))
		profile.MaxCount = to.Ptr(int32(*pool.MaxCount))
	case pool.AgentCount != nil: // under an autoscaler it is the autoscaler's
		profile.Count = to.Ptr(int32(*pool.AgentCount))
	}
	taints := slices.Clone(pool.Taints)
	if pool.Spot {
		profile.ScaleSetPriority = to.Ptr(aks.ScaleSetPrioritySpot)
		if !slices.Contains(taints, spotTaint) {
			taints = append(taints, spotTaint)
		}
	}
	if c.VNet != nil {
		profile.VnetSubnetID = to.Ptr(fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.Network/virtualNetworks/%s/subnets/%s",
			d.stack.Workspace.SubscriptionID, c.VNet.ResourceGroup, c.VNet.Name, c.VNet.Subnet))
	}
	profile.NodeTaints = to.SliceOfPtrs(taints...)
	labels := slices.Sorted(maps.Keys(pool.Labels))
	if len(labels) > 0 {
		profile.NodeLabels = map[string]*string{}
	}
	for _, key := range labels {
		profile.NodeLabels[key] = to.Ptr(pool.Labels[key])
	}
	return profile, poolLedger.write(tags, labels)
}

// poolBody is a profile as the agentPools resource has it: under properties, without the
// name. What the file does not ask for, and has no value to say so, is null: not there.
func poolBody(profile aks.ManagedClusterAgentPoolProfile, pool spec.NodePool) (body, error) {
	properties, err := asBody(profile)
	if err != nil {
		return nil, err
	}
	delete(properties, "name")
	absent := []string{"minCount", "maxCount", "vnetSubnetID"}
	if pool.Zones != nil {
		absent = append(absent, "availabilityZones")
	}
	for _, name := range absent {
		if _, given := properties[name]; !given {
			properties[name] = nil
		}
	}
	return body{"properties": properties}, nil
}
