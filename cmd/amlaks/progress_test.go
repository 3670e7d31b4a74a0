package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/schema"
)

// follow runs what is given against the progress that an invocation with this environment
// and output gets, on a clock of its own, and gives what came to stdout and stderr.
func follow(t *testing.T, output string, terminal bool, env []string, plan *reconcile.Plan, run func(interrupt func(), p *progress)) (stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		var size func() (int, int, error)
		if terminal {
			size = func() (int, int, error) { return 80, 24, nil }
		}
		a := &app{stdio: stdio{out: &out}, screen: newScreen(&err, size, environment(env...)), output: output}
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		p := a.newProgress(ctx, plan)
		run(interrupt, p)
		p.end()
	})
	return out.String(), err.String()
}

// happen makes an event now.
func happen(p *progress, address reconcile.Address, phase reconcile.Phase, message string) {
	e := reconcile.Event{Time: time.Now(), Address: address, Action: reconcile.Create, Phase: phase, Message: message}
	p.mu.Lock()
	if r := p.runs[address]; r != nil {
		e.Elapsed = time.Since(r.since)
	}
	p.mu.Unlock()
	p.event(e)
}

// pass lets time pass, the clocks of the bubble included.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// story is an apply with everything in it that can happen.
func story(_ func(), p *progress) {
	happen(p, "cluster/prod", reconcile.Started, "")
	happen(p, "image/wine", reconcile.Started, "")
	happen(p, "image/wine", reconcile.Progress, "hashing its files")
	pass(3 * time.Second)
	happen(p, "image/wine", reconcile.Progress, "hashing its files")
	happen(p, "image/wine", reconcile.Progress, "pushed 1 of 30 MiB")
	pass(2 * time.Second)
	happen(p, "image/wine", reconcile.Progress, "pushed 11 of 30 MiB")
	pass(8 * time.Second)
	happen(p, "image/wine", reconcile.Progress, "pushed 28 of 30 MiB")
	pass(500 * time.Millisecond)
	happen(p, "image/wine", reconcile.Done, "")
	happen(p, "cluster/prod", reconcile.Progress, "waiting for Azure")
	pass(65 * time.Second)
	happen(p, "cluster/prod", reconcile.Progress, "warning: Azure kept sku as Free, not Standard")
	pass(31 * time.Second)
	happen(p, "cluster/prod", reconcile.Failed, "create: HTTP 403 AuthorizationFailed\n  log: \x1b[1mno\x1b[0m \x1b[2J")
	happen(p, "kube/prod/Deployment/wine", reconcile.Skipped, "because cluster/prod")
	happen(p, "cluster/old", reconcile.Refused, "it is protected")
}

func TestLinesOfALog(t *testing.T) {
	const want = `[  0.0s] + cluster/prod: creating
[  0.0s] + image/wine: creating
[  0.0s] + image/wine: hashing its files
[  3.0s] + image/wine: pushed 1 of 30 MiB (3s)
[ 13.0s] + image/wine: pushed 28 of 30 MiB (13s)
[ 13.5s] + image/wine: done after 13.5s
[ 13.5s] + cluster/prod: waiting for Azure (13s)
[ 44.0s] + cluster/prod: still waiting for Azure (44s)
[ 74.0s] + cluster/prod: still waiting for Azure (1m14s)
[ 78.5s] + cluster/prod: warning: Azure kept sku as Free, not Standard (1m18s)
[109.0s] + cluster/prod: still waiting for Azure (1m49s)
[109.5s] + cluster/prod: failed: create: HTTP 403 AuthorizationFailed
  log: no ^[[2J
[109.5s] + kube/prod/Deployment/wine: skipped (because cluster/prod)
[109.5s] + cluster/old: refused: it is protected
`
	plan := planOf("cluster/prod", "image/wine", "kube/prod/Deployment/wine", "cluster/old")
	for name, test := range map[string]struct {
		terminal bool
		env      []string
	}{
		"a pipe":             {false, []string{"TERM=xterm"}},
		"CI with a terminal": {true, []string{"TERM=xterm", "CI=true"}},
		"a dumb terminal":    {true, []string{"TERM=dumb"}},
		"no TERM":            {true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr := follow(t, "text", test.terminal, test.env, plan, story)
			if diff := cmp.Diff(want, stderr); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if stdout != "" {
				t.Errorf("stdout has %q", stdout)
			}
		})
	}
}

// TestLiveClock checks that live lines are redrawn by themselves, no more than four times a
// second, and not at all when there is nothing new to see.
func TestLiveClock(t *testing.T) {
	env := []string{"TERM=xterm"}
	writes := func(d time.Duration) int {
		_, stderr := follow(t, "text", true, env, planOf("cluster/prod"), func(_ func(), p *progress) {
			happen(p, "cluster/prod", reconcile.Started, "")
			pass(d)
		})
		return strings.Count(stderr, "0 of 1 done, 1 running")
	}
	if n := writes(redraw - time.Millisecond); n != 0 {
		t.Errorf("%d redraws before the first is due", n)
	}
	if n := writes(redraw); n != 1 {
		t.Errorf("%d redraws when the first is due", n)
	}
	// The clock it shows has whole seconds.
	if n := writes(10 * time.Second); n != 11 {
		t.Errorf("%d redraws in 10 s, want one for each second it shows", n)
	}
	_, stderr := follow(t, "text", true, env, planOf("cluster/prod"), func(_ func(), p *progress) {
		happen(p, "cluster/prod", reconcile.Started, "")
		for range 1000 {
			happen(p, "cluster/prod", reconcile.Progress, strings.Repeat("x", 1+int(time.Now().UnixMilli()%60)))
			pass(time.Millisecond)
		}
	})
	if n := strings.Count(stderr, "0 of 1 done, 1 running"); n != int(time.Second/redraw) {
		t.Errorf("%d redraws in a second in which the message changes a thousand times", n)
	}
}

// TestLiveWhenInterrupted checks that the first Ctrl-C is seen in the live lines.
func TestLiveWhenInterrupted(t *testing.T) {
	_, stderr := follow(t, "text", true, []string{"TERM=xterm", "NO_COLOR=1"}, planOf("cluster/prod"), func(interrupt func(), p *progress) {
		happen(p, "cluster/prod", reconcile.Started, "")
		pass(redraw)
		interrupt()
		pass(time.Millisecond)
	})
	const want = "  + cluster/prod  0s  creating\x1b[K\n  0 of 1 done, 1 running, 0s\x1b[K\n" +
		"\r\x1b[2A  + cluster/prod  0s  creating\x1b[K\n  0 of 1 done, 1 running, 0s; stopping\x1b[K\n\x1b[J" + "\r\x1b[2A\x1b[J"
	if stderr != want {
		t.Errorf("written %q, want %q", stderr, want)
	}
}

// TestEventLines checks every kind of event against the schema that describes them, and that
// the schema describes all that they hold.
func TestEventLines(t *testing.T) {
	actions := []reconcile.Action{reconcile.Create, reconcile.Update, reconcile.Replace, reconcile.Delete, reconcile.Detach, reconcile.Wait, reconcile.Refuse}
	phases := []reconcile.Phase{reconcile.Started, reconcile.Progress, reconcile.Done, reconcile.Failed, reconcile.Skipped, reconcile.Refused}
	zone := time.FixedZone("CEST", 2*60*60)
	stdout, stderr := follow(t, "json", true, []string{"TERM=xterm"}, planOf("cluster/prod"), func(_ func(), p *progress) {
		for _, action := range actions {
			for _, phase := range phases {
				e := reconcile.Event{Time: time.Now().In(zone), Address: "cluster/prod", Action: action, Phase: phase, Elapsed: time.Second}
				switch phase {
				case reconcile.Progress:
					e.Message = "a -> \x1b[31mb"
				case reconcile.Failed, reconcile.Skipped, reconcile.Refused:
					e.Message, e.Reason, e.Hint = "no", reconcile.ReasonForbidden, "a role"
				}
				p.event(e)
				if phase == reconcile.Progress {
					p.event(e) // says nothing new
				}
			}
		}
		happen(p, "cluster/slow", reconcile.Started, "")
		pass(heartbeat)
	})
	if stderr != "" {
		t.Errorf("stderr has %q", stderr)
	}
	lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	if want := len(actions)*len(phases) + 2; len(lines) != want {
		t.Fatalf("%d lines, want %d", len(lines), want)
	}
	for _, line := range lines {
		if err := checkEvent(line); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if strings.ContainsRune(line, '\x1b') {
			t.Errorf("%q: an escape sequence", line)
		}
	}
	for _, test := range []struct{ line, want string }{
		{lines[1], `{"type":"event","time":"2000-01-01T00:00:00Z","address":"cluster/prod","action":"create","phase":"progress","message":"a -\u003e \u001b[31mb","elapsedNs":1000000000}`},
		{lines[3], `{"type":"event","time":"2000-01-01T00:00:00Z","address":"cluster/prod","action":"create","phase":"failed","message":"no","reason":"Forbidden","hint":"a role","elapsedNs":1000000000}`},
		{lines[len(lines)-1], `{"type":"event","time":"2000-01-01T00:00:30Z","address":"cluster/slow","action":"create","phase":"progress","elapsedNs":30000000000}`},
	} {
		if diff := cmp.Diff(test.want, test.line); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// checkEvent checks a line of apply -o json against the schema, which for us is closed: what
// it does not describe is not written.
func checkEvent(line string) error {
	var document map[string]any
	if err := json.Unmarshal([]byte(line), &document); err != nil {
		return err
	}
	closed := strings.ReplaceAll(string(schema.Events()), `"additionalProperties": true`, `"additionalProperties": false`)
	compiled, err := schema.Compile(schema.EventsURL, closed)
	if err != nil {
		return err
	}
	return compiled.Validate(document)
}

func TestCheckEventRefuses(t *testing.T) {
	const good = `{"type":"event","time":"2000-01-01T00:00:00Z","address":"a","action":"create","phase":"done","elapsedNs":1}`
	if err := checkEvent(good); err != nil {
		t.Fatal(err)
	}
	for old, wrong := range map[string]string{
		`"event"`: `"vent"`, `00Z`: `00+02:00`, `"a"`: `""`, `"create"`: `"no-op"`, `"done"`: `"over"`, `"elapsedNs":1`: `"elapsedNs":1,"more":1`,
	} {
		if line := strings.Replace(good, old, wrong, 1); line == good || checkEvent(line) == nil {
			t.Errorf("%s is taken", line)
		}
	}
}
