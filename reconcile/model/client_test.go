package model

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// azureML is Resource Manager and a blob account on one loopback address.
type azureML struct {
	*httptest.Server
	blobs     map[string]string // name -> content
	uri       string            // of churn:3
	blobReads atomic.Int32
	forbidden bool
}

const workspacePath = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/ml-prod/"

func (a *azureML) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := func(body any) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(body)
	}
	version := func(name string) map[string]any {
		return map[string]any{"name": name, "properties": map[string]any{"modelUri": a.uri}}
	}
	switch path := strings.TrimPrefix(r.URL.Path, workspacePath); {
	case path == "models/churn/versions/3":
		answer(version("3"))
	case path == "models/churn/versions":
		answer(map[string]any{"value": []any{version("3"), version("2")}})
	case path == "datastores/store":
		answer(map[string]any{"properties": map[string]any{
			"datastoreType": "AzureBlob", "credentials": map[string]any{"credentialsType": "None"}, "accountName": "acct",
			"containerName": "models", "protocol": "http", "endpoint": strings.TrimPrefix(a.URL, "http://"),
		}})
	case path == "/acct/models" && r.URL.Query().Get("comp") == "list":
		if a.forbidden {
			w.Header().Set("x-ms-error-code", "AuthorizationPermissionMismatch")
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.Header().Set("Content-Type", "application/xml")
		fmt.Fprint(w, `<?xml version="1.0"?><EnumerationResults><Blobs>`)
		for name, content := range a.blobs {
			if strings.HasPrefix(name, r.URL.Query().Get("prefix")) {
				fmt.Fprintf(w, "<Blob><Name>%s</Name><Properties><Content-Length>%d</Content-Length></Properties></Blob>", name, len(content))
			}
		}
		fmt.Fprint(w, `</Blobs><NextMarker/></EnumerationResults>`)
	case strings.HasPrefix(path, "/acct/models/"):
		a.blobReads.Add(1)
		fmt.Fprint(w, a.blobs[strings.TrimPrefix(path, "/acct/models/")])
	default:
		w.Header().Set("x-ms-error-code", "NotFound")
		w.WriteHeader(http.StatusNotFound)
	}
}

func start(t *testing.T, a *azureML) *Client {
	t.Helper()
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	options := &arm.ClientOptions{DisableRPRegistration: true}
	options.InsecureAllowCredentialWithHTTP = true
	options.Retry.MaxRetries = -1
	options.Cloud = cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
		cloud.ResourceManager: {Endpoint: a.URL, Audience: a.URL},
	}}
	c, err := New(token{}, options, Options{SubscriptionID: "s", ResourceGroup: "g", Workspace: "ml-prod", CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var churn = spec.Model{Name: "churn", Version: "3"}

// A registered file keeps its name, a registered folder stays a folder; a neighbour whose
// name only begins alike is not part of it.
func TestFilesKeepTheirNames(t *testing.T) {
	blobs := map[string]string{"m/model.json": "{}", "m/tree/a.bin": "aa", "m/tree/sub/b.bin": "bbb", "m/tree2/c": "no"}
	for _, test := range []struct {
		uri  string
		want map[string]string
	}{
		{"azureml://datastores/store/paths/m/model.json", map[string]string{"model.json": "{}"}},
		{"azureml://subscriptions/s/resourcegroups/g/workspaces/ml-prod/datastores/store/paths/m/tree",
			map[string]string{"tree/a.bin": "aa", "tree/sub/b.bin": "bbb"}},
	} {
		a := &azureML{blobs: blobs, uri: test.uri}
		c := start(t, a)
		for range 2 { // the second time from the cache
			dir, err := c.Files(t.Context(), churn, func(string) {})
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range test.want {
				if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
					t.Errorf("%s: %s is %q, %v; want %q", test.uri, name, got, err, want)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, "tree2")); err == nil {
				t.Error("a neighbour was fetched")
			}
		}
		if got := int(a.blobReads.Load()); got != len(test.want) {
			t.Errorf("%s: %d blobs read, want %d", test.uri, got, len(test.want))
		}
	}
}

func TestIdentityReadsNoModelByte(t *testing.T) {
	a := &azureML{blobs: map[string]string{"m/model.json": "{}"}, uri: "azureml://datastores/store/paths/m/model.json"}
	c := start(t, a)
	if identity, err := c.Identity(t.Context(), churn); err != nil || identity == "" {
		t.Fatalf("identity %q, %v", identity, err)
	}
	if n := a.blobReads.Load(); n != 0 {
		t.Errorf("%d blobs read for an identity", n)
	}
}

func TestFailures(t *testing.T) {
	for _, test := range []struct {
		name      string
		model     spec.Model
		uri       string
		forbidden bool
		reason    reconcile.Reason
		say, hint string
	}{
		{"not registered", spec.Model{Name: "churn", Version: "9"}, "azureml://datastores/store/paths/m", false,
			reconcile.ReasonNotFound, "model churn:9 is not registered in workspace ml-prod", "3, 2"},
		{"forbidden", churn, "azureml://datastores/store/paths/m", true, reconcile.ReasonForbidden, "403", "Storage Blob Data Reader"},
		{"files gone", churn, "azureml://datastores/store/paths/gone", false, reconcile.ReasonNotFound, "nothing at", "register it again"},
		{"job output", churn, "azureml://jobs/run/outputs/model/paths/m", false, reconcile.ReasonNotFound, "cannot be read here", "datastores"},
		{"foreign host", churn, "https://models.example.com/c/p", false, reconcile.ReasonForbidden, "not Azure's blob storage", "blob.core.windows.net"},
		{"signed URL", churn, "https://acct.blob.core.windows.net/c/p?sig=x", false, reconcile.ReasonNotFound, "cannot be read here", "without a signature"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := start(t, &azureML{uri: test.uri, forbidden: test.forbidden})
			_, err := c.Files(t.Context(), test.model, func(string) {})
			if reconcile.ReasonOf(err) != test.reason || !strings.Contains(fmt.Sprint(err), test.say) || !strings.Contains(reconcile.HintOf(err), test.hint) {
				t.Errorf("got %v (%s, hint %q)", err, reconcile.ReasonOf(err), reconcile.HintOf(err))
			}
		})
	}
}

// The hash of an unchanged file comes from what stat says, in this process and the next.
func TestHashesAreRemembered(t *testing.T) {
	cache, file := t.TempDir(), filepath.Join(t.TempDir(), "weights")
	if err := os.WriteFile(file, []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	h, err := OpenHashes(cache)
	if err != nil {
		t.Fatal(err)
	}
	first, err := h.File(file)
	if err != nil {
		t.Fatal(err)
	}
	for key := range h.known {
		h.known[key] = "remembered"
	}
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	if h, err = OpenHashes(cache); err != nil {
		t.Fatal(err)
	}
	if got, err := h.File(file); err != nil || got != "remembered" {
		t.Errorf("unchanged file: %q, %v; it was read again", got, err)
	}
	if err := os.WriteFile(file, []byte("three"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := h.File(file); err != nil || got == "remembered" || got == first {
		t.Errorf("changed file: %q, %v", got, err)
	}
}
