package image

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/retry"
)

// patient sends again what only reads, and what a token server is asked. A request that is a
// part of an upload cannot be repeated alone; push begins the upload again.
func patient(next http.RoundTripper) http.RoundTripper {
	return &retry.Transport{Next: next, Peer: "the registry", Again: func(r *http.Request) bool { return !writes(r) }}
}

// writes tells whether a request could change something in a registry. A token server is asked
// by GET or by a POST that changes nothing; both have no /v2/ in their path.
func writes(r *http.Request) bool {
	return r.Method != http.MethodGet && r.Method != http.MethodHead && strings.HasPrefix(r.URL.Path, "/v2/")
}

// readOnlyTransport is promise 1 of the design.
type readOnlyTransport struct{ next http.RoundTripper }

func (t readOnlyTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if writes(r) {
		return nil, retry.Final{Err: fmt.Errorf("%s %s refused: this command only reads", r.Method, r.URL.Path)}
	}
	return t.next.RoundTrip(r)
}

// secureTransport keeps plain HTTP on this machine. ggcr would fall back to it for private
// addresses and names that end in .local, and sends credentials there.
type secureTransport struct{ next http.RoundTripper }

func (t secureTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !reconcile.IsLoopback(r.URL.Hostname()) {
		return nil, retry.Final{Err: fmt.Errorf("%s://%s refused: only a registry on this machine may be spoken to without TLS", r.URL.Scheme, r.URL.Host)}
	}
	return t.next.RoundTrip(r)
}
