package azure_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure"
	"github.com/amlaks/amlaks/reconcile/sandbox"
	"github.com/amlaks/amlaks/spec"
)

// kubeconfig is that of every cluster of the tests, and a secret.
const kubeconfig = "apiVersion: v1\nkind: Config\n# kubeconfig-that-nobody-may-see\n"

// version is that of amlaks.
const version = "0.0.0-test"

// settleEvery replaces the driver's two seconds.
const settleEvery = 5 * time.Millisecond

// world is a Resource Manager of its own, with the driver in front of it.
type world struct {
	*sandbox.Sandbox
	t *testing.T
}

func start(t *testing.T, options ...func(*sandbox.Options)) *world {
	t.Helper()
	o := sandbox.Options{Dir: t.TempDir(), Kubeconfig: []byte(kubeconfig), OperationTime: 20 * time.Millisecond}
	for _, option := range options {
		option(&o)
	}
	s, err := sandbox.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return &world{Sandbox: s, t: t}
}

// connect is how amlaks reaches it; only the first pause between tries is shorter.
func (w *world) connect(readOnly bool) *azure.Connection {
	w.t.Helper()
	environment := map[string]string{azure.EndpointVariable: w.ARMEndpoint(), azure.TokenVariable: w.Token()}
	connection, err := azure.Connect(func(name string) string { return environment[name] }, version, readOnly, azure.Identity{})
	if err != nil {
		w.t.Fatal(err)
	}
	connection.Options.Retry.RetryDelay = time.Millisecond
	connection.Options.PerCallPolicies = append(connection.Options.PerCallPolicies, wirePolicy{w.t})
	return connection
}

// clusters is a stack with these clusters, written as YAML lines below the key. It gives no
// roles: those have tests of their own.
func clusters(lines string) string { return inWorkspace("grantAcrPull: false", lines) }

// inWorkspace is a stack with these clusters, and more keys of the workspace.
func inWorkspace(keys, lines string) string {
	return fmt.Sprintf("apiVersion: amlaks.io/v1\nname: churn\nworkspace: {%s, subscriptionId: %s, resourceGroup: %s, name: %s}\nclusters:\n%s",
		keys, sandbox.SubscriptionID, sandbox.ResourceGroup, sandbox.Workspace, lines)
}

// small is a stack with one cluster of one pool, and more of the cluster's keys.
func small(more ...string) string {
	return clusters("- {" + strings.Join(append([]string{"name: prod, purpose: DevTest, vmSize: Standard_D4ds_v5, protect: false"}, more...), ", ") + "}")
}

const onePool = "agentCount: 1"

// nothing stands for a stack that has lost all its clusters. As a file it would be refused.
const nothing = ""

func parse(t *testing.T, text string) *spec.Stack {
	t.Helper()
	if text == nothing {
		stack := parse(t, small(onePool))
		stack.Clusters = nil
		return stack
	}
	stack, diagnostics := spec.Parse("amlaks.yaml", []byte(text), "")
	if stack == nil {
		t.Fatalf("%s\n%v", text, diagnostics)
	}
	return stack
}

// session is one run over a stack, as the command makes it.
type session struct {
	world  *world
	driver *azure.Driver
	nodes  *nodes
	plan   *reconcile.Plan
	known  reconcile.Outputs
	events []reconcile.Event
	each   func(reconcile.Event)
}

// open observes and plans over a connection.
func (w *world) open(connection *azure.Connection, text string, o reconcile.Options) (*session, error) {
	w.t.Helper()
	return w.openWith(&nodes{w: w}, connection, text, o)
}

func (w *world) openWith(nodes *nodes, connection *azure.Connection, text string, o reconcile.Options) (*session, error) {
	w.t.Helper()
	stack := parse(w.t, text)
	driver, err := azure.New(connection, stack, azure.Options{Nodes: nodes})
	if err != nil {
		w.t.Fatal(err)
	}
	driver.SetSettleEvery(settleEvery)
	resources, err := driver.Resources()
	if err != nil {
		w.t.Fatal(err)
	}
	seen, err := reconcile.Observe(w.t.Context(), []reconcile.Driver{driver}, stack.Name, resources)
	if err != nil {
		return nil, err
	}
	plan, err := reconcile.NewPlan(stack.Name, resources, seen, o)
	if err != nil {
		w.t.Fatal(err)
	}
	return &session{world: w, driver: driver, nodes: nodes, plan: plan, known: seen.Outputs}, nil
}

func (w *world) plan(text string, o reconcile.Options) *session {
	w.t.Helper()
	s, err := w.open(w.connect(false), text, o)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// apply carries the plan out; a change that takes longer than a minute has gone wrong.
func (s *session) apply(ctx context.Context, timeout ...time.Duration) *reconcile.Result {
	o := reconcile.ApplyOptions{Timeout: time.Minute, Emit: func(e reconcile.Event) {
		s.events = append(s.events, e)
		if s.each != nil {
			s.each(e)
		}
	}}
	if len(timeout) > 0 {
		o.Timeout = timeout[0]
	}
	return reconcile.Apply(ctx, []reconcile.Driver{s.driver}, s.plan, o)
}

// actions are those of a plan that are not no-op.
func (s *session) actions() map[reconcile.Address]reconcile.Action {
	actions := map[reconcile.Address]reconcile.Action{}
	for _, c := range s.plan.Changes {
		if c.Action != reconcile.NoOp {
			actions[c.Address] = c.Action
		}
	}
	return actions
}

func (s *session) wantActions(want map[reconcile.Address]reconcile.Action) {
	s.world.t.Helper()
	if want == nil {
		want = map[reconcile.Address]reconcile.Action{}
	}
	if diff := cmp.Diff(want, s.actions()); diff != "" {
		s.world.t.Errorf("the plan (-want +got):\n%s", diff)
	}
}

// converge plans and applies, and everything must be done then.
func (w *world) converge(text string, o reconcile.Options) *reconcile.Result {
	w.t.Helper()
	result := w.plan(text, o).apply(w.t.Context())
	wantDone(w.t, result)
	return result
}

func wantDone(t *testing.T, result *reconcile.Result) {
	t.Helper()
	for _, outcome := range result.Outcomes {
		if outcome.Phase != reconcile.Done {
			t.Errorf("%s %s: %s: %v", outcome.Change.Action, outcome.Change.Address, outcome.Phase, outcome.Err)
		}
	}
}

// wantSteady checks that there is nothing left to do and that doing it writes nothing.
func (w *world) wantSteady(text string, o reconcile.Options) {
	w.t.Helper()
	w.ClearRequests()
	s := w.plan(text, o)
	for _, c := range s.plan.Changes {
		if c.Action != reconcile.NoOp && c.Action != reconcile.Keep {
			w.t.Errorf("the second plan has %s %s: %v %s", c.Action, c.Address, c.Diff, c.Why)
		}
	}
	wantDone(w.t, s.apply(w.t.Context()))
	w.wantWrites()
}

// outcome is how the change of an address ended.
func outcome(t *testing.T, result *reconcile.Result, address reconcile.Address) reconcile.Outcome {
	t.Helper()
	for _, o := range result.Outcomes {
		if o.Change.Address == address {
			return o
		}
	}
	t.Fatalf("%s is not in the result", address)
	return reconcile.Outcome{}
}

func wantFailure(t *testing.T, result *reconcile.Result, address reconcile.Address, phase reconcile.Phase, reason reconcile.Reason) {
	t.Helper()
	o := outcome(t, result, address)
	if o.Phase != phase || reconcile.ReasonOf(o.Err) != reason {
		t.Errorf("%s: %s, reason %q (%v); want %s, %q", address, o.Phase, reconcile.ReasonOf(o.Err), o.Err, phase, reason)
	}
}

// writes are the requests seen that could change something.
func (w *world) writes() []sandbox.Request {
	var writes []sandbox.Request
	for _, r := range w.Requests("arm") {
		if r.Method != http.MethodGet && !strings.HasSuffix(r.Path, "/listClusterAdminCredential") {
			writes = append(writes, r)
		}
	}
	return writes
}

// line is a request in short: method, path below the provider, and the condition it is under.
func line(r sandbox.Request) string {
	_, path, _ := strings.Cut(r.Path, "/providers/Microsoft.ContainerService/managedClusters/")
	text := r.Method + " " + path
	if r.Headers["If-None-Match"] == "*" {
		text += " if none"
	}
	if r.Headers["If-Match"] != "" {
		text += " if match"
	}
	return text
}

func (w *world) wantWrites(want ...string) {
	w.t.Helper()
	var got []string
	for _, r := range w.writes() {
		got = append(got, line(r))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("writes (-want +got):\n%s", diff)
	}
}

func clusterID(name string) string {
	return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.ContainerService/managedClusters/%s",
		sandbox.SubscriptionID, sandbox.ResourceGroup, name)
}

// send makes a request of somebody else, and gives status and answer.
func (w *world) send(method, id, content string) (int, map[string]any) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.ARMEndpoint()+id+"?api-version=2025-02-01", strings.NewReader(content))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.Token())
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&answer); err != nil {
		w.t.Fatalf("%s %s: HTTP %d: %v", method, id, response.StatusCode, err)
	}
	return response.StatusCode, answer
}

// get gives a value of a live resource; nil if either is not there.
func (w *world) get(id string, path ...string) any {
	w.t.Helper()
	status, answer := w.send(http.MethodGet, id, "")
	if status == http.StatusNotFound {
		return nil
	}
	return at(answer, path...)
}

func at(v any, path ...string) any {
	for _, key := range path {
		object, _ := v.(map[string]any)
		v = object[key]
	}
	return v
}

// tags are those of a cluster.
func (w *world) tags(name string) map[string]any {
	w.t.Helper()
	tags, _ := w.get(clusterID(name), "tags").(map[string]any)
	return tags
}

// byHand makes a cluster that is nobody's, with these tags.
func (w *world) byHand(request sandbox.ClusterRequest, tags map[string]any) {
	w.t.Helper()
	if err := w.CreateCluster(w.t.Context(), request); err != nil {
		w.t.Fatal(err)
	}
	id := clusterID(request.Name)
	if request.ResourceGroup != "" {
		id = strings.Replace(id, "/"+sandbox.ResourceGroup+"/", "/"+request.ResourceGroup+"/", 1)
	}
	if request.SubscriptionID != "" {
		id = strings.Replace(id, sandbox.SubscriptionID, request.SubscriptionID, 1)
	}
	w.overlay(id, map[string]any{"tags": tags})
}

func (w *world) overlay(id string, merge map[string]any) {
	w.t.Helper()
	if err := w.Overlay(id, merge); err != nil {
		w.t.Error(err)
	}
}

func (w *world) fault(fault sandbox.Fault) {
	w.t.Helper()
	if _, err := w.Fault(fault); err != nil {
		w.t.Fatal(err)
	}
}

// wantIdle waits until no operation runs on a cluster or its pools.
func (w *world) wantIdle(name string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	ticker := time.NewTicker(settleEvery)
	defer ticker.Stop()
	for {
		_, cluster := w.send(http.MethodGet, clusterID(name), "")
		busy := at(cluster, "properties", "provisioningState") != "Succeeded"
		pools, _ := at(cluster, "properties", "agentPoolProfiles").([]any)
		for _, pool := range pools {
			busy = busy || at(pool, "provisioningState") != "Succeeded"
		}
		if !busy {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			w.t.Fatalf("%s: an operation is still running on it", name)
		}
	}
}
