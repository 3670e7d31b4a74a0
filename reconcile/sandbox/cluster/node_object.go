package cluster

import (
	"fmt"
	"maps"
	"math"
	"runtime"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/amlaks/amlaks/spec"
)

// kubeletVersion is what the nodes say they run: the control plane's own.
const kubeletVersion = "v1.37.2"

// maxPods is AKS's default with Azure CNI overlay.
const maxPods = 250

// nodeObject is the Node of the pool's machine with this number, named and
// labelled as AKS does.
func (c *Cluster) nodeObject(p Pool, number int) (*corev1.Node, error) {
	name := fmt.Sprintf("aks-%s-00000000-vmss%06s", p.Name, base36(number))
	labels := map[string]string{
		corev1.LabelHostname:             name,
		corev1.LabelOSStable:             "linux",
		corev1.LabelArchStable:           runtime.GOARCH,
		corev1.LabelInstanceTypeStable:   p.VMSize,
		"agentpool":                      p.Name,
		"kubernetes.azure.com/agentpool": p.Name,
		"kubernetes.azure.com/cluster":   c.name,
		"kubernetes.azure.com/mode":      "system",
		"kubernetes.azure.com/os-sku":    "Ubuntu",
		"kubernetes.azure.com/role":      "agent",
		"topology.kubernetes.io/zone":    "0",
	}
	size := machine(p.VMSize)
	if size.GPU > 0 {
		labels["kubernetes.azure.com/accelerator"] = "nvidia"
	}
	maps.Copy(labels, p.Labels)
	o := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: map[string]string{}},
		Spec:       corev1.NodeSpec{ProviderID: "amlaks://" + c.name + "/" + name},
	}
	for _, s := range p.Taints {
		t, err := parseTaint(s)
		if err != nil {
			return nil, err
		}
		o.Spec.Taints = append(o.Spec.Taints, t)
	}
	now := metav1.Now()
	condition := func(kind corev1.NodeConditionType, status corev1.ConditionStatus, reason, message string) corev1.NodeCondition {
		return corev1.NodeCondition{Type: kind, Status: status, Reason: reason, Message: message,
			LastHeartbeatTime: now, LastTransitionTime: now}
	}
	o.Status = corev1.NodeStatus{
		Capacity:    resources(size, 0, 0),
		Allocatable: resources(size, reservedCPU(size.VCPU), reservedMemory(size.MemoryGiB)),
		Conditions: []corev1.NodeCondition{
			condition(corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
			condition(corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
			condition(corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
			condition(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady", "kubelet is posting ready status"),
		},
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: c.state.address()},
			{Type: corev1.NodeHostName, Address: name},
		},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: int32(c.state.Ports[portKubelet])}},
		NodeInfo: corev1.NodeSystemInfo{
			OperatingSystem: "linux", Architecture: runtime.GOARCH, KubeletVersion: kubeletVersion,
			ContainerRuntimeVersion: "amlaks://1", OSImage: "amlaks sandbox",
		},
	}
	return o, nil
}

// machine is what a node of this VM size has; one that is not in the table
// is taken for a small general purpose machine.
func machine(vmSize string) spec.Size {
	if size, ok := spec.VMSize(vmSize); ok {
		return size
	}
	return spec.Size{VCPU: 4, MemoryGiB: 16}
}

func resources(s spec.Size, reservedCPU int, reservedMemory float64) corev1.ResourceList {
	list := corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewMilliQuantity(int64(s.VCPU*1000-reservedCPU), resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(int64((s.MemoryGiB-reservedMemory)*1024*1024)*1024, resource.BinarySI),
		corev1.ResourceEphemeralStorage: resource.MustParse("128Gi"),
		corev1.ResourcePods:             *resource.NewQuantity(maxPods, resource.DecimalSI),
	}
	if s.GPU > 0 {
		list["nvidia.com/gpu"] = *resource.NewQuantity(int64(s.GPU), resource.DecimalSI)
	}
	if s.FPGA > 0 { // as Xilinx' device plugin names them
		list["xilinx.com/fpga-xilinx_u250_gen3x16_xdma_shell_2_1-0"] = *resource.NewQuantity(int64(s.FPGA), resource.DecimalSI)
	}
	return list
}

// reservedCPU is AKS's kube-reserved in thousandths of a core, by cores
// (learn.microsoft.com, "Resource reservations in AKS").
func reservedCPU(cores int) int {
	for _, step := range [][2]int{{1, 60}, {2, 100}, {4, 140}, {8, 180}, {16, 260}, {32, 420}} {
		if cores <= step[0] {
			return step[1]
		}
	}
	return 740
}

// reservedMemory is AKS's in GiB since 1.29: 20 MiB a pod and 50 MiB more, or a quarter
// of the machine if that is less, and 100 MiB below which pods are evicted.
func reservedMemory(gib float64) float64 {
	return math.Min((20*maxPods+50)/1024.0, gib/4) + 100/1024.0
}

// base36 is how scale sets number their machines.
func base36(n int) string {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	out := ""
	for first := true; first || n > 0; first = false {
		out = string(digits[n%36]) + out
		n /= 36
	}
	return out
}
