package arm

import (
	"fmt"
	"strings"
)

// family is a quota's worth of VM sizes.
type family struct {
	name    string // as Microsoft.Compute/skus has it
	product string // as the price list has it
	pattern string // of its sizes' names, with the number of vCPU for %d
	cores   []int
	gib     float64 // for each vCPU
	gpus    int     // as the list counts them, FPGA among them; for each vCPU in the smallest
	zones   []string
	more    map[int]float64 // GiB of those that have another share
}

// size is one VM size.
type size struct {
	name   string
	family *family
	vCPU   int
	gib    float64
	gpus   int
}

// families are those that the sandbox's regions have. All regions have the same.
var families = [...]family{
	{name: "standardDDSv5Family", product: "Ddsv5", pattern: "Standard_D%dds_v5", gib: 4},
	{name: "standardDSv5Family", product: "Dsv5", pattern: "Standard_D%ds_v5", gib: 4},
	{name: "standardDDv5Family", product: "Ddv5", pattern: "Standard_D%dd_v5", gib: 4},
	{name: "standardDv5Family", product: "Dv5", pattern: "Standard_D%d_v5", gib: 4},
	{name: "standardDADSv5Family", product: "Dadsv5", pattern: "Standard_D%dads_v5", gib: 4},
	{name: "standardDASv5Family", product: "Dasv5", pattern: "Standard_D%das_v5", gib: 4},
	{name: "StandardDdsv6Family", product: "Ddsv6", pattern: "Standard_D%dds_v6", gib: 4},
	{name: "StandardDsv6Family", product: "Dsv6", pattern: "Standard_D%ds_v6", gib: 4},
	{name: "StandardDadsv6Family", product: "Dadsv6", pattern: "Standard_D%dads_v6", gib: 4},
	{name: "StandardDasv6Family", product: "Dasv6", pattern: "Standard_D%das_v6", gib: 4},
	{name: "standardDSv3Family", product: "DSv3", pattern: "Standard_D%ds_v3", gib: 4, cores: []int{2, 4, 8, 16, 32, 48, 64}},
	{name: "standardDv3Family", product: "Dv3", pattern: "Standard_D%d_v3", gib: 4, cores: []int{2, 4, 8, 16, 32, 48, 64}},
	{name: "standardDSv4Family", product: "Dsv4", pattern: "Standard_D%ds_v4", gib: 4, cores: []int{2, 4, 8, 16, 32, 48, 64}},
	{name: "standardDDSv4Family", product: "Ddsv4", pattern: "Standard_D%dds_v4", gib: 4, cores: []int{2, 4, 8, 16, 32, 48, 64}},
	{name: "standardDASv4Family", product: "Dasv4", pattern: "Standard_D%das_v4", gib: 4},
	{name: "standardEDSv5Family", product: "Edsv5", pattern: "Standard_E%dds_v5", gib: 8, more: map[int]float64{96: 672}},
	{name: "standardESv5Family", product: "Esv5", pattern: "Standard_E%ds_v5", gib: 8, more: map[int]float64{96: 672}},
	{name: "standardEADSv5Family", product: "Eadsv5", pattern: "Standard_E%dads_v5", gib: 8, more: map[int]float64{96: 672}},
	{name: "standardEASv5Family", product: "Easv5", pattern: "Standard_E%das_v5", gib: 8, more: map[int]float64{96: 672}},
	{name: "standardFSv2Family", product: "FSv2", pattern: "Standard_F%ds_v2", gib: 2, cores: []int{2, 4, 8, 16, 32, 48, 64, 72}},
	{name: "Standard NCASv3_T4 Family", product: "NCasT4 v3", pattern: "Standard_NC%das_T4_v3", gib: 7, cores: []int{4, 8, 16, 64}, gpus: 16, more: map[int]float64{16: 110, 64: 440}},
	{name: "StandardNCADSA100v4Family", product: "NCads A100 v4", pattern: "Standard_NC%dads_A100_v4", gib: 220.0 / 24, cores: []int{24, 48, 96}, gpus: 24, zones: []string{"1"}},
	{name: "standardNPSFamily", product: "NPS", pattern: "Standard_NP%ds", gib: 16.8, cores: []int{10, 20, 40}, gpus: 10},
	// Sizes that are named by a number of their own.
	{name: "standardDv2Family", product: "Dv2", pattern: "Standard_D2_v2", gib: 3.5, cores: []int{2}},
	{name: "standardDv2Family", product: "Dv2", pattern: "Standard_D3_v2", gib: 3.5, cores: []int{4}},
	{name: "standardDv2Family", product: "Dv2", pattern: "Standard_D4_v2", gib: 3.5, cores: []int{8}},
	{name: "standardDSv2Family", product: "DSv2", pattern: "Standard_DS2_v2", gib: 3.5, cores: []int{2}},
	{name: "standardDSv2Family", product: "DSv2", pattern: "Standard_DS3_v2", gib: 3.5, cores: []int{4}},
	{name: "standardDSv2Family", product: "DSv2", pattern: "Standard_DS4_v2", gib: 3.5, cores: []int{8}},
	{name: "standardBSFamily", product: "BS", pattern: "Standard_B2s", gib: 2, cores: []int{2}},
	{name: "standardBSFamily", product: "BS", pattern: "Standard_B2ms", gib: 4, cores: []int{2}},
	{name: "standardBSFamily", product: "BS", pattern: "Standard_B4ms", gib: 4, cores: []int{4}},
	// None of ours has heard of it: what is known of such a size comes from the list alone.
	{name: "StandardDdsv9Family", product: "Ddsv9", pattern: "Standard_D%dds_v9", gib: 4},
}

func usualCores() []int { return []int{2, 4, 8, 16, 32, 48, 64, 96} }

// sizes are those of all families, in the table's order.
func sizes() []size {
	var all []size
	for i := range families {
		f := &families[i]
		cores := f.cores
		if cores == nil {
			cores = usualCores()
		}
		for _, n := range cores {
			s := size{name: f.pattern, family: f, vCPU: n, gib: f.gib * float64(n)}
			if gib, other := f.more[n]; other {
				s.gib = gib
			}
			if strings.Contains(f.pattern, "%d") {
				s.name = fmt.Sprintf(f.pattern, n)
			}
			if f.gpus > 0 {
				s.gpus = max(1, n/f.gpus)
			}
			all = append(all, s)
		}
	}
	return all
}

// sizeOf finds a size by its name, in any case.
func sizeOf(name string) (size, bool) {
	for _, s := range sizes() {
		if strings.EqualFold(s.name, name) {
			return s, true
		}
	}
	return size{}, false
}

// zonesOf are the availability zones that have a size.
func (s size) zonesOf() []string {
	if s.family.zones != nil {
		return s.family.zones
	}
	return []string{"1", "2", "3"}
}
