package azure

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure/internal/capacity"
	"github.com/amlaks/amlaks/spec"
)

// Workload is a number of like pods that the stack puts on a cluster.
type Workload struct {
	Name    string // of its Deployment
	Service string // in the file; empty: the front end
	// Min and Max are how many there are; the same where nothing scales them.
	Min, Max int
	CPU      int64 // requested by each, in thousandths of a vCPU
	Memory   int64 // bytes
	GPU      int64
	// Tolerations and Selector are the pods' own.
	Tolerations []Toleration
	Selector    map[string]string
}

// Toleration is a pod's toleration of a taint: an empty Effect is every one, an empty Key with
// Exists every taint.
type Toleration = capacity.Toleration

const (
	// maxMisfits is of how many workloads it is said one by one that they do not fit.
	maxMisfits = 10
	// maxNames is how many names stand in one sentence.
	maxNames = 5
)

// fit says which of a cluster's workloads its nodes have no room for.
func (a *adviser) fit(ctx context.Context, o *outlook) {
	if a.about.Workloads == nil {
		return
	}
	workloads := a.about.Workloads(o.name)
	if len(workloads) == 0 {
		return
	}
	pools, unknown := a.pools(ctx, o)
	if len(unknown) > 0 {
		n := reconcile.Note{
			Level: reconcile.Info, Reason: reconcile.ReasonUnschedulable,
			Message: fmt.Sprintf("whether the services fit cannot be said: nothing is known of VM size %s", strings.Join(unknown, ", ")),
		}
		if err := a.offers.of(ctx, o.region).err; err != nil {
			n.Message += ", and Azure's list of sizes cannot be read: " + briefly(err)
			n.Hint = offersHint
		}
		a.note(o.address, n)
		return
	}
	least := loads(workloads, func(w Workload) int { return w.Min })
	results := capacity.Place(pools, least)[len(least)-len(workloads):]
	misfits := 0
	for _, r := range results {
		if r.Cause != capacity.Fits {
			misfits++
		}
	}
	if misfits > 0 {
		a.misfits(o, pools, least, workloads, results, misfits)
		return
	}
	a.noSurge(o, pools, least, workloads, results)
	a.atMost(o, pools, workloads)
}

const offersHint = "give the identity Reader on the subscription (Microsoft.Compute/skus/read, Microsoft.Compute/locations/usages/read)"

// pools are those whose nodes run pods, at the most nodes that they may have: an autoscaler adds
// nodes for pods that have no room. It also gives the sizes of which nothing is known.
func (a *adviser) pools(ctx context.Context, o *outlook) (pools []capacity.Pool, unknown []string) {
	for _, p := range o.after {
		if p.stays { // it is on its way out
			continue
		}
		machine, ok := a.offers.machine(ctx, o.region, p.size)
		if !ok {
			unknown = append(unknown, p.size)
			continue
		}
		maxPods := p.maxPods
		if maxPods == 0 {
			maxPods = capacity.DefaultMaxPods
		}
		pools = append(pools, capacity.Pool{
			Name: p.name, Node: capacity.Node{Machine: machine, MaxPods: maxPods, Minor: o.minor},
			Count: p.most, System: p.system, Labels: p.labels, Taints: p.taints,
		})
	}
	slices.Sort(unknown)
	return pools, slices.Compact(unknown)
}

// loads are AKS' own pods and the workloads, those last and in their order.
func loads(workloads []Workload, replicas func(Workload) int) []capacity.Load {
	all := capacity.SystemPods()
	for _, w := range workloads {
		l := capacity.Load{
			Name: w.Name, Kind: capacity.Service, Replicas: replicas(w), Each: capacity.Amount{CPU: w.CPU, Memory: w.Memory, GPU: w.GPU},
			Tolerations: w.Tolerations, Selector: w.Selector,
		}
		if w.Service == "" {
			l.Kind = capacity.FrontEnd
		}
		all = append(all, l)
	}
	return all
}

// misfits warns of each workload that has replicas without a node, and says how many nodes
// would do.
func (a *adviser) misfits(o *outlook, pools []capacity.Pool, least []capacity.Load, workloads []Workload, results []capacity.Result, count int) {
	counts, enough := capacity.Grow(pools, least, true) // so that the next plan does not want one more
	hint := o.growHint(counts)
	said, more := 0, []string(nil)
	for i, r := range results {
		if r.Cause == capacity.Fits {
			continue
		}
		if said++; said > maxMisfits {
			more = append(more, r.Name)
			continue
		}
		n := reconcile.Note{
			Level: reconcile.Warning, Reason: reconcile.ReasonUnschedulable, Hint: hint,
			Message: workloads[i].words() + " " + why(o, pools, r),
			Data: map[string]any{
				"service": workloads[i].Service, "deployment": r.Name, "replicas": r.Replicas, "placed": r.Placed, "cause": string(r.Cause),
				"each": figures(r.Each), "short": figures(r.Short),
			},
		}
		switch {
		case r.Cause == capacity.TooLarge:
			n.Hint = "a nodePools entry of a larger vmSize, or smaller resources in services[]"
			if o.attached {
				n.Hint = "a node pool of a larger VM size, or smaller resources in services[]"
			}
		case r.Cause == capacity.Barred:
			n.Hint = "a node pool without taints; services with gpu tolerate sku=gpu:NoSchedule"
		case enough:
			n.Data["agentCounts"] = anyMap(counts)
		default:
			n.Hint = "fewer replicas, smaller resources, or another cluster for some of the services"
		}
		if o.attached {
			n.Message += "; what others run there is not counted"
		}
		a.note(o.address, n)
	}
	if len(more) > 0 {
		a.note(o.address, reconcile.Note{
			Level: reconcile.Warning, Reason: reconcile.ReasonUnschedulable, Hint: hint,
			Message: fmt.Sprintf("and so for %d more: %s", len(more), names(more)), Data: map[string]any{"deployments": more},
		})
	}
}

// why says it of a result.
func why(o *outlook, pools []capacity.Pool, r capacity.Result) string {
	each := amount(r.Each)
	found := fmt.Sprintf("needs %s of %s, and the nodes have room for %d", plural(r.Replicas, "replica"), each, r.Placed)
	switch r.Cause {
	case capacity.TooLarge:
		return fmt.Sprintf("needs %s for a replica, and the largest node has room for %s", each, amount(r.Largest))
	case capacity.Barred:
		var taints []string
		for _, p := range pools {
			if slices.Contains(r.Barring, p.Name) {
				taints = append(taints, fmt.Sprintf("pool %s [%s]", p.Name, strings.Join(p.Taints, " ")))
			}
		}
		if len(taints) == 0 {
			return fmt.Sprintf("needs %s for a replica, and there is no node that runs pods", each)
		}
		return fmt.Sprintf("needs %s for a replica, and does not tolerate the taints of the nodes that are large enough: %s", each, names(taints))
	case capacity.Scattered:
		return found + ": what is free is spread over nodes that each have too little"
	}
	return found + ": short of " + amount(r.Short)
}

// growHint says what to write for pools to have so many nodes.
func (o *outlook) growHint(counts map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		i := slices.IndexFunc(o.after, func(p nodePool) bool { return p.name == name })
		field := "agentCount"
		if o.after[i].auto {
			field = "maxCount"
		}
		switch {
		case o.attached && o.after[i].auto:
			parts = append(parts, fmt.Sprintf("az aks nodepool update --update-cluster-autoscaler --min-count %d --max-count %d --name %s --ids %s", o.after[i].count, counts[name], name, o.id))
		case o.attached:
			parts = append(parts, fmt.Sprintf("az aks nodepool scale --node-count %d --name %s --ids %s", counts[name], name, o.id))
		case name == spec.SystemPool:
			parts = append(parts, fmt.Sprintf("%s: %d", field, counts[name]))
		default:
			parts = append(parts, fmt.Sprintf("%s: %d for node pool %s", field, counts[name], name))
		}
	}
	if len(parts) == 0 {
		return "more nodes do not help"
	}
	return strings.Join(parts, " and ") + " would do"
}

// noSurge warns of workloads that a rolling update could not replace: it makes a replica more
// before it takes one away.
func (a *adviser) noSurge(o *outlook, pools []capacity.Pool, least []capacity.Load, workloads []Workload, results []capacity.Result) {
	var stuck []string
	for i, r := range results {
		if !r.Spare && r.Replicas > 0 {
			stuck = append(stuck, workloads[i].words())
		}
	}
	if len(stuck) == 0 {
		return
	}
	n := reconcile.Note{
		Level: reconcile.Warning, Reason: reconcile.ReasonUnschedulable,
		Message: fmt.Sprintf("a change of %s would wait for a node: an update makes one replica more before it takes one away, and there is no room for it", names(stuck)),
		Hint:    "a replica less, or smaller resources",
		Data:    map[string]any{"updates": stuck},
	}
	if counts, ok := capacity.Grow(pools, least, true); ok {
		n.Hint = o.growHint(counts)
		n.Data["agentCounts"] = anyMap(counts)
	}
	a.note(o.address, n)
}

// atMost tells what would have no room if all services scaled up at a time.
func (a *adviser) atMost(o *outlook, pools []capacity.Pool, workloads []Workload) {
	most := loads(workloads, func(w Workload) int { return w.Max })
	results := capacity.Place(pools, most)[len(most)-len(workloads):]
	var short []string
	missing, wanted := 0, 0
	for i, r := range results {
		wanted += r.Replicas
		if r.Placed < r.Replicas {
			missing += r.Replicas - r.Placed
			short = append(short, fmt.Sprintf("%s %d of %d", workloads[i].label(), r.Placed, r.Replicas))
		}
	}
	if missing == 0 {
		return
	}
	n := reconcile.Note{
		Level: reconcile.Info, Reason: reconcile.ReasonUnschedulable,
		Message: fmt.Sprintf("with all services at maxReplicas, %d of %s would have no room: %s", missing, plural(wanted, "replica"), names(short)),
		Data:    map[string]any{"maxReplicas": wanted, "missing": missing},
	}
	if counts, ok := capacity.Grow(pools, most, false); ok {
		n.Hint = o.growHint(counts)
		n.Data["agentCounts"] = anyMap(counts)
	}
	a.note(o.address, n)
}

func (w Workload) label() string {
	if w.Service == "" {
		return "the front end"
	}
	return w.Name
}

// words is how a sentence begins.
func (w Workload) words() string {
	switch {
	case w.Service == "":
		return "the front end"
	case w.Service != w.Name:
		return fmt.Sprintf("service %s (%s)", w.Service, w.Name)
	}
	return "service " + w.Service
}

// amount is in words what is not 0 of it.
func amount(a capacity.Amount) string {
	var parts []string
	if a.CPU > 0 {
		parts = append(parts, decimals(float64(a.CPU)/1000)+" vCPU")
	}
	if a.Memory > 0 {
		if gib := float64(a.Memory) / (1 << 30); gib >= 1 {
			parts = append(parts, decimals(gib)+" GiB")
		} else {
			parts = append(parts, decimals(float64(a.Memory)/(1<<20))+" MiB")
		}
	}
	if a.GPU > 0 {
		parts = append(parts, plural(int(a.GPU), "GPU"))
	}
	if len(parts) == 0 && a.Pods > 0 {
		parts = append(parts, plural(int(a.Pods), "pod"))
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// decimals shows two at most.
func decimals(v float64) string {
	return strings.TrimRight(strings.TrimRight(fmt.Sprintf("%.2f", v), "0"), ".")
}

func figures(a capacity.Amount) map[string]any {
	return map[string]any{"cpu": float64(a.CPU) / 1000, "memoryGiB": float64(a.Memory) / (1 << 30), "gpu": a.GPU}
}

func anyMap(counts map[string]int) map[string]any {
	out := make(map[string]any, len(counts))
	for name, n := range counts {
		out[name] = n
	}
	return out
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func names(all []string) string {
	if len(all) <= maxNames {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:maxNames], ", "), len(all)-maxNames)
}
