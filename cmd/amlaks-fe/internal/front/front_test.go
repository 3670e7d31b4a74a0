package front

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/amlaks/amlaks/reconcile/kube/routes"
)

// replica is a model server that fails the test when more than limit requests are in its handler.
type replica struct {
	served, inFlight atomic.Int32
	port             int
	server           *httptest.Server
}

func startReplica(t *testing.T, ip string, port, limit int, h http.HandlerFunc) *replica {
	t.Helper()
	r := &replica{}
	listener, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	r.port = listener.Addr().(*net.TCPAddr).Port
	r.server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if n := r.inFlight.Add(1); int(n) > limit {
			t.Errorf("%d requests in flight at %s, limit %d", n, ip, limit)
		}
		defer r.inFlight.Add(-1)
		r.served.Add(1)
		h(w, req)
	})}}
	r.server.Start()
	t.Cleanup(r.server.Close)
	return r
}

func newFront(t testing.TB, ip string, port int, tokens TokenVerifier) *Server {
	t.Helper()
	return New(Config{Self: ip, Port: port, Tokens: tokens, Log: slog.New(slog.NewJSONHandler(io.Discard, nil)), Metrics: prometheus.NewRegistry()})
}

func serve(t *testing.T, s *Server) string {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server.URL + "/api/v1/service/churn/score"
}

func open(port int) routes.Service {
	return routes.Service{Name: "churn", AuthMode: "none", ScoringTimeoutMs: 5000, MaxQueueWaitMs: 5000, MaxConcurrent: 1,
		Versions: []routes.Version{{Name: "default", Backend: "churn", Port: port, ScoringPath: "/score", Percent: 100, Default: true}}}
}

func table(s ...routes.Service) routes.Table { return routes.Table{Stack: "test", Services: s} }

// ask returns status, body and header of one request.
func ask(t *testing.T, method, url, body string, header ...string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return 0, "", nil
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(b), resp.Header
}

func echo(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s auth=%q %s", r.Method, r.URL.RequestURI(), r.Header.Get("Authorization"), b)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		case <-tick.C:
		}
	}
}

func TestRoutesAndKeys(t *testing.T) {
	r := startReplica(t, "127.0.0.1", 0, 1, echo)
	s := newFront(t, "127.0.0.1", 0, nil)
	route := open(r.port)
	route.AuthMode, route.KeysSecret = "key", "churn-keys"
	s.SetTable(table(route))
	s.SetEndpoints("churn", []string{"127.0.0.1"})
	s.SetKeys("churn-keys", []byte("one"), []byte("two"))
	url := serve(t, s)
	root := strings.TrimSuffix(url, "/api/v1/service/churn/score")

	tests := []struct {
		method, url, key string
		status           int
		want             string
	}{
		{"GET", root + "/", "", 200, "Healthy"},
		{"POST", url + "?a=b", "Bearer one", 200, `POST /score?a=b auth="" x`},
		{"GET", url, "bearer two", 200, `GET /score auth="" x`},
		{"GET", root + "/api/v1/service/churn/swagger.json", "Bearer two", 200, `GET /swagger.json auth="" x`},
		{"POST", url, "", 401, "auth"},
		{"POST", url, "Bearer three", 401, "auth"},
		{"POST", url, "Bearer ", 401, "auth"},
		{"POST", url, "Basic one", 401, "auth"},
		{"POST", root + "/api/v1/service/none/score", "Bearer one", 404, "not_found"},
		{"POST", root + "/api/v1/service/churn/other", "Bearer one", 404, "not_found"},
		{"POST", root + "/metrics", "Bearer one", 404, "not_found"},
		{"PUT", url, "Bearer one", 405, "method"},
	}
	for _, test := range tests {
		status, body, header := ask(t, test.method, test.url, "x", "Authorization", test.key, "x-ms-client-request-id", "mine")
		if status != test.status || !strings.Contains(body, test.want) {
			t.Errorf("%s %s with %q: %d %s, want %d %s", test.method, test.url, test.key, status, body, test.status, test.want)
		}
		if status == 401 && header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("401 without WWW-Authenticate")
		}
		if test.url != root+"/" && (header.Get("x-ms-client-request-id") != "mine" || len(header.Get("x-ms-request-id")) != 32) {
			t.Errorf("%s: request ids are missing: %v", test.url, header)
		}
	}
	if n := r.served.Load(); n != 3 {
		t.Errorf("the replica served %d requests, want 3: refused ones cost nothing", n)
	}

	s.SetKeys("churn-keys", []byte("one"), []byte("new"))
	for key, want := range map[string]int{"one": 200, "two": 401, "new": 200} {
		if status, _, _ := ask(t, "POST", url, "", "Authorization", "Bearer "+key); status != want {
			t.Errorf("after rotation, key %s: %d, want %d", key, status, want)
		}
	}
	s.SetKeys("churn-keys")
	if status, _, _ := ask(t, "POST", url, "", "Authorization", "Bearer one"); status != 401 {
		t.Errorf("without any key: %d, want 401", status)
	}
}

// Many clients, three replicas, never more than one request in each; none is refused.
func TestLimitHolds(t *testing.T) {
	work := func(w http.ResponseWriter, r *http.Request) { <-time.After(2 * time.Millisecond); echo(w, r) }
	first := startReplica(t, "127.0.0.1", 0, 1, work)
	startReplica(t, "127.0.0.2", first.port, 1, work)
	startReplica(t, "127.0.0.3", first.port, 1, work)
	s := newFront(t, "127.0.0.1", 0, nil)
	s.SetTable(table(open(first.port)))
	s.SetEndpoints("churn", []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"})
	url := serve(t, s)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 10 {
				if status, body, _ := ask(t, "POST", url, "x"); status != 200 {
					t.Errorf("%d %s", status, body)
				}
			}
		})
	}
	wg.Wait()
}

func TestQueueTimeoutAndNoReplica(t *testing.T) {
	release := make(chan struct{})
	r := startReplica(t, "127.0.0.1", 0, 1, func(w http.ResponseWriter, r *http.Request) { <-release; echo(w, r) })
	s := newFront(t, "127.0.0.1", 0, nil)
	route := open(r.port)
	route.MaxQueueWaitMs = 20
	s.SetTable(table(route))
	url := serve(t, s)
	if status, _, h := ask(t, "POST", url, ""); status != 503 || h.Get("X-Amlaks-Reason") != "no_replica" {
		t.Errorf("without replica: %d %v", status, h)
	}
	s.SetEndpoints("churn", []string{"127.0.0.1"})
	var wg sync.WaitGroup
	wg.Go(func() {
		if status, _, _ := ask(t, "POST", url, ""); status != 200 {
			t.Errorf("bound request: %d", status)
		}
	})
	eventually(t, "the replica is busy", func() bool { return r.inFlight.Load() == 1 })
	if status, _, h := ask(t, "POST", url, ""); status != 503 || h.Get("X-Amlaks-Reason") != "queue_timeout" {
		t.Errorf("busy: %d %v", status, h)
	}
	close(release)
	wg.Wait()
}

// A 504 gives the slot back only when the replica has stopped; so does a client that leaves.
func TestAbandonedRequestKeepsItsSlot(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	var slow atomic.Bool
	r := startReplica(t, "127.0.0.1", 0, 1, func(w http.ResponseWriter, r *http.Request) {
		if slow.Load() {
			<-release // does not care who is still there, as most models
		}
		echo(w, r)
	})
	s := newFront(t, "127.0.0.1", 0, nil)
	route := open(r.port)
	route.ScoringTimeoutMs, route.MaxQueueWaitMs = 50, 20
	s.SetTable(table(route))
	s.SetEndpoints("churn", []string{"127.0.0.1"})
	url := serve(t, s)

	slow.Store(true)
	if status, body, _ := ask(t, "POST", url, ""); status != 504 {
		t.Errorf("slow model: %d %s", status, body)
	}
	if status, _, _ := ask(t, "POST", url, ""); status != 503 {
		t.Errorf("while the container still computes: %d, want 503", status)
	}
	slow.Store(false)
	release <- struct{}{}
	eventually(t, "the slot is free again", func() bool { status, _, _ := ask(t, "POST", url, ""); return status == 200 })

	slow.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "POST", url, nil)
	gone := make(chan error, 1)
	go func() { _, err := http.DefaultClient.Do(req); gone <- err }()
	eventually(t, "the replica is busy", func() bool { return r.inFlight.Load() == 1 })
	cancel()
	if err := <-gone; err == nil {
		t.Error("the client did not leave")
	}
	slow.Store(false)
	release <- struct{}{}
	eventually(t, "the slot is free again", func() bool { status, _, _ := ask(t, "POST", url, ""); return status == 200 })
}

func TestModelErrors(t *testing.T) {
	r := startReplica(t, "127.0.0.1", 0, 1, func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Do") {
		case "500":
			http.Error(w, "script failed", 500)
		case "die":
			panic(http.ErrAbortHandler)
		default:
			w.WriteHeader(422)
		}
	})
	s := newFront(t, "127.0.0.1", 0, nil)
	route := open(r.port)
	s.SetTable(table(route))
	// 127.0.0.9 refuses connections: the request goes to the other one.
	s.SetEndpoints("churn", []string{"127.0.0.1", "127.0.0.9"})
	url := serve(t, s)
	status, body, h := ask(t, "POST", url, "", "Do", "500")
	if status != 502 || h.Get("x-amlaks-model-status") != "500" || !strings.Contains(body, "script failed") {
		t.Errorf("model's 500: %d %s %v", status, body, h)
	}
	if status, _, h := ask(t, "POST", url, "x", "Do", "die"); status != 502 || h.Get("x-amlaks-model-status") != "" {
		t.Errorf("replica died: %d %v", status, h)
	}
	for range 4 {
		if status, _, _ := ask(t, "POST", url, ""); status != 422 {
			t.Errorf("other statuses pass: got %d", status)
		}
	}
}

func TestBodies(t *testing.T) {
	r := startReplica(t, "127.0.0.1", 0, 1, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	})
	s := newFront(t, "127.0.0.1", 0, nil)
	s.SetTable(table(open(r.port)))
	s.SetEndpoints("churn", []string{"127.0.0.1"})
	url := serve(t, s)
	for _, n := range []int{0, 1, prefixSize, prefixSize + 1, 1 << 20} {
		if status, body, _ := ask(t, "POST", url, strings.Repeat("x", n)); status != 200 || body != strconv.Itoa(n) {
			t.Errorf("%d bytes: %d %s", n, status, body)
		}
	}
	served := r.served.Load()
	req, _ := http.NewRequestWithContext(t.Context(), "POST", url, io.NopCloser(strings.NewReader("x")))
	req.ContentLength = maxBody + 1
	req.Header.Set("Expect", "100-continue")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 413 || r.served.Load() != served {
		t.Errorf("too large: %d, served %d", resp.StatusCode, r.served.Load()-served)
	}
}

func TestVersions(t *testing.T) {
	stable := startReplica(t, "127.0.0.1", 0, 1, echo)
	canary := startReplica(t, "127.0.0.2", stable.port, 1, echo)
	s := newFront(t, "127.0.0.1", 0, nil)
	route := open(stable.port)
	route.Versions = []routes.Version{
		{Name: "v1", Backend: "churn-v1", Port: stable.port, ScoringPath: "/score", Default: true},
		{Name: "v2", Backend: "churn-v2", Port: stable.port, ScoringPath: "/score", Percent: 10},
	}
	s.SetTable(table(route))
	s.SetEndpoints("churn-v1", []string{"127.0.0.1"})
	s.SetEndpoints("churn-v2", []string{"127.0.0.2"})
	url := serve(t, s)
	for range 100 {
		ask(t, "POST", url, "")
	}
	if a, b := stable.served.Load(), canary.served.Load(); a != 90 || b != 10 {
		t.Errorf("traffic is %d to %d, want 90 to 10", a, b)
	}
	if _, _, h := ask(t, "POST", url, "", "azureml-model-deployment", "v2"); h.Get("azureml-model-deployment") != "v2" || canary.served.Load() != 11 {
		t.Errorf("pinned to v2: %v", h)
	}
	if status, _, _ := ask(t, "POST", url, "", "azureml-model-deployment", "v3"); status != 404 {
		t.Errorf("pinned to an unknown version: %d", status)
	}
}

// Three front ends on three addresses share one replica and never overrun it.
func TestCoordinator(t *testing.T) {
	r := startReplica(t, "127.0.0.4", 0, 1, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(hopHeader) != "" || r.Header.Get("Authorization") != "" {
			t.Errorf("the model sees %v", r.Header)
		}
		<-time.After(time.Millisecond)
		echo(w, r)
	})
	ips := []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}
	var servers []*httptest.Server
	var fronts []*Server
	port := 0
	for _, ip := range ips {
		listener, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(port)))
		if err != nil {
			t.Fatal(err)
		}
		port = listener.Addr().(*net.TCPAddr).Port
		s := newFront(t, ip, port, nil)
		server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: s}}
		server.Start()
		t.Cleanup(server.Close)
		route := open(r.port)
		route.AuthMode, route.KeysSecret = "key", "keys"
		s.SetTable(table(route))
		s.SetKeys("keys", []byte("one"))
		s.SetEndpoints("churn", []string{"127.0.0.4"})
		s.SetPeers(ips)
		servers, fronts = append(servers, server), append(fronts, s)
	}
	burst := func(urls []*httptest.Server) {
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				url := urls[i%len(urls)].URL + "/api/v1/service/churn/score"
				if status, body, _ := ask(t, "POST", url, "x", "Authorization", "Bearer one", hopHeader, strconv.Itoa(i%2)); status != 200 {
					t.Errorf("%d %s", status, body)
				}
			})
		}
		wg.Wait()
	}
	burst(servers)

	// A coordinator that is gone before Kubernetes has noticed is passed over.
	owner, _ := fronts[0].coordinator("churn")
	var rest []*httptest.Server
	for i, ip := range ips {
		if ip == owner {
			servers[i].Close()
			for _, s := range fronts {
				s.peer.CloseIdleConnections() // what it was sent just before is a 502
			}
			continue
		}
		rest = append(rest, servers[i])
	}
	burst(rest)
}

// What the old coordinator has in flight keeps the new one from the replica.
func TestHandover(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	r := startReplica(t, "127.0.0.4", 0, 1, func(w http.ResponseWriter, r *http.Request) { <-release; echo(w, r) })
	ips := []string{"127.0.0.1", "127.0.0.2"}
	var fronts []*Server
	var urls []string
	admin := 0
	for _, ip := range ips {
		listener, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(admin)))
		if err != nil {
			t.Fatal(err)
		}
		admin = listener.Addr().(*net.TCPAddr).Port
		s := newFront(t, ip, 1, nil)
		s.config.AdminPort = admin
		server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(s.Handover)}}
		server.Start()
		t.Cleanup(server.Close)
		s.SetTable(table(open(r.port)))
		s.SetEndpoints("churn", []string{"127.0.0.4"})
		fronts, urls = append(fronts, s), append(urls, serve(t, s))
	}
	var wg sync.WaitGroup
	score := func(url string) {
		wg.Go(func() {
			if status, body, _ := ask(t, "POST", url, ""); status != 200 {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	fronts[0].SetPeers(ips[:1])
	fronts[1].SetPeers(ips[:1])
	score(urls[0])
	eventually(t, "the replica is busy", func() bool { return r.inFlight.Load() == 1 })
	fronts[0].SetPeers(ips[1:])
	fronts[1].SetPeers(ips[1:])
	score(urls[1])
	eventually(t, "the new coordinator has a request", func() bool { return fronts[1].queues["churn"].Stats().Waiting == 1 })
	release <- struct{}{}
	release <- struct{}{}
	wg.Wait()
}
