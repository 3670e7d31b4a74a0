package arm

import (
	"net/http"
	"path"
	"strings"
)

// What each provider asks of a resource, and fills in.

func (s *Server) checkStorage(sent, live body) *apiError {
	switch {
	case text(sent, "sku.name") == "" || text(sent, "kind") == "":
		return refusal(http.StatusBadRequest, "InvalidRequestContent", "The sku and the kind of the account are required.")
	case live != nil && text(live, "kind") != text(sent, "kind"):
		return refusal(http.StatusConflict, "AccountPropertyCannotBeUpdated", "The property 'kind' of the account cannot be updated.")
	}
	return nil
}

func (s *Server) checkVault(sent, live body) *apiError {
	properties, _ := sent["properties"].(body)
	name := strings.ToLower(text(sent, "name"))
	switch {
	case text(properties, "tenantId") != tenantID:
		return refusal(http.StatusBadRequest, "BadRequest", "The tenant ID '%s' in the vault's properties is not that of the subscription, '%s'.", text(properties, "tenantId"), tenantID)
	case text(properties, "sku.family") != "A" || text(properties, "sku.name") == "":
		return refusal(http.StatusBadRequest, "BadRequest", "The SKU of the vault is missing or not valid.")
	case properties["accessPolicies"] == nil:
		return refusal(http.StatusBadRequest, "BadRequest", "The parameter accessPolicies is required when createMode is not set to recover.")
	case live == nil && s.state.Vaults[name]:
		return refusal(http.StatusConflict, "ConflictError",
			"A vault with the same name already exists in deleted state. You need to either recover or purge existing key vault. Follow this link https://go.microsoft.com/fwlink/?linkid=2149745 for more information on soft delete.")
	}
	return nil
}

// checkWorkspace knows what a workspace cannot do without. It makes none of it.
func (s *Server) checkWorkspace(sent, live body) *apiError {
	if sent["identity"] == nil {
		return refusal(http.StatusBadRequest, "ValidationError", "Managed identity is required for a workspace.")
	}
	for _, needed := range []string{"storageAccount", "keyVault"} {
		id := text(sent, "properties."+needed)
		switch before := text(live, "properties."+needed); {
		case id == "":
			return refusal(http.StatusBadRequest, "ValidationError", "Missing dependent resources in workspace json: %s.", needed)
		case live != nil && !strings.EqualFold(before, id):
			return refusal(http.StatusBadRequest, "ValidationError", "The %s of a workspace cannot be changed.", needed)
		}
	}
	for _, referred := range []string{"storageAccount", "keyVault", "applicationInsights", "containerRegistry"} {
		id := text(sent, "properties."+referred)
		there := s.state.Resources[strings.ToLower(id)]
		if id != "" && (there == nil || text(there, "properties.provisioningState") != succeeded) {
			return refusal(http.StatusBadRequest, "ValidationError", "Parent resource %s not found.", id)
		}
	}
	if hns, _ := at(s.state.Resources[strings.ToLower(text(sent, "properties.storageAccount"))], "properties.isHnsEnabled").(bool); hns {
		return refusal(http.StatusBadRequest, "ValidationError", "A storage account with a hierarchical namespace is not supported.")
	}
	return nil
}

// finishWorkspace gives a workspace its identity and its default datastore.
func (s *Server) finishWorkspace(made body, id string) {
	fill(made, "kind", "Default")
	put(made, "identity.principalId", madeUUID("workspace identity "+strings.ToLower(id)))
	put(made, "identity.tenantId", tenantID)
	put(made, "properties.workspaceId", madeUUID("workspace "+strings.ToLower(id)))
	fill(made, "properties.hbiWorkspace", false)
	fill(made, "properties.publicNetworkAccess", "Enabled")
	s.plantDatastore(id, path.Base(text(made, "properties.storageAccount")))
}

// plantDatastore makes the default datastore of a workspace.
func (s *Server) plantDatastore(workspace, account string) {
	s.store(workspace+"/datastores/"+Datastore, "Microsoft.MachineLearningServices/workspaces/datastores", body{
		"datastoreType": "AzureBlob", "accountName": account, "containerName": Container, "endpoint": s.config.BlobHost,
		"protocol": "http", "credentials": body{"credentialsType": "None"}, "isDefault": true, "serviceDataAccessAuthIdentity": "None",
	})
}

// StorageAccount is the name of the account in which a seed's workspace keeps its files; empty
// if there is no such workspace.
func (s *Server) StorageAccount(seed Seed) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	workspace := s.state.Resources[strings.ToLower(s.workspaceID(seed))]
	if workspace == nil {
		return ""
	}
	return path.Base(text(workspace, "properties.storageAccount"))
}
