package arm

import (
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/machinelearning/armmachinelearning/v4"
)

// How a provider answers the PUT of a resource (its operations in azure-rest-api-specs).
const (
	atOnce   = iota // 200, and it is there
	byItself        // 201, and its own provisioningState tells the rest
	byHeader        // 201 with Azure-AsyncOperation
	accepted        // 202 with Azure-AsyncOperation
	located         // 202 with Location and no body
)

// maker is how a type of resource is made that a workspace refers to, or is one.
type maker struct {
	kind     string // the resource type
	answers  int
	name     *regexp.Regexp
	badName  string   // the code
	global   string   // the code for a name that is taken in all of Azure; empty: names are the group's
	fields   []string // known below properties; nil: the SDK knows
	creating string   // provisioningState while it is made
	check    func(s *Server, sent, live body) *apiError
	finish   func(s *Server, made body, id string)
}

var makers = map[string]*maker{
	"microsoft.storage/storageaccounts": {
		kind: "Microsoft.Storage/storageAccounts", answers: located, name: regexp.MustCompile(`^[a-z0-9]{3,24}$`),
		badName: "AccountNameInvalid", global: "StorageAccountAlreadyTaken", creating: "Creating",
		fields: []string{"minimumTlsVersion", "supportsHttpsTrafficOnly", "allowBlobPublicAccess", "isHnsEnabled", "allowSharedKeyAccess", "accessTier", "encryption", "networkAcls", "publicNetworkAccess"},
		check:  (*Server).checkStorage,
		finish: func(s *Server, made body, _ string) {
			put(made, "properties.primaryEndpoints", body{"blob": "http://" + s.config.BlobHost + "/" + text(made, "name") + "/"})
			fill(made, "properties.accessTier", "Hot")
		},
	},
	"microsoft.keyvault/vaults": {
		kind: "Microsoft.KeyVault/vaults", answers: byItself, name: regexp.MustCompile(`^[a-zA-Z]([a-zA-Z0-9]|-[a-zA-Z0-9]){2,23}$`),
		badName: "VaultNameNotValid", global: "VaultAlreadyExists", creating: "RegisteringDns",
		fields: []string{"tenantId", "sku", "accessPolicies", "enableRbacAuthorization", "enableSoftDelete", "softDeleteRetentionInDays", "enablePurgeProtection", "publicNetworkAccess", "networkAcls"},
		check:  (*Server).checkVault,
		finish: func(_ *Server, made body, _ string) {
			put(made, "properties.vaultUri", "https://"+text(made, "name")+".vault.azure.net/")
			fill(made, "properties.softDeleteRetentionInDays", 90.0)
		},
	},
	"microsoft.insights/components": {
		kind: "Microsoft.Insights/components", answers: atOnce, name: regexp.MustCompile(`^[^<>%&\\?/]{1,260}$`), badName: "InvalidRequestContent",
		fields: []string{"Application_Type", "Flow_Type", "Request_Source", "WorkspaceResourceId", "IngestionMode", "RetentionInDays", "SamplingPercentage", "DisableIpMasking", "publicNetworkAccessForIngestion", "publicNetworkAccessForQuery"},
		finish: func(_ *Server, made body, id string) {
			fill(made, "properties.WorkspaceResourceId", id[:strings.Index(strings.ToLower(id), "/resourcegroups/")]+
				"/resourceGroups/ai_"+text(made, "name")+"_managed/providers/Microsoft.OperationalInsights/workspaces/managed-"+text(made, "name")+"-ws")
			put(made, "properties.AppId", madeUUID("application "+id))
		},
	},
	"microsoft.containerregistry/registries": {
		kind: "Microsoft.ContainerRegistry/registries", answers: byHeader, name: regexp.MustCompile(`^[a-zA-Z0-9]{5,50}$`),
		badName: "InvalidRegistryName", global: "AlreadyInUse", creating: "Creating",
		fields: []string{"adminUserEnabled", "anonymousPullEnabled", "publicNetworkAccess", "zoneRedundancy", "networkRuleSet", "policies", "dataEndpointEnabled", "encryption"},
		check: func(_ *Server, sent, _ body) *apiError {
			if !slices.Contains([]string{"Basic", "Standard", "Premium"}, text(sent, "sku.name")) {
				return refusal(http.StatusBadRequest, "SkuNotSupported", "The SKU '%s' is not supported.", text(sent, "sku.name"))
			}
			return nil
		},
		finish: func(s *Server, made body, _ string) { put(made, "properties.loginServer", s.config.LoginServer) },
	},
	"microsoft.machinelearningservices/workspaces": {
		kind: "Microsoft.MachineLearningServices/workspaces", answers: accepted, name: regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{2,32}$`),
		badName: "ValidationError", creating: "Creating", check: (*Server).checkWorkspace, finish: (*Server).finishWorkspace,
	},
}

func (s *Server) routeMade(w http.ResponseWriter, r *request, m *maker) *apiError {
	switch r.Method {
	case http.MethodPut:
		return s.putMade(w, r, m)
	case http.MethodDelete:
		return s.deleteMade(w, r)
	}
	return badMethod(r)
}

func (s *Server) putMade(w http.ResponseWriter, r *request, m *maker) *apiError {
	sent, refused := readBody(r)
	if refused != nil {
		return refused
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key, id, name := "/"+strings.Join(r.parts, "/"), "/"+strings.Join(r.names, "/"), r.names[7]
	live := s.state.Resources[key]
	if refused := m.known(sent, live); refused != nil {
		return refused
	}
	sent["id"], sent["name"], sent["type"] = id, name, m.kind
	for _, check := range []func() *apiError{
		func() *apiError { return m.checkName(s, key, name) },
		func() *apiError { return normalTags(sent, live, "tags") },
		func() *apiError { return checkLocation(sent, live, r) },
		func() *apiError {
			if m.check == nil {
				return nil
			}
			return m.check(s, sent, live)
		},
	} {
		if refused := check(); refused != nil {
			return refused
		}
	}
	fill(sent, "properties", body{})
	sent["location"] = normalLocation(text(sent, "location"))
	put(sent, "properties.provisioningState", succeeded)
	s.state.Resources[key] = sent
	m.finish(s, sent, id)
	if m.answers == atOnce {
		s.save()
		reply(w, http.StatusOK, sent)
		return nil
	}
	put(sent, "properties.provisioningState", m.creating)
	op := &operation{Cluster: key, Plain: true, Touched: []string{key}}
	s.begin(w, r, op)
	s.answer(w, r, m, op, sent)
	return nil
}

// answer is what the provider says to a PUT whose operation has begun.
func (s *Server) answer(w http.ResponseWriter, r *request, m *maker, op *operation, made body) {
	provider := strings.Split(m.kind, "/")[0]
	link := s.link(r, op, provider, "operations")
	w.Header().Del("Azure-AsyncOperation")
	switch m.answers {
	case byItself:
		reply(w, http.StatusCreated, made)
	case byHeader:
		w.Header().Set("Azure-AsyncOperation", link)
		reply(w, http.StatusCreated, made)
	case accepted:
		w.Header().Set("Azure-AsyncOperation", link)
		w.Header().Set("Location", link)
		reply(w, http.StatusAccepted, nil)
	case located:
		w.Header().Set("Location", s.link(r, op, provider, "asyncoperations"))
		w.WriteHeader(http.StatusAccepted)
	}
}

// getResult is an operation that is followed by Location: 202 until it has ended.
func (s *Server) getResult(w http.ResponseWriter, r *request, id string) *apiError {
	s.mu.Lock()
	defer s.mu.Unlock()
	op := s.state.Operations[id]
	switch {
	case op == nil:
		return refusal(http.StatusNotFound, "OperationNotFound", "The operation '%s' was not found.", id)
	case op.Status == inProgress:
		w.Header().Set("Location", s.config.Endpoint+r.URL.RequestURI())
		pollHeaders(w)
		w.WriteHeader(http.StatusAccepted)
	case op.Status != succeeded:
		return refusal(http.StatusConflict, op.Code, "%s", op.Message)
	default:
		reply(w, http.StatusOK, s.state.Resources[op.Cluster])
	}
	return nil
}

// known refuses what the type does not have, and what only Azure writes.
func (m *maker) known(sent, live body) *apiError {
	for _, path := range []string{"id", "name", "type", "systemData", "properties.provisioningState", "properties.creationTime", "identity.principalId"} {
		if value := at(sent, path); value != nil && live == nil {
			return refusal(http.StatusBadRequest, "InvalidRequestContent", "The property '%s' is read-only.", path)
		}
	}
	if m.fields == nil {
		return known(sent, &armmachinelearning.Workspace{}, live)
	}
	for key := range sent {
		if !slices.Contains([]string{"location", "tags", "properties", "sku", "kind", "identity"}, key) {
			return refusal(http.StatusBadRequest, "InvalidRequestContent", "Could not find member '%s' on object of type 'ResourceDefinition'.", key)
		}
	}
	properties, _ := sent["properties"].(body)
	for key := range properties {
		if before, _ := at(live, "properties").(body); !slices.Contains(m.fields, key) && before[key] == nil {
			return refusal(http.StatusBadRequest, "InvalidRequestContent", "Could not find member '%s' on object of type 'Properties'.", key)
		}
	}
	return nil
}

func (m *maker) checkName(s *Server, key, name string) *apiError {
	if !m.name.MatchString(name) {
		return refusal(http.StatusBadRequest, m.badName, "%s is not a valid name of a %s.", name, m.kind)
	}
	for _, other := range s.under(func(id string) bool { return strings.Contains(id, "/providers/"+strings.ToLower(m.kind)+"/") }) {
		if m.global != "" && other != key && strings.EqualFold(text(s.state.Resources[other], "name"), name) {
			return refusal(http.StatusConflict, m.global, "The name %s is already taken.", name)
		}
	}
	return nil
}

func checkLocation(sent, live body, r *request) *apiError {
	location := normalLocation(text(sent, "location"))
	switch before := text(live, "location"); {
	case location == "":
		return refusal(http.StatusBadRequest, "LocationRequired", "The location property is required for this definition.")
	case before != "" && before != location:
		return refusal(http.StatusConflict, "InvalidResourceLocation",
			"The resource '%s' already exists in location '%s' in resource group '%s'. A resource with the same name cannot be created in location '%s'.", r.names[7], before, r.names[3], location)
	}
	return nil
}

func (s *Server) deleteMade(w http.ResponseWriter, r *request) *apiError {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := "/" + strings.Join(r.parts, "/")
	if s.state.Resources[key] == nil {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if r.parts[6] == "vaults" {
		s.state.Vaults[r.parts[7]] = true
	}
	for _, id := range s.under(func(id string) bool { return id == key || strings.HasPrefix(id, key+"/") }) {
		delete(s.state.Resources, id)
	}
	s.save()
	reply(w, http.StatusOK, body{})
	return nil
}
