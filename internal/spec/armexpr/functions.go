// SPDX-License-Identifier: Apache-2.0

package armexpr

import (
	"errors"
	"fmt"
	"strconv"

	"cofferdam.dev/internal/spec/doc"
)

// function is one whose result follows from its arguments.
type function struct {
	min, max int // of arguments; max -1: any number
	do       func([]*doc.Value) (*doc.Value, error)
}

// functions are keyed by their name in lower case.
var functions = map[string]function{
	// values
	"true":  {0, 0, func([]*doc.Value) (*doc.Value, error) { return doc.Boolean(true), nil }},
	"false": {0, 0, func([]*doc.Value) (*doc.Value, error) { return doc.Boolean(false), nil }},
	"null":  {0, 0, func([]*doc.Value) (*doc.Value, error) { return &doc.Value{}, nil }},

	// comparison and logic
	"equals":          {2, 2, equalsFunc},
	"not":             {1, 1, notFunc},
	"less":            {2, 2, comparison(func(c int) bool { return c < 0 })},
	"lessorequals":    {2, 2, comparison(func(c int) bool { return c <= 0 })},
	"greater":         {2, 2, comparison(func(c int) bool { return c > 0 })},
	"greaterorequals": {2, 2, comparison(func(c int) bool { return c >= 0 })},

	// numbers
	"add": {2, 2, arithmetic("+")},
	"sub": {2, 2, arithmetic("-")},
	"mul": {2, 2, arithmetic("*")},
	"div": {2, 2, arithmetic("/")},
	"mod": {2, 2, arithmetic("%")},
	"min": {1, -1, extremum(-1)},
	"max": {1, -1, extremum(1)},

	// conversion
	"int":    {1, 1, intFunc},
	"bool":   {1, 1, boolFunc},
	"string": {1, 1, stringFunc},
	"json":   {1, 1, jsonFunc},
	"array":  {1, 1, arrayFunc},

	// lists and objects
	"createarray":  {0, -1, func(a []*doc.Value) (*doc.Value, error) { return doc.List(a...), nil }},
	"createobject": {0, -1, createObject},
	"range":        {2, 2, rangeFunc},
	"flatten":      {1, 1, flatten},
	"union":        {1, -1, union},
	"intersection": {2, -1, intersection},
	"items":        {1, 1, items},

	// lists, objects and strings
	"concat":      {0, -1, concat},
	"contains":    {2, 2, contains},
	"empty":       {1, 1, empty},
	"length":      {1, 1, length},
	"first":       {1, 1, end(true)},
	"last":        {1, 1, end(false)},
	"take":        {2, 2, part(true)},
	"skip":        {2, 2, part(false)},
	"indexof":     {2, 2, indexOf(false)},
	"lastindexof": {2, 2, indexOf(true)},

	// strings
	"format":               {1, -1, format},
	"tolower":              {1, 1, text(toLower)},
	"toupper":              {1, 1, text(toUpper)},
	"trim":                 {1, 1, text(trim)},
	"replace":              {3, 3, replace},
	"split":                {2, 2, split},
	"join":                 {2, 2, join},
	"substring":            {2, 3, substring},
	"startswith":           {2, 2, affix(true)},
	"endswith":             {2, 2, affix(false)},
	"padleft":              {2, 3, padLeft},
	"base64":               {1, 1, text(toBase64)},
	"base64tostring":       {1, 1, text(fromBase64)},
	"base64tojson":         {1, 1, base64ToJSON},
	"uricomponent":         {1, 1, text(uriComponent)},
	"uricomponenttostring": {1, 1, text(uriComponentToString)},
	"uri":                  {2, 2, uriFunc},

	// names
	"uniquestring":        {1, -1, uniqueString},
	"guid":                {1, -1, guid},
	"tenantresourceid":    {2, -1, tenantResourceID},
	"extensionresourceid": {3, -1, extensionResourceID},
}

func integer(v *doc.Value) (int64, error) {
	if v.Kind != doc.Number {
		return 0, fmt.Errorf("%s stands where a whole number is needed", v.Kind)
	}
	n, err := strconv.ParseInt(v.Text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s is no whole number", v.Text)
	}
	return n, nil
}

func stringOf(v *doc.Value) (string, error) {
	if v.Kind != doc.String {
		return "", fmt.Errorf("%s stands where a string is needed", v.Kind)
	}
	return v.Text, nil
}

func stringsOf(list []*doc.Value) ([]string, error) {
	out := make([]string, 0, len(list))
	for _, v := range list {
		s, err := stringOf(v)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// equal compares values deeply; strings with regard to case, keys without regard to their order.
func equal(a, b *doc.Value) bool {
	if a.Kind != b.Kind || len(a.Items) != len(b.Items) || len(a.Members) != len(b.Members) {
		return false
	}
	for i := range a.Items {
		if !equal(a.Items[i], b.Items[i]) {
			return false
		}
	}
	for _, m := range a.Members {
		w := b.Get(m.Key)
		if w == nil || !equal(m.Value, w) {
			return false
		}
	}
	return a.Text == b.Text && a.True == b.True
}

func equalsFunc(a []*doc.Value) (*doc.Value, error) {
	for _, v := range a {
		if _, err := integer(v); v.Kind == doc.Number && err != nil {
			return nil, err // 1.0 and 1 are equal, and other traps
		}
	}
	return doc.Boolean(equal(a[0], a[1])), nil
}

func notFunc(a []*doc.Value) (*doc.Value, error) {
	if a[0].Kind != doc.Bool {
		return nil, fmt.Errorf("%s stands where a boolean is needed", a[0].Kind)
	}
	return doc.Boolean(!a[0].True), nil
}

// comparison compares numbers, and strings of lower-case letters and digits: others are ordered by the culture of the
// service, which is not known here.
func comparison(holds func(int) bool) func([]*doc.Value) (*doc.Value, error) {
	return func(a []*doc.Value) (*doc.Value, error) {
		if a[0].Kind == doc.String && a[1].Kind == doc.String {
			if !plainText(a[0].Text) || !plainText(a[1].Text) {
				return nil, errors.New("the order of strings other than lower-case letters and digits is not known offline")
			}
			return doc.Boolean(holds(compare(a[0].Text, a[1].Text))), nil
		}
		x, err := integer(a[0])
		if err != nil {
			return nil, err
		}
		y, err := integer(a[1])
		if err != nil {
			return nil, err
		}
		return doc.Boolean(holds(compare(x, y))), nil
	}
}

func compare[T int64 | string](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func plainText(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			return false
		}
	}
	return true
}
