package azure

import (
	"fmt"
	"maps"
	"slices"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	aks "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"

	"github.com/amlaks/amlaks/spec"
)

// spotTaint is put on every node of a spot pool by AKS, which shows it among the pool's own
// (azurerm asks for it in its files for that reason: hashicorp/terraform-provider-azurerm,
// kubernetes_cluster_node_pool, node_taints).
const spotTaint = "kubernetes.azure.com/scalesetpriority=spot:NoSchedule"

// poolProfiles are the cluster's pools: the one of vmSize and agentCount, and nodePools.
func (d *Driver) poolProfiles(c spec.Cluster) ([]aks.ManagedClusterAgentPoolProfile, error) {
	pools := []spec.NodePool{{Name: systemPool, VMSize: c.VMSize, AgentCount: c.AgentCount}}
	pools = append(pools, c.NodePools...)
	profiles := make([]aks.ManagedClusterAgentPoolProfile, 0, len(pools))
	for i, pool := range pools {
		profile, err := d.poolProfile(c, pool)
		if err != nil {
			return nil, fmt.Errorf("node pool %s: %w", pool.Name, err)
		}
		if i == 0 {
			profile.Mode = to.Ptr(aks.AgentPoolModeSystem)
		}
		profiles = append(profiles, profile)
	}
	return profiles, nil
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
func poolBody(profile aks.ManagedClusterAgentPoolProfile) (body, error) {
	properties, err := asBody(profile)
	if err != nil {
		return nil, err
	}
	delete(properties, "name")
	for _, name := range []string{"minCount", "maxCount", "vnetSubnetID"} {
		if _, given := properties[name]; !given {
			properties[name] = nil
		}
	}
	return body{"properties": properties}, nil
}
