package arm

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"
)

// Location is the region of everything that does not say another.
const Location = "westeurope"

// cluster is the key of the managed cluster that a request is about.
func (r *request) cluster() string { return "/" + strings.Join(r.parts[:8], "/") }

func isCluster(id string) bool {
	p := strings.Split(id, "/")
	return len(p) == 9 && p[7] == "managedclusters"
}

// viewCluster is what a GET shows: the cluster with its pools in it.
func (s *Server) viewCluster(id string) body {
	view := clone(s.state.Resources[id])
	profiles := []any{}
	for _, pool := range s.children(id + "/agentpools/") {
		resource := clone(s.state.Resources[pool])
		profile, _ := resource["properties"].(body)
		profile["name"] = resource["name"]
		profiles = append(profiles, profile)
	}
	put(view, "properties.agentPoolProfiles", profiles)
	remove(view, secrets[:]...)
	return view
}

func (s *Server) listClusters(w http.ResponseWriter, r *request, collection string) *apiError {
	if r.Method != http.MethodGet {
		return badMethod(r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []body{}
	for _, id := range s.under(isCluster) {
		if strings.HasPrefix(id, collection) {
			all = append(all, s.viewCluster(id))
		}
	}
	return s.page(w, r, all)
}

func (s *Server) getCluster(w http.ResponseWriter, r *request) *apiError {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Resources[r.cluster()] == nil {
		return notFound("Microsoft.ContainerService/managedClusters/" + r.names[7])
	}
	reply(w, http.StatusOK, s.read(r.cluster(), s.viewCluster(r.cluster())))
	return nil
}

func (s *Server) putCluster(w http.ResponseWriter, r *request) *apiError {
	sent, refused := readBody(r)
	if refused != nil {
		return refused
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := r.cluster()
	live := s.state.Resources[id]
	if refused := preconditions(r, text(live, "eTag"), live != nil); refused != nil {
		return refused
	}
	var view body
	if live != nil {
		view = s.viewCluster(id)
	}
	if refused := known(sent, &armcontainerservice.ManagedCluster{}, view); refused != nil {
		return refused
	}
	if refused := s.refuseBusy(id); refused != nil {
		return refused
	}
	remove(sent, "id", "name", "type", "systemData", "eTag", "identity.principalId", "identity.tenantId",
		"properties.provisioningState", "properties.powerState", "properties.fqdn", "properties.azurePortalFQDN", "properties.privateFQDN",
		"properties.currentKubernetesVersion", "properties.oidcIssuerProfile.issuerURL", "properties.maxAgentPools", "properties.resourceUID")
	fill(sent, "properties", body{})
	if refused := normalTags(sent, live, "tags"); refused != nil {
		return refused
	}
	if refused := checkIdentity(sent, live); refused != nil {
		return refused
	}
	if refused := s.checkClusterVersion(r.names[7], id, sent, live); refused != nil {
		return refused
	}
	normalCluster(sent, live)
	pools, refused := profiles(sent)
	if refused != nil {
		return refused
	}
	remove(sent, "properties.agentPoolProfiles")
	if location := text(sent, "location"); location != "" {
		sent["location"] = normalLocation(location)
	}
	op := &operation{Cluster: id, Touched: []string{id}}
	status := http.StatusOK
	if live == nil {
		status = http.StatusCreated
		if refused := checkNewCluster(sent, pools); refused != nil {
			return refused
		}
		wanted := map[string]body{}
		for name, pool := range pools {
			wanted[id+"/agentpools/"+name] = pool
		}
		if refused := s.refuseCompute(text(sent, "location"), wanted); refused != nil {
			return refused
		}
		if refused := checkNewPoolVersions(text(sent, "properties.kubernetesVersion"), pools); refused != nil {
			return refused
		}
		sent["id"], sent["name"], sent["type"] = "/"+strings.Join(r.names, "/"), r.names[7], "Microsoft.ContainerService/ManagedClusters"
		defaultCluster(sent, r.names[3])
		put(sent, "properties.provisioningState", "Creating")
	} else {
		if refused := keepImmutable(sent, live, clusterImmutable[:]); refused != nil {
			return refused
		}
		if refused := s.checkProfiles(id, pools); refused != nil {
			return refused
		}
		sent["id"], sent["name"], sent["type"] = live["id"], live["name"], live["type"]
		defaultCluster(sent, r.names[3])
		put(sent, "properties.provisioningState", "Updating")
	}
	s.beforeWrite(id, view)
	s.touch(sent)
	s.state.Resources[id] = sent
	for name, pool := range pools {
		key := id + "/agentpools/" + name
		s.storePool(key, "/"+strings.Join(r.names, "/")+"/agentPools/"+name, pool)
		op.Touched = append(op.Touched, key)
	}
	for _, key := range s.children(id + "/agentpools/") {
		s.touch(s.state.Resources[key]) // a cluster operation changes the tags of its pools too
	}
	s.begin(w, r, op)
	reply(w, status, s.viewCluster(id))
	return nil
}

func (s *Server) patchCluster(w http.ResponseWriter, r *request) *apiError {
	sent, refused := readBody(r)
	if refused != nil {
		return refused
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := r.cluster()
	live := s.state.Resources[id]
	if live == nil {
		return notFound("Microsoft.ContainerService/managedClusters/" + r.names[7])
	}
	if refused := known(sent, &armcontainerservice.TagsObject{}, nil); refused != nil {
		return refused
	}
	if refused := preconditions(r, text(live, "eTag"), true); refused != nil {
		return refused
	}
	if refused := s.refuseBusy(id); refused != nil {
		return refused
	}
	if refused := normalTags(sent, live, "tags"); refused != nil {
		return refused
	}
	s.beforeWrite(id, s.viewCluster(id))
	if tags, ok := sent["tags"]; ok {
		live["tags"] = tags
	}
	put(live, "properties.provisioningState", "Updating")
	s.touch(live)
	s.begin(w, r, &operation{Cluster: id, Touched: []string{id}})
	reply(w, http.StatusOK, s.viewCluster(id))
	return nil
}

func (s *Server) deleteCluster(w http.ResponseWriter, r *request) *apiError {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := r.cluster()
	live := s.state.Resources[id]
	if live == nil {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if refused := preconditions(r, text(live, "eTag"), true); refused != nil {
		return refused
	}
	if refused := s.refuseBusy(id); refused != nil {
		return refused
	}
	put(live, "properties.provisioningState", deleting)
	s.begin(w, r, &operation{Cluster: id, Delete: true, Touched: []string{id}})
	reply(w, http.StatusAccepted, nil)
	return nil
}

func (s *Server) listCredential(w http.ResponseWriter, r *request) *apiError {
	if r.Method != http.MethodPost {
		return badMethod(r)
	}
	s.mu.Lock()
	live := s.state.Resources[r.cluster()]
	local, _ := at(live, "properties.disableLocalAccounts").(bool)
	s.mu.Unlock()
	if live == nil {
		return notFound("Microsoft.ContainerService/managedClusters/" + r.names[7])
	}
	name := "clusterUser"
	if r.parts[8] == "listclusteradmincredential" {
		if name = "clusterAdmin"; local {
			return refusal(http.StatusBadRequest, "BadRequest", "Getting static credential is not allowed because this cluster is set to disable local accounts.")
		}
	}
	kubeconfig, err := s.config.Kubernetes.Kubeconfig(r.cluster())
	if err != nil {
		return refusal(http.StatusConflict, "OperationNotAllowed", "The cluster has no credentials yet: %v.", err)
	}
	reply(w, http.StatusOK, body{"kubeconfigs": []any{body{"name": name, "value": base64.StdEncoding.EncodeToString(kubeconfig)}}})
	return nil
}
