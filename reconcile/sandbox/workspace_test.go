package sandbox_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/machinelearning/armmachinelearning/v4"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// TestModel walks the way that a model is downloaded: version, datastore, blobs.
func TestModel(t *testing.T) {
	s := start(t, t.TempDir())
	model := t.TempDir()
	content := bytes.Repeat([]byte("0123456789"), 1000)
	for name, text := range map[string][]byte{"model.bin": content, "sub/a.txt": []byte("a")} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(model, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(model, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.RegisterModel("churn", "3", model); err != nil {
		t.Fatal(err)
	}
	factory, err := armmachinelearning.NewClientFactory(sandbox.SubscriptionID, token(s.Token()), sdk(s))
	if err != nil {
		t.Fatal(err)
	}
	workspace, err := factory.NewWorkspacesClient().Get(t.Context(), group, sandbox.Workspace, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(*workspace.Properties.ContainerRegistry, "/registries/mlprod") || *workspace.Location != "westeurope" {
		t.Errorf("workspace %v in %v", *workspace.Properties.ContainerRegistry, *workspace.Location)
	}
	_, err = factory.NewWorkspacesClient().Get(t.Context(), group, "other", nil)
	wantCode(t, err, http.StatusNotFound, "ResourceNotFound")
	_, err = factory.NewModelVersionsClient().Get(t.Context(), group, sandbox.Workspace, "churn", "4", nil)
	wantCode(t, err, http.StatusNotFound, "ResourceNotFound")
	container, err := factory.NewModelContainersClient().Get(t.Context(), group, sandbox.Workspace, "churn", nil)
	if err != nil || *container.Properties.LatestVersion != "3" {
		t.Fatalf("model container: %v", err)
	}
	version, err := factory.NewModelVersionsClient().Get(t.Context(), group, sandbox.Workspace, "churn", "3", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := "azureml://subscriptions/" + sandbox.SubscriptionID + "/resourcegroups/ml-prod/workspaces/ml-prod/datastores/workspaceblobstore/paths/"
	path, ok := strings.CutPrefix(*version.Properties.ModelURI, want)
	if !ok {
		t.Fatalf("model URI %s", *version.Properties.ModelURI)
	}
	datastore, err := factory.NewDatastoresClient().Get(t.Context(), group, sandbox.Workspace, "workspaceblobstore", nil)
	if err != nil {
		t.Fatal(err)
	}
	store, ok := datastore.Properties.(*armmachinelearning.AzureBlobDatastore)
	if !ok {
		t.Fatalf("datastore is a %T", datastore.Properties)
	}
	_, err = factory.NewDatastoresClient().ListSecrets(t.Context(), group, sandbox.Workspace, "workspaceblobstore", nil)
	wantCode(t, err, http.StatusForbidden, "AuthorizationFailed")

	options := &azblob.ClientOptions{}
	options.InsecureAllowCredentialWithHTTP = true
	blobs, err := azblob.NewClient(*store.Protocol+"://"+*store.Endpoint+"/"+*store.AccountName, token(s.Token()), options)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	one := int32(1)
	for pager := blobs.NewListBlobsFlatPager(*store.ContainerName, &azblob.ListBlobsFlatOptions{Prefix: &path, MaxResults: &one}); pager.More(); {
		page, err := pager.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range page.Segment.BlobItems {
			names = append(names, strings.TrimPrefix(*item.Name, path))
		}
	}
	if !slices.Equal(names, []string{"/model.bin", "/sub/a.txt"}) {
		t.Errorf("blobs %v", names)
	}
	part, err := blobs.DownloadStream(t.Context(), *store.ContainerName, path+"/model.bin", &azblob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: 9990, Count: 5}})
	if err != nil {
		t.Fatal(err)
	}
	defer part.Body.Close()
	if got, err := io.ReadAll(part.Body); err != nil || string(got) != "01234" {
		t.Errorf("a range is %q, %v", got, err)
	}
	whole := make([]byte, len(content))
	if _, err := blobs.DownloadBuffer(t.Context(), *store.ContainerName, path+"/model.bin", whole, &azblob.DownloadBufferOptions{BlockSize: 1024}); err != nil || !bytes.Equal(whole, content) {
		t.Errorf("the blob is not what was registered: %v", err)
	}
	if _, err := blobs.UploadBuffer(t.Context(), *store.ContainerName, "new/blob", []byte("x"), nil); err != nil {
		t.Errorf("upload: %v", err)
	}
	_, err = blobs.DownloadStream(t.Context(), *store.ContainerName, "none", nil)
	if !bloberror.HasCode(err, bloberror.BlobNotFound) {
		t.Errorf("a blob that is not there: %v", err)
	}
	stranger, err := azblob.NewClient(*store.Protocol+"://"+*store.Endpoint+"/"+*store.AccountName, token("stranger"), options)
	if err != nil {
		t.Fatal(err)
	}
	_, err = stranger.DownloadStream(t.Context(), *store.ContainerName, path+"/model.bin", nil)
	if !bloberror.HasCode(err, bloberror.NoAuthenticationInformation) {
		t.Errorf("with a wrong token: %v", err)
	}
}

func TestModelNames(t *testing.T) {
	s := start(t, t.TempDir())
	for _, name := range []string{"", "a/b", "..", "a b"} {
		if err := s.RegisterModel(name, "1", t.TempDir()); err == nil {
			t.Errorf("model %q was registered", name)
		}
	}
	if err := s.RegisterModel("a", "1", filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a model without files was registered")
	}
}
