package azure

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/amlaks/amlaks/reconcile"
)

// Observe implements reconcile.Driver: one GET for the workspace and one for its registry, one
// list call for all clusters and pools of each subscription that the identity can see, a GET for
// a cluster that is attached from one that it cannot, one list of the registry's role
// assignments, and one of the workspace's computes.
func (d *Driver) Observe(ctx context.Context, request reconcile.Request) ([]reconcile.Live, error) {
	workspace, err := d.observeWorkspace(ctx)
	if err != nil {
		return nil, err
	}
	var live []reconcile.Live
	all, err := d.clusters(ctx)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]body, len(all))
	for _, cluster := range all {
		byID[strings.ToLower(text(cluster, "id"))] = cluster
	}
	declared, taken := map[string]bool{}, map[reconcile.Address]bool{}
	for _, r := range request.Resources {
		own, ok := r.Spec.(*clusterSpec)
		if !ok {
			continue
		}
		id := strings.ToLower(own.id)
		declared[id], taken[r.Address] = true, true
		cluster := byID[id]
		if cluster == nil && own.Attach != nil {
			if cluster, err = d.arm.get(ctx, own.id, aksVersion); err != nil {
				return nil, explain("read "+own.id, err)
			}
			if cluster == nil {
				return nil, &reconcile.Failure{
					Reason: reconcile.ReasonNotFound,
					Err:    fmt.Errorf("%s: there is no AKS cluster %s to attach", r.Address, own.id),
					Hint:   "check clusters[].attach, and that the identity may read that resource group",
				}
			}
		}
		if cluster == nil {
			continue
		}
		var seen []reconcile.Live
		if own.Attach != nil {
			seen, err = d.liveAttached(ctx, r.Address, cluster, &own.Cluster)
		} else {
			seen, err = d.liveCluster(ctx, r.Address, cluster, false)
		}
		if err != nil {
			return nil, err
		}
		live = append(live, seen...)
	}
	d.predictAll(request.Resources, live, workspace.location)
	d.noteDrains(ctx, live)
	absent, err := d.checkVersions(ctx, request.Resources, live, workspace.location)
	if err != nil {
		return nil, err
	}
	live = append(live, absent...)
	live = append(live, noteNetworks(request.Resources, live)...)
	for _, cluster := range all { // what has left the file
		if declared[strings.ToLower(text(cluster, "id"))] {
			continue
		}
		attachedAs := d.attachedAs(cluster)
		// A stack makes clusters in its own subscription alone: in another, the same name is another stack's.
		if attachedAs == "" && (d.elsewhere(cluster) || text(cluster, "tags", tagStack) != d.stack.Name) {
			continue
		}
		name := attachedAs
		if name == "" {
			name = text(cluster, "name")
		}
		address := ClusterAddress(name)
		if taken[address] { // the file gives the name to another cluster now
			address = ClusterAddress(resourceGroup(cluster) + "/" + text(cluster, "name"))
		}
		taken[address] = true
		var seen []reconcile.Live
		if attachedAs != "" {
			seen, err = d.liveAttached(ctx, address, cluster, nil)
		} else {
			seen, err = d.liveCluster(ctx, address, cluster, false)
		}
		if err != nil {
			return nil, err
		}
		live = append(live, seen...)
	}
	pulls, err := d.observePulls(ctx, request.Resources, live, all, workspace.registry)
	if err != nil {
		return nil, err
	}
	computes, err := d.observeComputes(ctx, request.Resources, workspace)
	if err != nil {
		return nil, err
	}
	return d.advise(ctx, request, slices.Concat(live, workspace.live, pulls, computes), workspace.location)
}

// liveCluster gives the cluster and, of one that the stack made, its pools.
func (d *Driver) liveCluster(ctx context.Context, address reconcile.Address, cluster body, attached bool) ([]reconcile.Live, error) {
	id := text(cluster, "id")
	l := reconcile.Live{
		Address: address, Owner: text(cluster, "tags", tagStack), Body: cluster,
		Handle:  target{clusterID: id, id: id, attached: attached},
		Version: text(cluster, "eTag"), Attached: attached, Outputs: map[string]string{OutputID: id, OutputLocation: text(cluster, "location")},
		Protected: text(cluster, "tags", tagProtect) == "true",
	}
	l.State, l.Status = state(text(cluster, "properties", "provisioningState"))
	if attached {
		// All that is owned is the stack's own tag, so it is nobody's until that is there.
		l.Owner, l.Protected = "", false
		switch attachedAs := text(cluster, "tags", tagAttached+d.stack.Name); {
		case d.attachedFromElsewhere(cluster):
			l.Owner = fmt.Sprintf("%s of another subscription: %s", d.stack.Name, attachedAs)
		case attachedAs != "":
			l.Owner = d.stack.Name
		}
	}
	if l.Owner != d.stack.Name && (!attached || l.Owner != "") {
		return []reconcile.Live{l}, nil
	}
	kubeconfig, err := d.kubeconfig(ctx, id)
	switch {
	case err == nil:
		l.Outputs[OutputKubeconfig] = kubeconfig
	case l.State == reconcile.Settled:
		return nil, fmt.Errorf("%s: %w", address, err)
	default: // it is being made, or was never finished: what is in it is known when it runs
	}
	if attached {
		if kubeconfig != "" {
			// Whoever made it mends it, and scoring goes on meanwhile: it is told, not waited for.
			l.State = reconcile.Settled
		}
		return []reconcile.Live{l}, nil
	}
	return append([]reconcile.Live{l}, d.livePools(address, cluster)...), nil
}

// kubeconfig reads the admin kubeconfig. Like all outputs it stays in the process.
func (d *Driver) kubeconfig(ctx context.Context, id string) (string, error) {
	answer, err := d.arm.post(ctx, id+"/listClusterAdminCredential", aksVersion)
	if err != nil {
		return "", explain("read the cluster's credentials", err)
	}
	list, _ := answer["kubeconfigs"].([]any)
	for _, item := range list {
		entry, _ := item.(body)
		if data, err := base64.StdEncoding.DecodeString(text(entry, "value")); err == nil && len(data) > 0 {
			return string(data), nil
		}
	}
	return "", fmt.Errorf("AKS gave no kubeconfig for %s", id)
}

// resourceGroup is a part of a resource's ID: /subscriptions/S/resourceGroups/GROUP/...
func resourceGroup(b body) string {
	parts := strings.SplitN(text(b, "id"), "/", 6)
	if len(parts) < 6 {
		return ""
	}
	return parts[4]
}

// state reads a provisioningState. It is a free string: all but the three ends are on the way.
func state(provisioning string) (reconcile.State, string) {
	switch provisioning {
	case "Succeeded", "":
		return reconcile.Settled, ""
	case "Failed", "Canceled":
		return reconcile.Unhealthy, "its last operation ended as " + provisioning
	}
	return reconcile.InProgress, "an operation is running on it: " + provisioning
}

// at walks down a body; nil when something on the way is not there.
func at(b body, path ...string) any {
	var v any = b
	for _, key := range path {
		object, ok := v.(body)
		if !ok {
			return nil
		}
		v = object[key]
	}
	return v
}

func text(b body, path ...string) string {
	s, _ := at(b, path...).(string)
	return s
}
