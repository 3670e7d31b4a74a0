package azure

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure/internal/capacity"
)

// nodePool is a pool, declared or live, as far as what it can hold, needs and costs.
type nodePool struct {
	name, size string
	count      int // of nodes: those that are there, or that it begins with
	most       int // that its autoscaler makes of it; without one, count
	auto       bool
	system     bool
	spot       bool
	stays      bool // it has left the file, and nothing but --prune removes it
	labels     map[string]string
	taints     []string
	zones      []string
	maxPods    int    // 0: nothing says it
	maxSurge   string // "10%", "1"; empty: nothing says it
}

// asNodePool reads a pool's properties; false for one that runs no pods of ours: of Windows, or
// stopped.
func asNodePool(name string, properties body) (nodePool, bool) {
	number := func(key string) int {
		n, _ := properties[key].(float64)
		return int(n)
	}
	p := nodePool{
		name: name, size: text(properties, "vmSize"), count: number("count"), maxPods: number("maxPods"), maxSurge: text(properties, "upgradeSettings", "maxSurge"),
		system: strings.EqualFold(text(properties, "mode"), "System"), spot: strings.EqualFold(text(properties, "scaleSetPriority"), "Spot"),
		labels: map[string]string{},
	}
	p.taints, p.zones = strs(properties["nodeTaints"]), strs(properties["availabilityZones"])
	labels, _ := properties["nodeLabels"].(body)
	for key := range labels {
		p.labels[key] = text(labels, key)
	}
	if p.auto, _ = properties["enableAutoScaling"].(bool); p.auto {
		p.most = max(p.count, number("maxCount"))
		p.count = max(p.count, number("minCount"))
	} else {
		p.most = p.count
	}
	runs := !strings.EqualFold(text(properties, "osType"), "Windows") && !strings.EqualFold(text(properties, "powerState", "code"), "Stopped")
	return p, runs
}

func strs(list any) []string {
	items, _ := list.([]any)
	var out []string
	for _, item := range items {
		if s, ok := item.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// outlook is a cluster as it is, and as it will be when the file has been applied.
type outlook struct {
	address reconcile.Address
	name    string // in the file, or in Azure when it has left the file
	region
	id         string
	attached   bool
	absent     bool
	left       bool // it has left the file
	tier       string
	tierBefore string
	before     []nodePool
	after      []nodePool
	minor      int
	upgrades   bool // to another minor version
}

// outlooks gives the clusters that the stack has or will have, in the order of their addresses.
// One that belongs to somebody else is not among them: the plan refuses it.
func (d *Driver) outlooks(request reconcile.Request, live []reconcile.Live, location string) []outlook {
	byAddress := map[reconcile.Address]*reconcile.Live{}
	for i := range live {
		byAddress[live[i].Address] = &live[i]
	}
	var all []outlook
	declared := map[reconcile.Address]bool{}
	for _, r := range request.Resources {
		own, ok := r.Spec.(*clusterSpec)
		if !ok {
			continue
		}
		declared[r.Address] = true
		there := byAddress[r.Address]
		if there != nil && there.Owner != "" && there.Owner != d.stack.Name {
			continue
		}
		o := outlook{address: r.Address, name: own.Name, id: own.id, attached: own.Attach != nil, absent: there == nil,
			region: region{subscriptionOf(own.id), normalRegion(location)}, tier: text(r.Desired, "sku", "tier")}
		version := text(r.Desired, "properties", "kubernetesVersion")
		if there != nil {
			o.see(there.Body)
			version = cmp.Or(text(there.Body, "properties", "currentKubernetesVersion"), text(there.Body, "properties", "kubernetesVersion"), version)
		}
		declared := minorOf(text(r.Desired, "properties", "kubernetesVersion"))
		o.minor = minorOf(version)
		o.upgrades = there != nil && declared > 0 && declared != o.minor
		if o.attached {
			o.after, o.tier = o.before, o.tierBefore
		} else {
			o.declare(r.Desired, request.Resources)
		}
		all = append(all, o)
	}
	for _, l := range live {
		t, isOurs := l.Handle.(target)
		if declared[l.Address] || !isOurs || t.pool != "" || l.Owner != d.stack.Name {
			continue
		}
		o := outlook{address: l.Address, name: text(l.Body, "name"), id: t.id, attached: t.attached, left: true, region: region{subscription: subscriptionOf(t.id)}}
		o.see(l.Body)
		o.after, o.tier = o.before, o.tierBefore
		all = append(all, o)
	}
	slices.SortStableFunc(all, func(a, b outlook) int { return strings.Compare(string(a.address), string(b.address)) })
	return all
}

// see reads what is live.
func (o *outlook) see(cluster body) {
	o.tierBefore = text(cluster, "sku", "tier")
	if location := text(cluster, "location"); location != "" {
		o.location = normalRegion(location)
	}
	profiles, _ := at(cluster, "properties", "agentPoolProfiles").([]any)
	for _, item := range profiles {
		profile, _ := item.(body)
		if pool, runs := asNodePool(text(profile, "name"), profile); runs {
			o.before = append(o.before, pool)
		}
	}
}

// declare reads the pools that the file gives the cluster. What it leaves open is as it is.
func (o *outlook) declare(cluster body, resources []reconcile.Resource) {
	maxPods := capacity.DefaultMaxPods
	if !strings.EqualFold(text(cluster, "properties", "networkProfile", "networkPluginMode"), "overlay") {
		maxPods = classicMaxPods
	}
	declared := map[string]bool{}
	for _, r := range resources {
		own, ok := r.Spec.(*poolSpec)
		if !ok || own.clusterID != o.id {
			continue
		}
		properties, _ := r.Desired["properties"].(body)
		pool, runs := asNodePool(own.name, properties)
		declared[own.name] = true
		if there, is := o.livePool(own.name); is {
			pool.maxPods = cmp.Or(pool.maxPods, there.maxPods)
			switch {
			case pool.auto: // its autoscaler keeps it within the new bounds
				pool.count = min(max(pool.count, there.count), pool.most)
			case properties["count"] == nil:
				pool.count, pool.most = there.count, there.count
			}
		}
		pool.maxPods = cmp.Or(pool.maxPods, maxPods)
		if runs {
			o.after = append(o.after, pool)
		}
	}
	for _, pool := range o.before {
		if !declared[pool.name] {
			pool.stays = true
			o.after = append(o.after, pool)
		}
	}
}

// classicMaxPods is what AKS gives nodes whose pods have addresses of the subnet (Azure CNI
// without overlay), where nobody says otherwise.
const classicMaxPods = 30

func (o *outlook) livePool(name string) (nodePool, bool) {
	i := slices.IndexFunc(o.before, func(p nodePool) bool { return p.name == name })
	if i < 0 {
		return nodePool{}, false
	}
	return o.before[i], true
}

// added is how many nodes of a pool must come to be: all of them when they are of another size,
// because pools are not changed but made anew beside the old.
func (o *outlook) added(pool nodePool) (now, atMost int) {
	there, is := o.livePool(pool.name)
	if !is || !strings.EqualFold(there.size, pool.size) || there.spot != pool.spot {
		return pool.count, pool.most
	}
	return max(0, pool.count-there.count), max(0, pool.most-there.count)
}

// defaultMaxSurge is AKS' own, of the documentation's page on upgrading node images and versions.
const defaultMaxSurge = "10%"

// surge is how many nodes an upgrade adds to a pool while it goes through it: a number, or a
// share of what is there, rounded up.
func (p nodePool) surge() int {
	text := cmp.Or(p.maxSurge, defaultMaxSurge)
	percent, isShare := strings.CutSuffix(text, "%")
	n, err := strconv.Atoi(percent)
	switch {
	case p.count == 0:
		return 0
	case err != nil || n < 1:
		return 1
	case isShare:
		return (p.count*n + 99) / 100
	}
	return n
}

// made tells whether the pool is to be made, not only to grow.
func (o *outlook) made(pool nodePool) bool {
	there, is := o.livePool(pool.name)
	return !is || !strings.EqualFold(there.size, pool.size)
}

func normalRegion(name string) string { return strings.ToLower(strings.ReplaceAll(name, " ", "")) }

// minorOf is 36 of 1.36.2; 0 when it is not known.
func minorOf(version string) int {
	parts := strings.Split(version, ".")
	if len(parts) < 2 || parts[0] != "1" {
		return 0
	}
	minor, err := strconv.Atoi(parts[1])
	if err != nil {
		return 0
	}
	return minor
}
