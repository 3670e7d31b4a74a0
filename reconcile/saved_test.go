package reconcile

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/schema"
)

// cloud is a driver over bodies in memory. Every resource gives its address as output id.
type cloud struct {
	mu      sync.Mutex
	live    map[Address]body
	owner   map[Address]string
	writes  []string
	onWrite func(Address) // before the first read of what is written next
}

func newCloud() *cloud { return &cloud{live: map[Address]body{}, owner: map[Address]string{}} }

func (c *cloud) Name() string { return "cloud" }

func (c *cloud) at(a Address) *Live {
	b, ok := c.live[a]
	if !ok {
		return nil
	}
	return &Live{Address: a, Owner: c.owner[a], Body: maps.Clone(b), State: Settled, Outputs: map[string]string{"id": "id-of-" + string(a)}}
}

func (c *cloud) Observe(context.Context, Request) ([]Live, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var live []Live
	for a := range c.live {
		live = append(live, *c.at(a))
	}
	return live, nil
}

func (c *cloud) Read(_ context.Context, s Step) (*Live, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at(s.Change.Address), nil
}

func (c *cloud) Apply(_ context.Context, s Step) (map[string]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := s.Change.Address
	c.writes = append(c.writes, string(s.Change.Action)+" "+string(a))
	if s.Change.Action.deletes() {
		delete(c.live, a)
		return nil, nil
	}
	if c.live[a] == nil {
		c.live[a] = body{}
	}
	c.live[a], c.owner[a] = overlay(c.live[a], s.Desired), s.Stack
	if c.onWrite != nil {
		c.onWrite(a)
	}
	return map[string]string{"id": "id-of-" + string(a)}, nil
}

// file is what a stack declares: an image, a deployment of it, and something beside them.
func file(model string, size int) []Resource {
	return []Resource{
		{Address: "image", Driver: "cloud", Desired: body{"model": model}},
		{Address: "deployment", Driver: "cloud", DependsOn: []Address{"image"}, Desired: body{"image": Ref{"image", "id"}, "cpu": 1}},
		{Address: "pool", Driver: "cloud", Desired: body{"count": size}},
	}
}

func (c *cloud) plan(t *testing.T, desired []Resource, o Options) *Plan {
	t.Helper()
	world, err := Observe(t.Context(), []Driver{c}, stack, desired)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPlan(stack, desired, world, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// save writes a plan and reads it again, as another process does.
func save(t *testing.T, p *Plan) *Plan {
	t.Helper()
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	saved, err := DecodePlan("p.json", data)
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

// apply carries a saved plan out and gives how each change ended.
func (c *cloud) apply(t *testing.T, saved *Plan, desired []Resource) (map[Address]string, int, *Result) {
	t.Helper()
	c.writes = nil
	bound, extra := saved.Bind(c.plan(t, desired, saved.Options))
	result := Apply(t.Context(), []Driver{c}, bound, ApplyOptions{Exact: true})
	ends := map[Address]string{}
	for _, o := range result.Outcomes {
		ends[o.Change.Address] = strings.TrimSuffix(string(o.Phase)+" "+string(ReasonOf(o.Err)), " ")
	}
	return ends, extra, result
}

var allDone = map[Address]string{"image": "done", "deployment": "done", "pool": "done"}

func TestSavedPlanIsCarriedOut(t *testing.T) {
	c := newCloud()
	saved := save(t, c.plan(t, file("churn:1", 1), Options{}))
	ends, extra, _ := c.apply(t, saved, file("churn:1", 1))
	if diff := cmp.Diff(allDone, ends); diff != "" || extra != 0 {
		t.Errorf("%d extra, %s", extra, diff)
	}
	if got := c.live["deployment"]["image"]; got != "id-of-image" {
		t.Errorf("the image is %v", got)
	}
	t.Run("twice: nothing is left to do, and nothing is written", func(t *testing.T) {
		ends, _, _ := c.apply(t, saved, file("churn:1", 1))
		if diff := cmp.Diff(allDone, ends); diff != "" || len(c.writes) != 0 {
			t.Errorf("writes %v, %s", c.writes, diff)
		}
	})
	t.Run("a third time, when its effect was undone: it is the same decision again", func(t *testing.T) {
		delete(c.live, "pool")
		if c.apply(t, saved, file("churn:1", 1)); !slices.Equal(c.writes, []string{"create pool"}) {
			t.Errorf("writes %v", c.writes)
		}
	})
}

// converged is a cloud that is what the file says.
func converged(t *testing.T, desired []Resource) *cloud {
	t.Helper()
	c := newCloud()
	Apply(t.Context(), []Driver{c}, c.plan(t, desired, Options{}), ApplyOptions{})
	return c
}

func TestUnrelatedChangeInBetween(t *testing.T) {
	c := converged(t, file("churn:1", 1))
	saved := save(t, c.plan(t, file("churn:1", 2), Options{}))
	c.live["deployment"]["cpu"] = 8                // drift of what the plan leaves alone
	c.live["pool"]["tags"] = "by somebody"         // a path that is not owned
	c.live["foreign"] = body{"not": "the stack's"} // another object
	ends, extra, _ := c.apply(t, saved, file("churn:1", 2))
	if diff := cmp.Diff(allDone, ends); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"update pool"}, c.writes); diff != "" || extra != 1 {
		t.Errorf("%d extra (want the drift), %s", extra, diff)
	}
}

func TestRelatedChangeIsRefusedAndItsDependentsSkipped(t *testing.T) {
	for name, test := range map[string]struct {
		meddle  func(*cloud)
		desired []Resource // by then
		ends    map[Address]string
		now     Change // of the refused one
	}{
		"in the world": {
			meddle:  func(c *cloud) { c.live["image"]["model"] = "churn:0"; c.live["pool"]["count"] = 7 },
			desired: file("churn:2", 2),
			ends:    map[Address]string{"image": "refused Stale", "deployment": "done", "pool": "refused Stale"}, // the deployment has nothing to do
			now:     Change{Address: "pool", Driver: "cloud", Action: Update, Diff: []FieldDiff{{"count", 7.0, 2.0}}},
		},
		"in the file": {
			meddle:  func(*cloud) {},
			desired: file("churn:2", 3),
			ends:    map[Address]string{"image": "done", "deployment": "done", "pool": "refused Stale"},
			now:     Change{Address: "pool", Driver: "cloud", Action: Update, Diff: []FieldDiff{{"count", 1.0, 3.0}}},
		},
		"it is somebody else's now": {
			meddle:  func(c *cloud) { c.owner["pool"] = "other" },
			desired: file("churn:2", 2),
			ends:    map[Address]string{"image": "done", "deployment": "done", "pool": "refused Stale"},
			now: Change{Address: "pool", Driver: "cloud", Action: Refuse, Reason: ReasonOwned, Why: `it belongs to stack "other"`,
				Diff: []FieldDiff{{"count", 1.0, 2.0}}},
		},
		"it is gone": {
			meddle:  func(c *cloud) { delete(c.live, "pool") },
			desired: file("churn:2", 2),
			ends:    map[Address]string{"image": "done", "deployment": "done", "pool": "refused Stale"},
			now:     Change{Address: "pool", Driver: "cloud", Action: Create, Diff: []FieldDiff{{"count", nil, 2.0}}},
		},
		"it is not in the file any more": {
			meddle:  func(*cloud) {},
			desired: file("churn:2", 2)[:2],
			ends:    map[Address]string{"image": "done", "deployment": "done", "pool": "refused Stale"},
			now:     Change{Address: "pool", Driver: "cloud", Action: Keep, Why: "it has left the file; --prune would remove it"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := converged(t, file("churn:1", 1))
			saved := save(t, c.plan(t, file("churn:2", 2), Options{}))
			test.meddle(c)
			before := maps.Clone(c.live["pool"])
			ends, _, result := c.apply(t, saved, test.desired)
			if diff := cmp.Diff(test.ends, ends); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(before, c.live["pool"]); diff != "" {
				t.Errorf("the refused one was changed: %s", diff)
			}
			for _, o := range result.Outcomes {
				if o.Change.Address == "pool" {
					if diff := cmp.Diff(test.now, *o.Now, decision); diff != "" {
						t.Error(diff)
					}
				}
			}
		})
	}
	t.Run("dependents", func(t *testing.T) {
		c := newCloud()
		saved := save(t, c.plan(t, file("churn:1", 1), Options{}))
		ends, _, _ := c.apply(t, saved, file("churn:2", 1))
		want := map[Address]string{"image": "refused Stale", "deployment": "skipped DependencyFailed", "pool": "done"}
		if diff := cmp.Diff(want, ends); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("an image of another model is there already: nobody approved it", func(t *testing.T) {
		c := newCloud()
		saved := save(t, c.plan(t, file("churn:1", 1), Options{}))
		c.live["image"], c.owner["image"] = body{"model": "churn:2"}, stack
		ends, _, _ := c.apply(t, saved, file("churn:2", 1))
		if ends["image"] != "refused Stale" || ends["deployment"] != "skipped DependencyFailed" {
			t.Errorf("%v", ends)
		}
	})
}

// What changes while a plan is being carried out is seen too: each resource is read again
// right before it is changed.
func TestChangedWhileApplying(t *testing.T) {
	c := converged(t, file("churn:1", 1))
	desired := file("churn:1", 1)
	desired[0].Desired["model"] = "churn:2"
	desired[1].Desired["cpu"] = 2
	saved := save(t, c.plan(t, desired, Options{}))
	c.onWrite = func(a Address) {
		if a == "image" {
			c.live["deployment"]["cpu"] = 64
		}
	}
	ends, _, _ := c.apply(t, saved, desired)
	if ends["image"] != "done" || ends["deployment"] != "refused Stale" || c.live["deployment"]["cpu"] != 64 {
		t.Errorf("%v %v", ends, c.live["deployment"])
	}
}

// A plan that was carried out in part goes on from there: its unknowns are known by now.
func TestKilledSavedPlanGoesOn(t *testing.T) {
	for _, there := range [][]Address{{"image"}, {"image", "deployment"}, {"pool"}} {
		c := newCloud()
		saved := save(t, c.plan(t, file("churn:1", 1), Options{}))
		full := converged(t, file("churn:1", 1))
		for _, a := range there {
			c.live[a], c.owner[a] = full.live[a], stack
		}
		ends, _, _ := c.apply(t, saved, file("churn:1", 1))
		if diff := cmp.Diff(allDone, ends); diff != "" || len(c.writes) != 3-len(there) {
			t.Errorf("with %v: writes %v, %s", there, c.writes, diff)
		}
	}
}

func TestSavedDeletions(t *testing.T) {
	c := converged(t, file("churn:1", 1))
	only := file("churn:1", 1)[:2]
	saved := save(t, c.plan(t, only, Options{Prune: true}))
	if ends, _, _ := c.apply(t, saved, only); ends["pool"] != "done" || c.live["pool"] != nil {
		t.Errorf("%v", ends)
	}
	if c.apply(t, saved, only); len(c.writes) != 0 {
		t.Errorf("a second time: %v", c.writes)
	}
	c.live["pool"], c.owner["pool"] = body{"count": 1.0}, "other"
	if c.apply(t, saved, only); len(c.writes) != 0 {
		t.Errorf("somebody else's now: %v", c.writes)
	}
}

func TestDecodePlan(t *testing.T) {
	c := converged(t, file("churn:1", 1))
	data, err := c.plan(t, file("churn:2", 2), Options{}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	replace := func(old, new string) []byte {
		if !bytes.Contains(data, []byte(old)) {
			t.Fatalf("%q is not in the plan:\n%s", old, data)
		}
		return bytes.Replace(data, []byte(old), []byte(new), 1)
	}
	for name, test := range map[string]struct {
		data  []byte
		want  string
		shown bool
	}{
		"empty":            {nil, "p.json:1:1: not a plan: EOF", false},
		"cut off":          {data[:len(data)/2], "not a plan: unexpected EOF", false},
		"not JSON":         {[]byte("stack: churn"), "p.json:1:1: not a plan: invalid character 's'", false},
		"two of them":      {append(slices.Clone(data), '{'), "something follows it", false},
		"another JSON":     {[]byte(`{"a": 1}`), "p.json:1:1: formatVersion: not a plan of amlaks", false},
		"a list":           {[]byte(`[]`), "p.json:1:1: formatVersion: not a plan of amlaks", false},
		"newer format":     {replace(`"formatVersion": "1.1"`, `"formatVersion": "2.0"`), "p.json:2:20: formatVersion: the plan has format 2.0; this amlaks reads 1.x", false},
		"unknown action":   {replace(`"action": "update"`, `"action": "explode"`), "changes/", false},
		"tampered":         {replace(`"after": 2`, `"after": 3`), "digest: the plan was changed after it was made", true},
		"tampered options": {replace(`"prune": false`, `"prune": true`), "digest: the plan was changed after it was made", true},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := DecodePlan("p.json", test.data)
			if err == nil || !strings.Contains(err.Error(), test.want) || ReasonOf(err) != ReasonInvalidPlan || HintOf(err) == "" {
				t.Errorf("got %v (%s, %s), want %q", err, ReasonOf(err), HintOf(err), test.want)
			}
			if (p != nil) != test.shown {
				t.Errorf("shown: %v", p != nil)
			}
		})
	}
	t.Run("the place is named", func(t *testing.T) {
		_, err := DecodePlan("p.json", replace(`"action": "update"`, `"action": "explode"`))
		line := 1 + bytes.Count(data[:bytes.Index(data, []byte(`"action": "update"`))], []byte("\n"))
		if !strings.HasPrefix(err.Error(), "p.json:"+strconv.Itoa(line)+":17: changes/0/action: value must be one of") {
			t.Errorf("line %d: %v", line, err)
		}
	})
	t.Run("white space, key order and a newer minor version do not matter", func(t *testing.T) {
		var content map[string]any
		if err := json.Unmarshal(data, &content); err != nil {
			t.Fatal(err)
		}
		content["formatVersion"], content["cost"] = "1.9", map[string]any{"monthly": 12.5}
		delete(content, "digest")
		content["digest"] = digestOf(content)
		other, err := json.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodePlan("p.json", other); err != nil {
			t.Error(err)
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Every plan of the tables above is what the schema says.
func TestPlansAreWhatTheSchemaSays(t *testing.T) {
	c := converged(t, file("churn:1", 1))
	c.owner["pool"] = "other"
	c.live["old"], c.owner["old"] = body{}, stack
	for _, o := range []Options{{}, {Prune: true}, {Destroy: true}, {Only: []Address{"image"}}} {
		data := must(c.plan(t, file("churn:2", 2), o).Encode())
		var document any
		if err := json.Unmarshal(data, &document); err != nil {
			t.Fatal(err)
		}
		if violation := schema.CheckPlan(document); violation != nil {
			t.Errorf("%+v: %+v\n%s", o, violation, data)
		}
	}
}
