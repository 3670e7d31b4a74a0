package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/amlaks/amlaks/reconcile"
)

const (
	// heartbeat is how often what still runs is said again where no line is redrawn: CI
	// systems end a silent job.
	heartbeat = 30 * time.Second
	// beat is how often it is looked whether a heartbeat is due.
	beat = time.Second
	// redraw is how often live lines may change: fast enough for a clock, slow enough to read.
	redraw = 250 * time.Millisecond
	// counting is how often a message is said again of which only the numbers changed.
	counting = 10 * time.Second
	// warning begins a driver's progress message that must not pass unseen.
	warning = "warning: "
)

// progress follows an apply and shows it in one of three ways.
type progress struct {
	view progressView
	now  func() time.Time

	mu       sync.Mutex // guards what follows, and makes what is shown come one at a time
	begins   time.Time
	total    int // changes that will be heard of
	done     int
	failed   int
	skipped  int
	refused  int
	runs     map[reconcile.Address]*running
	stopping bool // nothing more is started

	end func() // stops the clock and takes the live lines away; nothing is written afterwards
}

// running is a change between its start and its end.
type running struct {
	event reconcile.Event // the last one
	since time.Time
	// When a line was last written about it, and what its message was.
	said    time.Time
	message string
}

// doing is what a change does or waits for, on one line.
func doing(e reconcile.Event) string {
	if e.Message == "" {
		return verb(e.Action)
	}
	return oneLine(e.Message)
}

// progressView shows progress. Its methods are called one at a time, with p's lock held.
type progressView interface {
	period() time.Duration // between two calls of tick
	// happened is called for each event; r is nil unless the change goes on.
	happened(p *progress, e reconcile.Event, r *running)
	tick(p *progress)
	end()
}

// newProgress follows the plan until its end is called. When ctx is done, nothing more is
// started.
func (a *app) newProgress(ctx context.Context, plan *reconcile.Plan) *progress {
	var view progressView
	switch {
	case a.output == "json":
		view = jsonView{a.out}
	case a.screen.hasLive():
		view = liveView{a.screen}
	default:
		view = lineView{a.screen}
	}
	p := followPlan(view, plan, time.Now)
	stop, stopped := context.WithCancel(context.WithoutCancel(ctx))
	var clock sync.WaitGroup
	clock.Go(func() { p.run(stop, ctx.Done()) })
	p.end = func() {
		stopped()
		clock.Wait()
		view.end()
	}
	return p
}

func followPlan(view progressView, plan *reconcile.Plan, now func() time.Time) *progress {
	p := &progress{view: view, now: now, begins: now(), runs: map[reconcile.Address]*running{}}
	for _, c := range plan.Changes {
		if c.Action.Pending() || c.Action == reconcile.Wait {
			p.total++
		}
	}
	return p
}

// run is the clock, until ctx ends.
func (p *progress) run(ctx context.Context, drain <-chan struct{}) {
	ticker := time.NewTicker(p.view.period())
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-drain:
			p.drain()
			drain = nil
		case <-ticker.C:
			p.tick()
		}
	}
}

func (p *progress) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.view.tick(p)
}

// drain takes note that nothing more is started.
func (p *progress) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopping = true
	p.view.tick(p)
}

// event takes note of an event. A message that repeats the last one is none.
func (p *progress) event(e reconcile.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.runs[e.Address]
	switch e.Phase {
	case reconcile.Started:
		r = &running{event: e, since: p.now()}
		p.runs[e.Address] = r
	case reconcile.Progress:
		if r == nil || r.event.Message == e.Message {
			return
		}
		if !strings.HasPrefix(e.Message, warning) { // which is not what it waits for
			r.event = e
		}
	default:
		r = nil
		delete(p.runs, e.Address)
		*p.counter(e.Phase)++
	}
	p.view.happened(p, e, r)
}

func (p *progress) counter(phase reconcile.Phase) *int {
	switch phase {
	case reconcile.Done:
		return &p.done
	case reconcile.Skipped:
		return &p.skipped
	case reconcile.Refused:
		return &p.refused
	}
	return &p.failed
}

func verb(a reconcile.Action) string {
	switch a {
	case reconcile.Create:
		return "creating"
	case reconcile.Update:
		return "changing"
	case reconcile.Replace:
		return "replacing"
	case reconcile.Rotate:
		return "rotating"
	case reconcile.Delete:
		return "deleting"
	case reconcile.Detach:
		return "detaching"
	}
	return "waiting for it"
}

// uncounted is a message without its numbers.
func uncounted(message string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, message)
}
