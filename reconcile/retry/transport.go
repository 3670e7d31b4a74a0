package retry

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	firstDelay = 250 * time.Millisecond
	maxDelay   = 8 * time.Second
	maxDrain   = 64 << 10
	// wholeAnswer is how much of an answer is read before it counts as one, so that a
	// connection that breaks in the middle is a failed try like any other.
	wholeAnswer = 8 << 20
)

// Transport sends a request again when its failure may pass. Each try is under a [Watch].
type Transport struct {
	Next http.RoundTripper
	// Peer is who is asked, in what is said: "the API server".
	Peer string
	// Again tells whether a request may be sent twice. Its body, if any, must have GetBody.
	Again func(*http.Request) bool
	// Lasting tells of an answer whose status says that it may pass, and whose content that it
	// does not; nil: none.
	Lasting func(content []byte) bool
	// Restarts: nobody listening at the address may pass too, for [Silence].
	Restarts bool
	// Stream tells of answers that come as they happen, and may be silent for long; nil: none.
	Stream func(*http.Request) bool
}

// RoundTrip implements http.RoundTripper. An answer that it gives has no Retry-After: what
// there was to wait has been waited.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	whole := r.Body == nil || r.Body == http.NoBody || r.GetBody != nil
	began, delay, asks := time.Now(), firstDelay, 0
	for tries := 1; ; tries++ {
		if tries > 1 && r.GetBody != nil {
			body, err := r.GetBody()
			if err != nil {
				return nil, err
			}
			r = r.Clone(ctx)
			r.Body = body
		}
		response, err := t.try(r)
		trouble := t.trouble(response, err)
		again := t.Again(r) || err == nil && response.StatusCode == http.StatusTooManyRequests // which was not carried out
		if trouble == "" || !whole || !again || ctx.Err() != nil {
			return response, t.ended(ctx, trouble, err)
		}
		wait := Asked(response)
		spent := time.Since(began)
		switch {
		case wait > 0:
			asks++
			began = began.Add(wait)
			if wait > MaxAsked || asks > MaxAsks {
				return t.giveUp(response, err, tries)
			}
			Say(ctx, fmt.Sprintf("%s asks to wait %s (%s)", t.Peer, wait.Round(time.Millisecond), trouble))
		case Refused(err) && !t.Restarts:
			return nil, err
		case spent+delay > Budget(ctx), Refused(err) && spent+delay > Silence(ctx):
			return t.giveUp(response, err, tries)
		default:
			wait = delay
			delay = min(2*delay, maxDelay)
			Say(ctx, fmt.Sprintf("%s: %s; trying again", t.Peer, trouble))
		}
		if response != nil {
			_, _ = io.CopyN(io.Discard, response.Body, maxDrain) // so that the connection can be used again
			response.Body.Close()
		}
		if err := Pause(ctx, wait); err != nil {
			return nil, t.ended(ctx, trouble, err)
		}
	}
}

// trouble is what keeps a try from being an answer, in words; "" if nothing does.
func (t *Transport) trouble(response *http.Response, err error) string {
	switch {
	case err != nil && PassingError(err):
		return Words(err)
	case err == nil && PassingStatus(response.StatusCode) && !t.lasting(response):
		return fmt.Sprintf("HTTP %d", response.StatusCode)
	}
	return ""
}

// lasting looks at the beginning of an answer, and leaves it whole.
func (t *Transport) lasting(response *http.Response) bool {
	if t.Lasting == nil {
		return false
	}
	// What cannot be read now cannot be read later either: whoever does says so.
	start, _ := io.ReadAll(io.LimitReader(response.Body, maxDrain))
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(start), response.Body), response.Body}
	return t.Lasting(start)
}

// ended adds what went wrong last to the news that the time is up.
func (t *Transport) ended(ctx context.Context, trouble string, err error) error {
	if trouble == "" || err == nil || ctx.Err() == nil {
		return err
	}
	if errors.Is(err, ctx.Err()) {
		return fmt.Errorf("%s: %s: %w", t.Peer, trouble, err)
	}
	return fmt.Errorf("%w: %w", err, ctx.Err())
}

func (t *Transport) giveUp(response *http.Response, err error, tries int) (*http.Response, error) {
	if err != nil {
		return nil, &GaveUpError{Peer: t.Peer, Trouble: Words(err), Tries: tries}
	}
	response.Header.Del("Retry-After")
	return response, nil
}

// try sends the request once.
func (t *Transport) try(r *http.Request) (*http.Response, error) {
	response, err := Watch{Next: t.Next, Stream: t.Stream}.RoundTrip(r)
	if err != nil || r.Method == http.MethodHead || t.Stream != nil && t.Stream(r) {
		return response, err
	}
	return whole(response)
}

// Watch gives up a request that moves no byte, either way, for [Silence].
type Watch struct {
	Next http.RoundTripper
	// Stream tells of answers that come as they happen; nil: none.
	Stream func(*http.Request) bool
}

// RoundTrip implements http.RoundTripper.
func (w Watch) RoundTrip(r *http.Request) (*http.Response, error) {
	silence := Silence(r.Context())
	silent := &SilentError{Within: silence}
	ctx, cancel := context.WithCancelCause(r.Context())
	watch := time.AfterFunc(silence, func() { cancel(silent) })
	moved := func() { watch.Reset(silence) }
	stop := func() { watch.Stop(); cancel(nil) }
	r = r.Clone(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &body{ReadCloser: r.Body, moved: moved, stop: func() {}, failure: func(err error) error { return err }}
	}
	failure := func(err error) error {
		if err != nil && !errors.Is(err, io.EOF) && context.Cause(ctx) == error(silent) {
			return silent
		}
		return err
	}
	response, err := w.Next.RoundTrip(r)
	if err != nil {
		err = failure(err)
		stop()
		return nil, err
	}
	moved()
	if w.Stream != nil && w.Stream(r) {
		watch.Stop()
		moved = func() {}
	}
	response.Body = &body{ReadCloser: response.Body, moved: moved, stop: stop, failure: failure}
	return response, nil
}

// whole reads the answer's beginning; a short one is then complete.
func whole(response *http.Response) (*http.Response, error) {
	if response.ContentLength > wholeAnswer {
		return response, nil
	}
	content := response.Body
	var start bytes.Buffer
	n, err := io.CopyN(&start, content, wholeAnswer)
	switch {
	case err == nil && n == wholeAnswer: // there may be more
		response.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(&start, content), content}
		return response, nil
	case !errors.Is(err, io.EOF):
		content.Close()
		return nil, fmt.Errorf("the answer broke off: %w", err)
	}
	response.Body = io.NopCloser(&start)
	return response, content.Close()
}

// body tells when bytes move through it.
type body struct {
	io.ReadCloser
	moved   func()
	stop    func()
	failure func(error) error
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.moved()
	}
	return n, b.failure(err)
}

func (b *body) Close() error {
	defer b.stop()
	return b.ReadCloser.Close()
}

// isTLS tells of a server that is not who it should be, or does not speak TLS: asking again
// does not help, and must not hide it.
func isTLS(err error) bool {
	var wrong *tls.CertificateVerificationError
	var plain tls.RecordHeaderError
	return errors.As(err, &wrong) || errors.As(err, &plain) || errors.Is(err, http.ErrSchemeMismatch)
}
