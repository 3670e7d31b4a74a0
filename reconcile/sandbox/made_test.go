package sandbox_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/machinelearning/armmachinelearning/v4"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

const below = "/subscriptions/" + sandbox.SubscriptionID + "/resourceGroups/" + group + "/providers/"

// The SDK's own clients make a workspace of what was made before, and a compute in it.
func TestMakeWorkspace(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, func(o *sandbox.Options) { o.NoWorkspace = true })
	url := func(rest string) string { return s.ARMEndpoint() + below + rest + "?api-version=2024-01-01" }
	factory, err := armmachinelearning.NewClientFactory(sandbox.SubscriptionID, token(s.Token()), sdk(s))
	if err != nil {
		t.Fatal(err)
	}
	workspace := armmachinelearning.Workspace{
		Location: to.Ptr("westeurope"), Identity: &armmachinelearning.ManagedServiceIdentity{Type: to.Ptr(armmachinelearning.ManagedServiceIdentityTypeSystemAssigned)},
		Properties: &armmachinelearning.WorkspaceProperties{
			StorageAccount: to.Ptr(below + "Microsoft.Storage/storageAccounts/store"), KeyVault: to.Ptr(below + "Microsoft.KeyVault/vaults/vault"),
		},
	}
	workspaces := factory.NewWorkspacesClient()
	_, err = workspaces.BeginCreateOrUpdate(t.Context(), group, sandbox.Workspace, workspace, nil)
	wantCode(t, err, http.StatusBadRequest, "ValidationError")
	for _, made := range []struct {
		rest, body string
		status     int
	}{
		{"Microsoft.Storage/storageAccounts/store", `{"location": "West Europe", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}}`, http.StatusAccepted},
		{"Microsoft.KeyVault/vaults/vault", `{"location": "westeurope", "properties": {"tenantId": "22222222-2222-2222-2222-222222222222", "sku": {"family": "A", "name": "standard"}, "accessPolicies": []}}`, http.StatusCreated},
	} {
		if status, answer := raw(t, s, http.MethodPut, url(made.rest), made.body); status != made.status {
			t.Fatalf("PUT %s: HTTP %d: %s", made.rest, status, answer)
		}
		eventuallyMade(t, s, url(made.rest))
	}
	poller, err := workspaces.BeginCreateOrUpdate(t.Context(), group, sandbox.Workspace, workspace, nil)
	if err != nil {
		t.Fatal(err)
	}
	made, err := poller.PollUntilDone(t.Context(), nil)
	if err != nil || *made.Identity.PrincipalID == "" || *made.Properties.ProvisioningState != armmachinelearning.ProvisioningStateSucceeded {
		t.Fatalf("workspace %+v: %v", made.Workspace, err)
	}
	// A model can be registered in it, and its files are found by the way of its own datastore.
	if err := s.RegisterModel("churn", "1", filepath.Join("..", "..", "examples", "quickstart", "model", "1")); err != nil {
		t.Fatal(err)
	}
	datastore, err := factory.NewDatastoresClient().Get(t.Context(), group, sandbox.Workspace, "workspaceblobstore", nil)
	if err != nil || *datastore.Properties.(*armmachinelearning.AzureBlobDatastore).AccountName != "store" {
		t.Errorf("datastore %+v: %v", datastore.Properties, err)
	}

	if err := s.CreateCluster(t.Context(), sandbox.ClusterRequest{Name: "existing"}); err != nil {
		t.Fatal(err)
	}
	computes := factory.NewComputeClient()
	compute := armmachinelearning.ComputeResource{Location: to.Ptr("westeurope"), Properties: &armmachinelearning.AKS{
		ComputeType: to.Ptr(armmachinelearning.ComputeTypeAKS), ResourceID: to.Ptr(below + "Microsoft.ContainerService/managedClusters/existing"),
	}}
	taken, err := computes.BeginCreateOrUpdate(t.Context(), group, sandbox.Workspace, "shared", compute, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := taken.PollUntilDone(t.Context(), nil); err != nil || !*got.Properties.GetCompute().IsAttachedCompute {
		t.Errorf("compute %+v: %v", got.Properties, err)
	}
	_, err = computes.BeginDelete(t.Context(), group, sandbox.Workspace, "shared", armmachinelearning.UnderlyingResourceActionDelete, nil)
	wantCode(t, err, http.StatusBadRequest, "BadRequest")
	left, err := computes.BeginDelete(t.Context(), group, sandbox.Workspace, "shared", armmachinelearning.UnderlyingResourceActionDetach, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := left.PollUntilDone(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	_, err = computes.Get(t.Context(), group, sandbox.Workspace, "shared", nil)
	wantCode(t, err, http.StatusNotFound, "ResourceNotFound")

	// Started again without being told, the group stays as it was made.
	s.Close()
	s = start(t, dir)
	if status, answer := raw(t, s, http.MethodGet, url("Microsoft.ContainerRegistry/registries/mlprod"), ""); status != http.StatusNotFound {
		t.Errorf("a registry that nobody has made: HTTP %d %s", status, answer)
	}
	if status, answer := raw(t, s, http.MethodGet, url("Microsoft.MachineLearningServices/workspaces/"+sandbox.Workspace), ""); status != http.StatusOK || !strings.Contains(answer, "/vaults/vault") {
		t.Errorf("the workspace: HTTP %d %s", status, answer)
	}
}

// eventuallyMade waits until a resource is there.
func eventuallyMade(t *testing.T, s *sandbox.Sandbox, url string) {
	t.Helper()
	eventually(t, "it is made", func() bool {
		_, answer := raw(t, s, http.MethodGet, url, "")
		return strings.Contains(answer, `"provisioningState":"Succeeded"`)
	})
}

// What Azure does not take it refuses with a code to branch on.
func TestMakeRefusals(t *testing.T) {
	s := start(t, t.TempDir())
	for name, test := range map[string]struct {
		rest, body string
		status     int
		code       string
	}{
		"account name":         {"Microsoft.Storage/storageAccounts/Store", `{"location": "westeurope", "kind": "StorageV2", "sku": {"name": "x"}}`, 400, "AccountNameInvalid"},
		"account without kind": {"Microsoft.Storage/storageAccounts/store", `{"location": "westeurope"}`, 400, "InvalidRequestContent"},
		"unknown property":     {"Microsoft.Storage/storageAccounts/store", `{"location": "westeurope", "properties": {"minTls": "x"}}`, 400, "InvalidRequestContent"},
		"read-only property":   {"Microsoft.Storage/storageAccounts/store", `{"location": "westeurope", "properties": {"provisioningState": "x"}}`, 400, "InvalidRequestContent"},
		"no location":          {"Microsoft.Insights/components/i", `{"kind": "web"}`, 400, "LocationRequired"},
		"registry of no tier":  {"Microsoft.ContainerRegistry/registries/MLPROD2", `{"location": "westeurope", "sku": {"name": "Free"}}`, 400, "SkuNotSupported"},
		"vault's tenant":       {"Microsoft.KeyVault/vaults/vault", `{"location": "westeurope", "properties": {"tenantId": "x"}}`, 400, "BadRequest"},
		"another region":       {"Microsoft.ContainerRegistry/registries/mlprod", `{"location": "eastus", "sku": {"name": "Basic"}}`, 409, "InvalidResourceLocation"},
		"role's name":          {"Microsoft.ContainerRegistry/registries/mlprod/providers/Microsoft.Authorization/roleAssignments/x", `{"properties": {}}`, 400, "InvalidRoleAssignmentId"},
		"role of a stranger": {"Microsoft.ContainerRegistry/registries/mlprod/providers/Microsoft.Authorization/roleAssignments/00000000-0000-0000-0000-000000000001",
			`{"properties": {"principalId": "x", "roleDefinitionId": "/subscriptions/s/providers/Microsoft.Authorization/roleDefinitions/7f951dda-4ed3-4680-a7ca-43fe172d538d"}}`, 400, "PrincipalNotFound"},
		"compute of nothing": {"Microsoft.MachineLearningServices/workspaces/ml-prod/computes/one", `{"location": "westeurope", "properties": {"computeType": "AKS", "resourceId": "x"}}`, 400, "BadRequest"},
		"compute's name":     {"Microsoft.MachineLearningServices/workspaces/ml-prod/computes/1", `{"location": "westeurope", "properties": {"computeType": "AKS"}}`, 400, "BadArgument"},
	} {
		t.Run(name, func(t *testing.T) {
			status, answer := raw(t, s, http.MethodPut, s.ARMEndpoint()+below+test.rest+"?api-version=2024-01-01", test.body)
			if status != test.status || !strings.Contains(answer, `"`+test.code+`"`) {
				t.Errorf("HTTP %d: %s; want %d %s", status, answer, test.status, test.code)
			}
		})
	}
}
