package azure_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

const gpuKeys = "agentCount: 1, nodePools: [{name: gpu, vmSize: Standard_NC4as_T4_v3, %s}]"

func withGPU(keys string) string { return small(fmt.Sprintf(gpuKeys, keys)) }

// diffs are those of an address in a plan.
func (s *session) diffs(address reconcile.Address) []reconcile.FieldDiff {
	for _, c := range s.plan.Changes {
		if c.Address == address {
			return c.Diff
		}
	}
	return nil
}

// What has left the file goes back to its default, key by key, and the plan says so. What
// others have written into the same maps stays.
func TestLeftTheFile(t *testing.T) {
	t.Parallel()
	w := start(t)
	const (
		prod = reconcile.Address("cluster/prod")
		pool = reconcile.Address("cluster/prod/pool/gpu")
	)
	for name, test := range map[string]struct {
		before, after string
		meanwhile     map[string]map[string]any // by resource below the cluster: what others write
		address       reconcile.Address
		diff          []reconcile.FieldDiff
		write         string
		want          map[string]any // values of the resource then
	}{
		"tag": {
			before: small(onePool, "tags: {cost: a, team: b}"), after: small(onePool, "tags: {team: b}"),
			meanwhile: map[string]map[string]any{"": {"tags": map[string]any{"policy": "x"}}}, address: prod,
			diff:  []reconcile.FieldDiff{{Path: "tags.amlaks-tags", Before: "cost&team", After: "team"}, {Path: "tags.cost", Before: "a"}},
			write: "PUT prod if match",
			want:  map[string]any{"tags": map[string]any{"policy": "x", "team": "b", "amlaks-tags": "team", "amlaks-stack": "churn", "amlaks-protect": "false"}},
		},
		"every tag": {
			before: small(onePool, "tags: {cost: a, team: b}"), after: small(onePool),
			meanwhile: map[string]map[string]any{"": {"tags": map[string]any{"policy": "x"}}}, address: prod,
			diff:  []reconcile.FieldDiff{{Path: "tags.amlaks-tags", Before: "cost&team"}, {Path: "tags.cost", Before: "a"}, {Path: "tags.team", Before: "b"}},
			write: "PUT prod if match",
			want:  map[string]any{"tags": map[string]any{"policy": "x", "amlaks-stack": "churn", "amlaks-protect": "false"}},
		},
		"tag that others have changed": {
			before: small(onePool, "tags: {cost: a}"), after: small(onePool),
			meanwhile: map[string]map[string]any{"": {"tags": map[string]any{"cost": "z"}}}, address: prod,
			diff:  []reconcile.FieldDiff{{Path: "tags.amlaks-tags", Before: "cost"}, {Path: "tags.cost", Before: "z"}},
			write: "PUT prod if match",
			want:  map[string]any{"tags": map[string]any{"amlaks-stack": "churn", "amlaks-protect": "false"}},
		},
		"tag that is gone already": {
			before: small(onePool, "tags: {cost: a}"), after: small(onePool),
			meanwhile: map[string]map[string]any{"": {"tags": map[string]any{"cost": nil}}}, address: prod,
			want: map[string]any{"tags": map[string]any{"amlaks-tags": "cost", "amlaks-stack": "churn", "amlaks-protect": "false"}},
		},
		"node label": {
			before: withGPU("labels: {accelerator: nvidia, example.com/tier: one}"), after: withGPU("labels: {accelerator: nvidia}"),
			meanwhile: map[string]map[string]any{"/agentPools/gpu": {"properties": map[string]any{"nodeLabels": map[string]any{"of": "others"}}}}, address: pool,
			diff: []reconcile.FieldDiff{
				{Path: `properties.nodeLabels["example.com/tier"]`, Before: "one"},
				{Path: "properties.tags.amlaks-labels", Before: "accelerator&example.com/tier", After: "accelerator"},
			},
			write: "PUT prod/agentPools/gpu if match",
			want:  map[string]any{"nodeLabels": map[string]any{"accelerator": "nvidia", "of": "others"}, "tags": map[string]any{"amlaks-stack": "churn", "amlaks-labels": "accelerator"}},
		},
		"every node label": {
			before: withGPU("labels: {accelerator: nvidia}"), after: withGPU("labels: {}"), address: pool,
			diff: []reconcile.FieldDiff{
				{Path: "properties.nodeLabels.accelerator", Before: "nvidia"}, {Path: "properties.tags.amlaks-labels", Before: "accelerator"},
			},
			write: "PUT prod/agentPools/gpu if match",
			want:  map[string]any{"nodeLabels": map[string]any{}, "tags": map[string]any{"amlaks-stack": "churn"}},
		},
		"autoscaler": {
			before: withGPU("minCount: 2, maxCount: 3"), after: withGPU("agentCount: 1"), address: pool,
			diff: []reconcile.FieldDiff{
				{Path: "properties.count", Before: 2.0, After: 1.0}, {Path: "properties.enableAutoScaling", Before: true, After: false},
				{Path: "properties.maxCount", Before: 3.0}, {Path: "properties.minCount", Before: 2.0},
			},
			write: "PUT prod/agentPools/gpu if match",
			want:  map[string]any{"enableAutoScaling": false, "minCount": nil, "maxCount": nil, "count": 1.0},
		},
		"agentCount, for an autoscaler": {
			before: withGPU("agentCount: 2"), after: withGPU("minCount: 1, maxCount: 3"), address: pool,
			diff: []reconcile.FieldDiff{
				{Path: "properties.enableAutoScaling", Before: false, After: true}, {Path: "properties.maxCount", After: 3.0}, {Path: "properties.minCount", After: 1.0},
			},
			write: "PUT prod/agentPools/gpu if match",
			want:  map[string]any{"enableAutoScaling": true, "minCount": 1.0, "maxCount": 3.0, "count": 2.0},
		},
		"address ranges": {
			before: small(onePool, "authorizedIpRanges: [203.0.113.0/24]"), after: small(onePool), address: prod,
			diff:  []reconcile.FieldDiff{{Path: "properties.apiServerAccessProfile.authorizedIPRanges", Before: []any{"203.0.113.0/24"}, After: []any{}}},
			write: "PUT prod if match",
			want:  map[string]any{"apiServerAccessProfile": map[string]any{"authorizedIPRanges": []any{}, "enablePrivateCluster": false}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{Sandbox: w.Sandbox, t: t}
			w.converge(test.before, reconcile.Options{})
			for below, merge := range test.meanwhile {
				w.overlay(clusterID("prod")+below, merge)
			}
			w.ClearRequests()
			s := w.plan(test.after, reconcile.Options{})
			if diff := cmp.Diff(test.diff, s.diffs(test.address)); diff != "" {
				t.Errorf("the plan's diff (-want +got):\n%s", diff)
			}
			wantDone(t, s.apply(t.Context()))
			if test.write == "" {
				w.wantWrites()
			} else {
				w.wantWrites(test.write)
			}
			id := clusterID("prod")
			if test.address == pool {
				id += "/agentPools/gpu"
			}
			for key, want := range test.want {
				got := w.get(id, "properties", key)
				if key == "tags" && test.address == prod {
					got = w.get(id, key)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", key, diff)
				}
			}
			w.wantSteady(test.after, reconcile.Options{})
			w.converge(test.after, reconcile.Options{Destroy: true})
		})
	}
}

// The names of many tags fill several tags, none longer than Azure takes, and are understood again.
func TestManyTags(t *testing.T) {
	t.Parallel()
	w := start(t)
	tags := func(n int) string {
		var lines []string
		for i := range n {
			lines = append(lines, fmt.Sprintf(`"äöü %s %02d": v`, strings.Repeat("n", 50), i))
		}
		return "tags: {" + strings.Join(lines, ", ") + "}"
	}
	w.converge(small(onePool, tags(30)), reconcile.Options{})
	var ledger []string
	for name, value := range w.tags("prod") {
		if strings.HasPrefix(name, "amlaks-tags") {
			ledger = append(ledger, name)
			if n := len([]rune(value.(string))); n > 256 {
				t.Errorf("%s has %d characters", name, n)
			}
		}
	}
	slices.Sort(ledger)
	if len(ledger) != 8 || ledger[0] != "amlaks-tags" || ledger[1] != "amlaks-tags-2" {
		t.Errorf("the names are in %v", ledger)
	}
	w.wantSteady(small(onePool, tags(30)), reconcile.Options{})
	w.converge(small(onePool, tags(3)), reconcile.Options{})
	w.wantSteady(small(onePool, tags(3)), reconcile.Options{})
	if got := slices.Sorted(maps.Keys(w.tags("prod"))); len(got) != 3+2+1 {
		t.Errorf("tags left: %q", got)
	}
}

// Names that do not fit into Azure's 50 tags, or into one of them, are refused before anything
// is written.
func TestTooManyTags(t *testing.T) {
	t.Parallel()
	w := start(t)
	many := func(n, length int) string {
		var lines []string
		for i := range n {
			lines = append(lines, fmt.Sprintf(`"%s%02d": v`, strings.Repeat("n", length), i))
		}
		return "tags: {" + strings.Join(lines, ", ") + "}"
	}
	for name, test := range map[string]struct{ tags, want string }{
		"many": {many(40, 120), "62 tags, with those in which amlaks keeps the names of what it has set, are more than the 50 that Azure takes"},
		"long": {many(1, 300), "is longer than 256 characters"},
	} {
		driver, err := azure.New(w.connect(false), parse(t, small(onePool, test.tags)), azure.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = driver.Resources(); err == nil || !strings.Contains(err.Error(), "cluster/prod: tags:") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A cluster from before the names were written down needs no write for their sake, and gets
// them with its next one.
func TestLedgerAlone(t *testing.T) {
	t.Parallel()
	w := start(t)
	stack := small("agentCount: 1, nodePools: [{name: gpu, vmSize: Standard_NC4as_T4_v3, labels: {a: b}}]", "tags: {cost: a}")
	w.converge(stack, reconcile.Options{})
	pool := clusterID("prod") + "/agentPools/gpu"
	w.overlay(clusterID("prod"), map[string]any{"tags": map[string]any{"amlaks-tags": nil}})
	w.overlay(pool, map[string]any{"properties": map[string]any{"tags": map[string]any{"amlaks-labels": nil}}})
	w.wantSteady(stack, reconcile.Options{})
	w.converge(small("agentCount: 1, nodePools: [{name: gpu, vmSize: Standard_NC4as_T4_v3, agentCount: 2, labels: {a: b}}]", "tags: {cost: b}"), reconcile.Options{})
	if got := w.tags("prod")["amlaks-tags"]; got != "cost" {
		t.Errorf("the cluster's tags are written down as %v", got)
	}
	if got := w.get(pool, "properties", "tags", "amlaks-labels"); got != "a" {
		t.Errorf("the pool's labels are written down as %v", got)
	}
}

// What another stack wrote down as its own is not ours to take away when its cluster is adopted.
func TestAdoptedLedger(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.byHand(sandbox.ClusterRequest{Name: "prod"}, map[string]any{"cost": "a", "amlaks-tags": "cost"})
	stack := small("adopt: true", onePool, "tags: {team: b}")
	w.converge(stack, reconcile.Options{})
	want := map[string]any{"cost": "a", "team": "b", "amlaks-tags": "team", "amlaks-stack": "churn", "amlaks-protect": "false"}
	if diff := cmp.Diff(want, w.tags("prod")); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	w.wantSteady(stack, reconcile.Options{})
}
