package registry

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

var uploadName = regexp.MustCompile(`^[a-zA-Z0-9]{20,40}$`)

// upload serves /blobs/uploads/: POST begins (or mounts, or takes all at once), PATCH adds a
// chunk, GET tells how far it is, PUT ends it, DELETE gives it up.
func (g *Registry) upload(w http.ResponseWriter, r *http.Request, repository, id string) {
	digest := r.URL.Query().Get("digest")
	if digest != "" && !digestName.MatchString(digest) {
		Refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "want sha256:<hex>")
		return
	}
	if r.Method == http.MethodPost && id == "" {
		g.beginUpload(w, r, repository, digest)
		return
	}
	name := filepath.Join(g.dir, "uploads", id)
	if !uploadName.MatchString(id) || !exists(name) {
		Refuse(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
		return
	}
	held, _ := g.uploads.LoadOrStore(id, &sync.Mutex{})
	if lock, ok := held.(*sync.Mutex); ok {
		lock.Lock()
		defer lock.Unlock()
	}
	switch r.Method {
	case http.MethodGet:
		g.progress(w, repository, id, http.StatusNoContent)
	case http.MethodPatch:
		if status := g.add(name, r); status != 0 {
			g.progress(w, repository, id, status)
			return
		}
		g.progress(w, repository, id, http.StatusAccepted)
	case http.MethodPut:
		if status := g.add(name, r); status != 0 {
			g.progress(w, repository, id, status)
			return
		}
		g.finish(w, repository, name, digest)
		g.uploads.Delete(id)
	case http.MethodDelete:
		g.uploads.Delete(id)
		if err := os.Remove(name); err != nil {
			Refuse(w, http.StatusInternalServerError, "UNKNOWN", "cannot remove the upload")
			return
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		Refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "method not allowed")
	}
}

func (g *Registry) beginUpload(w http.ResponseWriter, r *http.Request, repository, digest string) {
	mount, from := r.URL.Query().Get("mount"), r.URL.Query().Get("from")
	if digestName.MatchString(mount) && repositoryName.MatchString(from) && exists(g.in(from, "_blobs", hexOf(mount))) {
		if err := g.link(repository, mount); err != nil {
			Refuse(w, http.StatusInternalServerError, "UNKNOWN", "cannot mount the blob")
			return
		}
		g.created(w, repository, mount)
		return
	}
	id := rand.Text()
	name := filepath.Join(g.dir, "uploads", id)
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		Refuse(w, http.StatusInternalServerError, "UNKNOWN", "cannot begin the upload")
		return
	}
	if digest == "" {
		g.progress(w, repository, id, http.StatusAccepted)
		return
	}
	if status := g.add(name, r); status != 0 {
		g.progress(w, repository, id, status)
		return
	}
	g.finish(w, repository, name, digest)
}

// add appends the request's body; the status is 0 when all of it was taken. A chunk that
// does not follow the last one is refused, so a client may ask and go on.
func (g *Registry) add(name string, r *http.Request) (status int) {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return http.StatusInternalServerError
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return http.StatusInternalServerError
	}
	if given := r.Header.Get("Content-Range"); given != "" {
		var from, to int64
		if _, err := fmt.Sscanf(strings.TrimPrefix(given, "bytes "), "%d-%d", &from, &to); err != nil || from != info.Size() {
			return http.StatusRequestedRangeNotSatisfiable
		}
	}
	if _, err := io.Copy(file, r.Body); err != nil {
		return http.StatusBadRequest // what has come stays: the client may go on from there
	}
	return 0
}

// finish checks the digest and makes the upload a blob of the repository.
func (g *Registry) finish(w http.ResponseWriter, repository, name, digest string) {
	if digest == "" {
		Refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "the digest is missing")
		return
	}
	file, err := os.Open(name)
	if err != nil {
		Refuse(w, http.StatusInternalServerError, "UNKNOWN", "cannot read the upload")
		return
	}
	hash := sha256.New()
	_, err = io.Copy(hash, file)
	if err = errors.Join(err, file.Close()); err != nil {
		Refuse(w, http.StatusInternalServerError, "UNKNOWN", "cannot read the upload")
		return
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != hexOf(digest) {
		_ = os.Remove(name) // useless, and swept with the folder in any case
		Refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "the content's digest is sha256:"+got)
		return
	}
	err = os.Rename(name, g.blobFile(digest))
	if err == nil {
		err = g.link(repository, digest)
	}
	if err != nil {
		Refuse(w, http.StatusInternalServerError, "UNKNOWN", "cannot keep the blob")
		return
	}
	g.created(w, repository, digest)
}

func (g *Registry) created(w http.ResponseWriter, repository, digest string) {
	w.Header().Set("Docker-Content-Digest", digest)
	w.Header().Set("Location", "/v2/"+repository+"/blobs/"+digest)
	w.WriteHeader(http.StatusCreated)
}

// progress tells how much of an upload has come.
func (g *Registry) progress(w http.ResponseWriter, repository, id string, status int) {
	info, err := os.Stat(filepath.Join(g.dir, "uploads", id))
	if err != nil {
		Refuse(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
		return
	}
	w.Header().Set("Location", "/v2/"+repository+"/blobs/uploads/"+id)
	w.Header().Set("Docker-Upload-Uuid", id)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(info.Size()-1, 0)))
	w.WriteHeader(status)
}
