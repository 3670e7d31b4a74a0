package azure_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// of gives a stack another name.
func of(name, stack string) string {
	return strings.Replace(stack, "name: churn", "name: "+name, 1)
}

// bytes are a live cluster as ARM sends it, without what any write changes, and without the tags named.
func (w *world) bytes(name string, without ...string) string {
	w.t.Helper()
	status, cluster := w.send(http.MethodGet, clusterID(name), "")
	if status != http.StatusOK {
		w.t.Fatalf("%s: HTTP %d", name, status)
	}
	delete(cluster, "eTag")
	tags, _ := cluster["tags"].(map[string]any)
	for _, tag := range without {
		delete(tags, tag)
	}
	if len(tags) == 0 {
		delete(cluster, "tags")
	}
	pools, _ := at(cluster, "properties", "agentPoolProfiles").([]any)
	for _, pool := range pools {
		delete(pool.(map[string]any), "eTag")
	}
	data, err := json.Marshal(cluster)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(data)
}

func wantSame(t *testing.T, what, before, after string) {
	t.Helper()
	if before != after {
		t.Errorf("%s (-before +after):\n%s", what, cmp.Diff(strings.Split(before, ","), strings.Split(after, ",")))
	}
}

// TestPromise3TwoStacksInOneResourceGroup: what one stack does, to its last cluster, changes
// no byte of the other's.
func TestPromise3TwoStacksInOneResourceGroup(t *testing.T) {
	t.Parallel()
	w := start(t)
	first := clusters("- {name: prod, purpose: DevTest, protect: false, tags: {cost: a}}")
	second := of("fraud", clusters("- {name: dev, purpose: DevTest, protect: false, tags: {cost: a}}"))
	w.converge(first, reconcile.Options{})
	w.converge(second, reconcile.Options{})
	before := w.bytes("dev")
	for _, test := range []struct {
		name, stack string
		options     reconcile.Options
	}{
		{"nothing to do, pruning", first, reconcile.Options{Prune: true}},
		{"a change", clusters("- {name: prod, purpose: DevTest, protect: false, agentCount: 2}"), reconcile.Options{Prune: true}},
		{"one more, pruning the former", clusters("- {name: next, purpose: DevTest, protect: false}"), reconcile.Options{Prune: true}},
		{"destroy", clusters("- {name: next, purpose: DevTest, protect: false}"), reconcile.Options{Destroy: true}},
	} {
		s := w.plan(test.stack, test.options)
		for _, c := range s.plan.Changes {
			if strings.HasPrefix(string(c.Address), "cluster/dev") {
				t.Errorf("%s: the plan has %s %s", test.name, c.Action, c.Address)
			}
		}
		wantDone(t, s.apply(t.Context()))
		wantSame(t, test.name, before, w.bytes("dev"))
	}
	if w.get(clusterID("prod"), "id") != nil || w.get(clusterID("next"), "id") != nil {
		t.Error("the first stack has not been destroyed, so nothing was tried")
	}
	w.wantSteady(second, reconcile.Options{Prune: true})
}

// TestPromise3AnotherStacksNameIsRefused: a file that declares what another stack has made is
// refused, adopt or not, and a destroy of it deletes nothing.
func TestPromise3AnotherStacksNameIsRefused(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.converge(of("fraud", small(onePool)), reconcile.Options{})
	before := w.bytes("prod")
	w.ClearRequests()
	for _, stack := range []string{small("agentCount: 2"), small("agentCount: 2", "adopt: true")} {
		result := w.plan(stack, reconcile.Options{Prune: true}).apply(t.Context())
		wantFailure(t, result, "cluster/prod", reconcile.Refused, reconcile.ReasonOwned)
		wantFailure(t, result, "cluster/prod/pool/agents", reconcile.Skipped, reconcile.ReasonDependencyFailed)
		w.converge(stack, reconcile.Options{Destroy: true})
	}
	w.wantWrites()
	wantSame(t, "the other stack's cluster", before, w.bytes("prod"))
}

// TestPromise3TwoStacksAttachOneCluster: each writes and takes away its own tag alone.
func TestPromise3TwoStacksAttachOneCluster(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.byHand(sandbox.ClusterRequest{Name: "existing"}, map[string]any{"team": "risk"})
	untouched := w.bytes("existing")
	first := clusters(attach("shared", "existing"))
	second := of("fraud", clusters(attach("common", "existing")))
	w.converge(first, reconcile.Options{})
	withFirst := w.bytes("existing")
	w.converge(second, reconcile.Options{})
	wantSame(t, "attached by the second", withFirst, w.bytes("existing", "amlaks-attached-fraud"))
	w.wantSteady(first, reconcile.Options{Prune: true})
	w.wantSteady(second, reconcile.Options{Prune: true})

	s := w.plan(second, reconcile.Options{Destroy: true})
	s.wantActions(map[reconcile.Address]reconcile.Action{"cluster/common": reconcile.Detach})
	wantDone(t, s.apply(t.Context()))
	wantSame(t, "detached by the second", withFirst, w.bytes("existing"))
	w.wantSteady(first, reconcile.Options{Prune: true})
	w.converge(first, reconcile.Options{Destroy: true})
	wantSame(t, "detached by both", untouched, w.bytes("existing"))
}

// TestPromise3OneMakesWhatAnotherAttaches: the one who attached does not change or delete it,
// and the maker's file takes no notice of the other's tag.
func TestPromise3OneMakesWhatAnotherAttaches(t *testing.T) {
	t.Parallel()
	w := start(t)
	maker := small(onePool, "tags: {cost: a}")
	user := of("fraud", clusters(attach("shared", "prod")))
	w.converge(maker, reconcile.Options{})
	before := w.bytes("prod")
	w.converge(user, reconcile.Options{})
	w.wantSteady(maker, reconcile.Options{Prune: true})
	w.converge(small(onePool, "tags: {cost: b}"), reconcile.Options{})
	w.converge(maker, reconcile.Options{})
	w.wantSteady(user, reconcile.Options{})
	wantSame(t, "made by one, attached by the other", before, w.bytes("prod", "amlaks-attached-fraud"))
	w.converge(user, reconcile.Options{Destroy: true})
	wantSame(t, "detached", before, w.bytes("prod"))
}

// TestPromise3AdoptOnlyWhenTold: a cluster and its pool that bear nobody's name are refused,
// and with `adopt: true` become what the file says, while what it does not say stays.
func TestPromise3AdoptOnlyWhenTold(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.byHand(sandbox.ClusterRequest{Name: "prod", AgentCount: 2}, map[string]any{"team": "risk"})
	pool := clusterID("prod") + "/agentPools/nodepool1"
	w.overlay(clusterID("prod"), map[string]any{
		"sku":        map[string]any{"tier": "Premium"},
		"properties": map[string]any{"supportPlan": "AKSLongTermSupport", "autoUpgradeProfile": map[string]any{"upgradeChannel": "patch"}, "kubernetesVersion": "1.36.2"},
	})
	w.overlay(pool, map[string]any{"properties": map[string]any{"nodeLabels": map[string]any{"of": "others"}, "maxPods": 30.0, "mode": "System"}})
	file := func(more string) string {
		return small(onePool, `kubernetesVersion: "1.36"`, "nodePools: [{name: nodepool1, vmSize: Standard_D4ds_v5, labels: {a: b}}]"+more)
	}
	before := w.bytes("prod")
	w.ClearRequests()
	result := w.plan(file(""), reconcile.Options{}).apply(t.Context())
	wantFailure(t, result, "cluster/prod", reconcile.Refused, reconcile.ReasonOwned)
	if why := outcome(t, result, "cluster/prod").Change.Why; !strings.Contains(why, "adopt: true") {
		t.Errorf("why: %q", why)
	}
	w.wantWrites()
	wantSame(t, "refused", before, w.bytes("prod"))

	s := w.plan(file(", adopt: true"), reconcile.Options{})
	s.wantActions(map[reconcile.Address]reconcile.Action{
		"cluster/prod": reconcile.Update, "cluster/prod/pool/agents": reconcile.Create, "cluster/prod/pool/nodepool1": reconcile.Create,
	})
	wantDone(t, s.apply(t.Context()))
	for path, want := range map[string]any{
		"sku.tier": "Free", "tags.team": "risk", "tags.amlaks-stack": "churn", "properties.supportPlan": "AKSLongTermSupport",
		"properties.autoUpgradeProfile.upgradeChannel": "patch", "properties.kubernetesVersion": "1.36.2",
	} {
		if got := w.liveValue(clusterID("prod"), path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	for path, want := range map[string]any{
		"properties.count": 1.0, "properties.mode": "User", "properties.maxPods": 30.0,
		"properties.nodeLabels.of": "others", "properties.nodeLabels.a": "b", "properties.tags.amlaks-stack": "churn",
	} {
		if got := w.liveValue(pool, path); got != want {
			t.Errorf("the pool's %s is %v, want %v", path, got, want)
		}
	}
	w.wantSteady(file(""), reconcile.Options{Prune: true})
}

// TestPromise3AdoptPoolOnlyWhenTold: a pool that somebody has added by hand to the stack's own
// cluster is theirs.
func TestPromise3AdoptPoolOnlyWhenTold(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.converge(small(onePool), reconcile.Options{})
	pool := clusterID("prod") + "/agentPools/gpu"
	if status, answer := w.send(http.MethodPut, pool, `{"properties": {"vmSize": "Standard_NC4as_T4_v3", "count": 2}}`); status != http.StatusCreated {
		t.Fatalf("HTTP %d: %v", status, answer)
	}
	w.wantIdle("prod")
	stack := withGPU("agentCount: 1")
	w.ClearRequests()
	result := w.plan(stack, reconcile.Options{}).apply(t.Context())
	wantFailure(t, result, "cluster/prod/pool/gpu", reconcile.Refused, reconcile.ReasonOwned)
	w.wantWrites()
	// It is not the stack's to prune either.
	w.converge(small(onePool), reconcile.Options{Prune: true})
	if got := w.get(pool, "properties", "count"); got != 2.0 {
		t.Errorf("count %v", got)
	}
	adopting := strings.Replace(stack, "protect: false", "protect: false, adopt: true", 1)
	w.plan(adopting, reconcile.Options{}).wantActions(map[reconcile.Address]reconcile.Action{"cluster/prod/pool/gpu": reconcile.Update})
	w.converge(adopting, reconcile.Options{})
	w.wantSteady(stack, reconcile.Options{Prune: true})
}

// TestPromise5ProtectionOutlivesTheBlock: it is written on the live object, and honoured when
// the cluster has left the file, until a file has taken it back.
func TestPromise5ProtectionOutlivesTheBlock(t *testing.T) {
	t.Parallel()
	w := start(t)
	protected := clusters("- {name: prod, purpose: DevTest}\n- {name: dev, purpose: DevTest, protect: false}")
	without := clusters("- {name: dev, purpose: DevTest, protect: false}")
	w.converge(protected, reconcile.Options{})
	if got := w.tags("prod")["amlaks-protect"]; got != "true" {
		t.Errorf("amlaks-protect is %v: protection is not on the live object", got)
	}
	before := w.bytes("prod")
	for _, o := range []reconcile.Options{{Prune: true}, {Destroy: true}, {Destroy: true, Only: []reconcile.Address{"cluster/prod"}}} {
		result := w.plan(without, o).apply(t.Context())
		wantFailure(t, result, "cluster/prod", reconcile.Refused, reconcile.ReasonProtected)
		wantSame(t, "protected", before, w.bytes("prod"))
	}
	w.converge(strings.Replace(protected, "DevTest}", "DevTest, protect: false}", 1), reconcile.Options{})
	s := w.plan(without, reconcile.Options{Prune: true})
	s.wantActions(map[reconcile.Address]reconcile.Action{"cluster/prod": reconcile.Delete})
	wantDone(t, s.apply(t.Context()))
	if w.get(clusterID("prod"), "id") != nil {
		t.Error("it is still there")
	}
}

// TestPromise5AttachedIsDetachedNeverDeleted: not by prune, not by destroy, not even one that
// bears the tags of a stack's own; and nothing else of it has changed.
func TestPromise5AttachedIsDetachedNeverDeleted(t *testing.T) {
	t.Parallel()
	w := start(t)
	for name, tags := range map[string]map[string]any{
		"plain": {"team": "risk"}, "bare": nil,
		"unprotected": {"amlaks-stack": "another", "amlaks-protect": "false", "amlaks-tags": "team", "team": "risk"},
	} {
		w.byHand(sandbox.ClusterRequest{Name: name}, tags)
		before := w.bytes(name)
		for _, o := range []reconcile.Options{{Prune: true}, {Destroy: true}} {
			stack := clusters(attach("shared", name))
			w.converge(stack, reconcile.Options{})
			if o.Prune {
				stack = clusters("- {name: prod, purpose: DevTest, protect: false}")
			}
			w.ClearRequests()
			s := w.plan(stack, o)
			if got := s.actions()["cluster/shared"]; got != reconcile.Detach {
				t.Errorf("%s: %s", name, got)
			}
			wantDone(t, s.apply(t.Context()))
			for _, r := range w.writes() {
				if strings.HasSuffix(r.Path, "/"+name) && r.Method != http.MethodPatch {
					t.Errorf("%s: %s", name, line(r))
				}
			}
			wantSame(t, name, before, w.bytes(name))
		}
	}
}
