package arm

import (
	"net/http"
	"path"
	"strings"
)

// Seed is the workspace that is there from the start, and what it is made of.
type Seed struct {
	ResourceGroup, Workspace string
	Registry                 string
	StorageAccount           string
}

// Container is where a workspace keeps its files, in its storage account.
const Container = "azureml-blobstore"

// Datastore is the name of the workspace's default datastore.
const Datastore = "workspaceblobstore"

// workspaceID is the ARM ID of the workspace of a seed.
func (s *Server) workspaceID(seed Seed) string {
	return s.providerID(seed, "Microsoft.MachineLearningServices/workspaces/"+seed.Workspace)
}

func (s *Server) providerID(seed Seed, rest string) string {
	return "/subscriptions/" + s.config.SubscriptionID + "/resourceGroups/" + seed.ResourceGroup + "/providers/" + rest
}

// Plant makes the workspace, unless it is there: what was written over it stays.
func (s *Server) Plant(seed Seed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	workspace := s.workspaceID(seed)
	if s.state.Resources[strings.ToLower(workspace)] != nil {
		return
	}
	registry := s.providerID(seed, "Microsoft.ContainerRegistry/registries/"+seed.Registry)
	storage := s.providerID(seed, "Microsoft.Storage/storageAccounts/"+seed.StorageAccount)
	s.store(workspace, "Microsoft.MachineLearningServices/workspaces", body{
		"friendlyName": seed.Workspace, "containerRegistry": registry, "storageAccount": storage,
		"keyVault": s.providerID(seed, "Microsoft.KeyVault/vaults/"+seed.Workspace), "hbiWorkspace": false, "v1LegacyMode": false,
		"publicNetworkAccess": "Enabled", "workspaceId": "33333333-3333-3333-3333-333333333333", "provisioningState": succeeded,
	})
	s.state.Resources[strings.ToLower(workspace)]["kind"] = "Default"
	s.state.Resources[strings.ToLower(workspace)]["identity"] = body{"type": "SystemAssigned"}
	s.store(registry, "Microsoft.ContainerRegistry/registries", body{
		"loginServer": s.config.LoginServer, "adminUserEnabled": false, "provisioningState": succeeded,
	})
	s.state.Resources[strings.ToLower(registry)]["sku"] = body{"name": "Standard", "tier": "Standard"}
	s.store(storage, "Microsoft.Storage/storageAccounts", body{
		"primaryEndpoints": body{"blob": "http://" + s.config.BlobHost + "/" + seed.StorageAccount + "/"}, "provisioningState": succeeded,
	})
	s.plantDatastore(workspace, seed.StorageAccount)
	s.save()
}

func (s *Server) store(id, kind string, properties body) {
	s.state.Resources[strings.ToLower(id)] = body{"id": id, "name": path.Base(id), "type": kind, "location": Location, "properties": properties}
}

// getStored reads what Plant and RegisterModel wrote: a resource, or the list of a collection.
func (s *Server) getStored(w http.ResponseWriter, r *request) *apiError {
	id := "/" + strings.Join(r.parts, "/")
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method != http.MethodGet {
		return badMethod(r)
	}
	if resource := s.state.Resources[id]; resource != nil {
		reply(w, http.StatusOK, resource)
		return nil
	}
	if len(r.parts)%2 == 0 { // names come in pairs after /subscriptions/S/resourceGroups/G/providers/P
		return notFound(strings.Join(r.names[5:], "/"))
	}
	if parent := path.Dir(id); len(r.parts) > 7 && s.state.Resources[parent] == nil {
		return notFound(strings.Join(r.names[5:len(r.names)-1], "/"))
	}
	all := []body{}
	for _, child := range s.children(id + "/") {
		all = append(all, s.state.Resources[child])
	}
	return s.page(w, r, all)
}
