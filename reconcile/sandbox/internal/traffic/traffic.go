// Package traffic stands in front of each of the sandbox's servers: it records the requests
// and makes those fail that a fault is waiting for.
package traffic

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxEntries = 20_000   // about a day of a daemon's polls
	maxBody    = 4 << 20  // what a recorded service may be sent
	maxLogged  = 64 << 10 // of it, what is kept
)

// The services that requests are told apart by.
const (
	ARM      = "arm"
	Registry = "registry"
	Blob     = "blob"
	Git      = "git"
	Kube     = "kube"
	Vault    = "vault"
)

// Moment is when a hook is called.
type Moment int

const (
	// Before the request has any effect.
	Before Moment = iota
	// After it took effect, and before any of its answer is sent.
	After
)

// Entry is one request seen. It holds no secret: credentials are left out of Headers and
// masked in Body.
type Entry struct {
	Time       time.Time           `json:"time"`
	Service    string              `json:"service"`
	Method     string              `json:"method"`
	Path       string              `json:"path"`
	Query      map[string][]string `json:"query,omitempty"`
	Headers    map[string]string   `json:"headers,omitempty"`
	Body       json.RawMessage     `json:"body,omitempty"`
	Status     int                 `json:"status"` // 0: the connection was reset
	DurationMS float64             `json:"durationMs"`
	Fault      string              `json:"fault,omitempty"` // the fault that hit it
}

// Log keeps the latest requests and the faults that wait. The zero value is ready to use.
type Log struct {
	// Hook, if not nil, is called for every HTTP request, twice: Before and After. When it
	// says false the connection is reset there and then. It is not called After when there
	// is no answer that could be sent, and for streams, which go on for ever. Set it before
	// the first request; it must be safe to call side by side.
	Hook func(Entry, Moment) bool

	mu      sync.Mutex
	entries []Entry
	faults  []*Fault
	nextID  int
}

// Entries gives what was seen by a service ("" or "all": by any), oldest first.
func (l *Log) Entries(service string) []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if service == "" || service == "all" {
		return slices.Clone(l.entries)
	}
	var entries []Entry
	for _, entry := range l.entries {
		if entry.Service == service {
			entries = append(entries, entry)
		}
	}
	return entries
}

// Clear forgets the requests seen.
func (l *Log) Clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = nil
}

// Add records a request that did not come over HTTP.
func (l *Log) Add(entry Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.entries) >= maxEntries {
		l.entries = slices.Delete(l.entries, 0, maxEntries/10)
	}
	l.entries = append(l.entries, entry)
}

type operationKey struct{}

// OperationFault is how the long-running operation that this request starts must end:
// "", "never", "failed" or "failed:CODE".
func OperationFault(ctx context.Context) string {
	fault, _ := ctx.Value(operationKey{}).(string)
	return fault
}

// Wrap records what next serves and makes calls fail as the faults say. refuse writes an
// error the way the service words its errors.
func (l *Log) Wrap(service string, next http.Handler, refuse func(w http.ResponseWriter, status int, code, message string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entry := Entry{
			Time: time.Now().UTC(), Service: service, Method: r.Method, Path: r.URL.Path,
			Query: maskQuery(r.URL.Query()), Headers: plainHeaders(r.Header),
		}
		// Layers and blobs are too large to keep, and nobody reads them.
		if service == ARM && r.Body != nil {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
			if err != nil {
				refuse(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "the request body cannot be read")
				return
			}
			entry.Body = maskBody(body)
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		answer := &answer{ResponseWriter: w}
		defer func() {
			answer.settle()
			entry.Status = answer.status
			entry.DurationMS = float64(time.Since(entry.Time).Microseconds()) / 1000
			l.Add(entry)
			answer.send()
		}()
		if l.Hook != nil && !l.Hook(entry, Before) {
			answer.reset()
			return
		}
		if !isStream(r) {
			answer.held = &bytes.Buffer{}
			if l.Hook != nil {
				answer.settled = func() bool {
					seen := entry
					seen.Status = answer.status
					return l.Hook(seen, After)
				}
			}
		}
		fault := l.Take(service, methodOf(r), r.URL.Path)
		if fault == nil {
			next.ServeHTTP(answer, r)
			return
		}
		entry.Fault = fault.String()
		l.fail(fault, next, answer, r, refuse)
	})
}

// fail does to a request what a fault says.
func (l *Log) fail(fault *Fault, next http.Handler, w *answer, r *http.Request, refuse func(w http.ResponseWriter, status int, code, message string)) {
	switch {
	case fault.Reset == ResetBefore:
		w.reset()
	case fault.Reset == ResetMiddle && fault.Service == Blob && r.Method == http.MethodGet:
		next.ServeHTTP(&cut{answer: w}, r)
	case fault.Reset == ResetMiddle:
		r.Body = firstHalf(r)
		next.ServeHTTP(&discard{header: http.Header{}}, r)
		w.reset()
	case fault.Reset == ResetAfter:
		if !isStream(r) { // which has no effect, and no end to wait for
			next.ServeHTTP(&discard{header: http.Header{}}, r)
		}
		w.reset()
	case fault.Stall > 0:
		timer := time.NewTimer(time.Duration(fault.Stall))
		defer timer.Stop()
		select {
		case <-timer.C:
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	case fault.Operation != "":
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), operationKey{}, fault.Operation)))
	default:
		if fault.RetryAfter > 0 {
			w.Header().Set("Retry-After", fault.retryAfter())
		}
		refuse(w, fault.Status, fault.code(), "a fault of the sandbox")
	}
}

// isStream tells the requests whose answer has no end: watches, followed logs, and those
// that become another protocol.
func isStream(r *http.Request) bool {
	query := r.URL.Query()
	for _, name := range []string{"watch", "follow"} {
		if on, err := strconv.ParseBool(query.Get(name)); on && err == nil {
			return true
		}
	}
	return r.Header.Get("Upgrade") != ""
}

// firstHalf gives half of a request's body and then the error of a connection that broke.
// Of a body that does not say how long it is, it is half of what fits into memory.
func firstHalf(r *http.Request) io.ReadCloser {
	half, content := r.ContentLength/2, io.Reader(r.Body)
	if r.ContentLength < 0 {
		// What cannot be read is not there: the body ends early in any case.
		known, _ := io.ReadAll(io.LimitReader(r.Body, maxHeld))
		half, content = int64(len(known)/2), bytes.NewReader(known)
	}
	return io.NopCloser(io.MultiReader(io.LimitReader(content, half), broken{}))
}

// broken is the end of a connection that was cut.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// plainHeaders leaves out what authenticates and what every client sends.
func plainHeaders(header http.Header) map[string]string {
	plain := map[string]string{}
	for name, values := range header {
		switch strings.ToLower(name) {
		case "authorization", "x-ms-authorization-auxiliary", "cookie", "proxy-authorization", "accept-encoding", "connection":
		default:
			plain[name] = strings.Join(values, ", ")
		}
	}
	return plain
}
