package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile/source"
)

// world is what a daemon sees in a synctest bubble, where time passes at once: a git server and
// a cluster. (A real server would stop the bubble's time: it waits for no socket.)
type world struct {
	began time.Time

	mu         sync.Mutex
	hash       string
	git        error // why git cannot be asked
	apply      error // why reconciling fails
	slow       chan struct{}
	polls      []string // when, since the beginning
	reconciles []string
	lines      []map[string]any // of the log
}

func (w *world) String() string { return "https://git.example.com/spec.git" }

func (w *world) Head(context.Context) (source.Revision, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.polls = append(w.polls, w.now())
	return source.Revision{Hash: w.hash, Ref: "refs/heads/main"}, w.git
}

func (w *world) Fetch(_ context.Context, _ source.Revision, dir string) error {
	return os.MkdirAll(dir, 0o700)
}

func (w *world) reconcile(context.Context, string, source.Revision) (Outcome, error) {
	w.mu.Lock()
	w.reconciles = append(w.reconciles, w.now())
	slow, err := w.slow, w.apply
	w.mu.Unlock()
	if slow != nil {
		<-slow
	}
	return Outcome{Healthy: err == nil}, err
}

// Write takes a line of the log.
func (w *world) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var fields map[string]any
	if err := json.Unmarshal(line, &fields); err != nil {
		return 0, err
	}
	fields["at"] = w.now()
	w.lines = append(w.lines, fields)
	return len(line), nil
}

func (w *world) now() string { return time.Since(w.began).String() }

func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// said gives when the log had this message, and the named field of each.
func (w *world) said(message, field string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, l := range w.lines {
		if l["msg"] == message {
			text, _ := l[field].(string)
			out = append(out, l["at"].(string)+" "+text)
		}
	}
	return out
}

// times gives when git was polled and when a reconcile began.
func (w *world) times() (polls, reconciles []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.polls), slices.Clone(w.reconciles)
}

// run runs a daemon in a bubble while test lets time pass. cancel asks it to end; ended is
// closed when it has.
func (w *world) run(t *testing.T, c Config, test func(t *testing.T, pass func(time.Duration), cancel func(), ended <-chan struct{})) {
	c.WorkDir = t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w.began, w.hash = time.Now(), strings.Repeat("a", 40)
		c.Source, c.Reconcile, c.Log = w, w.reconcile, slog.New(slog.NewJSONHandler(w, nil))
		c.jitter = func() float64 { return 0 }
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if err := Run(ctx, c); err != nil {
				t.Errorf("run: %v", err)
			}
		}()
		test(t, func(d time.Duration) {
			<-time.After(d)
			synctest.Wait()
		}, cancel, ended)
		cancel()
		<-ended
	})
}

// at is durations as they are written.
func at(d ...time.Duration) []string {
	var out []string
	for _, d := range d {
		out = append(out, d.String())
	}
	return out
}

func same(t *testing.T, what string, want, got []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: -want +got\n%s", what, diff)
	}
}

func TestGitOutage(t *testing.T) {
	w := &world{}
	const m = time.Minute
	w.run(t, Config{Interval: m, DriftInterval: 7 * m}, func(t *testing.T, pass func(time.Duration), _ func(), _ <-chan struct{}) {
		pass(m / 2)
		w.set(func() { w.git = errors.New("no route to git") })
		pass(26 * m)
		polls, reconciles := w.times()
		same(t, "polls back off to five minutes", at(0, m, 2*m, 4*m, 8*m, 13*m, 18*m, 23*m), polls)
		same(t, "drift is still put back", at(0, 7*m, 14*m, 21*m), reconciles)
		const down = "git cannot be polled; drift is still being put back"
		logged := []string{"1m0s no route to git", "13m0s no route to git", "23m0s no route to git"}
		same(t, "the outage is logged, and every ten minutes again", logged, w.said(down, "error"))

		w.set(func() { w.git = errors.New("502") })
		pass(2 * m)
		same(t, "another error is logged at once", append(logged, "28m0s 502"), w.said(down, "error"))

		w.set(func() { w.git = nil })
		pass(6 * m)
		polls, _ = w.times()
		same(t, "polls are as often as before", at(28*m, 33*m, 34*m), polls[len(polls)-3:])
		same(t, "the end is logged", []string{"33m0s https://git.example.com/spec.git"}, w.said("git answers again", "source"))

		w.set(func() { w.git = errors.New("502") })
		pass(2 * m)
		polls, _ = w.times()
		same(t, "the next outage begins anew", at(35*m, 36*m), polls[len(polls)-2:])
		same(t, "and is logged", append(logged, "28m0s 502", "35m0s 502"), w.said(down, "error"))
	})
}

func TestFailedReconcile(t *testing.T) {
	w := &world{apply: errors.New("quota exceeded")}
	const s = time.Second
	w.run(t, Config{Interval: time.Minute}, func(t *testing.T, pass func(time.Duration), _ func(), _ <-chan struct{}) {
		pass(25 * time.Minute)
		_, reconciles := w.times()
		same(t, "tries", at(0, 10*s, 30*s, 70*s, 150*s, 310*s, 610*s, 910*s, 1210*s), reconciles)
		const failed = "reconcile failed"
		logged := []string{"0s quota exceeded", "10m10s quota exceeded", "20m10s quota exceeded"}
		same(t, "logged once, and every ten minutes", logged, w.said(failed, "error"))

		w.set(func() { w.apply = errors.New("zone is full") })
		pass(time.Minute)
		logged = append(logged, "25m10s zone is full")
		same(t, "another error is logged at once", logged, w.said(failed, "error"))

		// What has been pushed to mend it need not wait; the poll after 26 minutes finds it.
		w.set(func() { w.hash = strings.Repeat("b", 40) })
		pass(time.Minute + 15*s)
		_, reconciles = w.times()
		same(t, "a new revision is tried at once, and begins anew", at(1510*s, 1620*s, 1630*s), reconciles[len(reconciles)-3:])

		w.set(func() { w.apply = nil })
		pass(2 * time.Minute)
		_, reconciles = w.times()
		same(t, "after a success the interval counts", at(1650*s, 1710*s), reconciles[len(reconciles)-2:])
		same(t, "the recovery is logged, what follows is not", []string{"27m30s " + strings.Repeat("b", 40)}, w.said("reconciled", "revision"))
	})
}

func TestDrain(t *testing.T) {
	w := &world{}
	w.run(t, Config{Interval: time.Minute}, func(t *testing.T, pass func(time.Duration), cancel func(), ended <-chan struct{}) {
		slow := make(chan struct{}) // of the bubble, so that its time passes while this is waited for
		w.set(func() { w.slow = slow })
		pass(time.Minute + time.Second)
		cancel()
		pass(time.Hour)
		select {
		case <-ended:
			t.Error("did not wait for the running reconcile")
		default:
		}
		same(t, "log", []string{"1m1s " + w.hash}, w.said("stopping; waiting for the running reconcile", "revision"))
		close(slow)
		<-ended
		polls, reconciles := w.times()
		same(t, "nothing begins after the end has been asked for: polls", at(0, time.Minute), polls)
		same(t, "nothing begins after the end has been asked for: reconciles", at(0), reconciles)
	})
}

func TestBackoff(t *testing.T) {
	tests := []struct {
		failures     int
		first, limit time.Duration
		jitter       float64
		want         time.Duration
	}{
		{1, time.Second, time.Minute, 0, time.Second},
		{3, time.Second, time.Minute, 0, 4 * time.Second},
		{3, time.Second, time.Minute, 0.5, 3600 * time.Millisecond},
		{3, time.Second, time.Minute, 1, 3200 * time.Millisecond},
		{7, time.Second, time.Minute, 0, time.Minute},
		{1 << 30, time.Second, time.Minute, 0, time.Minute},
		{1, time.Hour, time.Minute, 0, time.Hour}, // never sooner than without failures
	}
	for _, tt := range tests {
		if got := backoff(tt.failures, tt.first, tt.limit, tt.jitter); got != tt.want {
			t.Errorf("after %d failures from %s to %s, jitter %v: %s, want %s", tt.failures, tt.first, tt.limit, tt.jitter, got, tt.want)
		}
	}
}

// Two daemons on one folder would remove each other's trees.
func TestWorkDirLock(t *testing.T) {
	dir := t.TempDir()
	first, _, err := openWorkDir(dir, "a")
	if err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(first.trees(), "fetched")
	if err := os.Mkdir(tree, 0o700); err != nil {
		t.Fatal(err)
	}
	err = Run(t.Context(), Config{Source: &world{}, Reconcile: (&world{}).reconcile, WorkDir: dir, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "--work-dir") {
		t.Errorf("a second daemon: %v", err)
	}
	if _, err := os.Stat(tree); err != nil {
		t.Errorf("the second daemon has touched the trees of the first: %v", err)
	}
	first.close()
	next, _, err := openWorkDir(dir, "a")
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	next.close()
}
