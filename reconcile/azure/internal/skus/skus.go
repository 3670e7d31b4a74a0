// Package skus reads Azure's list of what a subscription may create in a region
// (Microsoft.Compute/skus) one entry at a time: filtered by region the answer is megabytes, and
// some subscriptions get more than a hundred. What is kept of it is some hundred bytes a VM size.
package skus

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxSizes bounds what is kept; the largest region offers about 1,400.
const maxSizes = 20_000

// Size is a VM size in one region.
type Size struct {
	Name string `json:"name"`
	// Family is whose quota it counts against: standardDDSv5Family.
	Family    string  `json:"family"`
	VCPU      int     `json:"vCPU"`
	Cores     int     `json:"cores"` // what it takes of a quota: constrained sizes count whole
	MemoryGiB float64 `json:"memoryGiB"`
	GPU       int     `json:"gpu,omitempty"` // NVIDIA
	Arm       bool    `json:"arm,omitempty"` // runs no images for x64
	// Zones are the availability zones that have it and that the subscription may use.
	Zones []string `json:"zones,omitempty"`
	// Restricted, if not empty, is why the subscription may not create it in the region:
	// NotAvailableForSubscription, QuotaId.
	Restricted string `json:"restricted,omitempty"`
}

// entry is what is read of one.
type entry struct {
	Name, Family, ResourceType string
	LocationInfo               []struct {
		Location string
		Zones    []string
	}
	Capabilities []struct{ Name, Value string }
	Restrictions []struct {
		Type, ReasonCode string
		Values           []string
		RestrictionInfo  struct{ Locations, Zones []string }
	}
}

// Read gives the VM sizes of a region out of a page of the list, in the page's order, and the
// link to the next page, if there is one.
func Read(page io.Reader, location string) (sizes []Size, next string, err error) {
	decoder := json.NewDecoder(page)
	if err := expect(decoder, '{'); err != nil {
		return nil, "", err
	}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, "", err
		}
		switch key {
		case "value":
			if sizes, err = readList(decoder, location); err != nil {
				return nil, "", err
			}
		case "nextLink":
			var link *string
			if err := decoder.Decode(&link); err != nil {
				return nil, "", err
			}
			if link != nil {
				next = *link
			}
		default:
			var ignored json.RawMessage
			if err := decoder.Decode(&ignored); err != nil {
				return nil, "", err
			}
		}
	}
	return sizes, next, expect(decoder, '}')
}

func readList(decoder *json.Decoder, location string) ([]Size, error) {
	if err := expect(decoder, '['); err != nil {
		return nil, err
	}
	var sizes []Size
	for decoder.More() {
		var e entry
		if err := decoder.Decode(&e); err != nil {
			return nil, err
		}
		if !strings.EqualFold(e.ResourceType, "virtualMachines") {
			continue
		}
		if len(sizes) == maxSizes {
			return nil, fmt.Errorf("more than %d VM sizes", maxSizes)
		}
		if size, ok := e.size(location); ok {
			sizes = append(sizes, size)
		}
	}
	return sizes, expect(decoder, ']')
}

func expect(decoder *json.Decoder, want json.Delim) error {
	token, err := decoder.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err == nil && token != want {
		err = fmt.Errorf("not a list of sizes: %v where %v should be", token, want)
	}
	return err
}

// size gives what is said of the region; false when the region does not have it.
func (e *entry) size(location string) (Size, bool) {
	s := Size{Name: e.Name, Family: e.Family}
	offered := false
	for _, info := range e.LocationInfo {
		if strings.EqualFold(info.Location, location) {
			offered = true
			s.Zones = append(s.Zones, info.Zones...)
		}
	}
	if !offered {
		return Size{}, false
	}
	available := 0
	for _, c := range e.Capabilities {
		switch c.Name {
		case "vCPUs":
			s.Cores = number(c.Value)
		case "vCPUsAvailable":
			available = number(c.Value)
		case "MemoryGB": // GiB, as everywhere in Azure's tables
			s.MemoryGiB, _ = strconv.ParseFloat(c.Value, 64)
		case "GPUs":
			s.GPU = number(c.Value)
		case "CpuArchitectureType":
			s.Arm = c.Value == "Arm64"
		}
	}
	if s.VCPU = s.Cores; available > 0 {
		s.VCPU = available
	}
	if !nvidia(s.Name) {
		s.GPU = 0
	}
	for _, r := range e.Restrictions {
		here := append(slices.Clone(r.RestrictionInfo.Locations), r.Values...)
		if len(here) > 0 && !slices.ContainsFunc(here, func(l string) bool { return strings.EqualFold(l, location) }) {
			continue
		}
		if r.Type == "Location" {
			s.Restricted = r.ReasonCode
		} else {
			s.Zones = slices.DeleteFunc(s.Zones, func(zone string) bool { return slices.Contains(r.RestrictionInfo.Zones, zone) })
		}
	}
	slices.Sort(s.Zones)
	return s, true
}

// nvidia tells whether the cards of a size are such: the list calls FPGA (NP) and AMD's cards
// (NG, NVv4) GPUs too.
func nvidia(name string) bool {
	short := strings.TrimPrefix(strings.ToLower(name), "standard_")
	return !strings.HasPrefix(short, "np") && !strings.HasPrefix(short, "ng") && !(strings.HasPrefix(short, "nv") && strings.HasSuffix(short, "as_v4"))
}

// number reads one that may have a fraction: a part of a GPU shows as a whole one in Kubernetes.
func number(text string) int {
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || value < 0 || value > math.MaxInt32 {
		return 0
	}
	return int(math.Ceil(value))
}
