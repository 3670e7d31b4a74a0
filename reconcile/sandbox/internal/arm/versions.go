package arm

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// version is a minor of Kubernetes that the emulator has, as AKS had them in November 2026.
type version struct {
	minor            int
	longTerm         bool // only with long-term support
	preview, initial bool
}

func versions() []version {
	return []version{{minor: 33, longTerm: true}, {minor: 34}, {minor: 35}, {minor: 36, initial: true}, {minor: 37}, {minor: 38, preview: true}}
}

// lastPatch is that of every minor; the one before it can be had too.
const lastPatch = 2

// mostSkew is how many minors a pool may be behind the control plane.
const mostSkew = 3

func (v version) name() string { return "1." + strconv.Itoa(v.minor) }

func (v version) patches() []string {
	return []string{fmt.Sprintf("%s.%d", v.name(), lastPatch-1), fmt.Sprintf("%s.%d", v.name(), lastPatch)}
}

func offered(minor int) (version, bool) {
	all := versions()
	i := slices.IndexFunc(all, func(v version) bool { return v.minor == minor })
	if i < 0 {
		return version{}, false
	}
	return all[i], true
}

// listVersions is ListKubernetesVersions.
func (s *Server) listVersions(w http.ResponseWriter, r *request) *apiError {
	if r.Method != http.MethodGet {
		return badMethod(r)
	}
	values := []any{}
	for _, v := range versions() {
		plans := []any{"KubernetesOfficial", "AKSLongTermSupport"}
		if v.longTerm {
			plans = plans[1:]
		}
		patches := body{}
		for _, patch := range v.patches() {
			patches[patch] = body{"upgrades": available(patch)}
		}
		item := body{"version": v.name(), "capabilities": body{"supportPlan": plans}, "patchVersions": patches}
		if v.preview {
			item["isPreview"] = true
		}
		if v.initial {
			item["isDefault"] = true
		}
		values = append(values, item)
	}
	reply(w, http.StatusOK, body{"values": values})
	return nil
}

// resolve is the whole version that a minor stands for: its newest.
func resolve(wanted string) string {
	if strings.Count(wanted, ".") == 1 {
		return fmt.Sprintf("%s.%d", wanted, lastPatch)
	}
	return wanted
}

// numbers are the minor and the patch of a whole version.
func numbers(whole string) (minor, patch int) {
	parts := strings.Split(whole, ".")
	if len(parts) != 3 {
		return 0, 0
	}
	minor, _ = strconv.Atoi(parts[1])
	patch, _ = strconv.Atoi(parts[2])
	return minor, patch
}

// available are the versions that one can be upgraded to: newer patches, and the next minor.
// From a minor that is not there any more, it is the oldest that is.
func available(whole string) []string {
	minor, patch := numbers(whole)
	here, supported := offered(minor)
	next := minor + 1
	if !supported {
		for _, v := range versions() {
			if v.minor > minor && !v.longTerm {
				next = v.minor
				break
			}
		}
	}
	all := []string{}
	if supported {
		for _, p := range here.patches() {
			if _, n := numbers(p); n > patch {
				all = append(all, p)
			}
		}
	}
	if v, there := offered(next); there {
		all = append(all, v.patches()...)
	}
	return all
}

// checkVersion refuses a version that the region does not have.
func checkVersion(code, what, wanted string) *apiError {
	whole := resolve(wanted)
	minor, _ := numbers(whole)
	v, there := offered(minor)
	switch {
	case !there || !slices.Contains(v.patches(), whole):
		return refusal(http.StatusBadRequest, code, "%s is on version %s which is not supported in this region. Please use [az aks get-versions] command to get the supported version list in this region. For more information, please check https://aka.ms/supported-version-list", what, wanted)
	case v.longTerm:
		return refusal(http.StatusBadRequest, code, "%s is on version %s, which is only available for Long-Term Support (LTS). If you intend to onboard to LTS, please ensure the cluster is in Premium tier and LTS support plan.", what, wanted)
	}
	return nil
}

// checkClusterVersion refuses what AKS does not take of a control plane's version.
func (s *Server) checkClusterVersion(name, id string, sent, live body) *apiError {
	wanted := text(sent, "properties.kubernetesVersion")
	before := text(live, "properties.currentKubernetesVersion")
	whole := resolve(wanted)
	if wanted == "" || whole == before || wanted == text(live, "properties.kubernetesVersion") {
		return nil
	}
	if refused := checkVersion("K8sVersionNotSupported", "Managed cluster "+name, wanted); refused != nil {
		return refused
	}
	if live == nil {
		return nil
	}
	if upgrades := available(before); !slices.Contains(upgrades, whole) {
		return refusal(http.StatusBadRequest, "OperationNotAllowed", "Upgrading Kubernetes version %s to %s is not allowed. Available upgrades: [%s]. Please see https://aka.ms/aks-supported-k8s-ver for version details.",
			before, whole, strings.Join(upgrades, " "))
	}
	minor, _ := numbers(whole)
	for _, key := range s.children(id + "/agentpools/") {
		of := text(s.state.Resources[key], "properties.currentOrchestratorVersion")
		if pool, _ := numbers(of); minor-pool > mostSkew {
			return refusal(http.StatusBadRequest, "NodePoolMcVersionIncompatible",
				"Node pool version %s and control plane version %s are incompatible. Minor version of node pool cannot be more than %d versions less than control plane's version. Minor version of node pool is %d and control plane is %d. For more information, please check https://aka.ms/aks/UpgradeVersionRules.",
				of, whole, mostSkew, pool, minor)
		}
	}
	return nil
}

// checkPoolVersion refuses what AKS does not take of a pool's version; control is that of the
// control plane.
func checkPoolVersion(name, control string, sent, live body) *apiError {
	wanted := text(sent, "orchestratorVersion")
	before := text(live, "currentOrchestratorVersion")
	whole := resolve(wanted)
	if wanted == "" || whole == before || wanted == text(live, "orchestratorVersion") {
		return nil
	}
	minor, patch := numbers(whole)
	of, ofPatch := numbers(control)
	upgrades := available(before)
	switch refused := checkVersion("AgentPoolK8sVersionNotSupported", "Agent pool "+name, wanted); {
	case refused != nil:
		return refused
	case minor > of || minor == of && patch > ofPatch:
		return refusal(http.StatusBadRequest, "NodePoolMcVersionIncompatible",
			"Node pool version %s and control plane version %s are incompatible. Minor version of node pool version %d is bigger than control plane version %d. For more information, please check https://aka.ms/aks/UpgradeVersionRules.", whole, control, minor, of)
	case before != "" && !slices.Contains(upgrades, whole):
		return refusal(http.StatusBadRequest, "AgentPoolUpgradeVersionNotAllowed", "Upgrading agentpool %s with orchestrator version %s to %s is not allowed. Available upgrades: %s. For more information about version upgrade rules, see: https://aka.ms/aks/UpgradeVersionRules.",
			name, before, whole, strings.Join(upgrades, ", "))
	}
	return nil
}

// checkNewPoolVersions checks those of the pools that come with a new cluster.
func checkNewPoolVersions(control string, pools map[string]body) *apiError {
	if control == "" {
		control = defaultVersion
	}
	for _, name := range slices.Sorted(maps.Keys(pools)) {
		if refused := checkPoolVersion(name, resolve(control), pools[name], nil); refused != nil {
			return refused
		}
	}
	return nil
}
