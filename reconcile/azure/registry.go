package azure

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/amlaks/amlaks/reconcile"
)

// OutputRegistryID is an output of the workspace: the resource ID of the registry that images
// are in. There is none if that is not one of Azure's, or not in the stack's subscription.
const OutputRegistryID = "registryId"

// registry is where scoring images are.
type registry struct {
	server string // host, or host:port
	id     string // resource ID; empty: it is not known
	// unseen says why the ID is not known, as the end of a sentence; empty: there is none yet.
	unseen string
}

// registryOf finds the registry: the file's, or the workspace's own.
func (d *Driver) registryOf(ctx context.Context, workspace body) (registry, error) {
	if named := d.stack.Workspace.Registry; named != "" {
		return d.namedRegistry(ctx, named)
	}
	missing := &reconcile.Failure{
		Reason: reconcile.ReasonNotFound,
		Err:    fmt.Errorf("workspace %s has no container registry of its own", d.stack.Workspace.Name),
		Hint:   "name one in workspace.registry",
	}
	id := text(workspace, "properties", "containerRegistry")
	if id == "" {
		return registry{}, missing
	}
	found, err := d.arm.get(ctx, id, registryVersion)
	if err != nil {
		return registry{}, explain("read registry "+id, err)
	}
	if server := text(found, "properties", "loginServer"); server != "" {
		return registry{server: server, id: id}, nil
	}
	return registry{}, missing
}

// namedRegistry looks for the registry that the file names among those of the subscription: it
// takes its resource ID to see who may pull from it.
func (d *Driver) namedRegistry(ctx context.Context, server string) (registry, error) {
	if !d.grantsPulls() {
		return registry{server: server}, nil
	}
	subscription := d.stack.Workspace.SubscriptionID
	all, err := d.arm.list(ctx, "/subscriptions/"+subscription+"/providers/Microsoft.ContainerRegistry/registries", registryVersion)
	if isStatus(err, http.StatusForbidden) {
		return registry{server: server, unseen: "the identity may not list the registries of subscription " + subscription}, nil
	}
	if err != nil {
		return registry{}, explain("list container registries", err)
	}
	for _, found := range all {
		if strings.EqualFold(text(found, "properties", "loginServer"), server) {
			return registry{server: server, id: text(found, "id")}, nil
		}
	}
	return registry{server: server, unseen: "it is not an Azure container registry of subscription " + subscription}, nil
}
