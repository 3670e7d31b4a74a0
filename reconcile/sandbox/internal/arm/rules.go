package arm

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
)

// defaultVersion is the Kubernetes that a cluster gets which asks for none. The control
// plane behind it may be newer; what ARM says is what was asked for, as on AKS.
const defaultVersion = "1.36"

// clusterImmutable and poolImmutable cannot change after creation (the table of azurerm's
// ForceNew, reference azure-sdk.md 2).
var (
	clusterImmutable = [...]string{
		"location", "properties.dnsPrefix", "properties.fqdnSubdomain", "properties.nodeResourceGroup", "properties.enableRBAC",
		"properties.networkProfile.serviceCidr", "properties.networkProfile.dnsServiceIP",
		"properties.networkProfile.loadBalancerSku", "properties.networkProfile.podCidr",
		"properties.apiServerAccessProfile.enablePrivateCluster",
	}
	poolImmutable = [...]string{
		"vmSize", "vnetSubnetID", "podSubnetID", "osType", "osDiskSizeGB", "osDiskType", "maxPods", "availabilityZones",
		"scaleSetPriority", "gpuInstanceProfile", "enableFIPS", "type",
	}
)

// networkDefaults are those of a cluster that says nothing about its network.
var networkDefaults = [...][2]string{
	{"networkPlugin", "azure"}, {"networkDataplane", "azure"}, {"loadBalancerSku", "standard"},
	{"outboundType", "loadBalancer"}, {"serviceCidr", "10.0.0.0/16"}, {"dnsServiceIP", "10.0.0.10"},
}

// ignoreCase are those of them that ARM compares without regard to case.
var ignoreCase = map[string]bool{"location": true, "vmSize": true, "vnetSubnetID": true, "podSubnetID": true}

func readBody(r *request) (body, *apiError) {
	content, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	var sent body
	if err != nil || json.Unmarshal(content, &sent) != nil || sent == nil {
		return nil, refusal(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized.")
	}
	return sent, nil
}

// known refuses a body with a property that the SDK's type does not have, unless the live
// resource has it: that came from a newer version of the API.
func known(sent body, typed any, live body) *apiError {
	content, err := json.Marshal(sent)
	if err == nil {
		err = json.Unmarshal(content, typed)
	}
	if err != nil {
		return refusal(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized: '%v'.", err)
	}
	understood, err := json.Marshal(typed)
	var kept body
	if err != nil || json.Unmarshal(understood, &kept) != nil {
		return refusal(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be read.")
	}
	if path := unknown(sent, kept, live, ""); path != "" {
		return refusal(http.StatusBadRequest, "UnmarshalError", "UnmarshalEntity encountered error: unknown field \"%s\".", path)
	}
	return nil
}

// unknown is the path of the first property of sent that is in neither of the others.
func unknown(sent, kept, live any, path string) string {
	switch sent := sent.(type) {
	case body:
		kept, _ := kept.(body)
		live, _ := live.(body)
		for key, value := range sent {
			here := strings.TrimPrefix(path+"."+key, ".")
			if value == nil {
				continue // dropped by the SDK's types as by ARM
			}
			if kept[key] == nil && live[key] == nil {
				return here
			}
			if kept[key] == nil {
				continue // all of it is newer than the SDK
			}
			if inner := unknown(value, kept[key], live[key], here); inner != "" {
				return inner
			}
		}
	case []any:
		kept, _ := kept.([]any)
		live, _ := live.([]any)
		for i, value := range sent {
			if i >= len(kept) {
				break
			}
			var under any
			if i < len(live) {
				under = live[i]
			}
			if inner := unknown(value, kept[i], under, fmt.Sprintf("%s[%d]", path, i)); inner != "" {
				return inner
			}
		}
	}
	return ""
}

// preconditions checks If-Match and If-None-Match, with or without quotes.
func preconditions(r *request, etag string, exists bool) *apiError {
	match, none := unquote(r.Header.Get("If-Match")), unquote(r.Header.Get("If-None-Match"))
	switch {
	case match == "*" && !exists, match != "" && match != "*" && (!exists || match != etag):
		return refusal(http.StatusPreconditionFailed, "PreconditionFailed", "The entity tag '%s' given in If-Match is not that of the resource ('%s').", match, etag)
	case none == "*" && exists, none != "" && none != "*" && exists && none == etag:
		return refusal(http.StatusPreconditionFailed, "PreconditionFailed", "The resource exists, and If-None-Match forbids to change it.")
	}
	return nil
}

func unquote(etag string) string {
	return strings.Trim(strings.TrimPrefix(strings.TrimSpace(etag), "W/"), `"`)
}

// touch gives a resource a new entity tag.
func (s *Server) touch(resource body) {
	if strings.HasSuffix(strings.ToLower(text(resource, "type")), "/agentpools") {
		put(resource, "properties.eTag", s.uuid("etag"))
		return
	}
	resource["eTag"] = s.uuid("etag")
}

// keepImmutable refuses changed values and carries absent ones over.
func keepImmutable(sent, live body, paths []string) *apiError {
	for _, path := range paths {
		before, now := at(live, path), at(sent, path)
		switch {
		case before == nil && now == nil:
		case now == nil:
			put(sent, path, before)
		case before == nil && now == false: // false and absent are the same
		case !same(path, before, now):
			return refusal(http.StatusBadRequest, "PropertyChangeNotAllowed", "Changing property '%s' is not allowed: '%v' to '%v'.", path, before, now)
		}
	}
	return nil
}

func same(path string, before, now any) bool {
	a, ok := before.(string)
	b, also := now.(string)
	if ok && also && ignoreCase[path] {
		return strings.EqualFold(a, b)
	}
	return reflect.DeepEqual(before, now)
}

func normalLocation(location string) string {
	return strings.ToLower(strings.ReplaceAll(location, " ", ""))
}

func checkNewCluster(sent body, pools map[string]body) *apiError {
	system := false
	for _, pool := range pools {
		system = system || text(pool, "mode") == "System"
	}
	switch {
	case text(sent, "location") == "":
		return refusal(http.StatusBadRequest, "LocationRequired", "The location property is required for this definition.")
	case text(sent, "properties.dnsPrefix") == "" && text(sent, "properties.fqdnSubdomain") == "":
		return refusal(http.StatusBadRequest, "InvalidParameter", "Required parameter dnsPrefix is missing (null).")
	case len(pools) == 0:
		return refusal(http.StatusBadRequest, "AgentPoolProfilesCountInvalid", "A managed cluster must have at least one agent pool.")
	case !system:
		return refusal(http.StatusBadRequest, "InvalidParameter", "Must define at least one system agent pool (mode: System).")
	case sent["identity"] == nil && at(sent, "properties.servicePrincipalProfile") == nil:
		return refusal(http.StatusBadRequest, "InvalidParameter", "Either identity or servicePrincipalProfile is required.")
	}
	return nil
}

// defaultCluster fills in what AKS fills in: a client must not take it for drift.
func defaultCluster(cluster body, group string) {
	name := text(cluster, "name")
	fill(cluster, "sku", body{"name": "Base", "tier": "Free"})
	fill(cluster, "properties.kubernetesVersion", defaultVersion)
	put(cluster, "properties.currentKubernetesVersion", resolve(text(cluster, "properties.kubernetesVersion")))
	prefix := text(cluster, "properties.dnsPrefix") + text(cluster, "properties.fqdnSubdomain")
	put(cluster, "properties.fqdn", prefix+"-sandbox.hcp."+text(cluster, "location")+".azmk8s.io")
	put(cluster, "properties.powerState", body{"code": "Running"})
	put(cluster, "properties.maxAgentPools", 100.0)
	fill(cluster, "properties.nodeResourceGroup", "MC_"+group+"_"+name+"_"+text(cluster, "location"))
	fill(cluster, "properties.enableRBAC", true)
	fill(cluster, "properties.supportPlan", "KubernetesOfficial")
	fill(cluster, "properties.disableLocalAccounts", false)
	if at(cluster, "properties.networkProfile.networkPlugin") == nil {
		fill(cluster, "properties.networkProfile.networkPluginMode", "overlay")
	}
	for _, value := range networkDefaults {
		fill(cluster, "properties.networkProfile."+value[0], value[1])
	}
	if text(cluster, "properties.networkProfile.networkPluginMode") == "overlay" {
		fill(cluster, "properties.networkProfile.podCidr", "10.244.0.0/16")
	}
	defaultKubelet(cluster)
	defaultIdentity(cluster)
}

func defaultPool(pool body, version string) {
	for name, value := range map[string]any{
		"count": 1.0, "mode": "User", "osType": "Linux", "osSKU": "Ubuntu", "osDiskSizeGB": 128.0, "osDiskType": "Managed",
		"kubeletDiskType": "OS", "maxPods": 250.0, "type": "VirtualMachineScaleSets", "enableAutoScaling": false, "enableFIPS": false,
		"orchestratorVersion": version,
	} {
		fill(pool, name, value)
	}
	pool["powerState"] = body{"code": "Running"}
	pool["currentOrchestratorVersion"] = resolve(text(pool, "orchestratorVersion"))
	pool["nodeImageVersion"] = "AKSUbuntu-2404gen2containerd-202611.05.0"
}
