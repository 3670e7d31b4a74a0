package main

import (
	"strings"

	"github.com/amlaks/amlaks/reconcile"
)

// color is one of the few that mean something here. None is ever the only sign of what it
// means: the symbol or the word is there too.
type color string

// The colours, as SGR parameters: of the sixteen that every terminal's theme makes readable.
const (
	plain  color = ""
	green  color = "32" // made
	yellow color = "33" // changed
	red    color = "31" // taken away, failed, refused
	dim    color = "2"  // times
)

// colors tells whether a stream gets colours. It is decided once for each of stdout and stderr.
type colors bool

// wantsColors: only at a terminal that has them, and unless https://no-color.org says no.
func wantsColors(terminal bool, getenv func(string) string) colors {
	return colors(terminal && getenv("NO_COLOR") == "" && !isLog(getenv))
}

// isLog is a terminal that can do nothing but write lines, or that says nothing about itself,
// and CI, whose logs keep every byte, even where it gives its jobs a terminal.
func isLog(getenv func(string) string) bool {
	kind, ci := getenv("TERM"), getenv("CI")
	return kind == "" || kind == "dumb" || ci != "" && ci != "false"
}

func (c colors) paint(with color, text string) string {
	if !c || with == plain || text == "" {
		return text
	}
	return "\x1b[" + string(with) + "m" + text + "\x1b[0m"
}

// span is a visible text of one colour; row is a line made of spans.
type (
	span struct {
		text  string
		color color
	}
	row []span
)

func (r row) cells() int {
	n := 0
	for _, s := range r {
		n += cells(s.text)
	}
	return n
}

// cut shortens a row to at most n cells.
func (r row) cut(n int) row {
	var out row
	for i, s := range r {
		if s.text == "" {
			continue
		}
		if cells(s.text) > n || cells(s.text) == n && r[i+1:].cells() > 0 {
			// Something will be missing: the … needs a cell of its own.
			s.text = cut(s.text+"  ", n)
			return append(out, s)
		}
		n -= cells(s.text)
		out = append(out, s)
	}
	return out
}

func (c colors) row(r row) string {
	var b strings.Builder
	for _, s := range r {
		b.WriteString(c.paint(s.color, s.text))
	}
	return b.String()
}

// actionColor is the colour of an action's symbol.
func actionColor(a reconcile.Action) color {
	switch a {
	case reconcile.Create:
		return green
	case reconcile.Update, reconcile.Replace, reconcile.Rotate:
		return yellow
	case reconcile.Delete, reconcile.Detach, reconcile.Refuse:
		return red
	case reconcile.Wait, reconcile.Keep:
		return dim
	}
	return plain
}
