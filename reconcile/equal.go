package reconcile

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// Default is the comparator of a path at which value, in any case, is the same as nothing
// there: servers drop their defaults, or spell them out.
func Default(value string) Comparator { return Comparator(defaultPrefix + value) }

const defaultPrefix = "default:"

// equal tells whether two values are the same to a comparator.
func equal(how Comparator, want, have any) bool {
	if value, ok := strings.CutPrefix(string(how), defaultPrefix); ok {
		return strings.EqualFold(orDefault(want, value), orDefault(have, value))
	}
	switch how {
	case Fold, Region, Minor:
		w, wok := want.(string)
		h, hok := have.(string)
		if !wok || !hok {
			return reflect.DeepEqual(want, have)
		}
		switch how {
		case Region:
			w, h = strings.ReplaceAll(w, " ", ""), strings.ReplaceAll(h, " ", "")
		case Minor:
			return w == h || strings.Count(w, ".") == 1 && strings.HasPrefix(h, w+".")
		}
		return strings.EqualFold(w, h)
	case Set, CIDRSet:
		w, wok := sortedText(want, how)
		h, hok := sortedText(have, how)
		if wok && hok {
			return slices.Equal(w, h)
		}
	}
	return reflect.DeepEqual(normal(want), normal(have))
}

// orDefault is a scalar as text.
func orDefault(v any, value string) string {
	if v == nil {
		return value
	}
	return fmt.Sprint(normal(v))
}

// sortedText gives the items of a list, each as JSON so that "1" is not 1, in order; nothing
// is an empty list, and what is no list is none.
func sortedText(v any, how Comparator) ([]string, bool) {
	list, ok := v.([]any)
	items := make([]string, len(list))
	for i, item := range list {
		if address, isText := item.(string); isText && how == CIDRSet {
			item = network(address)
		}
		// What came out of JSON goes back into it; map keys are sorted there.
		data, err := json.Marshal(normal(item))
		if err != nil {
			return nil, false
		}
		items[i] = string(data)
	}
	slices.Sort(items)
	return items, ok || v == nil
}

// network is an address range as it is written canonically: 203.0.113.7 is 203.0.113.7/32,
// and 2001:DB8:0::/32 is 2001:db8::/32. What is none stays as it is.
func network(text string) string {
	if address, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(address, address.BitLen()).String()
	}
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return prefix.Masked().String()
	}
	return text
}
