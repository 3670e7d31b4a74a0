package main

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// visible makes a text that may come from a cluster, a registry or a log harmless for a
// terminal: what would move a cursor, set a title or turn the direction of writing is shown
// as cat -v shows it (^[ for escape) and as kubectl does (CVE-2021-25743), or as \u and its
// number. Line ends and tabs stay; colours, of which logs are full, are left out.
func visible(text string) string { return harmless(text, colorSequence) }

// exactly is visible for a diff, in which nothing may be left out.
func exactly(text string) string { return harmless(text, func(string) int { return 0 }) }

// harmless leaves out as many bytes as drop says of a text's beginning.
func harmless(text string, drop func(string) int) string {
	if strings.IndexFunc(text, hostile) < 0 && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		if n := drop(text); n > 0 {
			text = text[n:]
			continue
		}
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && n == 1, !hostile(r):
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			b.WriteByte('^')
			b.WriteByte(byte(r) ^ 0x40)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		text = text[n:]
	}
	return b.String()
}

func hostile(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsGraphic(r) }

// colorSequence gives the length of the SGR sequence that text begins with, or 0. The
// carriage return of a line end, of which logs are full too, counts as one.
func colorSequence(text string) int {
	if strings.HasPrefix(text, "\r\n") {
		return 1
	}
	rest, found := strings.CutPrefix(text, "\x1b[")
	if !found {
		return 0
	}
	parameters := len(rest) - len(strings.TrimLeft(rest, "0123456789;:"))
	if parameters == len(rest) || rest[parameters] != 'm' {
		return 0
	}
	return len("\x1b[") + parameters + len("m")
}

// oneLine is visible without line ends and tabs.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(visible(text), func(r rune) bool { return r == '\n' || r == '\t' }), " ")
}

// cells is how many cells of a terminal a visible line takes.
func cells(text string) int {
	n := 0
	for _, r := range text {
		n += runeCells(r)
	}
	return n
}

func runeCells(r rune) int {
	if isMark(r) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// isMark is a character that is written over the one before it.
func isMark(r rune) bool { return unicode.In(r, unicode.Mn, unicode.Me) }

// cut shortens a visible line to at most n cells; a … says that there was more.
func cut(text string, n int) string {
	if cells(text) <= n {
		return text
	}
	if n < 1 {
		return ""
	}
	used := 0
	for i, r := range text {
		if used += runeCells(r); used > n-1 {
			return text[:i] + "…"
		}
	}
	return text
}

// cutMiddle is cut for an address, whose beginning and end tell more than its middle.
func cutMiddle(text string, n int) string {
	if cells(text) <= n {
		return text
	}
	tail := ""
	for rest := text; rest != ""; {
		r, size := utf8.DecodeLastRuneInString(rest)
		if cells(tail)+runeCells(r) > n/2 {
			break
		}
		rest = rest[:len(rest)-size]
		tail = string(r) + tail
	}
	tail = strings.TrimLeftFunc(tail, isMark) // whose letter was cut off
	return cut(text, n-cells(tail)) + tail
}
