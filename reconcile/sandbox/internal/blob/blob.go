// Package blob is the sandbox's storage account: the part of the Blob service that models are
// read and written with, path-style (/account/container/blob), a blob a file.
package blob

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxPage    = 5000     // of List Blobs, as on Azure
	maxPutBlob = 64 << 30 // a sandbox's models, with room
)

// Store is an http.Handler over a folder.
type Store struct {
	dir    string
	access access
	hashed sync.Map // MD5 of blobs, by file and entity tag
}

// New serves what is in dir to whoever bears the token.
func New(dir, token string) (*Store, error) {
	return &Store{dir: dir, access: access{token: token}}, os.MkdirAll(dir, 0o700)
}

// Refuse writes an error in the Blob service's form.
func Refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("X-Ms-Error-Code", code)
	w.WriteHeader(status)
	type xmlError struct {
		XMLName       xml.Name `xml:"Error"`
		Code, Message string
	}
	_, _ = io.WriteString(w, xml.Header)
	_ = xml.NewEncoder(w).Encode(xmlError{Code: code, Message: message}) // the client has gone away
}

// ServeHTTP answers Get Blob, Get Blob Properties, Put Blob, Set Blob Properties, Delete Blob and List Blobs.
func (s *Store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	version := r.Header.Get("X-Ms-Version")
	w.Header().Set("X-Ms-Version", version)
	w.Header().Set("X-Ms-Request-Id", "00000000-0000-0000-0000-000000000000")
	if !s.letIn(w, r) {
		return
	}
	if version == "" {
		Refuse(w, http.StatusBadRequest, "MissingRequiredHeader", "An HTTP header that's mandatory for this request is not specified: x-ms-version.")
		return
	}
	account, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	container, blob, _ := strings.Cut(rest, "/")
	if !isName(account) || !isName(container) {
		Refuse(w, http.StatusBadRequest, "InvalidUri", "The requested URI does not represent any resource on the server.")
		return
	}
	if blob == "" {
		if r.Method == http.MethodGet && r.URL.Query().Get("comp") == "list" {
			s.list(w, r, account, container)
			return
		}
		Refuse(w, http.StatusNotFound, "ResourceNotFound", "The specified resource does not exist.")
		return
	}
	name, err := s.file(account, container, blob)
	if err != nil {
		Refuse(w, http.StatusBadRequest, "InvalidResourceName", "The specified resource name contains invalid characters.")
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		s.get(w, r, name)
	case http.MethodPut:
		if r.URL.Query().Get("comp") == "properties" {
			s.setProperties(w, r, name)
			return
		}
		s.put(w, r, account, container, name)
	case http.MethodDelete:
		if os.Remove(name) != nil {
			Refuse(w, http.StatusNotFound, "BlobNotFound", "The specified blob does not exist.")
			return
		}
		w.WriteHeader(http.StatusAccepted)
	default:
		Refuse(w, http.StatusMethodNotAllowed, "UnsupportedHttpVerb", "The resource doesn't support the specified HTTP verb.")
	}
}

func isName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	})
}

// file is where a blob lies. Blob names that are no clean relative path are refused.
func (s *Store) file(account, container, blob string) (string, error) {
	if !filepath.IsLocal(blob) || path.Clean(blob) != blob {
		return "", errors.New("invalid blob name")
	}
	return filepath.Join(s.dir, account, container, filepath.FromSlash(blob)), nil
}

// etag changes with every write: files are replaced, never written over.
func etag(info fs.FileInfo) string {
	return fmt.Sprintf(`"0x%X"`, info.ModTime().UnixNano()^info.Size())
}

func (s *Store) get(w http.ResponseWriter, r *http.Request, name string) {
	file, err := os.Open(name)
	if err == nil {
		defer file.Close()
	}
	var info fs.FileInfo
	if err == nil {
		info, err = file.Stat()
	}
	if err != nil || info.IsDir() {
		if r.Method == http.MethodHead {
			w.Header().Set("X-Ms-Error-Code", "BlobNotFound")
			w.WriteHeader(http.StatusNotFound)
			return
		}
		Refuse(w, http.StatusNotFound, "BlobNotFound", "The specified blob does not exist.")
		return
	}
	// azblob asks with x-ms-range; both mean the same (Get Blob's reference).
	if given := r.Header.Get("X-Ms-Range"); given != "" {
		r.Header.Set("Range", given)
	}
	if conditional(w, r, info) || rangeMD5(w, r, file, info) {
		return
	}
	if sum := s.contentMD5(name, info); r.Header.Get("Range") != "" {
		w.Header().Set("X-Ms-Blob-Content-Md5", sum)
	} else if sum != "" {
		w.Header().Set("Content-Md5", sum)
	}
	w.Header().Set("Etag", etag(info))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-Ms-Blob-Type", "BlockBlob")
	w.Header().Set("X-Ms-Creation-Time", info.ModTime().UTC().Format(http.TimeFormat))
	http.ServeContent(w, r, "", info.ModTime(), file)
}

func (s *Store) put(w http.ResponseWriter, r *http.Request, account, container, name string) {
	if r.URL.Query().Get("comp") != "" || r.Header.Get("X-Ms-Blob-Type") != "BlockBlob" {
		Refuse(w, http.StatusBadRequest, "UnsupportedHeader", "Only Put Blob of block blobs is supported.")
		return
	}
	if _, err := os.Stat(filepath.Join(s.dir, account, container)); err != nil {
		Refuse(w, http.StatusNotFound, "ContainerNotFound", "The specified container does not exist.")
		return
	}
	if err := write(name, http.MaxBytesReader(w, r.Body, maxPutBlob)); err != nil {
		Refuse(w, http.StatusInternalServerError, "InternalError", "The blob cannot be written.")
		return
	}
	if err := s.setMD5(name, ""); err != nil {
		Refuse(w, http.StatusInternalServerError, "InternalError", "The blob cannot be written.")
		return
	}
	if info, err := os.Stat(name); err == nil {
		w.Header().Set("Etag", etag(info))
		w.Header().Set("Last-Modified", info.ModTime().UTC().Format(http.TimeFormat))
	}
	w.WriteHeader(http.StatusCreated)
}

func write(name string, content io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(name), tempPrefix+"*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // gone already when all went well
	_, err = io.Copy(file, content)
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), name)
}

// tempPrefix marks what is being written; it is not listed.
const tempPrefix = ".upload-"

// Import copies a file, or all files of a folder, to a path of a container, in place of what
// was there.
func (s *Store) Import(account, container, under, from string) error {
	root := filepath.Join(s.dir, account, container)
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(root, filepath.FromSlash(under))); err != nil {
		return err
	}
	return filepath.WalkDir(from, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
			return errors.Join(err, fmt.Errorf("%s: not a regular file", name))
		}
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		target := filepath.Join(root, filepath.FromSlash(under), relative)
		return errors.Join(s.setMD5(target, ""), write(target, file))
	})
}

type properties struct {
	LastModified  string `xml:"Last-Modified"`
	Etag          string `xml:"Etag"`
	ContentLength int64  `xml:"Content-Length"`
	ContentType   string `xml:"Content-Type"`
	ContentMD5    string `xml:"Content-MD5"`
	BlobType      string `xml:"BlobType"`
}

type item struct {
	Name       string
	Properties properties
}

type listing struct {
	XMLName         xml.Name `xml:"EnumerationResults"`
	ServiceEndpoint string   `xml:"ServiceEndpoint,attr"`
	ContainerName   string   `xml:"ContainerName,attr"`
	Prefix          string   `xml:",omitempty"`
	Marker          string   `xml:",omitempty"`
	MaxResults      int
	Blobs           []item `xml:"Blobs>Blob"`
	NextMarker      string
}

func (s *Store) list(w http.ResponseWriter, r *http.Request, account, container string) {
	query := r.URL.Query()
	limit := maxPage
	if given := query.Get("maxresults"); given != "" {
		n, err := strconv.Atoi(given)
		if err != nil || n < 1 {
			Refuse(w, http.StatusBadRequest, "OutOfRangeQueryParameterValue", "One of the query parameters specified in the request URI is outside the permissible range.")
			return
		}
		limit = min(n, maxPage)
	}
	root := filepath.Join(s.dir, account, container)
	var items []item
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasPrefix(entry.Name(), tempPrefix) {
			return err
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		blob := filepath.ToSlash(relative)
		if !strings.HasPrefix(blob, query.Get("prefix")) || blob < query.Get("marker") {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return nil // removed meanwhile
		}
		items = append(items, item{Name: blob, Properties: properties{
			LastModified: info.ModTime().UTC().Format(http.TimeFormat), Etag: strings.Trim(etag(info), `"`),
			ContentLength: info.Size(), ContentType: "application/octet-stream", BlobType: "BlockBlob",
			ContentMD5: s.contentMD5(name, info),
		}})
		return nil
	})
	if err != nil {
		Refuse(w, http.StatusNotFound, "ContainerNotFound", "The specified container does not exist.")
		return
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.Name, b.Name) })
	answer := listing{
		ServiceEndpoint: (&url.URL{Scheme: "http", Host: r.Host, Path: "/" + account + "/"}).String(), ContainerName: container,
		Prefix: query.Get("prefix"), Marker: query.Get("marker"), MaxResults: limit, Blobs: items,
	}
	if len(items) > limit {
		answer.NextMarker, answer.Blobs = items[limit].Name, items[:limit]
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	_, _ = io.WriteString(w, xml.Header)
	_ = xml.NewEncoder(w).Encode(answer) // the client has gone away
}
