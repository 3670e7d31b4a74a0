// Package registry is the sandbox's OCI registry. All of it is on disk: go-containerregistry's
// own keeps manifests and unfinished uploads in memory and hashes a blob for each HEAD, which
// neither a kill -9 nor a model of 10 GiB survives.
package registry

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/amlaks/amlaks/reconcile/sandbox/internal/files"
)

const maxManifest = 4 << 20 // the distribution specification's least that must be taken

// What the distribution specification allows as names: they become file names here.
var (
	repositoryName = regexp.MustCompile(`^[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)
	tagName        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	digestName     = regexp.MustCompile(`^sha256:[a-f0-9]{64}$`)
)

// Registry is an http.Handler for /v2/.
//
//	blobs/<hex>                            a blob, shared by all repositories
//	uploads/<id>                           an unfinished one
//	repositories/<name>/_blobs/<hex>       that the repository has the blob
//	repositories/<name>/_manifests/<hex>   a manifest, {mediaType, content}
//	repositories/<name>/_tags/<tag>        its digest
type Registry struct {
	dir     string
	uploads sync.Map // ID: *sync.Mutex, so that chunks of one upload follow one another
}

// New serves what is in dir.
func New(dir string) (*Registry, error) {
	for _, sub := range []string{"blobs", "uploads", "repositories"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	return &Registry{dir: dir}, nil
}

// Refuse writes an error in the specification's form.
func Refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{"code": code, "message": message}}})
}

// ServeHTTP answers a request under /v2/.
func (g *Registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	path, ok := strings.CutPrefix(r.URL.Path, "/v2")
	switch path = strings.Trim(path, "/"); {
	case !ok:
		Refuse(w, http.StatusNotFound, "UNSUPPORTED", "not a path of this registry")
		return
	case path == "":
		w.WriteHeader(http.StatusOK)
		return
	case path == "_catalog":
		g.catalog(w)
		return
	}
	for _, kind := range []string{"/blobs/uploads", "/blobs/", "/manifests/", "/tags/list", "/referrers/"} {
		i := strings.LastIndex(path, kind)
		if i < 0 {
			continue
		}
		repository, rest := path[:i], strings.TrimPrefix(path[i+len(kind):], "/")
		if !repositoryName.MatchString(repository) {
			Refuse(w, http.StatusBadRequest, "NAME_INVALID", "invalid repository name")
			return
		}
		switch kind {
		case "/blobs/uploads":
			g.upload(w, r, repository, rest)
		case "/blobs/":
			g.blob(w, r, repository, rest)
		case "/manifests/":
			g.manifest(w, r, repository, rest)
		case "/tags/list":
			g.tags(w, repository)
		case "/referrers/":
			w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			_, _ = io.WriteString(w, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
		}
		return
	}
	Refuse(w, http.StatusNotFound, "UNSUPPORTED", "not a path of this registry")
}

func hexOf(digest string) string { return strings.TrimPrefix(digest, "sha256:") }

func (g *Registry) blobFile(digest string) string {
	return filepath.Join(g.dir, "blobs", hexOf(digest))
}

func (g *Registry) in(repository, kind, name string) string {
	return filepath.Join(g.dir, "repositories", filepath.FromSlash(repository), kind, name)
}

// link notes that a repository has a blob.
func (g *Registry) link(repository, digest string) error {
	name := g.in(repository, "_blobs", hexOf(digest))
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	return files.Write(name, nil, 0o600)
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func (g *Registry) blob(w http.ResponseWriter, r *http.Request, repository, digest string) {
	switch {
	case !digestName.MatchString(digest):
		Refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "want sha256:<hex>")
		return
	case !exists(g.in(repository, "_blobs", hexOf(digest))):
		Refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		file, err := os.Open(g.blobFile(digest))
		if err != nil {
			Refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
			return
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			Refuse(w, http.StatusInternalServerError, "UNKNOWN", "cannot read the blob")
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Docker-Content-Digest", digest)
		w.Header().Set("Etag", `"`+digest+`"`)
		http.ServeContent(w, r, "", info.ModTime(), file)
	case http.MethodDelete:
		if err := os.Remove(g.in(repository, "_blobs", hexOf(digest))); err != nil {
			Refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
			return
		}
		w.WriteHeader(http.StatusAccepted)
	default:
		Refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "method not allowed")
	}
}

func (g *Registry) tags(w http.ResponseWriter, repository string) {
	entries, err := os.ReadDir(g.in(repository, "_tags", ""))
	if errors.Is(err, fs.ErrNotExist) && !exists(g.in(repository, "_manifests", "")) {
		Refuse(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
		return
	}
	tags := []string{}
	for _, entry := range entries {
		if tagName.MatchString(entry.Name()) {
			tags = append(tags, entry.Name())
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"name": repository, "tags": tags})
}

func (g *Registry) catalog(w http.ResponseWriter) {
	root := filepath.Join(g.dir, "repositories")
	repositories := []string{}
	_ = filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return nil // what cannot be read is not listed
		}
		if entry.Name() == "_manifests" {
			relative, _ := filepath.Rel(root, filepath.Dir(name))
			repositories = append(repositories, filepath.ToSlash(relative))
		}
		if strings.HasPrefix(entry.Name(), "_") {
			return filepath.SkipDir
		}
		return nil
	})
	slices.Sort(repositories)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"repositories": repositories})
}
