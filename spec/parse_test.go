package spec

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// baseFile is a valid file, which the cases of these tests change in one place.
const baseFile = `apiVersion: amlaks.io/v1
name: churn
workspace: {subscriptionId: 00000000-0000-0000-0000-000000000000, resourceGroup: ml, name: ml-prod}
clusters:
  - name: prod
    vmSize: Standard_D4ds_v5
    agentCount: 3
services:
  - name: churn
    cluster: prod
    models: [churn:3]
    inference:
      baseImage: scratch
      command: [./server]
    numReplicas: 2
`

// diagnosticCase puts text in the place of replace, and wants what Format prints.
type diagnosticCase struct {
	name, replace, text, want string
}

func runDiagnosticCases(t *testing.T, cases []diagnosticCase) {
	dir := caseDir(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if strings.Count(baseFile, c.replace) != 1 {
				t.Fatalf("%q is in the base file %d times, want 1", c.replace, strings.Count(baseFile, c.replace))
			}
			stack, diags := Parse("amlaks.yaml", []byte(strings.Replace(baseFile, c.replace, c.text, 1)), dir)
			var got strings.Builder
			if err := diags.Format(&got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.TrimPrefix(c.want, "\n"), got.String()); diff != "" {
				t.Errorf("diagnostics (-want +got):\n%s", diff)
			}
			if (stack == nil) != diags.HasErrors() {
				t.Errorf("stack is nil: %v, with errors: %v", stack == nil, diags.HasErrors())
			}
		})
	}
}

// caseDir is a folder with what the cases refer to.
func caseDir(t *testing.T) string {
	t.Helper()
	top := t.TempDir()
	dir := filepath.Join(top, "repository")
	for _, folder := range []string{"repository/score", "repository/model", "repository/folder.txt", "outside"} {
		if err := os.MkdirAll(filepath.Join(top, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"score/score.py", "score/score.sh", "score/my-score.py", "pylock.toml"} {
		if err := os.WriteFile(filepath.Join(dir, file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../outside", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	return dir
}
