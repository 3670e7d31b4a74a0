package main

// The rules of this output.
//
// Facts go to stdout: a plan, a status, a key, the final count and the scoring URIs. What
// goes on while they are made goes to stderr, and so do warnings and errors, so that
// `amlaks plan -o json | jq` always works. A line of progress is written when something
// changes, and every half minute for what still runs; no line is ever redrawn. A symbol
// says what happens to a resource: + created, ~ changed, ± replaced, - deleted,
// < detached, … waited for, ! refused, ? left alone. Nothing is said of what is unchanged.
// No secret is ever shown; a driver gives none.

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/amlaks/amlaks/reconcile"
)

// heartbeat is how often what still runs is said again: CI systems end a silent job.
const heartbeat = 30 * time.Second

// maxValue is where a value in a plan is cut; -o json has it whole.
const maxValue = 100

func symbol(a reconcile.Action) string {
	switch a {
	case reconcile.Create:
		return "+"
	case reconcile.Update:
		return "~"
	case reconcile.Replace:
		return "±"
	case reconcile.Delete:
		return "-"
	case reconcile.Detach:
		return "<"
	case reconcile.Wait:
		return "…"
	case reconcile.Refuse:
		return "!"
	case reconcile.Keep:
		return "?"
	}
	return " "
}

// printPlan shows what a plan would do.
func printPlan(w io.Writer, p *reconcile.Plan) {
	width := 0
	for _, c := range p.Changes {
		if c.Action != reconcile.NoOp {
			width = max(width, len(c.Address))
		}
	}
	for _, c := range p.Changes {
		if c.Action == reconcile.NoOp {
			continue
		}
		about := c.Summary
		if c.Why != "" {
			about = c.Why
		}
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("  %s %-*s  %s", symbol(c.Action), width, c.Address, about), " "))
		if c.Action == reconcile.Update || c.Action == reconcile.Replace || c.Action == reconcile.Refuse && c.Reason == reconcile.ReasonImmutable {
			for _, d := range c.Diff {
				printDiff(w, d)
			}
		}
	}
	if p.Pending() == 0 && p.Count(reconcile.Wait) == 0 {
		fmt.Fprintf(w, "%s: no changes\n", p.Stack)
		return
	}
	fmt.Fprintf(w, "%s: %s\n", p.Stack, planCounts(p))
}

func planCounts(p *reconcile.Plan) string {
	counts := []string{
		fmt.Sprintf("%d to create", p.Count(reconcile.Create)),
		fmt.Sprintf("%d to change", p.Count(reconcile.Update)+p.Count(reconcile.Replace)),
		fmt.Sprintf("%d to delete", p.Count(reconcile.Delete)),
	}
	for _, rare := range []struct {
		action reconcile.Action
		words  string
	}{{reconcile.Detach, "to detach"}, {reconcile.Wait, "to wait for"}, {reconcile.Refuse, "refused"}, {reconcile.Keep, "left alone"}} {
		if n := p.Count(rare.action); n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, rare.words))
		}
	}
	return strings.Join(counts, ", ")
}

// printDiff shows one path; a text of several lines as the lines that differ.
func printDiff(w io.Writer, d reconcile.FieldDiff) {
	before, wasText := d.Before.(string)
	after, isText := d.After.(string)
	if wasText && isText && strings.Contains(before+after, "\n") {
		fmt.Fprintf(w, "      %s:\n", d.Path)
		lines := strings.Split(strings.TrimSuffix(string(diff.Diff("a", []byte(before), "b", []byte(after))), "\n"), "\n")
		for _, line := range lines[min(3, len(lines)):] { // without the names
			fmt.Fprintf(w, "        %s\n", line)
		}
		return
	}
	fmt.Fprintf(w, "      %s: %s -> %s\n", d.Path, value(d.Before), value(d.After))
}

func value(v any) string {
	if v == nil {
		return "(none)"
	}
	text, ok := v.(string)
	if !ok {
		data, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprint(v)
		}
		text = string(data)
	}
	if runes := []rune(text); len(runes) > maxValue {
		text = string(runes[:maxValue]) + "…"
	}
	return text
}

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

// printJSON writes a fact for programs.
func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
