package reconcile

import (
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
		"sensitive is masked, with all below it": {
			desired: body{"a": body{"b.c": "new", "d": []any{"new", "same"}}}, live: body{"a": body{"d": []any{"old", "same"}}},
			how:  map[string]Comparator{"a": Sensitive},
			want: []FieldDiff{{Path: `a["b.c"]`, After: masked}, {Path: "a.d[0]", Before: masked, After: masked}}},
		"sensitive, creating": {desired: body{"a": "new"}, how: map[string]Comparator{"a": Sensitive}, want: []FieldDiff{{Path: "a", After: masked}}},
		"fold, another text": {desired: body{"a": "Free"}, live: body{"a": "standard"}, how: map[string]Comparator{"a": Fold},
			want: []FieldDiff{{Path: "a", Before: "standard", After: "Free"}}},
		"fold, no text": {desired: body{"a": "1"}, live: body{"a": 1}, how: map[string]Comparator{"a": Fold},
			want: []FieldDiff{{Path: "a", Before: 1.0, After: "1"}}},
		"region, another": {desired: body{"a": "westeurope"}, live: body{"a": "North Europe"}, how: map[string]Comparator{"a": Region},
			want: []FieldDiff{{Path: "a", Before: "North Europe", After: "westeurope"}}},
		"set, another item": {desired: body{"a": []any{"x"}}, live: body{"a": []any{"y"}}, how: map[string]Comparator{"a": Set},
			want: []FieldDiff{{Path: "a", Before: []any{"y"}, After: []any{"x"}}}},
		"set, items count twice": {desired: body{"a": []any{"x", "x", "y"}}, live: body{"a": []any{"x", "y", "y"}}, how: map[string]Comparator{"a": Set},
			want: []FieldDiff{{Path: "a", Before: []any{"x", "y", "y"}, After: []any{"x", "x", "y"}}}},
		"set, emptied": {desired: body{"a": []any{}}, live: body{"a": []any{"x"}}, how: map[string]Comparator{"a": Set},
			want: []FieldDiff{{Path: "a", Before: []any{"x"}, After: []any{}}}},
		"set, no list": {desired: body{"a": []any{}}, live: body{"a": "x"}, how: map[string]Comparator{"a": Set},
			want: []FieldDiff{{Path: "a", Before: "x", After: []any{}}}},
		"set, a text is no number": {desired: body{"a": []any{"1"}}, live: body{"a": []any{1}}, how: map[string]Comparator{"a": Set},
			want: []FieldDiff{{Path: "a", Before: []any{1}, After: []any{"1"}}}},
		"ranges": {desired: body{"a": []any{"203.0.113.7", "2001:DB8:0::/32", "10.1.0.0/8"}}, live: body{"a": []any{"10.0.0.0/8", "2001:db8::/32", "203.0.113.7/32"}},
			how: map[string]Comparator{"a": CIDRSet}},
		"ranges, another": {desired: body{"a": []any{"203.0.113.7"}}, live: body{"a": []any{"203.0.113.7/31"}}, how: map[string]Comparator{"a": CIDRSet},
			want: []FieldDiff{{Path: "a", Before: []any{"203.0.113.7/31"}, After: []any{"203.0.113.7"}}}},
		"minor": {desired: body{"a": "1.36"}, live: body{"a": "1.36.4"}, how: map[string]Comparator{"a": Minor}},
		"minor, another": {desired: body{"a": "1.3"}, live: body{"a": "1.36.4"}, how: map[string]Comparator{"a": Minor},
			want: []FieldDiff{{Path: "a", Before: "1.36.4", After: "1.3"}}},
		"minor, a patch": {desired: body{"a": "1.36.1"}, live: body{"a": "1.36.12"}, how: map[string]Comparator{"a": Minor},
			want: []FieldDiff{{Path: "a", Before: "1.36.12", After: "1.36.1"}}},
		"default, absent":        {desired: body{"a": false, "b": "Regular"}, live: body{}, how: map[string]Comparator{"a": Default("false"), "b": Default("Regular")}},
		"default, spelled out":   {desired: body{"b": "Regular"}, live: body{"b": "regular"}, how: map[string]Comparator{"b": Default("Regular")}},
		"default, given up":      {desired: body{"a": nil}, live: body{"a": false}, how: map[string]Comparator{"a": Default("false")}},
		"default, another value": {desired: body{"a": true}, live: body{}, how: map[string]Comparator{"a": Default("false")}, want: []FieldDiff{{Path: "a", After: true}}},
		"null takes away": {desired: body{"a": body{"b": nil}}, live: body{"a": body{"b": "x", "c": "y"}},
			want: []FieldDiff{{Path: "a.b", Before: "x"}}},
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
