package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/amlaks/amlaks/reconcile"
)

// eventRow is the line of an event: when, what, and how it is going.
func (p *progress) eventRow(e reconcile.Event) row {
	text, kind := string(e.Phase), plain
	switch e.Phase {
	case reconcile.Started:
		text = verb(e.Action)
	case reconcile.Progress:
		text = doing(e)
		if e.Elapsed >= time.Second {
			text += fmt.Sprintf(" (%s)", lasted(e.Elapsed))
		}
		if strings.HasPrefix(text, warning) {
			kind = yellow
		}
	case reconcile.Done:
		text = "done"
		if took := e.Elapsed.Round(100 * time.Millisecond); took > 0 {
			text += " after " + took.String()
		}
	case reconcile.Failed, reconcile.Refused:
		text, kind = string(e.Phase)+": "+visible(e.Message), red
	case reconcile.Skipped:
		text = "skipped (" + oneLine(e.Message) + ")"
	}
	return row{p.stamp(), {" ", plain}, {symbol(e.Action), actionColor(e.Action)}, {" " + oneLine(string(e.Address)) + ": ", plain}, {text, kind}}
}

// stamp is how long the apply has been going on.
func (p *progress) stamp() span {
	return span{fmt.Sprintf("[%5.1fs]", p.now().Sub(p.begins).Seconds()), dim}
}

// heartbeats are the events that say what goes on, of changes of which nothing was said
// for so long.
func (p *progress) heartbeats() []reconcile.Event {
	var due []reconcile.Event
	now := p.now()
	for _, r := range p.longest() {
		if now.Sub(r.said) >= heartbeat {
			r.said = now
			e := r.event
			e.Phase, e.Time, e.Elapsed = reconcile.Progress, now, now.Sub(r.since)
			due = append(due, e)
		}
	}
	return due
}

// liveView is for a terminal: what has ended scrolls up, what runs is redrawn below it.
type liveView struct{ screen *screen }

func (liveView) period() time.Duration { return redraw }

func (v liveView) happened(p *progress, e reconcile.Event, r *running) {
	if r != nil && !strings.HasPrefix(e.Message, warning) {
		return // the next redraw shows it
	}
	v.screen.print(p.eventRow(e))
	v.tick(p)
}

func (v liveView) tick(p *progress) { v.screen.show(p.liveRows(v.screen.extent())) }

func (v liveView) end() { v.screen.show(nil) }

// lineView is for everything else that people read: a line on each change, and a heartbeat.
type lineView struct{ screen *screen }

func (lineView) period() time.Duration { return beat }

func (v lineView) happened(p *progress, e reconcile.Event, r *running) {
	if r != nil {
		now := p.now()
		if e.Phase == reconcile.Progress && uncounted(e.Message) == uncounted(r.message) && now.Sub(r.said) < counting {
			return
		}
		r.said, r.message = now, e.Message
	}
	v.screen.print(p.eventRow(e))
}

func (v lineView) tick(p *progress) {
	for _, e := range p.heartbeats() {
		e.Message = "still " + doing(e)
		v.screen.print(p.eventRow(e))
	}
}

func (lineView) end() {}

// jsonView is for programs: an object a line, as schema/events.schema.json says.
type jsonView struct{ w io.Writer }

func (jsonView) period() time.Duration { return beat }

func (v jsonView) happened(p *progress, e reconcile.Event, r *running) {
	if r != nil {
		r.said = p.now()
	}
	v.write(e)
}

func (v jsonView) write(e reconcile.Event) {
	e.Time = e.Time.UTC()
	// A failed write to a closed pipe changes nothing about the apply.
	_ = json.NewEncoder(v.w).Encode(struct {
		Type string `json:"type"`
		reconcile.Event
	}{"event", e})
}

func (v jsonView) tick(p *progress) {
	for _, e := range p.heartbeats() {
		v.write(e)
	}
}

func (jsonView) end() {}
