package azure

import (
	"context"
	"fmt"

	"github.com/amlaks/amlaks/reconcile"
)

// observeWorkspace reads the workspace and finds out what the file left to it.
func (d *Driver) observeWorkspace(ctx context.Context) (reconcile.Live, registry, error) {
	w := d.stack.Workspace
	workspace, err := d.arm.get(ctx, WorkspaceID(d.stack), workspaceVersion)
	if err != nil {
		return reconcile.Live{}, registry{}, explain("read workspace "+w.Name, err)
	}
	if workspace == nil {
		return reconcile.Live{}, registry{}, &reconcile.Failure{
			Reason: reconcile.ReasonNotFound,
			Err:    fmt.Errorf("workspace %s is not in resource group %s of subscription %s", w.Name, w.ResourceGroup, w.SubscriptionID),
			Hint:   "check workspace in the file, and that the identity may read it; workspace.create makes one",
		}
	}
	found, err := d.registryOf(ctx, workspace)
	if err != nil {
		return reconcile.Live{}, registry{}, err
	}
	return reconcile.Live{Address: WorkspaceAddress(d.stack), Body: workspace, State: reconcile.Settled, Outputs: d.workspaceOutputs(workspace, found)}, found, nil
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
