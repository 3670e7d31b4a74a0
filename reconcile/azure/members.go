package azure

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/amlaks/amlaks/reconcile"
)

// A pool of the file is one AKS pool, or several while it is rotated: the one that takes the
// place, which bears the name in the file in its tag amlaks-pool, and those that have to go.
// Nothing else says how far a rotation got, so it can be cut short anywhere.

// pathExtra is where a plan says that an AKS pool has to go that differs in nothing from the
// one that stays.
const pathExtra = "name"

// longestPoolName is AKS' limit for pools of Linux.
const longestPoolName = 12

// member is one AKS pool of those that stand for a pool of the file.
type member struct {
	name string
	body body // {"properties": ...}
}

// livePools gives the pools of a cluster, by their names in the file.
func (d *Driver) livePools(cluster reconcile.Address, of body) []reconcile.Live {
	id := text(of, "id")
	pools := map[string][]member{}
	profiles, _ := at(of, "properties", "agentPoolProfiles").([]any)
	for _, item := range profiles {
		profile, _ := item.(body)
		name := text(profile, "name")
		as := name
		if text(profile, "tags", tagStack) == d.stack.Name {
			as = cmp.Or(text(profile, "tags", tagPool), name)
		}
		properties := maps.Clone(profile)
		delete(properties, "name")
		pools[as] = append(pools[as], member{name, body{"properties": properties}})
	}
	live := make([]reconcile.Live, 0, len(pools))
	for _, name := range slices.Sorted(maps.Keys(pools)) {
		members := pools[name]
		// Somebody else may have made a pool of the name since ours has got another.
		if slices.ContainsFunc(members, d.owns) {
			members = slices.DeleteFunc(members, func(m member) bool { return !d.owns(m) })
		}
		slices.SortFunc(members, func(a, b member) int { return cmp.Compare(a.name, b.name) })
		t := target{clusterID: id, id: poolID(id, members[0].name), pool: name, members: members}
		live = append(live, livePool(poolAddress(cluster, name), t, members[0]))
	}
	return live
}

func (d *Driver) owns(m member) bool {
	return text(m.body, "properties", "tags", tagStack) == d.stack.Name
}

// livePool shows one of a pool's members.
func livePool(address reconcile.Address, t target, m member) reconcile.Live {
	cluster := clusterOf(address)
	l := reconcile.Live{
		Address: address, Owner: text(m.body, "properties", "tags", tagStack), Body: m.body, Handle: t,
		Version: text(m.body, "properties", "eTag"), DependsOn: []reconcile.Address{cluster}, Within: cluster,
	}
	l.State, l.Status = state(text(m.body, "properties", "provisioningState"))
	return l
}

// clusterOf is the address of a pool's cluster.
func clusterOf(pool reconcile.Address) reconcile.Address {
	return pool[:strings.LastIndex(string(pool), "/pool/")]
}

// split tells which of a pool's members stays (nil: none is as the file says, in what AKS
// cannot change), and which have to go, in the order of their removal.
func split(r *reconcile.Resource, desired body, members []member) (stays *member, leaving []member) {
	for i := range members {
		m := &members[i]
		gone := text(m.body, "properties", "provisioningState") == "Deleting"
		if stays == nil && !gone && !rotates(r, desired, m.body) {
			stays = m
		}
	}
	for i := range members {
		if &members[i] != stays {
			leaving = append(leaving, members[i])
		}
	}
	return stays, leaving
}

// rotates tells whether the live pool differs in what only a new one can have.
func rotates(r *reconcile.Resource, desired, live body) bool {
	return slices.ContainsFunc(reconcile.Differences(desired, live, r.Compare), func(diff reconcile.FieldDiff) bool {
		return r.Immutable[diff.Path].Action == reconcile.Rotate
	})
}

// place shows, of a pool that several AKS pools stand for, the one that goes last: what has to
// be done is the same then, from the first request of a rotation to its end.
func (d *Driver) place(r *reconcile.Resource, desired body, l *reconcile.Live) {
	t, ok := l.Handle.(target)
	if !ok || len(t.members) == 0 {
		return
	}
	if len(t.members) == 1 {
		l.Refused = elsewhereNetwork(desired, l.Body)
		return
	}
	stays, leaving := split(r, desired, t.members)
	for _, m := range leaving {
		t.drains = append(t.drains, m.name)
	}
	last := leaving[len(leaving)-1]
	t.id = poolID(t.clusterID, last.name)
	if stays != nil {
		t.id = poolID(t.clusterID, stays.name)
		l.Why = fmt.Sprintf("its rotation is under way: node pool %s takes the place of %s", stays.name, strings.Join(t.drains, " and "))
	}
	version, why := l.Version, l.Why
	*l = livePool(l.Address, t, last)
	l.Version, l.Why = version, why
	if want := d.wanted(r, desired, l.Body); stays != nil && !rotates(r, want, l.Body) {
		l.Predicted = overlay(l.Body, want, r.Compare, "")
		l.Body = maps.Clone(l.Body)
		l.Body[pathExtra], l.Predicted[pathExtra] = last.name, stays.name
	}
}

// elsewhereNetwork refuses what no new pool could do either.
func elsewhereNetwork(desired, live body) *reconcile.Failure {
	network := func(b body) string {
		id, _, _ := strings.Cut(text(b, "properties", "vnetSubnetID"), "/subnets/")
		return id
	}
	want, have := network(desired), network(live)
	if strings.EqualFold(want, have) {
		return nil
	}
	return &reconcile.Failure{
		Reason: reconcile.ReasonImmutable,
		Err:    fmt.Errorf("properties.vnetSubnetID: all nodes of a cluster are in one virtual network for life: declare another cluster and move the services"),
	}
}

// freeName is the name of a new AKS pool for a pool of the file: its own, or the first of
// NAMEr, NAMEr2, NAMEr3... that no pool has or is to have.
func freeName(name string, cluster body, others []string) string {
	taken := map[string]bool{}
	for _, other := range others {
		taken[other] = true
	}
	profiles, _ := at(cluster, "properties", "agentPoolProfiles").([]any)
	for _, item := range profiles {
		profile, _ := item.(body)
		taken[text(profile, "name")] = true
	}
	for n := 0; ; n++ {
		suffix := ""
		switch n {
		case 0:
		case 1:
			suffix = "r"
		default:
			suffix = "r" + strconv.Itoa(n)
		}
		free := name[:min(len(name), longestPoolName-len(suffix))] + suffix
		if !taken[free] {
			return free
		}
	}
}

// noteDrains adds how far the rotations are that an earlier run began: their nodes say it.
func (d *Driver) noteDrains(ctx context.Context, live []reconcile.Live) {
	kubeconfigs := map[reconcile.Address]string{}
	for _, l := range live {
		kubeconfigs[l.Address] = l.Outputs[OutputKubeconfig]
	}
	for i := range live {
		l := &live[i]
		t, _ := l.Handle.(target)
		kubeconfig := kubeconfigs[l.Within]
		if len(t.drains) == 0 || d.options.Nodes == nil || kubeconfig == "" {
			continue
		}
		// It is only said, and who reads Kubernetes next says what is wrong with it.
		if done, all, err := d.options.Nodes.Drained(ctx, kubeconfig, t.drains); err == nil {
			l.Why += fmt.Sprintf(", %d of whose %d nodes are empty", done, all)
		}
	}
}
