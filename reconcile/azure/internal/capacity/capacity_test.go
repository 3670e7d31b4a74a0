package capacity

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const gib = 1 << 30

// TestAllocatable compares with AKS' documentation and with nodes that people have shown.
func TestAllocatable(t *testing.T) {
	for _, test := range []struct {
		name           string
		memory         int64 // as Kubernetes sees it
		maxPods, minor int
		reserved       int64
	}{
		// The examples of the page "node resource reservations".
		{"8 GB, 30 pods", 8000 * mebibyte, 30, 31, (650 + 100) * mebibyte},
		{"4 GB, 70 pods: a quarter", 4000 * mebibyte, 70, 31, (1000 + 100) * mebibyte},
		// A Standard_E4 of 2025, Kubernetes 1.30: Allocatable 27591416Ki.
		{"32865016Ki, 250 pods", 32865016 << 10, 250, 30, (32865016 - 27591416) << 10},
		{"today's when nobody knows", 8000 * mebibyte, 30, 0, 750 * mebibyte},
		{"1.29 is the first", 8000 * mebibyte, 30, 29, 750 * mebibyte},
		{"1.28: 25, 20 % and 750 MiB", 8 * gib, 30, 28, 1024*mebibyte + 4*gib/5 + 750*mebibyte},
		{"1.28: all tiers", 256 * gib, 30, 28, 1*gib + 4*gib/5 + 8*gib/10 + 112*gib*6/100 + 128*gib*2/100 + 750*mebibyte},
		{"1.28: the first tier alone", 2 * gib, 30, 28, gib/2 + 750*mebibyte},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := memoryReservation(test.memory, test.maxPods, test.minor); got != test.reserved {
				t.Errorf("%d Ki, want %d Ki", got>>10, test.reserved>>10)
			}
		})
	}
	for vCPU, want := range map[int]int64{1: 60, 2: 100, 3: 140, 4: 140, 6: 180, 8: 180, 16: 260, 20: 420, 32: 420, 48: 740, 64: 740, 96: 1060} {
		if got := (Node{Machine: Machine{VCPU: vCPU}}).Allocatable().CPU; got != int64(vCPU)*1000-want {
			t.Errorf("%d vCPU: %dm to give, want %dm reserved", vCPU, got, want)
		}
	}
}

// TestMemorySeen compares with real nodes: never more than they have, and not much less.
func TestMemorySeen(t *testing.T) {
	for memory, seen := range map[float64]int64{4: 4025836 << 10, 32: 32865016 << 10} {
		got := Machine{MemoryGiB: memory}.Memory()
		if got > seen || float64(got) < 0.98*float64(seen) {
			t.Errorf("%v GiB: %d Ki, and a node has %d Ki", memory, got>>10, seen>>10)
		}
	}
	if got := (Machine{MemoryGiB: 0.05}).Memory(); got != 0 {
		t.Errorf("a machine of 50 MiB has %d", got)
	}
}

func TestRoom(t *testing.T) {
	node := Node{Machine: Machine{VCPU: 4, MemoryGiB: 16, GPU: 1}, MaxPods: 250}
	memory := node.Memory()
	want := Amount{CPU: 4000 - 140 - 350, Memory: memory - memory/4 - 100*mebibyte - 470*mebibyte, GPU: 1, Pods: 244}
	if diff := cmp.Diff(want, node.Room()); diff != "" {
		t.Error(diff)
	}
	if got := (Node{Machine: Machine{VCPU: 0, MemoryGiB: 0.1}}).Room(); got != (Amount{}) {
		t.Errorf("what has less than AKS takes has %+v", got)
	}
}

func TestPlace(t *testing.T) {
	taint := []string{"sku=gpu:NoSchedule"}
	tolerates := []Toleration{{Key: "sku", Value: "gpu", Effect: "NoSchedule"}}
	// Rooms: 3.51 vCPU each for a machine of 4, 7.47 for one of 8.
	four, eight := Node{Machine: Machine{VCPU: 4, MemoryGiB: 16}, MaxPods: 30}, Node{Machine: Machine{VCPU: 8, MemoryGiB: 32}, MaxPods: 30}
	gpu := Node{Machine: Machine{VCPU: 4, MemoryGiB: 28, GPU: 1}, MaxPods: 30}
	service := func(name string, replicas int, cpu int64, memory int64, more ...func(*Load)) Load {
		l := Load{Name: name, Kind: Service, Replicas: replicas, Each: Amount{CPU: cpu, Memory: memory * gib}}
		for _, set := range more {
			set(&l)
		}
		return l
	}
	gpus := func(n int64) func(*Load) { return func(l *Load) { l.Each.GPU = n; l.Tolerations = tolerates } }
	for _, test := range []struct {
		name  string
		pools []Pool
		loads []Load
		want  []string // placed/wanted cause short; * no room for one more
	}{
		{"room for all", []Pool{{Name: "a", Node: four, Count: 2}}, []Load{service("s", 4, 1000, 1)}, []string{"4/4"}},
		{"exactly full: nothing for an update", []Pool{{Name: "a", Node: four, Count: 2}}, []Load{service("s", 2, 3510, 1)}, []string{"2/2 *"}},
		{"one too many", []Pool{{Name: "a", Node: four, Count: 2}}, []Load{service("s", 3, 3510, 1)}, []string{"2/3 full cpu 3510"}},
		{"short by less than a replica", []Pool{{Name: "a", Node: four, Count: 1}}, []Load{service("s", 2, 2000, 1)}, []string{"1/2 full cpu 490"}},
		{"eight vCPU do not fit on two nodes of four", []Pool{{Name: "a", Node: four, Count: 3}}, []Load{service("s", 1, 8000, 1)}, []string{"0/1 tooLarge largest 3510"}},
		{"scattered: enough together", []Pool{{Name: "a", Node: four, Count: 3}}, []Load{service("big", 3, 2000, 1), service("s", 1, 1600, 1)}, []string{"3/3 *", "0/1 scattered"}},
		{"large ones go first, whatever the order", []Pool{{Name: "a", Node: eight, Count: 1}, {Name: "b", Node: four, Count: 1}},
			[]Load{service("small", 3, 1000, 1), service("large", 1, 7000, 1)}, []string{"3/3 *", "1/1 *"}},
		{"memory is short", []Pool{{Name: "a", Node: four, Count: 1}}, []Load{service("s", 3, 100, 5)}, []string{"2/3 full memory"}},
		{"no node at all", []Pool{{Name: "a", Node: four, Count: 0}}, []Load{service("s", 1, 100, 1)}, []string{"0/1 full cpu 100"}},
		{"a GPU each", []Pool{{Name: "a", Node: four, Count: 3}, {Name: "g", Node: gpu, Count: 2, Taints: taint}},
			[]Load{service("s", 3, 1000, 1, gpus(1))}, []string{"2/3 full gpu 1"}},
		{"two GPUs, and no node has them", []Pool{{Name: "g", Node: gpu, Count: 2, Taints: taint}}, []Load{service("s", 1, 100, 1, gpus(2))}, []string{"0/1 tooLarge largest 3510"}},
		{"a taint keeps others off", []Pool{{Name: "g", Node: gpu, Count: 2, Taints: taint}}, []Load{service("s", 1, 100, 1)}, []string{"0/1 barred by g"}},
		{"what it may have is too small, and what is large enough keeps it off", []Pool{{Name: "a", Node: four, Count: 1}, {Name: "b", Node: eight, Count: 1, Taints: taint}},
			[]Load{service("s", 1, 7000, 1)}, []string{"0/1 barred by b"}},
		{"one that only prefers does not", []Pool{{Name: "g", Node: gpu, Count: 2, Taints: []string{"a=b:PreferNoSchedule"}}}, []Load{service("s", 1, 100, 1)}, []string{"1/1"}},
		{"spot is tolerated by nobody", []Pool{{Name: "g", Node: four, Count: 2, Taints: []string{"kubernetes.azure.com/scalesetpriority=spot:NoSchedule"}}},
			[]Load{service("s", 1, 100, 1, gpus(0))}, []string{"0/1 barred by g"}},
		{"GPU nodes are left to those who need them", []Pool{{Name: "g", Node: gpu, Count: 1}, {Name: "a", Node: four, Count: 1}},
			[]Load{service("a", 1, 3000, 1), service("b", 1, 3000, 1, gpus(1))}, []string{"1/1 *", "1/1 *"}},
		{"and taken when there is nothing else", []Pool{{Name: "g", Node: gpu, Count: 1}}, []Load{service("a", 1, 3000, 1)}, []string{"1/1 *"}},
		{"a selector", []Pool{{Name: "a", Node: four, Count: 1}, {Name: "b", Node: four, Count: 1, Labels: map[string]string{"disk": "ssd"}}},
			[]Load{service("s", 2, 3000, 1, func(l *Load) { l.Selector = map[string]string{"disk": "ssd"} })}, []string{"1/2 full cpu 2490"}},
		{"as many pods as a node may have", []Pool{{Name: "a", Node: four, Count: 1}}, []Load{service("s", 30, 10, 0)}, []string{"24/30 full pods 6"}},
		{"AKS' own first", []Pool{{Name: "a", Node: four, Count: 1, System: true}}, append(SystemPods(), service("s", 3, 1000, 1)),
			[]string{"2/2", "2/2", "2/2", "2/2", "1/1", "1/1", "2/3 full cpu 282"}},
		{"on their pool, not on another", []Pool{{Name: "u", Node: four, Count: 1}, {Name: "a", Node: four, Count: 1, System: true}}, append(SystemPods(), service("s", 2, 2700, 1)),
			[]string{"2/2", "2/2", "2/2", "2/2", "1/1", "1/1", "2/2 *"}},
		{"which has all its room", []Pool{{Name: "u", Node: four, Count: 1}, {Name: "a", Node: four, Count: 1, System: true}}, append(SystemPods(), service("s", 1, 3510, 1)),
			[]string{"2/2", "2/2", "2/2", "2/2", "1/1", "1/1", "1/1 *"}},
		{"the front end leaves GPU nodes alone", []Pool{{Name: "g", Node: gpu, Count: 1}, {Name: "a", Node: four, Count: 1}},
			[]Load{{Name: "fe", Kind: FrontEnd, Replicas: 1, Each: Amount{CPU: 500}}, service("s", 1, 3400, 1, gpus(1))}, []string{"1/1", "1/1 *"}},
		{"spread, so each node has less", []Pool{{Name: "a", Node: four, Count: 2}}, []Load{{Name: "fe", Kind: FrontEnd, Replicas: 2, Each: Amount{CPU: 100}}, service("s", 1, 3450, 1)},
			[]string{"2/2", "0/1 scattered"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, r := range Place(test.pools, test.loads) {
				line := fmt.Sprintf("%d/%d", r.Placed, r.Replicas)
				if r.Cause != Fits {
					line += " " + string(r.Cause)
				} else if !r.Spare {
					line += " *"
				}
				if len(r.Barring) > 0 {
					line += " by " + strings.Join(r.Barring, " ")
				}
				switch {
				case r.Largest != Amount{}:
					line += fmt.Sprintf(" largest %d", r.Largest.CPU)
				case r.Short.CPU > 0:
					line += fmt.Sprintf(" cpu %d", r.Short.CPU)
				case r.Short.GPU > 0:
					line += fmt.Sprintf(" gpu %d", r.Short.GPU)
				case r.Short.Pods > 0:
					line += fmt.Sprintf(" pods %d", r.Short.Pods)
				case r.Short.Memory > 0:
					line += " memory"
				}
				got = append(got, line)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// thousand are services of 1 vCPU: three go on a node of 3.51.
func thousand() []Load {
	var all []Load
	for i := range 1000 {
		all = append(all, Load{Name: fmt.Sprintf("s%03d", i), Kind: Service, Replicas: 1, Each: Amount{CPU: 1000 + int64(i%3)}})
	}
	return all
}

func TestGrow(t *testing.T) {
	four, eight := Node{Machine: Machine{VCPU: 4, MemoryGiB: 16}, MaxPods: 30}, Node{Machine: Machine{VCPU: 8, MemoryGiB: 32}, MaxPods: 30}
	gpu := Node{Machine: Machine{VCPU: 4, MemoryGiB: 28, GPU: 1}, MaxPods: 30}
	tolerates := []Toleration{{Key: "sku", Value: "gpu", Effect: "NoSchedule"}}
	service := func(replicas int, cpu, gpus int64) Load {
		return Load{Name: fmt.Sprint(cpu), Kind: Service, Replicas: replicas, Each: Amount{CPU: cpu, GPU: gpus}, Tolerations: tolerates}
	}
	for _, test := range []struct {
		name  string
		pools []Pool
		loads []Load
		want  map[string]int // nil: no number helps

		updates bool
	}{
		{"fits already", []Pool{{Name: "a", Node: four, Count: 2}}, []Load{service(2, 1000, 0)}, map[string]int{}, false},
		{"one more", []Pool{{Name: "a", Node: four, Count: 2}}, []Load{service(3, 3000, 0)}, map[string]int{"a": 3}, false},
		{"many more", []Pool{{Name: "a", Node: four, Count: 1}}, []Load{service(300, 1000, 0)}, map[string]int{"a": 100}, false},
		{"from none", []Pool{{Name: "a", Node: four, Count: 0}}, []Load{service(1, 1000, 0)}, map[string]int{"a": 1}, false},
		{"the smaller node that is large enough", []Pool{{Name: "b", Node: eight, Count: 1}, {Name: "a", Node: four, Count: 1}}, []Load{service(5, 3000, 0)}, map[string]int{"a": 3}, false},
		{"only the larger is large enough", []Pool{{Name: "b", Node: eight, Count: 1}, {Name: "a", Node: four, Count: 1}}, []Load{service(2, 6000, 0)}, map[string]int{"b": 2}, false},
		{"two pools", []Pool{{Name: "a", Node: four, Count: 1}, {Name: "g", Node: gpu, Count: 1, Taints: []string{"sku=gpu:NoSchedule"}}},
			[]Load{service(2, 1000, 1), service(3, 3400, 0)}, map[string]int{"a": 3, "g": 2}, false},
		{"too large for any", []Pool{{Name: "a", Node: four, Count: 1}}, []Load{service(1, 9000, 0)}, nil, false},
		{"more than a pool may have", []Pool{{Name: "a", Node: four, Count: 1}}, []Load{service(1001, 3000, 0)}, nil, false},
		{"one more for an update", []Pool{{Name: "a", Node: four, Count: 2}}, []Load{service(2, 3000, 0)}, map[string]int{"a": 3}, true},
		{"an update of either, one at a time", []Pool{{Name: "a", Node: four, Count: 2}}, []Load{service(1, 3000, 0), service(1, 3001, 0)}, map[string]int{"a": 3}, true},
		{"an update has room", []Pool{{Name: "a", Node: four, Count: 2}}, []Load{service(2, 1000, 0)}, map[string]int{}, true},
		{"a thousand services, from one node", []Pool{{Name: "a", Node: four, Count: 1}}, thousand(), map[string]int{"a": 334}, false},
		{"and one more for an update of any", []Pool{{Name: "a", Node: four, Count: 334}}, append(thousand(), thousand()[:2]...), map[string]int{"a": 335}, true},
		{"what has no replica needs none more", []Pool{{Name: "a", Node: four, Count: 0}}, []Load{service(0, 1000, 0)}, map[string]int{}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, ok := Grow(test.pools, test.loads, test.updates)
			if ok != (test.want != nil) {
				t.Fatalf("%v, %v", got, ok)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Fatal(diff)
			}
			if !ok {
				return
			}
			// With these it fits, and with one less of any it does not.
			grown := append([]Pool(nil), test.pools...)
			for i := range grown {
				grown[i].Count = max(grown[i].Count, got[grown[i].Name])
			}
			if !fits(grown, test.loads, test.updates) {
				t.Error("it does not fit then")
			}
			for i := range grown {
				if got[grown[i].Name] == 0 {
					continue
				}
				grown[i].Count--
				if fits(grown, test.loads, test.updates) {
					t.Errorf("one less of %s would do", grown[i].Name)
				}
				grown[i].Count++
			}
		})
	}
}
