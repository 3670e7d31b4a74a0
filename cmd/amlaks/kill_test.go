package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// The stack as it is committed first, and with two later commits: another number of nodes,
// another tag, a pool in the place of another, a service that changes and one that comes; and
// then one that goes.
const (
	stackFirst = stackHead + `clusters:
  - name: prod
    purpose: DevTest
    agentCount: 1
    frontEnd: {port: 8080}
    protect: false
    tags: {team: risk}
    nodePools: [{name: old, vmSize: Standard_D4ds_v5, agentCount: 1}]
services:
  - name: churn
    cluster: prod
    models: [{name: churn, version: 1, path: ./model}]
    inference: {sourceDirectory: score, command: [./server], baseImage: scratch}
    resources: {cpu: 0.1, memoryInGB: 0.1}
    numReplicas: 2
`
	clustersLater = stackHead + `clusters:
  - name: prod
    purpose: DevTest
    agentCount: 2
    frontEnd: {port: 8080}
    protect: false
    tags: {team: fraud, costCenter: "4711"}
    nodePools: [{name: fresh, vmSize: Standard_D4ds_v5, agentCount: 1}]
services:
  - name: joins
    cluster: prod
    models: [{name: joins, version: 1, path: ./model}]
    inference: {sourceDirectory: score, command: [./server], baseImage: scratch}
    resources: {cpu: 0.1, memoryInGB: 0.1}
    numReplicas: 1
`
	stackSecond = clustersLater + `  - name: churn
    cluster: prod
    models: [{name: churn, version: 2, path: ./model}]
    inference: {sourceDirectory: score, command: [./server], baseImage: scratch}
    resources: {cpu: 0.2, memoryInGB: 0.1}
    numReplicas: 2
`
	stackThird = clustersLater
)

// stackAttached is on a cluster that somebody else has made.
const stackAttached = stackHead + `clusters:
  - name: shared
    attach: {resourceGroup: ml-prod, clusterName: existing}
    purpose: DevTest
    frontEnd: {port: 8080}
services:
  - name: churn
    cluster: shared
    models: [{name: churn, version: 1, path: ./model}]
    inference: {sourceDirectory: score, command: [./server], baseImage: scratch}
    resources: {cpu: 0.1, memoryInGB: 0.1}
    numReplicas: 1
`

// life is what becomes of a stack, command by command.
type life struct {
	name   string
	begin  func(t *testing.T, w *world) // makes what is there before amlaks is; may be nil
	writes bool                         // kills at requests that change something alone
	stages []stage
}

// stage is one command of a life, and the one that says that nothing is left to do. STACK is
// the stack's name.
type stage struct {
	name  string
	file  string // amlaks.yaml
	calm  bool   // nobody is killed here
	every int    // kills at each so many-th request alone; 0: at every one
	args  []string
	again []string
}

func lives() []life {
	apply, prune, destroy := []string{"apply", "--yes"}, []string{"apply", "--yes", "--prune"}, []string{"destroy", "--yes", "STACK"}
	nothing := []string{"plan", "--detailed-exitcode"}
	return []life{
		{name: "own cluster", stages: []stage{
			{name: "first apply", file: stackFirst, args: apply, again: nothing},
			{name: "update", file: stackSecond, args: prune, again: nothing},
			{name: "prune", file: stackThird, every: 4, args: prune, again: nothing},
			{name: "destroy", file: stackThird, every: 4, args: destroy, again: destroy},
		}},
		// Kubernetes takes seconds to delete a namespace, which is looked at all the while.
		{name: "attached cluster", begin: existingCluster, writes: true, stages: []stage{
			{name: "apply", file: stackAttached, calm: true, args: apply, again: nothing},
			{name: "destroy", file: stackAttached, args: destroy, again: destroy},
		}},
	}
}

func existingCluster(t *testing.T, w *world) {
	if err := w.CreateCluster(t.Context(), sandbox.ClusterRequest{Name: "existing"}); err != nil {
		t.Fatal(err)
	}
}

// killer counts the requests of a run and kills it at one of them.
type killer struct {
	mu      sync.Mutex
	victim  *child
	moment  sandbox.Moment
	writes  bool            // counts requests that change something alone, as it does Before
	left    int             // requests until the one that counts; 0: nobody is killed
	at      sandbox.Request // the request that it was
	created map[string]int  // how often ARM has made a resource
	count   map[sandbox.Moment]int
}

// hook is a sandbox.Options.Hook.
func (k *killer) hook(r sandbox.Request, m sandbox.Moment) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if m == sandbox.After && r.Service == "arm" && r.Method == "PUT" && r.Status == 201 {
		k.created[r.Path]++
	}
	if (m == sandbox.Before || k.writes) && !isWrite(r) {
		return true
	}
	k.count[m]++
	if k.left == 0 || m != k.moment {
		return true
	}
	if k.left--; k.left > 0 {
		return true
	}
	k.at = r
	// That it has ended is seen by who waits for it.
	_ = k.victim.signal(syscall.SIGKILL)
	return false
}

// reset begins a stage.
func (k *killer) reset() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.created, k.count, k.at = map[string]int{}, map[sandbox.Moment]int{}, sandbox.Request{}
}

// counts gives how many requests there have been in this stage.
func (k *killer) counts() map[sandbox.Moment]int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.count)
}

// made gives how often ARM has made each resource in this stage.
func (k *killer) made() map[string]int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.created)
}

// strike runs a command and kills it at its n-th request, of those that change something if
// the moment is Before. It tells whether there was such a request.
func (k *killer) strike(w *world, m sandbox.Moment, n int, args ...string) (killed bool) {
	w.t.Helper()
	k.mu.Lock()
	k.moment, k.left = m, n
	k.victim = w.start(args...) // its first request waits for the lock
	k.mu.Unlock()
	got := k.victim.wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.left = 0
	if killed = k.at.Method != ""; killed != (got.code == -1) || !killed && got.code != exitOK {
		w.t.Fatalf("amlaks %v: killed %v, exit code %d\n%s%s", args, killed, got.code, got.stdout, got.stderr)
	}
	return killed
}

// passage is what an uninterrupted stage does.
type passage struct {
	state state
	count map[sandbox.Moment]int // requests that have taken effect, and such that will change something
}

// TestKilledAnywhere kills amlaks with SIGKILL at every request of a first apply and of an update,
// and at some of prunes and destroys, once when the request has taken effect and before its
// answer is sent, and for those that change something once before. The same command, run again, must end where an
// uninterrupted one does: no orphan, no duplicate, no second pair of keys. With -short it is
// every tenth request.
func TestKilledAnywhere(t *testing.T) {
	for _, l := range lives() {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			l.killedAnywhere(t)
		})
	}
}

func (l life) killedAnywhere(t *testing.T) {
	reference := l.undisturbed(t)
	step := 1
	if testing.Short() {
		step = 10
	}
	moments := map[sandbox.Moment]string{sandbox.Before: "before", sandbox.After: "after"}
	var mu sync.Mutex
	struck, expected := map[sandbox.Moment]int{}, map[sandbox.Moment]int{}
	t.Run("at", func(t *testing.T) {
		for moment, name := range moments {
			last := 0
			for i, p := range reference {
				if !l.stages[i].calm {
					last = max(last, p.count[moment])
				}
			}
			for n := 1; n <= last; n += step {
				t.Run(fmt.Sprintf("%s/%d", name, n), func(t *testing.T) {
					t.Parallel()
					count := l.killedAt(t, moment, n, reference)
					mu.Lock()
					defer mu.Unlock()
					struck[moment] += count
					for i, p := range reference {
						if !l.stages[i].calm && p.count[moment] >= n {
							expected[moment]++
						}
					}
				})
			}
		}
	})
	for moment, name := range moments {
		t.Logf("killed %d times %s", struck[moment], name)
		// How often something is polled differs from run to run, a little.
		if !t.Failed() && struck[moment] < (expected[moment]+1)/2 {
			t.Errorf("killed %d times %s: an uninterrupted life has %d such requests", struck[moment], name, expected[moment])
		}
	}
}

// start makes a world for a life.
func (l life) start(t *testing.T, k *killer) *world {
	t.Helper()
	w := newWorld(t, func(o *sandbox.Options) { o.Hook = k.hook })
	if l.begin != nil {
		l.begin(t, w)
	}
	return w
}

// commands gives a stage's with the stack's name in them.
func (s stage) commands(w *world) (args, again []string) {
	named := func(args []string) []string {
		args = slices.Clone(args)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "STACK", w.stack)
		}
		return args
	}
	return named(s.args), named(s.again)
}

// undisturbed leads a life that nobody interrupts.
func (l life) undisturbed(t *testing.T) []passage {
	t.Helper()
	k := &killer{writes: l.writes}
	k.reset()
	w := l.start(t, k)
	var passages []passage
	for _, s := range l.stages {
		args, again := s.commands(w)
		k.reset()
		w.write("amlaks.yaml", s.file)
		w.must(exitOK, args...)
		p := passage{count: k.counts(), state: stateOf(t, w)}
		if i := len(passages); i > 0 && cmp.Equal(passages[i-1].state, p.state) {
			t.Fatalf("%s: the state that is compared does not show it", s.name)
		}
		passages = append(passages, p)
		w.must(exitOK, again...)
	}
	return passages
}

// killedAt leads a life in which every stage that has so many requests is killed at the n-th
// of them. It gives how many have been.
func (l life) killedAt(t *testing.T, moment sandbox.Moment, n int, reference []passage) (killed int) {
	k := &killer{writes: l.writes}
	k.reset()
	w := l.start(t, k)
	for i, s := range l.stages {
		if !l.reaches(i, moment, n, reference) {
			break
		}
		args, _ := s.commands(w)
		k.reset()
		w.write("amlaks.yaml", s.file)
		if !s.strikes(n) || reference[i].count[moment] < n {
			w.must(exitOK, args...)
			continue
		}
		if !k.strike(w, moment, n, args...) {
			continue // it polled something less often than the reference did
		}
		killed++
		at := fmt.Sprintf("%s, killed at %s %s %s", s.name, k.at.Service, k.at.Method, k.at.Path)
		keys := w.keysOf()
		if got := w.run(args...); got.code != exitOK {
			t.Fatalf("%s: the second run: exit code %d\n%s%s", at, got.code, got.stdout, got.stderr)
		}
		if diff := cmp.Diff(reference[i].state, stateOf(t, w)); diff != "" {
			t.Fatalf("%s: not what an uninterrupted run leaves (-want +got):\n%s", at, diff)
		}
		// Of this state the undisturbed life's next command has said that nothing is left to do.
		for path, times := range k.made() {
			if times > 1 {
				t.Errorf("%s: %s was made %d times", at, path, times)
			}
		}
		compareKeys(t, at, keys, w.keysOf())
	}
	return killed
}

// strikes tells whether the stage is killed at its n-th request, if it has one.
func (s stage) strikes(n int) bool { return !s.calm && (n-1)%max(s.every, 1) == 0 }

// reaches tells whether this stage or a later one is killed at its n-th request.
func (l life) reaches(from int, m sandbox.Moment, n int, reference []passage) bool {
	for i := from; i < len(reference); i++ {
		if l.stages[i].strikes(n) && reference[i].count[m] >= n {
			return true
		}
	}
	return false
}

// compareKeys checks that keys have stayed what they were and that no two are the same.
func compareKeys(t *testing.T, at string, before, after map[string]string) {
	t.Helper()
	for name, value := range before {
		if now, there := after[name]; there && now != value {
			t.Errorf("%s: %s is another one than at the kill", at, name)
		}
	}
	values := slices.Sorted(maps.Values(after))
	if slices.Contains(values, "") || len(slices.Compact(values)) != len(after) {
		t.Errorf("%s: of %d keys some are empty or the same", at, len(after))
	}
}
