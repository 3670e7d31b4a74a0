package spec

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDiagnosticJSON fixes what -o json prints.
func TestDiagnosticJSON(t *testing.T) {
	_, diags := Parse("amlaks.yaml", []byte(strings.Replace(baseFile, "numReplicas: 2", "numReplicas: 0", 1)), "")
	got, err := json.Marshal(diags)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"severity":"error","file":"amlaks.yaml","line":15,"column":5,"field":"services[0].numReplicas",` +
		`"message":"must be at least 1","source":"    numReplicas: 0","caret":18}]`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
}

func TestWarningsAreNoError(t *testing.T) {
	stack, diags := Parse("amlaks.yaml", []byte(strings.Replace(baseFile, "numReplicas: 2", "autoScaler: {}", 1)), "")
	if stack == nil || diags.HasErrors() || diags.Err() != nil || len(diags) != 1 {
		t.Errorf("stack %v, diagnostics %v, want a stack and one warning", stack, diags)
	}
}

// TestExcerpt checks that an excerpt cannot drive a terminal or flood it.
func TestExcerpt(t *testing.T) {
	for line, want := range map[string]string{
		"a\tb\r":                 "a b",
		"a \x1b[31mred":          "a  [31mred",
		"   ":                    "",
		strings.Repeat("é", 200): strings.Repeat("é", sourceWidth) + "...",
	} {
		if got := excerpt(line); got != want {
			t.Errorf("excerpt(%q) = %q, want %q", line, got, want)
		}
	}
}
