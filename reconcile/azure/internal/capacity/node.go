// Package capacity says what fits on the nodes of an AKS cluster: how much of a VM is left for
// pods once AKS has taken its part, and how many replicas find a node with room.
//
// It is arithmetic over figures that others have read. Pods are placed on whole nodes, as the
// scheduler does it: two halves of free nodes are not room for one pod. The packing is a good
// one (large pods first), so what it finds no room for has none in practice either, and what
// just fits may take the scheduler some luck.
package capacity

// Amount is what a node has, or a pod asks for.
type Amount struct {
	CPU    int64 // thousandths of a vCPU
	Memory int64 // bytes
	GPU    int64
	Pods   int64
}

func (a Amount) plus(b Amount, times int64) Amount {
	return Amount{a.CPU + times*b.CPU, a.Memory + times*b.Memory, a.GPU + times*b.GPU, a.Pods + times*b.Pods}
}

// holds tells whether all of b fits into a.
func (a Amount) holds(b Amount) bool {
	return b.CPU <= a.CPU && b.Memory <= a.Memory && b.GPU <= a.GPU && b.Pods <= a.Pods
}

// Machine is a VM size as far as it matters here.
type Machine struct {
	VCPU      int
	MemoryGiB float64
	GPU       int // NVIDIA
}

// Node is a machine that AKS has made a node of.
type Node struct {
	Machine
	MaxPods int
	// Minor is the Kubernetes version, 1.Minor; 0: one of today.
	Minor int
}

// DefaultMaxPods is what AKS gives the nodes of a cluster with the overlay network, where
// nobody says otherwise (azure-cni-overlay in the AKS documentation).
const DefaultMaxPods = 250

const (
	mebibyte = int64(1) << 20
	gibibyte = int64(1) << 30

	// kernelMemory and kernelShare are what the kernel has kept before it counts what there is:
	// a VM of 4 GiB shows 4025836Ki (Azure/AKS#3525), one of 32 GiB 32865016Ki (a node of
	// 2025). The two together are a little more than either.
	kernelMemory   = 128 * mebibyte
	kernelPerMille = 17

	// What AKS reserves of memory since 1.29: for each pod that there may be, and once; but no
	// more than a quarter. (AKS documentation, "node resource reservations"; its MB are MiB: a
	// node of 32865016Ki and 250 pods has 27591416Ki to give, which is exactly that.)
	reservedPerPod = 20 * mebibyte
	reservedOnce   = 50 * mebibyte
	reservedMost   = 4 // a quarter
	evicted        = 100 * mebibyte
	// Before, it was a share that falls with the size, and more to evict at.
	newReservation = 29
	evictedOld     = 750 * mebibyte
)

// reservedCPU is what AKS reserves of a machine's vCPU, in thousandths, by how many it has at
// most (the same page; it says nothing of sizes between, which get the next one's).
var reservedCPU = [...]struct {
	vCPU int
	of   int64
}{{1, 60}, {2, 100}, {4, 140}, {8, 180}, {16, 260}, {32, 420}, {64, 740}}

// reservedCPUMore is what each vCPU above 64 adds, as those from 32 to 64 do.
const reservedCPUMore = 10

// reservedTiers are the shares before 1.29, of the memory up to a size.
var reservedTiers = [...]struct{ upTo, percent int64 }{
	{4 * gibibyte, 25}, {8 * gibibyte, 20}, {16 * gibibyte, 10}, {128 * gibibyte, 6},
}

const reservedAbove = 2 // percent of what is above the last

// daemons is what AKS runs on each Linux node of a cluster with the overlay network: azure-cns
// 40m and 250Mi, azure-ip-masq-agent 100m and 50Mi, cloud-node-manager 50m and 50Mi,
// csi-azuredisk-node and csi-azurefile-node 30m and 60Mi each, kube-proxy 100m. They are the
// requests that kubectl describe node shows on AKS 1.30 (February 2025); later versions differ
// by some tens of millicores, and add-ons (monitoring, policy) bring more.
var daemons = Amount{CPU: 350, Memory: 470 * mebibyte, Pods: 6}

// Memory is what Kubernetes sees of the machine's, in bytes.
func (m Machine) Memory() int64 {
	whole := int64(m.MemoryGiB * float64(gibibyte))
	return max(0, whole-kernelMemory-whole/1000*kernelPerMille)
}

// Allocatable is what kubectl describe node shows under that word.
func (n Node) Allocatable() Amount {
	return Amount{
		CPU:    max(0, int64(n.VCPU)*1000-cpuReservation(n.VCPU)),
		Memory: max(0, n.Memory()-memoryReservation(n.Memory(), n.MaxPods, n.Minor)),
		GPU:    int64(n.GPU), Pods: int64(n.MaxPods),
	}
}

// Room is what is left of Allocatable beside the pods that AKS runs on each node.
func (n Node) Room() Amount {
	room := n.Allocatable().plus(daemons, -1)
	return Amount{max(0, room.CPU), max(0, room.Memory), room.GPU, max(0, room.Pods)}
}

func cpuReservation(vCPU int) int64 {
	for _, row := range reservedCPU {
		if vCPU <= row.vCPU {
			return row.of
		}
	}
	last := reservedCPU[len(reservedCPU)-1]
	return last.of + int64(vCPU-last.vCPU)*reservedCPUMore
}

func memoryReservation(memory int64, maxPods, minor int) int64 {
	if minor == 0 || minor >= newReservation {
		return min(reservedPerPod*int64(maxPods)+reservedOnce, memory/reservedMost) + evicted
	}
	reserved, from := evictedOld, int64(0)
	for _, tier := range reservedTiers {
		reserved += max(0, min(memory, tier.upTo)-from) * tier.percent / 100
		from = tier.upTo
	}
	return reserved + max(0, memory-from)*reservedAbove/100
}
