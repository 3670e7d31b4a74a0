package kube

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// maxShapes bounds how many different FieldsV1 are kept. Services that are alike share theirs
// byte for byte, so that thousands of objects have a handful.
const maxShapes = 512

// comparer tells objects that an apply would not change. It keeps what it learns of types and
// of managed fields for the objects to come; its methods may be called from many goroutines.
type comparer struct {
	mu     sync.RWMutex
	shapes map[string]*owned
	types  map[reflect.Type]map[string][]int // JSON name to field
}

func newComparer() *comparer {
	return &comparer{shapes: map[string]*owned{}, types: map[reflect.Type]map[string][]int{}}
}

// unchanged tells, for certain, that applying want to the live object would change no value
// of it: our manager owns exactly the fields that would be sent, and each has the value that
// would be sent already. When it says no, an apply may still change nothing: a list in another
// order, or 1000m for 1. The API server is asked then.
func (c *comparer) unchanged(live runtime.Object, want map[string]any) bool {
	object, err := meta.Accessor(live)
	if err != nil {
		return false
	}
	tree := c.ownership(object.GetManagedFields(), want["apiVersion"])
	if tree == nil {
		return false
	}
	// Types and names identify the object; no manager owns them.
	sent := maps.Clone(want)
	delete(sent, "apiVersion")
	delete(sent, "kind")
	if metadata, ok := want["metadata"].(map[string]any); ok {
		metadata = maps.Clone(metadata)
		delete(metadata, "name")
		delete(metadata, "namespace")
		sent["metadata"] = metadata
		if len(metadata) == 0 {
			delete(sent, "metadata")
		}
	}
	return c.same(tree, sent, reflect.ValueOf(live))
}

// ownership is what our manager owns; nil when there is no saying.
func (c *comparer) ownership(entries []metav1.ManagedFieldsEntry, apiVersion any) *owned {
	var fields *metav1.FieldsV1
	for i := range entries {
		entry := &entries[i]
		if entry.Manager != manager || entry.Operation != metav1.ManagedFieldsOperationApply || entry.Subresource != "" {
			continue
		}
		if fields != nil || entry.APIVersion != apiVersion {
			return nil
		}
		fields = entry.FieldsV1
	}
	if fields == nil {
		return nil
	}
	raw := fields.GetRawBytes()
	c.mu.RLock()
	tree, known := c.shapes[string(raw)]
	c.mu.RUnlock()
	if known {
		return tree
	}
	tree, err := parseOwned(raw)
	if err != nil {
		tree = nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.shapes) < maxShapes {
		c.shapes[string(raw)] = tree
	}
	return tree
}

// same compares a value that would be sent with the one that is there, where tree is owned.
func (c *comparer) same(tree *owned, want any, have reflect.Value) bool {
	if tree.leaf() {
		return c.equal(want, have)
	}
	have, ok := follow(have)
	if !ok {
		return false
	}
	if tree.items != nil {
		return c.sameItems(tree, want, have)
	}
	object, ok := want.(map[string]any)
	if !ok || len(object) != len(tree.fields) {
		return false
	}
	for key, value := range object {
		below := tree.fields[key]
		if below == nil {
			return false
		}
		field, ok := c.field(have, key)
		if !ok || !c.same(below, value, field) {
			return false
		}
	}
	return true
}

// sameItems wants every item that is owned to be there once, and in the order in which they
// would be sent. Items of others may stand between them.
func (c *comparer) sameItems(tree *owned, want any, have reflect.Value) bool {
	list, ok := want.([]any)
	if !ok || len(list) != len(tree.items) || have.Kind() != reflect.Slice {
		return false
	}
	next := 0
	for i := range have.Len() {
		item := have.Index(i)
		key, ok := c.key(item, tree.keys)
		below := tree.items[key]
		if !ok || below == nil {
			continue
		}
		if next == len(list) {
			return false // one of them is there twice
		}
		if wanted, ok := wantedKey(list[next], tree.keys); !ok || wanted != key || !c.same(below, list[next], item) {
			return false
		}
		next++
	}
	return next == len(list)
}

// key is an item's, as addItem writes it.
func (c *comparer) key(item reflect.Value, names []string) (string, bool) {
	if len(names) == 1 {
		return c.keyPart(item, names[0])
	}
	var text strings.Builder
	for _, name := range names {
		part, ok := c.keyPart(item, name)
		if !ok {
			return "", false
		}
		text.WriteString(part)
	}
	return text.String(), true
}

func (c *comparer) keyPart(item reflect.Value, name string) (string, bool) {
	field, ok := c.field(item, name)
	if !ok {
		return "", false
	}
	return scalar(field)
}

func wantedKey(item any, names []string) (string, bool) {
	object, _ := item.(map[string]any)
	var text strings.Builder
	for _, name := range names {
		part, ok := scalar(reflect.ValueOf(object[name]))
		if !ok {
			return "", false
		}
		text.WriteString(part)
	}
	return text.String(), true
}

// equal compares two values whole.
func (c *comparer) equal(want any, have reflect.Value) bool {
	have, ok := follow(have)
	if !ok {
		return false
	}
	switch kind := have.Kind(); {
	case kind == reflect.String:
		text, ok := want.(string)
		return ok && text == have.String()
	case kind == reflect.Bool:
		truth, ok := want.(bool)
		return ok && truth == have.Bool()
	case have.CanInt():
		number, ok := want.(float64)
		return ok && number == float64(have.Int())
	}
	switch value := have.Interface().(type) {
	case resource.Quantity:
		return want == value.String()
	case intstr.IntOrString:
		if value.Type == intstr.String {
			return want == value.StrVal
		}
		number, ok := want.(float64)
		return ok && number == float64(value.IntVal)
	case []byte:
		return want == base64.StdEncoding.EncodeToString(value)
	case json.Marshaler:
		return false // it is not written as it is held; the API server knows
	}
	switch have.Kind() {
	case reflect.Slice:
		return c.equalLists(want, have)
	case reflect.Map:
		return c.equalMaps(want, have)
	case reflect.Struct:
		return c.equalObjects(want, have)
	}
	return false
}

func (c *comparer) equalLists(want any, have reflect.Value) bool {
	list, ok := want.([]any)
	if !ok || len(list) != have.Len() {
		return false
	}
	for i, item := range list {
		if !c.equal(item, have.Index(i)) {
			return false
		}
	}
	return true
}

func (c *comparer) equalMaps(want any, have reflect.Value) bool {
	object, ok := want.(map[string]any)
	if !ok || len(object) != have.Len() {
		return false
	}
	for key, value := range object {
		field, ok := c.field(have, key)
		if !ok || !c.equal(value, field) {
			return false
		}
	}
	return true
}

// equalObjects wants the fields that are not sent to be empty.
func (c *comparer) equalObjects(want any, have reflect.Value) bool {
	object, ok := want.(map[string]any)
	if !ok {
		return false
	}
	names := c.names(have.Type())
	for key := range object {
		if names[key] == nil {
			return false
		}
	}
	for name, index := range names {
		field, err := have.FieldByIndexErr(index)
		if err != nil {
			return false
		}
		value, sent := object[name]
		if sent && !c.equal(value, field) || !sent && !field.IsZero() {
			return false
		}
	}
	return true
}

// field gives what a JSON name stands for in an object or a map.
func (c *comparer) field(have reflect.Value, name string) (reflect.Value, bool) {
	have, ok := follow(have)
	if !ok {
		return reflect.Value{}, false
	}
	switch have.Kind() {
	case reflect.Struct:
		index := c.names(have.Type())[name]
		if index == nil {
			return reflect.Value{}, false
		}
		field, err := have.FieldByIndexErr(index)
		return field, err == nil
	case reflect.Map:
		field := have.MapIndex(reflect.ValueOf(name).Convert(have.Type().Key()))
		return field, field.IsValid()
	}
	return reflect.Value{}, false
}

// names finds the fields of a type by their names in JSON, inlined ones too.
func (c *comparer) names(t reflect.Type) map[string][]int {
	c.mu.RLock()
	names := c.types[t]
	c.mu.RUnlock()
	if names != nil {
		return names
	}
	names = map[string][]int{}
	addNames(names, t, nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.types[t] = names
	return names
}

func addNames(names map[string][]int, t reflect.Type, above []int) {
	for i := range t.NumField() {
		field := t.Field(i)
		index := append(slices.Clone(above), i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Anonymous && name == "" && field.Type.Kind() == reflect.Struct: // inlined
			addNames(names, field.Type, index)
		case field.IsExported() && name != "" && name != "-":
			names[name] = index
		}
	}
}
