package reconcile

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// keys are few, so that two random bodies meet, and some need quotes in a path.
var keys = [...]string{"a", "b", "c", "d", "e.f", "g/h", `i"j`, "k[0]"}

// randomBody is a JSON object of bounded depth.
func randomBody(r *rand.Rand, depth int) body {
	b := body{}
	for range r.IntN(5) {
		b[keys[r.IntN(len(keys))]] = randomValue(r, depth)
	}
	return b
}

func randomValue(r *rand.Rand, depth int) any {
	kind := r.IntN(8)
	if depth == 0 {
		kind = r.IntN(5)
	}
	switch kind {
	case 0:
		return float64(r.IntN(3))
	case 1:
		return string(rune('x' + r.IntN(3)))
	case 2:
		return r.IntN(2) == 0
	case 3:
		return nil
	case 4:
		return [...]string{"", "West Europe", "westeurope", "10.0.0.0/8", "10.1.0.0/8", "1.36", "1.36.1"}[r.IntN(7)]
	case 5:
		list := make([]any, r.IntN(4))
		for i := range list {
			list[i] = randomValue(r, depth-1)
		}
		return list
	default:
		return randomBody(r, depth-1)
	}
}

// randomComparators gives some of the paths of a body a comparator.
func randomComparators(r *rand.Rand, path string, v any, into map[string]Comparator) {
	all := [...]Comparator{Fold, Region, Set, CIDRSet, Minor, WriteOnly, CreateOnly, Sensitive, Default("x"), Default("false")}
	if path != "" && r.IntN(4) == 0 {
		into[path] = all[r.IntN(len(all))]
	}
	switch v := v.(type) {
	case body:
		for key, item := range v {
			randomComparators(r, joinPath(path, key), item, into)
		}
	case []any:
		for i, item := range v {
			randomComparators(r, path+"["+strconv.Itoa(i)+"]", item, into)
		}
	}
}

// steps takes a path of a FieldDiff apart: keys, and list indices.
func steps(t *testing.T, path string) []any {
	t.Helper()
	var out []any
	for path != "" {
		switch {
		case path[0] == '.':
			path = path[1:]
		case strings.HasPrefix(path, `["`):
			quoted, err := strconv.QuotedPrefix(path[1:])
			if err != nil {
				t.Fatalf("%q: %v", path, err)
			}
			key, err := strconv.Unquote(quoted)
			if err != nil {
				t.Fatal(err)
			}
			out, path = append(out, key), path[1+len(quoted)+1:]
		case path[0] == '[':
			end := strings.IndexByte(path, ']')
			i, err := strconv.Atoi(path[1:end])
			if err != nil {
				t.Fatal(err)
			}
			out, path = append(out, i), path[end+1:]
		default:
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			out, path = append(out, path[:end]), path[end:]
		}
	}
	return out
}

// put does what one FieldDiff says to a value, and gives what has become of it.
func put(v any, at []any, after any) any {
	if len(at) == 0 {
		return after
	}
	switch key := at[0].(type) {
	case int:
		v.([]any)[key] = put(v.([]any)[key], at[1:], after)
	case string:
		object, ok := v.(body)
		if !ok {
			object = body{}
		}
		if below := put(object[key], at[1:], after); below == nil {
			delete(object, key)
		} else {
			object[key] = below
		}
		return object
	}
	return v
}

func copied(t *testing.T, b body) body {
	t.Helper()
	data, err := json.Marshal(b)
	var out body
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
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

// TestDifferencesProperties: nothing differs from itself; and who does what diff(a, b) says
// to a has everything that b owns, whatever a was.
func TestDifferencesProperties(t *testing.T) {
	differing := 0
	for seed := range uint64(20000) {
		r := rand.New(rand.NewPCG(seed, 1))
		desired, live := randomBody(r, 3), randomBody(r, 3)
		how := map[string]Comparator{}
		randomComparators(r, "", desired, how)
		if got := Differences(desired, desired, how); got != nil {
			t.Fatalf("seed %d: diff(x, x) = %v\nx %v\n%v", seed, got, desired, how)
		}
		if got := compareWhole(live, live, how); got != nil {
			t.Fatalf("seed %d: whole diff(x, x) = %v", seed, got)
		}
		for path, one := range how { // a masked value cannot be put in place
			if one == Sensitive || one == WriteOnly {
				delete(how, path)
			}
		}
		for name, compare := range map[string]func(body, body) []FieldDiff{
			"owned": func(want, have body) []FieldDiff { return Differences(want, have, how) },
			"whole": func(want, have body) []FieldDiff { return compareWhole(have, want, how) },
		} {
			diffs, result := compare(desired, live), any(copied(t, live))
			differing += len(diffs)
			for _, d := range diffs {
				result = put(result, steps(t, d.Path), d.After)
			}
			if got := compare(desired, result.(body)); got != nil {
				t.Fatalf("seed %d: %s: after doing what the diff said: %v\ndesired %v\nlive %v\nresult %v\n%v", seed, name, got, desired, live, result, how)
			}
		}
	}
	if differing == 0 {
		t.Error("no two of the bodies differed: nothing was tried")
	}
}

// TestOwnedIsWithinDesired: an owned diff never names a path that the desired body lacks.
func TestOwnedIsWithinDesired(t *testing.T) {
	for seed := range uint64(5000) {
		r := rand.New(rand.NewPCG(seed, 3))
		desired, live := randomBody(r, 3), randomBody(r, 3)
		for _, d := range Differences(desired, live, nil) {
			var v any = desired
			for _, step := range steps(t, d.Path) {
				switch key := step.(type) {
				case int:
					v = v.([]any)[key]
				case string:
					item, ok := v.(body)[key]
					if !ok {
						t.Fatalf("seed %d: %s is not in %v", seed, d.Path, desired)
					}
					v = item
				}
			}
		}
	}
}

// TestSetOrder: the order of a list with Set, CIDRSet never makes a difference; without, it does.
func TestSetOrder(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 4))
		list := make([]any, 2+r.IntN(5))
		for i := range list {
			list[i] = []any{randomValue(r, 2), i} // all are different
		}
		shuffled := append([]any{}, list...)
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		for _, how := range []Comparator{Set, CIDRSet} {
			if got := Differences(body{"l": list}, body{"l": shuffled}, map[string]Comparator{"l": how}); got != nil {
				t.Fatalf("seed %d: %s: %v", seed, how, got)
			}
		}
		reversed := append([]any{}, list...)
		reversed[0], reversed[1] = reversed[1], reversed[0]
		if Differences(body{"l": list}, body{"l": reversed}, nil) == nil {
			t.Fatalf("seed %d: the order of %v made no difference", seed, list)
		}
	}
}

// TestMapOrder: a diff is the same however the maps were built.
func TestMapOrder(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 5))
		desired, live := randomBody(r, 3), randomBody(r, 3)
		first, err := json.Marshal(Differences(desired, live, nil))
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			again, err := json.Marshal(Differences(copied(t, desired), copied(t, live), nil))
			if err != nil || string(again) != string(first) {
				t.Fatalf("seed %d: %s and %s (%v)", seed, first, again, err)
			}
		}
	}
}

// FuzzDifferences: whatever JSON it gets, it does not panic, and nothing differs from itself.
func FuzzDifferences(f *testing.F) {
	f.Add(`{"a": {"b": [1, "x", null]}}`, `{"a": {"b": "x"}}`, "a.b", "set")
	f.Add(`{"tags": {"a.b": "c"}, "l": [{"n": 1}]}`, `{"tags": null, "l": []}`, "l[*].n", "fold")
	f.Add(`{"r": ["10.0.0.0/8"], "v": "1.36"}`, `{"r": [{}], "v": 1.36}`, "r", "cidrSet")
	f.Fuzz(func(t *testing.T, want, have, path, how string) {
		var desired, live body
		if json.Unmarshal([]byte(want), &desired) != nil || json.Unmarshal([]byte(have), &live) != nil {
			t.Skip()
		}
		table := map[string]Comparator{path: Comparator(how)}
		if got := Differences(desired, desired, table); desired != nil && got != nil {
			t.Errorf("diff(x, x) = %v", got)
		}
		if got := compareWhole(live, live, table); got != nil {
			t.Errorf("whole diff(x, x) = %v", got)
		}
		Differences(desired, live, table)
		compareWhole(live, desired, table)
	})
}
