package reconcile

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"unique"
)

// masked stands in a plan for a value that must not be shown.
const masked = "(sensitive)"

// Differences lists the paths of desired at which live differs, as a plan would: a driver
// asks it after a write whether the service kept what it was sent.
func Differences(desired, live map[string]any, how map[string]Comparator) []FieldDiff {
	return compareOwned(desired, live, how)
}

// compareOwned lists where live differs from desired, over desired's paths only: what
// desired does not name is not owned. A null, an empty list or an empty object that is
// desired is the same as nothing there, because servers drop or add them at will.
func compareOwned(desired, live map[string]any, how map[string]Comparator) []FieldDiff {
	d := differ{how: how, owned: true, creating: live == nil}
	d.walk("", desired, live, false)
	return d.diffs
}

// compareWhole lists every path at which before and after differ. A driver that knows them to
// be the same gives one map for both, and no walk is needed.
func compareWhole(before, after map[string]any, how map[string]Comparator) []FieldDiff {
	if reflect.ValueOf(before).UnsafePointer() == reflect.ValueOf(after).UnsafePointer() {
		return nil
	}
	d := differ{how: how}
	d.walk("", after, before, false)
	return d.diffs
}

// differ walks a wanted value beside the one that is there and collects differences,
// in the order of sorted keys.
type differ struct {
	how      map[string]Comparator
	owned    bool // keys that only the live side has are not looked at
	creating bool
	diffs    []FieldDiff
}

// walk compares what is at path. Under a path that is not to be shown nothing is.
func (d *differ) walk(path string, want, have any, secret bool) {
	how := d.comparator(path)
	secret = secret || how == Sensitive || how == WriteOnly
	if (how == WriteOnly || how == CreateOnly) && !d.creating {
		return
	}
	want, have = number(want), number(have)
	if isEmpty(want) && isEmpty(have) {
		return
	}
	wantMap, isMap := want.(map[string]any)
	haveMap, haveIsMap := have.(map[string]any)
	if isMap && (haveIsMap || have == nil) || want == nil && haveIsMap && !d.owned {
		d.walkMap(path, wantMap, haveMap, secret)
		return
	}
	wantList, isList := want.([]any)
	haveList, haveIsList := have.([]any)
	if isList && haveIsList && (how == exact || how == Sensitive) && len(wantList) == len(haveList) {
		for i := range wantList {
			d.walk(path+"["+strconv.Itoa(i)+"]", wantList[i], haveList[i], secret)
		}
		return
	}
	if !equal(how, want, have) {
		d.add(path, secret, have, want)
	}
}

func (d *differ) walkMap(path string, want, have map[string]any, secret bool) {
	keys := slices.Collect(maps.Keys(want))
	if !d.owned {
		keys = slices.AppendSeq(keys, maps.Keys(have))
	}
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		d.walk(joinPath(path, key), want[key], have[key], secret)
	}
}

func (d *differ) add(path string, secret bool, before, after any) {
	if secret {
		mask := func(v any) any {
			if v == nil {
				return nil
			}
			return masked
		}
		before, after = mask(before), mask(after)
	}
	// A thousand services have the same paths a thousand times.
	d.diffs = append(d.diffs, FieldDiff{Path: unique.Make(path).Value(), Before: before, After: after})
}

var listIndex = regexp.MustCompile(`\[\d+\]`)

// comparator finds the one for a path; [*] in its table stands for any list index.
func (d *differ) comparator(path string) Comparator {
	if how, ok := d.how[path]; ok {
		return how
	}
	return d.how[listIndex.ReplaceAllString(path, "[*]")]
}

// normal makes numbers of every Go type alike, at every depth.
func normal(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, item := range v {
			out[key] = normal(item)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = normal(item)
		}
		return out
	}
	return number(v)
}

// number turns a number of any Go type into the float64 that encoding/json gives.
func number(v any) any {
	switch n := reflect.ValueOf(v); n.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return float64(n.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return float64(n.Uint())
	case reflect.Float32:
		return n.Float()
	}
	return v
}

func isEmpty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// joinPath gives a.b, and a["b.c"] for keys that a dotted path could not hold.
func joinPath(path, key string) string {
	if !plainKey.MatchString(key) {
		return path + "[" + strconv.Quote(key) + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// resolve gives v with every Ref replaced by the output it names, or Unknown. What holds no
// Ref is not copied, so the result must not be changed.
func resolve(v any, known Outputs) any {
	out, _ := resolved(v, known)
	return out
}

// resolved tells too whether there was a Ref.
func resolved(v any, known Outputs) (any, bool) {
	switch v := v.(type) {
	case Ref:
		if value, ok := known[v.Address][v.Output]; ok {
			return value, true
		}
		return Unknown, true
	case map[string]any:
		var out map[string]any
		for key, item := range v {
			if now, changed := resolved(item, known); changed {
				if out == nil {
					out = maps.Clone(v)
				}
				out[key] = now
			}
		}
		if out != nil {
			return out, true
		}
	case []any:
		var out []any
		for i, item := range v {
			if now, changed := resolved(item, known); changed {
				if out == nil {
					out = slices.Clone(v)
				}
				out[i] = now
			}
		}
		if out != nil {
			return out, true
		}
	}
	return v, false
}

func resolveBody(body map[string]any, known Outputs) map[string]any {
	if body == nil {
		return nil
	}
	return resolve(body, known).(map[string]any)
}
