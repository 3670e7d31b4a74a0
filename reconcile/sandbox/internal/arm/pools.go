package arm

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"
)

// poolName is AKS's rule for Linux pools.
var poolName = regexp.MustCompile(`^[a-z][a-z0-9]{0,11}$`)

func (s *Server) storePool(key, id string, properties body) {
	name := id[strings.LastIndexByte(id, '/')+1:]
	resource := body{"id": id, "name": name, "type": "Microsoft.ContainerService/managedClusters/agentPools", "properties": properties}
	state := "Creating"
	if s.state.Resources[key] != nil {
		state = "Updating"
	}
	cluster := s.state.Resources[key[:strings.Index(key, "/agentpools/")]]
	defaultPool(properties, text(cluster, "properties.currentKubernetesVersion"))
	properties["provisioningState"] = state
	s.touch(resource)
	s.state.Resources[key] = resource
}

// nodePools is what Kubernetes must have nodes for.
func (s *Server) nodePools(cluster string) []Pool {
	pools := []Pool{}
	for _, key := range s.children(cluster + "/agentpools/") {
		resource := s.state.Resources[key]
		if text(resource, "properties.provisioningState") == deleting {
			continue
		}
		pool := Pool{Name: text(resource, "name"), VMSize: text(resource, "properties.vmSize"), Labels: map[string]string{}}
		if count, ok := at(resource, "properties.count").(float64); ok {
			pool.Count = int(count)
		}
		labels, _ := at(resource, "properties.nodeLabels").(body)
		for name, value := range labels {
			pool.Labels[name], _ = value.(string)
		}
		taints, _ := at(resource, "properties.nodeTaints").([]any)
		for _, taint := range taints {
			if taint, ok := taint.(string); ok {
				pool.Taints = append(pool.Taints, taint)
			}
		}
		pools = append(pools, pool)
	}
	return pools
}

func (r *request) pool() string { return "/" + strings.Join(r.parts, "/") }

func (s *Server) listPools(w http.ResponseWriter, r *request) *apiError {
	if r.Method != http.MethodGet {
		return badMethod(r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Resources[r.cluster()] == nil {
		return notFound("Microsoft.ContainerService/managedClusters/" + r.names[7])
	}
	all := []body{}
	for _, key := range s.children(r.cluster() + "/agentpools/") {
		all = append(all, clone(s.state.Resources[key]))
	}
	return s.page(w, r, all)
}

func (s *Server) getPool(w http.ResponseWriter, r *request) *apiError {
	s.mu.Lock()
	defer s.mu.Unlock()
	live := s.state.Resources[r.pool()]
	if live == nil {
		return notFound("Microsoft.ContainerService/managedClusters/" + r.names[7] + "/agentPools/" + r.names[9])
	}
	reply(w, http.StatusOK, s.read(r.pool(), live))
	return nil
}

func (s *Server) putPool(w http.ResponseWriter, r *request) *apiError {
	sent, refused := readBody(r)
	if refused != nil {
		return refused
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Resources[r.cluster()] == nil {
		return refusal(http.StatusNotFound, "ParentResourceNotFound", "Failed to perform 'write' on resource(s) of type 'managedClusters/agentPools', because the parent resource '%s' could not be found.", r.names[7])
	}
	key := r.pool()
	live := s.state.Resources[key]
	if refused := preconditions(r, text(live, "properties.eTag"), live != nil); refused != nil {
		return refused
	}
	like := live
	if like == nil {
		like = s.poolsTogether(r.cluster())
	}
	if refused := known(sent, &armcontainerservice.AgentPool{}, like); refused != nil {
		return refused
	}
	if refused := s.refuseBusy(r.cluster()); refused != nil {
		return refused
	}
	properties, _ := sent["properties"].(body)
	if properties == nil {
		properties = body{}
	}
	status := http.StatusCreated
	if live != nil {
		status = http.StatusOK
		before, _ := live["properties"].(body)
		if refused := keepImmutable(properties, before, poolImmutable[:]); refused != nil {
			return refused
		}
	}
	if refused := checkPool(r.names[9], properties); refused != nil {
		return refused
	}
	if refused := s.refuseCompute(text(s.state.Resources[r.cluster()], "location"), map[string]body{key: properties}); refused != nil {
		return refused
	}
	before, _ := at(live, "properties").(body)
	if refused := checkPoolVersion(r.names[9], text(s.state.Resources[r.cluster()], "properties.currentKubernetesVersion"), properties, before); refused != nil {
		return refused
	}
	if version := text(before, "orchestratorVersion"); version != "" {
		fill(properties, "orchestratorVersion", version)
	}
	stripPool(properties)
	if refused := normalTags(sent, live, "properties.tags"); refused != nil {
		return refused
	}
	s.beforeWrite(key, live)
	s.storePool(key, "/"+strings.Join(r.names, "/"), properties)
	s.begin(w, r, &operation{Cluster: r.cluster(), Touched: []string{key}})
	reply(w, status, s.state.Resources[key])
	return nil
}

// poolsTogether is a body with every property that a pool of the cluster has: what one got from
// a newer version of the API, the next may have too.
func (s *Server) poolsTogether(cluster string) body {
	all := body{}
	for _, key := range s.children(cluster + "/agentpools/") {
		overlay(all, clone(s.state.Resources[key]))
	}
	return all
}

func (s *Server) deletePool(w http.ResponseWriter, r *request) *apiError {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := r.pool()
	live := s.state.Resources[key]
	if live == nil {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if refused := preconditions(r, text(live, "properties.eTag"), true); refused != nil {
		return refused
	}
	if refused := s.refuseBusy(r.cluster()); refused != nil {
		return refused
	}
	system := 0
	for _, other := range s.children(r.cluster() + "/agentpools/") {
		if other != key && text(s.state.Resources[other], "properties.mode") == "System" {
			system++
		}
	}
	if system == 0 {
		return refusal(http.StatusBadRequest, "OperationNotAllowed", "There has to be at least one system node pool: '%s' is the last.", r.names[9])
	}
	put(live, "properties.provisioningState", deleting)
	s.begin(w, r, &operation{Cluster: r.cluster(), Touched: []string{key}})
	reply(w, http.StatusAccepted, nil)
	return nil
}

// profiles takes the pools out of a cluster's body, by name.
func profiles(sent body) (map[string]body, *apiError) {
	list, _ := at(sent, "properties.agentPoolProfiles").([]any)
	pools := map[string]body{}
	for _, item := range list {
		pool, _ := item.(body)
		name := text(pool, "name")
		if refused := checkPool(name, pool); refused != nil {
			return nil, refused
		}
		if pools[name] != nil {
			return nil, refusal(http.StatusBadRequest, "InvalidParameter", "The agent pool name '%s' is given twice.", name)
		}
		delete(pool, "name")
		stripPool(pool)
		pools[name] = pool
	}
	return pools, nil
}

func stripPool(pool body) {
	remove(pool, "provisioningState", "powerState", "nodeImageVersion", "currentOrchestratorVersion", "eTag")
}

// checkProfiles compares the pools in a PUT over an existing cluster with those it has. AKS
// takes none: "A new agent pool was introduced"; a missing one it sometimes ignores, which
// would hide a client's mistake, so it is refused here.
func (s *Server) checkProfiles(cluster string, pools map[string]body) *apiError {
	if len(pools) == 0 {
		return nil
	}
	for name, pool := range pools {
		live := s.state.Resources[cluster+"/agentpools/"+name]
		if live == nil {
			return refusal(http.StatusBadRequest, "InvalidParameter", "A new agent pool was introduced. Adding agent pools to an existing cluster is not allowed through managed cluster operations. For agent pool specific change, please use per agent pool operations.")
		}
		before, _ := live["properties"].(body)
		if refused := keepImmutable(pool, before, poolImmutable[:]); refused != nil {
			return refused
		}
	}
	for _, key := range s.children(cluster + "/agentpools/") {
		if name := key[strings.LastIndexByte(key, '/')+1:]; pools[name] == nil {
			return refusal(http.StatusBadRequest, "InvalidParameter", "The agent pool '%s' is missing. Removing agent pools is not allowed through managed cluster operations. For agent pool specific change, please use per agent pool operations.", name)
		}
	}
	return nil
}

func checkPool(name string, pool body) *apiError {
	count, given := at(pool, "count").(float64)
	if refused := normalPool(pool); refused != nil {
		return refused
	}
	switch {
	case !poolName.MatchString(name):
		return refusal(http.StatusBadRequest, "InvalidParameter", "The agent pool name '%s' is invalid: it must start with a lowercase letter and have 1 to 12 lowercase letters and digits.", name)
	case text(pool, "vmSize") == "":
		return refusal(http.StatusBadRequest, "InvalidParameter", "Required parameter agentPoolProfile.vmSize is missing (null).")
	case given && (count < 0 || count > 1000):
		return refusal(http.StatusBadRequest, "InvalidParameter", "The value of parameter agentPoolProfile.count is invalid: want 0 to 1000.")
	case given && count == 0 && text(pool, "mode") == "System":
		return refusal(http.StatusBadRequest, "InvalidParameter", "A system agent pool must have at least one node.")
	}
	return checkSystemPool(name, pool)
}
