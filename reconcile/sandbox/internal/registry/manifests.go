package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"github.com/amlaks/amlaks/reconcile/sandbox/internal/files"
)

type stored struct {
	MediaType string `json:"mediaType"`
	Content   []byte `json:"content"`
}

func (g *Registry) manifest(w http.ResponseWriter, r *http.Request, repository, reference string) {
	byDigest := digestName.MatchString(reference)
	if !byDigest && !tagName.MatchString(reference) {
		Refuse(w, http.StatusBadRequest, "MANIFEST_INVALID", "want a tag or sha256:<hex>")
		return
	}
	if r.Method == http.MethodPut {
		g.putManifest(w, r, repository, reference, byDigest)
		return
	}
	digest := reference
	if !byDigest {
		content, err := os.ReadFile(g.in(repository, "_tags", reference))
		if err != nil {
			Refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
			return
		}
		digest = string(content)
	}
	var manifest stored
	if files.ReadJSON(g.in(repository, "_manifests", hexOf(digest)), &manifest) != nil {
		Refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		w.Header().Set("Content-Type", manifest.MediaType)
		w.Header().Set("Docker-Content-Digest", digest)
		w.Header().Set("Content-Length", strconv.Itoa(len(manifest.Content)))
		w.WriteHeader(http.StatusOK)
		if r.Method == http.MethodGet {
			_, _ = w.Write(manifest.Content) // the client has gone away
		}
	case http.MethodDelete:
		name := g.in(repository, "_tags", reference)
		if byDigest {
			name = g.in(repository, "_manifests", hexOf(digest))
		}
		if os.Remove(name) != nil {
			Refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
			return
		}
		w.WriteHeader(http.StatusAccepted)
	default:
		Refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "method not allowed")
	}
}

// putManifest takes a manifest only when all it refers to is there, as ACR does: that is how
// a client finds out that it pushed in the wrong order.
func (g *Registry) putManifest(w http.ResponseWriter, r *http.Request, repository, reference string, byDigest bool) {
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxManifest))
	if err != nil {
		Refuse(w, http.StatusRequestEntityTooLarge, "SIZE_INVALID", "the manifest cannot be read")
		return
	}
	sum := sha256.Sum256(content)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	if byDigest && reference != digest {
		Refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "the manifest's digest is "+digest)
		return
	}
	type descriptor struct {
		Digest string   `json:"digest"`
		URLs   []string `json:"urls"`
	}
	var parsed struct {
		MediaType string       `json:"mediaType"`
		Config    *descriptor  `json:"config"`
		Layers    []descriptor `json:"layers"`
		Manifests []descriptor `json:"manifests"`
	}
	if json.Unmarshal(content, &parsed) != nil {
		Refuse(w, http.StatusBadRequest, "MANIFEST_INVALID", "the manifest is not JSON")
		return
	}
	blobs := parsed.Layers
	if parsed.Config != nil {
		blobs = append(blobs, *parsed.Config)
	}
	for _, blob := range blobs {
		if len(blob.URLs) == 0 && (!digestName.MatchString(blob.Digest) || !exists(g.in(repository, "_blobs", hexOf(blob.Digest)))) {
			Refuse(w, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", "blob "+blob.Digest+" unknown to registry")
			return
		}
	}
	for _, inner := range parsed.Manifests {
		if !digestName.MatchString(inner.Digest) || !exists(g.in(repository, "_manifests", hexOf(inner.Digest))) {
			Refuse(w, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", "manifest "+inner.Digest+" unknown to registry")
			return
		}
	}
	mediaType := r.Header.Get("Content-Type")
	if mediaType == "" {
		mediaType = parsed.MediaType
	}
	name := g.in(repository, "_manifests", hexOf(digest))
	err = os.MkdirAll(filepath.Dir(name), 0o700)
	if err == nil {
		err = files.WriteJSON(name, stored{MediaType: mediaType, Content: content})
	}
	if err == nil && !byDigest {
		tag := g.in(repository, "_tags", reference)
		if err = os.MkdirAll(filepath.Dir(tag), 0o700); err == nil {
			err = files.Write(tag, []byte(digest), 0o600)
		}
	}
	if err != nil {
		Refuse(w, http.StatusInternalServerError, "UNKNOWN", "cannot keep the manifest")
		return
	}
	w.Header().Set("Docker-Content-Digest", digest)
	w.Header().Set("Location", "/v2/"+repository+"/manifests/"+digest)
	w.WriteHeader(http.StatusCreated)
}
