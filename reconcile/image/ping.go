package image

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// maxPing is more than any registry says to GET /v2/.
const maxPing = 64 << 10

// pingOnce asks a registry once how it wants to be spoken to (GET /v2/: the scheme, and where
// tokens come from). go-containerregistry asks that for each repository, and a stack of fifty
// services has fifty; the answer is the registry's.
type pingOnce struct {
	next http.RoundTripper

	mu    sync.Mutex
	known map[string]*ping // by scheme and host
}

// ping is one question, and its answer once mu can be had.
type ping struct {
	mu       sync.Mutex
	response *http.Response // without its body
	body     []byte
}

func (t *pingOnce) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet || r.URL.Path != "/v2/" || r.Header.Get("Authorization") != "" {
		return t.next.RoundTrip(r)
	}
	t.mu.Lock()
	at := r.URL.Scheme + "://" + r.URL.Host
	p := t.known[at]
	if p == nil {
		p = &ping{}
		t.known[at] = p
	}
	t.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.response == nil {
		response, err := t.next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusUnauthorized {
			return response, nil // trouble, which may pass
		}
		defer response.Body.Close()
		if p.body, err = io.ReadAll(io.LimitReader(response.Body, maxPing)); err != nil {
			return nil, fmt.Errorf("read the registry's answer: %w", err)
		}
		p.response = response
	}
	answer := *p.response
	answer.Request, answer.Header = r, p.response.Header.Clone()
	answer.Body, answer.ContentLength = io.NopCloser(bytes.NewReader(p.body)), int64(len(p.body))
	return &answer, nil
}
