package arm

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// What Azure makes of what it is sent, beyond filling in defaults: a client meets it here first.

// Azure's limits of tags.
const (
	maxTags     = 50
	maxTagName  = 512
	maxTagValue = 256
)

// secrets are taken and never shown.
var secrets = [...]string{"properties.servicePrincipalProfile.secret", "properties.windowsProfile.adminPassword"}

// normalTags checks a resource's tags, and gives a name that is there in another case the
// spelling that it has: Azure compares tag names without regard to case.
func normalTags(sent, live body, path string) *apiError {
	tags, _ := at(sent, path).(body)
	if tags == nil {
		return nil
	}
	before, _ := at(live, path).(body)
	known, out := map[string]string{}, body{}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		known[strings.ToLower(name)] = name
	}
	for _, name := range slices.Sorted(maps.Keys(tags)) {
		value, isText := tags[name].(string)
		if tags[name] == nil {
			continue
		}
		if name == "" || utf8.RuneCountInString(name) > maxTagName || strings.ContainsAny(name, `<>%&\?/`) || !isText || utf8.RuneCountInString(value) > maxTagValue {
			return refusal(http.StatusBadRequest, "InvalidTagNames", "The tag '%s' has an invalid name or value.", name)
		}
		spelled := name
		if there, ok := known[strings.ToLower(name)]; ok {
			spelled = there
		}
		if _, twice := out[spelled]; twice {
			return refusal(http.StatusBadRequest, "DuplicateTagNames", "The tag name '%s' is given twice; tag names are not case-sensitive.", name)
		}
		known[strings.ToLower(name)] = spelled
		out[spelled] = value
	}
	if len(out) > maxTags {
		return refusal(http.StatusBadRequest, "InvalidTags", "A resource has at most %d tags.", maxTags)
	}
	put(sent, path, out)
	return nil
}

// normalCluster writes a cluster's address ranges as AKS does, and keeps the secrets that a
// client cannot have read and so does not send.
func normalCluster(sent, live body) {
	ranges, _ := at(sent, "properties.apiServerAccessProfile.authorizedIPRanges").([]any)
	for i, item := range ranges {
		if address, ok := item.(string); ok && !strings.Contains(address, "/") {
			ranges[i] = address + "/32"
		}
	}
	for _, path := range secrets {
		parent := path[:strings.LastIndexByte(path, '.')]
		if secret := at(live, path); secret != nil && at(sent, parent) != nil {
			fill(sent, path, secret)
		}
	}
}

// normalPool adds what AKS adds to a spot pool, and refuses a count that two would set.
func normalPool(pool body) *apiError {
	automatic := at(pool, "enableAutoScaling") == true
	lower, upper := at(pool, "minCount"), at(pool, "maxCount")
	switch {
	case automatic && (lower == nil || upper == nil):
		return refusal(http.StatusBadRequest, "InvalidParameter", "minCount and maxCount are required when enableAutoScaling is true.")
	case !automatic && (lower != nil || upper != nil):
		return refusal(http.StatusBadRequest, "InvalidParameter", "minCount and maxCount must not be set when enableAutoScaling is false.")
	}
	if text(pool, "scaleSetPriority") == "Spot" {
		const key = "kubernetes.azure.com/scalesetpriority"
		taints, _ := at(pool, "nodeTaints").([]any)
		if !slices.Contains(taints, any(key+"=spot:NoSchedule")) {
			pool["nodeTaints"] = append(slices.Clone(taints), key+"=spot:NoSchedule")
		}
		labels, _ := at(pool, "nodeLabels").(body)
		labels = maps.Clone(labels)
		if labels == nil {
			labels = body{}
		}
		labels[key] = "spot"
		pool["nodeLabels"] = labels
		fill(pool, "spotMaxPrice", -1.0)
		fill(pool, "scaleSetEvictionPolicy", "Delete")
	}
	return nil
}

// staleRead is how a resource was before its last write, to be shown some more times.
type staleRead struct {
	armed  int // reads to be stale after the next write
	before body
	left   int
}

// Stale makes the reads of a resource that follow its next write show what was there before:
// Resource Manager answers from replicas that are a moment behind.
func (s *Server) Stale(id string, reads int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale[strings.ToLower(id)] = &staleRead{armed: reads}
}

// beforeWrite keeps a resource as it is shown now, if its next reads are to be stale.
func (s *Server) beforeWrite(id string, view body) {
	if stale := s.stale[id]; stale != nil && stale.armed > 0 && view != nil {
		stale.before, stale.left, stale.armed = clone(view), stale.armed, 0
	}
}

// read is what a GET shows of a resource: view, unless it is to be stale. While an operation
// runs it is not: clients follow that by its own link.
func (s *Server) read(id string, view body) body {
	stale := s.stale[id]
	if stale == nil || stale.left == 0 || text(view, "properties.provisioningState") != succeeded {
		return view
	}
	stale.left--
	return stale.before
}
