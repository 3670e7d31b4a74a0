package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// What is taken for a terminal that does not tell its size: the VT100's.
const (
	defaultColumns = 80
	defaultRows    = 24
)

// screen is the one way to standard error. What is written to it comes out visible (see
// there) and, while there are live lines, above them.
//
// Live lines are drawn where the cursor is and leave it below them at the start of a line,
// never hidden: whatever ends the process, kill -9 and a panic too, the next thing that is
// written has a line of its own.
type screen struct {
	w      io.Writer
	size   func() (columns, rows int, err error) // nil: no terminal, no live lines
	colors colors

	mu      sync.Mutex // guards what follows, and makes writes whole
	live    []row      // the live lines as they were asked for
	drawn   []row      // and as they were drawn, cut
	columns int        // of the terminal when they were drawn
	partial string     // a line without its end, held back while there are live lines
	split   []byte     // a character without its end
}

// newScreen decides once whether w, a terminal if it has a size, gets live lines and colours.
func newScreen(w io.Writer, size func() (columns, rows int, err error), getenv func(string) string) *screen {
	if isLog(getenv) {
		size = nil
	}
	return &screen{w: w, size: size, colors: wantsColors(size != nil, getenv)}
}

// hasLive tells whether the screen can show live lines.
func (s *screen) hasLive() bool { return s.size != nil }

// extent gives the terminal's size now.
func (s *screen) extent() (columns, rows int) {
	if s.size != nil {
		if columns, rows, err := s.size(); err == nil && columns > 0 && rows > 0 {
			return columns, rows
		}
	}
	return defaultColumns, defaultRows
}

// Write writes a text that may come from anywhere.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := append(s.split, p...)
	whole := len(text) - unfinished(text)
	s.split = slices.Clone(text[whole:])
	return len(p), s.write(visible(string(text[:whole])))
}

// print writes rows, which are visible already, each on a line.
func (s *screen) print(rows ...row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	if s.partial != "" {
		b.WriteByte('\n')
	}
	for _, r := range rows {
		b.WriteString(s.colors.row(r))
		b.WriteByte('\n')
	}
	// Whether anybody reads changes nothing about what is being done.
	_ = s.write(b.String())
}

// show replaces the live lines; none takes them away. It is for screens that can have them.
func (s *screen) show(rows []row) {
	if !s.hasLive() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live = rows
	// As in print.
	_ = s.draw("")
	if len(rows) == 0 && s.partial != "" {
		rest := s.partial
		s.partial = ""
		_ = s.write(rest)
	}
}

func (s *screen) write(text string) error {
	if text == "" {
		return nil
	}
	if len(s.live) == 0 && len(s.drawn) == 0 {
		_, err := io.WriteString(s.w, text)
		return err
	}
	end := strings.LastIndexByte(text, '\n') + 1
	if end == 0 {
		s.partial += text
		return nil
	}
	above := s.partial + text[:end]
	s.partial = text[end:]
	return s.draw(above)
}

// draw puts a text above the live lines and draws them anew, all in one write, so that no
// half of it is ever seen. Lines that did not change are not drawn.
func (s *screen) draw(above string) error {
	columns, rows := s.extent()
	lines := make([]row, 0, len(s.live))
	for _, r := range s.live[max(0, len(s.live)-(rows-1)):] {
		// A line that fills the last column would leave the cursor where terminals disagree.
		lines = append(lines, r.cut(columns-1))
	}
	if above == "" && columns == s.columns && slices.EqualFunc(lines, s.drawn, slices.Equal[row]) {
		return nil
	}
	var b strings.Builder
	if up := s.height(columns); up > 0 {
		fmt.Fprintf(&b, "\r\x1b[%dA", up)
		if above != "" || columns != s.columns {
			b.WriteString("\x1b[J")
		}
	}
	b.WriteString(above)
	for _, r := range lines {
		b.WriteString(s.colors.row(r) + "\x1b[K\n")
	}
	if len(s.drawn) > 0 {
		b.WriteString("\x1b[J")
	}
	s.drawn, s.columns = lines, columns
	_, err := io.WriteString(s.w, b.String())
	return err
}

// height is how many rows of the terminal the drawn lines take now: one that has become
// narrower has wrapped them (VTE, tmux, kitty, iTerm2, Windows Terminal all do).
func (s *screen) height(columns int) int {
	n := 0
	for _, r := range s.drawn {
		n += max(1, (r.cells()+columns-1)/columns)
	}
	return n
}

// unfinished is how many bytes at the end of p begin a character and do not end it.
func unfinished(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		if utf8.RuneStart(p[len(p)-n]) {
			if utf8.FullRune(p[len(p)-n:]) {
				return 0
			}
			return n
		}
	}
	return 0
}
