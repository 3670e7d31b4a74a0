package spec

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestVMSize(t *testing.T) {
	for _, want := range []Size{
		{Name: "Standard_D4ds_v5", Family: "Ddsv5", VCPU: 4, MemoryGiB: 16},
		{Name: "Standard_D3_v2", Family: "Dv2", VCPU: 4, MemoryGiB: 14, Retires: "2028-05-01"},
		{Name: "Standard_NC4as_T4_v3", Family: "NCasT4_v3", VCPU: 4, MemoryGiB: 28, GPU: 1},
		{Name: "Standard_NC6s_v3", Family: "NCv3", VCPU: 6, MemoryGiB: 112, GPU: 1, Retires: "2025-09-30"},
		{Name: "Standard_NP10s", Family: "NP", VCPU: 10, MemoryGiB: 168, FPGA: 1, Retires: "2027-05-31"},
	} {
		for _, name := range []string{want.Name, strings.ToLower(want.Name), strings.ToUpper(want.Name)} {
			got, ok := VMSize(name)
			if diff := cmp.Diff(want, got); !ok || diff != "" {
				t.Errorf("VMSize(%s), %v (-want +got):\n%s", name, ok, diff)
			}
		}
	}
	for _, name := range []string{"", "Standard_D4ds_v", "Standard_Z1"} {
		if got, ok := VMSize(name); ok {
			t.Errorf("VMSize(%q) = %v, want none", name, got)
		}
	}
}

// TestSizes checks the table that VMSize searches: sorted, complete, and with
// successors that are themselves in it and not retired.
func TestSizes(t *testing.T) {
	lower := func(s Size) string { return strings.ToLower(s.Name) }
	if !slices.IsSortedFunc(sizes, func(a, b Size) int { return strings.Compare(lower(a), lower(b)) }) {
		t.Error("sizes is not sorted by name")
	}
	date := regexp.MustCompile(`^(20\d\d-\d\d-\d\d)?$`)
	sizeName := regexp.MustCompile(`Standard_\w+`)
	for i, size := range sizes {
		if i > 0 && lower(sizes[i-1]) == lower(size) {
			t.Errorf("%s is in the table twice", size.Name)
		}
		if size.VCPU < 1 || size.MemoryGiB <= 0 || size.Family == "" || !date.MatchString(size.Retires) {
			t.Errorf("%+v is not complete", size)
		}
		for _, name := range sizeName.FindAllString(size.successor(), -1) {
			if next, ok := VMSize(name); !ok || next.Retires != "" {
				t.Errorf("successor %s of %s is unknown or retired", name, size.Name)
			}
		}
	}
}

func TestNearest(t *testing.T) {
	keys := []string{"agentCount", "attach", "name", "nodePools", "tags", "vmSize"}
	for name, want := range map[string]string{
		"agentcount": "agentCount",
		"nodePool":   "nodePools",
		"vmsize":     "vmSize",
		"nmae":       "name",
		"tag":        "tags",
		"replicas":   "",
		"x":          "",
		"":           "",
	} {
		if got := nearest(name, keys); got != want {
			t.Errorf("nearest(%q) = %q, want %q", name, got, want)
		}
	}
}
