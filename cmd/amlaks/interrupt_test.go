package main

import (
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// awaitRequest waits until the world has seen such a request.
func (w *world) awaitRequest(service, method, path string) {
	w.t.Helper()
	deadline := time.After(runLimit)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		for _, r := range w.Requests(service) {
			if r.Method == method && strings.HasSuffix(r.Path, path) {
				return
			}
		}
		select {
		case <-deadline:
			w.t.Fatalf("%s has seen no %s of %s", service, method, path)
		case <-ticker.C:
		}
	}
}

// TestInterruptDrains presses Ctrl-C while Azure makes a cluster: what runs is finished,
// nothing else is begun, and the next apply goes on from there.
func TestInterruptDrains(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *sandbox.Options) { o.OperationTime = 2 * time.Second })
	w.write("amlaks.yaml", oneService)
	c := w.start("apply", "--yes")
	w.awaitRequest("arm", "PUT", "/managedClusters/prod")
	if err := c.signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	got := c.wait()
	if got.code != exitInterrupted {
		t.Fatalf("exit code %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	for _, want := range []string{"cluster/prod: done", "kube/prod/Namespace/" + w.namespace + ": skipped", "run apply again to go on"} {
		if !strings.Contains(got.stderr, want) {
			t.Errorf("not said: %s\n%s", want, got.stderr)
		}
	}
	if seen := w.Requests("kube"); len(seen) != 0 {
		t.Errorf("something was begun after Ctrl-C: %s %s", seen[0].Method, seen[0].Path)
	}
	w.must(exitOK, "apply", "--yes")
	w.must(exitOK, "plan", "--detailed-exitcode")
}

// TestInterruptIsBounded interrupts while Azure makes a cluster and does not end: the first
// Ctrl-C leaves it --drain-timeout, the second ends it at once. Either way it is said what goes
// on without amlaks, and the next apply joins it.
func TestInterruptIsBounded(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		args []string
		// Two of the same kind could become one on their way.
		signals []syscall.Signal
	}{
		{"drain timeout", []string{"--drain-timeout", "1s"}, []syscall.Signal{syscall.SIGINT}},
		{"twice", nil, []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.write("amlaks.yaml", oneService)
			if _, err := w.Fault(sandbox.Fault{Method: "PUT", Path: "managedClusters/prod$", Operation: "never"}); err != nil {
				t.Fatal(err)
			}
			c := w.start(append([]string{"apply", "--yes"}, test.args...)...)
			w.awaitRequest("arm", "PUT", "/managedClusters/prod")
			for _, s := range test.signals {
				if err := c.signal(s); err != nil {
					t.Fatal(err)
				}
			}
			got := c.wait()
			if got.code != exitInterrupted {
				t.Fatalf("exit code %d\n%s%s", got.code, got.stdout, got.stderr)
			}
			_, last, _ := strings.Cut(got.stderr, "\namlaks: ")
			for _, want := range []string{"cluster/prod: interrupted while: waiting for Azure", "run apply again to join it"} {
				if !strings.Contains(last, want) {
					t.Errorf("the last lines do not say: %s\n%s", want, got.stderr)
				}
			}
			if seen := w.Requests("kube"); len(seen) != 0 {
				t.Errorf("something was begun after Ctrl-C: %s %s", seen[0].Method, seen[0].Path)
			}
			w.ClearFaults()
			w.must(exitOK, "apply", "--yes")
			w.must(exitOK, "plan", "--detailed-exitcode")
			if n := w.made("/managedClusters/prod"); n != 1 {
				t.Errorf("the cluster was made %d times", n)
			}
		})
	}
}

// TestInterruptWhilePlanning presses Ctrl-C while an answer of each service is waited for.
func TestInterruptWhilePlanning(t *testing.T) {
	t.Parallel()
	for service, path := range map[string]string{"arm": "/managedClusters", "registry": "/v2/", "kube": "/deployments"} {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			asked := make(chan struct{})
			var armed atomic.Bool
			once := sync.OnceFunc(func() { close(asked) })
			w := newWorld(t, func(o *sandbox.Options) {
				o.Hook = func(r sandbox.Request, m sandbox.Moment) bool {
					if armed.Load() && m == sandbox.Before && r.Service == service && strings.HasSuffix(r.Path, path) {
						once()
					}
					return true
				}
			})
			w.write("amlaks.yaml", oneService)
			if service == "kube" {
				w.must(exitOK, "apply", "--yes")
			}
			if _, err := w.Fault(sandbox.Fault{Service: service, Path: path + "$", Stall: sandbox.Duration(runLimit)}); err != nil {
				t.Fatal(err)
			}
			armed.Store(true)
			c := w.start("plan")
			select {
			case <-asked:
			case <-c.done:
				t.Fatalf("it has ended: %+v", c.wait())
			}
			if err := c.signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			if got := c.wait(); got.code != exitInterrupted {
				t.Errorf("exit code %d\n%s%s", got.code, got.stdout, got.stderr)
			}
		})
	}
}

// made counts how often ARM has made a resource.
func (w *world) made(path string) int {
	n := 0
	for _, r := range w.Requests("arm") {
		if r.Method == "PUT" && r.Status == 201 && strings.HasSuffix(r.Path, path) {
			n++
		}
	}
	return n
}
