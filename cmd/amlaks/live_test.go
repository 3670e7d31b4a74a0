package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
)

// clock is a time that only the test moves.
type clock struct{ now time.Time }

func newClock() *clock { return &clock{time.Date(2026, 7, 1, 8, 0, 0, 0, time.UTC)} }

// planOf is a plan that creates the addresses.
func planOf(addresses ...reconcile.Address) *reconcile.Plan {
	p := &reconcile.Plan{Stack: "s"}
	for _, address := range addresses {
		p.Changes = append(p.Changes, reconcile.Change{Address: address, Action: reconcile.Create})
	}
	return p
}

// show is a progress at a real terminal whose clock the test moves.
type show struct {
	*terminal
	*clock
	screen *screen
	p      *progress
}

func startShow(t *testing.T, columns, rows int, plan *reconcile.Plan, env ...string) *show {
	t.Helper()
	tt, c := openTerminal(t, columns, rows), newClock()
	screen := newScreen(tt, tt.size, environment(append(env, "TERM=xterm-256color")...))
	if !screen.hasLive() {
		t.Fatal("the terminal does not get live lines")
	}
	return &show{tt, c, screen, followPlan(liveView{screen}, plan, func() time.Time { return c.now })}
}

// say makes an event that takes place after d.
func (s *show) say(d time.Duration, address reconcile.Address, phase reconcile.Phase, message string) {
	s.now = s.now.Add(d)
	e := reconcile.Event{Time: s.now, Address: address, Action: reconcile.Create, Phase: phase, Message: message}
	if r := s.p.runs[address]; r != nil {
		e.Elapsed = s.now.Sub(r.since)
	}
	s.p.event(e)
}

// after lets the time pass and the clock tick.
func (s *show) after(d time.Duration) {
	s.now = s.now.Add(d)
	s.p.tick()
}

func TestLiveLines(t *testing.T) {
	s := startShow(t, 80, 24, planOf("cluster/prod", "image/wine", "kube/prod/Deployment/wine"))
	s.shows("\n")
	s.say(0, "cluster/prod", reconcile.Started, "")
	s.say(0, "image/wine", reconcile.Started, "")
	s.shows("\n") // not before the first redraw: what is over at once does not flash
	s.after(redraw)
	s.shows(`
  + cluster/prod  0s  creating
  + image/wine    0s  creating
  0 of 3 done, 2 running, 0s
`)
	s.say(time.Second, "cluster/prod", reconcile.Progress, "waiting for Azure")
	s.after(72 * time.Second)
	s.shows(`
  + cluster/prod  1m13s  waiting for Azure
  + image/wine    1m13s  creating
  0 of 3 done, 2 running, 1m13s
`)
	s.say(0, "image/wine", reconcile.Done, "")
	s.shows(`
[ 73.2s] + image/wine: done after 1m13.3s
  + cluster/prod  1m13s  waiting for Azure
  1 of 3 done, 1 running, 1m13s
`)
	s.say(0, "cluster/prod", reconcile.Failed, "create: HTTP 403 AuthorizationFailed\n  event: no")
	s.say(0, "kube/prod/Deployment/wine", reconcile.Skipped, "because cluster/prod")
	s.shows(`
[ 73.2s] + image/wine: done after 1m13.3s
[ 73.2s] + cluster/prod: failed: create: HTTP 403 AuthorizationFailed
  event: no
[ 73.2s] + kube/prod/Deployment/wine: skipped (because cluster/prod)
  1 of 3 done, 1 failed, 1 skipped, 0 running, 1m13s
`)
	s.p.view.end()
	s.shows(`
[ 73.2s] + image/wine: done after 1m13.3s
[ 73.2s] + cluster/prod: failed: create: HTTP 403 AuthorizationFailed
  event: no
[ 73.2s] + kube/prod/Deployment/wine: skipped (because cluster/prod)
`)
}

func TestLiveLinesInNarrowTerminals(t *testing.T) {
	for _, test := range []struct {
		columns int
		want    string
	}{
		{200, `
  + kube/production/Deployment/churn-scoring  12m5s  0 of 3 replicas ready: pulling the image 葡萄酒 from registry mlprod.azurecr.io took longer than a minute
  0 of 1 done, 1 running, 12m5s
`},
		{80, `
  + kube/production/Deployment/churn-scoring  12m5s  0 of 3 replicas ready: pu…
  0 of 1 done, 1 running, 12m5s
`},
		{60, `
  + kube/produ…urn-scoring  12m5s  0 of 3 replicas ready: …
  0 of 1 done, 1 running, 12m5s
`},
		{40, `
  + kube/producti…/churn-scoring  12m5s
  0 of 1 done, 1 running, 12m5s
`},
		{20, `
+ kube…oring  12m5s
0 of 1 done, 1 run…
`},
		{1, "\n"},
		{0, `
  + kube/production/Deployment/churn-scoring  12m5s  0 of 3 replicas ready: pu…
  0 of 1 done, 1 running, 12m5s
`},
	} {
		t.Run(fmt.Sprint(test.columns), func(t *testing.T) {
			columns := test.columns
			if columns == 0 {
				columns = defaultColumns
			}
			s := startShow(t, columns, 24, planOf("kube/production/Deployment/churn-scoring"))
			if test.columns == 0 {
				s.resize(0, 0) // it does not tell
			}
			s.say(0, "kube/production/Deployment/churn-scoring", reconcile.Started, "")
			s.say(0, "kube/production/Deployment/churn-scoring", reconcile.Progress,
				"0 of 3 replicas ready: pulling the image 葡萄酒 from registry mlprod.azurecr.io took longer than a minute")
			for range 3 { // a redraw that goes wrong leaves something behind
				s.after(721 * time.Second / 3)
			}
			s.after(5 * time.Second)
			s.shows(test.want)
			s.p.view.end()
			s.shows("\n")
		})
	}
}

func TestLiveLinesAreNeverWrapped(t *testing.T) {
	for columns := 1; columns <= 90; columns++ {
		s := startShow(t, columns, 12, planOf("cluster/葡萄酒", "kube/prod/Deployment/wine"))
		for _, address := range []reconcile.Address{"cluster/葡萄酒", "kube/prod/Deployment/wine"} {
			s.say(0, address, reconcile.Started, "")
			s.say(0, address, reconcile.Progress, "葡萄酒 and a\u0301 combining mark, two\nlines")
		}
		s.after(100 * time.Minute)
		s.settled(func(e *emulator) {
			for _, l := range e.lines {
				if l.wraps {
					t.Errorf("%d columns: wrapped:\n%s", columns, e.shown())
				}
			}
		})
		s.p.view.end()
		s.shows("\n")
	}
}

func TestMoreLiveLinesThanRows(t *testing.T) {
	var addresses []reconcile.Address
	for i := range 9 {
		addresses = append(addresses, reconcile.Address(fmt.Sprintf("image/%d", i)))
	}
	for _, test := range []struct {
		rows int
		want string
	}{
		{24, "0 1 2 3 4 5 6 7 8"}, {12, "0 1 2 3 4 5 6 7 8"}, {11, "0 1 2 3 4 5 6 and 2 more"}, {6, "0 1 and 7 more"}, {4, "and 9 more"}, {3, ""}, {1, ""},
	} {
		s := startShow(t, 40, test.rows, planOf(addresses...))
		for _, address := range addresses {
			s.say(time.Second, address, reconcile.Started, "")
		}
		s.after(time.Second)
		s.after(time.Second)
		s.settled(func(e *emulator) {
			var got []string
			for text := range strings.Lines(e.all()) {
				text = strings.TrimSpace(text)
				if name, ok := strings.CutPrefix(text, "+ image/"); ok {
					got = append(got, name[:1])
				} else if strings.HasPrefix(text, "and ") {
					got = append(got, text)
				}
			}
			if test.want != strings.Join(got, " ") {
				t.Errorf("%d rows: %q, want %q:\n%s", test.rows, strings.Join(got, " "), test.want, e.all())
			}
			if counts := strings.Count(e.all(), "0 of 9 done, 9 running"); counts != min(1, test.rows-1) {
				t.Errorf("%d rows: the counts are there %d times:\n%s", test.rows, counts, e.all())
			}
		})
	}
}

func TestResizeWhileLive(t *testing.T) {
	s := startShow(t, 80, 24, planOf("cluster/prod", "kube/production/Deployment/churn-scoring"))
	s.say(0, "cluster/prod", reconcile.Started, "")
	s.say(0, "cluster/prod", reconcile.Done, "")
	s.say(0, "kube/production/Deployment/churn-scoring", reconcile.Started, "")
	s.say(0, "kube/production/Deployment/churn-scoring", reconcile.Progress, "waiting until every single one of the replicas is ready")
	s.after(time.Second)
	for _, columns := range []int{79, 30, 12, 5, 1, 20, 200, 41, 40, 80} {
		s.resize(columns, 24)
		s.after(time.Second)
		s.settled(func(e *emulator) {
			want := 1
			if columns < leastColumns {
				want = 0
			}
			if got := strings.Count(strings.ReplaceAll(e.all(), "\n", ""), "1 of 2 d"); got != want {
				t.Errorf("%d columns: the counts are there %d times:\n%s", columns, got, e.all())
			}
		})
	}
	s.shows(`
[  0.0s] + cluster/prod: done
  + kube/production/Deployment/churn-scoring  11s  waiting until every single …
  1 of 2 done, 1 running, 11s
`)
}

func TestOthersWriteWhileLive(t *testing.T) {
	s := startShow(t, 60, 24, planOf("cluster/prod"))
	s.say(0, "cluster/prod", reconcile.Started, "")
	s.after(redraw)
	fmt.Fprintf(s.screen, "W0701 an API server's warning\nwith a second line\nand one that is not")
	s.shows(`
W0701 an API server's warning
with a second line
  + cluster/prod  0s  creating
  0 of 1 done, 1 running, 0s
`)
	s.after(time.Second)
	fmt.Fprintf(s.screen, " finished")
	s.say(0, "cluster/prod", reconcile.Progress, "warning: Azure kept sku as Free, not Standard")
	s.shows(`
W0701 an API server's warning
with a second line
and one that is not finished
[  1.2s] + cluster/prod: warning: Azure kept sku as Free, no
t Standard (1s)
  + cluster/prod  1s  creating
  0 of 1 done, 1 running, 1s
`)
}

func TestInterruptedWhileLive(t *testing.T) {
	s := startShow(t, 100, 24, planOf("cluster/prod", "image/wine"))
	s.say(0, "cluster/prod", reconcile.Started, "")
	s.after(time.Second)
	if _, err := s.slave.WriteString("^C"); err != nil { // as the terminal's driver echoes it
		t.Fatal(err)
	}
	s.sent.Add(2)
	s.p.drain()
	s.shows(`
  + cluster/prod  1s  creating
  0 of 2 done, 1 running, 1s; stopping
`)
}

func TestColors(t *testing.T) {
	events := func(s *show) {
		s.say(0, "image/wine", reconcile.Started, "")
		s.say(0, "cluster/prod", reconcile.Started, "")
		s.say(time.Second, "cluster/prod", reconcile.Failed, "no")
		s.after(redraw)
	}
	s := startShow(t, 80, 24, planOf("cluster/prod", "image/wine"))
	events(s)
	var with string
	s.settled(func(e *emulator) {
		with = e.shown()
		for color, want := range map[color][]string{green: {"+", "+"}, red: {"failed: no", "1 failed"}, dim: {"[  1.0s]", "  1s", "1s"}} {
			if diff := cmp.Diff(want, e.colored(string(color))); diff != "" {
				t.Errorf("colour %s (-want +got):\n%s", color, diff)
			}
		}
	})
	s = startShow(t, 80, 24, planOf("cluster/prod", "image/wine"), "NO_COLOR=1")
	events(s)
	s.shows(with)
	s.settled(func(e *emulator) {
		for _, l := range e.lines {
			for _, c := range l.cells {
				if c.color != "" {
					t.Fatalf("NO_COLOR: %q is in colour %s", c.text, c.color)
				}
			}
		}
	})
}

func TestControlCharactersWhileLive(t *testing.T) {
	s := startShow(t, 80, 24, planOf("cluster/prod"))
	s.say(0, "cluster/prod", reconcile.Started, "")
	s.say(0, "cluster/prod", reconcile.Progress, "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b[2J\r\u009b2J \u202egnp.exe \xff")
	s.after(redraw)
	fmt.Fprint(s.screen, "log: \x1b[1A\x1b[32mok\x1b[m\r\nnext\rline\x00\n")
	s.shows(`
log: ^[[1Aok
next^Mline^@
  + cluster/prod  0s  red ^[]0;title^G ^[[2J^M\u009b2J \u202egnp.exe ` + "\ufffd" + `
  0 of 1 done, 1 running, 0s
`)
}
