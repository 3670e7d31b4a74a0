package image

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/model"
	"github.com/amlaks/amlaks/reconcile/retry"
	"github.com/amlaks/amlaks/spec"
)

type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// registry is ggcr's own, which counts and can be told to fail.
type registry struct {
	host string
	next http.Handler

	mu     sync.Mutex
	seen   []string // METHOD path
	status int      // if not 0, the answer to everything
}

func (g *registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.seen = append(g.seen, r.Method+" "+r.URL.Path)
	status := g.status
	g.mu.Unlock()
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	g.next.ServeHTTP(w, r)
}

// requests gives those seen since the last call, pings aside.
func (g *registry) requests() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []string
	for _, r := range g.seen {
		if r != "GET /v2/" {
			out = append(out, r)
		}
	}
	g.seen = nil
	return out
}

func startRegistry(t *testing.T) *registry {
	t.Helper()
	g := &registry{next: ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	g.host = strings.TrimPrefix(server.URL, "http://")
	return g
}

func newDriver(t *testing.T, readOnly bool) *Driver {
	t.Helper()
	models, err := model.New(token{}, nil, model.Options{SubscriptionID: "s", ResourceGroup: "g", Workspace: "w", CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return New(Options{Models: models, ReadOnly: readOnly, Registry: reconcile.Ref{Address: "workspace/w", Output: "loginServer"}})
}

func write(t *testing.T, file, content string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
	return file
}

// service is a stack of one service with a code folder and a model file.
func service(t *testing.T) (*spec.Stack, string) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "score", "server"), "#!", 0o755)
	write(t, filepath.Join(dir, "score", "lib", "a.txt"), "a", 0o600)
	write(t, filepath.Join(dir, "m", "model.json"), "{}", 0o644)
	return &spec.Stack{Name: "stack", Dir: dir, Services: []spec.Service{{
		Name:      "churn",
		Models:    []spec.Model{{Name: "churn", Version: "3", Path: "m/model.json"}},
		Inference: spec.Inference{BaseImage: spec.ScratchImage, SourceDirectory: "./score", Command: []string{"./server", "-v"}, Port: 5001},
	}}}, dir
}

// patience is that of the tests: what fails for ever does so within it.
func patience(t *testing.T) context.Context { return retry.WithBudget(t.Context(), 2*time.Second) }

func apply(t *testing.T, d *Driver, host string, stack *spec.Stack) (string, error) {
	t.Helper()
	r := d.Resources(stack)[0]
	outputs, err := d.Apply(patience(t), reconcile.Step{
		Stack: stack.Name, Resource: &r, Inputs: map[string]string{inputRegistry: host}, Progress: func(string) {},
	})
	return outputs[OutputRef], err
}

func observe(t *testing.T, d *Driver, host string, stack *spec.Stack) ([]reconcile.Live, error) {
	t.Helper()
	resources := d.Resources(stack)
	inputs := reconcile.Outputs{}
	for _, r := range resources {
		if host != "" {
			inputs[r.Address] = map[string]string{inputRegistry: host}
		}
	}
	return d.Observe(patience(t), reconcile.Request{Stack: stack.Name, Resources: resources, Inputs: inputs})
}

func pull(t *testing.T, ref string) v1.Image {
	t.Helper()
	digest, err := name.NewDigest(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	image, err := remote.Image(digest)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func TestUnchangedCostsOneHead(t *testing.T) {
	g, d := startRegistry(t), newDriver(t, false)
	stack, _ := service(t)
	if live, err := observe(t, d, g.host, stack); err != nil || len(live) != 0 {
		t.Fatalf("before: %v, %v", live, err)
	}
	ref, err := apply(t, d, g.host, stack)
	if err != nil {
		t.Fatal(err)
	}
	// Contents are not read again: the hashes are there, and every other answer is a HEAD.
	g.requests()
	live, err := observe(t, d, g.host, stack)
	if err != nil || len(live) != 1 || live[0].Outputs[OutputRef] != ref {
		t.Fatalf("after: %v, %v; want %s", live, err, ref)
	}
	seen := g.requests()
	if len(seen) != 1 || !strings.HasPrefix(seen[0], "HEAD /v2/stack/churn/manifests/in-") {
		t.Errorf("an unchanged image cost %v", seen)
	}
}

func TestARegistryIsAskedOnceHowToSpeakToIt(t *testing.T) {
	g, d := startRegistry(t), newDriver(t, true)
	stack, _ := service(t)
	for _, name := range []string{"second", "third"} {
		another := stack.Services[0]
		another.Name = name
		stack.Services = append(stack.Services, another)
	}
	if live, err := observe(t, d, g.host, stack); err != nil || len(live) != 0 {
		t.Fatalf("%v, %v", live, err)
	}
	pings, heads := 0, 0
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.seen {
		switch {
		case r == "GET /v2/":
			pings++
		case strings.HasPrefix(r, "HEAD "):
			heads++
		}
	}
	if pings != 1 || heads != 3 || len(g.seen) != 4 {
		t.Errorf("three images cost %v", g.seen)
	}
}

func TestUnknownRegistryIsSkipped(t *testing.T) {
	stack, _ := service(t)
	if live, err := observe(t, newDriver(t, true), "", stack); err != nil || len(live) != 0 {
		t.Errorf("got %v, %v", live, err)
	}
}

func TestContent(t *testing.T) {
	g, d := startRegistry(t), newDriver(t, false)
	stack, _ := service(t)
	ref, err := apply(t, d, g.host, stack)
	if err != nil {
		t.Fatal(err)
	}
	image := pull(t, ref)
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{
		Env:        []string{"AML_APP_ROOT=/var/azureml-app", "AZUREML_MODEL_DIR=/var/azureml-app/azureml-models/churn/3"},
		Entrypoint: []string{"/var/azureml-app/server", "-v"}, User: runAs, WorkingDir: "/var/azureml-app",
		ExposedPorts: map[string]struct{}{"5001/tcp": {}},
		Labels:       map[string]string{"amlaks.io/stack": "stack", "amlaks.io/service": "churn"},
	}
	if diff := cmp.Diff(want, config.Config); diff != "" {
		t.Error(diff)
	}
	got := contents(t, image)
	if diff := cmp.Diff(map[string]string{
		"var/azureml-app/server": "755 #!", "var/azureml-app/lib/a.txt": "644 a",
		"var/azureml-app/azureml-models/churn/3/model.json": "644 {}",
	}, got); diff != "" {
		t.Error(diff)
	}
}

// Two machines, two umasks, two times: one digest.
func TestDeterministic(t *testing.T) {
	g := startRegistry(t)
	first, _ := service(t)
	second, dir := service(t)
	a := filepath.Join(dir, "score", "lib", "a.txt")
	if err := errors.Join(os.Chmod(a, 0o664), os.Chtimes(a, time.Unix(1, 0), time.Unix(1, 0))); err != nil {
		t.Fatal(err)
	}
	one, err := apply(t, newDriver(t, false), g.host, first)
	if err != nil {
		t.Fatal(err)
	}
	two, err := apply(t, newDriver(t, false), g.host, second)
	if err != nil || one != two {
		t.Errorf("%s and %s, %v", one, two, err)
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	for say, spoil := range map[string]func(dir string) error{
		"leaves the folder": func(dir string) error { return os.Symlink("../../etc", filepath.Join(dir, "up")) },
		"not a regular":     func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600) },
		"setuid":            func(dir string) error { return os.Chmod(filepath.Join(dir, "server"), 0o755|os.ModeSetuid) },
	} {
		stack, dir := service(t)
		if err := spoil(filepath.Join(dir, "score")); err != nil {
			t.Fatal(err)
		}
		if _, err := observe(t, newDriver(t, true), "127.0.0.1:1", stack); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("got %v, want %q", err, say)
		}
	}
}

func TestRegistryFailures(t *testing.T) {
	for status, want := range map[int]struct {
		reason reconcile.Reason
		hint   string
	}{
		http.StatusUnauthorized: {reconcile.ReasonForbidden, "AcrPush"},
		http.StatusForbidden:    {reconcile.ReasonForbidden, "AcrPush"},
	} {
		g := startRegistry(t)
		g.status = status
		stack, _ := service(t)
		_, err := observe(t, newDriver(t, true), g.host, stack)
		if reconcile.ReasonOf(err) != want.reason || !strings.Contains(reconcile.HintOf(err), want.hint) {
			t.Errorf("%d: %v (%s, %q)", status, err, reconcile.ReasonOf(err), reconcile.HintOf(err))
		}
	}
	g := startRegistry(t)
	stack, _ := service(t)
	stack.Services[0].Inference.BaseImage = g.host + "/base@sha256:" + strings.Repeat("0", 64)
	if _, err := apply(t, newDriver(t, false), g.host, stack); reconcile.ReasonOf(err) != reconcile.ReasonNotFound || !strings.Contains(reconcile.HintOf(err), "inference.baseImage") {
		t.Errorf("missing base: %v (%q)", err, reconcile.HintOf(err))
	}
}

func TestReadOnlyRefusesPush(t *testing.T) {
	g := startRegistry(t)
	stack, _ := service(t)
	if _, err := apply(t, newDriver(t, true), g.host, stack); err == nil || !strings.Contains(err.Error(), "only reads") {
		t.Errorf("got %v", err)
	}
	for _, r := range g.requests() {
		if !strings.HasPrefix(r, "GET ") && !strings.HasPrefix(r, "HEAD ") {
			t.Errorf("%s reached the registry", r)
		}
	}
}

// A Docker base keeps its manifest's family of types, whose layers ours then join.
func TestDockerBase(t *testing.T) {
	g := startRegistry(t)
	base, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := base.Digest()
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewDigest(g.host+"/base@"+digest.String(), name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, base); err != nil {
		t.Fatal(err)
	}
	stack, _ := service(t)
	stack.Services[0].Inference.BaseImage = ref.String()
	stack.Services[0].Models = nil
	built, err := apply(t, newDriver(t, false), g.host, stack)
	if err != nil {
		t.Fatal(err)
	}
	image := pull(t, built)
	manifest, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Layers) != 2 || !strings.HasPrefix(string(manifest.Layers[1].MediaType), "application/vnd.docker.") {
		t.Errorf("layers %v", manifest.Layers)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range config.Config.Env {
		if strings.HasPrefix(e, "AZUREML_MODEL_DIR=") {
			t.Errorf("%s without a model", e)
		}
	}
}
