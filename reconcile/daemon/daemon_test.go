package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/amlaks/amlaks/reconcile/source"
	"github.com/amlaks/amlaks/reconcile/source/gittest"
)

// call is one Reconcile that the test answers.
type call struct {
	ctx  context.Context
	rev  string
	spec string
	end  chan<- result
}

type result struct {
	outcome Outcome
	err     error
}

var healthy = result{outcome: Outcome{Healthy: true}}

// start runs a daemon on short intervals and gives its reconciles and its address.
func start(t *testing.T, server *gittest.HTTP, work string) (calls chan call, address string, stop func()) {
	t.Helper()
	src, err := source.New(source.Options{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	calls, addresses := make(chan call), make(chan string, 1)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	c := Config{Source: src, Interval: 20 * time.Millisecond, DriftInterval: 30 * time.Millisecond, Listen: "127.0.0.1:0", WorkDir: work,
		listening: func(a string) { addresses <- a },
		Reconcile: func(ctx context.Context, dir string, rev source.Revision) (Outcome, error) {
			spec, err := os.ReadFile(filepath.Join(dir, "amlaks.yaml"))
			if err != nil {
				return Outcome{}, err
			}
			end := make(chan result, 1)
			select {
			case calls <- call{ctx, rev.Hash, string(spec), end}:
			case <-ctx.Done():
				return Outcome{}, ctx.Err()
			}
			select {
			case r := <-end:
				return r.outcome, r.err
			case <-ctx.Done():
				return Outcome{}, context.Cause(ctx)
			}
		}}
	go func() { ended <- Run(ctx, c) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	}
	t.Cleanup(stop)
	return calls, "http://" + <-addresses, stop
}

func take(t *testing.T, calls chan call, want string) call {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case c := <-calls:
			if c.rev == want {
				return c
			}
			c.end <- healthy // a drift reconcile of what was there before
		case <-deadline:
			t.Fatalf("no reconcile of %s", want)
		}
	}
}

// ready answers reconciles of want until /readyz is as the test wants it.
func ready(t *testing.T, calls chan call, address string, ok func(code int, r report) bool) {
	t.Helper()
	tick, deadline := time.NewTicker(10*time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for {
		select {
		case c := <-calls:
			c.end <- healthy
		case <-tick.C:
			code, body := get(t, address+"/readyz")
			var r report
			if err := json.Unmarshal([]byte(body), &r); err != nil {
				t.Fatal(err)
			}
			if ok(code, r) {
				return
			}
		case <-deadline:
			_, body := get(t, address+"/readyz")
			t.Fatalf("readyz stays %s", body)
		}
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestDaemon(t *testing.T) {
	repo := gittest.New(t)
	server := repo.ServeHTTP()
	work := t.TempDir()
	a := repo.Commit("name: a\n")
	calls, address, stop := start(t, server, work)
	take(t, calls, a).end <- healthy
	ready(t, calls, address, func(code int, r report) bool { return code == 200 && r.Applied == a })

	// Unchanged: drift reconciles go on, and no poll fetches.
	server.Requests()
	take(t, calls, a).end <- healthy
	take(t, calls, a).end <- healthy
	for _, request := range server.Requests() {
		if !strings.HasPrefix(request, "GET /repo.git/info/refs") {
			t.Errorf("nothing was new, but the daemon asked %s", request)
		}
	}

	// A new commit supersedes a running reconcile.
	b := repo.Commit("name: b\n")
	running := take(t, calls, b)
	c := repo.Commit("name: c\n")
	next := take(t, calls, c)
	if cause := context.Cause(running.ctx); !errors.Is(cause, ErrSuperseded) {
		t.Errorf("cause = %v, want ErrSuperseded", cause)
	}
	next.end <- healthy
	ready(t, calls, address, func(code int, r report) bool { return code == 200 && r.Applied == c })

	// A bad commit is told, and the last good one is kept.
	bad := repo.Commit("name: [\n")
	take(t, calls, bad).end <- result{err: InvalidSpec{errors.New("amlaks.yaml:1:7: bad")}}
	if back := take(t, calls, c); back.spec != "name: c\n" {
		t.Errorf("went back to %q", back.spec)
	} else {
		back.end <- healthy
	}
	ready(t, calls, address, func(code int, r report) bool {
		return code == 503 && r.Revision == bad && r.Applied == c && strings.Contains(r.Error, "amlaks.yaml:1:7")
	})

	// An outage is told, drift is still put back, and it ends.
	server.Down(true)
	ready(t, calls, address, func(code int, r report) bool { return code == 503 && strings.Contains(r.Source, "502") })
	take(t, calls, c).end <- healthy
	if code, body := get(t, address+"/healthz"); code != 200 {
		t.Errorf("healthz = %d %s", code, body)
	}

	// A restart while git is down goes on with the last good tree.
	stop()
	calls, address, _ = start(t, server, work)
	take(t, calls, c).end <- healthy
	server.Down(false)
	d := repo.Commit("name: d\n")
	take(t, calls, d).end <- result{outcome: Outcome{Healthy: true, Changed: true, Changes: map[string]int{"update": 2}}}
	ready(t, calls, address, func(code int, r report) bool { return code == 200 && r.Applied == d })
	_, metrics := get(t, address+"/metrics")
	for _, want := range []string{`amlaks_daemon_changes_total{action="update"} 2`, `amlaks_daemon_revision_info{revision="` + d + `"} 1`,
		`amlaks_daemon_polls_total{result="error"}`, `amlaks_daemon_reconcile_total{result="ok"}`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}
