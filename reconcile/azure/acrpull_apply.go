package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/amlaks/amlaks/reconcile"
)

// read implements part.
func (p *acrPull) read(ctx context.Context, d *Driver, step reconcile.Step) (*reconcile.Live, error) {
	at := registry{id: step.Inputs[inputRegistryID], server: step.Outputs[WorkspaceAddress(d.stack)][OutputRegistry]}
	if p.id != "" { // one that was seen
		found, err := d.arm.get(ctx, p.id, authorizationVersion)
		if err != nil || found == nil {
			return nil, explain("read "+p.id, err)
		}
		var cluster body
		if p.clusterID != "" {
			if cluster, err = d.arm.get(ctx, p.clusterID, aksVersion); err != nil {
				return nil, explain("read "+p.clusterID, err)
			}
		}
		l := d.pull(step.Change.Address, p, found, cluster, at)
		return &l, nil
	}
	if at.id == "" {
		return nil, nil
	}
	cluster, err := d.arm.get(ctx, p.clusterID, aksVersion)
	if err != nil {
		return nil, explain("read "+p.clusterID, err)
	}
	given, err := d.assignments(ctx, at.id)
	if err != nil {
		return nil, explain("list the role assignments of registry "+at.server, err)
	}
	return d.livePull(step.Change.Address, p, cluster, given, at), nil
}

// apply implements part. It ends when the assignment is among those of the registry; the
// registry itself may take some minutes longer to act on it, and of that nobody tells.
func (p *acrPull) apply(ctx context.Context, d *Driver, step reconcile.Step) (map[string]string, error) {
	if step.Change.Action == reconcile.Delete {
		err := d.arm.write(ctx, http.MethodDelete, p.id, authorizationVersion, nil, nil)
		if isStatus(err, http.StatusNotFound) {
			err = nil
		}
		return nil, explain("delete role assignment "+p.id, err)
	}
	scope := step.Inputs[inputRegistryID]
	if scope == "" {
		step.Progress("warning: the registry is not one of Azure's in this subscription: see to it that the nodes may pull")
		return nil, nil
	}
	cluster, err := d.settled(ctx, p.clusterID, step.Progress)
	switch {
	case err != nil:
		return nil, err
	case cluster == nil:
		return nil, gone(p.clusterID)
	case kubelet(cluster) == "":
		return nil, fmt.Errorf("cluster %s has no kubelet identity", p.clusterID)
	}
	principal := kubelet(cluster)
	if err := p.assign(ctx, d, step, scope, principal); err != nil {
		return nil, err
	}
	for {
		given, err := d.assignments(ctx, scope)
		if isStatus(err, http.StatusForbidden) {
			return nil, nil // one who may assign roles and not see them has done what there is to do
		}
		if err != nil {
			return nil, explain("list the role assignments of "+scope, err)
		}
		at := registry{id: scope}
		if l := d.livePull(step.Change.Address, p, cluster, given, at); l != nil {
			return l.Outputs, nil
		}
		step.Progress("waiting for the role assignment to be seen")
		if err := pause(ctx, d.settleEvery); err != nil {
			return nil, fmt.Errorf("wait for the role assignment on %s: %w", scope, err)
		}
	}
}

// assign gives the role. An identity that is seconds old is not known everywhere yet: then it
// is tried again.
func (p *acrPull) assign(ctx context.Context, d *Driver, step reconcile.Step, scope, principal string) error {
	id := scope + "/providers/Microsoft.Authorization/roleAssignments/" + assignmentName(scope, principal)
	content := body{"properties": body{
		"roleDefinitionId": "/subscriptions/" + subscriptionOf(scope) + "/providers/Microsoft.Authorization/roleDefinitions/" + acrPullRole,
		"principalId":      principal,
		// Without it Azure looks the principal up first, and does not find a new one.
		"principalType": "ServicePrincipal",
		"description":   d.describePull(p.cluster),
	}}
	until := time.Now().Add(d.principalFor)
	for {
		step.Progress("waiting for Azure to assign the role")
		err := d.arm.write(ctx, http.MethodPut, id, authorizationVersion, content, nil)
		switch {
		case err == nil, isCode(err, "RoleAssignmentExists"):
			return nil
		case isStatus(err, http.StatusForbidden):
			return &reconcile.Failure{
				Reason: reconcile.ReasonForbidden,
				Err:    fmt.Errorf("the identity may not assign roles on the registry: %w", bare(err)),
				Hint: fmt.Sprintf("an owner of it runs: az role assignment create --role AcrPull --assignee-object-id %s --assignee-principal-type ServicePrincipal --scope %s",
					principal, scope),
			}
		case isCode(err, "PrincipalNotFound") && time.Now().After(until):
			return &reconcile.Failure{
				Reason: reconcile.ReasonNotFound, Err: fmt.Errorf("assign AcrPull on %s: %w", scope, bare(err)),
				Hint: "is the cluster in a subscription of another tenant? then see to it that its nodes may pull, and set workspace.grantAcrPull: false",
			}
		case !isCode(err, "PrincipalNotFound"):
			return explain("assign AcrPull on "+scope, err)
		}
		step.Progress("waiting for Entra ID to know the cluster's identity")
		if err := pause(ctx, d.settleEvery); err != nil {
			return fmt.Errorf("assign AcrPull on %s: %w", scope, err)
		}
	}
}

// isCode tells whether Azure answered with one of these error codes.
func isCode(err error, codes ...string) bool {
	var response *azcore.ResponseError
	if !errors.As(err, &response) {
		return false
	}
	for _, code := range codes {
		if response.ErrorCode == code {
			return true
		}
	}
	return false
}

// bare is what Azure said, in one line, without a reason and a hint.
func bare(err error) error {
	var response *azcore.ResponseError
	if errors.As(err, &response) {
		return errors.New(sentence(response))
	}
	return err
}
