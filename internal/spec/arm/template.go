// SPDX-License-Identifier: Apache-2.0

package arm

import (
	"errors"
	"fmt"
	"strings"

	"cofferdam.dev/internal/spec/armexpr"
	"cofferdam.dev/internal/spec/doc"
)

// Limits of a template.
const (
	maxLoop     = 800 // as ARM has it
	maxNesting  = 5   // of templates in templates
	maxElements = 100_000
)

// template is one template with the values of its parameters.
type template struct {
	root       *doc.Value
	parameters map[string]*definition
	variables  map[string]*definition
	known      map[string]*doc.Value
	budget     *armexpr.Budget
	elements   *int // made by deep evaluation, in all templates
	nesting    int
}

// definition is a parameter or a variable, evaluated when it is asked for.
type definition struct {
	name  string
	raw   *doc.Value // nil: no value
	kind  string     // declared type of a parameter
	frame *frame     // in which raw is evaluated

	state state
	value *doc.Value
	err   error
}

type state uint8

const (
	fresh state = iota
	running
	done
)

// frame is where an expression stands: in a template, within loops.
type frame struct {
	t     *template
	loops []loop
}

type loop struct {
	name  string
	index int
}

var _ armexpr.Scope = (*frame)(nil)

// Parameter evaluates a parameter.
func (f *frame) Parameter(name string) (*doc.Value, error) {
	d := f.t.parameters[strings.ToLower(name)]
	if d == nil {
		return nil, fmt.Errorf("parameter %q is not declared", name)
	}
	if d.raw == nil {
		return nil, &armexpr.MissingParameterError{Name: d.name}
	}
	return d.evaluate("parameter")
}

// Variable evaluates a variable.
func (f *frame) Variable(name string) (*doc.Value, error) {
	d := f.t.variables[strings.ToLower(name)]
	if d == nil {
		return nil, fmt.Errorf("variable %q is not defined", name)
	}
	return d.evaluate("variable")
}

func (d *definition) evaluate(what string) (*doc.Value, error) {
	switch d.state {
	case running:
		return nil, fmt.Errorf("%s %q depends on itself", what, d.name)
	case fresh:
		d.state = running
		d.value, d.err = d.frame.deep(d.raw, 0)
		if d.err == nil && d.kind != "" {
			d.err = checkType(d.kind, d.value)
		}
		if d.err != nil && !armexpr.Unknowable(d.err) {
			d.err = fmt.Errorf("%s %q: %w", what, d.name, d.err)
		}
		d.state = done
	}
	return d.value, d.err
}

// CopyIndex returns the index of a loop.
func (f *frame) CopyIndex(name string) (int, error) {
	for i := len(f.loops) - 1; i >= 0; i-- {
		if name == "" || strings.EqualFold(f.loops[i].name, name) {
			return f.loops[i].index, nil
		}
	}
	if name == "" {
		return 0, errors.New("copyIndex() stands outside of a loop")
	}
	return 0, fmt.Errorf("copyIndex(): there is no loop %q here", name)
}

// Known returns what the caller said about the deployment.
func (f *frame) Known(function string) *doc.Value { return f.t.known[function] }

func (f *frame) in(name string, index int) *frame {
	loops := append(f.loops[:len(f.loops):len(f.loops)], loop{name, index})
	return &frame{t: f.t, loops: loops}
}

// shallow evaluates a value if it is an expression, and leaves its parts alone.
func (f *frame) shallow(v *doc.Value) (*doc.Value, error) {
	if v == nil || v.Evaluated || v.Kind != doc.String {
		if v != nil && v.Kind == doc.Unknown {
			return nil, &doc.Error{Path: v.Path, Line: v.Line, Err: v.Err}
		}
		return v, nil
	}
	expression, literal, ok := armexpr.Split(v.Text)
	w := doc.Str(literal)
	if ok {
		var err error
		if w, err = armexpr.Evaluate(expression, f, f.t.budget); err != nil {
			return nil, &doc.Error{Path: v.Path, Line: v.Line, Err: err}
		}
	}
	w = w.At(v)
	w.Evaluated = true
	return w, nil
}

// deep evaluates a value with all its parts. Parts that cannot be known become unknown values.
func (f *frame) deep(v *doc.Value, depth int) (*doc.Value, error) {
	*f.t.elements++
	switch {
	case depth > doc.MaxDepth || *f.t.elements > maxElements:
		return nil, v.Errorf("evaluating the template takes too much work")
	case v.Kind == doc.Unknown:
		return nil, v.Err
	case v.Evaluated:
		return v, nil
	case v.Kind == doc.String:
		return f.shallow(v)
	}
	part := func(w *doc.Value) (*doc.Value, error) {
		r, err := f.deep(w, depth+1)
		if err != nil && armexpr.Unknowable(err) {
			return &doc.Value{Kind: doc.Unknown, Err: err, Path: w.Path, Line: w.Line}, nil
		}
		return r, err
	}
	out := *v
	out.Items, out.Members = nil, nil
	for _, w := range v.Items {
		r, err := part(w)
		if err != nil {
			return nil, err
		}
		out.Items = append(out.Items, r)
	}
	expanded, err := f.expand(v)
	if err != nil {
		return nil, err
	}
	for _, m := range expanded.Members {
		r, err := part(m.Value)
		if err != nil {
			return nil, err
		}
		out.Members = append(out.Members, doc.Member{Key: m.Key, Value: r, Line: m.Line})
	}
	out.Evaluated = true
	return &out, nil
}

// get evaluates a member of an object. It is nil if there is none or it is null.
func (f *frame) get(v *doc.Value, key string) (*doc.Value, error) {
	if v == nil {
		return nil, nil
	}
	w, err := f.child(v, v.Fold(key))
	if err != nil || w.IsNull() {
		return nil, err
	}
	return w, nil
}

// child evaluates a part of v.
func (f *frame) child(v, part *doc.Value) (*doc.Value, error) {
	if part == nil {
		return nil, nil
	}
	if v.Evaluated && !part.Evaluated && part.Kind != doc.Unknown {
		w := *part
		w.Evaluated = true
		if w.Path == "" {
			w.Path, w.Line = v.Path, v.Line
		}
		return &w, nil
	}
	w, err := f.shallow(part)
	if err != nil || w.Kind != doc.Object {
		return w, err
	}
	return f.expand(w)
}

// items evaluates the items of a list one by one, without their parts.
func (f *frame) items(v *doc.Value) ([]*doc.Value, error) {
	if v == nil {
		return nil, nil
	}
	if v.Kind != doc.Array {
		return nil, v.Errorf("%s stands where a list is expected", v.Kind)
	}
	var out []*doc.Value
	for _, item := range v.Items {
		w, err := f.child(v, item)
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	return out, nil
}

// expand replaces the loops of an object by the lists that they make.
func (f *frame) expand(v *doc.Value) (*doc.Value, error) {
	loops := v.Fold("copy")
	if v.Evaluated || v.Kind != doc.Object || loops == nil || loops.Kind != doc.Array {
		return v, nil
	}
	out := *v
	out.Members = nil
	for _, m := range v.Members {
		if m.Value != loops {
			out.Members = append(out.Members, m)
		}
	}
	for _, l := range loops.Items {
		name, list, err := f.loop(l)
		if err != nil {
			return nil, err
		}
		if out.Fold(name) != nil {
			return nil, l.Errorf("loop %q makes a property that is there already", name)
		}
		out.Members = append(out.Members, doc.Member{Key: name, Value: list, Line: l.Line})
	}
	return &out, nil
}

// loop makes the list of one loop over a property or variable.
func (f *frame) loop(l *doc.Value) (string, *doc.Value, error) {
	name, count, err := f.loopHeader(l)
	if err != nil {
		return "", nil, err
	}
	input := l.Fold("input")
	if input == nil {
		return "", nil, l.Errorf("a loop has no input")
	}
	list := &doc.Value{Kind: doc.Array, Path: l.Path, Line: l.Line, Evaluated: true}
	for i := range count {
		w, err := f.in(name, i).deep(input, 0)
		if err != nil {
			if !armexpr.Unknowable(err) {
				return "", nil, err
			}
			w = &doc.Value{Kind: doc.Unknown, Err: err, Path: input.Path, Line: input.Line}
		}
		list.Items = append(list.Items, w)
	}
	return name, list, nil
}

func (f *frame) loopHeader(l *doc.Value) (string, int, error) {
	name, err := f.get(l, "name")
	if err != nil {
		return "", 0, err
	}
	count, err := f.get(l, "count")
	if err != nil {
		return "", 0, err
	}
	if name == nil || name.Kind != doc.String || count == nil || count.Kind != doc.Number {
		return "", 0, l.Errorf("a loop needs a name and a count")
	}
	n, err := wholeNumber(count)
	if err != nil || n < 0 || n > maxLoop {
		return "", 0, count.Errorf("a loop runs %s times, expected 0 to %d", count.Text, maxLoop)
	}
	return name.Text, int(n), nil
}
