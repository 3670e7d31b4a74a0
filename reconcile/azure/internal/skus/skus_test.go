package skus

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// page is in the shape of Azure's answers.
const page = `{"value": [
  {"resourceType": "disks", "name": "Premium_LRS", "locations": ["westeurope"], "locationInfo": [{"location": "westeurope"}]},
  {"resourceType": "virtualMachines", "name": "Standard_D4ds_v5", "tier": "Standard", "size": "D4ds_v5", "family": "standardDDSv5Family",
   "locations": ["westeurope"], "locationInfo": [{"location": "WestEurope", "zones": ["3", "1", "2"], "zoneDetails": [{"Name": ["1"], "capabilities": []}]}],
   "capabilities": [{"name": "vCPUs", "value": "4"}, {"name": "MemoryGB", "value": "16"}, {"name": "vCPUsAvailable", "value": "4"}, {"name": "PremiumIO", "value": "True"}], "restrictions": []},
  {"resourceType": "virtualMachines", "name": "Standard_E32-8s_v5", "family": "standardESv5Family", "locationInfo": [{"location": "westeurope"}],
   "capabilities": [{"name": "CpuArchitectureType", "value": "Arm64"}, {"name": "vCPUs", "value": "32"}, {"name": "vCPUsAvailable", "value": "8"}, {"name": "MemoryGB", "value": "256"}]},
  {"resourceType": "virtualMachines", "name": "Standard_NV6ads_A10_v5", "family": "StandardNVADSA10v5Family", "locationInfo": [{"location": "westeurope"}],
   "capabilities": [{"name": "vCPUs", "value": "6"}, {"name": "MemoryGB", "value": "55"}, {"name": "GPUs", "value": "0.167"}]},
  {"resourceType": "virtualMachines", "name": "Standard_NP10s", "family": "standardNPSFamily", "locationInfo": [{"location": "westeurope"}],
   "capabilities": [{"name": "vCPUs", "value": "10"}, {"name": "MemoryGB", "value": "168"}, {"name": "GPUs", "value": "1"}]},
  {"resourceType": "virtualMachines", "name": "Standard_NV4as_v4", "family": "standardNVSv4Family", "locationInfo": [{"location": "westeurope"}],
   "capabilities": [{"name": "vCPUs", "value": "4"}, {"name": "MemoryGB", "value": "14"}, {"name": "GPUs", "value": "1"}]},
  {"resourceType": "virtualMachines", "name": "Standard_NC24ads_A100_v4", "family": "StandardNCADSA100v4Family", "locationInfo": [{"location": "westeurope", "zones": ["1"]}],
   "capabilities": [{"name": "vCPUs", "value": "24"}, {"name": "MemoryGB", "value": "220"}, {"name": "GPUs", "value": "1"}],
   "restrictions": [{"type": "Location", "values": ["westeurope"], "restrictionInfo": {"locations": ["westeurope"]}, "reasonCode": "NotAvailableForSubscription"}]},
  {"resourceType": "virtualMachines", "name": "Standard_D2as_v5", "family": "standardDASv5Family", "locationInfo": [{"location": "westeurope", "zones": ["1", "2", "3"]}],
   "capabilities": [{"name": "vCPUs", "value": "2"}, {"name": "MemoryGB", "value": "8"}],
   "restrictions": [{"type": "Zone", "values": ["westeurope"], "restrictionInfo": {"locations": ["westeurope"], "zones": ["1", "3"]}, "reasonCode": "NotAvailableForSubscription"},
                    {"type": "Location", "values": ["westus"], "restrictionInfo": {"locations": ["westus"]}, "reasonCode": "NotAvailableForSubscription"}]},
  {"resourceType": "virtualMachines", "name": "Standard_Elsewhere", "family": "x", "locationInfo": [{"location": "westus"}]}
], "nextLink": "https://example.com/more"}`

func TestRead(t *testing.T) {
	got, next, err := Read(strings.NewReader(page), "westeurope")
	if err != nil {
		t.Fatal(err)
	}
	want := []Size{
		{Name: "Standard_D4ds_v5", Family: "standardDDSv5Family", VCPU: 4, Cores: 4, MemoryGiB: 16, Zones: []string{"1", "2", "3"}},
		{Name: "Standard_E32-8s_v5", Family: "standardESv5Family", VCPU: 8, Cores: 32, MemoryGiB: 256, Arm: true},
		{Name: "Standard_NV6ads_A10_v5", Family: "StandardNVADSA10v5Family", VCPU: 6, Cores: 6, MemoryGiB: 55, GPU: 1},
		{Name: "Standard_NP10s", Family: "standardNPSFamily", VCPU: 10, Cores: 10, MemoryGiB: 168},
		{Name: "Standard_NV4as_v4", Family: "standardNVSv4Family", VCPU: 4, Cores: 4, MemoryGiB: 14},
		{Name: "Standard_NC24ads_A100_v4", Family: "StandardNCADSA100v4Family", VCPU: 24, Cores: 24, MemoryGiB: 220, GPU: 1, Zones: []string{"1"}, Restricted: "NotAvailableForSubscription"},
		{Name: "Standard_D2as_v5", Family: "standardDASv5Family", VCPU: 2, Cores: 2, MemoryGiB: 8, Zones: []string{"2"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if next != "https://example.com/more" {
		t.Errorf("next page %q", next)
	}
}

func TestReadWhatIsNoList(t *testing.T) {
	for _, text := range []string{
		``, `[]`, `"x"`, `{"value": {}}`, `{"value": [`, `{"value": [{"name": "a"`, `{"value": [{}]`, `{"value": [{"name": 1}]}`,
		`{"nextLink": 7, "value": []}`, `<html>`, page[:len(page)/2],
	} {
		if sizes, _, err := Read(strings.NewReader(text), "westeurope"); err == nil {
			t.Errorf("%.40q: %d sizes and no error", text, len(sizes))
		}
	}
	if sizes, next, err := Read(strings.NewReader(`{"nextLink": null, "count": {"a": [1]}, "value": []}`), "westeurope"); err != nil || len(sizes) != 0 || next != "" {
		t.Errorf("an empty list: %v, %q, %v", sizes, next, err)
	}
}

// TestReadLargeAnswers reads an answer as large as that of a whole subscription, and looks at
// how much memory is in use on the way: the answer is never in it.
func TestReadLargeAnswers(t *testing.T) {
	const size, most = 20 << 20, 4 << 20
	stream := &endless{left: size, each: func() { runtime.GC() }}
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	stream.base = before.HeapAlloc
	sizes, _, err := Read(stream, "westeurope")
	if err != nil {
		t.Fatal(err)
	}
	if len(sizes) < 1000 || stream.read < size {
		t.Fatalf("%d sizes in %d bytes", len(sizes), stream.read)
	}
	if stream.peak > most {
		t.Errorf("%d KiB were in use while %d KiB were read", stream.peak>>10, stream.read>>10)
	}
}

// endless makes a list of so many bytes, and measures the heap now and then.
type endless struct {
	left, read int
	n          int
	buffer     strings.Builder
	text       string
	ended      bool
	each       func()
	base, peak uint64
}

func (e *endless) Read(p []byte) (int, error) {
	for e.text == "" {
		e.buffer.Reset()
		switch {
		case e.ended:
			return 0, io.EOF
		case e.n == 0:
			e.buffer.WriteString(`{"value": [{"resourceType": "disks"}`)
		case e.left <= 0:
			e.buffer.WriteString(`]}`)
			e.ended = true
		default:
			kind := "snapshots" // most of what there is are not sizes
			if e.n%8 == 0 {
				kind = "virtualMachines"
			}
			fmt.Fprintf(&e.buffer, `, {"resourceType": %q, "name": "Standard_D%d_v9", "family": "standardDv9Family", "locationInfo": [{"location": "westeurope", "zones": ["1"]}], "capabilities": [`, kind, e.n)
			for i := range 20 {
				fmt.Fprintf(&e.buffer, `{"name": "Capability%d", "value": "%d"}, `, i, i)
			}
			e.buffer.WriteString(`{"name": "vCPUs", "value": "4"}]}`)
		}
		e.n++
		e.text = e.buffer.String()
		e.left -= len(e.text)
		if e.n%2000 == 0 {
			e.each()
			var now runtime.MemStats
			runtime.ReadMemStats(&now)
			if now.HeapAlloc > e.base {
				e.peak = max(e.peak, now.HeapAlloc-e.base)
			}
		}
	}
	n := copy(p, e.text)
	e.text = e.text[n:]
	e.read += n
	return n, nil
}
