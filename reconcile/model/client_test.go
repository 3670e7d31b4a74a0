package model

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/sandbox"
	"github.com/amlaks/amlaks/spec"
)

const own = "azureml://subscriptions/" + sandbox.SubscriptionID + "/resourceGroups/" + sandbox.ResourceGroup + "/workspaces/" + sandbox.Workspace

// Every form of URI leads to the files, which keep their names: a registered file its own, a
// registered folder stays a folder. A neighbour whose name only begins alike is not part of it.
func TestURIs(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	if err := w.Import("", tree(t, "all", map[string][]byte{
		"m/model.json": []byte("{}"), "m/tree/a.bin": []byte("aa"), "m/tree/sub/b.bin": []byte("bbb"), "m/tree2/c": []byte("no"),
		"ExperimentRun/dcid.run_1/outputs/model/w.bin": []byte("w"), "azureml/run_1/trained/x.bin": []byte("x"),
		"empty/none": nil,
	})); err != nil {
		t.Fatal(err)
	}
	store := "/subscriptions/" + sandbox.SubscriptionID + "/resourceGroups/ml-prod/providers/Microsoft.MachineLearningServices/workspaces/"
	blob := map[string]any{"datastoreType": "AzureBlob", "accountName": "mlprodstorage", "containerName": "azureml-blobstore",
		"endpoint": strings.TrimPrefix(w.BlobEndpoint(), "http://"), "protocol": "http", "credentials": map[string]any{"credentialsType": "None"}}
	const kind = "Microsoft.MachineLearningServices/workspaces/datastores"
	w.Store(store+"ml-prod/datastores/workspaceartifactstore", kind, blob)
	w.Store(store+"ml-prod/datastores/lake", kind, map[string]any{"datastoreType": "AzureDataLakeGen2", "accountName": "mlprodstorage",
		"filesystem": "azureml-blobstore", "endpoint": blob["endpoint"], "protocol": "http", "credentials": map[string]any{"credentialsType": "None"}})
	w.Store(store+"other", "Microsoft.MachineLearningServices/workspaces", map[string]any{})
	w.Store(store+"other/datastores/theirs", kind, blob)
	w.Store(store+"ml-prod/jobs/run_1", "Microsoft.MachineLearningServices/workspaces/jobs", map[string]any{
		"jobType": "Command", "command": "train", "environmentId": "e", "outputs": map[string]any{
			"model": map[string]any{"jobOutputType": "custom_model", "uri": "azureml://datastores/workspaceblobstore/paths/azureml/run_1/trained/"},
		},
	})
	if err := w.RegisterRegistryModel("shared", "base", "1", tree(t, "weights", map[string][]byte{"r.bin": []byte("r")})); err != nil {
		t.Fatal(err)
	}
	folder := map[string]string{"tree/a.bin": "aa", "tree/sub/b.bin": "bbb"}
	for i, test := range []struct {
		uri  string
		want map[string]string
	}{
		{"azureml://datastores/workspaceblobstore/paths/m/model.json", map[string]string{"model.json": "{}"}},
		{"azureml://datastores/workspaceblobstore/paths/m/tree", folder},
		{own + "/datastores/workspaceblobstore/paths/m/tree/", folder},
		{strings.ToLower(own) + "/datastores/workspaceblobstore/paths/m/tree/", folder},
		{strings.Replace(own, "/workspaces/ml-prod", "/providers/Microsoft.MachineLearningServices/workspaces/other", 1) + "/datastores/theirs/paths/m/tree", folder},
		{w.BlobEndpoint() + "/mlprodstorage/azureml-blobstore/m/tree", folder},
		{"azureml://datastores/lake/paths/m/tree", folder},
		{"azureml://datastores/workspaceblobstore/paths/empty", map[string]string{"empty/none": ""}},
		{"runs:/run_1/outputs/model", map[string]string{"model/w.bin": "w"}},
		{"azureml://jobs/run_1/outputs/artifacts/paths/outputs/model/", map[string]string{"model/w.bin": "w"}},
		{"azureml://datastores/workspaceartifactstore/ExperimentRun/dcid.run_1/outputs/model", map[string]string{"model/w.bin": "w"}},
		{"azureml://jobs/run_1/outputs/model", map[string]string{"trained/x.bin": "x"}},
		{own + "/jobs/run_1/outputs/model/paths/x.bin", map[string]string{"x.bin": "x"}},
		{"azureml://registries/shared/models/base/versions/1", map[string]string{"weights/r.bin": "r"}},
	} {
		m := spec.Model{Name: "churn", Version: fmt.Sprint(i)}
		if err := w.RegisterModelURI(m.Name, m.Version, test.uri); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time from the cache
			got := map[string]string{}
			for name, content := range files(t, w.client(), m) {
				got[name] = string(content)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s: %s", test.uri, diff)
			}
		}
	}
	const id = "/subscriptions/" + sandbox.SubscriptionID + "/resourceGroups/ml-prod/providers/Microsoft.MachineLearningServices/registries/shared"
	for _, registry := range []string{"Shared", id} {
		got := files(t, w.client(), spec.Model{Name: "base", Version: "1", Registry: registry})
		if string(got["weights/r.bin"]) != "r" {
			t.Errorf("from registry %s: %v", registry, got)
		}
		if latest, err := w.LatestInRegistry(t.Context(), registry, "base"); latest != "1" || err != nil {
			t.Errorf("latest of registry %s: %q, %v", registry, latest, err)
		}
	}
}

// An identity is asked of two models in one datastore: no byte, no secret, and each thing once.
func TestIdentityAsksLittle(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.register("churn", "3", []byte("3"))
	w.register("churn", "4", []byte("4"))
	seen := map[string]bool{}
	for range 3 {
		for _, version := range []string{"3", "4"} {
			identity, err := w.Identity(t.Context(), spec.Model{Name: "churn", Version: version})
			if err != nil {
				t.Fatal(err)
			}
			seen[identity] = true
		}
	}
	if len(seen) != 2 {
		t.Errorf("%d identities of 2 versions", len(seen))
	}
	if n, all := len(w.Requests("blob")), len(w.Requests("arm")); n != 0 || all != 3 {
		t.Errorf("%d requests to the blob store and %d to ARM; want none, and a version each and their datastore", n, all)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.register("wine", "1", []byte("x"))
	w.register("wine", "2", []byte("x"))
	w.Store("/subscriptions/"+sandbox.SubscriptionID+"/resourceGroups/ml-prod/providers/Microsoft.MachineLearningServices/workspaces/ml-prod/datastores/files",
		"Microsoft.MachineLearningServices/workspaces/datastores", map[string]any{"datastoreType": "AzureFile", "accountName": "a", "fileShareName": "f"})
	if err := w.RegisterRegistryModel("ours", "m", "2", tree(t, "m", map[string][]byte{"w": nil})); err != nil {
		t.Fatal(err)
	}
	const paths = "azureml://datastores/workspaceblobstore/paths/"
	for i, test := range []struct {
		name, uri string
		reason    reconcile.Reason
		say, hint string
	}{
		{"not registered", "", reconcile.ReasonNotFound, "model wine:9 is not registered in workspace ml-prod", "2, 1"},
		{"files gone", paths + "gone", reconcile.ReasonNotFound, "nothing at", "register it again"},
		{"run's files elsewhere", "runs:/r/model", reconcile.ReasonNotFound, "read datastore workspaceartifactstore: HTTP 404", ""},
		{"job unknown", "azureml://jobs/none/outputs/model/paths/m", reconcile.ReasonNotFound, "read job none: HTTP 404", ""},
		{"another workspace", strings.Replace(own, "workspaces/ml-prod", "workspaces/none", 1) + "/datastores/d/paths/m", reconcile.ReasonNotFound,
			"datastore d of workspace none: HTTP 404", ""},
		{"a file share", "azureml://datastores/files/paths/m", reconcile.ReasonNotFound, "datastore files is not a blob container", "azure_blob"},
		{"registry unknown", "azureml://registries/azureml/models/m/versions/1", reconcile.ReasonNotFound, "no Azure ML registry azureml", "az ml model create"},
		{"version not in the registry", "azureml://registries/ours/models/m/versions/1", reconcile.ReasonNotFound, "model m:1 is not in registry ours", "az ml model list --registry-name ours"},
		{"foreign host", "https://models.example.com/c/p", reconcile.ReasonForbidden, "not Azure's blob storage", "blob.core.windows.net"},
		{"signed URL", "https://acct.blob.core.windows.net/c/p?sig=hush", reconcile.ReasonNotFound, "cannot be read here", "without a signature"},
		{"password", "https://u:hush@acct.blob.core.windows.net/c/p", reconcile.ReasonNotFound, "https://acct.blob.core", ""},
		{"plain http", "http://acct.blob.core.windows.net/c/p", reconcile.ReasonNotFound, "cannot be read here", ""},
		{"no path", "azureml://datastores/workspaceblobstore/paths/", reconcile.ReasonNotFound, "cannot be read here", "datastores/NAME/paths"},
		{"asset ID", "azureml://locations/westeurope/workspaces/x/models/m/versions/1", reconcile.ReasonNotFound, "cannot be read here", ""},
		{"job without output", "azureml://jobs/run", reconcile.ReasonNotFound, "cannot be read here", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := spec.Model{Name: "wine", Version: "9"}
			if test.uri != "" {
				m.Version = fmt.Sprint(100 + i)
				if err := w.RegisterModelURI(m.Name, m.Version, test.uri); err != nil {
					t.Fatal(err)
				}
			}
			_, err := w.Files(patient(t), m, quiet)
			if reconcile.ReasonOf(err) != test.reason || !strings.Contains(fmt.Sprint(err), test.say) || !strings.Contains(reconcile.HintOf(err), test.hint) {
				t.Errorf("got %v (%s, hint %q)", err, reconcile.ReasonOf(err), reconcile.HintOf(err))
			}
			if strings.Contains(fmt.Sprint(err)+reconcile.HintOf(err), "hush") {
				t.Errorf("a secret is shown: %v", err)
			}
		})
	}
}

// A local model is where it is.
func TestPath(t *testing.T) {
	t.Parallel()
	dir := tree(t, "model", map[string][]byte{"a": []byte("a")})
	w := start(t, nil)
	m := spec.Model{Name: "churn", Version: "1", Path: dir}
	if got, err := w.Files(t.Context(), m, quiet); got != dir || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	before, err := w.Identity(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if after, err := w.Identity(t.Context(), m); after == before || err != nil {
		t.Errorf("identity %s after a change, %v", after, err)
	}
	if n := len(w.Requests("all")); n != 0 {
		t.Errorf("%d requests", n)
	}
}
