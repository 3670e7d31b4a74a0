package azure_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	ml "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/machinelearning/armmachinelearning/v4"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

const (
	createKeys  = "location: westeurope, create: {storageAccount: mlnewstore, keyVault: ml-new-vault, applicationInsights: ml-new-insights, containerRegistry: mlnew}"
	workspaceAt = reconcile.Address("workspace/ml-prod")
)

// making is a stack whose workspace is made, with one cluster.
func making() string { return inWorkspace(createKeys, oneCluster) }

func noWorkspace(o *sandbox.Options) { o.NoWorkspace = true }

func provider(rest string) string { return group + "/providers/" + rest }

var partIDs = map[string]string{
	"storageAccount":      provider("Microsoft.Storage/storageAccounts/mlnewstore"),
	"keyVault":            provider("Microsoft.KeyVault/vaults/ml-new-vault"),
	"applicationInsights": provider("Microsoft.Insights/components/ml-new-insights"),
	"containerRegistry":   provider("Microsoft.ContainerRegistry/registries/mlnew"),
}

var madeWorkspaceID = provider("Microsoft.MachineLearningServices/workspaces/ml-prod")

func creations(parts ...string) map[reconcile.Address]reconcile.Action {
	out := map[reconcile.Address]reconcile.Action{
		workspaceAt: reconcile.Create, "cluster/prod": reconcile.Create, "cluster/prod/pool/agents": reconcile.Create, pullAddress: reconcile.Create,
	}
	for _, part := range parts {
		out[workspaceAt+"/"+reconcile.Address(part)] = reconcile.Create
	}
	return out
}

var allParts = []string{"storageAccount", "keyVault", "applicationInsights", "containerRegistry"}

// sentTo is the body of the one write to a resource.
func (w *world) sentTo(id string) map[string]any {
	w.t.Helper()
	var found map[string]any
	for _, r := range w.writes() {
		if !strings.EqualFold(r.Path, id) {
			continue
		}
		if found != nil {
			w.t.Errorf("%s was written more than once", id)
		}
		if err := json.Unmarshal([]byte(r.Body), &found); err != nil {
			w.t.Errorf("%s: %v", r.Body, err)
		}
	}
	return found
}

// From an empty resource group to a cluster that pulls from the workspace's own registry, in one
// run; and then there is nothing to do, and nothing to take away.
func TestCreateWorkspace(t *testing.T) {
	t.Parallel()
	w := start(t, noWorkspace)
	s := w.plan(making(), reconcile.Options{})
	s.wantActions(creations(allParts...))
	result := s.apply(t.Context())
	wantDone(t, result)
	outputs := result.Outputs[workspaceAt]
	want := map[string]string{azure.OutputLocation: "westeurope", azure.OutputRegistry: w.Registry(), azure.OutputRegistryID: partIDs["containerRegistry"]}
	if diff := cmp.Diff(want, outputs); diff != "" {
		t.Errorf("outputs of the workspace (-want +got):\n%s", diff)
	}
	for part, want := range map[string]map[string]any{
		"storageAccount": {
			"kind": "StorageV2", "sku": map[string]any{"name": "Standard_LRS"},
			"properties": map[string]any{"minimumTlsVersion": "TLS1_2", "allowBlobPublicAccess": false, "supportsHttpsTrafficOnly": true, "isHnsEnabled": false},
		},
		"keyVault": {"properties": map[string]any{
			"enableRbacAuthorization": true, "enableSoftDelete": true, "tenantId": "22222222-2222-2222-2222-222222222222",
			"sku": map[string]any{"family": "A", "name": "standard"}, "accessPolicies": []any{},
		}},
		"applicationInsights": {"kind": "web", "properties": map[string]any{"Application_Type": "web"}},
		"containerRegistry":   {"sku": map[string]any{"name": "Standard"}, "properties": map[string]any{"adminUserEnabled": false}},
	} {
		want["location"], want["tags"] = "westeurope", map[string]any{"amlaks-stack": "churn"}
		if diff := cmp.Diff(want, w.sentTo(partIDs[part])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", part, diff)
		}
	}
	var order []string
	for _, r := range w.writes() {
		order = append(order, strings.ToLower(r.Path))
		if strings.HasSuffix(r.Path, "workspaces/ml-prod") {
			var sent ml.Workspace
			understood(t, r.Body, &sent)
			if *sent.Properties.KeyVault != partIDs["keyVault"] || *sent.Identity.Type != ml.ManagedServiceIdentityTypeSystemAssigned || *sent.Tags["amlaks-stack"] != "churn" {
				t.Errorf("workspace: %s", r.Body)
			}
		}
	}
	at := slices.Index(order, strings.ToLower(madeWorkspaceID))
	for part, id := range partIDs {
		if i := slices.Index(order, strings.ToLower(id)); i < 0 || i > at {
			t.Errorf("%s is made at %d, the workspace at %d", part, i, at)
		}
	}
	if got := w.get(partIDs["containerRegistry"]+roles+"/"+assignedName(order), "properties", "principalId"); got != w.kubelet("prod") {
		t.Errorf("the role on the new registry is %v's", got)
	}
	w.wantSteady(making(), reconcile.Options{Prune: true})
	w.converge(making(), reconcile.Options{Destroy: true})
	if w.get(madeWorkspaceID, "id") == nil || w.get(partIDs["keyVault"], "id") == nil || w.get(clusterID("prod"), "id") != nil {
		t.Error("destroy takes the clusters, and never the workspace")
	}
	w.converge(making(), reconcile.Options{})
	// Without create in the file it is a workspace like any other.
	w.wantSteady(pulling(oneCluster), reconcile.Options{Prune: true})
}

// assignedName is the name of the one role assignment among paths.
func assignedName(paths []string) string {
	for _, path := range paths {
		if i := strings.LastIndex(path, "/roleassignments/"); i >= 0 {
			return path[i+len("/roleassignments/"):]
		}
	}
	return ""
}

// What is there already is used and not written, whosever it is.
func TestCreateWorkspaceOfWhatIsThere(t *testing.T) {
	t.Parallel()
	w := start(t, noWorkspace)
	content := `{"location": "northeurope", "kind": "StorageV2", "sku": {"name": "Standard_GRS"}, "tags": {"amlaks-stack": "fraud"}, "properties": {"allowBlobPublicAccess": true}}`
	w.make(partIDs["storageAccount"], content)
	s := w.plan(making(), reconcile.Options{})
	s.wantActions(creations("keyVault", "applicationInsights", "containerRegistry"))
	w.ClearRequests()
	wantDone(t, s.apply(t.Context()))
	if sent := w.sentTo(partIDs["storageAccount"]); sent != nil {
		t.Errorf("the account was written: %v", sent)
	}
	if got := w.get(madeWorkspaceID, "properties", "storageAccount"); got != partIDs["storageAccount"] {
		t.Errorf("the workspace's account is %v", got)
	}
	w.wantSteady(making(), reconcile.Options{})
}

// make puts a resource as somebody would by hand, and waits for it.
func (w *world) make(id, content string) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPut, w.ARMEndpoint()+id+"?api-version=2024-01-01", strings.NewReader(content))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.Token())
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode >= http.StatusBadRequest {
		w.t.Fatalf("PUT %s: HTTP %d", id, response.StatusCode)
	}
	w.until(func() bool { return w.get(id, "properties", "provisioningState") == "Succeeded" })
}

// A workspace that exists is used as it is: nothing beside it is made, and a file that means
// something else is told so.
func TestCreateBesideAWorkspace(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.plan(inWorkspace(createKeys, oneCluster), reconcile.Options{})
	s.wantActions(map[reconcile.Address]reconcile.Action{
		"cluster/prod": reconcile.Create, "cluster/prod/pool/agents": reconcile.Create, pullAddress: reconcile.Create,
	})
	var noted []reconcile.Address
	for _, n := range s.plan.Notes {
		noted = append(noted, n.Address)
	}
	if want := []reconcile.Address{workspaceAt + "/applicationInsights", workspaceAt + "/containerRegistry", workspaceAt + "/keyVault", workspaceAt + "/storageAccount"}; !slices.Equal(noted, want) {
		t.Errorf("notes on %v, want %v", noted, want)
	}
	matching := strings.NewReplacer("mlnewstore", "mlprodstorage", "ml-new-vault", "ml-prod", "applicationInsights: ml-new-insights, ", "", "mlnew", "mlprod").Replace(createKeys)
	s = w.plan(inWorkspace(matching, oneCluster), reconcile.Options{})
	if len(s.plan.Notes) > 0 {
		t.Errorf("notes %v", s.plan.Notes)
	}
}

// Every refusal of Azure says what to do about it; what depends on it waits, what is apart goes on.
func TestCreateWorkspaceRefused(t *testing.T) {
	t.Parallel()
	elsewhere := func(id string) string { return strings.Replace(id, "/ml-prod/", "/theirs/", 1) }
	vault := `{"location": "westeurope", "properties": {"tenantId": "22222222-2222-2222-2222-222222222222", "sku": {"family": "A", "name": "standard"}, "accessPolicies": []}}`
	for name, test := range map[string]struct {
		before func(w *world)
		fault  sandbox.Fault
		failed string
		reason reconcile.Reason
		hint   string
	}{
		"account taken": {func(w *world) {
			w.make(elsewhere(partIDs["storageAccount"]), `{"location": "westeurope", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}}`)
		}, sandbox.Fault{}, "/storageAccount", reconcile.ReasonConflict, "unique in all of Azure"},
		"vault taken": {func(w *world) { w.make(elsewhere(partIDs["keyVault"]), vault) }, sandbox.Fault{}, "/keyVault", reconcile.ReasonConflict, "unique in all of Azure"},
		"vault deleted": {func(w *world) {
			w.make(partIDs["keyVault"], vault)
			w.send(http.MethodDelete, partIDs["keyVault"], "")
		}, sandbox.Fault{}, "/keyVault", reconcile.ReasonConflict, "az keyvault recover --name ml-new-vault"},
		"registry taken": {func(w *world) {
			w.make(elsewhere(partIDs["containerRegistry"]), `{"location": "westeurope", "sku": {"name": "Basic"}}`)
		}, sandbox.Fault{}, "/containerRegistry", reconcile.ReasonConflict, "unique in all of Azure"},
		"forbidden":      {nil, sandbox.Fault{Path: "components/", Status: 403}, "/applicationInsights", reconcile.ReasonForbidden, "Contributor on the resource group"},
		"not registered": {nil, sandbox.Fault{Path: "vaults/", Status: 409, Code: "MissingSubscriptionRegistration"}, "/keyVault", reconcile.ReasonConflict, "az provider register --namespace Microsoft.KeyVault"},
		"group gone":     {nil, sandbox.Fault{Path: "registries/mlnew$", Status: 404, Code: "ResourceGroupNotFound"}, "/containerRegistry", reconcile.ReasonNotFound, "az group create"},
		"creation fails": {nil, sandbox.Fault{Path: "workspaces/ml-prod$", Operation: "failed"}, "", reconcile.ReasonOperationFailed, "run apply again"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, noWorkspace)
			if test.before != nil {
				test.before(w)
			}
			s := w.plan(making(), reconcile.Options{})
			if test.fault.Path != "" {
				test.fault.Method = http.MethodPut
				w.fault(test.fault)
			}
			result := s.apply(t.Context())
			failed := workspaceAt + reconcile.Address(test.failed)
			wantFailure(t, result, failed, reconcile.Failed, test.reason)
			if hint := reconcile.HintOf(outcome(t, result, failed).Err); !strings.Contains(hint, test.hint) {
				t.Errorf("hint %q, want %q", hint, test.hint)
			}
			for _, part := range allParts {
				if address := workspaceAt + "/" + reconcile.Address(part); address != failed && outcome(t, result, address).Phase != reconcile.Done {
					t.Errorf("%s: %v", address, outcome(t, result, address))
				}
			}
			wantFailure(t, result, "cluster/prod", reconcile.Skipped, reconcile.ReasonDependencyFailed)
			if test.before == nil { // it was for once: the next run does it
				w.converge(making(), reconcile.Options{})
				w.wantSteady(making(), reconcile.Options{})
			}
		})
	}
}

// The group that a workspace is to be made in must be there.
func TestCreateWorkspaceInNoGroup(t *testing.T) {
	t.Parallel()
	w := start(t, noWorkspace)
	w.fault(sandbox.Fault{Method: "GET", Path: "resourcegroups/ml-prod$", Status: 404, Code: "ResourceGroupNotFound"})
	_, err := w.open(w.connect(true), making(), reconcile.Options{})
	if reconcile.ReasonOf(err) != reconcile.ReasonNotFound || !strings.Contains(reconcile.HintOf(err), "az group create --name ml-prod --location westeurope") {
		t.Errorf("%v, hint %q", err, reconcile.HintOf(err))
	}
}

// An answer that is lost, and an operation that goes on without us, are met again.
func TestCreateWorkspaceIsJoined(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"storageAccounts/", "vaults/", "components/", "registries/mlnew$", "workspaces/ml-prod$"} {
		for _, fault := range []sandbox.Fault{{Reset: "after"}, {Reset: "before"}, {Operation: "failed"}} {
			t.Run(path+fault.String(), func(t *testing.T) {
				t.Parallel()
				if fault.Operation != "" && path == "components/" {
					t.Skip("it is there at once: there is no operation that could fail")
				}
				w := start(t, noWorkspace)
				fault.Method, fault.Path = http.MethodPut, path
				w.fault(fault)
				w.plan(making(), reconcile.Options{}).apply(t.Context())
				w.converge(making(), reconcile.Options{})
				w.wantSteady(making(), reconcile.Options{Prune: true})
			})
		}
	}
}

// A plan that finds what is being made waits for it, and makes nothing twice.
func TestCreateWorkspaceBegunBefore(t *testing.T) {
	t.Parallel()
	w := start(t, noWorkspace)
	w.fault(sandbox.Fault{Method: http.MethodPut, Path: "registries/mlnew$", Operation: "never"})
	w.make(partIDs["storageAccount"], `{"location": "westeurope", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}, "tags": {"amlaks-stack": "churn"}}`)
	w.send(http.MethodPut, partIDs["containerRegistry"], `{"location": "westeurope", "sku": {"name": "Standard"}, "tags": {"amlaks-stack": "churn"}}`)
	s := w.plan(making(), reconcile.Options{})
	want := creations("keyVault", "applicationInsights")
	want[workspaceAt+"/containerRegistry"] = reconcile.Wait
	s.wantActions(want)
	w.ClearRequests()
	s.each = func(e reconcile.Event) {
		if e.Address == workspaceAt+"/containerRegistry" && e.Phase == reconcile.Progress {
			w.ClearFaults()
		}
	}
	wantDone(t, s.apply(t.Context()))
	if sent := w.sentTo(partIDs["containerRegistry"]); sent != nil {
		t.Errorf("the registry was made twice: %v", sent)
	}
	w.wantSteady(making(), reconcile.Options{})
}

// Models that only a workspace can have are missed before anything is made.
func TestCreateWorkspaceForRegisteredModels(t *testing.T) {
	t.Parallel()
	w := start(t, noWorkspace)
	stack := making() + "\nservices:\n- {name: churn, cluster: prod, models: [churn:3], inference: {baseImage: scratch, command: [a]}}"
	s := w.plan(stack, reconcile.Options{})
	if notes := s.plan.Notes; len(notes) != 1 || notes[0].Address != workspaceAt || !strings.Contains(notes[0].Message, "churn:3") {
		t.Errorf("notes %v", notes)
	}
}
