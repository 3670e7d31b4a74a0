package spec

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	yaml "sigs.k8s.io/yaml/goyaml.v3"
)

// document is a file that has been read: its values, where each of them stands,
// and what there is to say about them.
type document struct {
	name  string
	lines []string
	root  map[string]any

	fields   map[string]*site // by path: services[0].resources.cpu
	pointers map[string]*site // by JSON pointer, escaped as jsonschema/v5 does
	order    []*site          // as in the file

	tooDeep bool
	errors  int

	diags  Diagnostics
	failed map[string]bool // fields with an error
	secret map[int]int     // line -> column from which on it must not be shown
}

func newDocument(name string) *document {
	return &document{
		name:     name,
		fields:   make(map[string]*site),
		pointers: make(map[string]*site),
		failed:   make(map[string]bool),
		secret:   make(map[int]int),
	}
}

// site is one value of the file.
type site struct {
	field string
	key   *yaml.Node // nil for a list's items and for the document
	value *yaml.Node
	data  any

	in    any // the map[string]any or []any that holds data
	name  string
	index int
}

// noAliases: one value, one place. Diagnostics and reviews then point at the
// line that says it, and no small file expands into a large one.
const noAliases = "anchors (&), aliases (*) and merge keys (<<) are not read"

// maxErrors bounds the report on a file that is not an amlaks.yaml at all.
const maxErrors = 1000

// maxDepth bounds nesting; the schema needs 8.
const maxDepth = 32

func (d *document) line(n int) string {
	if n < 1 || n > len(d.lines) {
		return ""
	}
	return d.lines[n-1]
}

// failAt records an error at a position of the file.
func (d *document) failAt(line, column int, field, message, hint string) {
	d.add(Diagnostic{Severity: SeverityError, Line: max(line, 1), Column: max(column, 1), Caret: max(column, 1), Field: field, Message: message, Hint: hint})
}

// fail records an error of a field, unless the field, or what it is part of, has one.
func (d *document) fail(field, message, hint string) {
	if d.broken(field) {
		return
	}
	d.add(d.at(field, SeverityError, message, hint))
}

func (d *document) warn(field, message, hint string) {
	if d.broken(field) {
		return
	}
	d.add(d.at(field, SeverityWarning, message, hint))
}

func (d *document) add(diag Diagnostic) {
	diag.File = d.name
	if diag.Severity == SeverityError {
		d.errors++
		d.failed[diag.Field] = true
		if d.errors > maxErrors {
			return
		}
	}
	d.diags = append(d.diags, diag)
}

// at is a diagnostic for a field, placed where the field is, or would be.
func (d *document) at(field string, severity Severity, message, hint string) Diagnostic {
	diag := Diagnostic{Severity: severity, Field: field, Message: message, Hint: hint, Line: 1, Column: 1, Caret: 1}
	for f := field; ; f = parentField(f) {
		s, ok := d.fields[f]
		if !ok {
			if f == "" {
				return diag
			}
			continue
		}
		diag.Line, diag.Column, diag.Caret = s.position()
		if f != field && s.key != nil {
			diag.Caret = diag.Column // the value is not at fault: something is missing from it
		}
		return diag
	}
}

// position is where the site's key is, or its value without one, and the column to point at.
func (s *site) position() (line, column, caret int) {
	if s.key == nil {
		return max(s.value.Line, 1), max(s.value.Column, 1), max(s.value.Column, 1)
	}
	line, column, caret = s.key.Line, s.key.Column, s.key.Column
	if s.value.Line == line && s.value.Column > column && (s.value.Kind != yaml.ScalarNode || s.value.Value != "") {
		caret = s.value.Column
	}
	return line, column, caret
}

// broken tells whether a field, or what it is part of, has an error. Errors of
// the file as a whole (a key in a comment) leave its fields alone.
func (d *document) broken(field string) bool {
	for f := field; f != ""; f = parentField(f) {
		if d.failed[f] {
			return true
		}
	}
	return field == "" && d.failed[""]
}

// written tells whether the file gives the field.
func (d *document) written(field string) bool { return d.fields[field] != nil }

// parentField cuts the last step of a path.
func parentField(field string) string {
	if i := strings.LastIndexAny(field, ".["); i >= 0 {
		return field[:i]
	}
	return ""
}

// sorted finishes the diagnostics: sources added, secrets masked, in the order
// of the file, none twice.
func (d *document) sorted() Diagnostics {
	for i := range d.diags {
		diag := &d.diags[i]
		line := d.line(diag.Line)
		if column, ok := d.secret[diag.Line]; ok {
			line = maskFrom(line, column)
		}
		diag.Source = excerpt(line)
		if diag.Source == "" || diag.Caret > utf8.RuneCountInString(diag.Source)+1 {
			diag.Caret = 0
		}
	}
	slices.SortFunc(d.diags, func(a, b Diagnostic) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Field, b.Field), cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.Message, b.Message))
	})
	diags := slices.Compact(d.diags)
	if d.errors > maxErrors {
		last := diags[len(diags)-1]
		diags = append(diags, Diagnostic{Severity: SeverityError, File: d.name, Line: last.Line, Column: last.Column,
			Message: fmt.Sprintf("there are more errors than %d: the others are not listed", maxErrors)})
	}
	return diags
}

// maskFrom replaces what a line holds from column on.
func maskFrom(line string, column int) string {
	runes := []rune(line)
	if column > len(runes) {
		return line
	}
	return string(runes[:column-1]) + "***"
}

// convert turns node into the JSON value that it stands for, and notes its site.
func (d *document) convert(s *site, pointer string, depth int) {
	d.fields[s.field] = s
	d.pointers[pointer] = s
	d.order = append(d.order, s)
	node := s.value
	if depth > maxDepth {
		if !d.tooDeep {
			d.tooDeep = true
			d.failAt(node.Line, node.Column, "", fmt.Sprintf("is nested more than %d levels deep", maxDepth), "")
		}
		return
	}
	if node.Anchor != "" || node.Kind == yaml.AliasNode {
		d.fail(s.field, noAliases, "write the value out")
	}
	switch node.Kind {
	case yaml.MappingNode:
		s.data = d.mapping(s, pointer, depth)
	case yaml.SequenceNode:
		list := make([]any, len(node.Content))
		for i, item := range node.Content {
			child := &site{field: fmt.Sprintf("%s[%d]", s.field, i), value: item, in: list, index: i}
			d.convert(child, pointer+"/"+strconv.Itoa(i), depth+1)
			list[i] = child.data
		}
		s.data = list
	case yaml.ScalarNode:
		s.data = d.scalar(s)
	}
}

func (d *document) mapping(s *site, pointer string, depth int) map[string]any {
	m := make(map[string]any, len(s.value.Content)/2)
	first := make(map[string]int)
	for i := 0; i+1 < len(s.value.Content); i += 2 {
		key, value := s.value.Content[i], s.value.Content[i+1]
		field := childField(s.field, key.Value)
		switch line, twice := first[key.Value], first[key.Value] > 0; {
		case key.Kind != yaml.ScalarNode || key.Anchor != "":
			d.failAt(key.Line, key.Column, s.field, "a key must be a plain string", "")
			continue
		case key.Value == "<<":
			d.failAt(key.Line, key.Column, s.field, noAliases, "write the values out")
			continue
		case twice:
			d.failAt(key.Line, key.Column, field, fmt.Sprintf("is given twice, first on line %d", line), "")
			continue
		}
		first[key.Value] = max(key.Line, 1)
		child := &site{field: field, key: key, value: value, in: m, name: key.Value}
		d.convert(child, pointer+"/"+escapePointer(key.Value), depth+1)
		m[key.Value] = child.data
	}
	return m
}

// childField is the path of a key: .key, or ["key"] where it is not a plain word.
func childField(field, key string) string {
	if !plainKey(key) {
		return field + "[" + strconv.Quote(key) + "]"
	}
	if field == "" {
		return key
	}
	return field + "." + key
}

func plainKey(key string) bool {
	for _, r := range key {
		if !(r == '_' || r == '-' || r == '/' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z') {
			return false
		}
	}
	return key != ""
}

// escapePointer escapes a step of a JSON pointer as jsonschema/v5 writes them
// in InstanceLocation: RFC 6901, then percent-encoding.
func escapePointer(step string) string {
	step = strings.ReplaceAll(step, "~", "~0")
	return url.PathEscape(strings.ReplaceAll(step, "/", "~1"))
}

// drop takes a value that cannot be used out of the tree, so that the rest can be checked.
func (s *site) drop() {
	switch in := s.in.(type) {
	case map[string]any:
		delete(in, s.name)
	case []any:
		in[s.index] = nil
	}
}
