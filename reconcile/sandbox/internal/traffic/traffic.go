// Package traffic stands in front of each of the sandbox's servers: it records the requests
// and makes those fail that a fault is waiting for.
package traffic

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
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
		answer := &statusWriter{ResponseWriter: w}
		defer func() {
			entry.Status = answer.status
			entry.DurationMS = float64(time.Since(entry.Time).Microseconds()) / 1000
			l.Add(entry)
		}()
		fault := l.Take(service, r.Method, r.URL.Path)
		if fault == nil {
			next.ServeHTTP(answer, r)
			return
		}
		entry.Fault = fault.String()
		switch {
		case fault.Reset == ResetBefore:
			reset(w)
		case fault.Reset == ResetAfter:
			next.ServeHTTP(&discard{header: http.Header{}}, r)
			reset(w)
		case fault.Stall > 0:
			timer := time.NewTimer(time.Duration(fault.Stall))
			defer timer.Stop()
			select {
			case <-timer.C:
				next.ServeHTTP(answer, r)
			case <-r.Context().Done():
			}
		case fault.Operation != "":
			next.ServeHTTP(answer, r.WithContext(context.WithValue(r.Context(), operationKey{}, fault.Operation)))
		default:
			if fault.RetryAfter > 0 {
				w.Header().Set("Retry-After", fault.retryAfter())
			}
			refuse(answer, fault.Status, fault.code(), "a fault of the sandbox")
		}
	})
}

// reset ends the connection with a TCP RST: the client cannot know whether it was heard.
func reset(w http.ResponseWriter) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		return
	}
	conn, _, err := hijacker.Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // best effort: an orderly close is a lost answer too
	}
	conn.Close()
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController flush through.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// discard takes an answer that nobody will get.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

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
