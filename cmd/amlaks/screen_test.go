package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestWhatAScreenCan(t *testing.T) {
	terminal := func() (int, int, error) { return 80, 24, nil }
	for _, test := range []struct {
		env          []string
		terminal     bool
		live, colors bool
	}{
		{[]string{"TERM=xterm"}, true, true, true},
		{[]string{"TERM=xterm"}, false, false, false},
		{[]string{"TERM=xterm", "NO_COLOR="}, true, true, true}, // no-color.org: when present and not an empty string
		{[]string{"TERM=xterm", "NO_COLOR=0"}, true, true, false},
		{[]string{"TERM=dumb"}, true, false, false},
		{nil, true, false, false},
		{[]string{"TERM=xterm", "CI=1"}, true, false, false},
		{[]string{"TERM=xterm", "CI=false"}, true, true, true},
	} {
		size := terminal
		if !test.terminal {
			size = nil
		}
		s := newScreen(&bytes.Buffer{}, size, environment(test.env...))
		if s.hasLive() != test.live || bool(s.colors) != test.colors {
			t.Errorf("%v, terminal %t: live %t, colours %t; want %t, %t", test.env, test.terminal, s.hasLive(), s.colors, test.live, test.colors)
		}
	}
}

func TestScreenWritesAtOnceWithoutLiveLines(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out, nil, environment("TERM=xterm"))
	s.show([]row{{{"a live line", plain}}}) // there is no place for one
	for _, step := range []struct{ write, want string }{
		{"Type \"yes\": ", "Type \"yes\": "},
		{"\x1b[2Jtext\x07\n", "^[[2Jtext^G\n"},
		{"gr\xc3", "gr"},          // half of a character
		{"\xbc\xc3", "ü"},         // its other half, and half of the next
		{"\xa4n \xf0\x9f", "än "}, // and so on
		{"\x8d\xb7\n", "🍷\n"},
		{"\xff\n", "\ufffd\n"}, // never a character
	} {
		out.Reset()
		if n, err := s.Write([]byte(step.write)); n != len(step.write) || err != nil {
			t.Errorf("%q: %d bytes, %v", step.write, n, err)
		}
		if out.String() != step.want {
			t.Errorf("%q is written as %q, want %q", step.write, out.String(), step.want)
		}
	}
	s.print(row{{"red", red}, {" plain", plain}})
	if !strings.HasSuffix(out.String(), "\nred plain\n") {
		t.Errorf("a row is written as %q", out.String())
	}
}

// closed is a stream whose reader has gone.
type closed struct{}

func (closed) Write([]byte) (int, error) { return 0, errors.New("closed pipe") }

func TestScreenWithoutReader(t *testing.T) {
	s := newScreen(closed{}, func() (int, int, error) { return 0, 0, errors.New("hung up") }, environment("TERM=xterm"))
	if columns, rows := s.extent(); columns != defaultColumns || rows != defaultRows {
		t.Errorf("a terminal that does not tell its size has %d x %d", columns, rows)
	}
	if _, err := fmt.Fprintln(s, "text"); err == nil {
		t.Error("the write is said to have been made")
	}
	s.show([]row{{{"a live line", plain}}})
	s.print(row{{"text", plain}})
	s.show(nil)
}
