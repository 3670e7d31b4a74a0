package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	ml "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/machinelearning/armmachinelearning/v4"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

// compute is a cluster's entry in the workspace: v1's compute of type AKS. There may be some
// tool that looks for it; scoring does without. One that is there is never written over: its
// PUT replaces it, it has no ETag, and nothing brings the former back (the SDK's comment on
// ComputeClient.BeginCreateOrUpdate). It is always detached, never deleted, which would take
// the cluster too.
type compute struct {
	id        string
	clusterID string
}

// ComputeAddress is the address of a cluster's entry in the workspace.
func ComputeAddress(cluster string) reconcile.Address { return ClusterAddress(cluster) + "/compute" }

// computes renders the entries of the clusters that want one.
func (d *Driver) computes() ([]reconcile.Resource, error) {
	var resources []reconcile.Resource
	workspace := WorkspaceAddress(d.stack)
	for _, c := range d.stack.Clusters {
		if !c.AttachToWorkspace {
			continue
		}
		p := &compute{id: d.computeID(c.Name), clusterID: d.clusterID(d.stack.Workspace.ResourceGroup, c.Name)}
		if c.Attach != nil {
			p.clusterID = d.attachedID(c.Attach)
		}
		shape := &ml.AKSSchemaProperties{ClusterPurpose: to.Ptr(ml.ClusterPurpose(c.Purpose)), LoadBalancerType: to.Ptr(ml.LoadBalancerType(c.LoadBalancerType))}
		if c.LoadBalancerType == spec.InternalLoadBalancer {
			shape.LoadBalancerSubnet = to.Ptr(c.LoadBalancerSubnet)
		}
		desired, err := asBody(ml.ComputeResource{
			Tags:       map[string]*string{tagStack: to.Ptr(d.stack.Name)},
			Properties: &ml.AKS{ComputeType: to.Ptr(ml.ComputeTypeAKS), ResourceID: to.Ptr(p.clusterID), Properties: shape},
		})
		if err != nil {
			return nil, err
		}
		desired["location"] = reconcile.Ref{Address: workspace, Output: OutputLocation}
		resources = append(resources, reconcile.Resource{
			Address: ComputeAddress(c.Name), Driver: DriverName, DependsOn: []reconcile.Address{ClusterAddress(c.Name), workspace},
			Desired: desired, Compare: computeCompare, Spec: p, Optional: true,
			Adopt:   true, // one that v1 has made will do
			Summary: "its entry in the workspace, for tools of v1",
		})
	}
	return resources, nil
}

var computeCompare = map[string]reconcile.Comparator{
	"location":                               reconcile.CreateOnly,
	"tags.amlaks-stack":                      reconcile.CreateOnly,
	"properties.resourceId":                  reconcile.Fold,
	"properties.computeType":                 reconcile.Fold,
	"properties.properties.clusterPurpose":   reconcile.Fold,
	"properties.properties.loadBalancerType": reconcile.Default(string(ml.LoadBalancerTypePublicIP)),
}

func (d *Driver) computeID(name string) string { return WorkspaceID(d.stack) + "/computes/" + name }

// observeComputes finds the entries of the declared clusters, and those that the stack has made
// for others: one list.
func (d *Driver) observeComputes(ctx context.Context, declared []reconcile.Resource, workspace seenWorkspace) ([]reconcile.Live, error) {
	wanted := map[string]*reconcile.Resource{} // by ID
	for i := range declared {
		if p, ok := declared[i].Spec.(*compute); ok {
			wanted[strings.ToLower(p.id)] = &declared[i]
		}
	}
	if !workspace.there {
		return nil, nil
	}
	all, err := d.arm.list(ctx, WorkspaceID(d.stack)+"/computes", workspaceVersion)
	if isStatus(err, http.StatusForbidden) && len(wanted) == 0 {
		return nil, nil // the file asks for none, and one who may not look has made none
	}
	if err != nil {
		return nil, explain("list the computes of workspace "+d.stack.Workspace.Name, err)
	}
	var live []reconcile.Live
	for _, found := range all {
		id := text(found, "id")
		p := &compute{id: id, clusterID: text(found, "properties", "resourceId")}
		r := wanted[strings.ToLower(id)]
		switch {
		case r != nil:
			live = append(live, d.liveCompute(r.Address, p, found, r))
		case text(found, "tags", tagStack) == d.stack.Name:
			live = append(live, d.liveCompute(ComputeAddress(text(found, "name")), p, found, nil))
		}
	}
	return live, nil
}

// liveCompute is one that is there. It is as it is: what the file would have otherwise is said.
func (d *Driver) liveCompute(address reconcile.Address, p *compute, found body, declared *reconcile.Resource) reconcile.Live {
	l := reconcile.Live{
		Address: address, Body: found, Predicted: found, Handle: p, Attached: true,
		DependsOn: []reconcile.Address{reconcile.Address(strings.TrimSuffix(string(address), "/compute"))},
	}
	if text(found, "tags", tagStack) == d.stack.Name {
		l.Owner = d.stack.Name
	}
	l.State, l.Status = d.madeState(found)
	if declared == nil {
		return l
	}
	name := text(found, "name")
	own := declared.Spec.(*compute)
	if kind, of := text(found, "properties", "computeType"), text(found, "properties", "resourceId"); !strings.EqualFold(kind, string(ml.ComputeTypeAKS)) || of != "" && !strings.EqualFold(of, own.clusterID) {
		l.Refused = &reconcile.Failure{
			Reason: reconcile.ReasonImmutable,
			Err: fmt.Errorf("the workspace has another compute of that name, of type %s (%s), and none is written over: az ml compute detach --name %s, or give the cluster another name",
				kind, orNone(of), name),
		}
		return l
	}
	desired := clone(declared.Desired)
	delete(desired, "location")
	for _, diff := range reconcile.Differences(desired, found, computeCompare) {
		if diff.Before == nil {
			continue // the service shows it to nobody
		}
		l.Notes = append(l.Notes, reconcile.Note{
			Level:   reconcile.Warning,
			Message: fmt.Sprintf("the workspace has it with %s %v, not %v, and a compute is never written over", diff.Path, diff.Before, diff.After),
			Hint:    "scoring goes by the file; to have it here too, apply with attachToWorkspace: false and --prune, and then with true",
		})
	}
	return l
}

// read implements part.
func (p *compute) read(ctx context.Context, d *Driver, step reconcile.Step) (*reconcile.Live, error) {
	found, err := d.arm.get(ctx, p.id, workspaceVersion)
	if err != nil || found == nil {
		return nil, explain("read "+p.id, err)
	}
	l := d.liveCompute(step.Change.Address, p, found, step.Resource)
	return &l, nil
}

// apply implements part.
func (p *compute) apply(ctx context.Context, d *Driver, step reconcile.Step) (map[string]string, error) {
	if step.Change.Action == reconcile.Detach {
		return nil, p.detach(ctx, d, step)
	}
	live, err := d.settledOf(ctx, p.id, workspaceVersion, step.Progress)
	if err != nil {
		return nil, err
	}
	if live != nil {
		seen := d.liveCompute(step.Change.Address, p, live, step.Resource)
		switch {
		case seen.Refused != nil:
			return nil, seen.Refused
		case seen.State != reconcile.Unhealthy:
			return nil, nil
		}
		if err := p.detach(ctx, d, step); err != nil { // the stack's own, which was never finished
			return nil, err
		}
	}
	step.Progress("waiting for Azure ML to take it in")
	if err := d.arm.write(ctx, http.MethodPut, p.id, workspaceVersion, step.Desired, nil); err != nil {
		return nil, p.refused(err)
	}
	if live, err = d.settledOf(ctx, p.id, workspaceVersion, step.Progress); err != nil {
		return nil, err
	}
	if how, status := d.madeState(live); live == nil || how != reconcile.Settled {
		return nil, p.refused(fmt.Errorf("compute %s: %s", p.id, status))
	}
	return nil, nil
}

// detach takes the entry away and leaves the cluster as it is.
func (p *compute) detach(ctx context.Context, d *Driver, step reconcile.Step) error {
	step.Progress("waiting for Azure ML to let go of it")
	target := d.arm.target(p.id, workspaceVersion) + "&underlyingResourceAction=" + string(ml.UnderlyingResourceActionDetach)
	err := d.arm.writeTo(ctx, http.MethodDelete, target, nil, nil)
	if isStatus(err, http.StatusNotFound) {
		err = nil
	}
	return explain("detach compute "+p.id, err)
}

// refused says what it means that Azure ML does not take a cluster in: v1 is out of support
// since 2026-06-30, and one day it will take none.
func (p *compute) refused(err error) error {
	const hint = "scoring does not need it: set attachToWorkspace: false"
	var response *azcore.ResponseError
	switch {
	case !errors.As(err, &response):
		if reconcile.ReasonOf(err) != "" {
			return err
		}
		return &reconcile.Failure{Reason: reconcile.ReasonUnsupported, Err: fmt.Errorf("azure ML has not taken the cluster in: %w", err), Hint: hint}
	case response.ErrorCode == "AuthorizationFailed":
		return &reconcile.Failure{
			Reason: reconcile.ReasonForbidden, Err: fmt.Errorf("create compute %s: %s", p.id, sentence(response)),
			Hint: "the identity needs AzureML Compute Operator on the workspace, and Contributor on the cluster; " + hint,
		}
	case response.StatusCode < http.StatusInternalServerError && response.StatusCode != http.StatusTooManyRequests:
		return &reconcile.Failure{
			Reason: reconcile.ReasonUnsupported, Err: fmt.Errorf("azure ML does not take the cluster in: %s", sentence(response)), Hint: hint,
		}
	}
	return explain("create compute "+p.id, err)
}
