package blob

import (
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/amlaks/amlaks/reconcile/sandbox/internal/files"
)

const (
	// maxHashed is up to which size a blob has a Content-MD5: larger ones are uploaded in
	// blocks, and Azure computes none for those.
	maxHashed = 64 << 20
	// maxRangeHash is the largest range that a hash can be asked for with (Get Blob).
	maxRangeHash = 4 << 20
	// sums is the folder of the hashes that clients gave.
	sums = ".content-md5"
)

func formatInt(n int64) string { return strconv.FormatInt(n, 10) }

// setProperties is Set Blob Properties, as far as the content's hash goes; it is not checked.
func (s *Store) setProperties(w http.ResponseWriter, r *http.Request, name string) {
	if _, err := os.Stat(name); err != nil {
		Refuse(w, http.StatusNotFound, "BlobNotFound", "The specified blob does not exist.")
		return
	}
	if err := s.setMD5(name, r.Header.Get("X-Ms-Blob-Content-Md5")); err != nil {
		Refuse(w, http.StatusInternalServerError, "InternalError", "The properties cannot be written.")
	}
}

// setMD5 keeps what somebody says that a blob's hash is; "": nothing.
func (s *Store) setMD5(name, sum string) error {
	sidecar := filepath.Join(s.dir, sums, fileKey(name))
	if sum == "" {
		if err := os.Remove(sidecar); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(sidecar), 0o700); err != nil {
		return err
	}
	return files.Write(sidecar, []byte(sum), 0o600)
}

// contentMD5 is a blob's Content-MD5 in base64; "" if it has none.
func (s *Store) contentMD5(name string, info fs.FileInfo) string {
	if given, err := os.ReadFile(filepath.Join(s.dir, sums, fileKey(name))); err == nil {
		return string(given)
	}
	if info.Size() > maxHashed {
		return ""
	}
	key := name + etag(info)
	if known, ok := s.hashed.Load(key); ok {
		return known.(string)
	}
	file, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer file.Close()
	sum := md5.New()
	if _, err := io.Copy(sum, file); err != nil {
		return ""
	}
	text := base64.StdEncoding.EncodeToString(sum.Sum(nil))
	s.hashed.Store(key, text)
	return text
}

// conditional answers a request whose entity tag is no longer the blob's, as the Blob service
// words it.
func conditional(w http.ResponseWriter, r *http.Request, info fs.FileInfo) (answered bool) {
	want := r.Header.Get("If-Match")
	if want == "" || want == "*" || want == etag(info) {
		r.Header.Del("If-Match")
		return false
	}
	Refuse(w, http.StatusPreconditionFailed, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met.")
	return true
}

// rangeMD5 sets the hash of a range that is asked for with one, or refuses.
func rangeMD5(w http.ResponseWriter, r *http.Request, file io.ReaderAt, info fs.FileInfo) (answered bool) {
	if !strings.EqualFold(r.Header.Get("X-Ms-Range-Get-Content-Md5"), "true") {
		return false
	}
	var from, to int64
	if n, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); n == 0 || err != nil && n != 1 {
		Refuse(w, http.StatusBadRequest, "InvalidHeaderValue", "The value for one of the HTTP headers is not in the correct format: x-ms-range-get-content-md5.")
		return true
	} else if n == 1 || to >= info.Size() {
		to = info.Size() - 1
	}
	if to-from+1 > maxRangeHash {
		Refuse(w, http.StatusBadRequest, "OutOfRangeInput", "One of the request inputs is out of range.")
		return true
	}
	sum := md5.New()
	if from <= to {
		if _, err := io.Copy(sum, io.NewSectionReader(file, from, to-from+1)); err != nil {
			Refuse(w, http.StatusInternalServerError, "InternalError", "The blob cannot be read.")
			return true
		}
		w.Header().Set("Content-Md5", base64.StdEncoding.EncodeToString(sum.Sum(nil)))
	}
	return false
}
