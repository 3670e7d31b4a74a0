package source

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	// maxAdvertisement is far above what real repositories have: 64 bytes a ref, a million refs.
	maxAdvertisement = 64 << 20
	// maxErrorBody is how much of an error's body is read at all; go-git reads it whole.
	maxErrorBody = 4 << 10
)

// errSignInPage is what Azure DevOps and many proxies answer to a wrong token: a success
// that is a web page.
var errSignInPage = errors.New("the answer is a web page, not git: most likely a sign-in page")

// newHTTPClient is net/http with every wait and every body bounded. The whole of a request is
// bounded by its context.
func newHTTPClient(limits Limits) *http.Client {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	return &http.Client{Transport: &boundedTransport{
		packBytes: limits.Bytes,
		next: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            dialer.DialContext,
			ForceAttemptHTTP2:      true,
			TLSHandshakeTimeout:    dialTimeout,
			ResponseHeaderTimeout:  2 * time.Minute, // a server may count objects for long before it answers
			MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConns:           2,
			IdleConnTimeout:        90 * time.Second,
		},
	}}
}

// boundedTransport cuts bodies at what they may have.
type boundedTransport struct {
	next      http.RoundTripper
	packBytes int64
}

func (t *boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body := response.Body
	switch {
	case response.StatusCode >= 300:
		response.Body = readCloser{io.LimitReader(body, maxErrorBody), body}
	case strings.HasPrefix(response.Header.Get("Content-Type"), "text/html"):
		return nil, errors.Join(errSignInPage, body.Close())
	case r.Method == http.MethodGet:
		response.Body = readCloser{&limitedReader{body, maxAdvertisement, "the list of refs"}, body}
	default:
		response.Body = readCloser{&limitedReader{body, t.packBytes, "the pack"}, body}
	}
	return response, nil
}

type readCloser struct {
	io.Reader
	io.Closer
}

// tooLargeError is a limit hit while reading.
type tooLargeError struct{ what string }

func (e *tooLargeError) Error() string { return e.what + " is larger than allowed" }

// limitedReader fails where io.LimitReader would pretend that the end has come.
type limitedReader struct {
	reader io.Reader
	left   int64
	what   string
}

func (l *limitedReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		var one [1]byte
		if n, err := l.reader.Read(one[:]); n == 0 {
			return 0, err
		}
		return 0, fmt.Errorf("reading: %w", &tooLargeError{l.what})
	}
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.reader.Read(p)
	l.left -= int64(n)
	return n, err
}
