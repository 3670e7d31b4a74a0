package main

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// role is a custom role of Azure, as `az role definition create --role-definition` reads it.
type role struct {
	Name             string   `json:"Name"`
	IsCustom         bool     `json:"IsCustom"`
	Description      string   `json:"Description"`
	Actions          []string `json:"Actions"`
	NotActions       []string `json:"NotActions"`
	DataActions      []string `json:"DataActions"`
	NotDataActions   []string `json:"NotDataActions"`
	AssignableScopes []string `json:"AssignableScopes"`
}

// rights are what requests need: actions of Resource Manager and of the services behind it.
type rights struct{ actions, data map[string]bool }

func newRights() rights { return rights{map[string]bool{}, map[string]bool{}} }

// linked are actions that Azure checks for what a body refers to: no request of its own
// shows them (https://learn.microsoft.com/azure/aks/concepts-identity).
var linked = []string{
	"Microsoft.ManagedIdentity/userAssignedIdentities/assign/action", // identity.userAssigned
	"Microsoft.Network/virtualNetworks/subnets/join/action",          // vnet
}

// add notes what a request needs.
func (r rights) add(request sandbox.Request) {
	read := request.Method == "GET" || request.Method == "HEAD"
	switch request.Service {
	case "arm":
		if action := actionOf(request.Method, request.Path); action != "" {
			r.actions[action] = true
		}
	case "registry":
		if request.Path == "/v2/" { // whether it answers
			return
		}
		r.actions["Microsoft.ContainerRegistry/registries/pull/read"] = true
		if !read {
			r.actions["Microsoft.ContainerRegistry/registries/push/write"] = true
		}
	case "blob":
		r.data["Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read"] = true
	case "vault":
		r.data["Microsoft.KeyVault/vaults/secrets/getSecret/action"] = true
	}
}

// actionOf is the action of Resource Manager that a request is checked against: the types on
// its path, and a verb (https://learn.microsoft.com/azure/role-based-access-control/role-definitions).
func actionOf(method, path string) string {
	segments := strings.Split(strings.Trim(path, "/"), "/")
	if segments[0] != "subscriptions" {
		return "" // retail prices, which are public
	}
	kind, rest := "Microsoft.Resources", segments
	for i, segment := range segments {
		if segment == "providers" && i+2 < len(segments) {
			kind, rest = segments[i+1], segments[i+2:]
		}
	}
	for i, segment := range rest {
		if i%2 == 0 {
			kind += "/" + segment
		}
	}
	switch method {
	case "GET", "HEAD":
		return kind + "/read"
	case "PUT", "PATCH":
		return kind + "/write"
	case "DELETE":
		return kind + "/delete"
	}
	return kind + "/action"
}

func TestActionOf(t *testing.T) {
	const group = "/subscriptions/s/resourceGroups/g/providers/"
	for request, want := range map[string]string{
		"GET /subscriptions": "Microsoft.Resources/subscriptions/read",
		"GET /subscriptions/s/providers/Microsoft.ContainerService/managedClusters":                        "Microsoft.ContainerService/managedClusters/read",
		"PUT " + group + "Microsoft.ContainerService/managedClusters/prod/agentPools/gpu":                  "Microsoft.ContainerService/managedClusters/agentPools/write",
		"PATCH " + group + "Microsoft.ContainerService/managedClusters/prod":                               "Microsoft.ContainerService/managedClusters/write",
		"POST " + group + "Microsoft.ContainerService/managedClusters/p/listClusterAdminCredential":        "Microsoft.ContainerService/managedClusters/listClusterAdminCredential/action",
		"DELETE " + group + "Microsoft.R/registries/r/providers/Microsoft.Authorization/roleAssignments/1": "Microsoft.Authorization/roleAssignments/delete",
		"GET /subscriptions/s/providers/Microsoft.ContainerService/locations/x/operations/1":               "Microsoft.ContainerService/locations/operations/read",
		"GET /api/retail/prices": "",
	} {
		method, path, _ := strings.Cut(request, " ")
		if got := actionOf(method, path); got != want {
			t.Errorf("%s: %s, want %s", request, got, want)
		}
	}
}

// The roles in examples/roles hold what the command asks for in a whole life, and nothing
// else: what the verbs that only read ask for, and what the others do. UPDATE_GOLDEN=1 writes
// them anew.
func TestRoles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	reads, writes := newRights(), newRights()
	note := func(into rights) {
		for _, request := range w.Requests("all") {
			into.add(request)
		}
		w.ClearRequests()
	}
	// A version is held against those that AKS has.
	w.write("amlaks.yaml", strings.Replace(stackFirst, "purpose: DevTest", "purpose: DevTest\n    kubernetesVersion: \"1.36\"", 1))
	w.must(exitOK, "plan")
	note(reads)
	for _, l := range lives() {
		if l.begin != nil {
			l.begin(t, w)
			w.ClearRequests()
		}
		for _, s := range l.stages {
			w.write("amlaks.yaml", s.file)
			w.must(exitOK, "plan")
			note(reads)
			args := slices.Clone(s.args)
			for i, arg := range args {
				args[i] = strings.ReplaceAll(arg, "STACK", w.stack)
			}
			w.must(exitOK, args...)
			note(writes)
		}
	}
	for _, action := range linked {
		writes.actions[action] = true
	}
	more := workspaceRights(t)
	maps.Copy(writes.actions, reads.actions)
	maps.Copy(writes.data, reads.data)
	wantRole(t, "plan", "Lets amlaks read: plan, diff, status, models, logs. It holds the clusters' admin credentials, which plans need to see what runs in them.", reads)
	wantRole(t, "apply", "Lets amlaks make what a file declares: apply, destroy, daemon.", writes)
	maps.DeleteFunc(more.actions, func(action string, _ bool) bool { return writes.actions[action] })
	wantRole(t, "workspace", "Lets amlaks, beside what the role apply lets it do, make a workspace (workspace.create) and register clusters in it (attachToWorkspace).", more)
}

// newWorkspace is a stack that makes its workspace, with a cluster that is registered there.
const newWorkspace = `apiVersion: amlaks.io/v1
name: STACK
workspace:
  subscriptionId: 00000000-0000-0000-0000-000000000000
  resourceGroup: ml-prod
  name: ml-prod
  location: westeurope
  create: {storageAccount: mlprodstorage, keyVault: ml-prod, applicationInsights: ml-prod, containerRegistry: mlprod}
clusters:
  - {name: prod, purpose: DevTest, agentCount: 1, protect: false, attachToWorkspace: true, frontEnd: {port: 8080}}
`

// workspaceRights are what it takes to begin with an empty resource group.
func workspaceRights(t *testing.T) rights {
	t.Helper()
	w := newWorld(t, func(o *sandbox.Options) { o.NoWorkspace = true })
	all := newRights()
	w.write("amlaks.yaml", newWorkspace)
	w.must(exitOK, "plan")
	w.must(exitOK, "apply", "--yes")
	w.must(exitOK, "destroy", "--yes", w.stack)
	for _, request := range w.Requests("all") {
		all.add(request)
	}
	return all
}

func wantRole(t *testing.T, verb, description string, r rights) {
	t.Helper()
	got, err := json.MarshalIndent(role{
		Name: "amlaks " + verb, IsCustom: true, Description: description,
		Actions: slices.Sorted(maps.Keys(r.actions)), NotActions: []string{},
		DataActions: append([]string{}, slices.Sorted(maps.Keys(r.data))...), NotDataActions: []string{},
		AssignableScopes: []string{"/subscriptions/00000000-0000-0000-0000-000000000000"},
	}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	golden(t, filepath.Join("..", "..", "examples", "roles", verb+".json"), got)
}
