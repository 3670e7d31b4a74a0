package arm

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/machinelearning/armmachinelearning/v4"
)

// computeName is the rule of v1's SDK.
var computeName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9-]{1,22}[a-zA-Z0-9]$`)

// routeMLCompute makes and detaches the computes of a workspace, of type AKS alone. As Azure ML
// does, it takes a PUT over an existing one, which replaces it.
func (s *Server) routeMLCompute(w http.ResponseWriter, r *request) *apiError {
	switch r.Method {
	case http.MethodPut:
		return s.putCompute(w, r)
	case http.MethodDelete:
		return s.deleteCompute(w, r)
	}
	return badMethod(r)
}

func (s *Server) putCompute(w http.ResponseWriter, r *request) *apiError {
	sent, refused := readBody(r)
	if refused != nil {
		return refused
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := "/" + strings.Join(r.parts, "/")
	cluster := strings.ToLower(text(sent, "properties.resourceId"))
	if refused := known(sent, &armmachinelearning.ComputeResource{}, nil); refused != nil {
		return refused
	}
	switch {
	case s.state.Resources["/"+strings.Join(r.parts[:8], "/")] == nil:
		return notFound("Microsoft.MachineLearningServices/workspaces/" + r.names[7])
	case !computeName.MatchString(r.names[9]):
		return refusal(http.StatusBadRequest, "BadArgument", "Compute name is invalid. It can include letters, digits and dashes. It must start with a letter, end with a letter or digit, and be between 3 and 24 characters in length.")
	case text(sent, "properties.computeType") != "AKS":
		return refusal(http.StatusBadRequest, "BadRequest", "The compute type '%s' is not known here.", text(sent, "properties.computeType"))
	case !isCluster(cluster) || s.state.Resources[cluster] == nil:
		return refusal(http.StatusBadRequest, "BadRequest", "The AKS cluster '%s' was not found.", text(sent, "properties.resourceId"))
	case at(sent, "properties.provisioningState") != nil || at(sent, "properties.isAttachedCompute") != nil:
		return refusal(http.StatusBadRequest, "BadRequest", "The request holds a read-only property.")
	}
	sent["id"], sent["name"], sent["type"] = "/"+strings.Join(r.names, "/"), r.names[9], "Microsoft.MachineLearningServices/workspaces/computes"
	put(sent, "properties.isAttachedCompute", true)
	put(sent, "properties.provisioningState", "Creating")
	s.state.Resources[key] = sent
	op := &operation{Cluster: key, Plain: true, Touched: []string{key}}
	s.begin(w, r, op)
	w.Header().Set("Azure-AsyncOperation", s.link(r, op, "Microsoft.MachineLearningServices", "operations"))
	reply(w, http.StatusCreated, sent)
	return nil
}

func (s *Server) deleteCompute(w http.ResponseWriter, r *request) *apiError {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := "/" + strings.Join(r.parts, "/")
	live := s.state.Resources[key]
	switch action := r.URL.Query().Get("underlyingResourceAction"); {
	case live == nil:
		w.WriteHeader(http.StatusNoContent)
		return nil
	case action == "Delete":
		return refusal(http.StatusBadRequest, "BadRequest", "The underlying resource of an attached compute is not deleted with it: it can be detached.")
	case action != "Detach":
		return refusal(http.StatusBadRequest, "BadRequest", "The query parameter underlyingResourceAction is required: Delete or Detach.")
	}
	put(live, "properties.provisioningState", deleting)
	// What an operation's own key says stays; what else it touches and was to be deleted goes.
	op := &operation{Cluster: key + "/", Plain: true, Touched: []string{key}}
	s.begin(w, r, op)
	w.Header().Set("Azure-AsyncOperation", s.link(r, op, "Microsoft.MachineLearningServices", "operations"))
	reply(w, http.StatusAccepted, nil)
	return nil
}
