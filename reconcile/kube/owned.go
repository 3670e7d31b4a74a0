package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// owned is what one field manager owns of an object, as the object's managed fields say it
// (FieldsV1, structured-merge-diff's serialization): a tree of which the leaves are owned.
type owned struct {
	fields map[string]*owned // f: of an object
	items  map[string]*owned // k: of a list whose items have keys, by their keys' values
	keys   []string          // the keys of items, sorted
}

func (o *owned) leaf() bool { return len(o.fields) == 0 && len(o.items) == 0 }

// parseOwned reads FieldsV1. What this package never sends, a list owned by values or by
// places, is an error: the API server decides about that.
func parseOwned(raw []byte) (*owned, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, err
	}
	o := &owned{}
	for name, below := range members {
		prefix, name, _ := strings.Cut(name, ":")
		if prefix == "." {
			continue // the object or the item itself
		}
		child, err := parseOwned(below)
		if err != nil {
			return nil, err
		}
		switch prefix {
		case "f":
			if o.fields == nil {
				o.fields = make(map[string]*owned, len(members))
			}
			o.fields[name] = child
		case "k":
			if err := o.addItem(name, child, len(members)); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("%s: is not expected", prefix)
		}
	}
	if o.fields != nil && o.items != nil {
		return nil, errors.New("an object and a list at once")
	}
	return o, nil
}

func (o *owned) addItem(key string, child *owned, room int) error {
	var values map[string]any
	if err := json.Unmarshal([]byte(key), &values); err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(values))
	if o.items == nil {
		o.items, o.keys = make(map[string]*owned, room), names
	}
	if !slices.Equal(names, o.keys) {
		return errors.New("items with different keys")
	}
	var text strings.Builder
	for _, name := range names {
		part, ok := scalar(reflect.ValueOf(values[name]))
		if !ok {
			return fmt.Errorf("key %s is no scalar", name)
		}
		text.WriteString(part)
	}
	o.items[text.String()] = child
	return nil
}

// scalar writes a key's value so that no two differ only by where one ends.
func scalar(v reflect.Value) (string, bool) {
	v, ok := follow(v)
	if !ok {
		return "", false
	}
	switch {
	case v.Kind() == reflect.String:
		return strconv.Quote(v.String()), true
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10) + ",", true
	case v.CanFloat():
		return strconv.FormatFloat(v.Float(), 'f', -1, 64) + ",", true
	}
	return "", false
}

// follow goes to what a pointer or an interface holds; false when that is nothing.
func follow(v reflect.Value) (reflect.Value, bool) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return v, false
		}
		v = v.Elem()
	}
	return v, v.IsValid()
}
