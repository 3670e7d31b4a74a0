package main

import (
	"testing"
	"unicode/utf8"
)

func TestVisible(t *testing.T) {
	for _, test := range []struct{ name, text, visible, exactly string }{
		{"plain", "a b\tc\nd", "a b\tc\nd", "a b\tc\nd"},
		{"other scripts", "葡萄酒 ü 🍷 a\u0301 \u00a0", "葡萄酒 ü 🍷 a\u0301 \u00a0", "葡萄酒 ü 🍷 a\u0301 \u00a0"},
		{"colours", "\x1b[1;31mred\x1b[m \x1b[38:2:1:2:3mx", "red x", "^[[1;31mred^[[m ^[[38:2:1:2:3mx"},
		{"line ends of Windows", "a\r\nb\r\n", "a\nb\n", "a^M\nb^M\n"},
		{"a carriage return", "100%\r0%", "100%^M0%", "100%^M0%"},
		{"cursor", "\x1b[2A\x1b[2J\x1b[?25l", "^[[2A^[[2J^[[?25l", "^[[2A^[[2J^[[?25l"},
		{"title", "\x1b]0;pwned\x07", "^[]0;pwned^G", "^[]0;pwned^G"},
		{"sequences cut off", "\x1b[\x1b[31\x1b", "^[[^[[31^[", "^[[^[[31^["},
		{"eight bits", "\u009b2J\u0085", `\u009b2J\u0085`, `\u009b2J\u0085`},
		{"direction", "\u202eexe.gnp\u2066", `\u202eexe.gnp\u2066`, `\u202eexe.gnp\u2066`},
		{"separators of lines", "a\u2028b", `a\u2028b`, `a\u2028b`},
		{"NUL, backspace, DEL", "\x00\b\x7f", "^@^H^?", "^@^H^?"},
		{"not UTF-8", "a\xff\x9bb", "a\ufffd\ufffdb", "a\ufffd\ufffdb"},
	} {
		if got := visible(test.text); got != test.visible {
			t.Errorf("%s: visible %q, want %q", test.name, got, test.visible)
		}
		if got := exactly(test.text); got != test.exactly {
			t.Errorf("%s: exactly %q, want %q", test.name, got, test.exactly)
		}
	}
}

func FuzzVisible(f *testing.F) {
	f.Add("\x1b[31mred\x1b[0m\r\n\u009b\xff")
	f.Fuzz(func(t *testing.T, text string) {
		for _, got := range []string{visible(text), exactly(text), oneLine(text)} {
			if !utf8.ValidString(got) {
				t.Fatalf("%q: not UTF-8", got)
			}
			for _, r := range got {
				if hostile(r) {
					t.Fatalf("%q: holds %U", got, r)
				}
			}
			if visible(got) != got {
				t.Fatalf("%q changes again", got)
			}
		}
		line := oneLine(text)
		for n := range 12 {
			for _, short := range []string{cut(line, n), cutMiddle(line, n), (row{{line, dim}, {line, plain}}).cut(n).text()} {
				if cells(short) > n {
					t.Fatalf("%q takes %d cells, not %d", short, cells(short), n)
				}
			}
		}
	})
}

// text is a row without its colours.
func (r row) text() string { return colors(false).row(r) }

func TestCut(t *testing.T) {
	for _, test := range []struct {
		text              string
		n                 int
		cut, middle, rows string
	}{
		{"cluster/prod", 12, "cluster/prod", "cluster/prod", "cluster/pro…"},
		{"cluster/prod", 11, "cluster/pr…", "clust…/prod", "cluster/pr…"},
		{"cluster/prod", 1, "…", "…", "…"},
		{"cluster/prod", 0, "", "", ""},
		{"葡萄酒", 6, "葡萄酒", "葡萄酒", "葡萄…"},
		{"葡萄酒", 5, "葡萄…", "葡…酒", "葡萄…"},
		{"葡萄酒", 4, "葡…", "…酒", "葡…"},
		{"a\u0301b\u0301c", 2, "a\u0301…", "…c", "a\u0301…"},
	} {
		if got := cut(test.text, test.n); got != test.cut {
			t.Errorf("cut(%q, %d) = %q, want %q", test.text, test.n, got, test.cut)
		}
		if got := cutMiddle(test.text, test.n); got != test.middle {
			t.Errorf("cutMiddle(%q, %d) = %q, want %q", test.text, test.n, got, test.middle)
		}
		if got := (row{{test.text, dim}, {"", dim}, {"!", plain}}).cut(test.n).text(); got != test.rows {
			t.Errorf("row %q cut to %d is %q, want %q", test.text, test.n, got, test.rows)
		}
	}
}
