package retry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile/retry"
)

// server answers as its script says, one entry a request, and with 200 "fine" afterwards.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	script []func(http.ResponseWriter, *http.Request)
	seen   []string // METHOD body
}

func start(t *testing.T, script ...func(http.ResponseWriter, *http.Request)) *server {
	t.Helper()
	s := &server{script: script}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		n := len(s.seen)
		s.seen = append(s.seen, strings.TrimSpace(r.Method+" "+string(content)))
		s.mu.Unlock()
		if n < len(s.script) {
			s.script[n](w, r)
			return
		}
		fmt.Fprint(w, "fine")
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.seen...)
}

func status(code int, header ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

func reset(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}

// half sends the head of an answer and half of what it promises.
func half(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", "1000")
	fmt.Fprint(w, strings.Repeat("x", 500))
	_ = http.NewResponseController(w).Flush()
	reset(w, r)
}

func silent(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// halfSilent sends a beginning and then nothing.
func halfSilent(w http.ResponseWriter, r *http.Request) {
	fmt.Fprint(w, "begin")
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func anything(*http.Request) bool { return true }

func transport() *retry.Transport {
	return &retry.Transport{Next: http.DefaultTransport.(*http.Transport).Clone(), Peer: "the peer", Again: anything}
}

// ask sends a PUT with a body and gives the answer's status and content, and what was said.
func ask(t *testing.T, tr *retry.Transport, url string, budget time.Duration) (answer string, said []string, err error) {
	t.Helper()
	ctx := retry.WithSay(retry.WithBudget(t.Context(), budget), func(message string) { said = append(said, message) })
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, url, strings.NewReader("content"))
	if err != nil {
		t.Fatal(err)
	}
	response, err := tr.RoundTrip(r)
	if err != nil {
		return "", said, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return fmt.Sprintf("%d %s", response.StatusCode, content), said, err
}

// What passes is lived through, the body sent whole each time, and said.
func TestPassing(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault func(http.ResponseWriter, *http.Request)
		said  string
	}{
		"500":           {status(500), "the peer: HTTP 500; trying again"},
		"503":           {status(503), "the peer: HTTP 503; trying again"},
		"429":           {status(429), "the peer: HTTP 429; trying again"},
		"429, asked":    {status(429, "Retry-After-Ms", "20"), "the peer asks to wait 20ms (HTTP 429)"},
		"503, asked":    {status(503, "Retry-After", "1"), "the peer asks to wait 1s (HTTP 503)"},
		"reset":         {reset, "the peer: the connection was reset; trying again"},
		"broken answer": {half, "trying again"},
		"stall":         {silent, "the peer: no answer within 1s; trying again"},
		"half stall":    {halfSilent, "the peer: no answer within 1s; trying again"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, test.fault, test.fault)
			got, said, err := ask(t, transport(), s.URL, 4*time.Second)
			if err != nil || got != "200 fine" {
				t.Errorf("%q, %v", got, err)
			}
			if diff := cmp.Diff([]string{"PUT content", "PUT content", "PUT content"}, s.requests()); diff != "" {
				t.Error(diff)
			}
			if len(said) != 2 || !strings.Contains(said[0], test.said) {
				t.Errorf("said %q", said)
			}
		})
	}
}

// What stays is given up within the budget; what no second try mends, at once.
func TestLasting(t *testing.T) {
	t.Parallel()
	const forEver = 100
	for name, test := range map[string]struct {
		fault func(http.ResponseWriter, *http.Request)
		tr    func(*retry.Transport)
		want  string // answer or error
		once  bool
	}{
		"500":            {status(500), nil, "500 ", false},
		"reset":          {reset, nil, "the peer does not answer: the connection was reset, ", false},
		"stall":          {silent, nil, "the peer does not answer: no answer within 250ms, ", false},
		"asked too much": {status(429, "Retry-After", "301"), nil, "429 ", true},
		"asked for ever": {status(429, "Retry-After-Ms", "1"), nil, "429 ", false},
		"403":            {status(403), nil, "403 ", true},
		"409":            {status(409), nil, "409 ", true},
		"not twice":      {status(500), func(tr *retry.Transport) { tr.Again = func(*http.Request) bool { return false } }, "500 ", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script := make([]func(http.ResponseWriter, *http.Request), forEver)
			for i := range script {
				script[i] = test.fault
			}
			s, tr := start(t, script...), transport()
			if test.tr != nil {
				test.tr(tr)
			}
			got, _, err := ask(t, tr, s.URL, time.Second)
			if err != nil {
				got = err.Error()
			}
			if !strings.HasPrefix(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if n := len(s.requests()); (n == 1) != test.once || n > 10 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// The answer that is given up has nothing left to wait for: client-go would wait again.
func TestGivenUpAnswerAsksNothing(t *testing.T) {
	t.Parallel()
	s := start(t, status(429, "Retry-After", "301"))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport().RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got := response.Header.Get("Retry-After"); response.StatusCode != 429 || got != "" {
		t.Errorf("%d, Retry-After %q", response.StatusCode, got)
	}
}

// The end of the context ends every wait, and the error says what was waited for.
func TestContextEnds(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request){
		"asked to wait": status(429, "Retry-After", "61"),
		"no answer":     silent,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, fault)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = transport().RoundTrip(r)
			if !errors.Is(err, ctx.Err()) || err == nil {
				t.Fatalf("got %v", err)
			}
			if name == "asked to wait" && !strings.Contains(err.Error(), "HTTP 429") {
				t.Errorf("%v does not say what it waited for", err)
			}
		})
	}
}

// Nobody listening passes only where the peer may be restarting.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, restarts := range []bool{false, true} {
		s := start(t)
		s.Close()
		tr := transport()
		tr.Restarts = restarts
		_, said, err := ask(t, tr, s.URL, 4*time.Second)
		if err == nil || !(retry.Refused(err) || strings.Contains(err.Error(), "nobody listens")) || (len(said) > 0) != restarts {
			t.Errorf("restarts %v: %v, said %q", restarts, err, said)
		}
	}
}

// A server that does not speak TLS, or is another one, is not asked again.
func TestTLS(t *testing.T) {
	t.Parallel()
	plain := start(t)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	for _, url := range []string{"https" + strings.TrimPrefix(plain.URL, "http"), secure.URL} {
		if got, said, err := ask(t, transport(), url, time.Minute); err == nil || len(said) > 0 {
			t.Errorf("%s: %q, %v, said %q", url, got, err, said)
		}
	}
}

// An answer that says itself that it stays is given at once, and whole.
func TestLastingAnswer(t *testing.T) {
	t.Parallel()
	s := start(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "your own fault", http.StatusInternalServerError)
	})
	tr := transport()
	tr.Lasting = func(content []byte) bool { return strings.Contains(string(content), "own fault") }
	got, said, err := ask(t, tr, s.URL, time.Minute)
	if err != nil || got != "500 your own fault\n" || len(said) > 0 {
		t.Errorf("%q, %v, said %q", got, err, said)
	}
}

// A stream may be silent for as long as it likes once it has begun.
func TestStream(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := start(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "begin ")
		_ = http.NewResponseController(w).Flush()
		<-release
		fmt.Fprint(w, "end")
	})
	tr := transport()
	tr.Stream = anything
	time.AfterFunc(1500*time.Millisecond, func() { close(release) })
	got, said, err := ask(t, tr, s.URL, 4*time.Second) // a silence of 1 s elsewhere
	if err != nil || got != "200 begin end" || len(said) > 0 {
		t.Errorf("%q, %v, %q", got, err, said)
	}
}

// A long answer is not held back, and is whole.
func TestLongAnswer(t *testing.T) {
	t.Parallel()
	const size = 20 << 20
	s := start(t, func(w http.ResponseWriter, _ *http.Request) {
		chunk := make([]byte, 1<<20)
		for range size / len(chunk) {
			_, _ = w.Write(chunk)
		}
	})
	got, _, err := ask(t, transport(), s.URL, 0)
	if err != nil || len(got) != len("200 ")+size {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
