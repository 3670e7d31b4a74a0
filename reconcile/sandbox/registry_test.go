package sandbox_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

func reference(t *testing.T, s *sandbox.Sandbox, text string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(s.Registry() + "/" + text)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func image(t *testing.T, ref name.Reference) (v1.Image, v1.Hash) {
	t.Helper()
	got, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := got.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return got, digest
}

func TestRegistryKeepsImages(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	pushed, err := random.Image(2000, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(reference(t, s, "team/churn:one"), pushed); err != nil {
		t.Fatal(err)
	}
	index, err := random.Index(500, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(reference(t, s, "team/base:1"), index); err != nil {
		t.Fatal(err)
	}
	want, err := pushed.Digest()
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = start(t, dir)
	pulled, got := image(t, reference(t, s, "team/churn:one"))
	if got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
	if err := validate.Image(pulled); err != nil {
		t.Error(err)
	}
	image(t, reference(t, s, "team/churn@"+want.String()))
	if _, err := remote.Index(reference(t, s, "team/base:1")); err != nil {
		t.Error(err)
	}
	tags, err := remote.List(reference(t, s, "team/churn").Context())
	if err != nil || !slices.Equal(tags, []string{"one"}) {
		t.Errorf("tags %v, %v", tags, err)
	}
	repositories, err := remote.Catalog(t.Context(), reference(t, s, "x").Context().Registry)
	if err != nil || !slices.Equal(repositories, []string{"team/base", "team/churn"}) {
		t.Errorf("catalog %v, %v", repositories, err)
	}
	t.Run("mount", func(t *testing.T) {
		s.ClearRequests()
		if err := remote.Write(reference(t, s, "other/copy:1"), pulled); err != nil {
			t.Fatal(err)
		}
		if n := calls(s, "registry", http.MethodPatch); n != 0 {
			t.Errorf("%d uploads of layers that could be mounted", n)
		}
		_, got := image(t, reference(t, s, "other/copy:1"))
		if got != want {
			t.Errorf("digest %s, want %s", got, want)
		}
	})
	t.Run("nothing to write", func(t *testing.T) {
		s.ClearRequests()
		if _, err := remote.Head(reference(t, s, "team/churn:one")); err != nil {
			t.Fatal(err)
		}
		if n := len(s.Requests("registry")); n != 2 { // the ping and the HEAD
			t.Errorf("%d requests, want 2", n)
		}
	})
}

func TestRegistryChunks(t *testing.T) {
	s := start(t, t.TempDir())
	content := []byte("0123456789")
	sum := sha256.Sum256(content)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	base := "http://" + s.Registry()
	send := func(method, path, contentRange string, body []byte, want int) *http.Response {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, base+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if contentRange != "" {
			request.Header.Set("Content-Range", contentRange)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Fatalf("%s %s: %d, want %d", method, path, response.StatusCode, want)
		}
		return response
	}
	begun := send("POST", "/v2/a/b/blobs/uploads/", "", nil, http.StatusAccepted)
	upload := begun.Header.Get("Location")
	send("PATCH", upload, "0-3", content[:4], http.StatusAccepted)
	refused := send("PATCH", upload, "6-9", content[6:], http.StatusRequestedRangeNotSatisfiable)
	if got := refused.Header.Get("Range"); got != "0-3" {
		t.Errorf("range %s, want 0-3", got)
	}
	if got := send("GET", upload, "", nil, http.StatusNoContent).Header.Get("Range"); got != "0-3" {
		t.Errorf("range %s, want 0-3", got)
	}
	send("PATCH", upload, "4-9", content[4:], http.StatusAccepted)
	send("PUT", upload+"?digest="+digest, "", nil, http.StatusCreated)
	send("HEAD", "/v2/a/b/blobs/"+digest, "", nil, http.StatusOK)
	send("HEAD", "/v2/other/blobs/"+digest, "", nil, http.StatusNotFound)

	wrong := send("POST", "/v2/a/b/blobs/uploads/", "", nil, http.StatusAccepted).Header.Get("Location")
	send("PUT", wrong+"?digest="+digest, "", []byte("something else"), http.StatusBadRequest)
	send("PUT", "/v2/a/b/manifests/1", "", []byte(`{"config":{"digest":"sha256:`+hex.EncodeToString(make([]byte, 32))+`"}}`), http.StatusBadRequest)
	send("GET", "/v2/../../etc/manifests/1", "", nil, http.StatusBadRequest)
	send("GET", "/v2/a/b/manifests/none", "", nil, http.StatusNotFound)
}
