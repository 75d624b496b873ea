// SPDX-License-Identifier: Apache-2.0

// Package doc holds JSON and YAML documents as trees that know where each value stands, so that an error about a value
// can name its path and line.
//
// It trusts nothing: size, depth and number of values are bounded (aliases count as often as they are used), a key
// that is given twice is an error. It never converts one type into another and knows nothing of what a document means.
package doc

import (
	"fmt"
	"strconv"
	"strings"
)

// Limits of a document.
const (
	MaxBytes  = 8 << 20
	MaxDepth  = 100
	MaxValues = 200_000
)

// Kind is the type of a value. The zero value is null.
type Kind uint8

// The kinds.
const (
	Null Kind = iota
	Bool
	Number
	String
	Array
	Object

	// Unknown is a value that could not be found out; Err says why.
	Unknown
)

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "nothing"
}

var kindNames = [...]string{"null", "a boolean", "a number", "a string", "a list", "an object", "unknown"}

// Value is one value of a document.
type Value struct {
	Kind Kind

	Text    string // of a string or a number, as written
	True    bool   // of a boolean
	Items   []*Value
	Members []Member

	// Plain says that a YAML string stands without quotation marks.
	Plain bool

	// Evaluated says that nothing in the value is an expression any more.
	Evaluated bool

	Err error // of an unknown value

	Path string // such as $.resources[0].name
	Line int    // from 1; 0 if unknown
}

// Member is one key of an object with its value.
type Member struct {
	Key   string
	Value *Value
	Line  int
}

// Get returns a member, and nil if there is none or v is no object.
func (v *Value) Get(key string) *Value {
	if v == nil {
		return nil
	}
	for _, m := range v.Members {
		if m.Key == key {
			return m.Value
		}
	}
	return nil
}

// Fold is Get for keys whose case does not matter. Keys are the same if they are in lower case, as ParseJSON has it when
// it refuses two of one name; full case folding would let ſ stand for s.
func (v *Value) Fold(key string) *Value {
	if v == nil {
		return nil
	}
	lower := strings.ToLower(key)
	for _, m := range v.Members {
		if m.Key == key || strings.EqualFold(m.Key, key) && strings.ToLower(m.Key) == lower {
			return m.Value
		}
	}
	return nil
}

// IsNull says that there is no value, or null.
func (v *Value) IsNull() bool { return v == nil || v.Kind == Null }

// At returns a copy that stands where other does.
func (v *Value) At(other *Value) *Value {
	w := *v
	w.Path, w.Line = other.Path, other.Line
	return &w
}

// Errorf makes an error about the value.
func (v *Value) Errorf(format string, args ...any) error {
	if v == nil {
		return fmt.Errorf(format, args...)
	}
	return &Error{Path: v.Path, Line: v.Line, Err: fmt.Errorf(format, args...)}
}

// Error is an error with its place in a document.
type Error struct {
	Path string
	Line int
	Err  error
}

// Error names the place and what is wrong there.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Path + ": " + e.Err.Error()
	}
	return e.Path + " (line " + strconv.Itoa(e.Line) + "): " + e.Err.Error()
}

// Unwrap returns what is wrong.
func (e *Error) Unwrap() error { return e.Err }

// Str makes a string.
func Str(s string) *Value { return &Value{Kind: String, Text: s} }

// Int makes a number.
func Int(n int64) *Value { return &Value{Kind: Number, Text: strconv.FormatInt(n, 10)} }

// Boolean makes a boolean.
func Boolean(b bool) *Value { return &Value{Kind: Bool, True: b} }

// List makes a list.
func List(items ...*Value) *Value { return &Value{Kind: Array, Items: items} }

// maxPath bounds a path: each value has its own, and a document may nest long keys.
const maxPath = 400

// memberPath is the path of a member of the value at path.
func memberPath(path, key string) string {
	if len(path)+len(key) > maxPath {
		return cut(path)
	}
	for i, r := range key {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r != '-' && (r < '0' || r > '9')) {
			return path + "[" + strconv.Quote(key) + "]"
		}
	}
	if key == "" {
		return path + `[""]`
	}
	return path + "." + key
}

func itemPath(path string, i int) string {
	if len(path) > maxPath {
		return cut(path)
	}
	return path + "[" + strconv.Itoa(i) + "]"
}

// cut marks a path that goes on.
func cut(path string) string {
	if strings.HasSuffix(path, "…") {
		return path
	}
	return path + "…"
}

// MembersOf returns the members of an object, and none of anything else.
func (v *Value) MembersOf() []Member {
	if v == nil {
		return nil
	}
	return v.Members
}

// ItemsOf returns the items of a list, and none of anything else.
func (v *Value) ItemsOf() []*Value {
	if v == nil {
		return nil
	}
	return v.Items
}
