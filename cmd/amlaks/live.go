package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The measures of the live lines, in cells.
const (
	// leastColumns is where live lines end: in less, an address cannot be told.
	leastColumns = 10
	// roomyColumns is from where on they are indented.
	roomyColumns = 40
	// leastAddress and leastMessage are what each leaves to the other in a narrow terminal.
	leastAddress = 20
	leastMessage = 24
	// scrap is so little of a message that it tells nothing.
	scrap = 8
)

// liveRows are the lines for what runs, the longest-running first, and the counts below
// them. They leave a row of the terminal to what was said last, and one to the cursor.
func (p *progress) liveRows(columns, rows int) []row {
	if columns < leastColumns || p.total == 0 {
		return nil
	}
	now := p.now()
	shown, more := p.longest(), 0
	if budget := max(1, rows-2); len(shown)+1 > budget {
		fit := max(0, budget-2)
		more = len(shown) - fit
		shown = shown[:fit]
	}
	widest, clock := 0, 0
	for _, r := range shown {
		widest = max(widest, cells(oneLine(string(r.event.Address))))
		clock = max(clock, len(lasted(now.Sub(r.since))))
	}
	indent := ""
	if columns >= roomyColumns {
		indent = "  "
	}
	// What the address and the message share: all but symbol, time, gaps, and the last column.
	room := columns - 1 - len(indent) - len("+ ") - len("  ") - clock
	address := max(0, min(widest, room))
	if left := room - len("  ") - leastMessage; left >= leastAddress {
		address = min(widest, left)
	}
	var out []row
	for _, r := range shown {
		name := cutMiddle(oneLine(string(r.event.Address)), address)
		line := row{
			{indent, plain}, {symbol(r.event.Action), actionColor(r.event.Action)}, {" ", plain},
			{name + strings.Repeat(" ", address-cells(name)), plain},
			{fmt.Sprintf("  %*s", clock, lasted(now.Sub(r.since))), dim},
		}
		if left := room - address - len("  "); left > scrap {
			line = append(line, span{"  " + cut(doing(r.event), left), plain})
		}
		out = append(out, line)
	}
	if more > 0 && rows > 3 {
		out = append(out, row{{fmt.Sprintf("%sand %d more", indent, more), plain}})
	}
	return append(out, append(row{{indent, plain}}, p.counts(now)...))
}

// counts is the last of the live lines: how far the whole is.
func (p *progress) counts(now time.Time) row {
	out := row{{fmt.Sprintf("%d of %d done", p.done, p.total), plain}}
	for _, rare := range []struct {
		n    int
		word string
	}{{p.failed, "failed"}, {p.skipped, "skipped"}, {p.refused, "refused"}} {
		if rare.n > 0 {
			out = append(out, span{", ", plain}, span{fmt.Sprintf("%d %s", rare.n, rare.word), red})
		}
	}
	out = append(out, span{fmt.Sprintf(", %d running, ", len(p.runs)), plain}, span{lasted(now.Sub(p.begins)), dim})
	if p.stopping {
		out = append(out, span{"; stopping", yellow})
	}
	return out
}

// longest are the running changes, those that have run longest first.
func (p *progress) longest() []*running {
	out := make([]*running, 0, len(p.runs))
	for _, r := range p.runs {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *running) int {
		return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.event.Address, b.event.Address))
	})
	return out
}

// lasted is a time for people: whole seconds.
func lasted(d time.Duration) string { return max(d, 0).Truncate(time.Second).String() }
