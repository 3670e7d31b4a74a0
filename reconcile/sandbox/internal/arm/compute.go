package arm

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// What Microsoft.Compute says of a subscription: which VM sizes it may create in a region, and
// how many vCPU.

// compute is what has been set of it.
type compute struct {
	Limits     map[string]int      `json:"limits,omitempty"`     // of quotas, by name
	Restricted map[string][]string `json:"restricted,omitempty"` // zones, by size in lower case; none: the region
}

// The quotas of a subscription that nobody has set.
const (
	defaultCores       = 4000
	defaultFamilyCores = 2000

	quotaCores = "cores"
	quotaSpot  = "lowPriorityCores"
)

var skuFilter = regexp.MustCompile(`^location eq '([A-Za-z0-9]+)'$`)

// SetQuota sets the limit of a quota: cores, lowPriorityCores, or a family's name.
func (s *Server) SetQuota(name string, limit int) error {
	known := name == quotaCores || name == quotaSpot || slices.ContainsFunc(families[:], func(f family) bool { return f.name == name })
	if !known || limit < 0 {
		return fmt.Errorf("quota %q of %d: want %s, %s or a family such as %s, and 0 or more", name, limit, quotaCores, quotaSpot, families[0].name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Compute.Limits == nil {
		s.state.Compute.Limits = map[string]int{}
	}
	s.state.Compute.Limits[name] = limit
	s.save()
	return nil
}

// RestrictSize takes a VM size from the subscription, in all regions: in these zones, or, if
// none is given, as a whole.
func (s *Server) RestrictSize(name string, zones ...string) error {
	if _, ok := sizeOf(name); !ok {
		return fmt.Errorf("no region has a VM size %q", name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Compute.Restricted == nil {
		s.state.Compute.Restricted = map[string][]string{}
	}
	s.state.Compute.Restricted[strings.ToLower(name)] = zones
	s.save()
	return nil
}

// routeCompute answers /subscriptions/S/providers/Microsoft.Compute/...
func (s *Server) routeCompute(w http.ResponseWriter, r *request) *apiError {
	p := r.parts
	switch {
	case r.Method != http.MethodGet:
		return badMethod(r)
	case len(p) == 5 && p[4] == "skus":
		return s.listSKUs(w, r)
	case len(p) == 7 && p[4] == "locations" && p[6] == "usages":
		return s.listUsages(w, r)
	}
	return noRoute(r.Request)
}

// listSKUs is all on one page, as in Azure.
func (s *Server) listSKUs(w http.ResponseWriter, r *request) *apiError {
	locations := []string{Location, "northeurope"} // without a filter it is every region
	if filter := r.URL.Query().Get("$filter"); filter != "" {
		found := skuFilter.FindStringSubmatch(filter)
		if found == nil {
			return refusal(http.StatusBadRequest, "InvalidParameter", "The filter '%s' is not supported: only 'location eq' is.", filter)
		}
		locations = []string{normalLocation(found[1])}
	}
	s.mu.Lock()
	restricted := maps.Clone(s.state.Compute.Restricted)
	s.mu.Unlock()
	all := []body{}
	for _, location := range locations {
		for _, disk := range []string{"Standard_LRS", "Premium_LRS", "StandardSSD_LRS"} {
			all = append(all, body{
				"resourceType": "disks", "name": disk, "tier": "Standard", "size": "P4", "locations": []any{location},
				"locationInfo": []any{body{"location": location, "zones": []any{"1", "2", "3"}}},
				"capabilities": capabilities("MaxSizeGiB", "32", "MinSizeGiB", "16", "MaxIOps", "120"), "restrictions": []any{},
			})
		}
		for _, size := range sizes() {
			zones, is := restricted[strings.ToLower(size.name)]
			all = append(all, size.sku(location, is, zones))
		}
	}
	reply(w, http.StatusOK, body{"value": all})
	return nil
}

// sku is a size in the list's form, with some of what else stands there.
func (s size) sku(location string, restricted bool, zones []string) body {
	text := strconv.Itoa(s.vCPU)
	can := capabilities(
		"MaxResourceVolumeMB", "153600", "OSVhdSizeMB", "1047552", "vCPUs", text, "MemoryPreservingMaintenanceSupported", "True",
		"HyperVGenerations", "V1,V2", "DiskControllerTypes", "SCSI", "MemoryGB", strconv.FormatFloat(s.gib, 'f', -1, 64),
		"MaxDataDiskCount", "8", "CpuArchitectureType", "x64", "LowPriorityCapable", "True", "HibernationSupported", "True", "PremiumIO", "True",
		"VMDeploymentTypes", "IaaS", "vCPUsAvailable", text, "vCPUsPerCore", "2", "EphemeralOSDiskSupported", "True",
		"EncryptionAtHostSupported", "True", "CapacityReservationSupported", "True", "AcceleratedNetworkingEnabled", "True",
		"RdmaEnabled", "False", "MaxNetworkInterfaces", "2",
	)
	if s.gpus > 0 {
		can = append(can, body{"name": "GPUs", "value": strconv.Itoa(s.gpus)})
	}
	entry := body{
		"resourceType": "virtualMachines", "name": s.name, "tier": "Standard", "size": strings.TrimPrefix(s.name, "Standard_"), "family": s.family.name,
		"locations": []any{location}, "capabilities": can, "restrictions": []any{},
		"locationInfo": []any{body{"location": location, "zones": s.zonesOf(), "zoneDetails": []any{}}},
	}
	if !restricted {
		return entry
	}
	about := body{"locations": []any{location}}
	restriction := body{"type": "Location", "values": []any{location}, "restrictionInfo": about, "reasonCode": "NotAvailableForSubscription"}
	if len(zones) > 0 {
		restriction["type"], about["zones"] = "Zone", zones
	}
	entry["restrictions"] = []any{restriction}
	return entry
}

func capabilities(pairs ...string) []any {
	list := []any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		list = append(list, body{"name": pairs[i], "value": pairs[i+1]})
	}
	return list
}

func (s *Server) listUsages(w http.ResponseWriter, r *request) *apiError {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := s.usedCores(r.parts[1], normalLocation(r.names[5]), "")
	all := []body{usage("availabilitySets", "Availability Sets", 0, 2500), usage(quotaCores, "Total Regional vCPUs", used[quotaCores], s.limit(quotaCores)),
		usage("virtualMachines", "Virtual Machines", 0, 25000), usage("virtualMachineScaleSets", "Virtual Machine Scale Sets", 0, 2500),
		usage(quotaSpot, "Total Regional Low-priority vCPUs", used[quotaSpot], s.limit(quotaSpot))}
	for i, f := range families {
		if i > 0 && families[i-1].name == f.name {
			continue
		}
		words := strings.TrimSuffix(strings.TrimSuffix(strings.ReplaceAll(f.name, "standard", "Standard "), "Family"), " ")
		all = append(all, usage(f.name, words+" Family vCPUs", used[f.name], s.limit(f.name)))
	}
	return s.page(w, r, all)
}

func usage(name, words string, current, limit int) body {
	return body{"unit": "Count", "currentValue": current, "limit": limit, "name": body{"value": name, "localizedValue": words}}
}

func (s *Server) limit(name string) int {
	if limit, set := s.state.Compute.Limits[name]; set {
		return limit
	}
	if name == quotaCores || name == quotaSpot {
		return defaultCores
	}
	return defaultFamilyCores
}

// usedCores counts the vCPU of the clusters' pools in a region, but for one pool, by quota.
func (s *Server) usedCores(subscription, location, without string) map[string]int {
	used := map[string]int{}
	for id, resource := range s.state.Resources {
		cluster, _, isPool := strings.Cut(id, "/agentpools/")
		if !isPool || id == without || !strings.HasPrefix(id, "/subscriptions/"+strings.ToLower(subscription)+"/") || text(s.state.Resources[cluster], "location") != location {
			continue
		}
		properties, _ := resource["properties"].(body)
		for quota, n := range needed(properties) {
			used[quota] += n
		}
	}
	return used
}

// needed is what a pool takes of which quotas.
func needed(pool body) map[string]int {
	size, ok := sizeOf(text(pool, "vmSize"))
	if !ok {
		return nil
	}
	count := 1.0
	if given, ok := at(pool, "count").(float64); ok {
		count = given
	}
	n := size.vCPU * int(count)
	if text(pool, "scaleSetPriority") == "Spot" {
		return map[string]int{quotaSpot: n}
	}
	return map[string]int{quotaCores: n, size.family.name: n}
}

// refuseCompute refuses pools that the subscription may not have, as AKS does: their size, or
// so many vCPU. They are given by their key in the state.
func (s *Server) refuseCompute(location string, pools map[string]body) *apiError {
	asked := map[string]int{}
	var subscription string
	for key, pool := range pools {
		subscription = strings.Split(key, "/")[2]
		size := strings.ToLower(text(pool, "vmSize"))
		before, _ := s.state.Resources[key]["properties"].(body)
		if zones, restricted := s.state.Compute.Restricted[size]; restricted && len(zones) == 0 && before == nil {
			return refusal(http.StatusBadRequest, "BadRequest", "The VM size of %s is not allowed in your subscription in location '%s'. For more details, please visit https://aka.ms/cpu-quota", text(pool, "vmSize"), location)
		}
		for quota, n := range needed(pool) {
			asked[quota] += max(0, n-needed(before)[quota])
		}
	}
	used := s.usedCores(subscription, location, "")
	for _, quota := range slices.Sorted(maps.Keys(asked)) {
		if left := s.limit(quota) - used[quota]; asked[quota] > left {
			return refusal(http.StatusBadRequest, "ErrCode_InsufficientVCPUQuota", "Insufficient vcpu quota requested %d, remaining %d for family %s for region %s.", asked[quota], max(0, left), quota, location)
		}
	}
	return nil
}
