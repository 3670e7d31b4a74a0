package capacity

import (
	"cmp"
	"slices"
	"strings"
)

// Pool is a number of like nodes.
type Pool struct {
	Name   string
	Node   Node
	Count  int  // of nodes; of a pool under an autoscaler, the most that it may have
	System bool // AKS' own pods go here first
	Labels map[string]string
	Taints []string // key=value:Effect
}

// Kind is whose pods a load is. What is placed earlier is spread over the nodes, as it is by
// the scheduler on a cluster that is not full yet.
type Kind int

// The kinds, in the order in which they are placed.
const (
	System Kind = iota
	FrontEnd
	Service
)

// Load is a number of like pods.
type Load struct {
	Name        string
	Kind        Kind
	Replicas    int
	Each        Amount // Pods is 1, whatever it says
	Tolerations []Toleration
	Selector    map[string]string
}

// Toleration is one of a pod's: an empty Key tolerates every taint, an empty Effect each.
type Toleration struct {
	Key, Value, Effect string
	Exists             bool // whatever the taint's value
}

// Cause is why a load's replicas do not all have a node.
type Cause string

// The causes.
const (
	Fits      Cause = ""
	Barred    Cause = "barred"    // taints or a selector keep it from the pools that are large enough
	TooLarge  Cause = "tooLarge"  // one replica is more than any node of those pools has
	Full      Cause = "full"      // the nodes have less left than it needs
	Scattered Cause = "scattered" // they have enough together, and none of them has it alone
)

// Result is what became of a load.
type Result struct {
	Load
	Placed int
	Cause  Cause
	// Short is what the replicas without a node need beyond what is free on the nodes that take
	// them; nothing of it when what is free is only scattered.
	Short Amount
	// Barring are the pools that keep it off, when it is Barred.
	Barring []string
	// Largest is the room of the largest node that takes it, when it is TooLarge for it.
	Largest Amount
	// Spare: there is room for one replica more, as a rolling update wants it.
	Spare bool
}

// SystemPods are those of AKS itself that are not on every node: two coredns of 100m and 70Mi,
// its autoscaler 20m and 10Mi, two konnectivity-agents of 20m and 20Mi, their autoscaler 20m
// and 10Mi, two metrics-servers of 156m and 134Mi (as daemons, AKS 1.30 of February 2025). The
// two webhooks of workload identity ask for 100m and 20Mi each (Azure/AKS#5251).
func SystemPods() []Load {
	pod := func(name string, replicas int, cpu, memory int64) Load {
		return Load{Name: name, Kind: System, Replicas: replicas, Each: Amount{CPU: cpu, Memory: memory * mebibyte}, Tolerations: []Toleration{{Exists: true}}}
	}
	return []Load{
		pod("metrics-server", 2, 156, 134), pod("coredns", 2, 100, 70), pod("azure-wi-webhook", 2, 100, 20),
		pod("konnectivity-agent", 2, 20, 20), pod("coredns-autoscaler", 1, 20, 10), pod("konnectivity-agent-autoscaler", 1, 20, 10),
	}
}

// Place puts the loads on the pools' nodes, and gives a result for each, in their order.
func Place(pools []Pool, loads []Load) []Result {
	nodes := nodesOf(pools)
	results := make([]Result, len(loads))
	for _, i := range order(pools, loads) {
		load := loads[i]
		load.Each.Pods = 1
		results[i] = place(pools, nodes, load)
	}
	for i := range results {
		results[i].Spare = results[i].Cause == Fits && slices.ContainsFunc(nodes, func(n *node) bool {
			return n.pool.takes(results[i].Load) && n.free.holds(results[i].Each)
		})
	}
	return results
}

type node struct {
	pool *Pool
	free Amount
}

func nodesOf(pools []Pool) []*node {
	var nodes []*node
	for i := range pools {
		for range pools[i].Count {
			nodes = append(nodes, &node{&pools[i], pools[i].Node.Room()})
		}
	}
	return nodes
}

// order puts large pods before small ones, and before all those that need what is rare.
func order(pools []Pool, loads []Load) []int {
	var whole Amount
	for _, p := range pools {
		whole = whole.plus(p.Node.Room(), int64(p.Count))
	}
	share := func(each Amount) float64 {
		return max(float64(each.CPU)/float64(max(1, whole.CPU)), float64(each.Memory)/float64(max(1, whole.Memory)))
	}
	indices := make([]int, len(loads))
	for i := range indices {
		indices[i] = i
	}
	slices.SortStableFunc(indices, func(i, j int) int {
		a, b := loads[i], loads[j]
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(b.Each.GPU, a.Each.GPU), cmp.Compare(share(b.Each), share(a.Each)), strings.Compare(a.Name, b.Name))
	})
	return indices
}

func place(pools []Pool, nodes []*node, load Load) Result {
	result := Result{Load: load}
	candidates := candidatesOf(nodes, load)
	at := 0
	for result.Placed < load.Replicas {
		var chosen *node
		if load.Kind != Service {
			chosen = freest(candidates, load)
		} else {
			for ; at < len(candidates); at++ { // what had no room for one has none for the next
				if candidates[at].free.holds(load.Each) {
					chosen = candidates[at]
					break
				}
			}
		}
		if chosen == nil {
			break
		}
		chosen.free = chosen.free.plus(load.Each, -1)
		result.Placed++
	}
	if result.Placed < load.Replicas {
		result.explain(pools, candidates)
	}
	return result
}

// candidatesOf are the nodes that take a load, those that it should look at first before the
// others: AKS' own pods go to its pools, and what needs no GPU leaves those nodes to what does.
func candidatesOf(nodes []*node, load Load) []*node {
	takes := map[*Pool]bool{} // of which there are few
	candidates := make([]*node, 0, len(nodes))
	for _, last := range []int{0, 1} {
		for _, n := range nodes {
			taken, known := takes[n.pool]
			if !known {
				taken = n.pool.takes(load)
				takes[n.pool] = taken
			}
			if taken && n.last(load) == last {
				candidates = append(candidates, n)
			}
		}
	}
	return candidates
}

// freest is the node with the most vCPU left, of the first kind that has one with room.
func freest(candidates []*node, load Load) *node {
	var best *node
	for _, n := range candidates {
		if !n.free.holds(load.Each) || best != nil && n.last(load) > best.last(load) {
			continue
		}
		if best == nil || n.free.CPU > best.free.CPU {
			best = n
		}
	}
	return best
}

// explain says why there are replicas without a node.
func (r *Result) explain(pools []Pool, candidates []*node) {
	var free Amount
	taken, fits := false, false
	for i := range pools {
		room := pools[i].Node.Room()
		if !pools[i].takes(r.Load) {
			if room.holds(r.Each) {
				r.Barring = append(r.Barring, pools[i].Name)
			}
			continue
		}
		taken, fits = true, fits || room.holds(r.Each)
		if room.GPU > r.Largest.GPU || room.GPU == r.Largest.GPU && (room.CPU > r.Largest.CPU || room.CPU == r.Largest.CPU && room.Memory > r.Largest.Memory) {
			r.Largest = room
		}
	}
	for _, n := range candidates {
		free = free.plus(n.free, 1)
	}
	missing := Amount{}.plus(r.Each, int64(r.Replicas-r.Placed)).plus(free, -1)
	r.Short = Amount{max(0, missing.CPU), max(0, missing.Memory), max(0, missing.GPU), max(0, missing.Pods)}
	switch {
	case !fits && (len(r.Barring) > 0 || !taken):
		r.Cause = Barred
	case !fits:
		r.Cause = TooLarge
	case r.Short == Amount{}:
		r.Cause = Scattered
	default:
		r.Cause = Full
	}
	if r.Cause != TooLarge {
		r.Largest = Amount{}
	}
	if r.Cause == Barred {
		r.Short = Amount{}
	} else {
		r.Barring = nil
	}
}

// last tells whether a load should look at other nodes before this one.
func (n *node) last(load Load) int {
	switch {
	case load.Kind == System && !n.pool.System, load.Each.GPU == 0 && n.pool.Node.GPU > 0:
		return 1
	}
	return 0
}

// takes tells whether the pool's taints and labels let the load onto its nodes.
func (p *Pool) takes(load Load) bool {
	for key, value := range load.Selector {
		if p.Labels[key] != value {
			return false
		}
	}
	return !slices.ContainsFunc(p.Taints, func(taint string) bool {
		pair, effect, _ := strings.Cut(taint, ":")
		key, value, _ := strings.Cut(pair, "=")
		return effect != "PreferNoSchedule" && !slices.ContainsFunc(load.Tolerations, func(t Toleration) bool {
			return (t.Key == "" && t.Exists || t.Key == key) && (t.Exists || t.Value == value) && (t.Effect == "" || t.Effect == effect)
		})
	})
}
