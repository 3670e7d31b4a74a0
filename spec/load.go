package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	yaml "sigs.k8s.io/yaml/goyaml.v3"
)

// maxFileSize bounds an amlaks.yaml: 1,000 services written out need half of it.
const maxFileSize = 1 << 20

// Load reads and checks the stack in file. The files it names are looked for
// beside it. All problems are reported, sorted by position; the *Stack is nil
// when one of them is an error.
func Load(file string) (*Stack, Diagnostics) {
	data, err := readBounded(file)
	if err != nil {
		return nil, Diagnostics{{Severity: SeverityError, File: file, Message: err.Error()}}
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, Diagnostics{{Severity: SeverityError, File: file, Message: err.Error()}}
	}
	return Parse(file, data, dir)
}

func readBounded(file string) ([]byte, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("does not exist")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", errors.Unwrap(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", errors.Unwrap(err))
	}
	return data, nil
}

// Parse is Load for bytes: name is the file's name in diagnostics, dir the
// absolute folder where relative paths start. With an empty dir no file is
// looked for, and the files that the stack names may be missing.
func Parse(name string, data []byte, dir string) (*Stack, Diagnostics) {
	d := newDocument(name)
	stack := d.parse(bytes.TrimPrefix(data, []byte("\ufeff")), dir)
	diags := d.sorted()
	if diags.HasErrors() {
		return nil, diags
	}
	return stack, diags
}

func (d *document) parse(data []byte, dir string) *Stack {
	if len(data) > maxFileSize {
		d.failAt(1, 1, "", fmt.Sprintf("is larger than %d KiB", maxFileSize>>10), "")
		return nil
	}
	if !d.text(data) || !d.tree(data) {
		return nil
	}
	d.findSecrets()
	d.checkSchema()
	if d.errors > maxErrors {
		return nil
	}
	d.fillDefaults()
	stack, err := d.decode()
	if err != nil {
		if !d.diags.HasErrors() {
			d.failAt(1, 1, "", "cannot be read: "+err.Error(), "")
		}
		return nil
	}
	stack.Dir = dir
	d.checkRules(stack)
	return stack
}

// text splits the file into lines; it must be UTF-8.
func (d *document) text(data []byte) bool {
	if !utf8.Valid(data) {
		good := 0
		for good < len(data) {
			r, n := utf8.DecodeRune(data[good:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			good += n
		}
		before := splitLines(string(data[:good]))
		d.failAt(len(before), utf8.RuneCountInString(before[len(before)-1])+1, "", "is not UTF-8 text", "")
		return false
	}
	d.lines = splitLines(string(data))
	return true
}

// lineBreaks are those of YAML 1.1, by which the YAML library counts lines.
var lineBreaks = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")

func splitLines(text string) []string {
	return strings.Split(lineBreaks.Replace(text), "\n")
}

// tree reads the one document of the file.
func (d *document) tree(data []byte) bool {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := decoder.Decode(&doc); err == io.EOF {
		d.failAt(1, 1, "", "is empty", "amlaks init writes a first file")
		return false
	} else if err != nil {
		d.syntaxError(err)
		return false
	}
	switch err := decoder.Decode(&second); {
	case err == io.EOF:
	case err != nil:
		d.syntaxError(err)
		return false
	default:
		d.failAt(second.Line, second.Column, "", "a second document starts here: a file holds one stack", "put the second stack into a file of its own")
		return false
	}
	root := &site{value: doc.Content[0]}
	d.convert(root, "", 0)
	if d.tooDeep {
		return false
	}
	var isMapping bool
	if d.root, isMapping = root.data.(map[string]any); isMapping {
		return true
	}
	switch {
	case len(d.diags) > 0:
	case root.data == nil:
		d.failAt(1, 1, "", "is empty", "amlaks init writes a first file")
	default:
		d.failAt(root.value.Line, root.value.Column, "", "must be a mapping that starts with apiVersion: "+APIVersion, "")
	}
	return false
}

// decode turns the checked tree into the types.
func (d *document) decode() (*Stack, error) {
	d.normalizeModels()
	text, err := json.Marshal(d.root)
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	var stack Stack
	if err := json.Unmarshal(text, &stack); err != nil {
		return nil, fmt.Errorf("decoding: %w", err)
	}
	return &stack, nil
}

// modelOf reads a model's text form, which the schema has checked: NAME:VERSION, or one of
// the two that az ml has for the same.
func modelOf(text string) map[string]any {
	if asset, ok := strings.CutPrefix(text, "azureml://"); ok {
		// registries/REGISTRY/models/NAME/versions/VERSION
		if parts := strings.Split(asset, "/"); len(parts) == 6 {
			return map[string]any{"registry": parts[1], "name": parts[3], "version": parts[5]}
		}
		return nil
	}
	name, version, ok := strings.Cut(strings.TrimPrefix(text, "azureml:"), ":")
	if !ok {
		return nil
	}
	return map[string]any{"name": name, "version": version}
}

// normalizeModels rewrites name:version and number versions to the object form.
// What is neither has an error already and becomes an empty model.
func (d *document) normalizeModels() {
	for _, s := range d.order {
		switch in := s.in.(type) {
		case []any:
			text, isText := s.data.(string)
			if !isText || !strings.HasSuffix(parentField(s.field), ".models") {
				continue
			}
			in[s.index] = nil
			if !d.broken(s.field) {
				in[s.index] = modelOf(text)
			}
		case map[string]any:
			if s.name != "version" || !strings.HasSuffix(parentField(parentField(s.field)), ".models") {
				continue
			}
			switch version := in[s.name].(type) {
			case string, nil:
			case int64:
				in[s.name] = strconv.FormatInt(version, 10)
			default:
				d.fail(s.field, "is not a number that stays what it is", fmt.Sprintf("write %q, in quotes", s.value.Value))
				in[s.name] = nil
			}
		}
	}
}
