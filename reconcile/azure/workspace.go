package azure

import (
	"context"
	"fmt"
	"strings"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

// workspaceParts are what a workspace is made of, below its address.
const (
	partStorage  = "storageAccount"
	partVault    = "keyVault"
	partInsights = "applicationInsights"
	partRegistry = "containerRegistry"
)

// workspaceResources are the workspace, which is only read, or what workspace.create makes where
// there is none. Whatever there is then is used as it is, whoever made it, and nothing of it is
// ever changed or deleted: it holds models and data.
func (d *Driver) workspaceResources() []reconcile.Resource {
	s := d.stack
	address := WorkspaceAddress(s)
	if s.Workspace.Create == nil {
		return []reconcile.Resource{{Address: address, Driver: DriverName, Data: true}}
	}
	parts := d.workspaceParts()
	properties := body{"friendlyName": s.Workspace.Name, "v1LegacyMode": false}
	var dependsOn []reconcile.Address
	for _, r := range parts {
		m := r.Spec.(*made)
		properties[m.as] = m.id
		dependsOn = append(dependsOn, r.Address)
	}
	workspace := d.made(address, &made{what: "workspace", id: WorkspaceID(s), version: workspaceVersion}, body{
		"identity": body{"type": "SystemAssigned"}, "sku": body{"name": "Basic", "tier": "Basic"}, "properties": properties,
	})
	workspace.DependsOn = dependsOn
	return append(parts, workspace)
}

// workspaceParts are the resources that a new workspace refers to, each with the defaults of
// somebody who reads the portal's security advice.
func (d *Driver) workspaceParts() []reconcile.Resource {
	w := d.stack.Workspace
	var parts []reconcile.Resource
	add := func(as, what, kind, name, version string, content body) {
		if name == "" {
			return
		}
		m := &made{as: as, what: what, id: d.inGroup(kind + "/" + name), version: version}
		parts = append(parts, d.made(WorkspaceAddress(d.stack)+reconcile.Address("/"+as), m, content))
	}
	add(partStorage, "storage account", "Microsoft.Storage/storageAccounts", w.Create.StorageAccount, storageVersion, body{
		"kind": "StorageV2", "sku": body{"name": "Standard_LRS"},
		// The default datastore needs an account without a hierarchical namespace.
		"properties": body{"minimumTlsVersion": "TLS1_2", "supportsHttpsTrafficOnly": true, "allowBlobPublicAccess": false, "isHnsEnabled": false},
	})
	add(partVault, "key vault", "Microsoft.KeyVault/vaults", w.Create.KeyVault, vaultVersion, body{
		"properties": body{"sku": body{"family": "A", "name": "standard"}, "enableRbacAuthorization": true, "enableSoftDelete": true, "accessPolicies": []any{}},
	})
	// Azure makes it a Log Analytics workspace of its own (learn.microsoft.com, "Managed workspaces in
	// Application Insights").
	add(partInsights, "Application Insights component", "Microsoft.Insights/components", w.Create.ApplicationInsights, insightsVersion, body{
		"kind": "web", "properties": body{"Application_Type": "web"},
	})
	add(partRegistry, "container registry", "Microsoft.ContainerRegistry/registries", w.Create.ContainerRegistry, registryVersion, body{
		"sku": body{"name": "Standard"}, "properties": body{"adminUserEnabled": false},
	})
	return parts
}

// inGroup is the ID of a resource in the workspace's resource group.
func (d *Driver) inGroup(rest string) string {
	w := d.stack.Workspace
	return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/%s", w.SubscriptionID, w.ResourceGroup, rest)
}

// seenWorkspace is the workspace as it was observed.
type seenWorkspace struct {
	live     []reconcile.Live // with its parts
	there    bool
	location string
	registry registry
}

// observeWorkspace reads the workspace and finds out what the file left to it.
func (d *Driver) observeWorkspace(ctx context.Context) (seenWorkspace, error) {
	w := d.stack.Workspace
	workspace, err := d.arm.get(ctx, WorkspaceID(d.stack), workspaceVersion)
	switch {
	case err != nil:
		return seenWorkspace{}, explain("read workspace "+w.Name, err)
	case workspace == nil && w.Create != nil:
		return d.observeParts(ctx)
	case workspace == nil:
		return seenWorkspace{}, &reconcile.Failure{
			Reason: reconcile.ReasonNotFound,
			Err:    fmt.Errorf("workspace %s is not in resource group %s of subscription %s", w.Name, w.ResourceGroup, w.SubscriptionID),
			Hint:   "check workspace in the file, and that the identity may read it; workspace.create makes one",
		}
	}
	found, err := d.registryOf(ctx, workspace)
	if err != nil {
		return seenWorkspace{}, err
	}
	l := reconcile.Live{Address: WorkspaceAddress(d.stack), Body: workspace, State: reconcile.Settled, Outputs: d.workspaceOutputs(workspace, found)}
	seen := seenWorkspace{there: true, location: l.Outputs[OutputLocation], registry: found}
	if w.Create != nil {
		l.Predicted = workspace
		l.State, l.Status = d.madeState(workspace)
		seen.live = d.usedParts(workspace)
	}
	seen.live = append(seen.live, l)
	return seen, nil
}

func (d *Driver) workspaceOutputs(workspace body, found registry) map[string]string {
	outputs := map[string]string{OutputLocation: d.stack.Workspace.Location, OutputRegistry: found.server}
	if outputs[OutputLocation] == "" {
		outputs[OutputLocation] = text(workspace, "location")
	}
	if found.id != "" {
		outputs[OutputRegistryID] = found.id
	}
	return outputs
}

// observeParts looks, where there is no workspace yet, for what it is to be made of.
func (d *Driver) observeParts(ctx context.Context) (seenWorkspace, error) {
	w := d.stack.Workspace
	group := fmt.Sprintf("/subscriptions/%s/resourceGroups/%s", w.SubscriptionID, w.ResourceGroup)
	found, err := d.arm.get(ctx, group, groupVersion)
	if err != nil {
		return seenWorkspace{}, explain("read resource group "+w.ResourceGroup, err)
	}
	if found == nil {
		return seenWorkspace{}, &reconcile.Failure{
			Reason: reconcile.ReasonNotFound,
			Err:    fmt.Errorf("resource group %s is not in subscription %s", w.ResourceGroup, w.SubscriptionID),
			Hint:   fmt.Sprintf("amlaks makes a workspace, and not the group it is in: az group create --name %s --location %s", w.ResourceGroup, w.Location),
		}
	}
	seen := seenWorkspace{location: w.Location}
	for _, r := range d.workspaceParts() {
		m := r.Spec.(*made)
		part, err := d.arm.get(ctx, m.id, m.version)
		if err != nil {
			return seenWorkspace{}, m.explain("read", err)
		}
		if part != nil {
			seen.live = append(seen.live, d.liveMade(r.Address, m, part))
		}
	}
	if models := registered(d.stack); len(models) > 0 {
		seen.live = append(seen.live, reconcile.Live{Address: WorkspaceAddress(d.stack), Absent: true, Notes: []reconcile.Note{{
			Level:   reconcile.Warning,
			Message: "a new workspace has no models: " + strings.Join(models, ", ") + " must be registered in it before their services can be made",
			Hint:    "az ml model create, and apply again; or give the models as files, with path",
		}}})
	}
	return seen, nil
}

// usedParts takes for given what an existing workspace is made of, and says where the file
// has something else in mind.
func (d *Driver) usedParts(workspace body) []reconcile.Live {
	var live []reconcile.Live
	for _, r := range d.workspaceParts() {
		m := r.Spec.(*made)
		l := reconcile.Live{Address: r.Address, Body: body{}, Predicted: body{}, State: reconcile.Settled}
		if used := text(workspace, "properties", m.as); !strings.EqualFold(used, m.id) {
			l.Notes = []reconcile.Note{{
				Level:   reconcile.Warning,
				Message: fmt.Sprintf("the workspace exists, and its %s is %s: workspace.create.%s counts only when a workspace is made", m.what, orNone(used), m.as),
				Hint:    "make the file say what is there",
			}}
		}
		live = append(live, l)
	}
	return live
}

func orNone(id string) string {
	if id == "" {
		return "not set"
	}
	return id
}

// registered are the models that services take from the workspace, as NAME:VERSION.
func registered(s *spec.Stack) []string {
	var names []string
	seen := map[string]bool{}
	for _, service := range s.Services {
		for _, v := range service.ServedVersions() {
			for _, m := range v.Models {
				if name := m.Name + ":" + m.Version; m.Path == "" && !seen[name] {
					seen[name] = true
					names = append(names, name)
				}
			}
		}
	}
	return names
}
