// Package schema holds the JSON Schema (draft 2020-12) of amlaks.yaml: for
// editors, which complete and check a file while it is typed, and for package
// spec, which checks it with the same text. A "default" in the schema is the
// value package spec fills in; defaults that depend on other fields are only
// described there, and are applied by spec. Beside it: the schema of the
// events that apply prints with -o json.
//
// Compile compiles a schema without ever reading a file or the network.
package schema

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v5"
)

//go:embed amlaks.schema.json
var amlaks string

// Amlaks returns the text of amlaks.schema.json. The caller owns it.
func Amlaks() []byte { return []byte(amlaks) }

//go:embed events.schema.json
var events string

// Events returns the text of events.schema.json, the schema of each line that apply and
// destroy print with -o json. The caller owns it.
func Events() []byte { return []byte(events) }

// EventsURL is the $id of events.schema.json. Nothing is fetched from it.
const EventsURL = "https://amlaks.io/schema/v1/events.schema.json"

// AmlaksURL is the $id of amlaks.schema.json. Nothing is fetched from it.
const AmlaksURL = "https://amlaks.io/schema/v1/amlaks.schema.json"

// errExternal refuses what is not part of the text that is compiled.
var errExternal = errors.New("external references are not read")

// Compile compiles the JSON Schema text, whose own address is url; with a
// fragment (#/$defs/NAME) it is that part of the text. A reference to another
// document is an error, the metaschemas of JSON Schema aside.
func Compile(url, text string) (*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	c.Draft = jsonschema.Draft2020
	c.LoadURL = func(ref string) (io.ReadCloser, error) {
		return nil, fmt.Errorf("%s: %w", ref, errExternal)
	}
	address, _, _ := strings.Cut(url, "#") // AddResource panics on a fragment
	if err := c.AddResource(address, strings.NewReader(text)); err != nil {
		return nil, fmt.Errorf("reading schema %s: %w", url, err)
	}
	s, err := c.Compile(url)
	if err != nil {
		return nil, fmt.Errorf("compiling schema: %w", err)
	}
	return s, nil
}
