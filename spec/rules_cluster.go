package spec

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// MinVCPU is what a cluster has at least in all, unless its purpose is DevTest (v1's rule).
const MinVCPU = 12

// madeOnly are the fields that shape a cluster amlaks makes, and say nothing of
// one that exists. ssl, loadBalancerType and loadBalancerSubnet are not among
// them: they shape the front end, which amlaks puts on attached clusters too.
var madeOnly = []string{"vmSize", "agentCount", "kubernetesVersion", "zones", "maxPods", "identity", "vnet", "privateCluster", "authorizedIpRanges", "nodePools", "adopt", "dockerBridgeCidr", "tags"}

func (d *document) checkCluster(c *Cluster, at string) {
	if d.written(at + ".attach") {
		for _, name := range madeOnly {
			if d.written(at + "." + name) {
				d.fail(at+"."+name, "is for a cluster that amlaks makes, and this one is attached", "take it out: an attached cluster keeps its own")
			}
		}
		if c.Attach != nil {
			d.checkAttach(c.Attach, at+".attach")
		}
	} else {
		d.checkNodes(c, at)
		d.checkSystemPool(c, at)
	}
	d.checkFrontEnd(c, at)
	if c.VNet != nil {
		d.checkVNet(c.VNet, at+".vnet")
	}
	if c.LoadBalancerType != InternalLoadBalancer && d.written(at+".loadBalancerSubnet") && !d.broken(at+".loadBalancerType") {
		d.fail(at+".loadBalancerSubnet", "is only for loadBalancerType InternalLoadBalancer", "")
	}
	if c.PrivateCluster {
		d.excludes(at+".authorizedIpRanges", at+".privateCluster", "a private cluster has no public address to guard")
	}
	for i, r := range c.AuthorizedIPRanges {
		if _, err := netip.ParsePrefix(r); err != nil {
			if _, err := netip.ParseAddr(r); err != nil {
				d.fail(fmt.Sprintf("%s.authorizedIpRanges[%d]", at, i), "must be an address range, such as 203.0.113.0/24", "")
			}
		}
	}
	if d.written(at + ".dockerBridgeCidr") {
		d.warn(at+".dockerBridgeCidr", "is ignored: AKS has no Docker bridge any more", "take it out")
	}
	for _, name := range sortedKeys(c.Tags) {
		d.checkTagName(childField(at+".tags", name), name)
	}
}

// checkTagName keeps files off the tags by which amlaks knows its own.
func (d *document) checkTagName(field, name string) {
	if strings.HasPrefix(strings.ToLower(name), "amlaks-") {
		d.fail(field, "names that begin with amlaks- are amlaks's own", "")
	}
}

func (d *document) checkNodes(c *Cluster, at string) {
	d.checkSize(at+".vmSize", c.VMSize)
	d.checkZones(c.Zones, at+".zones")
	d.unique(at+".nodePools", ".name", names(c.NodePools, func(p NodePool) string { return p.Name }))
	for i, pool := range c.NodePools {
		p := fmt.Sprintf("%s.nodePools[%d]", at, i)
		d.checkSize(p+".vmSize", pool.VMSize)
		d.checkPool(pool, p)
		lower, upper := d.written(p+".minCount"), d.written(p+".maxCount")
		switch {
		case (lower || upper) && d.written(p+".agentCount"):
			d.fail(p+".agentCount", "cannot stand beside minCount and maxCount: the cluster autoscaler owns the count", "")
		case lower && !upper:
			d.fail(p+".minCount", "needs maxCount beside it", "")
		case upper && !lower:
			d.fail(p+".maxCount", "needs minCount beside it", "")
		case pool.MinCount != nil && pool.MaxCount != nil && *pool.MinCount > *pool.MaxCount:
			d.failf(p+".minCount", "", "is more than maxCount, %d", *pool.MaxCount)
		}
	}
	if c.Purpose == DevTest || d.broken(at+".purpose") || d.broken(at+".agentCount") {
		return
	}
	// v1 asked for 12 vCPU in the whole cluster, so the further pools count, with
	// the nodes they always have: agentCount, or minCount. Spot nodes do not, as
	// Azure may take them away.
	total, known := 0, true
	count := func(vmSize string, nodes *int) {
		size, ok := VMSize(vmSize)
		known = known && ok
		if nodes != nil {
			total += size.VCPU * *nodes
		}
	}
	count(c.VMSize, c.AgentCount)
	for _, pool := range c.NodePools {
		if !pool.Spot && pool.AgentCount != nil {
			count(pool.VMSize, pool.AgentCount)
		} else if !pool.Spot {
			count(pool.VMSize, pool.MinCount)
		}
	}
	if known && total < MinVCPU && c.AgentCount != nil {
		what := fmt.Sprintf("%d x %s", *c.AgentCount, c.VMSize)
		if len(c.NodePools) > 0 {
			what += " with the node pools"
		}
		d.failf(at+".agentCount", "raise agentCount, take a larger vmSize, or set purpose: DevTest",
			"%s is %d vCPU, and purpose %s needs %d", what, total, c.Purpose, MinVCPU)
	}
}

// checkSize warns about sizes that are unknown here, or that Azure retires.
func (d *document) checkSize(field, name string) {
	if name == "" {
		return
	}
	size, ok := VMSize(name)
	switch {
	case !ok:
		hint := ""
		if near := nearestSize(name); near != "" {
			hint = fmt.Sprintf("did you mean %s?", near)
		}
		d.warn(field, fmt.Sprintf("%s is not a size that amlaks knows: its vCPU and GPUs are not checked", name), hint)
	case size.Retires != "":
		d.warn(field, fmt.Sprintf("Azure retires %s (%s) on %s", size.Name, size.Family, size.Retires), "take "+size.successor())
	}
}

func (d *document) checkVNet(v *VNet, at string) {
	cidr, err := netip.ParsePrefix(v.ServiceCIDR)
	if err != nil || cidr != cidr.Masked() {
		if v.ServiceCIDR != "" {
			d.fail(at+".serviceCidr", "must be an address range with its network address, such as 10.0.0.0/16", "")
		}
		cidr = netip.Prefix{}
	}
	ip, err := netip.ParseAddr(v.DNSServiceIP)
	switch {
	case v.DNSServiceIP == "":
	case err != nil:
		d.fail(at+".dnsServiceIP", "must be an IP address, such as 10.0.0.10", "")
	case !cidr.IsValid():
	case !cidr.Contains(ip):
		d.failf(at+".dnsServiceIP", "", "must be inside serviceCidr, %s", cidr)
	case ip == cidr.Addr() || ip == cidr.Addr().Next():
		d.failf(at+".dnsServiceIP", "the network address and the first after it are taken, by the Kubernetes API", "must be a later address of serviceCidr than %s", cidr.Addr().Next())
	}
}

// resourceID is v1's form: nine path segments, of Microsoft.ContainerService.
var resourceID = regexp.MustCompile(`(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.ContainerService/managedClusters/[^/]+$`)

func (d *document) checkAttach(a *Attach, at string) {
	id, group, name := d.written(at+".resourceId"), d.written(at+".resourceGroup"), d.written(at+".clusterName")
	switch {
	case id && (group || name):
		d.fail(at+".resourceId", "cannot stand beside resourceGroup and clusterName", "keep one of the two forms")
	case id && !resourceID.MatchString(a.ResourceID):
		d.fail(at+".resourceId", "must be /subscriptions/ID/resourceGroups/GROUP/providers/Microsoft.ContainerService/managedClusters/NAME", "")
	case group && !name:
		d.fail(at+".clusterName", "is required beside resourceGroup", "")
	case name && !group:
		d.fail(at+".resourceGroup", "is required beside clusterName", "")
	}
}

// checkAttachedOnce refuses two attachments of one AKS cluster: in v1 the second
// broke the first (MicrosoftDocs/azure-docs#41778), and here both would own one front end.
func (d *document) checkAttachedOnce(clusters []Cluster) {
	first := make(map[string]int)
	for i, c := range clusters {
		if c.Attach == nil {
			continue
		}
		target := strings.ToLower(c.Attach.ResourceGroup + "/" + c.Attach.ClusterName)
		if parts := strings.Split(c.Attach.ResourceID, "/"); len(parts) == 9 {
			target = strings.ToLower(parts[4] + "/" + parts[8])
		}
		if j, ok := first[target]; ok && target != "/" {
			d.failf(fmt.Sprintf("clusters[%d].attach", i), "let the services of both refer to one cluster", "is the same AKS cluster as that of clusters[%d]", j)
			continue
		}
		first[target] = i
	}
}
