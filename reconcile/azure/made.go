package azure

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/amlaks/amlaks/reconcile"
)

// made is a resource that is made where there is none, and never changed or deleted: the
// workspace of workspace.create, and what it is made of.
type made struct {
	as      string // its property of the workspace; empty: the workspace itself
	what    string // it is, for people
	id      string
	version string // of its API
}

// made renders one. content is all of its body but location and tags.
func (d *Driver) made(address reconcile.Address, m *made, content body) reconcile.Resource {
	desired := maps.Clone(content)
	desired["location"] = d.stack.Workspace.Location
	desired["tags"] = body{tagStack: d.stack.Name}
	return reconcile.Resource{
		Address: address, Driver: DriverName, Desired: desired, Retain: true,
		Adopt:   true, // what is there is used, whosever it is
		Summary: m.what + " " + m.id[strings.LastIndex(m.id, "/")+1:], Spec: m,
	}
}

// liveMade is one that is there. It is nobody's, so that no run ever takes it away.
func (d *Driver) liveMade(address reconcile.Address, m *made, found body) reconcile.Live {
	l := reconcile.Live{Address: address, Body: found, Predicted: found, Outputs: map[string]string{OutputID: m.id}}
	l.State, l.Status = d.madeState(found)
	return l
}

// madeState reads how one is doing. What somebody else failed to make, they mend.
func (d *Driver) madeState(found body) (reconcile.State, string) {
	how, status := state(text(found, "properties", "provisioningState"))
	if how == reconcile.Unhealthy && text(found, "tags", tagStack) != d.stack.Name {
		how = reconcile.Settled
	}
	return how, status
}

// read implements part.
func (m *made) read(ctx context.Context, d *Driver, step reconcile.Step) (*reconcile.Live, error) {
	found, err := d.arm.get(ctx, m.id, m.version)
	if err != nil || found == nil {
		return nil, m.explain("read", err)
	}
	l := d.liveMade(step.Change.Address, m, found)
	if m.as == "" {
		if l.Outputs, err = m.outputs(ctx, d, found); err != nil {
			return nil, err
		}
	}
	return &l, nil
}

// apply implements part: it makes what is not there, joins what is being made, and tries again
// what an earlier run of the stack failed to make.
func (m *made) apply(ctx context.Context, d *Driver, step reconcile.Step) (map[string]string, error) {
	live, err := d.settledOf(ctx, m.id, m.version, step.Progress)
	if err != nil {
		return nil, m.explain("read", err)
	}
	how, status := reconcile.Unhealthy, ""
	if live != nil {
		how, _ = d.madeState(live)
	}
	if how != reconcile.Settled {
		// These APIs take no If-None-Match, so what has been read right before is what counts.
		if err := m.put(ctx, d, step); err != nil {
			return nil, err
		}
		if live, err = m.readBack(ctx, d, step); err != nil {
			return nil, err
		}
		if how, status = d.madeState(live); how != reconcile.Settled {
			return nil, &reconcile.Failure{
				Reason: reconcile.ReasonOperationFailed, Err: fmt.Errorf("%s %s: %s", m.what, m.id, status),
				Hint: "the activity log of its resource group says why; run apply again once the cause is gone",
			}
		}
	}
	return m.outputs(ctx, d, live)
}

// put sends the creation and waits for its end.
func (m *made) put(ctx context.Context, d *Driver, step reconcile.Step) error {
	content := clone(step.Desired)
	if m.as == partVault {
		tenant, err := d.tenant(ctx)
		if err != nil {
			return err
		}
		content["properties"].(body)["tenantId"] = tenant
	}
	step.Progress("waiting for Azure to create it")
	return m.explain("create", d.arm.write(ctx, http.MethodPut, m.id, m.version, content, nil))
}

// readBack reads what was made: Azure may not show it at once.
func (m *made) readBack(ctx context.Context, d *Driver, step reconcile.Step) (body, error) {
	for try := 1; ; try++ {
		live, err := d.settledOf(ctx, m.id, m.version, step.Progress)
		if err != nil || live != nil {
			return live, m.explain("read", err)
		}
		if try == readBacks {
			return nil, gone(m.id)
		}
		if err := pause(ctx, d.settleEvery); err != nil {
			return nil, fmt.Errorf("wait for %s: %w", m.id, err)
		}
	}
}

func (m *made) outputs(ctx context.Context, d *Driver, live body) (map[string]string, error) {
	if m.as != "" {
		return map[string]string{OutputID: m.id}, nil
	}
	found, err := d.registryOf(ctx, live)
	if err != nil {
		return nil, err
	}
	return d.workspaceOutputs(live, found), nil
}

// tenant is the directory that the subscription trusts.
func (d *Driver) tenant(ctx context.Context) (string, error) {
	id := "/subscriptions/" + d.stack.Workspace.SubscriptionID
	subscription, err := d.arm.get(ctx, id, subscriptionsVersion)
	if err != nil {
		return "", explain("read subscription "+id, err)
	}
	tenant := text(subscription, "tenantId")
	if tenant == "" {
		return "", fmt.Errorf("%s shows no tenant", id)
	}
	return tenant, nil
}

// explain is explain with what the names and services of these resources need.
func (m *made) explain(doing string, err error) error {
	if err == nil || reconcile.ReasonOf(err) != "" {
		return err
	}
	doing = fmt.Sprintf("%s %s %s", doing, m.what, m.id)
	var response *azcore.ResponseError
	if !errors.As(err, &response) {
		return explain(doing, err)
	}
	failure := &reconcile.Failure{Reason: reconcile.ReasonConflict, Err: fmt.Errorf("%s: %s", doing, sentence(response))}
	name := m.id[strings.LastIndex(m.id, "/")+1:]
	provider := strings.Split(m.id, "/")[6]
	switch said := failure.Err.Error(); {
	case response.ErrorCode == "MissingSubscriptionRegistration":
		failure.Hint = "the subscription has never used this service: az provider register --namespace " + provider
	case response.ErrorCode == "ResourceGroupNotFound":
		failure.Reason, failure.Hint = reconcile.ReasonNotFound, "az group create makes the resource group"
	case m.as == partVault && strings.Contains(said, "deleted state"):
		failure.Hint = fmt.Sprintf("a deleted vault keeps its name: az keyvault recover --name %s (or purge), or take another name", name)
	case m.as == "" && strings.Contains(said, "Soft-deleted workspace"):
		failure.Hint = "a deleted workspace keeps its name for 14 days: recover or purge it in the portal (https://aka.ms/wsoftdelete)"
	case isCode(err, "StorageAccountAlreadyTaken", "VaultAlreadyExists", "AlreadyInUse"):
		failure.Hint = fmt.Sprintf("names of a %s are unique in all of Azure, and somebody has this one: take another in workspace.create", m.what)
	case response.StatusCode == http.StatusForbidden:
		failure.Reason, failure.Hint = reconcile.ReasonForbidden, "the identity needs Contributor on the resource group to make a workspace"
	default:
		return explain(doing, err)
	}
	return failure
}
