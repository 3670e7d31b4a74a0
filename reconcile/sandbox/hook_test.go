package sandbox_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// The hook sees each request twice, and what it says is lost is lost.
func TestHook(t *testing.T) {
	var mu sync.Mutex
	var calls []string
	lose := map[string]bool{}
	s := start(t, t.TempDir(), func(o *sandbox.Options) {
		o.Hook = func(r sandbox.Request, m sandbox.Moment) bool {
			mu.Lock()
			defer mu.Unlock()
			call := fmt.Sprint(r.Service, " ", r.Method, " ", r.Status, " ", m == sandbox.After)
			calls = append(calls, call)
			return !lose[call]
		}
	})
	begin := func() error {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.Registry()+"/v2/r/blobs/uploads/", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		return response.Body.Close()
	}
	for _, test := range []struct {
		name string
		lose string
		fail bool
		want []string
	}{
		{"nothing is lost", "", false, []string{"registry POST 0 false", "registry POST 202 true"}},
		{"the request is lost", "registry POST 0 false", true, []string{"registry POST 0 false"}},
		{"the answer is lost", "registry POST 202 true", true, []string{"registry POST 0 false", "registry POST 202 true"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			calls, lose = nil, map[string]bool{test.lose: true}
			if err := begin(); (err != nil) != test.fail {
				t.Errorf("failed: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			if diff := cmp.Diff(test.want, calls); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("a long answer", func(t *testing.T) {
		calls, lose = nil, nil
		content := bytes.Repeat([]byte("0123456789abcdef"), 1<<19) // 8 MiB
		digest := push(t, s, content)
		response, err := http.Get("http://" + s.Registry() + "/v2/r/blobs/" + digest)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		got, err := io.ReadAll(response.Body)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		mu.Lock()
		defer mu.Unlock()
		if n := len(calls); n < 2 || !slices.Equal(calls[n-2:], []string{"registry GET 0 false", "registry GET 200 true"}) {
			t.Errorf("called %q", calls)
		}
	})
}

func push(t *testing.T, s *sandbox.Sandbox, content []byte) (digest string) {
	t.Helper()
	sum := sha256.Sum256(content)
	digest = "sha256:" + hex.EncodeToString(sum[:])
	response, err := http.Post("http://"+s.Registry()+"/v2/r/blobs/uploads/?digest="+digest, "application/octet-stream", bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusCreated {
		t.Fatal(response.Status)
	}
	return digest
}

// Half of an upload comes, whether its length was said or not, and the client may go on from there.
func TestUploadIsCut(t *testing.T) {
	s := start(t, t.TempDir())
	content := strings.Repeat("x", 1000)
	for name, body := range map[string]io.Reader{
		"length": strings.NewReader(content),
		"chunks": struct{ io.Reader }{strings.NewReader(content)},
	} {
		t.Run(name, func(t *testing.T) {
			response, err := http.Post("http://"+s.Registry()+"/v2/r/blobs/uploads/", "", nil)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			location := "http://" + s.Registry() + response.Header.Get("Location")
			inject(t, s, sandbox.Fault{Service: "registry", Method: "PATCH", Reset: "middle"})
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, location, body)
			if err != nil {
				t.Fatal(err)
			}
			if response, err := http.DefaultClient.Do(request); err == nil {
				response.Body.Close()
				t.Errorf("answered %s", response.Status)
			}
			response, err = http.Get(location)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if got := response.Header.Get("Range"); got != "0-499" {
				t.Errorf("the registry has %s, want half", got)
			}
		})
	}
	if _, err := s.Fault(sandbox.Fault{Service: "arm", Reset: "middle"}); err == nil {
		t.Error("a fault in the middle of an upload to ARM was accepted")
	}
}
