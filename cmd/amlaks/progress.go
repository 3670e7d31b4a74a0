package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/amlaks/amlaks/reconcile"
)

// heartbeat is how often what still runs is said again: CI systems end a silent job.
const heartbeat = 30 * time.Second

// progress writes the events of an apply, as lines or as JSON lines.
type progress struct {
	w      io.Writer
	json   bool
	now    func() time.Time
	mu     sync.Mutex
	runs   map[reconcile.Address]ongoing
	begins time.Time
	stop   chan struct{}
	done   sync.WaitGroup
}

type ongoing struct {
	event reconcile.Event
	since time.Time
}

func (a *app) newProgress() *progress {
	p := &progress{w: a.err, now: time.Now, runs: map[reconcile.Address]ongoing{}, begins: time.Now(), stop: make(chan struct{})}
	if a.output == "json" {
		p.w, p.json = a.out, true
	}
	p.done.Go(p.beat)
	return p
}

// end stops the heartbeat; nothing is written afterwards.
func (p *progress) end() {
	close(p.stop)
	p.done.Wait()
}

func (p *progress) beat() {
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
			p.mu.Lock()
			addresses := make([]reconcile.Address, 0, len(p.runs))
			for address := range p.runs {
				addresses = append(addresses, address)
			}
			slices.Sort(addresses)
			for _, address := range addresses {
				still := p.runs[address]
				still.event.Phase = reconcile.Progress
				still.event.Elapsed = p.now().Sub(still.since)
				p.line(still.event)
			}
			p.mu.Unlock()
		}
	}
}

func (p *progress) event(e reconcile.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e.Phase {
	case reconcile.Started:
		p.runs[e.Address] = ongoing{event: e, since: p.now()}
	case reconcile.Progress:
		r := p.runs[e.Address]
		r.event = e
		p.runs[e.Address] = r
	default:
		delete(p.runs, e.Address)
	}
	p.line(e)
}

func (p *progress) line(e reconcile.Event) {
	if p.json {
		// A failed write to a closed pipe changes nothing about the apply.
		_ = json.NewEncoder(p.w).Encode(struct {
			Type string `json:"type"`
			reconcile.Event
		}{"event", e})
		return
	}
	text := string(e.Phase)
	switch e.Phase {
	case reconcile.Started:
		text = verb(e.Action)
	case reconcile.Progress:
		text = e.Message
		if text == "" {
			text = verb(e.Action)
		}
		if e.Elapsed >= time.Second {
			text += fmt.Sprintf(" (%s)", e.Elapsed.Round(time.Second))
		}
	case reconcile.Done:
		text = fmt.Sprintf("done after %s", e.Elapsed.Round(100*time.Millisecond))
	case reconcile.Failed, reconcile.Refused:
		text = string(e.Phase) + ": " + e.Message
	case reconcile.Skipped:
		text = "skipped (" + e.Message + ")"
	}
	fmt.Fprintf(p.w, "[%5.1fs] %s %s: %s\n", p.now().Sub(p.begins).Seconds(), symbol(e.Action), e.Address, text)
}

func verb(a reconcile.Action) string {
	switch a {
	case reconcile.Create:
		return "creating"
	case reconcile.Update:
		return "changing"
	case reconcile.Replace:
		return "replacing"
	case reconcile.Delete:
		return "deleting"
	case reconcile.Detach:
		return "detaching"
	}
	return "waiting for it"
}
