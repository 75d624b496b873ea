// SPDX-License-Identifier: Apache-2.0

package maapolicy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// ClaimsOf returns the members of an object as claims of the service, sorted by type: text, integers and Booleans as they
// are, a list of those as a set, and anything else as its JSON text, which JmesPath can look into. Numbers are int64 or
// json.Number; one that is no integer becomes text.
func ClaimsOf(object map[string]any) ([]Claim, error) {
	var claims []Claim
	for _, name := range slices.Sorted(maps.Keys(object)) {
		values, err := valuesOf(object[name])
		if err != nil {
			return nil, fmt.Errorf("claim %q: %w", name, err)
		}
		for _, v := range values {
			claims = append(claims, Claim{Type: name, Value: v, Issuer: IssuerService})
		}
	}
	return claims, nil
}

func valuesOf(v any) ([]Value, error) {
	if one, ok := scalar(v); ok {
		return []Value{one}, nil
	}
	var list []any
	switch v := v.(type) {
	case nil:
		return nil, nil
	case []any:
		list = v
	case []string:
		for _, s := range v {
			list = append(list, s)
		}
	}
	var values []Value
	for _, e := range list {
		one, ok := scalar(e)
		if !ok {
			values = nil
			break
		}
		values = append(values, one)
	}
	if len(values) > 0 {
		return values, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return []Value{StringValue(string(b))}, nil
}

func scalar(v any) (Value, bool) {
	switch v := v.(type) {
	case string:
		return StringValue(v), true
	case bool:
		return BooleanValue(v), true
	case int64:
		return IntegerValue(v), true
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return IntegerValue(i), true
		}
		return StringValue(v.String()), true
	}
	return Value{}, false
}
