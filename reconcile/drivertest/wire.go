package drivertest

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
)

// maxBody is the largest body that the wire reads: more is an error, not a wait.
const maxBody = 64 << 20

// errDead answers every request of a process that was killed. It is a cancellation, because
// nobody is there any more who could try again.
var errDead = fmt.Errorf("this process was killed: %w", context.Canceled)

// request is one that the wire has seen.
type request struct {
	method string
	path   string
	write  bool
	status int // 0: no answer
}

func (r request) String() string { return fmt.Sprintf("%s %s (%d)", r.method, r.path, r.status) }

// wire is what a run's requests pass through. It counts them, and can hold one back, lose the
// answer of one, or kill the run after one.
type wire struct {
	writes func(*http.Request) bool
	place  *tap
	kill   context.CancelFunc

	mu        sync.Mutex
	seen      []request
	before    func()
	holdWrite int // before the nth write from now on is sent, before is called; 0: never
	loseWrite int // the nth write from now on has its answer lost; 0: none
	dieAfter  int // the nth request from now on is the last; 0: none
	dead      bool
}

// tap is what all wires of one place have in common.
type tap struct {
	mu      sync.Mutex
	created map[string]int // by path, how often the server said 201
	bodies  bytes.Buffer   // of requests and answers, and Authorization headers
	signed  bool           // a request had such a header
}

// wrap puts the wire below a client.
func (w *wire) wrap(next http.RoundTripper) http.RoundTripper { return roundTripper{w, next} }

type roundTripper struct {
	*wire
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (r roundTripper) RoundTrip(q *http.Request) (*http.Response, error) {
	if r.isDead() {
		return nil, errDead
	}
	if r.writes(q) {
		r.hold()
	}
	if q.Body != nil {
		sent, err := whole(q.Body)
		if err != nil {
			return nil, err
		}
		r.place.keep(q.Header.Get("Authorization"), sent)
		q = q.Clone(q.Context())
		q.Body = io.NopCloser(bytes.NewReader(sent))
	}
	response, err := r.next.RoundTrip(q)
	seen := request{method: q.Method, path: q.URL.Path, write: r.writes(q)}
	if err == nil {
		seen.status = response.StatusCode
		var got []byte
		if got, err = whole(response.Body); err != nil {
			return nil, err
		}
		response.Body = io.NopCloser(bytes.NewReader(got))
		r.place.keep(q.Header.Get("Authorization"), got)
		r.place.answered(seen)
	}
	lose, die := r.record(seen)
	switch {
	case die:
		r.kill()
		return nil, errDead
	case lose:
		return nil, fmt.Errorf("read the answer: %w", syscall.ECONNRESET)
	}
	return response, err
}

func whole(body io.ReadCloser) ([]byte, error) {
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, maxBody+1))
	if err == nil && len(data) > maxBody {
		err = fmt.Errorf("a body of more than %d bytes", maxBody)
	}
	return data, err
}

func (w *wire) isDead() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dead
}

// arm prepares trouble.
func (w *wire) arm(trouble func(*wire)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	trouble(w)
}

// troubled tells whether the trouble that was prepared has come.
func (w *wire) troubled() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.holdWrite == 0 && w.loseWrite == 0 && w.dieAfter == 0
}

// hold keeps a write back until somebody else has done what he was to do before it.
func (w *wire) hold() {
	w.mu.Lock()
	held := w.holdWrite == 1
	w.holdWrite = max(0, w.holdWrite-1)
	w.mu.Unlock()
	if held {
		w.before()
	}
}

// record counts a request and tells what is to happen to its answer.
func (w *wire) record(seen request) (lose, die bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, seen)
	if seen.write && w.loseWrite > 0 {
		w.loseWrite--
		lose = w.loseWrite == 0
	}
	if w.dieAfter > 0 {
		w.dieAfter--
		w.dead = w.dieAfter == 0
	}
	return lose, w.dead
}

// mark gives how many requests were seen, for since.
func (w *wire) mark() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.seen)
}

// since gives the requests after a mark, and those of them that could have changed something.
func (w *wire) since(mark int) (all, writes []request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.seen[mark:] {
		all = append(all, r)
		if r.write {
			writes = append(writes, r)
		}
	}
	return all, writes
}

func (p *tap) keep(authorization string, body []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bodies.Len() < maxBody {
		p.bodies.WriteString(authorization)
		p.bodies.Write(body)
	}
	p.signed = p.signed || authorization != ""
}

func (p *tap) answered(r request) {
	if r.status != http.StatusCreated {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.created[r.method+" "+r.path]++
}

// carried tells whether a secret went over the place's wires, plain or as base64.
func (p *tap) carried(secret string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := p.bodies.String()
	return strings.Contains(text, secret) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(secret)))
}

// signedIn tells whether a request bore credentials.
func (p *tap) signedIn() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.signed
}

// again lists what the server says it made more than once.
func (p *tap) again() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for path, n := range p.created {
		if n > 1 {
			out = append(out, fmt.Sprintf("%s: %d times", path, n))
		}
	}
	return out
}
