package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/schema"
)

// everyAction is a plan that has each action, and each kind of difference.
func everyAction(t *testing.T) *reconcile.Plan {
	t.Helper()
	type body = map[string]any
	cluster, image, pool := reconcile.Address("cluster/prod"), reconcile.Address("image/churn"), reconcile.Address("cluster/prod/pool/gpu")
	deployment, keys := reconcile.Address("kube/prod/Deployment/churn"), reconcile.Address("kube/prod/Secret/churn-env")
	desired := []reconcile.Resource{
		{Address: cluster, Driver: "azure", Summary: "AKS cluster for FastProd in ml-prod",
			Desired: body{"sku": body{"tier": "Standard"}, "tags": body{"amlaks-stack": "churn", "cost.center": "42"}}},
		{Address: pool, Driver: "azure", DependsOn: []reconcile.Address{cluster}, Summary: "node pool, 2 x Standard_NC4as_T4_v3",
			Desired:   body{"properties": body{"count": 2, "vmSize": "Standard_NC4as_T4_v3", "nodeTaints": []any{"gpu=true:NoSchedule"}}},
			Compare:   map[string]reconcile.Comparator{"properties.nodeTaints": reconcile.Set},
			Immutable: map[string]reconcile.Strategy{"properties.vmSize": {Action: reconcile.Replace, Why: "properties.vmSize: the pool is made anew"}}},
		{Address: image, Driver: "image", Summary: "scoring image: churn:3", Desired: body{"models": []any{"churn:3"}}},
		{Address: deployment, Driver: "kube", DependsOn: []reconcile.Address{image}, Desired: body{
			"image": reconcile.Ref{Address: image, Output: "ref"}, "script": "import a\nimport b\nrun()\n", "replicas": 2,
			"description": "a value that is longer than what a terminal shows of it, which is a hundred characters, and then it is cut off with an ellipsis"}},
		{Address: keys, Driver: "kube", Desired: body{"data": body{"TOKEN": "new-secret"}}, Compare: map[string]reconcile.Comparator{"data.TOKEN": reconcile.Sensitive}},
		{Address: "kube/prod/Service/churn", Driver: "kube", Desired: body{"port": 80}},
		{Address: "kube/prod/Service/waits", Driver: "kube", Desired: body{"port": 80}},
		{Address: "kube/prod/Service/theirs", Driver: "kube", Desired: body{"port": 80}},
		{Address: "cluster/prod/cidr", Driver: "azure", Desired: body{"serviceCidr": "10.1.0.0/16"},
			Immutable: map[string]reconcile.Strategy{"serviceCidr": {Action: reconcile.Refuse, Why: "serviceCidr: a cluster keeps it for life"}}},
	}
	rotated := reconcile.Address("cluster/prod/pool/agents")
	desired = append(desired, reconcile.Resource{Address: rotated, Driver: "azure", Desired: body{"properties": body{"vmSize": "Standard_D8ds_v5"}},
		Immutable: map[string]reconcile.Strategy{"properties.vmSize": {Action: reconcile.Rotate, Why: "a new pool takes its place, and it is drained and removed"}}})
	own := func(a reconcile.Address, b body) reconcile.Live {
		return reconcile.Live{Address: a, Owner: "churn", Driver: "kube", Body: b}
	}
	waits := own("kube/prod/Service/waits", body{"port": 80})
	waits.State, waits.Status = reconcile.InProgress, "it has no address yet"
	theirs := own("kube/prod/Service/theirs", body{"port": 81})
	theirs.Owner = "fraud"
	attached := own("cluster/shared", body{})
	attached.Attached = true
	protected := own("cluster/old", body{})
	protected.Protected = true
	protected.Notes = []reconcile.Note{{Level: reconcile.Warning, Reason: reconcile.ReasonExpires, Message: "the certificate of score.example.com expires on 2026-12-01",
		Hint: "renew it", Data: map[string]any{"expires": "2026-12-01T00:00:00Z"}}, {Address: cluster, Level: reconcile.Info, Message: "about 512 USD a month"}}
	world := &reconcile.World{Live: []reconcile.Live{
		attached, protected, own(pool, body{"properties": body{"count": 1, "vmSize": "Standard_NC6", "nodeTaints": []any{"gpu=true:NoSchedule"}}}),
		own(rotated, body{"properties": body{"vmSize": "Standard_D4ds_v5"}}),
		own("cluster/prod/cidr", body{"serviceCidr": "10.0.0.0/16"}),
		own(deployment, body{"image": "r/churn@sha256:1", "script": "import a\nrun()\n", "replicas": 2, "description": nil}),
		own("kube/prod/Deployment/gone", body{}), own(keys, body{"data": body{"TOKEN": "old-secret"}}), own("kube/prod/Service/churn", body{"port": 80}), theirs, waits,
	}}
	plan, err := reconcile.NewPlan("churn", desired, world, reconcile.Options{Prune: true, Target: "/subscriptions/0/workspaces/ml-prod"})
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// golden compares with a file, which UPDATE_GOLDEN=1 writes anew.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// The text that people read and the JSON that programs read. The JSON is a promise
// (schema/plan.schema.json): a changed golden is a changed format. UPDATE_GOLDEN=1 writes them.
func TestPlanGoldens(t *testing.T) {
	plan := everyAction(t)
	data, err := plan.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	printPlan(&text, false, plan)
	for name, got := range map[string][]byte{"plan.json": data, "plan.txt": text.Bytes()} {
		golden(t, filepath.Join("testdata", name), got)
		if bytes.Contains(got, []byte("-secret")) {
			t.Errorf("%s shows a secret", name)
		}
	}
	var document map[string]any
	if err := json.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	if violation := schema.CheckPlan(document); violation != nil {
		t.Errorf("%+v", violation)
	}
	seen := map[reconcile.Action]bool{}
	for _, c := range plan.Changes {
		seen[c.Action] = true
	}
	for _, action := range []reconcile.Action{reconcile.NoOp, reconcile.Create, reconcile.Update, reconcile.Replace, reconcile.Rotate, reconcile.Delete,
		reconcile.Detach, reconcile.Wait, reconcile.Refuse} { // Keep needs prune to be off
		if !seen[action] {
			t.Errorf("the plan has no %s", action)
		}
	}
	saved, err := reconcile.DecodePlan("plan.json", data)
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	printPlan(&again, false, saved)
	if diff := cmp.Diff(text.String(), again.String()); diff != "" {
		t.Errorf("shown from the file: %s", diff)
	}
}

func TestExitCodes(t *testing.T) {
	outcome := func(phase reconcile.Phase, reason reconcile.Reason) reconcile.Outcome {
		o := reconcile.Outcome{Phase: phase, Change: reconcile.Change{Address: "a", Action: reconcile.Create}}
		if phase != reconcile.Done {
			o.Err = &reconcile.Failure{Reason: reason, Err: errors.New("e")}
		}
		return o
	}
	done := outcome(reconcile.Done, "")
	for name, test := range map[string]struct {
		outcomes []reconcile.Outcome
		want     int
	}{
		"all done":                      {[]reconcile.Outcome{done}, exitOK},
		"nothing":                       {nil, exitOK},
		"one failed, nothing done":      {[]reconcile.Outcome{outcome(reconcile.Failed, reconcile.ReasonForbidden)}, exitError1},
		"one failed, one done":          {[]reconcile.Outcome{done, outcome(reconcile.Failed, reconcile.ReasonForbidden)}, exitPartial},
		"not healthy":                   {[]reconcile.Outcome{done, outcome(reconcile.Failed, reconcile.ReasonCrashLoop)}, exitNotHealthy},
		"not healthy, and one failed":   {[]reconcile.Outcome{done, outcome(reconcile.Failed, reconcile.ReasonCrashLoop), outcome(reconcile.Failed, "")}, exitPartial},
		"stale":                         {[]reconcile.Outcome{done, outcome(reconcile.Refused, reconcile.ReasonStale), outcome(reconcile.Skipped, reconcile.ReasonDependencyFailed)}, exitStale},
		"stale, and not healthy":        {[]reconcile.Outcome{outcome(reconcile.Refused, reconcile.ReasonStale), outcome(reconcile.Failed, reconcile.ReasonNotHealthy)}, exitNotHealthy},
		"refused":                       {[]reconcile.Outcome{done, outcome(reconcile.Refused, reconcile.ReasonProtected)}, exitRefused},
		"refused by the driver":         {[]reconcile.Outcome{done, outcome(reconcile.Failed, reconcile.ReasonOwned)}, exitRefused},
		"interrupted before it started": {[]reconcile.Outcome{done, outcome(reconcile.Skipped, reconcile.ReasonInterrupted)}, exitInterrupted},
		"interrupted while it ran":      {[]reconcile.Outcome{outcome(reconcile.Failed, reconcile.ReasonInterrupted)}, exitInterrupted},
	} {
		t.Run(name, func(t *testing.T) {
			if got := exitCode(errorOf(&reconcile.Result{Outcomes: test.outcomes})); got != test.want {
				t.Errorf("exit code %d, want %d", got, test.want)
			}
		})
	}
	for name, test := range map[string]struct {
		err  error
		want int
	}{
		"a broken plan":      {&reconcile.Failure{Reason: reconcile.ReasonInvalidPlan, Err: errors.New("e")}, exitInvalid},
		"too many deletions": {&reconcile.Failure{Reason: reconcile.ReasonTooManyDeletes, Err: errors.New("e")}, exitRefused},
		"locked":             {&reconcile.Failure{Reason: reconcile.ReasonLocked, Err: errors.New("e")}, exitError1},
		"interrupted":        {errInterrupted, exitInterrupted},
		"usage":              {usageError{errors.New("e")}, exitError1},
	} {
		if got := exitCode(test.err); got != test.want {
			t.Errorf("%s: exit code %d, want %d", name, got, test.want)
		}
	}
}
