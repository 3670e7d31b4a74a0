package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
)

func TestPrintPlan(t *testing.T) {
	plan := &reconcile.Plan{Stack: "s", Changes: []reconcile.Change{
		{Address: "cluster/a", Action: reconcile.NoOp},
		{Address: "cluster/prod", Action: reconcile.Create, Summary: "AKS cluster"},
		{Address: "kube/prod/ConfigMap/x", Action: reconcile.Update, Diff: []reconcile.FieldDiff{
			{Path: "data.a", Before: "\x1b[31mred\x1b[0m", After: "\u009b2J"},
			{Path: "data.b", Before: "one\ntwo\x07\n", After: "one\nthree\n"},
			{Path: "data.c", After: "x\ny"},
			{Path: "replicas", Before: 1.0, After: 2.0},
		}},
		{Address: "image/old", Action: reconcile.Delete, Why: "it has left the file\x1b[2J"},
		{Address: "cluster/other", Action: reconcile.Refuse, Why: "it belongs to stack \"x\""},
		{Address: "cluster/still", Action: reconcile.Wait, Why: "an operation is running on it"},
	}}
	const want = `  {g}+{/} cluster/prod           AKS cluster
  {y}~{/} kube/prod/ConfigMap/x
      data.a: ^[[31mred^[[0m -> \u009b2J
      data.b:
        {d}@@ -1,2 +1,2 @@{/}
         one
        {r}-two^G{/}
        {g}+three{/}
      data.c: (none) -> x\ny
      replicas: 1 -> 2
  {r}-{/} image/old              it has left the file^[[2J
  {r}!{/} cluster/other          it belongs to stack "x"
  {d}…{/} cluster/still          an operation is running on it
s: 1 to create, 1 to change, 1 to delete, 1 to wait for, 1 refused
`
	for _, on := range []colors{true, false} {
		var out strings.Builder
		printPlan(&out, on, plan)
		if diff := cmp.Diff(painted(on, want), out.String()); diff != "" {
			t.Errorf("colours %t (-want +got):\n%s", on, diff)
		}
	}
}

// painted replaces the marks of colours in a text.
func painted(on colors, text string) string {
	marks := []string{"{g}", "\x1b[32m", "{y}", "\x1b[33m", "{r}", "\x1b[31m", "{d}", "\x1b[2m", "{/}", "\x1b[0m"}
	for i := 1; !bool(on) && i < len(marks); i += 2 {
		marks[i] = ""
	}
	return strings.NewReplacer(marks...).Replace(text)
}
