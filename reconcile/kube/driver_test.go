package kube

import (
	"context"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/drivertest"
	"github.com/amlaks/amlaks/reconcile/kube/routes"
	"github.com/amlaks/amlaks/reconcile/sandbox/cluster"
	"github.com/amlaks/amlaks/spec"
)

func TestMain(m *testing.M) {
	cluster.MaybeRunContainer()
	os.Exit(drivertest.Main(m))
}

const image = "registry.example/churn@sha256:0000000000000000000000000000000000000000000000000000000000000000"

// world stands for the drivers of Azure and images: a real API server, and images that
// nobody pulls, because every Deployment here has no replica.
type world struct{ kubeconfig string }

func (w world) Name() string { return "world" }

func (w world) Observe(_ context.Context, r reconcile.Request) ([]reconcile.Live, error) {
	live := []reconcile.Live{{Address: "cluster/dev", Owner: r.Stack, Outputs: map[string]string{"kubeconfig": w.kubeconfig}}}
	for _, a := range []reconcile.Address{"image/churn", "image/fe"} {
		live = append(live, reconcile.Live{Address: a, Owner: r.Stack, Outputs: map[string]string{"ref": image}})
	}
	return live, nil
}

func (w world) Read(context.Context, reconcile.Step) (*reconcile.Live, error) { return nil, nil }

func (w world) Apply(context.Context, reconcile.Step) (map[string]string, error) { return nil, nil }

// counter counts requests by method; dry-runs apart.
type counter struct {
	mu   sync.Mutex
	seen map[string]int
	next http.RoundTripper
}

func (c *counter) RoundTrip(r *http.Request) (*http.Response, error) {
	what := r.Method
	if r.URL.Query().Get("dryRun") != "" {
		what = "dry-run"
	}
	c.mu.Lock()
	c.seen[what]++
	c.mu.Unlock()
	return c.next.RoundTrip(r)
}

// run is one invocation of amlaks over the stack.
type run struct {
	driver    *Driver
	drivers   []reconcile.Driver
	resources []reconcile.Resource
	requests  *counter
	stack     *spec.Stack
}

func stackOf(services ...string) *spec.Stack {
	zero := 0
	s := &spec.Stack{Name: "churn", Clusters: []spec.Cluster{{Name: "dev", FrontEnd: spec.FrontEnd{Expose: spec.ExposeClusterIP, Port: 80}}}}
	for _, name := range services {
		s.Services = append(s.Services, spec.Service{
			Name: name, Cluster: "dev", Models: []spec.Model{{Name: "churn", Version: "3"}}, AuthMode: spec.AuthKey, NumReplicas: &zero,
			Inference:        spec.Inference{BaseImage: spec.ScratchImage, Port: 5001, Routes: spec.Routes{Scoring: "/score", Liveness: "/", Readiness: "/"}},
			Resources:        spec.Resources{CPU: 0.1, MemoryInGB: 0.5, GPU: 1},
			ScoringTimeoutMs: 60000, MaxConcurrentRequestsPerContainer: 1, MaxQueueWaitMs: 500,
			Liveness: spec.Liveness{InitialDelaySeconds: 310, PeriodSeconds: 10, TimeoutSeconds: 2, SuccessThreshold: 1, FailureThreshold: 3},
		})
	}
	return s
}

func start(t *testing.T, kubeconfig string, stack *spec.Stack, readOnly bool) *run {
	t.Helper()
	return startWith(t, kubeconfig, stack, readOnly, os.Getenv)
}

func startWith(t *testing.T, kubeconfig string, stack *spec.Stack, readOnly bool, getenv func(string) string) *run {
	t.Helper()
	r := &run{requests: &counter{seen: map[string]int{}}, stack: stack}
	r.driver = New(stack, Wiring{
		Kubeconfig: func(name string) reconcile.Ref {
			return reconcile.Ref{Address: reconcile.Address("cluster/" + name), Output: "kubeconfig"}
		},
		Image:         func(string, string) reconcile.Ref { return reconcile.Ref{Address: "image/churn", Output: "ref"} },
		FrontEndImage: reconcile.Ref{Address: "image/fe", Output: "ref"},
	}, getenv, readOnly)
	r.driver.wrap = func(next http.RoundTripper) http.RoundTripper { r.requests.next = next; return r.requests }
	resources, err := r.driver.Resources()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []reconcile.Address{"cluster/dev", "image/churn", "image/fe"} {
		resources = append(resources, reconcile.Resource{Address: a, Driver: "world", Data: true})
	}
	r.resources = resources
	r.drivers = []reconcile.Driver{world{kubeconfig}, r.driver}
	return r
}

func (r *run) plan(t *testing.T, o reconcile.Options) *reconcile.Plan {
	t.Helper()
	observed, err := reconcile.Observe(t.Context(), r.drivers, r.stack.Name, r.resources)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := reconcile.NewPlan(r.stack.Name, r.resources, observed, o)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func (r *run) apply(t *testing.T, o reconcile.Options) *reconcile.Result {
	t.Helper()
	return reconcile.Apply(t.Context(), r.drivers, r.plan(t, o), reconcile.ApplyOptions{})
}

// pending are the changes that a plan would make, "update kube/...".
func pending(p *reconcile.Plan) []string {
	var out []string
	for _, c := range p.Changes {
		if c.Action != reconcile.NoOp && c.Action != reconcile.Wait { // a Deployment may not be observed yet
			out = append(out, string(c.Action)+" "+string(c.Address))
		}
	}
	return out
}

func succeeded(t *testing.T, r *reconcile.Result) {
	t.Helper()
	for _, o := range r.Outcomes {
		if o.Err != nil {
			t.Fatalf("%s: %v", o.Change.Address, o.Err)
		}
	}
}

// TestDriver takes the driver through the engine's suite on a real API server, and then a
// whole stack through what that does not look at.
func TestDriver(t *testing.T) {
	binary, err := cluster.Binary(t.Context(), "", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	controlPlane, err := cluster.Start(t.Context(), cluster.Options{Dir: t.TempDir(), Name: "dev", Binary: binary, Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(controlPlane.Stop)
	kubeconfig := string(controlPlane.Kubeconfig())
	admin, err := newClient(kubeconfig, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	secrets := admin.typed.CoreV1().Secrets("amlaks-churn")

	t.Run("conformance", func(t *testing.T) { conformance(t, kubeconfig) })

	t.Run("certificates", func(t *testing.T) { certificates(t, kubeconfig) })

	t.Run("secrets of Key Vault", func(t *testing.T) { vaultSecrets(t, kubeconfig) })

	t.Run("pitfall", func(t *testing.T) { pitfalls(t, kubeconfig) })

	t.Run("create, then nothing", func(t *testing.T) {
		succeeded(t, start(t, kubeconfig, stackOf("churn"), false).apply(t, reconcile.Options{}))
		again := start(t, kubeconfig, stackOf("churn"), false)
		if got := pending(again.plan(t, reconcile.Options{})); got != nil {
			t.Errorf("a second plan would %v", got)
		}
		succeeded(t, again.apply(t, reconcile.Options{}))
		// Twice observed: the namespace, and a LIST for each of the other kinds. No dry-run, no write.
		if diff := cmp.Diff(map[string]int{"GET": 2 * (1 + len(kinds))}, again.requests.seen); diff != "" {
			t.Error(diff)
		}
	})

	t.Run("keys are generated once", func(t *testing.T) {
		keys := func() map[string][]byte {
			secret, err := secrets.Get(t.Context(), "churn-keys", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return secret.Data
		}
		before := keys()
		changed := stackOf("churn")
		changed.Services[0].Tags = map[string]string{"team": "ml"}
		succeeded(t, start(t, kubeconfig, changed, false).apply(t, reconcile.Options{}))
		if diff := cmp.Diff(before, keys()); diff != "" || len(before) != 2 {
			t.Errorf("%d keys, %s", len(before), diff)
		}
		// Killed between making the Secret and its keys: only what is missing is generated.
		_, err := secrets.Patch(t.Context(), "churn-keys", types.MergePatchType, []byte(`{"data": {"`+routes.SecondaryKey+`": null}}`), metav1.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r := start(t, kubeconfig, stackOf("churn"), false)
		if diff := cmp.Diff([]string{"update kube/dev/Secret/churn-keys"}, pending(r.plan(t, reconcile.Options{}))); diff != "" {
			t.Fatal(diff)
		}
		succeeded(t, r.apply(t, reconcile.Options{}))
		after := keys()
		if string(after[routes.PrimaryKey]) != string(before[routes.PrimaryKey]) || len(after[routes.SecondaryKey]) == 0 {
			t.Error("the primary key did not survive, or the secondary did not come")
		}
		for _, c := range r.plan(t, reconcile.Options{}).Changes {
			for _, d := range c.Diff {
				t.Errorf("%s %s", c.Address, d.Path)
			}
		}
	})

	t.Run("destroy takes the namespace, and all in it", func(t *testing.T) {
		r := start(t, kubeconfig, stackOf("churn"), false)
		if diff := cmp.Diff([]string{"delete kube/dev/Namespace/amlaks-churn"}, pending(r.plan(t, reconcile.Options{Destroy: true}))); diff != "" {
			t.Fatal(diff)
		}
		succeeded(t, r.apply(t, reconcile.Options{Destroy: true}))
	})
}

// What asks for an accelerator may be on the nodes that are kept for it, and nothing else may.
func TestTolerations(t *testing.T) {
	for want, resources := range map[string]spec.Resources{
		"": {}, "sku=gpu:NoSchedule": {GPU: 1}, "sku=fpga:NoSchedule": {FPGA: 1}, "sku=gpu:NoSchedule sku=fpga:NoSchedule": {GPU: 1, FPGA: 1},
	} {
		stack := stackOf("churn")
		stack.Services[0].Resources = resources
		stack.Services[0].Resources.CPU = 0.1
		r := &renderer{driver: New(stack, Wiring{}, os.Getenv, true), cluster: stack.Clusters[0]}
		var got []string
		for _, toleration := range r.pod(stack.Services[0], stack.Services[0].ServedVersions()[0]).Tolerations {
			if *toleration.Operator != corev1.TolerationOpEqual {
				t.Errorf("operator %s", *toleration.Operator)
			}
			got = append(got, *toleration.Key+"="+*toleration.Value+":"+string(*toleration.Effect))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%+v: tolerations %q, want %q", resources, got, want)
		}
	}
}

func TestGPUAndQuantities(t *testing.T) {
	limit := 4.0
	got := resources(spec.Resources{CPU: 0.1, MemoryInGB: 0.5, MemoryInGBLimit: &limit, GPU: 2, FPGA: 1})
	text := func(list *corev1.ResourceList) map[string]string {
		out := map[string]string{}
		for name, quantity := range *list {
			out[string(name)] = quantity.String()
		}
		return out
	}
	if diff := cmp.Diff(map[string]string{"cpu": "100m", "memory": "512Mi", "nvidia.com/gpu": "2", "xilinx.com/fpga-xilinx_u250_gen3x16_xdma_shell_2_1-0": "1"}, text(got.Requests)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"memory": "4Gi", "nvidia.com/gpu": "2", "xilinx.com/fpga-xilinx_u250_gen3x16_xdma_shell_2_1-0": "1"}, text(got.Limits)); diff != "" {
		t.Error(diff)
	}
}
