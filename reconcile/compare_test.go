package reconcile

import (
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type body = map[string]any

func TestDifferences(t *testing.T) {
	for name, test := range map[string]struct {
		desired, live body
		how           map[string]Comparator
		want          []FieldDiff
	}{
		"equal":                            {desired: body{"a": 1.0}, live: body{"a": 1.0}},
		"numbers of other types":           {desired: body{"a": 3}, live: body{"a": 3.0, "b": int64(1)}},
		"unowned fields are not looked at": {desired: body{"a": body{"b": 1}}, live: body{"a": body{"b": 1, "c": 2}, "d": 3}},
		"scalar": {desired: body{"a": body{"b": 1}}, live: body{"a": body{"b": 2}},
			want: []FieldDiff{{Path: "a.b", Before: 2.0, After: 1.0}}},
		"missing subtree, leaf by leaf": {desired: body{"a": body{"b": 1, "c": "x"}}, live: body{},
			want: []FieldDiff{{Path: "a.b", After: 1.0}, {Path: "a.c", After: "x"}}},
		"null, absent and empty are the same": {desired: body{"a": nil, "b": []any{}, "c": body{}}, live: body{}},
		"zero is not absent":                  {desired: body{"a": 0}, live: body{}, want: []FieldDiff{{Path: "a", After: 0.0}}},
		"empty text is not absent":            {desired: body{"a": ""}, live: body{}, want: []FieldDiff{{Path: "a", After: ""}}},
		"list order counts": {desired: body{"a": []any{"x", "y"}}, live: body{"a": []any{"y", "x"}},
			want: []FieldDiff{{Path: "a[0]", Before: "y", After: "x"}, {Path: "a[1]", Before: "x", After: "y"}}},
		"set order does not": {desired: body{"a": []any{"x", "y"}}, live: body{"a": []any{"y", "x"}}, how: map[string]Comparator{"a": Set}},
		"list length": {desired: body{"a": []any{"x"}}, live: body{"a": []any{"x", "y"}},
			want: []FieldDiff{{Path: "a", Before: []any{"x", "y"}, After: []any{"x"}}}},
		"list items are owned by field": {desired: body{"a": []any{body{"n": 1}}}, live: body{"a": []any{body{"n": 2, "other": true}}},
			want: []FieldDiff{{Path: "a[0].n", Before: 2.0, After: 1.0}}},
		"fold":                    {desired: body{"a": "standard"}, live: body{"a": "Standard"}, how: map[string]Comparator{"a": Fold}},
		"region":                  {desired: body{"a": "westeurope"}, live: body{"a": "West Europe"}, how: map[string]Comparator{"a": Region}},
		"write-only":              {desired: body{"key": "secret"}, live: body{}, how: map[string]Comparator{"key": WriteOnly}},
		"create-only, afterwards": {desired: body{"a": 1}, live: body{"b": 1}, how: map[string]Comparator{"a": CreateOnly}},
		"sensitive is masked": {desired: body{"a": "new"}, live: body{"a": "old"}, how: map[string]Comparator{"a": Sensitive},
			want: []FieldDiff{{Path: "a", Before: masked, After: masked}}},
		"any list index": {desired: body{"a": []any{body{"n": "X"}}}, live: body{"a": []any{body{"n": "x"}}}, how: map[string]Comparator{"a[*].n": Fold}},
		"keys with dots": {desired: body{"labels": body{"a.b/c": "1"}}, live: body{"labels": body{"a.b/c": "2"}},
			want: []FieldDiff{{Path: `labels["a.b/c"]`, Before: "2", After: "1"}}},
		"another type": {desired: body{"a": body{"b": 1}}, live: body{"a": "text"},
			want: []FieldDiff{{Path: "a", Before: "text", After: body{"b": 1}}}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, Differences(test.desired, test.live, test.how)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCreateOnlyCountsWhenCreating(t *testing.T) {
	got := Differences(body{"a": 1.0}, nil, map[string]Comparator{"a": CreateOnly})
	if diff := cmp.Diff([]FieldDiff{{Path: "a", After: 1.0}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestCompareWholeSeesRemovedFields(t *testing.T) {
	got := compareWhole(body{"a": body{"b": 1.0, "gone": "x"}}, body{"a": body{"b": 1.0}}, nil)
	if diff := cmp.Diff([]FieldDiff{{Path: "a.gone", Before: "x"}}, got); diff != "" {
		t.Error(diff)
	}
}

// randomBody is a JSON object of bounded depth.
func randomBody(r *rand.Rand, depth int) body {
	b := body{}
	for range r.IntN(5) {
		b[string(rune('a'+r.IntN(8)))] = randomValue(r, depth)
	}
	return b
}

func randomValue(r *rand.Rand, depth int) any {
	kind := r.IntN(6)
	if depth == 0 {
		kind = r.IntN(3)
	}
	switch kind {
	case 0:
		return r.IntN(3)
	case 1:
		return string(rune('x' + r.IntN(3)))
	case 2:
		return r.IntN(2) == 0
	case 3:
		list := make([]any, r.IntN(4))
		for i := range list {
			list[i] = randomValue(r, depth-1)
		}
		return list
	default:
		return randomBody(r, depth-1)
	}
}

// overlay is what an update does: the owned values over the live body.
func overlay(live, owned body) body {
	out := maps.Clone(live)
	for key, value := range owned {
		below, ok := value.(body)
		liveBelow, liveOK := out[key].(body)
		if ok && liveOK {
			out[key] = overlay(liveBelow, below)
		} else {
			out[key] = value
		}
	}
	return out
}

// TestDifferencesProperties: nothing differs from itself, and nothing differs any more
// once what is desired has been laid over what was there.
func TestDifferencesProperties(t *testing.T) {
	for seed := range uint64(5000) {
		r := rand.New(rand.NewPCG(seed, 1))
		desired, live := randomBody(r, 3), randomBody(r, 3)
		if got := Differences(desired, desired, nil); got != nil {
			t.Fatalf("seed %d: diff(x, x) = %v", seed, got)
		}
		if got := Differences(desired, overlay(live, desired), nil); got != nil {
			t.Fatalf("seed %d: after overlay: %v\ndesired %v\nlive %v", seed, got, desired, live)
		}
		if got := compareWhole(live, live, nil); got != nil {
			t.Fatalf("seed %d: whole diff(x, x) = %v", seed, got)
		}
	}
}
