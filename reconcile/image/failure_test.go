package image

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/model"
	"github.com/amlaks/amlaks/spec"
)

// What explain makes of answers that the client retries for seconds before it gives up.
func TestExplain(t *testing.T) {
	host, err := name.NewRegistry("r.example.com")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		err    error
		reason reconcile.Reason
		hint   string
	}{
		{&transport.Error{StatusCode: http.StatusInternalServerError}, reconcile.ReasonUnavailable, "run apply again later"},
		{&transport.Error{StatusCode: http.StatusTooManyRequests}, reconcile.ReasonThrottled, "in a minute"},
		{fmt.Errorf("dial: connection refused"), reconcile.ReasonUnavailable, "workspace.registry"},
	} {
		got := explain("push", host, test.err)
		if reconcile.ReasonOf(got) != test.reason || !strings.Contains(reconcile.HintOf(got), test.hint) {
			t.Errorf("%v: %s, %q", test.err, reconcile.ReasonOf(got), reconcile.HintOf(got))
		}
	}
}

// A file that changes between the hash of the inputs and the layers must not be pushed
// under the tag of what it was.
func TestFileChangesDuringTheBuild(t *testing.T) {
	g, d := startRegistry(t), newDriver(t, false)
	stack, dir := service(t)
	r := d.Resources(stack)[0]
	_, err := d.Apply(t.Context(), reconcile.Step{
		Stack: "stack", Resource: &r, Inputs: map[string]string{inputRegistry: g.host},
		Progress: func(string) { write(t, filepath.Join(dir, "score", "server"), "#! another", 0o755) },
	})
	if err == nil || !strings.Contains(err.Error(), errChanged.Error()) {
		t.Errorf("got %v", err)
	}
	if seen := g.requests(); len(seen) > 0 {
		t.Errorf("the registry saw %v", seen)
	}
}

// Somebody who writes the tag right after the push is noticed when it is read back.
func TestTagTakenByAnother(t *testing.T) {
	g := startRegistry(t)
	other, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	inner := g.next
	g.next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner.ServeHTTP(w, r)
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/stack/churn/manifests/in-") && strings.HasPrefix(r.UserAgent(), "amlaks") {
			tag, err := name.NewTag(g.host+"/stack/churn:"+filepath.Base(r.URL.Path), name.Insecure)
			if err == nil {
				err = remote.Write(tag, other)
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	stack, _ := service(t)
	if _, err := apply(t, newDriver(t, false), g.host, stack); err == nil || !strings.Contains(err.Error(), "somebody else pushes there") {
		t.Errorf("got %v", err)
	}
}

// The next process takes a file's hash from the cache: were the file read, the wrong hash
// planted there would not matter and the image would be found.
func TestObserveReadsNoModelByte(t *testing.T) {
	g, cache := startRegistry(t), t.TempDir()
	stack, _ := service(t)
	run := func() *Driver {
		models, err := model.New(token{}, nil, model.Options{SubscriptionID: "s", ResourceGroup: "g", Workspace: "w", CacheDir: cache})
		if err != nil {
			t.Fatal(err)
		}
		return New(Options{Models: models})
	}
	if _, err := apply(t, run(), g.host, stack); err != nil {
		t.Fatal(err)
	}
	if live, err := observe(t, run(), g.host, stack); err != nil || len(live) != 1 {
		t.Fatalf("%v, %v", live, err)
	}
	index := filepath.Join(cache, "hashes.json")
	data, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	const ofModel = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" // of {}
	planted := strings.ReplaceAll(string(data), ofModel, strings.Repeat("0", len(ofModel)))
	if planted == string(data) {
		t.Fatalf("the model's hash is not in %s", data)
	}
	write(t, index, planted, 0o600)
	if live, err := observe(t, run(), g.host, stack); err != nil || len(live) != 0 {
		t.Errorf("%v, %v: the model was read", live, err)
	}
}

func TestSeveralModels(t *testing.T) {
	g, d := startRegistry(t), newDriver(t, false)
	stack, dir := service(t)
	write(t, filepath.Join(dir, "n", "w.bin"), "w", 0o644)
	s := &stack.Services[0]
	s.Models = append(s.Models, spec.Model{Name: "other", Version: "1", Path: "n"})
	ref, err := apply(t, d, g.host, stack)
	if err != nil {
		t.Fatal(err)
	}
	image := pull(t, ref)
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if env := strings.Join(config.Config.Env, " "); !strings.HasSuffix(env, "AZUREML_MODEL_DIR=/var/azureml-app/azureml-models") {
		t.Errorf("environment %s", env)
	}
	if got := contents(t, image)["var/azureml-app/azureml-models/other/1/n/w.bin"]; got != "644 w" {
		t.Errorf("folder model: %q", got)
	}
	if len(config.RootFS.DiffIDs) != 3 {
		t.Errorf("%d layers, want one for each model and one for the code", len(config.RootFS.DiffIDs))
	}
}
