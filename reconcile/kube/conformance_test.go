package kube

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/drivertest"
	"github.com/amlaks/amlaks/reconcile/kube/routes"
	"github.com/amlaks/amlaks/spec"
)

// subject is one of the objects of a service, as the engine's suite walks it.
type subject struct {
	kind  kind
	name  string
	needs []string // what is walked with it, KIND/NAME
	world drivertest.World
	drift string // a merge patch of what is owned
	// foreign is the object as somebody else makes it, but for its name and labels.
	foreign map[string]any
}

const (
	driftedLabel = `{"metadata": {"labels": {"amlaks.io/service": "other"}}}`
	labelPath    = `metadata.labels["amlaks.io/service"]`
	within       = "what is in the stack's namespace goes with it"
	unprotected  = "the file protects clusters, not what is in them"
)

func subjects() []subject {
	return []subject{
		{
			kind: kindDeployment, name: "churn", drift: driftedLabel,
			needs: []string{"Secret/churn-env"},
			world: drivertest.World{
				Changed: []string{"spec.template.spec.containers[0].resources.requests.cpu"}, Drifted: []string{labelPath},
				Nature: drivertest.Nature{Within: within, Unprotected: unprotected},
			},
			foreign: map[string]any{"spec": map[string]any{
				"replicas": int64(0),
				"selector": map[string]any{"matchLabels": map[string]any{labelName: "churn", LabelStack: ""}},
				"template": map[string]any{
					"metadata": map[string]any{"labels": map[string]any{labelName: "churn", LabelStack: ""}},
					"spec":     map[string]any{"containers": []any{map[string]any{"name": "scoring", "image": image}}},
				},
			}},
		},
		{
			kind: kindSecret, name: "churn-env", drift: `{"data": {"PASSWORD": "c29tZWJvZHkncw=="}}`,
			world: drivertest.World{
				Changed: []string{"data.PASSWORD"}, Drifted: []string{"data.PASSWORD"},
				Nature: drivertest.Nature{
					Within: within, Unprotected: unprotected,
					Hidden: "a plan masks a Secret's data",
				},
			},
			foreign: map[string]any{"data": map[string]any{"PASSWORD": "bWluZQ==", "more": "bWluZQ=="}},
		},
		{
			kind: kindSecret, name: TLSSecret, drift: `{"data": {"tls.key": "c29tZWJvZHkncw=="}}`,
			world: drivertest.World{
				Changed: []string{`data["tls.crt"]`, `data["tls.key"]`, `metadata.annotations["amlaks.io/certificate-not-after"]`, `metadata.annotations["amlaks.io/certificate-sha256"]`},
				Drifted: []string{`data["tls.key"]`},
				Nature: drivertest.Nature{
					Within: within, Unprotected: unprotected,
					Hidden: "a plan masks a Secret's data",
				},
			},
			foreign: map[string]any{"type": "kubernetes.io/tls", "data": map[string]any{"tls.crt": "bWluZQ==", "tls.key": "bWluZQ=="}},
		},
		{
			kind: kindSecret, name: "churn-keys", drift: driftedLabel,
			world: drivertest.World{
				Drifted: []string{labelPath},
				Nature: drivertest.Nature{
					Within: within, Unprotected: unprotected,
					Unchangeable: "its keys are generated once and kept, and all else of it is its name",
				},
			},
			foreign: map[string]any{"data": map[string]any{"mine": "bWluZQ=="}},
		},
	}
}

// conformance takes them through the engine's suite, each place being a stack of its own.
func conformance(t *testing.T, kubeconfig string) {
	admin, err := newClient(kubeconfig, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	var places atomic.Int64
	for _, s := range subjects() {
		t.Run(string(s.kind)+" "+s.name, func(t *testing.T) {
			t.Parallel()
			w := s.world
			w.Subject = Address("dev", string(s.kind), s.name)
			w.Writes = func(r *http.Request) bool {
				return r.Method != http.MethodGet && r.URL.Query().Get("dryRun") == ""
			}
			w.Start = func(t *testing.T) drivertest.Place {
				stack := fmt.Sprintf("s%d", places.Add(1))
				p := &place{t: t, subject: s, kubeconfig: kubeconfig, admin: admin, ours: stack, theirs: stack + "-theirs"}
				p.issue(t)
				return p
			}
			drivertest.Run(t, w)
		})
	}
}

// place is two namespaces of the API server.
type place struct {
	t            *testing.T
	subject      subject
	kubeconfig   string
	admin        *client
	ours, theirs string
	// The two certificates of the file: as it is, and Changed.
	certificate, changed *tlsStack
}

func (p *place) Stacks() (ours, theirs string) { return p.ours, p.theirs }

// What the file's secret refers to.
const (
	hidden        = "hidden from everybody"
	hiddenChanged = "hidden from everybody, and changed"
)

// environment is that of a run.
func (p *place) environment(revision drivertest.Revision) func(string) string {
	return func(string) string {
		if p.subject.name == "churn-env" && revision == drivertest.Changed {
			return hiddenChanged
		}
		return hidden
	}
}

func (p *place) Open(t *testing.T, i drivertest.Invocation) ([]reconcile.Driver, []reconcile.Resource) {
	t.Helper()
	stack := stackOf("churn")
	if i.Revision == drivertest.Without {
		stack = stackOf()
	}
	stack.Name = i.Stack
	for j := range stack.Services {
		stack.Services[j].Inference.Secrets = map[string]spec.SecretRef{"PASSWORD": {Env: "HIDDEN"}}
		if i.Revision == drivertest.Changed {
			stack.Services[j].Resources.CPU = 0.2
		}
	}
	if p.subject.name == TLSSecret && i.Revision != drivertest.Without {
		stack.Clusters[0].SSL = p.certificate.Clusters[0].SSL
		if i.Revision == drivertest.Changed {
			stack.Clusters[0].SSL = p.changed.Clusters[0].SSL
		}
	}
	r := startWith(t, p.kubeconfig, stack, i.ReadOnly, p.environment(i.Revision))
	r.driver.wrap = i.Wrap
	declared := map[reconcile.Address]bool{Address("dev", string(kindNamespace), Namespace(i.Stack)): true, p.address(): true}
	for _, name := range p.subject.needs {
		declared[reconcile.Address("kube/dev/"+name)] = true
	}
	left := func(a reconcile.Address) bool { return strings.HasPrefix(string(a), "kube/") && !declared[a] }
	resources := slices.DeleteFunc(r.resources, func(r reconcile.Resource) bool { return left(r.Address) })
	for j := range resources {
		resources[j].DependsOn = slices.DeleteFunc(resources[j].DependsOn, left)
		if i.Revision == drivertest.Adopting && resources[j].Address == p.address() {
			resources[j].Adopt = true
		}
	}
	return r.drivers, resources
}

func (p *place) address() reconcile.Address {
	return Address("dev", string(p.subject.kind), p.subject.name)
}

// get reads a stack's subject; nil if it is not there.
func (p *place) get(t *testing.T, stack string) *unstructured.Unstructured {
	t.Helper()
	o, err := p.admin.objects(p.subject.kind, Namespace(stack)).Get(t.Context(), p.subject.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (p *place) Live(t *testing.T, stack string) string {
	t.Helper()
	o := p.get(t, stack)
	if o == nil {
		return ""
	}
	delete(o.Object, "status")
	for _, path := range [][]string{{"managedFields"}, {"resourceVersion"}, {"generation"}, {"annotations", "deployment.kubernetes.io/revision"}} {
		unstructured.RemoveNestedField(o.Object, append([]string{"metadata"}, path...)...)
	}
	return text(t, o)
}

func text(t *testing.T, o *unstructured.Unstructured) string {
	t.Helper()
	data, err := json.MarshalIndent(o.Object, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func (p *place) Objects(t *testing.T) []string {
	t.Helper()
	objects := []string{}
	for whose, stack := range map[string]string{"ours": p.ours, "theirs": p.theirs} {
		for _, k := range append([]kind{kindNamespace}, kinds...) {
			found, err := p.admin.objects(k, Namespace(stack)).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range found.Items {
				name := string(k) + "/" + o.GetName()
				switch {
				case name == "ServiceAccount/default", name == "ConfigMap/kube-root-ca.crt": // Kubernetes' own
					continue
				case name == "Namespace/"+Namespace(stack):
					name = "Namespace"
				case k == kindNamespace:
					continue
				}
				objects = append(objects, whose+" "+name)
			}
		}
	}
	slices.Sort(objects)
	return objects
}

func (p *place) patch(t *testing.T, body string) {
	t.Helper()
	objects := p.admin.objects(p.subject.kind, Namespace(p.ours))
	if _, err := objects.Patch(t.Context(), p.subject.name, types.MergePatchType, []byte(body), metav1.PatchOptions{FieldManager: "kubectl"}); err != nil {
		t.Fatal(err)
	}
	p.rest(t)
}

// rest waits until the Deployment's controller has taken notice, and writes no more.
func (p *place) rest(t *testing.T) {
	t.Helper()
	p.until(func() bool {
		o := p.get(t, p.ours)
		seen, _, _ := unstructured.NestedInt64(o.Object, "status", "observedGeneration")
		return p.subject.kind != kindDeployment || seen == o.GetGeneration()
	})
}

func (p *place) Drift(t *testing.T) {
	t.Helper()
	p.patch(t, p.subject.drift)
}

func (p *place) Touch(t *testing.T) func() string {
	t.Helper()
	p.patch(t, `{"metadata": {"annotations": {"somebody": "else"}, "finalizers": null}}`)
	return func() string { return p.get(t, p.ours).GetAnnotations()["somebody"] }
}

func (p *place) Foreign(t *testing.T, owner string) func() string {
	t.Helper()
	namespace := Namespace(p.ours)
	home := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{LabelStack: p.ours}}}
	if _, err := p.admin.typed.CoreV1().Namespaces().Create(t.Context(), home, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	o := &unstructured.Unstructured{Object: maps.Clone(p.subject.foreign)}
	o.SetAPIVersion(p.subject.kind.resource().GroupVersion().String())
	o.SetKind(string(p.subject.kind))
	o.SetName(p.subject.name)
	if owner != "" {
		o.SetLabels(map[string]string{LabelStack: owner})
	}
	if p.subject.kind == kindDeployment { // its selector cannot change when it is taken over
		data := strings.ReplaceAll(text(t, o), `"`+LabelStack+`": ""`, `"`+LabelStack+`": "`+p.ours+`"`)
		if err := json.Unmarshal([]byte(data), &o.Object); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.admin.objects(p.subject.kind, namespace).Create(t.Context(), plainNumbers(o), metav1.CreateOptions{FieldManager: "kubectl"}); err != nil {
		t.Fatal(err)
	}
	p.rest(t)
	return func() string { return text(t, p.get(t, p.ours)) }
}

func (p *place) Remove(t *testing.T) {
	t.Helper()
	if err := p.admin.objects(p.subject.kind, Namespace(p.ours)).Delete(t.Context(), p.subject.name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	p.until(func() bool { return p.get(t, p.ours) == nil })
}

// until polls what the cluster does in its own time.
func (p *place) until(done func() bool) {
	p.t.Helper()
	deadline, ticker := time.After(time.Minute), time.NewTicker(50*time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-deadline:
			p.t.Fatal("not done within a minute")
		}
	}
}

// Secrets are what the file refers to, the keys that were generated, and the way in.
func (p *place) Secrets(t *testing.T) []string {
	t.Helper()
	secrets := append([]string{hidden, hiddenChanged}, p.certificate.secrets(t)...)
	secrets = append(secrets, p.changed.secrets(t)...)
	for _, line := range strings.Split(p.kubeconfig, "\n") {
		for _, key := range []string{"client-key-data: ", "token: "} {
			if _, value, ok := strings.Cut(line, key); ok {
				secrets = append(secrets, strings.Trim(value, `" `))
			}
		}
	}
	keys, err := p.admin.typed.CoreV1().Secrets(Namespace(p.ours)).Get(t.Context(), "churn-keys", metav1.GetOptions{})
	if err == nil {
		for _, name := range []string{routes.PrimaryKey, routes.SecondaryKey} {
			if key := string(keys.Data[name]); key != "" {
				secrets = append(secrets, key)
			}
		}
	}
	return secrets
}
