package azure

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	aks "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

// clusterSpec is what a cluster's resource is rendered from.
type clusterSpec struct {
	spec.Cluster
	id    string
	pools []aks.ManagedClusterAgentPoolProfile // as they are created with it
}

// poolSpec is what a node pool's resource is rendered from.
type poolSpec struct {
	name      string
	id        string // of the AKS pool of the same name
	clusterID string
	others    []string // names of the cluster's other pools in the file
}

// Resources renders the stack's workspace, clusters and pools.
func (d *Driver) Resources() ([]reconcile.Resource, error) {
	s := d.stack
	resources := d.workspaceResources()
	for _, c := range s.Clusters {
		if c.Attach != nil {
			resources = append(resources, d.attachedCluster(c))
			continue
		}
		more, err := d.ownCluster(c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ClusterAddress(c.Name), err)
		}
		resources = append(resources, more...)
	}
	computes, err := d.computes()
	return slices.Concat(resources, d.pulls(), computes), err
}

func (d *Driver) clusterID(resourceGroup, name string) string {
	return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.ContainerService/managedClusters/%s",
		d.stack.Workspace.SubscriptionID, resourceGroup, name)
}

// attachedCluster owns nothing of the cluster but the tag that says who uses it.
func (d *Driver) attachedCluster(c spec.Cluster) reconcile.Resource {
	id := d.attachedID(c.Attach)
	return reconcile.Resource{
		Address: ClusterAddress(c.Name), Driver: DriverName,
		Desired: body{"tags": body{tagAttached + d.stack.Name: d.attachedTag(id, c.Name)}}, Adopt: true,
		Summary: "attach AKS cluster " + id[strings.LastIndex(id, "/")+1:],
		Spec:    &clusterSpec{Cluster: c, id: id},
	}
}

// ownCluster renders a cluster that amlaks makes. Its pools are resources of their own,
// because AKS changes pools only through themselves once the cluster exists.
func (d *Driver) ownCluster(c spec.Cluster) ([]reconcile.Resource, error) {
	id := d.clusterID(d.stack.Workspace.ResourceGroup, c.Name)
	own := &clusterSpec{Cluster: c, id: id}
	address := ClusterAddress(c.Name)
	var pools []reconcile.Resource
	for _, pool := range clusterPools(c) {
		profile, err := d.poolProfile(c, pool)
		if err != nil {
			return nil, fmt.Errorf("node pool %s: %w", pool.Name, err)
		}
		own.pools = append(own.pools, profile)
		desired, err := poolBody(profile, pool)
		if err != nil {
			return nil, err
		}
		pools = append(pools, reconcile.Resource{
			Address: poolAddress(address, pool.Name), Driver: DriverName, DependsOn: []reconcile.Address{address},
			Desired: desired, Compare: poolCompare, Immutable: poolImmutable, Adopt: c.Adopt,
			Summary: poolSummary(profile),
			Spec:    &poolSpec{name: pool.Name, id: poolID(id, pool.Name), clusterID: id, others: otherPools(c, pool.Name)},
		})
	}
	desired, err := d.clusterBody(c)
	if err != nil {
		return nil, err
	}
	cluster := reconcile.Resource{
		Address: address, Driver: DriverName, DependsOn: []reconcile.Address{WorkspaceAddress(d.stack)},
		Desired: desired, Compare: clusterCompare, Immutable: clusterImmutable,
		Protect: c.Protect, Adopt: c.Adopt, Spec: own,
		Summary: fmt.Sprintf("AKS cluster for %s in %s", c.Purpose, d.stack.Workspace.ResourceGroup),
	}
	return append([]reconcile.Resource{cluster}, pools...), nil
}

// clusterBody is the owned part of the cluster, without its pools.
func (d *Driver) clusterBody(c spec.Cluster) (body, error) {
	tier := aks.ManagedClusterSKUTierFree
	if c.Purpose != spec.DevTest {
		tier = aks.ManagedClusterSKUTierStandard // the uptime SLA
	}
	properties := &aks.ManagedClusterProperties{
		DNSPrefix:  to.Ptr(d.stack.Name + "-" + c.Name),
		EnableRBAC: to.Ptr(true),
		NetworkProfile: &aks.NetworkProfile{
			NetworkPlugin:     to.Ptr(aks.NetworkPluginAzure),
			NetworkPluginMode: to.Ptr(aks.NetworkPluginModeOverlay),
			LoadBalancerSKU:   to.Ptr(aks.LoadBalancerSKUStandard),
		},
		// By these pods sign in to Azure without a secret, and the cluster's tokens can be checked
		// from outside. An issuer cannot be turned off again.
		OidcIssuerProfile: &aks.ManagedClusterOIDCIssuerProfile{Enabled: to.Ptr(true)},
		SecurityProfile:   &aks.ManagedClusterSecurityProfile{WorkloadIdentity: &aks.ManagedClusterSecurityProfileWorkloadIdentity{Enabled: to.Ptr(true)}},
	}
	if c.KubernetesVersion != "" {
		properties.KubernetesVersion = to.Ptr(c.KubernetesVersion)
	}
	if v := c.VNet; v != nil {
		properties.NetworkProfile.ServiceCidr = to.Ptr(v.ServiceCIDR)
		properties.NetworkProfile.DNSServiceIP = to.Ptr(v.DNSServiceIP)
	}
	properties.APIServerAccessProfile = &aks.ManagedClusterAPIServerAccessProfile{EnablePrivateCluster: to.Ptr(c.PrivateCluster)}
	if !c.PrivateCluster { // a private one has no public address to guard
		properties.APIServerAccessProfile.AuthorizedIPRanges = to.SliceOfPtrs(c.AuthorizedIPRanges...)
	}
	tags := map[string]*string{tagStack: to.Ptr(d.stack.Name), tagProtect: to.Ptr(strconv.FormatBool(c.Protect))}
	for key, value := range c.Tags {
		tags[key] = to.Ptr(value)
	}
	if err := clusterLedger.write(tags, slices.Sorted(maps.Keys(c.Tags))); err != nil {
		return nil, fmt.Errorf("tags: %w", err)
	}
	out, err := asBody(aks.ManagedCluster{
		SKU:        &aks.ManagedClusterSKU{Name: to.Ptr(aks.ManagedClusterSKUNameBase), Tier: &tier},
		Identity:   clusterIdentity(c),
		Tags:       tags,
		Properties: properties,
	})
	if err != nil {
		return nil, err
	}
	if c.Identity == nil {
		set(out, nil, "identity", "userAssignedIdentities")
	}
	out["location"] = reconcile.Ref{Address: WorkspaceAddress(d.stack), Output: OutputLocation}
	return out, nil
}

var clusterCompare = map[string]reconcile.Comparator{
	"location": reconcile.Region,
	// A name in the API server's address. It is kept for life, and an adopted cluster has its own.
	"properties.dnsPrefix": reconcile.CreateOnly,
	"sku.name":             reconcile.Fold,
	"sku.tier":             reconcile.Fold,
	"identity.type":        reconcile.Fold,
	// AKS upgrades patches by itself, where that is on, and then says the whole version.
	"properties.kubernetesVersion":                           reconcile.Minor,
	"properties.apiServerAccessProfile.authorizedIPRanges":   reconcile.CIDRSet,
	"properties.apiServerAccessProfile.enablePrivateCluster": reconcile.Default("false"),
	"properties.networkProfile.networkPlugin":                reconcile.Fold,
	"properties.networkProfile.networkPluginMode":            reconcile.Fold,
	"properties.networkProfile.loadBalancerSku":              reconcile.Fold,
}

// clusterImmutable is from azurerm's list of what forces a new AKS cluster (azure-sdk notes, August 2026).
var clusterImmutable = immutable("a cluster keeps it for life: declare another cluster and move the services",
	"location", "properties.enableRBAC",
	"properties.networkProfile.serviceCidr", "properties.networkProfile.dnsServiceIP",
	"properties.networkProfile.loadBalancerSku", "properties.apiServerAccessProfile.enablePrivateCluster")

func immutable(why string, paths ...string) map[string]reconcile.Strategy {
	table := make(map[string]reconcile.Strategy, len(paths))
	for _, path := range paths {
		table[path] = reconcile.Strategy{Action: reconcile.Refuse, Why: path + ": " + why}
	}
	return table
}

// asBody gives the JSON form of one of the SDK's types.
func asBody(v any) (body, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var b body
	return b, json.Unmarshal(data, &b)
}

// Kubeconfig reads the admin kubeconfig of one of the stack's clusters, for the verbs that
// need nothing else of Azure. It is a secret.
func (d *Driver) Kubeconfig(ctx context.Context, cluster string) (string, error) {
	for _, c := range d.stack.Clusters {
		if c.Name != cluster {
			continue
		}
		id := d.clusterID(d.stack.Workspace.ResourceGroup, c.Name)
		if c.Attach != nil {
			id = d.attachedID(c.Attach)
		}
		kubeconfig, err := d.kubeconfig(ctx, id)
		if reconcile.ReasonOf(err) == reconcile.ReasonNotFound {
			return "", &reconcile.Failure{Reason: reconcile.ReasonNotFound, Err: fmt.Errorf("%s is not there", ClusterAddress(cluster)), Hint: "amlaks apply makes it"}
		}
		return kubeconfig, err
	}
	return "", fmt.Errorf("the file has no cluster %q", cluster)
}

func (d *Driver) attachedID(a *spec.Attach) string {
	if a.ResourceID != "" {
		return a.ResourceID
	}
	return d.clusterID(a.ResourceGroup, a.ClusterName)
}
