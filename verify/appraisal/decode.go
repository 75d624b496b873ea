// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"bytes"
	"cmp"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

const (
	// MaxSize bounds the text of a policy, in bytes. A resolved one holds the texts of its rules and endorsements.
	MaxSize = 2 << 20
	// maxValues and maxDepth bound what a text may hold: the types have a depth of six.
	maxValues = 20000
	maxDepth  = 12
	// maxProblems bounds how many problems are told.
	maxProblems = 20
)

// Problem is one thing that is wrong with a policy.
type Problem struct {
	// Line and Column say where it is in the text, from 1. They are zero for a policy that has no text.
	Line, Column int
	// Path names the value, such as snp.tcb.Milan.reported.
	Path string
	// Message says what is wrong, with what was expected.
	Message string
}

// Problems is everything that is wrong with a policy, in the order of the text.
type Problems []Problem

// Error lists the problems, one a line.
func (p Problems) Error() string {
	var s []string
	for i, q := range p {
		if i == maxProblems {
			s = append(s, fmt.Sprintf("and %d more", len(p)-i))
			break
		}
		place := ""
		if q.Line > 0 {
			place = fmt.Sprintf("line %d, column %d: ", q.Line, q.Column)
		}
		s = append(s, fmt.Sprintf("%s%s: %s", place, cmp.Or(q.Path, "policy"), q.Message))
	}
	return strings.Join(s, "\n")
}

// Parse reads a policy in YAML or JSON: one document without anchors, aliases and merge keys. Its error wraps Problems
// when the text can be read but is no policy.
func Parse(text []byte) (*Policy, error) {
	n, err := parseYAML(text)
	if err != nil {
		return nil, fmt.Errorf("parsing appraisal policy: %w", err)
	}
	p, d := &Policy{}, decoder{at: map[string]*yaml.Node{}}
	d.value(n, "", reflect.ValueOf(p).Elem(), "", 0)
	if len(d.problems) == 0 {
		d.problems = p.problems()
		for i, q := range d.problems {
			d.problems[i].Line, d.problems[i].Column = d.place(q.Path)
		}
	}
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, func(a, b Problem) int { return cmp.Or(a.Line-b.Line, a.Column-b.Column) })
		return nil, fmt.Errorf("parsing appraisal policy: %w", d.problems)
	}
	return p, nil
}

func parseYAML(text []byte) (*yaml.Node, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(text), MaxSize)
	}
	if !utf8.Valid(text) {
		return nil, errors.New("it is not UTF-8")
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0 {
		return nil, errors.New("it is empty, and would accept nothing")
	}
	if err != nil {
		return nil, err
	}
	if err = dec.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New("it has more than one document")
	}
	return doc.Content[0], nil
}

// decoder reads a YAML tree into the types of this package. It notes all that is wrong and where everything stands.
type decoder struct {
	problems Problems
	at       map[string]*yaml.Node
	values   int
}

func (d *decoder) fail(n *yaml.Node, path, format string, args ...any) {
	d.problems = append(d.problems, Problem{n.Line, n.Column, path, fmt.Sprintf(format, args...)})
}

// place finds where a value stands, or the innermost one around it that does.
func (d *decoder) place(path string) (line, column int) {
	for {
		if n := d.at[path]; n != nil {
			return n.Line, n.Column
		}
		if path == "" {
			return 0, 0
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
}

// value reads a node into v. The tag is that of the field that v is, or is below.
func (d *decoder) value(n *yaml.Node, path string, v reflect.Value, tag reflect.StructTag, depth int) {
	d.values++
	switch {
	case d.values > maxValues || depth > maxDepth:
		if d.values <= maxValues+1 {
			d.fail(n, path, "the policy has more than %d values, or more than %d levels", maxValues, maxDepth)
		}
		return
	case n.Kind == yaml.AliasNode || n.Anchor != "" || n.Style&yaml.TaggedStyle != 0:
		d.fail(n, path, "anchors, aliases and tags are not allowed")
		return
	case n.ShortTag() == "!!null":
		d.fail(n, path, "it has no value: leave the key out")
		return
	}
	d.at[path] = n
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if _, ok := v.Interface().(scalar); ok {
		d.scalar(n, path, v)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.object(n, path, v, depth)
	case reflect.Map:
		d.dictionary(n, path, v, depth)
	case reflect.Slice:
		d.list(n, path, v, tag, depth)
	default:
		d.plain(n, path, v, tag)
	}
}

// object reads a mapping with known keys.
func (d *decoder) object(n *yaml.Node, path string, v reflect.Value, depth int) {
	fields := map[string]int{}
	var known []string
	for i := range v.NumField() {
		name := key(v.Type().Field(i))
		fields[name], known = i, append(known, name)
	}
	seen := d.members(n, path, func(k *yaml.Node, at string, value *yaml.Node) {
		i, ok := fields[k.Value]
		if !ok {
			d.fail(k, at, "the key %q is unknown; known here: %s", k.Value, strings.Join(known, ", "))
			return
		}
		d.value(value, at, v.Field(i), v.Type().Field(i).Tag, depth+1)
	})
	if n.Kind != yaml.MappingNode {
		return
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Tag.Get("required") != "" && !seen[key(f)] {
			d.fail(n, path, "the key %q is missing: %s", key(f), f.Tag.Get("doc"))
		}
	}
}

// dictionary reads a mapping whose keys are values themselves.
func (d *decoder) dictionary(n *yaml.Node, path string, v reflect.Value, depth int) {
	v.Set(reflect.MakeMap(v.Type()))
	d.members(n, path, func(k *yaml.Node, at string, value *yaml.Node) {
		name, element := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		if _, ok := name.Interface().(scalar); ok {
			d.scalar(k, at, name)
		} else {
			d.plain(&yaml.Node{Kind: k.Kind, Tag: "!!str", Value: k.Value, Line: k.Line, Column: k.Column}, at, name, "")
		}
		d.value(value, at, element, "", depth+1)
		v.SetMapIndex(name, element)
	})
	if n.Kind == yaml.MappingNode && v.Len() == 0 {
		d.fail(n, path, "it is empty: leave the key out")
	}
}

// members calls f for every key of a mapping that is new.
func (d *decoder) members(n *yaml.Node, path string, f func(k *yaml.Node, at string, value *yaml.Node)) map[string]bool {
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "it is %s, not a mapping", kind(n))
		return nil
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		at := strings.TrimPrefix(path+"."+k.Value, ".")
		switch {
		case k.Kind != yaml.ScalarNode || k.ShortTag() == "!!merge" || k.Anchor != "":
			d.fail(k, path, "a key is not a plain text")
		case seen[k.Value]:
			d.fail(k, at, "the key %q is given twice", k.Value)
		default:
			seen[k.Value] = true
			f(k, at, n.Content[i+1])
		}
	}
	return seen
}

func (d *decoder) list(n *yaml.Node, path string, v reflect.Value, tag reflect.StructTag, depth int) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, path, "it is %s, not a list", kind(n))
		return
	}
	if len(n.Content) == 0 && tag.Get("empty") == "" {
		d.fail(n, path, "the list is empty: leave the key out")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, e := range n.Content {
		d.value(e, fmt.Sprintf("%s[%d]", path, i), v.Index(i), tag, depth+1)
	}
}

// scalar reads a value that has a text form of its own.
func (d *decoder) scalar(n *yaml.Node, path string, v reflect.Value) {
	u, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	if !ok || n.Kind != yaml.ScalarNode {
		d.fail(n, path, "it is %s, not a text", kind(n))
		return
	}
	if err := u.UnmarshalText([]byte(n.Value)); err != nil {
		d.fail(n, path, "%v", err)
	}
}

// plain reads a text, one of several known texts, a boolean or a number.
func (d *decoder) plain(n *yaml.Node, path string, v reflect.Value, tag reflect.StructTag) {
	want := map[reflect.Kind]string{reflect.String: "!!str", reflect.Bool: "!!bool"}[v.Kind()]
	if n.Kind != yaml.ScalarNode || n.ShortTag() != cmp.Or(want, "!!int") {
		d.fail(n, path, "it is %s, not a %s", kind(n), cmp.Or(map[string]string{"!!str": "text", "!!bool": "truth value"}[want], "whole number"))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.Value)
		if e, ok := v.Interface().(enumeration); ok && !slices.Contains(e.values(), n.Value) {
			d.fail(n, path, "%q is not one of %s", n.Value, strings.Join(e.values(), ", "))
		}
	case reflect.Bool:
		if n.Value != "true" && n.Value != "false" {
			d.fail(n, path, "%q is neither true nor false", n.Value)
		}
		v.SetBool(n.Value == "true")
	default:
		u, err := readNumber(n.Value, v.Type().Bits())
		if limit := tag.Get("max"); err == nil && limit != "" {
			if m, _ := readNumber(limit, 64); u > m { // the tag is ours
				err = fmt.Errorf("%d is more than %s", u, limit)
			}
		}
		if err != nil {
			d.fail(n, path, "%v", err)
			return
		}
		v.SetUint(u)
	}
}

// key is the name of a field in the text.
func key(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// kind says in words what a node is.
func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		return fmt.Sprintf("%q", n.Value)
	}
	return "something else"
}

// Canonical returns the policy as JSON in the one form that stands for it: Parse reads the same policy from it.
func (p *Policy) Canonical() ([]byte, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encoding appraisal policy: %w", err)
	}
	// YAML takes some characters for line breaks, or not at all, that JSON leaves as they are. They stand in texts alone.
	return []byte(yamlSafe.ReplaceAllStringFunc(string(b), func(c string) string {
		r, _ := utf8.DecodeRuneInString(c)
		return fmt.Sprintf("\\u%04x", r)
	})), nil
}

var yamlSafe = regexp.MustCompile(`[\x{7f}-\x{9f}\x{2028}\x{2029}\x{feff}\x{fffe}\x{ffff}]`)
