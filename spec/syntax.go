package spec

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

var (
	yamlLine   = regexp.MustCompile(`^yaml: line (\d+): `)
	yamlAnchor = regexp.MustCompile(`unknown anchor '([^']*)' referenced`)

	// parserMessage are the errors whose line the YAML library counts from 0; for
	// its scanner's errors it counts from 1 (go.yaml.in/yaml/v3 decode.go, fail).
	parserMessage = regexp.MustCompile(`did not find expected (<|node content|',' or|key$|'-' indicator)|found (undefined tag handle|incompatible YAML|duplicate %)`)

	// maybeSecret is what an excerpt leaves out of a file that could not be read,
	// so that it is not known what is a value.
	maybeSecret = regexp.MustCompile(`(?i)((pass|pwd|secret|key|token|sas|credential|connection)\w*["']?\s*[:=]|-----BEGIN |://|[A-Za-z0-9+/_-]{32,}).*`)
)

// syntaxError places an error of the YAML parser, which knows the line at best.
func (d *document) syntaxError(err error) {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		message = strings.TrimPrefix(err.Error(), m[0])
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
		if parserMessage.MatchString(message) {
			line++
		}
	}
	for i, text := range d.lines {
		if at := maybeSecret.FindStringIndex(text); at != nil {
			d.secret[i+1] = utf8.RuneCountInString(text[:at[0]]) + 1
		}
	}
	for i, text := range d.lines {
		if strings.ContainsFunc(text, isControl) {
			d.failAt(i+1, utf8.RuneCountInString(text[:strings.IndexFunc(text, isControl)])+1, "", "has a control character in it", "")
			return
		}
		indent := text[:len(text)-len(strings.TrimLeft(text, " \t"))]
		if tab := strings.IndexByte(indent, '\t'); tab >= 0 && len(indent) < len(strings.TrimRight(text, "\r")) {
			d.failAt(i+1, tab+1, "", "a tab indents this line: YAML allows only spaces", "")
			return
		}
	}
	if m := yamlAnchor.FindStringSubmatch(message); m != nil {
		for i, text := range d.lines {
			if at := strings.Index(text, "*"+m[1]); at >= 0 {
				d.failAt(i+1, utf8.RuneCountInString(text[:at])+1, "", noAliases, "write the value out")
				return
			}
		}
	}
	line = min(max(line, 1), len(d.lines))
	column := 1
	if text := d.line(line); strings.TrimSpace(text) != "" {
		column = len(text) - len(strings.TrimLeft(text, " ")) + 1
	}
	d.failAt(line, column, "", "is not YAML: "+message, "")
}

// isControl tells what YAML forbids in a file.
func isControl(r rune) bool {
	return r < ' ' && r != '\t' && r != '\r' || r >= 0x7f && r < 0xa0 && r != 0x85 || r == 0xfffe || r == 0xffff
}
