package azure

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	aks "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

// liveAttached gives a cluster that the file attaches, or, if declared is nil, that has been
// attached and has left the file. What v1 asked of one it asks before the cluster is used: one
// that is in use already is not refused for having become smaller.
func (d *Driver) liveAttached(ctx context.Context, address reconcile.Address, cluster body, declared *spec.Cluster) ([]reconcile.Live, error) {
	if refused := unusable(cluster); refused != nil {
		return []reconcile.Live{d.unusableCluster(address, cluster, refused, declared == nil)}, nil
	}
	seen, err := d.liveCluster(ctx, address, cluster, true)
	if err != nil || declared == nil {
		return seen, err
	}
	l := &seen[0]
	used := d.attachedAs(cluster) != ""
	switch vcpu, unknown := vcpus(cluster); {
	case declared.Purpose == spec.DevTest || vcpu >= spec.MinVCPU:
	case len(unknown) > 0:
		l.Notes = append(l.Notes, reconcile.Note{
			Level:   reconcile.Info,
			Message: fmt.Sprintf("whether it has the %d vCPU that purpose %s needs is not known: amlaks does not know %s", spec.MinVCPU, declared.Purpose, strings.Join(unknown, ", ")),
		})
	default:
		small := tooSmall(declared, vcpu)
		if used {
			l.Notes = append(l.Notes, reconcile.Note{Level: reconcile.Warning, Reason: small.Reason, Message: small.Error(), Hint: small.Hint})
		} else {
			l.Refused = small
		}
	}
	if used {
		return seen, nil
	}
	if refused, err := d.unsupported(ctx, cluster); err != nil {
		return nil, err
	} else if refused != nil {
		l.Refused = refused
	}
	if others := d.otherStacks(cluster); len(others) > 0 {
		l.Notes = append(l.Notes, reconcile.Note{
			Level:   reconcile.Info,
			Message: fmt.Sprintf("the cluster is used by stack %s too: each has a namespace and a front end of its own", strings.Join(others, ", ")),
		})
	}
	return seen, nil
}

// unsupported says that AKS no longer has the Kubernetes minor that a cluster runs.
func (d *Driver) unsupported(ctx context.Context, cluster body) (*reconcile.Failure, error) {
	location := text(cluster, "location")
	all, err := d.offered(ctx, location)
	if err != nil {
		return nil, err
	}
	running, known := parseVersion(runs(cluster))
	if _, there := findRelease(all, running.minor); !known || there || len(all) == 0 {
		return nil, nil
	}
	return &reconcile.Failure{
		Reason: reconcile.ReasonUnsupported,
		Err: fmt.Errorf("the cluster runs Kubernetes %s, which AKS does not support in %s any more; it has %s: az aks upgrade --resource-group %s --name %s",
			runs(cluster), location, minors(all), resourceGroup(cluster), text(cluster, "name")),
	}, nil
}

func tooSmall(c *spec.Cluster, vcpu int) *reconcile.Failure {
	const hint = "add nodes to the cluster, or set purpose: DevTest"
	return &reconcile.Failure{
		Reason: reconcile.ReasonTooSmall, Hint: hint,
		Err: fmt.Errorf("the cluster has %d vCPU in nodes that stay, and purpose %s needs %d: %s", vcpu, c.Purpose, spec.MinVCPU, hint),
	}
}

// vcpus counts those of the nodes that are there to stay, and gives the sizes that are unknown.
// Spot nodes do not count: Azure may take them away.
func vcpus(cluster body) (total int, unknown []string) {
	profiles, _ := at(cluster, "properties", "agentPoolProfiles").([]any)
	for _, item := range profiles {
		pool, _ := item.(body)
		count, _ := pool["count"].(float64)
		if strings.EqualFold(text(pool, "scaleSetPriority"), string(aks.ScaleSetPrioritySpot)) || count == 0 {
			continue
		}
		size, known := spec.VMSize(text(pool, "vmSize"))
		if !known && !slices.Contains(unknown, text(pool, "vmSize")) {
			unknown = append(unknown, text(pool, "vmSize"))
		}
		total += size.VCPU * int(count)
	}
	return total, unknown
}

// otherStacks are those that have attached the cluster, by name.
func (d *Driver) otherStacks(cluster body) []string {
	var others []string
	tags, _ := cluster["tags"].(body)
	for _, tag := range slices.Sorted(maps.Keys(tags)) {
		if stack, ok := strings.CutPrefix(tag, tagAttached); ok && stack != d.stack.Name {
			others = append(others, stack)
		}
	}
	return others
}

// unusable says why nothing can be done in a cluster; nil if it can. The engine shows the error
// of a refusal and not its hint, so that says what to do too.
func unusable(cluster body) *reconcile.Failure {
	name, group := text(cluster, "name"), resourceGroup(cluster)
	local, _ := at(cluster, "properties", "disableLocalAccounts").(bool)
	switch {
	case text(cluster, "properties", "powerState", "code") == string(aks.CodeStopped):
		return &reconcile.Failure{
			Reason: reconcile.ReasonUnavailable,
			Err:    fmt.Errorf("the cluster is stopped: az aks start --resource-group %s --name %s", group, name),
		}
	case local:
		return &reconcile.Failure{
			Reason: reconcile.ReasonForbidden,
			Err: fmt.Errorf("the cluster has no local accounts (disableLocalAccounts), and amlaks signs in with the admin's: az aks update --enable-local-accounts --resource-group %s --name %s",
				group, name),
		}
	}
	return nil
}

// unusableCluster is one in which nothing can be done now. Detaching it is possible: then what
// the stack has in it stays.
func (d *Driver) unusableCluster(address reconcile.Address, cluster body, refused *reconcile.Failure, left bool) reconcile.Live {
	id := text(cluster, "id")
	l := reconcile.Live{
		Address: address, Body: cluster, Version: text(cluster, "eTag"), State: reconcile.Settled, Attached: true, Refused: refused,
		Handle: target{clusterID: id, id: id, attached: true}, Outputs: map[string]string{OutputID: id},
	}
	if d.attachedAs(cluster) != "" {
		l.Owner = d.stack.Name
	} else if d.attachedFromElsewhere(cluster) {
		l.Owner = d.stack.Name + " of another subscription"
	}
	if left {
		l.Notes = []reconcile.Note{{
			Level: reconcile.Warning, Reason: refused.Reason,
			Message: "what the stack has in it is not seen, and stays when it is detached: " + refused.Error(),
		}}
	}
	return l
}
