package spec

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/amlaks/amlaks/schema"
	"github.com/santhosh-tekuri/jsonschema/v5"
)

// fileSchema is amlaks.schema.json twice: compiled to check with, and as
// plain values to read keywords, defaults and messages from.
type fileSchema struct {
	compiled *jsonschema.Schema
	text     map[string]any
}

// loadSchema compiles the schema once; it is part of the program and never changes.
var loadSchema = sync.OnceValues(func() (*fileSchema, error) {
	compiled, err := schema.Compile(schema.AmlaksURL, string(schema.Amlaks()))
	if err != nil {
		return nil, err
	}
	s := &fileSchema{compiled: compiled}
	if err := json.Unmarshal(schema.Amlaks(), &s.text); err != nil {
		return nil, fmt.Errorf("reading schema: %w", err)
	}
	return s, nil
})

// lookup returns the keywords at a location such as URL#/$defs/cluster.
func (s *fileSchema) lookup(location string) map[string]any {
	_, fragment, _ := strings.Cut(location, "#")
	node := s.text
	for step := range strings.SplitSeq(strings.TrimPrefix(fragment, "/"), "/") {
		if step == "" {
			continue
		}
		if unescaped, err := url.PathUnescape(step); err == nil {
			step = unescaped
		}
		step = strings.ReplaceAll(strings.ReplaceAll(step, "~1", "/"), "~0", "~")
		next, ok := node[step].(map[string]any)
		if !ok {
			return nil
		}
		node = next
	}
	return node
}

// resolve follows a $ref; keywords beside it win.
func (s *fileSchema) resolve(node map[string]any) map[string]any {
	ref, ok := node["$ref"].(string)
	if !ok {
		return node
	}
	merged := make(map[string]any)
	for k, v := range s.resolve(s.lookup(ref)) {
		merged[k] = v
	}
	for k, v := range node {
		merged[k] = v
	}
	delete(merged, "$ref")
	return merged
}

// checkSchema reports what the schema says against the file.
func (d *document) checkSchema() {
	s, err := loadSchema()
	if err != nil {
		d.failAt(1, 1, "", "the schema cannot be used: "+err.Error(), "")
		return
	}
	err = s.compiled.Validate(d.root)
	if err == nil {
		return
	}
	violation, ok := err.(*jsonschema.ValidationError)
	if !ok {
		d.failAt(1, 1, "", "cannot be checked: "+err.Error(), "")
		return
	}
	d.violation(s, violation)
}

// violation reports the leaves of a tree of violations. The schema has no
// oneOf, anyOf or if, so each leaf is a fault of its own.
func (d *document) violation(s *fileSchema, v *jsonschema.ValidationError) {
	if d.errors > maxErrors {
		return
	}
	for _, cause := range v.Causes {
		d.violation(s, cause)
	}
	at, ok := d.pointers[v.InstanceLocation]
	if len(v.Causes) > 0 || !ok {
		return
	}
	cut := strings.LastIndexByte(v.AbsoluteKeywordLocation, '/')
	keyword, location := v.AbsoluteKeywordLocation[cut+1:], v.AbsoluteKeywordLocation[:cut]
	keywords := s.lookup(location)
	if strings.HasSuffix(location, "/propertyNames") {
		d.add(d.atKey(at, keyName(keywords)))
		at.drop()
		return
	}
	switch keyword {
	case "required":
		m, _ := at.data.(map[string]any)
		for _, name := range stringList(keywords["required"]) {
			if _, ok := m[name]; !ok {
				d.fail(childField(at.field, name), "is required", "")
			}
		}
	case "additionalProperties":
		m, _ := at.data.(map[string]any)
		known, _ := keywords["properties"].(map[string]any)
		for _, name := range sortedKeys(m) {
			if child := d.fields[childField(at.field, name)]; known[name] == nil && child != nil {
				d.add(d.atKey(child, unknownKey(name, known)))
				child.drop()
			}
		}
	case "type", "const", "minimum", "maximum", "exclusiveMinimum", "maxItems":
		d.fail(at.field, d.explain(at, keyword, keywords), hintFor(at, keyword, keywords))
		at.drop()
	default:
		d.fail(at.field, d.explain(at, keyword, keywords), hintFor(at, keyword, keywords))
	}
}

// atKey is an error that points at a key, not at its value.
func (d *document) atKey(s *site, message string) Diagnostic {
	line, column, _ := s.position()
	return Diagnostic{Severity: SeverityError, Line: line, Column: column, Caret: column, Field: s.field, Message: message}
}

func keyName(keywords map[string]any) string {
	if text, ok := keywords["patternErrorMessage"].(string); ok {
		return text
	}
	return "is too long a name"
}

// explain says in one sentence what a keyword asks for.
func (d *document) explain(at *site, keyword string, keywords map[string]any) string {
	switch value := keywords[keyword]; keyword {
	case "type":
		if at.data == nil {
			return "has no value"
		}
		if text, ok := keywords["patternErrorMessage"].(string); ok && len(typeList(value)) > 1 {
			return text
		}
		if _, isNumber := at.data.(float64); isNumber && value == "integer" {
			return "must be a whole number, not a fraction"
		}
		return "must be " + typeNames(value) + ", not " + typeOf(at.data)
	case "const":
		return fmt.Sprintf("must be %v", value)
	case "enum":
		return "must be one of " + strings.Join(stringList(value), ", ")
	case "minimum":
		return fmt.Sprintf("must be at least %v", number(value))
	case "maximum":
		return fmt.Sprintf("must be at most %v", number(value))
	case "exclusiveMinimum":
		return fmt.Sprintf("must be more than %v", number(value))
	case "minLength", "minItems":
		return "must not be empty"
	case "maxLength":
		return fmt.Sprintf("must have at most %v characters", number(value))
	case "maxItems", "maxProperties":
		if names := propertyNames(keywords); names != nil {
			return "must have exactly one of " + strings.Join(names, ", ")
		}
		return fmt.Sprintf("must have at most %v entries", number(value))
	case "minProperties":
		names := strings.Join(propertyNames(keywords), ", ")
		if keywords["maxProperties"] != nil {
			return "must have exactly one of " + names
		}
		return "must have one of " + names
	case "pattern":
		if text, ok := keywords["patternErrorMessage"].(string); ok {
			return text
		}
	}
	return "is not valid"
}

func hintFor(at *site, keyword string, keywords map[string]any) string {
	switch keyword {
	case "type":
		if at.data == nil {
			return "give it a value, or take the key out for its default"
		}
		_, isString := at.data.(string)
		_, isMap := at.data.(map[string]any)
		_, isList := at.data.([]any)
		if !isString && !isMap && !isList && keywords["type"] == "string" {
			return fmt.Sprintf("write %q, in quotes", at.value.Value)
		}
		if isString && at.value.Style != 0 && !slices.Contains(typeList(keywords["type"]), "string") {
			return "write it without quotes"
		}
	case "enum":
		if text, ok := at.data.(string); ok {
			if near := nearest(text, stringList(keywords["enum"])); near != "" {
				return fmt.Sprintf("did you mean %s?", near)
			}
		}
	case "const":
		if at.name == "successThreshold" {
			return "Kubernetes allows no other value in a liveness probe"
		}
	case "pattern":
		text, _ := at.data.(string)
		switch {
		case at.name == "baseImage":
			return "a tag can change under you; 'crane digest IMAGE' prints the digest"
		case strings.HasSuffix(text, "@latest"), strings.HasSuffix(text, "/labels/latest"):
			return latestHint
		case at.name == "" && strings.HasPrefix(text, "azureml://") && strings.Contains(text, "/datastores/"):
			return "register what is at that path: az ml model create --path"
		}
	}
	return ""
}

func stringList(value any) []string {
	list, _ := value.([]any)
	out := make([]string, 0, len(list))
	for _, v := range list {
		if s, ok := v.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

func typeList(value any) []string {
	if s, ok := value.(string); ok {
		return []string{s}
	}
	return stringList(value)
}

func propertyNames(keywords map[string]any) []string {
	properties, _ := keywords["properties"].(map[string]any)
	return sortedKeys(properties)
}

func number(value any) any {
	if f, ok := value.(float64); ok && f == float64(int64(f)) {
		return int64(f)
	}
	return value
}

func typeNames(value any) string {
	var names []string
	for _, t := range typeList(value) {
		names = append(names, map[string]string{
			"object": "a mapping", "array": "a list", "string": "a string",
			"integer": "a whole number", "number": "a number", "boolean": "true or false",
		}[t])
	}
	return strings.Join(names, " or ")
}

func typeOf(v any) string {
	switch v.(type) {
	case map[string]any:
		return "a mapping"
	case []any:
		return "a list"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	default:
		return "a number"
	}
}
