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
	w := start(t, func(o *sandbox.Options) { o.OperationTime = 1500 * time.Millisecond })
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

// A run that makes a workspace, a cluster in it, its role and its entry, killed after any
// request: the next one finishes, and nothing is made twice.
func TestKilledWhileMakingAWorkspace(t *testing.T) {
	t.Parallel()
	stack := inWorkspace(createKeys, "- {name: prod, purpose: DevTest, agentCount: 1, protect: false, attachToWorkspace: true}")
	for n, killed := 1, true; killed; n += 3 {
		w := start(t, noWorkspace)
		killed = w.killed(stack, reconcile.Options{}, func(i int, _ *http.Request) bool { return i == n })
		w.converge(stack, reconcile.Options{})
		w.wantSteady(stack, reconcile.Options{Prune: true})
		w.wantAssignmentsOn(partIDs["containerRegistry"], acrPull+" "+w.kubelet("prod"))
		w.converge(stack, reconcile.Options{Destroy: true})
		w.wantAssignmentsOn(partIDs["containerRegistry"])
		w.Close()
	}
}
