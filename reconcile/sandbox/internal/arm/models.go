package arm

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// firstCreated is when the first thing was registered; each later one came a minute after, so
// that every run shows the same.
const firstCreated = "2026-01-02T03:04:05Z"

// RegisterModel makes a version of a model whose files lie under a path of the default
// datastore; modelType is custom_model for files and folders alike.
func (s *Server) RegisterModel(seed Seed, name, version, under string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	workspace := s.workspaceID(seed)
	uri := "azureml://" + strings.ToLower(strings.TrimPrefix(workspace[:strings.Index(workspace, "/providers/")], "/")) +
		"/workspaces/" + seed.Workspace + "/datastores/" + Datastore + "/paths/" + under
	s.registerModel(workspace, "workspaces", name, version, uri)
	s.save()
}

// RegisterModelURI registers a version with any URI.
func (s *Server) RegisterModelURI(seed Seed, name, version, uri string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.registerModel(s.workspaceID(seed), "workspaces", name, version, uri)
	s.save()
}

// RegisterRegistryModel makes an Azure ML registry, unless it is there, and a version of a
// model in it, whose files lie at a blob URL.
func (s *Server) RegisterRegistryModel(seed Seed, registry, name, version, blobURL, sasURL string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.providerID(seed, "Microsoft.MachineLearningServices/registries/"+registry)
	s.store(id, "Microsoft.MachineLearningServices/registries", body{"publicNetworkAccess": "Enabled", "regionDetails": []any{body{"location": Location}}})
	s.registerModel(id, "registries", name, version, blobURL)
	s.secret(id+"/datareferences/"+name+"/versions/"+version, body{"blobReferenceForConsumption": body{
		"blobUri": blobURL, "storageAccountArmId": s.providerID(seed, "Microsoft.Storage/storageAccounts/"+seed.StorageAccount),
		"credential": body{"credentialType": "SAS", "sasUri": sasURL},
	}})
	s.save()
}

func (s *Server) registerModel(parent, kind, name, version, uri string) {
	kind = "Microsoft.MachineLearningServices/" + kind + "/models"
	container := parent + "/models/" + name
	s.store(container, kind, body{
		"latestVersion": version, "nextVersion": "", "isArchived": false, "tags": body{}, "properties": body{}, "provisioningState": succeeded,
	})
	id := container + "/versions/" + version
	s.store(id, kind+"/versions", body{
		"modelUri": uri, "modelType": "custom_model", "isArchived": false, "isAnonymous": false, "tags": body{}, "properties": body{},
		"flavors": body{}, "provisioningState": succeeded,
	})
	s.state.Registered++
	first, err := time.Parse(time.RFC3339, firstCreated)
	if err != nil {
		return // cannot be: it is a constant
	}
	s.state.Resources[strings.ToLower(id)]["systemData"] = body{
		"createdAt": first.Add(time.Duration(s.state.Registered) * time.Minute).Format(time.RFC3339), "createdBy": "sandbox", "createdByType": "User",
	}
}

// Store makes a resource as it is given, in place of what was there.
func (s *Server) Store(id, kind string, properties map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store(id, kind, properties)
	s.save()
}

// Secrets lets listSecrets of a datastore of the workspace give these; nil: it is forbidden.
func (s *Server) Secrets(seed Seed, datastore string, secrets map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secret(s.workspaceID(seed)+"/datastores/"+datastore+"/listsecrets", secrets)
	s.save()
}

// secret is what a POST to a path gives.
func (s *Server) secret(path string, secret body) {
	if s.state.Secrets == nil {
		s.state.Secrets = map[string]body{}
	}
	s.state.Secrets[strings.ToLower(path)] = secret
	if secret == nil {
		delete(s.state.Secrets, strings.ToLower(path))
	}
}

// routeML answers for workspaces and registries of Azure ML, and what is in them.
func (s *Server) routeML(w http.ResponseWriter, r *request) *apiError {
	p := r.parts
	if len(p) > 8 && p[6] == "workspaces" && p[8] != "computes" {
		if err := s.legacyMode("/" + strings.Join(p[:8], "/")); err != nil {
			return err
		}
	}
	switch {
	case r.Method == http.MethodPost && len(p) == 11 && p[8] == "datastores" && p[10] == "listsecrets":
		return s.postSecret(w, r, "workspaces/datastores/listSecrets/action")
	case r.Method == http.MethodPost && len(p) == 12 && p[6] == "registries" && p[8] == "datareferences":
		if err := checkReference(r); err != nil {
			return err
		}
		return s.postSecret(w, r, "registries/assets/read")
	case r.Method == http.MethodGet && len(p) == 11 && p[8] == "models" && p[10] == "versions":
		return s.listModelVersions(w, r)
	}
	return s.getStored(w, r)
}

// legacyMode refuses what the v2 API is for in a workspace whose v1LegacyMode is on. That it
// is refused is documented; with which words is not.
func (s *Server) legacyMode(workspace string) *apiError {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on, _ := at(s.state.Resources[workspace], "properties.v1LegacyMode").(bool); on {
		return refusal(http.StatusForbidden, "UserError", "The workspace has v1_legacy_mode enabled: this operation over public Azure Resource Manager is not allowed.")
	}
	return nil
}

// checkReference checks the body of a request for access to an asset (GetBlobReferenceSASRequestDto).
func checkReference(r *request) *apiError {
	var asked struct {
		AssetID string `json:"assetId"`
		BlobURI string `json:"blobUri"`
	}
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&asked); err != nil {
		return refusal(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized: '%s'.", err)
	}
	want := "azureml://registries/" + r.names[7] + "/models/" + r.names[9] + "/versions/" + r.names[11]
	if !strings.EqualFold(asked.AssetID, want) || asked.BlobURI == "" {
		return refusal(http.StatusBadRequest, "UserError", "The asset '%s' at '%s' is not '%s'.", asked.AssetID, asked.BlobURI, want)
	}
	return nil
}

func (s *Server) postSecret(w http.ResponseWriter, r *request, action string) *apiError {
	id := "/" + strings.Join(r.parts, "/")
	s.mu.Lock()
	defer s.mu.Unlock()
	if parent, ok := strings.CutSuffix(id, "/listsecrets"); ok && s.state.Resources[parent] == nil {
		return notFound(strings.Join(r.names[5:10], "/"))
	}
	secret := s.state.Secrets[id]
	if secret == nil {
		return refusal(http.StatusForbidden, "AuthorizationFailed",
			"The client does not have authorization to perform action 'Microsoft.MachineLearningServices/%s' over scope '%s'.", action, id)
	}
	reply(w, http.StatusOK, secret)
	return nil
}

// listModelVersions knows the options that clients list versions with. Without an order the
// newest is first.
func (s *Server) listModelVersions(w http.ResponseWriter, r *request) *apiError {
	s.mu.Lock()
	defer s.mu.Unlock()
	model := "/" + strings.Join(r.parts[:10], "/")
	if s.state.Resources[model] == nil {
		return notFound(strings.Join(r.names[5:10], "/"))
	}
	query := r.URL.Query()
	if order := query.Get("$orderBy"); order != "" && !strings.EqualFold(order, "createdtime desc") {
		return refusal(http.StatusBadRequest, "UserError", "The order '%s' is not one of this list.", order)
	}
	all := []body{}
	for _, id := range s.children(model + "/versions/") {
		archived, _ := at(s.state.Resources[id], "properties.isArchived").(bool)
		view := query.Get("listViewType")
		if archived && (view == "" || view == "ActiveOnly") || !archived && view == "ArchivedOnly" {
			continue
		}
		all = append(all, s.state.Resources[id])
	}
	slices.SortStableFunc(all, func(a, b body) int {
		return strings.Compare(text(b, "systemData.createdAt"), text(a, "systemData.createdAt"))
	})
	if top := query.Get("$top"); top != "" {
		n, err := strconv.Atoi(top)
		if err != nil || n < 1 {
			return refusal(http.StatusBadRequest, "UserError", "The value '%s' of $top is not a number above 0.", top)
		}
		all = all[:min(n, len(all))]
	}
	return s.page(w, r, all)
}
