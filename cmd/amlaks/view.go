package main

// The rules of this output.
//
// Facts go to stdout: a plan, a status, a key, the final count and the scoring URIs. What
// goes on while they are made goes to stderr, and so do warnings and errors, so that
// `amlaks plan -o json | jq` always works. A symbol says what happens to a resource:
// + created, ~ changed, ± replaced, ↻ rotated, - deleted, < detached, … waited for, ! refused,
// ? left alone. Nothing is said of what is unchanged. No secret is ever shown; a driver
// gives none.
//
// Progress at a terminal: what has ended scrolls up, what runs has a line each that is
// redrawn below it, with since when and what it waits for, and a last line counts. Not at
// a terminal, with CI set or TERM=dumb: a line when something changes, one every half minute
// for what still runs, and never an escape sequence or a carriage return. -o json: the same
// as events, one a line (schema/events.schema.json).
//
// Colour repeats what a symbol or a word says, and only at a terminal; NO_COLOR switches it
// off. What clusters, registries and logs say may hold control characters: none of them
// reaches a terminal (see visible).

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/amlaks/amlaks/reconcile"
)

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
	case reconcile.Rotate:
		return "↻"
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
func printPlan(w io.Writer, on colors, p *reconcile.Plan) {
	width := 0
	for _, c := range p.Changes {
		if c.Action != reconcile.NoOp || c.Why != "" {
			width = max(width, len(c.Address))
		}
	}
	for _, c := range p.Changes {
		if c.Action == reconcile.NoOp && c.Why == "" {
			continue
		}
		about := c.Summary
		if c.Why != "" {
			about = c.Why
		}
		line := strings.TrimRight(fmt.Sprintf("%-*s  %s", width, oneLine(string(c.Address)), visible(about)), " ")
		fmt.Fprintf(w, "  %s %s\n", on.paint(actionColor(c.Action), symbol(c.Action)), line)
		if c.Action == reconcile.Update || c.Action == reconcile.Replace || c.Action == reconcile.Rotate || c.Action == reconcile.Refuse && c.Reason == reconcile.ReasonImmutable {
			for _, d := range c.Diff {
				printDiff(w, on, d)
			}
		}
	}
	for _, n := range p.Notes {
		printNote(w, on, n)
	}
	if p.Pending() == 0 && p.Count(reconcile.Wait) == 0 {
		fmt.Fprintf(w, "%s: no changes\n", p.Stack)
		return
	}
	fmt.Fprintf(w, "%s: %s\n", p.Stack, planCounts(p))
}

// printStale shows what changes that were planned otherwise would be by now.
func printStale(w io.Writer, on colors, now *reconcile.Plan) {
	fmt.Fprintln(w, "no longer what was planned; it would be by now:")
	for _, c := range now.Changes {
		if c.Action == reconcile.NoOp {
			fmt.Fprintf(w, "    %s  %s\n", oneLine(string(c.Address)), visible(c.Why))
		}
	}
	if now.Count(reconcile.NoOp) < len(now.Changes) {
		printPlan(w, on, now)
	}
}

func planCounts(p *reconcile.Plan) string {
	counts := []string{
		fmt.Sprintf("%d to create", p.Count(reconcile.Create)),
		fmt.Sprintf("%d to change", p.Count(reconcile.Update)+p.Count(reconcile.Replace)+p.Count(reconcile.Rotate)),
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
func printDiff(w io.Writer, on colors, d reconcile.FieldDiff) {
	before, wasText := d.Before.(string)
	after, isText := d.After.(string)
	if wasText && isText && strings.Contains(before+after, "\n") {
		fmt.Fprintf(w, "      %s:\n", oneLine(d.Path))
		lines := strings.Split(strings.TrimSuffix(string(diff.Diff("a", []byte(before), "b", []byte(after))), "\n"), "\n")
		for _, line := range lines[min(3, len(lines)):] { // without the names
			fmt.Fprintf(w, "        %s\n", on.paint(diffColor(line), exactly(line)))
		}
		return
	}
	fmt.Fprintf(w, "      %s: %s -> %s\n", oneLine(d.Path), value(d.Before), value(d.After))
}

// printNote shows what a plan says beside its changes.
func printNote(w io.Writer, on colors, n reconcile.Note) {
	of := dim
	if n.Level == reconcile.Warning {
		of = yellow
	}
	fmt.Fprintf(w, "  %s %s\n", on.paint(of, string(n.Level)+":"), visible(string(n.Address)+": "+n.Message))
	if n.Hint != "" {
		fmt.Fprintf(w, "      hint: %s\n", visible(n.Hint))
	}
}

func diffColor(line string) color {
	switch {
	case strings.HasPrefix(line, "+"):
		return green
	case strings.HasPrefix(line, "-"):
		return red
	case strings.HasPrefix(line, "@@"):
		return dim
	}
	return plain
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
	text = strings.ReplaceAll(exactly(text), "\n", `\n`)
	if runes := []rune(text); len(runes) > maxValue {
		text = string(runes[:maxValue]) + "…"
	}
	return text
}

// printJSON writes a fact for programs.
func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
