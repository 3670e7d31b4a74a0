package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/amlaks/amlaks/spec"
)

// contents gives an image's files as "mode content".
func contents(t *testing.T, image v1.Image) map[string]string {
	t.Helper()
	stream := mutate.Extract(image)
	defer stream.Close()
	got := map[string]string{}
	for archive := tar.NewReader(stream); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag == tar.TypeReg {
			data, err := io.ReadAll(io.LimitReader(archive, 1<<20))
			if err != nil {
				t.Fatal(err)
			}
			got[header.Name] = fmt.Sprintf("%o %s", header.Mode, data)
		}
	}
}

func TestModelLayers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	write(t, filepath.Join(dir, "a"), "a", 0o644)
	write(t, filepath.Join(dir, "sub", "b"), "b", 0o644)
	big := write(t, filepath.Join(dir, "big"), "", 0o644)
	if err := os.Truncate(big, alone); err != nil { // sparse
		t.Fatal(err)
	}
	groups, err := modelLayers(spec.Model{Name: "m", Version: "1", Path: dir}, dir)
	if err != nil {
		t.Fatal(err)
	}
	var got [][]string
	for _, group := range groups {
		var targets []string
		for _, e := range group {
			targets = append(targets, e.target)
		}
		got = append(got, targets)
	}
	const at = modelDir + "/m/1/tree/"
	if diff := cmp.Diff([][]string{{at + "big"}, {at + "a", at + "sub/b"}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestFileChangesAfterItWasHashed(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "f"), "one", 0o644)
	for _, content := range []string{"two", "longer", "s"} {
		write(t, file, "one", 0o644)
		l, err := newLayer(context.Background(), []entry{{source: file, target: "f", mode: 0o644, size: 3}})
		if err != nil {
			t.Fatal(err)
		}
		write(t, file, content, 0o644)
		reader, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, reader); !errors.Is(err, errChanged) {
			t.Errorf("%q: got %v", content, err)
		}
		if err := reader.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestIgnored(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, ignoreFile), "# no\n*.log\ncache/\n!keep.log\n", 0o644)
	for _, f := range []string{"x.log", "keep.log", "cache/c", ".git/config", "sub/y.log", "sub/z"} {
		write(t, filepath.Join(dir, f), "", 0o644)
	}
	s := &source{inference: spec.Inference{SourceDirectory: dir}}
	entries, err := s.code()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.target)
	}
	if diff := cmp.Diff([]string{appRoot + "/keep.log", appRoot + "/sub/z"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestPlainHTTPStaysHere(t *testing.T) {
	for host, refused := range map[string]bool{
		"http://10.0.0.1": true, "http://registry.local": true, "http://127.0.0.1.example.com": true,
		"http://127.0.0.1:5000": false, "http://[::1]:5000": false, "http://localhost:5000": false, "https://10.0.0.1": false,
	} {
		reached := false
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, host+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = secureTransport{roundTrip(func() { reached = true })}.RoundTrip(request)
		if reached == refused || (err == nil) == refused {
			t.Errorf("%s: reached %t, %v", host, reached, err)
		}
	}
}

type roundTrip func()

func (f roundTrip) RoundTrip(*http.Request) (*http.Response, error) {
	f()
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}
