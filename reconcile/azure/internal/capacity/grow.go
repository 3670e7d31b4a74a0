package capacity

import "slices"

// maxNodes is what AKS lets a pool have.
const maxNodes = 1000

// Grow gives the number of nodes with which each pool would have to go on for every load to
// fit, with updates also for one replica more of any; by pool, of those that need more. False:
// more nodes are no help. It adds to the pool whose nodes are the smallest of those that take
// what has no room.
func Grow(pools []Pool, loads []Load, updates bool) (map[string]int, bool) {
	grown := append([]Pool(nil), pools...)
	for {
		missing := map[*Pool]Amount{} // what each is to have more, at least
		for _, r := range Place(grown, loads) {
			if r.enough(updates) {
				continue
			}
			pool := smallest(grown, r.Load)
			if pool == nil {
				return nil, false
			}
			r.Each.Pods = 1 // and nothing when it is only an update that has no room: one node does for all
			missing[pool] = missing[pool].plus(r.Each, int64(r.Replicas-r.Placed))
		}
		if len(missing) == 0 {
			break
		}
		for pool, amount := range missing {
			pool.Count += nodesFor(amount, pool.Node.Room())
			if pool.Count > maxNodes {
				return nil, false
			}
		}
	}
	counts := map[string]int{}
	for i := range grown {
		for grown[i].Count > pools[i].Count { // what was added for one may do for another too
			grown[i].Count--
			if !fits(grown, loads, updates) {
				grown[i].Count++
				counts[grown[i].Name] = grown[i].Count
				break
			}
		}
	}
	return counts, true
}

func fits(pools []Pool, loads []Load, updates bool) bool {
	return !slices.ContainsFunc(Place(pools, loads), func(r Result) bool { return !r.enough(updates) })
}

func (r Result) enough(updates bool) bool {
	return r.Cause == Fits && (!updates || r.Spare || r.Kind == System || r.Replicas == 0)
}

// smallest is the pool with the fewest vCPU a node, of those one node of which has room.
func smallest(pools []Pool, load Load) *Pool {
	var best *Pool
	for i := range pools {
		p := &pools[i]
		if p.takes(load) && p.Node.Room().holds(load.Each) && (best == nil || p.Node.VCPU < best.Node.VCPU) {
			best = p
		}
	}
	return best
}

// nodesFor is a number of nodes that cannot be too many for an amount: were it a liquid, they
// would not hold it, or just so. It is a step towards enough.
func nodesFor(amount, room Amount) int {
	nodes := int64(1)
	for _, pair := range [][2]int64{{amount.CPU, room.CPU}, {amount.Memory, room.Memory}, {amount.GPU, room.GPU}, {amount.Pods, room.Pods}} {
		if pair[1] > 0 {
			nodes = max(nodes, pair[0]/pair[1])
		}
	}
	return int(min(nodes, maxNodes+1))
}
