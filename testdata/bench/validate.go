package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// amlaks is what `make build` made.
const amlaks = "bin/amlaks"

// specLines is the length of the file that is validated.
const specLines = 1000

// measureValidate runs `amlaks validate` on a file of a thousand lines.
func measureValidate(ctx context.Context, r *report) error {
	dir := filepath.Join(r.dir, "validate")
	text, err := specOf(dir, 0, func(written string, _ int) bool { return strings.Count(written, "\n") < specLines })
	if err != nil {
		return err
	}
	u, err := repeat(4*r.runs, func() (usage, error) {
		return measure(ctx, nil, nil, amlaks, "validate", "-f", filepath.Join(dir, "amlaks.yaml"))
	})
	if err != nil {
		return err
	}
	lines := strings.Count(text, "\n")
	r.say("%d lines: %.1f ms, %.1f ms CPU, %.0f MiB", lines, 1000*u.seconds(), 1000*u.cpuSeconds(), u.mebibytes())
	what := fmt.Sprintf("%d-line file", lines)
	r.add(what+", whole process", 1000*u.seconds(), "ms", 50)
	r.add(what+", CPU", 1000*u.cpuSeconds(), "ms", 0)
	r.add(what+", memory", u.mebibytes(), "MiB", 0)
	return nil
}

// measureGo runs the Go benchmarks of the packages, whose figures are their own.
func measureGo(ctx context.Context, r *report) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", ".", "-benchtime", "1s", "./spec/...", "./cmd/amlaks-fe/...")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// specOf writes an amlaks.yaml with services, spread over clusters, for as long as more says,
// and what it refers to; it gives its text. With 0 clusters it has one.
func specOf(dir string, clusters int, more func(written string, services int) bool) (string, error) {
	var text strings.Builder
	text.WriteString(`apiVersion: amlaks.io/v1
name: bench
workspace:
  subscriptionId: 00000000-0000-0000-0000-000000000000
  resourceGroup: ml-prod
  name: ml-prod
clusters:
`)
	clusters = max(1, clusters)
	for i := range clusters {
		fmt.Fprintf(&text, `  - name: cluster%d
    purpose: DevTest
    vmSize: Standard_D4ds_v5
    agentCount: 3
    protect: false
    frontEnd: {expose: clusterIP}
`, i)
	}
	text.WriteString("services:\n")
	for i := 0; more(text.String(), i); i++ {
		fmt.Fprintf(&text, `  - name: service-%04d
    cluster: cluster%d
    models: [{name: churn, version: "%d", path: ./model}]
    inference:
      sourceDirectory: ./score
      entryScript: score.py
      command: ["/score"]
      baseImage: scratch
    numReplicas: 1
    resources: {cpu: 0.1, memoryInGB: 0.1}
`, i, i%clusters, i+1)
	}
	for name, content := range map[string]string{"amlaks.yaml": text.String(), "model/model.txt": "a model\n", "score/score.py": "def run(data): return data\n"} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return "", err
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			return "", err
		}
	}
	return text.String(), nil
}
