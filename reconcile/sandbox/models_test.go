package sandbox_test

import (
	"bytes"
	"errors"
	"net/http"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/machinelearning/armmachinelearning/v4"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

type stream struct{ *bytes.Reader }

func (stream) Close() error { return nil }

// code is that of a refusal; "" for none.
func code(err error) string {
	var response *azcore.ResponseError
	if errors.As(err, &response) {
		return response.ErrorCode
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// TestStorageAccess: who may read and write a container, and with which words the others are
// refused.
func TestStorageAccess(t *testing.T) {
	s := start(t, t.TempDir())
	if err := s.RegisterRegistryModel("shared", "m", "1", t.TempDir()); err != nil {
		t.Fatal(err)
	}
	url := s.BlobEndpoint() + "/mlprodstorage/azureml-blobstore"
	options := &container.ClientOptions{}
	options.InsecureAllowCredentialWithHTTP = true
	withToken, err := container.NewClient(url, token(s.Token()), options)
	if err != nil {
		t.Fatal(err)
	}
	keyed := func(key string) *container.Client {
		credential, err := container.NewSharedKeyCredential("mlprodstorage", key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := container.NewClientWithSharedKeyCredential(url, credential, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	factory, err := armmachinelearning.NewClientFactory(sandbox.SubscriptionID, token(s.Token()), sdk(s))
	if err != nil {
		t.Fatal(err)
	}
	reference, err := factory.NewRegistryDataReferencesClient().GetBlobReferenceSAS(t.Context(), group, "shared", "m", "1", armmachinelearning.GetBlobReferenceSASRequestDto{
		AssetID: to.Ptr("azureml://registries/shared/models/m/versions/1"), BlobURI: to.Ptr(s.BlobEndpoint()),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = factory.NewRegistryDataReferencesClient().GetBlobReferenceSAS(t.Context(), group, "shared", "m", "1", armmachinelearning.GetBlobReferenceSASRequestDto{}, nil)
	wantCode(t, err, http.StatusBadRequest, "UserError")
	credential, ok := reference.BlobReferenceForConsumption.Credential.(*armmachinelearning.SASCredential)
	if !ok {
		t.Fatalf("credential is a %T", reference.BlobReferenceForConsumption.Credential)
	}
	signed, err := container.NewClientWithNoCredential(*credential.SasURI, nil)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := container.NewClientWithNoCredential(url+"?sv=2021-08-06&sr=c&sp=rl&sig=AAAA", nil)
	if err != nil {
		t.Fatal(err)
	}
	write := func(c *container.Client) error {
		_, err := c.NewBlockBlobClient("a b/c").Upload(t.Context(), stream{bytes.NewReader([]byte("content"))}, nil)
		return err
	}
	read := func(c *container.Client, o *blob.DownloadStreamOptions) error {
		answer, err := c.NewBlobClient("a b/c").DownloadStream(t.Context(), o)
		if err == nil {
			err = answer.Body.Close()
		}
		return err
	}
	for name, test := range map[string]struct {
		client      *container.Client
		read, write string
	}{
		"token": {withToken, "", ""}, "key": {keyed(s.AccountKey()), "", ""}, "another key": {keyed("AAAA"), "AuthenticationFailed", "AuthenticationFailed"},
		"signature": {signed, "", "AuthenticationFailed"}, "forged signature": {forged, "AuthenticationFailed", "AuthenticationFailed"},
	} {
		if err := write(withToken); err != nil {
			t.Fatal(err)
		}
		if r, w := code(read(test.client, nil)), code(write(test.client)); r != test.read || w != test.write {
			t.Errorf("%s: read %q, write %q; want %q, %q", name, r, w, test.read, test.write)
		}
	}
	s.LockAccountKeys(true)
	if got := code(read(keyed(s.AccountKey()), nil)); got != "KeyBasedAuthenticationNotPermitted" {
		t.Errorf("keys switched off: %q", got)
	}
	s.RefuseStorageTokens(true)
	if got := code(read(withToken, nil)); got != "AuthorizationPermissionMismatch" {
		t.Errorf("no role: %q", got)
	}
	s.RefuseStorageTokens(false)

	condition := func(tag azcore.ETag) *blob.DownloadStreamOptions {
		return &blob.DownloadStreamOptions{AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: &tag}}}
	}
	properties, err := withToken.NewBlobClient("a b/c").GetProperties(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := code(read(withToken, condition(*properties.ETag))); got != "" {
		t.Errorf("the right entity tag: %q", got)
	}
	if err := write(withToken); err != nil {
		t.Fatal(err)
	}
	if got := code(read(withToken, condition(*properties.ETag))); got != "ConditionNotMet" {
		t.Errorf("an old entity tag: %q", got)
	}
	hashed := &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: 0, Count: 8 << 20}, RangeGetContentMD5: to.Ptr(true)}
	if _, err := withToken.NewBlockBlobClient("a b/c").Upload(t.Context(), stream{bytes.NewReader(make([]byte, 5<<20))}, &blockblob.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := code(read(withToken, hashed)); got != "OutOfRangeInput" {
		t.Errorf("the hash of a range above 4 MiB: %q", got)
	}
}

// TestModelVersions: the newest is first, and as many as are asked for come.
func TestModelVersions(t *testing.T) {
	s := start(t, t.TempDir())
	for _, version := range []string{"2", "10", "1"} {
		if err := s.RegisterModelURI("churn", version, "azureml://datastores/d/paths/p"); err != nil {
			t.Fatal(err)
		}
	}
	factory, err := armmachinelearning.NewClientFactory(sandbox.SubscriptionID, token(s.Token()), sdk(s))
	if err != nil {
		t.Fatal(err)
	}
	page, err := factory.NewModelVersionsClient().NewListPager(group, sandbox.Workspace, "churn",
		&armmachinelearning.ModelVersionsClientListOptions{OrderBy: to.Ptr("createdtime desc"), Top: to.Ptr[int32](2)}).NextPage(t.Context())
	if err != nil || len(page.Value) != 2 || *page.Value[0].Name != "1" || *page.Value[1].Name != "10" {
		t.Errorf("got %v, %v", page.Value, err)
	}
	_, err = factory.NewModelVersionsClient().NewListPager(group, sandbox.Workspace, "none", nil).NextPage(t.Context())
	wantCode(t, err, http.StatusNotFound, "ResourceNotFound")
	if err := s.Overlay("/subscriptions/"+sandbox.SubscriptionID+"/resourceGroups/ml-prod/providers/Microsoft.MachineLearningServices/workspaces/ml-prod",
		map[string]any{"properties": map[string]any{"v1LegacyMode": true}}); err != nil {
		t.Fatal(err)
	}
	_, err = factory.NewModelContainersClient().Get(t.Context(), group, sandbox.Workspace, "churn", nil)
	wantCode(t, err, http.StatusForbidden, "UserError")
}
