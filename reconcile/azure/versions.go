package azure

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/amlaks/amlaks/reconcile"
)

// mostSkew is how many minors the nodes may be behind the control plane (AKS' upgrade rules,
// since Kubernetes 1.28).
const mostSkew = 3

// plainSupport is the support plan that every cluster has which pays for no other.
const plainSupport = "KubernetesOfficial"

// kubeVersion is a version of Kubernetes; patch is -1 in one that names a minor only.
type kubeVersion struct{ minor, patch int }

func parseVersion(text string) (kubeVersion, bool) {
	parts := strings.Split(text, ".")
	if len(parts) < 2 || len(parts) > 3 || parts[0] != "1" {
		return kubeVersion{}, false
	}
	minor, err := strconv.Atoi(parts[1])
	if err != nil {
		return kubeVersion{}, false
	}
	v := kubeVersion{minor, -1}
	if len(parts) == 3 {
		if v.patch, err = strconv.Atoi(parts[2]); err != nil {
			return kubeVersion{}, false
		}
	}
	return v, true
}

func (v kubeVersion) minorText() string { return fmt.Sprintf("1.%d", v.minor) }

// before tells whether going from other to v would be going back.
func (v kubeVersion) before(other kubeVersion) bool {
	return v.minor < other.minor || v.minor == other.minor && v.patch >= 0 && v.patch < other.patch
}

// release is a minor of Kubernetes that AKS has in a region.
type release struct {
	kubeVersion
	preview bool
	plain   bool // without long-term support, which costs extra
	patches []string
}

// releases reads an answer of kubernetesVersions, the oldest first.
func releases(answer body) []release {
	values, _ := answer["values"].([]any)
	var all []release
	for _, value := range values {
		item, _ := value.(body)
		version, ok := parseVersion(text(item, "version"))
		if !ok {
			continue
		}
		o := release{kubeVersion: version}
		o.preview, _ = item["isPreview"].(bool)
		plans, _ := at(item, "capabilities", "supportPlan").([]any)
		o.plain = plans == nil || slices.Contains(plans, any(plainSupport))
		patches, _ := item["patchVersions"].(body)
		for patch := range patches {
			o.patches = append(o.patches, patch)
		}
		slices.SortFunc(o.patches, func(a, b string) int {
			first, _ := parseVersion(a)
			second, _ := parseVersion(b)
			return cmp.Compare(first.patch, second.patch)
		})
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b release) int { return cmp.Compare(a.minor, b.minor) })
	return all
}

func findRelease(all []release, minor int) (release, bool) {
	i := slices.IndexFunc(all, func(o release) bool { return o.minor == minor })
	if i < 0 {
		return release{}, false
	}
	return all[i], true
}

// check tells why a version cannot be had in a region; nil: it can.
func check(all []release, wanted string, location string) *reconcile.Failure {
	v, _ := parseVersion(wanted)
	o, there := findRelease(all, v.minor)
	unsupported := func(format string, args ...any) *reconcile.Failure {
		return &reconcile.Failure{Reason: reconcile.ReasonUnsupported, Err: fmt.Errorf("properties.kubernetesVersion: "+format, args...)}
	}
	switch {
	case !there:
		return unsupported("AKS does not have Kubernetes %s in %s; it has %s", wanted, location, minors(all))
	case !o.plain:
		return unsupported("AKS has Kubernetes %s in %s only with long-term support (tier Premium), which amlaks does not buy; without it has %s", wanted, location, minors(all))
	case v.patch >= 0 && !slices.Contains(o.patches, wanted):
		return unsupported("AKS does not have Kubernetes %s in %s; of %s it has %s", wanted, location, v.minorText(), strings.Join(o.patches, ", "))
	}
	return nil
}

// minors names those that need no long-term support.
func minors(all []release) string {
	var names []string
	for _, o := range all {
		name := o.minorText()
		if o.preview {
			name += " (preview)"
		}
		if o.plain {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// upgrades are the versions by which an upgrade goes, the wanted one last: AKS takes one minor
// at a time. Only from a minor that it supports no longer may those be left out that it does
// not have.
func upgrades(all []release, current, wanted string) ([]string, error) {
	from, known := parseVersion(current)
	to, _ := parseVersion(wanted)
	if !known {
		return []string{wanted}, nil
	}
	if to.before(from) {
		return nil, downgrade(current, wanted)
	}
	here, supported := findRelease(all, from.minor)
	supported = supported && here.plain
	var steps []string
	for minor := from.minor + 1; minor < to.minor; minor++ {
		between := kubeVersion{minor, -1}.minorText()
		switch o, there := findRelease(all, minor); {
		case there && o.plain:
			steps = append(steps, between)
		case supported:
			return nil, &reconcile.Failure{
				Reason: reconcile.ReasonUnsupported,
				Err:    fmt.Errorf("AKS takes one minor at a time, and does not have Kubernetes %s, by which the way from %s to %s goes", between, current, wanted),
			}
		}
	}
	return append(steps, wanted), nil
}

func downgrade(current, wanted string) error {
	return &reconcile.Failure{
		Reason: reconcile.ReasonUnsupported,
		Err:    fmt.Errorf("it runs Kubernetes %s, and AKS cannot go back to %s", current, wanted),
		Hint:   "write the version that runs into kubernetesVersion, or take the key out: then versions are not owned",
	}
}

// way is what a plan says of an upgrade of several steps.
func way(current string, steps []string) string {
	last := len(steps) - 1
	if last < 1 {
		return ""
	}
	return fmt.Sprintf("from %s to %s by way of %s, one minor at a time", current, steps[last], strings.Join(steps[:last], " and "))
}
