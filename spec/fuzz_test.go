package spec

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func addSeeds(f *testing.F) {
	for _, file := range []string{fullExample, "../examples/quickstart/amlaks.yaml"} {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, text := range []string{
		baseFile,
		"",
		"\ufeff" + baseFile,
		"a: &a [*a, *a]\nb: *a\n",
		"<<: {a: 1}\n? [x]\n: y\n",
		"- {a: b, a: c}\n---\n- 2\n",
		"a: !!binary aGk=\nb: !x y\nc: 0x1F\nd: .inf\ne: 2001-01-01\nf: 1e400\n",
		strings.Replace(baseFile, "numReplicas: 2", "autoScaler: {minReplicas: 99999999999999999999}", 1),
		strings.Replace(baseFile, "models: [churn:3]", "models: [churn, 3, null, {name: 5}, {version: 007}]", 1),
		strings.Replace(baseFile, "agentCount: 3", "agentCount: yes\n    tags: {\"a.b\": c, amlaks-: d}", 1),
		strings.Repeat("[", 5000),
		strings.Repeat("a: {", 100),
		"\t- a",
		"\ra\u0085b\u2028- c",
		"a: |\n  -----BEGIN X\n\x00",
	} {
		f.Add([]byte(text))
	}
}

// FuzzParse checks what holds for any bytes: Parse returns, a stack or errors
// but not both, each diagnostic with its place; and a stack, written as JSON,
// reads back as itself.
func FuzzParse(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		stack, diags := Parse("f.yaml", data, "")
		if (stack == nil) != diags.HasErrors() {
			t.Fatalf("stack is nil: %v, with errors: %v", stack == nil, diags.HasErrors())
		}
		lines := len(splitLines(string(data)))
		for i, d := range diags {
			if d.File != "f.yaml" || d.Line < 1 || d.Line > lines || d.Column < 1 || d.Message == "" || strings.ContainsAny(d.Source, "\n\x1b") {
				t.Errorf("diagnostic %+v of a file with %d lines", d, lines)
			}
			if i > 0 && d.Line < diags[i-1].Line {
				t.Errorf("diagnostic %v stands after %v", d, diags[i-1])
			}
		}
		if stack == nil {
			return
		}
		text, err := json.Marshal(stack)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > maxFileSize {
			return
		}
		again, diags := Parse("again.yaml", text, "")
		if err := diags.Err(); err != nil {
			t.Fatalf("read back from %s: %v", text, err)
		}
		if diff := cmp.Diff(stack, again, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("read back (-first +second):\n%s", diff)
		}
	})
}

// FuzzSchema checks that no violation of the schema is lost on the way to the
// diagnostics, and that a stack that was accepted has none.
func FuzzSchema(f *testing.F) {
	addSeeds(f)
	schema := testSchema(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		var tree any
		if json.Unmarshal(data, &tree) != nil {
			d := newDocument("f.yaml")
			if !d.text(data) || !d.tree(data) {
				return
			}
			tree = d.root
		}
		stack, diags := Parse("f.yaml", data, "")
		if err := schema.compiled.Validate(tree); err != nil && !diags.HasErrors() {
			t.Errorf("accepted, but the schema says %v", err)
		}
		if stack == nil {
			return
		}
		text, err := json.Marshal(stack)
		if err != nil {
			t.Fatal(err)
		}
		var accepted any
		if err := json.Unmarshal(text, &accepted); err != nil {
			t.Fatal(err)
		}
		if err := schema.compiled.Validate(accepted); err != nil {
			t.Errorf("a complete stack does not fit the schema: %v", err)
		}
	})
}

// BenchmarkLoad reads a file of about 1,000 lines, from disk to *Stack.
func BenchmarkLoad(b *testing.B) {
	file := b.TempDir() + "/amlaks.yaml"
	text := thousandLines()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, diags := Load(file); diags.HasErrors() {
			b.Fatal(diags)
		}
	}
	b.ReportMetric(float64(strings.Count(text, "\n")), "lines")
}

// thousandLines is a stack of 3 clusters and 57 services, written out.
func thousandLines() string {
	var b strings.Builder
	b.WriteString(workspaceLine + "clusters:\n")
	for _, name := range []string{"one", "two", "three"} {
		b.WriteString("  - name: " + name + "\n    vmSize: Standard_D8ds_v5\n    agentCount: 6\n")
	}
	b.WriteString("services:\n")
	for i := range 57 {
		name := "service-" + string(rune('a'+i/26)) + string(rune('a'+i%26))
		b.WriteString("  - name: " + name + `
    cluster: one
    description: one of many
    models: [` + name + `:3]
    inference:
      baseImage: example.azurecr.io/base@sha256:` + strings.Repeat("0", 64) + `
      command: [./server]
      environmentVariables:
        LOG_LEVEL: info
    resources:
      cpu: 1
      memoryInGB: 2
    authMode: key
    numReplicas: 2
    scoringTimeoutMs: 5000
    livenessProbeRequirements:
      initialDelaySeconds: 5
`)
	}
	return b.String()
}
