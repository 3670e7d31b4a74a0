package azure_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// killer ends a run once a request of it, counted from when it is armed, was answered. To
// Resource Manager that is a process killed at that moment.
type killer struct {
	cancel context.CancelFunc
	fatal  func(n int, r *http.Request) bool
	armed  atomic.Bool
	count  atomic.Int32
	killed atomic.Bool
}

func (k *killer) Do(request *policy.Request) (*http.Response, error) {
	response, err := request.Next()
	if k.armed.Load() && k.fatal(int(k.count.Add(1)), request.Raw()) {
		k.killed.Store(true)
		k.cancel()
	}
	return response, err
}

// killed plans and applies until the request that is fatal, and tells whether there was one.
func (w *world) killed(text string, o reconcile.Options, fatal func(n int, r *http.Request) bool) bool {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	k := &killer{cancel: cancel, fatal: fatal}
	connection := w.connect(false)
	connection.Options.PerCallPolicies = append(connection.Options.PerCallPolicies, k)
	s, err := w.open(connection, text, o)
	if err != nil {
		w.t.Fatal(err)
	}
	k.armed.Store(true)
	result := s.apply(ctx)
	if !k.killed.Load() {
		wantDone(w.t, result)
	}
	return k.killed.Load()
}

// A run killed right after it asked for a cluster is joined by the next one.
func TestKilledAfterCreate(t *testing.T) {
	t.Parallel()
	w := start(t, func(o *sandbox.Options) { o.OperationTime = 400 * time.Millisecond })
	stack := small(onePool, gpuPool)
	if !w.killed(stack, reconcile.Options{}, func(_ int, r *http.Request) bool { return r.Method == http.MethodPut }) {
		t.Fatal("the run was not killed")
	}
	s := w.plan(stack, reconcile.Options{})
	s.wantActions(map[reconcile.Address]reconcile.Action{
		"cluster/prod": reconcile.Wait, "cluster/prod/pool/agents": reconcile.Wait, "cluster/prod/pool/gpu": reconcile.Wait,
	})
	result := s.apply(t.Context())
	wantDone(t, result)
	if result.Outputs["cluster/prod"][azure.OutputKubeconfig] != kubeconfig {
		t.Error("the kubeconfig is not known after joining")
	}
	w.wantWrites("PUT prod if none")
	w.wantSteady(stack, reconcile.Options{})
}

// Two runs that plan the same creation make one cluster, and both end well.
func TestTwoRunsAtOnce(t *testing.T) {
	t.Parallel()
	w := start(t, func(o *sandbox.Options) { o.OperationTime = 100 * time.Millisecond })
	stack := small(onePool, gpuPool)
	first, second := w.plan(stack, reconcile.Options{}), w.plan(stack, reconcile.Options{})
	ended := make(chan *reconcile.Result, 1)
	go func() { ended <- first.apply(t.Context()) }()
	wantDone(t, second.apply(t.Context()))
	wantDone(t, <-ended)
	w.wantOneCreation()
	w.wantSteady(stack, reconcile.Options{})
}

// wantOneCreation checks that each resource was made once.
func (w *world) wantOneCreation() {
	w.t.Helper()
	made := map[string]int{}
	for _, r := range w.writes() {
		if r.Status == http.StatusCreated {
			made[line(r)]++
		}
	}
	for what, n := range made {
		if n != 1 {
			w.t.Errorf("%s: accepted %d times", what, n)
		}
	}
	if made["PUT prod if none"] != 1 {
		w.t.Errorf("created: %v, want the cluster", made)
	}
}

// Killed at any request of a run's whole life, a second run brings the same end.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	w := start(t)
	one, two := small(onePool), small("agentCount: 2", "tags: {cost: a}", gpuPool)
	for n, more := 1, true; more; n++ {
		if n > 100 {
			t.Fatal("a run of so few changes has more than 100 requests")
		}
		at := func(seen int, _ *http.Request) bool { return seen == n }
		more = false
		for _, step := range []struct {
			stack   string
			options reconcile.Options
		}{{one, reconcile.Options{}}, {two, reconcile.Options{}}, {one, reconcile.Options{Prune: true}}, {one, reconcile.Options{Destroy: true}}} {
			if step.stack == one && !step.options.Prune && !step.options.Destroy {
				w.ClearRequests()
			}
			more = w.killed(step.stack, step.options, at) || more
			w.converge(step.stack, step.options)
			if left := w.plan(step.stack, step.options); left.plan.Pending() != 0 {
				t.Errorf("killed at request %d: %v is left to do", n, left.actions())
			}
		}
		w.wantOneCreation()
		if status, _ := w.send(http.MethodGet, clusterID("prod"), ""); status != http.StatusNotFound {
			t.Errorf("killed at request %d: the cluster answers HTTP %d", n, status)
		}
		if t.Failed() {
			return
		}
	}
}
