package azure

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"

	"github.com/amlaks/amlaks/reconcile"
)

// Azure's limits of tags (learn.microsoft.com: "Limitations" of tag resources).
const (
	maxTags     = 50
	maxTagValue = 256
)

// recordSeparator stands in no tag's name and in no label's.
const recordSeparator = "&"

// ledger is how an object says, in tags, which keys of one of its maps the stack has
// written. Without it a key that has left the file could not be told from one that somebody
// else has set: there is no state file. The names fill as many tags as they need: TAG,
// TAG-2, TAG-3...
type ledger struct {
	tag  string
	tags []string // where the object's tags are
	of   []string // where the map is
	// anyCase: Azure takes two names that differ in case for one, and keeps the first spelling.
	anyCase bool
}

var (
	clusterLedger = ledger{tag: "amlaks-tags", tags: []string{"tags"}, of: []string{"tags"}, anyCase: true}
	poolLedger    = ledger{tag: "amlaks-labels", tags: []string{"properties", "tags"}, of: []string{"properties", "nodeLabels"}}
)

// is tells whether a tag is one of the ledger's.
func (l ledger) is(tag string) bool {
	rest, ok := strings.CutPrefix(tag, l.tag)
	return ok && (rest == "" || rest[0] == '-')
}

// tagName is that of the ledger's n-th tag, from 1.
func (l ledger) tagName(n int) string {
	if n == 1 {
		return l.tag
	}
	return fmt.Sprintf("%s-%d", l.tag, n)
}

// write puts the names, which are sorted, into an object's tags. It fails if those are more
// than Azure takes.
func (l ledger) write(tags map[string]*string, names []string) error {
	n, value := 1, ""
	for _, name := range names {
		if utf8.RuneCountInString(name) > maxTagValue {
			return fmt.Errorf("%.20s... is longer than %d characters: amlaks could not write down that it has set it", name, maxTagValue)
		}
		switch more := value + recordSeparator + name; {
		case value == "":
			value = name
		case utf8.RuneCountInString(more) <= maxTagValue:
			value = more
		default:
			n, value = n+1, name
		}
		tags[l.tagName(n)] = to.Ptr(value)
	}
	if len(tags) > maxTags {
		return fmt.Errorf("%d tags, with those in which amlaks keeps the names of what it has set, are more than the %d that Azure takes: shorten the names", len(tags), maxTags)
	}
	return nil
}

// read gives the names that are in a live object's tags.
func (l ledger) read(tags map[string]any) []string {
	var names []string
	for n := 1; ; n++ {
		value, _ := tags[l.tagName(n)].(string)
		if value == "" {
			return names
		}
		names = append(names, strings.Split(value, recordSeparator)...)
	}
}

// wanted is what the file owns of a live object: what it declares, and null for each key
// that the stack once set and that has left the file. Keys are spelled as they are there.
// The ledger of another stack, on an object that is adopted, says nothing of ours.
func (l ledger) wanted(desired, live body, stack string) body {
	want := clone(desired)
	liveTags, _ := at(live, l.tags...).(body)
	liveMap, _ := at(live, l.of...).(body)
	declared, _ := at(want, l.of...).(body)
	wantTags, _ := at(want, l.tags...).(body)
	if l.anyCase {
		for _, key := range slices.Sorted(maps.Keys(declared)) {
			if there := spelled(liveMap, key); there != key {
				declared[there] = declared[key]
				delete(declared, key)
			}
		}
	}
	if text(liveTags, tagStack) != stack {
		return want
	}
	gone := body{}
	for _, key := range l.read(liveTags) {
		if l.anyCase {
			key = spelled(liveMap, key)
		}
		if _, still := declared[key]; !still && liveMap[key] != nil {
			gone[key] = nil
		}
	}
	if len(gone) > 0 {
		maps.Copy(gone, declared)
		set(want, gone, l.of...)
		if l.anyCase {
			wantTags = gone
		}
	}
	for key := range liveTags {
		if _, still := wantTags[key]; l.is(key) && !still {
			wantTags[key] = nil
		}
	}
	return want
}

// spelled gives a key as the map has it.
func spelled(m body, key string) string {
	if _, ok := m[key]; ok {
		return key
	}
	for _, there := range slices.Sorted(maps.Keys(m)) {
		if strings.EqualFold(there, key) {
			return there
		}
	}
	return key
}

// ledgerOf is that of a resource; nil for a cluster that is only attached.
func ledgerOf(r *reconcile.Resource) *ledger {
	switch declared := r.Spec.(type) {
	case *clusterSpec:
		if declared.Attach == nil {
			return &clusterLedger
		}
	case *poolSpec:
		return &poolLedger
	}
	return nil
}

// wanted is what the resource owns of what is live.
func (d *Driver) wanted(r *reconcile.Resource, desired, live body) body {
	l := ledgerOf(r)
	if l == nil {
		return desired
	}
	want := l.wanted(desired, live, d.stack.Name)
	oneIdentity(want, live)
	return want
}

// differs tells whether anything has to be written. The ledger alone is not a reason: a
// write that changes nothing but tags is a long operation of AKS all the same.
func differs(r *reconcile.Resource, want, live body) bool {
	l := ledgerOf(r)
	return slices.ContainsFunc(reconcile.Differences(want, live, r.Compare), func(diff reconcile.FieldDiff) bool {
		return l == nil || !l.is(strings.TrimPrefix(diff.Path, strings.Join(l.tags, ".")+"."))
	})
}

// predict fills in what an update would make of a live cluster or pool.
func (d *Driver) predict(r *reconcile.Resource, desired body, l *reconcile.Live) {
	if _, isPool := r.Spec.(*poolSpec); isPool {
		d.place(r, desired, l)
		if l.Predicted != nil {
			return
		}
	}
	want := d.wanted(r, desired, l.Body)
	l.Predicted = l.Body
	if differs(r, want, l.Body) {
		l.Predicted = overlay(l.Body, want, r.Compare, "")
	}
}

// predictAll does that for what is declared. The location that the file left to the workspace
// is not known to the engine yet while this driver observes.
func (d *Driver) predictAll(declared []reconcile.Resource, live []reconcile.Live, location string) {
	byAddress := make(map[reconcile.Address]*reconcile.Resource, len(declared))
	for i := range declared {
		byAddress[declared[i].Address] = &declared[i]
	}
	for i := range live {
		r := byAddress[live[i].Address]
		if r == nil || r.Data {
			continue
		}
		desired := r.Desired
		if desired["location"] == reconcile.Unknown {
			desired = maps.Clone(desired)
			desired["location"] = location
		}
		d.predict(r, desired, &live[i])
	}
}

// set puts a value into a body.
func set(b body, value any, path ...string) {
	for _, key := range path[:len(path)-1] {
		below, ok := b[key].(body)
		if !ok {
			below = body{}
			b[key] = below
		}
		b = below
	}
	b[path[len(path)-1]] = value
}

// clone copies the objects of a body; its lists and scalars are shared.
func clone(b body) body {
	out := maps.Clone(b)
	for key, value := range out {
		if below, ok := value.(body); ok {
			out[key] = clone(below)
		}
	}
	return out
}
