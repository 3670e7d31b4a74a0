package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// emulator is as much of a terminal as live lines need. It wraps late, as xterm does, scrolls,
// and puts lines together again when it is resized, as VTE, tmux and kitty do. What it does
// not know is an error: nothing else may be written.
type emulator struct {
	columns, rows int
	lines         []line // the scrollback too; the last rows of them are on the screen
	x, y          int    // the cursor; y is in lines
	color         string
	rest          string // a sequence without its end
	errors        []string
}

type line struct {
	cells []cell
	wraps bool // it goes on in the next
}

// cell is a character; that right of a wide one is empty.
type cell struct{ text, color string }

func newEmulator(columns, rows int) *emulator {
	return &emulator{columns: columns, rows: rows, lines: make([]line, 1)}
}

func (e *emulator) feed(data string) {
	e.rest += data
	for e.rest != "" {
		if e.rest[0] == '\x1b' {
			n := strings.IndexFunc(e.rest[min(2, len(e.rest)):], func(r rune) bool { return r >= '@' && r <= '~' })
			if n < 0 {
				return
			}
			e.sequence(e.rest[:2+n+1])
			e.rest = e.rest[2+n+1:]
			continue
		}
		if !utf8.FullRuneInString(e.rest) {
			return
		}
		r, n := utf8.DecodeRuneInString(e.rest)
		e.rest = e.rest[n:]
		switch {
		case r == '\r':
			e.x = 0
		case r == '\n':
			e.down()
		case r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError && n == 1:
			e.errors = append(e.errors, fmt.Sprintf("control character %U", r))
		default:
			e.put(r)
		}
	}
}

func (e *emulator) down() {
	e.y++
	if e.y == len(e.lines) {
		e.lines = append(e.lines, line{})
	}
}

func (e *emulator) put(r rune) {
	width := 1
	switch {
	case r >= 0x300 && r < 0x370:
		width = 0
	case r >= 0x1100 && r < 0x1160, r >= 0x2e80 && r < 0xa4d0, r >= 0xac00 && r < 0xd7a4, r >= 0xff00 && r < 0xff61, r >= 0x1f300 && r < 0x1fb00:
		width = 2
	}
	if e.x+width > e.columns {
		e.lines[e.y].wraps = true
		e.x = 0
		e.down()
	}
	l := &e.lines[e.y]
	if width == 0 {
		l.cells[e.x-1].text += string(r)
		return
	}
	for len(l.cells) < e.x+width {
		l.cells = append(l.cells, cell{text: " "})
	}
	l.cells[e.x] = cell{string(r), e.color}
	if width == 2 {
		l.cells[e.x+1] = cell{}
	}
	e.x += width
}

func (e *emulator) sequence(s string) {
	parameter, final := s[2:len(s)-1], s[len(s)-1]
	n := 0
	if parameter != "" {
		var err error
		if n, err = strconv.Atoi(parameter); err != nil {
			final = 0
		}
	}
	switch {
	case s[1] != '[':
		final = 0
	case final == 'm':
		e.color = parameter
		if n == 0 {
			e.color = ""
		}
	case final == 'A':
		e.y = max(e.y-max(n, 1), e.top())
		e.x = min(e.x, e.columns-1)
	case final == 'K' && n == 0:
		e.erase()
	case final == 'J' && n == 0:
		e.erase()
		// The rows below are blank, and still there.
		for i := e.y + 1; i < len(e.lines); i++ {
			e.lines[i] = line{}
		}
	default:
		final = 0
	}
	if final == 0 {
		e.errors = append(e.errors, fmt.Sprintf("sequence %q", s))
	}
}

func (e *emulator) erase() {
	l := &e.lines[e.y]
	l.wraps = false
	l.cells = l.cells[:min(len(l.cells), min(e.x, e.columns-1))]
}

func (e *emulator) top() int { return max(0, len(e.lines)-e.rows) }

// resize gives the terminal another size, and puts wrapped lines together anew.
func (e *emulator) resize(columns, rows int) {
	var lines []line
	x, y := 0, 0
	for i := 0; i < len(e.lines); {
		var whole []cell
		cursor := -1
		for goesOn := true; goesOn && i < len(e.lines); i++ {
			if i == e.y {
				cursor = len(whole) + e.x
			}
			goesOn = e.lines[i].wraps
			whole = append(whole, e.lines[i].cells...)
		}
		first := len(lines)
		for len(whole) > columns {
			lines = append(lines, line{slices.Clone(whole[:columns]), true})
			whole = whole[columns:]
		}
		lines = append(lines, line{cells: whole})
		if cursor >= 0 {
			y = min(first+cursor/columns, len(lines)-1)
			x = cursor - (y-first)*columns
		}
	}
	e.lines, e.x, e.y, e.columns, e.rows = lines, x, y, columns, rows
}

// all is what was ever shown and not erased, the scrollback too, without blank ends.
func (e *emulator) all() string { return e.text(0) }

// shown is what is on the screen.
func (e *emulator) shown() string { return e.text(e.top()) }

func (e *emulator) text(from int) string {
	var b strings.Builder
	for _, l := range e.lines[from:] {
		var s strings.Builder
		for _, c := range l.cells {
			s.WriteString(c.text)
		}
		b.WriteString(strings.TrimRight(s.String(), " ") + "\n")
	}
	return strings.TrimLeft(strings.TrimRight(b.String(), "\n")+"\n", "\n")
}

// colored gives what is on the screen in a colour (SGR parameter), one string for each run.
func (e *emulator) colored(color string) []string {
	var out []string
	for _, l := range e.lines[e.top():] {
		last := ""
		for _, c := range l.cells {
			switch {
			case c.color != color:
			case last == color:
				out[len(out)-1] += c.text
			default:
				out = append(out, c.text)
			}
			last = c.color
		}
	}
	return out
}
