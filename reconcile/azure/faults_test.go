package azure_test

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// The writes of the driver, each as a stack that is there and one that makes it write.
var (
	gpuPool  = "nodePools: [{name: gpu, vmSize: Standard_NC4as_T4_v3}]"
	sequence = map[string]struct {
		before, after string
		options       reconcile.Options
		address       reconcile.Address
		method, path  string // of the write
	}{
		"create a cluster": {"", small(onePool), reconcile.Options{}, "cluster/prod", "PUT", "managedclusters/prod$"},
		"update a cluster": {small(onePool), small(onePool, "tags: {cost: a}"), reconcile.Options{}, "cluster/prod", "PUT", "managedclusters/prod$"},
		"delete a cluster": {small(onePool), small(onePool), reconcile.Options{Destroy: true}, "cluster/prod", "DELETE", "managedclusters/prod$"},
		"create a pool":    {small(onePool), small(onePool, gpuPool), reconcile.Options{}, "cluster/prod/pool/gpu", "PUT", "agentpools/gpu$"},
		"update a pool":    {small(onePool), small("agentCount: 2"), reconcile.Options{}, "cluster/prod/pool/agents", "PUT", "agentpools/agents$"},
		"delete a pool":    {small(onePool, gpuPool), small(onePool), reconcile.Options{Prune: true}, "cluster/prod/pool/gpu", "DELETE", "agentpools/gpu$"},
		"attach":           {"", clusters(attach("shared", "existing")), reconcile.Options{}, "cluster/shared", "PATCH", "managedclusters/existing$"},
		"detach":           {clusters(attach("shared", "existing")), nothing, reconcile.Options{Prune: true}, "cluster/shared", "PATCH", "managedclusters/existing$"},
	}
)

// Faults that pass are lived through, at every write, and leave exactly what was wanted.
func TestPassingFaults(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]sandbox.Fault{
		"another operation":  {Status: 409, Code: "OperationNotAllowed", Count: 2},
		"another writer":     {Status: 412, Count: 1},
		"throttled":          {Status: 429, Count: 2},
		"server error":       {Status: 500, Count: 2},
		"reset before":       {Reset: "before"},
		"reset after":        {Reset: "after"},
		"reset after, twice": {Reset: "after", Count: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t)
			w.byHand(sandbox.ClusterRequest{Name: "existing"}, map[string]any{"team": "risk"})
			for write, test := range sequence {
				t.Run(write, func(t *testing.T) {
					w := &world{Sandbox: w.Sandbox, t: t}
					if test.before != "" {
						w.converge(test.before, reconcile.Options{})
					}
					fault.Method, fault.Path = test.method, test.path
					w.ClearRequests()
					w.fault(fault)
					w.converge(test.after, test.options)
					if left := w.Faults(); len(left) != 0 && fault.Reset == "" {
						t.Errorf("%d faults left: the write was not sent again", len(left))
					}
					w.ClearFaults()
					// A delete that was carried out is no more in the plan; all others are steady.
					if test.options.Destroy {
						if status, _ := w.send(http.MethodGet, clusterID("prod"), ""); status != http.StatusNotFound {
							t.Errorf("the cluster answers HTTP %d", status)
						}
					} else {
						w.wantSteady(test.after, test.options)
					}
					if got := w.tags("existing")["team"]; got != "risk" {
						t.Errorf("the attached cluster's own tag is %v", got)
					}
					w.clear()
				})
			}
		})
	}
}

// clear takes away what a sequence has left.
func (w *world) clear() {
	w.t.Helper()
	w.converge(nothing, reconcile.Options{Prune: true})
	if got := w.tags("existing"); got["team"] != "risk" || len(got) != 1 {
		w.t.Errorf("the attached cluster has the tags %v", got)
	}
}

// Retry-After is waited out, in seconds, and the write sent once more.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fault(sandbox.Fault{Method: "PUT", Status: 429, RetryAfter: sandbox.Duration(time.Second)})
	before := time.Now()
	w.converge(small(onePool), reconcile.Options{})
	if waited := time.Since(before); waited < time.Second {
		t.Errorf("waited %s, want at least 1s", waited)
	}
	w.wantWrites("PUT prod if none", "PUT prod if none")
}

// Faults that stay end the change with a reason, skip what depends on it, and are made good
// by the next run.
func TestLastingFaults(t *testing.T) {
	t.Parallel()
	const forEver = 1000
	creations := []string{"create a cluster", "create a pool"}
	all := slices.Sorted(maps.Keys(sequence))
	for name, test := range map[string]struct {
		fault   sandbox.Fault
		writes  []string
		reason  reconcile.Reason
		message string
		timeout time.Duration
	}{
		"no role":            {sandbox.Fault{Status: 403, Count: 1}, all, reconcile.ReasonForbidden, "AuthorizationFailed", time.Minute},
		"refused for good":   {sandbox.Fault{Status: 409, Code: "QuotaExceeded", Count: 1}, creations, reconcile.ReasonConflict, "QuotaExceeded", time.Minute},
		"throttled for ever": {sandbox.Fault{Status: 429, Count: forEver}, creations, reconcile.ReasonThrottled, "Throttled", time.Minute},
		"down":               {sandbox.Fault{Status: 503, Count: forEver}, creations, reconcile.ReasonUnavailable, "503", time.Minute},
		"not reachable":      {sandbox.Fault{Reset: "before", Count: forEver}, creations, reconcile.ReasonUnavailable, "cannot be reached", time.Minute},
		"busy for ever":      {sandbox.Fault{Status: 409, Code: "OperationNotAllowed", Count: forEver}, all, reconcile.ReasonNotHealthy, "not done within", 200 * time.Millisecond},
		"operation fails":    {sandbox.Fault{Operation: "failed:SkuNotAvailable"}, all, reconcile.ReasonOperationFailed, "SkuNotAvailable", time.Minute},
		"operation stays":    {sandbox.Fault{Operation: "never"}, all, reconcile.ReasonNotHealthy, "not done within", 200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t)
			w.byHand(sandbox.ClusterRequest{Name: "existing"}, map[string]any{"team": "risk"})
			for _, write := range test.writes {
				t.Run(write, func(t *testing.T) {
					w := &world{Sandbox: w.Sandbox, t: t}
					change := sequence[write]
					if change.before != "" {
						w.converge(change.before, reconcile.Options{})
					}
					fault := test.fault
					fault.Method, fault.Path = change.method, change.path
					w.fault(fault)
					result := w.plan(change.after, change.options).apply(t.Context(), test.timeout)
					wantFailure(t, result, change.address, reconcile.Failed, test.reason)
					o := outcome(t, result, change.address)
					if o.Err == nil || !strings.Contains(o.Err.Error(), test.message) || reconcile.HintOf(o.Err) == "" {
						t.Errorf("%v, hint %q; want %q and a hint", o.Err, reconcile.HintOf(o.Err), test.message)
					}
					for _, other := range result.Outcomes {
						if other.Change.Address != change.address && other.Change.Action.Pending() && other.Phase != reconcile.Skipped {
							t.Errorf("%s is %s", other.Change.Address, other.Phase)
						}
					}
					w.ClearFaults()
					// What is wrong with a cluster that is only attached, its owner mends.
					w.overlay(clusterID("existing"), map[string]any{"properties": map[string]any{"provisioningState": "Succeeded"}})
					w.converge(change.after, change.options)
					if !change.options.Destroy {
						w.wantSteady(change.after, change.options)
					}
					w.clear()
				})
			}
		})
	}
}

// An observation that fails makes no plan.
func TestObserveFaults(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.converge(small(onePool), reconcile.Options{})
	for name, test := range map[string]struct {
		path   string
		fault  sandbox.Fault
		stack  string
		reason reconcile.Reason
	}{
		"workspace forbidden":    {"workspaces/ml-prod$", sandbox.Fault{Status: 403}, small(onePool), reconcile.ReasonForbidden},
		"registry forbidden":     {"registries/mlprod$", sandbox.Fault{Status: 403}, small(onePool), reconcile.ReasonForbidden},
		"registry gone":          {"registries/mlprod$", sandbox.Fault{Status: 404}, small(onePool), reconcile.ReasonNotFound},
		"list forbidden":         {"managedclusters$", sandbox.Fault{Status: 403}, small(onePool), reconcile.ReasonForbidden},
		"identity unknown":       {"managedclusters$", sandbox.Fault{Status: 401}, small(onePool), reconcile.ReasonForbidden},
		"credentials forbidden":  {"credential$", sandbox.Fault{Status: 403}, small(onePool), reconcile.ReasonForbidden},
		"list down":              {"managedclusters$", sandbox.Fault{Status: 500, Count: 100}, small(onePool), reconcile.ReasonUnavailable},
		"no such workspace":      {"", sandbox.Fault{}, strings.Replace(small(onePool), "name: ml-prod}", "name: other}", 1), reconcile.ReasonNotFound},
		"no such resource group": {"", sandbox.Fault{}, strings.Replace(small(onePool), "resourceGroup: ml-prod", "resourceGroup: other", 1), reconcile.ReasonNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{Sandbox: w.Sandbox, t: t}
			if test.path != "" {
				test.fault.Path = test.path
				w.fault(test.fault)
			}
			_, err := w.open(w.connect(true), test.stack, reconcile.Options{})
			w.ClearFaults()
			var failure *reconcile.Failure
			if !errors.As(err, &failure) || failure.Reason != test.reason || failure.Hint == "" {
				t.Errorf("%v, reason %q, hint %q; want %q and a hint", err, reconcile.ReasonOf(err), reconcile.HintOf(err), test.reason)
			}
		})
	}
}
