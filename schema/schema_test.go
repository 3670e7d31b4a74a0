package schema

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestCompileRefusesExternalReferences(t *testing.T) {
	for _, ref := range []string{"https://example.com/other.json", "file:///etc/hosts", "other.json"} {
		_, err := Compile("https://amlaks.io/test.json", `{"$ref": "`+ref+`"}`)
		if !errors.Is(err, errExternal) {
			t.Errorf("$ref %s: error %v, want %v", ref, err, errExternal)
		}
	}
}

// TestAmlaksIsComplete checks what an editor needs of each part of the schema:
// objects are closed, properties described and shown by examples that are valid
// (as are the defaults), patterns explained.
func TestAmlaksIsComplete(t *testing.T) {
	var root map[string]any
	if err := json.Unmarshal(Amlaks(), &root); err != nil {
		t.Fatal(err)
	}
	defs := root["$defs"].(map[string]any)
	resolved := func(node map[string]any, keyword string) any {
		for {
			if v, ok := node[keyword]; ok {
				return v
			}
			ref, ok := node["$ref"].(string)
			if !ok {
				return nil
			}
			node = defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
		}
	}
	properties := 0
	var walk func(location string, node map[string]any)
	walk = func(location string, node map[string]any) {
		if node["type"] == "object" || node["properties"] != nil {
			if node["additionalProperties"] == nil {
				t.Errorf("%s: additionalProperties is not given", location)
			}
		}
		if node["pattern"] != nil && node["patternErrorMessage"] == nil {
			t.Errorf("%s: pattern without patternErrorMessage", location)
		}
		if values := examplesOf(node); len(values) > 0 {
			compiled, err := Compile(AmlaksURL+location, amlaks)
			if err != nil {
				t.Fatal(err)
			}
			for _, value := range values {
				if err := compiled.Validate(value); err != nil {
					t.Errorf("%s: example or default %v: %v", location, value, err)
				}
			}
		}
		props, _ := node["properties"].(map[string]any)
		for name, p := range props {
			properties++
			property := p.(map[string]any)
			if resolved(property, "description") == nil {
				t.Errorf("%s: %s has no description", location, name)
			}
			if resolved(property, "examples") == nil && name != "workspace" {
				t.Errorf("%s: %s has no examples", location, name)
			}
			if resolved(property, "type") == nil && property["const"] == nil {
				t.Errorf("%s: %s has no type", location, name)
			}
			walk(location+"/properties/"+name, property)
		}
		for _, keyword := range []string{"items", "additionalProperties", "propertyNames"} {
			if child, ok := node[keyword].(map[string]any); ok {
				walk(location+"/"+keyword, child)
			}
		}
	}
	walk("#", root)
	for name, def := range defs {
		walk("#/$defs/"+name, def.(map[string]any))
	}
	if properties < 100 {
		t.Errorf("%d properties seen, want at least 100", properties)
	}
}

func examplesOf(node map[string]any) []any {
	values, _ := node["examples"].([]any)
	if preset, ok := node["default"]; ok {
		values = append(values[:len(values):len(values)], preset)
	}
	return values
}

// TestEventsIsComplete checks that every field of the events is described, and that the
// examples are valid.
func TestEventsIsComplete(t *testing.T) {
	var root struct {
		Defs map[string]struct {
			Description string                    `json:"description"`
			Properties  map[string]map[string]any `json:"properties"`
			Required    []string                  `json:"required"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(Events(), &root); err != nil {
		t.Fatal(err)
	}
	for kind, def := range root.Defs {
		if def.Description == "" {
			t.Errorf("%s has no description", kind)
		}
		for _, name := range def.Required {
			if def.Properties[name] == nil {
				t.Errorf("%s: %s is required and not there", kind, name)
			}
		}
		for name, property := range def.Properties {
			if property["description"] == nil && property["const"] == nil {
				t.Errorf("%s: %s has no description", kind, name)
			}
			compiled, err := Compile(EventsURL+"#/$defs/"+kind+"/properties/"+name, events)
			if err != nil {
				t.Fatal(err)
			}
			for _, value := range examplesOf(property) {
				if err := compiled.Validate(value); err != nil {
					t.Errorf("%s: %s: example %v: %v", kind, name, value, err)
				}
			}
		}
	}
	if len(root.Defs) < 2 {
		t.Errorf("%d kinds of lines, want an event and a result", len(root.Defs))
	}
}
