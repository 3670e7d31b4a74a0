package model

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/retry"
	"github.com/amlaks/amlaks/reconcile/sandbox"
	"github.com/amlaks/amlaks/spec"
)

// token is a credential that is itself the token.
type token string

func (t token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(t), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// world is a sandbox with its workspace, and a client of it.
type world struct {
	*sandbox.Sandbox
	*Client
	t     *testing.T
	cache string
}

// start runs a sandbox, whose requests go through hook, if there is one.
func start(t *testing.T, hook func(sandbox.Request, sandbox.Moment) bool) *world {
	t.Helper()
	s, err := sandbox.Start(t.Context(), sandbox.Options{
		Dir: t.TempDir(), Kubeconfig: []byte("apiVersion: v1\nkind: Config\n"), Logf: t.Logf, Hook: hook,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	w := &world{Sandbox: s, t: t, cache: t.TempDir()}
	w.Client = w.client()
	return w
}

// client is one as another process would make it: it has only the cache in common with others.
func (w *world) client(change ...func(*Options, *arm.ClientOptions)) *Client {
	w.t.Helper()
	o := Options{SubscriptionID: sandbox.SubscriptionID, ResourceGroup: sandbox.ResourceGroup, Workspace: sandbox.Workspace, CacheDir: w.cache}
	options := armOptions(w.ARMEndpoint())
	for _, c := range change {
		c(&o, options)
	}
	c, err := New(token(w.Token()), options, o)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func armOptions(endpoint string) *arm.ClientOptions {
	options := &arm.ClientOptions{DisableRPRegistration: true}
	options.InsecureAllowCredentialWithHTTP = true
	options.Retry.MaxRetries = -1
	options.Cloud = cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
		cloud.ResourceManager: {Endpoint: endpoint, Audience: endpoint},
	}}
	return options
}

func withKeys(o *Options, _ *arm.ClientOptions) { o.AllowAccountKeys = true }

// tree writes files into a new folder NAME and gives it.
func tree(t *testing.T, name string, files map[string][]byte) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	for file, content := range files {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// weights are bytes that look like a model's, the same for the same seed.
func weights(seed uint64, size int) []byte {
	content := make([]byte, size)
	source := rand.NewChaCha8([32]byte{byte(seed), 1})
	_, _ = source.Read(content) // which never fails
	return content
}

// register registers a folder with one file, weights.bin.
func (w *world) register(name, version string, content []byte) {
	w.t.Helper()
	if err := w.RegisterModel(name, version, tree(w.t, "model", map[string][]byte{"weights.bin": content})); err != nil {
		w.t.Fatal(err)
	}
}

var churn = spec.Model{Name: "churn", Version: "3"}

func quiet(string) {}

// files fetches a model and gives its files by name.
func files(t *testing.T, c *Client, m spec.Model) map[string][]byte {
	t.Helper()
	dir, err := c.Files(patient(t), m, quiet)
	if err != nil {
		t.Fatalf("%v (hint: %s)", err, reconcile.HintOf(err))
	}
	return read(t, dir)
}

// patient is a context under which what waits does not wait long.
func patient(t *testing.T) context.Context {
	return retry.WithBudget(t.Context(), 20*time.Second)
}

func read(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		found[filepath.ToSlash(rel)], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// want fails unless a fetched model is one folder "model" with weights.bin.
func want(t *testing.T, got map[string][]byte, content []byte) {
	t.Helper()
	if len(got) != 1 || !bytes.Equal(got["model/weights.bin"], content) {
		names := []string{}
		for name := range got {
			names = append(names, name)
		}
		t.Errorf("fetched %v, %d bytes; want model/weights.bin of %d", names, len(got["model/weights.bin"]), len(content))
	}
}

// blobReads gives the ranges of blobs that were asked for and answered.
func (w *world) blobReads() []string {
	var ranges []string
	for _, r := range w.Requests("blob") {
		if r.Method == "GET" && r.Query["comp"] == nil && r.Status/100 == 2 {
			ranges = append(ranges, r.Headers["X-Ms-Range"])
		}
	}
	return ranges
}

// count gives how many requests ARM has seen of a method, whose path ends so.
func (w *world) count(method, suffix string) int {
	n := 0
	for _, r := range w.Requests("arm") {
		if r.Method == method && strings.HasSuffix(strings.ToLower(r.Path), strings.ToLower(suffix)) {
			n++
		}
	}
	return n
}
