package spec

import (
	"fmt"
	"math"
	"regexp"
	"strings"

	yaml "sigs.k8s.io/yaml/goyaml.v3"
)

// yaml11Bool matches what YAML 1.1 reads as a boolean and YAML 1.2 as a string.
// Tools disagree, so an unquoted one is refused.
var yaml11Bool = regexp.MustCompile(`^(?i:y|n|yes|no|on|off)$`)

// octalInt matches the integers that YAML 1.1 reads as octal and YAML 1.2 as decimal.
var octalInt = regexp.MustCompile(`^[-+]?0[0-9_]+$`)

// scalar is the JSON value of a scalar node: nil, bool, int64, uint64, float64 or string.
func (d *document) scalar(s *site) any {
	node := s.value
	text := node.Value
	plain := node.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) == 0
	if plain && yaml11Bool.MatchString(text) {
		d.fail(s.field, fmt.Sprintf("%s is a boolean to some YAML readers and a string to others", text),
			fmt.Sprintf("write true or false, or %q in quotes", text))
		return nil
	}
	switch tag := node.ShortTag(); tag {
	case "!!null":
		return nil
	case "!!bool":
		return strings.EqualFold(text, "true")
	case "!!int":
		if octalInt.MatchString(text) {
			d.fail(s.field, fmt.Sprintf("%s is octal to some YAML readers and decimal to others", text),
				fmt.Sprintf("write it without the leading zero, or %q in quotes", text))
			return nil
		}
		return d.number(s)
	case "!!float":
		return d.number(s)
	case "!!str", "!!timestamp":
		return text // a date is read as the string it is: no field takes a date
	default:
		d.fail(s.field, fmt.Sprintf("the YAML tag %s is not read", tag), "write a plain value")
		return nil
	}
}

func (d *document) number(s *site) any {
	var v any
	if err := s.value.Decode(&v); err != nil {
		d.fail(s.field, "is not a number that can be read", "")
		return nil
	}
	switch v := v.(type) {
	case int:
		return int64(v)
	case int64, uint64:
		return v
	case float64:
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			return v
		}
	}
	d.fail(s.field, "must be a finite number", "")
	return nil
}
