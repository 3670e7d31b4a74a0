package front

import (
	"bytes"
	"errors"
	"io"
	"net/http"
)

const (
	// maxBody is the 100 MB of nginx in v1's base images.
	maxBody = 100 << 20
	// prefixSize of a body is read before the request joins the queue, so that a
	// slow client of the usual small request keeps no replica waiting.
	prefixSize = 64 << 10
)

// body is a request's: what was read before queueing, and the rest, unread.
type body struct {
	prefix []byte
	rest   io.Reader // nil when prefix is all
}

// readPrefix reads up to prefixSize. Errors: *http.MaxBytesError, or the client's.
func readPrefix(w http.ResponseWriter, r *http.Request) (body, error) {
	if r.ContentLength > maxBody {
		return body{}, &http.MaxBytesError{Limit: maxBody}
	}
	if r.Body == nil || r.Body == http.NoBody {
		return body{}, nil
	}
	limited := http.MaxBytesReader(w, r.Body, maxBody)
	size := int64(prefixSize)
	if r.ContentLength >= 0 && r.ContentLength < size {
		size = r.ContentLength
	}
	prefix := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	_, err := io.CopyN(prefix, limited, prefixSize+1)
	if errors.Is(err, io.EOF) {
		return body{prefix: prefix.Bytes()}, nil
	}
	if err != nil {
		return body{}, err
	}
	return body{prefix: prefix.Bytes(), rest: limited}, nil
}

// attach makes the body out's. It can be done again as long as nothing of the
// rest was read: a refused connection reads nothing.
func (b body) attach(out *http.Request) {
	switch {
	case b.rest != nil:
		out.Body = io.NopCloser(io.MultiReader(bytes.NewReader(b.prefix), b.rest))
	case len(b.prefix) == 0:
		out.Body, out.ContentLength, out.TransferEncoding = http.NoBody, 0, nil
	default:
		// Small chunked bodies get a length: not every WSGI server reads chunks.
		out.ContentLength, out.TransferEncoding = int64(len(b.prefix)), nil
		// With GetBody the transport takes a new connection when it finds a kept one
		// closed before it has written anything.
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.prefix)), nil }
		out.Body, _ = out.GetBody()
	}
}
