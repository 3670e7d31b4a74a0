package spec

import (
	"fmt"
	"strings"
)

// SystemPool is the name of the pool that a cluster's own vmSize and agentCount shape. AKS runs
// its own pods on it (mode System).
const SystemPool = "agents"

// What AKS asks of the nodes of a system pool. It refuses fewer than 2 vCPU or 4 GiB
// (SystemPoolSkuTooLow); 4 vCPU and two nodes it only recommends (AKS' page "use system pools"),
// and has v1's one small node of DevTest.
const (
	systemVCPU            = 2
	systemMemory          = 4
	recommendedSystemVCPU = 4
	recommendedSystem     = 2
)

// checkSystemPool is about the cluster's own pool: what AKS refuses is an error, what it only
// advises against a warning, of production clusters.
func (d *document) checkSystemPool(c *Cluster, at string) {
	size, known := VMSize(c.VMSize)
	field := at + ".vmSize"
	switch {
	case !known:
	case size.VCPU < systemVCPU || size.MemoryGiB < systemMemory:
		d.failf(field, "take "+size.successor(),
			"%s has %d vCPU and %v GiB: AKS needs nodes of at least %d vCPU and %d GiB for its own pods", size.Name, size.VCPU, size.MemoryGiB, systemVCPU, systemMemory)
	case c.Purpose == DevTest:
	case strings.HasPrefix(size.Family, "B"):
		d.warn(field, fmt.Sprintf("%s is burstable, which AKS does not support for its own pods: the cluster stalls when its credits are used up", size.Name), "take Standard_D4ds_v5")
	case size.VCPU < recommendedSystemVCPU:
		d.warn(field, fmt.Sprintf("%s has %d vCPU: AKS recommends %d for the nodes of its own pods", size.Name, size.VCPU, recommendedSystemVCPU), "take Standard_D4ds_v5")
	}
	if c.Purpose != DevTest && !d.broken(at+".agentCount") && c.AgentCount != nil && *c.AgentCount < recommendedSystem {
		d.warn(at+".agentCount", fmt.Sprintf("AKS runs its own pods on these nodes, and recommends at least %d of them, better 3: the loss of one stops the cluster", recommendedSystem), "raise agentCount")
	}
}

// checkPool is about a further pool.
func (d *document) checkPool(pool NodePool, at string) {
	if pool.Name == SystemPool {
		d.fail(at+".name", SystemPool+" is the name of the cluster's own pool, that of vmSize and agentCount", "give it another name")
	}
	if size, known := VMSize(pool.VMSize); known && size.VCPU < systemVCPU {
		d.failf(at+".vmSize", "take "+size.successor(), "%s has %d vCPU: nodes of AKS need at least %d", size.Name, size.VCPU, systemVCPU)
	}
	d.checkZones(pool.Zones, at+".zones")
}

// checkZones refuses a zone that is named twice.
func (d *document) checkZones(zones []int, at string) {
	first := map[int]int{}
	for i, zone := range zones {
		if j, twice := first[zone]; twice {
			d.failf(fmt.Sprintf("%s[%d]", at, i), "", "zone %d is entry %d already", zone, j)
			continue
		}
		first[zone] = i
	}
}
