package main

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

func stackOf(clusters ...string) *spec.Stack {
	s := &spec.Stack{Name: "s"}
	for _, name := range clusters {
		s.Clusters = append(s.Clusters, spec.Cluster{Name: name})
	}
	return s
}

// slow is a world that takes its time to be read.
type slow struct {
	reconcile.Driver
	took time.Duration
	err  error
}

func (d slow) Observe(ctx context.Context, _ reconcile.Request) ([]reconcile.Live, error) {
	select {
	case <-time.After(d.took):
		return nil, d.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// read lets three such worlds be read, and gives what was written to stderr after each.
func read(t *testing.T, a *app, stderr *bytes.Buffer, worlds ...slow) []string {
	t.Helper()
	var said []string
	drivers := a.reading(stackOf("a", "b", "c"), worlds[0], worlds[1], worlds[2])
	for i, driver := range drivers {
		if _, err := driver.Observe(t.Context(), reconcile.Request{}); !errors.Is(err, worlds[i].err) {
			t.Errorf("driver %d: %v, want %v", i, err, worlds[i].err)
		}
		said = append(said, stderr.String())
		stderr.Reset()
	}
	return said
}

func TestReadingIsToldOf(t *testing.T) {
	columns := func() (int, int, error) { return 80, 24, nil }
	for name, test := range map[string]struct {
		terminal func() (int, int, error)
		silent   bool
		took     [3]time.Duration
		want     []string
	}{
		"fast, at a terminal":  {terminal: columns, took: [3]time.Duration{300 * time.Millisecond, 300 * time.Millisecond, 300 * time.Millisecond}, want: []string{"", "", ""}},
		"slow, in a log":       {took: [3]time.Duration{29 * time.Second, 0, 32 * time.Second}, want: []string{"", "", "still reading 3 clusters (30s)\nstill reading 3 clusters (1m0s)\n"}},
		"slower, in a log":     {took: [3]time.Duration{65 * time.Second, 0, 0}, want: []string{"still reading Azure (30s)\nstill reading Azure (1m0s)\n", "", ""}},
		"of the daemon":        {silent: true, took: [3]time.Duration{time.Hour, time.Hour, time.Hour}, want: []string{"", "", ""}},
		"not quite fast":       {took: [3]time.Duration{9 * time.Second, 10 * time.Second, 10 * time.Second}, want: []string{"", "", ""}},
		"at a narrow terminal": {terminal: func() (int, int, error) { return 3, 24, nil }, took: [3]time.Duration{5 * time.Second, 0, 0}, want: []string{"", "", ""}},
		"slow, at a terminal": {terminal: columns, took: [3]time.Duration{1300 * time.Millisecond, 100 * time.Millisecond, 0}, want: []string{
			"⠦ reading Azure (1s)\x1b[K\n" + "\r\x1b[1A⠇ reading Azure (1s)\x1b[K\n\x1b[J" + "\r\x1b[1A\x1b[J",
			"⠇ reading the registry and the models (1s)\x1b[K\n" + "\r\x1b[1A\x1b[J",
			"⠇ reading 3 clusters (1s)\x1b[K\n" + "\r\x1b[1A\x1b[J",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			var got []string
			synctest.Test(t, func(t *testing.T) {
				a := &app{screen: newScreen(&stderr, test.terminal, environment("TERM=xterm", "NO_COLOR=1")), silent: test.silent}
				got = read(t, a, &stderr, slow{took: test.took[0]}, slow{took: test.took[1]}, slow{took: test.took[2], err: errors.New("no cluster")})
			})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadingAtATerminal(t *testing.T) {
	tt, c := openTerminal(t, 60, 24), newClock()
	r := &readings{screen: newScreen(tt, tt.size, environment("TERM=xterm")), now: func() time.Time { return c.now }, begins: c.now}
	tt.shows("")
	c.now = c.now.Add(patience - time.Millisecond)
	r.tick("cluster prod")
	tt.shows("")
	c.now = c.now.Add(3*time.Second + time.Millisecond)
	r.tick("cluster prod")
	tt.shows(`
⠦ reading cluster prod (4s)
`)
	c.now = c.now.Add(redraw)
	r.tick("cluster prod")
	tt.shows(`
⠇ reading cluster prod (4s)
`)
	r.screen.show(nil)
	tt.shows("")
}
