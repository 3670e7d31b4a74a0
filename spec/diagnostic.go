package spec

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Severity says whether a Diagnostic stops amlaks.
type Severity string

// The severities.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Diagnostic is one thing to say about an amlaks.yaml.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	// File is the name as the user gave it.
	File string `json:"file"`
	// Line and Column start at 1 and are where the field's key stands, or the
	// nearest parent's when the field is not in the file. Columns count
	// characters. Both are 0 when the file could not be read.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Field is the path in the file, services[0].resources.cpu; empty for the file as a whole.
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
	// Hint is what to do about it; may be empty.
	Hint string `json:"hint,omitempty"`
	// Source is the text of Line, with secret values masked and long lines cut;
	// Caret is the column in it to point at: the value's, where it is on that line.
	Source string `json:"source,omitempty"`
	Caret  int    `json:"caret,omitempty"`
}

// String returns the first line that Format prints.
func (d Diagnostic) String() string {
	var b strings.Builder
	b.WriteString(d.File)
	if d.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", d.Line, d.Column)
	}
	b.WriteString(": ")
	if d.Severity == SeverityWarning {
		b.WriteString("warning: ")
	}
	if d.Field != "" {
		b.WriteString(d.Field + ": ")
	}
	b.WriteString(d.Message)
	return b.String()
}

// Diagnostics are sorted by position. They are an error value for those that
// stop amlaks: use Err, which is nil when there are only warnings.
type Diagnostics []Diagnostic

// HasErrors tells whether one of them is an error.
func (ds Diagnostics) HasErrors() bool {
	return slices.ContainsFunc(ds, func(d Diagnostic) bool { return d.Severity == SeverityError })
}

// Err returns the diagnostics as an error, or nil when none is an error.
func (ds Diagnostics) Err() error {
	if !ds.HasErrors() {
		return nil
	}
	return ds
}

// Error returns the errors, one a line, without source and hints.
func (ds Diagnostics) Error() string {
	var lines []string
	for _, d := range ds {
		if d.Severity == SeverityError {
			lines = append(lines, d.String())
		}
	}
	return strings.Join(lines, "\n")
}

// Format prints each diagnostic with its line of the file, a caret below it,
// and its hint:
//
//	amlaks.yaml:12:5: services[0].resources.cpu: must be more than 0
//	   12 |     cpu: 0
//	      |          ^
func (ds Diagnostics) Format(w io.Writer) error {
	out := bufio.NewWriter(w)
	for _, d := range ds {
		fmt.Fprintln(out, d)
		if d.Source != "" {
			fmt.Fprintf(out, "%5d | %s\n", d.Line, d.Source)
			if d.Caret > 0 {
				fmt.Fprintf(out, "      | %s^\n", strings.Repeat(" ", d.Caret-1))
			}
		}
		if d.Hint != "" {
			fmt.Fprintf(out, "      = hint: %s\n", d.Hint)
		}
	}
	return out.Flush()
}

// sourceWidth cuts an excerpt: a terminal's line or two, not a minified file.
const sourceWidth = 160

// excerpt is a line as Format shows it: tabs as one space, so that columns stay
// what they are, no control characters, no more than sourceWidth characters.
func excerpt(line string) string {
	if len(line) > 4*(sourceWidth+1) { // more characters than are shown, however long each is
		line = strings.ToValidUTF8(line[:4*(sourceWidth+1)], "")
	}
	line = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return ' '
		}
		return r
	}, strings.TrimRight(line, "\r\n"))
	if utf8.RuneCountInString(line) > sourceWidth {
		line = string([]rune(line)[:sourceWidth]) + "..."
	}
	return strings.TrimRight(line, " ")
}
