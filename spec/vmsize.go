package spec

import (
	"slices"
	"strings"
)

// Size is an Azure VM size.
type Size struct {
	Name      string
	Family    string // DDSv5, NCv3
	VCPU      int
	MemoryGiB float64
	GPU       int // NVIDIA GPUs
	FPGA      int
	// Retires is the day Azure retires the family, 2006-01-02; empty when none is announced.
	Retires string
}

// VMSize looks a size up by name, in any case. It is a snapshot of the sizes
// that AKS node pools commonly have, for checks without the network; false says
// only that the size is not in it.
func VMSize(name string) (Size, bool) {
	i, ok := slices.BinarySearchFunc(sizes, name, func(s Size, name string) int {
		return strings.Compare(strings.ToLower(s.Name), strings.ToLower(name))
	})
	if !ok {
		return Size{}, false
	}
	return sizes[i], true
}

// nearestSize returns the size whose name is most like name, of those that stay; or "".
func nearestSize(name string) string {
	const prefix = "Standard_" // of all of them, so it says nothing about likeness
	var candidates []string
	for _, s := range sizes {
		if s.Retires == "" {
			candidates = append(candidates, strings.TrimPrefix(s.Name, prefix))
		}
	}
	if near := nearest(strings.TrimPrefix(name, prefix), candidates); near != "" {
		return prefix + near
	}
	return ""
}

// successor names a size to take instead of a retired one.
func (s Size) successor() string {
	switch {
	case s.FPGA > 0:
		return "a GPU size, such as Standard_NC4as_T4_v3"
	case s.GPU >= 4:
		return "Standard_NC64as_T4_v3 or Standard_NC96ads_A100_v4"
	case s.GPU > 0:
		return "Standard_NC4as_T4_v3 or Standard_NC24ads_A100_v4"
	case s.VCPU <= 2:
		return "Standard_D2ds_v5"
	case s.VCPU <= 4:
		return "Standard_D4ds_v5"
	case s.VCPU <= 8:
		return "Standard_D8ds_v5"
	default:
		return "Standard_D16ds_v5"
	}
}
