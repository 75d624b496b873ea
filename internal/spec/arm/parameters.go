// SPDX-License-Identifier: Apache-2.0

package arm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cofferdam.dev/internal/spec/armexpr"
	"cofferdam.dev/internal/spec/doc"
)

// newTemplate reads parameters and variables. Values are keyed by the parameter's name in lower case.
func newTemplate(root *doc.Value, values map[string]*doc.Value, parent *template) (*template, error) {
	t := &template{
		root: root, parameters: map[string]*definition{}, variables: map[string]*definition{},
		known: parent.known, budget: parent.budget, elements: parent.elements, nesting: parent.nesting + 1,
	}
	if root.Kind != doc.Object {
		return nil, root.Errorf("a template is an object, not %s", root.Kind)
	}
	if t.nesting > maxNesting {
		return nil, root.Errorf("templates are nested more than %d deep", maxNesting)
	}
	f := &frame{t: t}
	for _, m := range root.Fold("parameters").MembersOf() {
		d := &definition{name: m.Key, frame: f, kind: textOf(m.Value.Fold("type"))}
		key := strings.ToLower(m.Key)
		switch {
		case values[key] != nil:
			d.raw = values[key]
		case m.Value.Fold("value") != nil:
			d.raw = evaluated(m.Value.Fold("value"))
		default:
			d.raw = m.Value.Fold("defaultValue")
		}
		if err := t.checkAllowed(d, m.Value.Fold("allowedValues")); err != nil {
			return nil, err
		}
		t.parameters[key] = d
	}
	for key, v := range values {
		if t.parameters[key] == nil {
			return nil, v.Errorf("the template declares no parameter %q", key)
		}
	}
	return t, t.readVariables(f)
}

func (t *template) checkAllowed(d *definition, allowed *doc.Value) error {
	if allowed == nil || d.raw == nil || !d.raw.Evaluated {
		return nil
	}
	same := func(v *doc.Value) bool { return v.Kind == d.raw.Kind && v.Text == d.raw.Text && v.True == d.raw.True }
	if !slices.ContainsFunc(allowed.Items, same) {
		return d.raw.Errorf("the value of parameter %q is not among those that the template allows", d.name)
	}
	return nil
}

// readVariables finds the variables, also those that loops make.
func (t *template) readVariables(f *frame) error {
	variables := t.root.Fold("variables")
	for _, m := range variables.MembersOf() {
		if strings.EqualFold(m.Key, "copy") && m.Value.Kind == doc.Array {
			continue
		}
		t.variables[strings.ToLower(m.Key)] = &definition{name: m.Key, frame: f, raw: m.Value}
	}
	loops := variables.Fold("copy")
	if loops == nil || loops.Kind != doc.Array {
		return nil
	}
	for _, l := range loops.Items {
		name := textOf(l.Fold("name"))
		if name == "" || t.variables[strings.ToLower(name)] != nil {
			return l.Errorf("a loop over variables needs a name of its own")
		}
		// The loop is evaluated as the only property of an object, and its list taken out when it is asked for.
		t.variables[strings.ToLower(name)] = &definition{name: name, frame: f, raw: &doc.Value{
			Kind: doc.String, Path: l.Path, Line: l.Line, Text: loopExpression(name, t, l),
		}}
	}
	return nil
}

// loopExpression makes a parameter-like definition that holds the loop, and an expression that picks its list.
func loopExpression(name string, t *template, l *doc.Value) string {
	holder := "$copy:" + strings.ToLower(name)
	t.variables[holder] = &definition{name: name, frame: &frame{t: t}, raw: &doc.Value{
		Kind: doc.Object, Path: l.Path, Line: l.Line,
		Members: []doc.Member{{Key: "copy", Value: &doc.Value{Kind: doc.Array, Items: []*doc.Value{l}, Path: l.Path, Line: l.Line}}},
	}}
	quoted := strings.ReplaceAll(name, "'", "''")
	return "[variables('" + strings.ReplaceAll(holder, "'", "''") + "')['" + quoted + "']]"
}

func textOf(v *doc.Value) string {
	if v == nil || v.Kind != doc.String {
		return ""
	}
	return v.Text
}

func evaluated(v *doc.Value) *doc.Value {
	w := *v
	w.Evaluated = true
	return &w
}

func wholeNumber(v *doc.Value) (int64, error) { return strconv.ParseInt(v.Text, 10, 64) }

// checkType compares a parameter's value with its declared type.
func checkType(declared string, v *doc.Value) error {
	kinds := map[string]doc.Kind{
		"string": doc.String, "securestring": doc.String, "int": doc.Number, "bool": doc.Bool, "array": doc.Array,
		"object": doc.Object, "secureobject": doc.Object,
	}
	want, ok := kinds[strings.ToLower(declared)]
	if !ok {
		return v.Errorf("type %q is unknown", declared)
	}
	if v.Kind != want && v.Kind != doc.Null {
		return v.Errorf("the value is %s, and the type is %s", v.Kind, declared)
	}
	return nil
}

// fileValues reads a parameters file.
func fileValues(file *doc.Value, values map[string]*doc.Value) error {
	parameters := file.Fold("parameters")
	if parameters == nil || parameters.Kind != doc.Object {
		return file.Errorf("a parameters file has an object \"parameters\"")
	}
	for _, m := range parameters.Members {
		v := m.Value.Fold("value")
		if v == nil {
			v = m.Value.Fold("secureValue")
		}
		switch {
		case v != nil:
			values[strings.ToLower(m.Key)] = evaluated(v)
		case m.Value.Fold("reference") != nil:
			values[strings.ToLower(m.Key)] = &doc.Value{
				Kind: doc.Unknown, Path: m.Value.Path, Line: m.Line, Evaluated: true,
				Err: &armexpr.UnknownError{Expression: m.Key, Reason: "the parameter's value is in a key vault"},
			}
		default:
			return m.Value.Errorf("parameter %q has no value", m.Key)
		}
	}
	return nil
}

// flagValue reads the value of -p NAME=VALUE as the declared type has it.
func flagValue(name, text, declared string) (*doc.Value, error) {
	path := "parameter " + strconv.Quote(name)
	v := doc.Str(text)
	switch strings.ToLower(declared) {
	case "", "string", "securestring":
	default:
		var err error
		if v, err = doc.ParseJSON([]byte(text)); err != nil {
			return nil, fmt.Errorf("%s: the value is no JSON, and its type is %s: %w", path, declared, err)
		}
	}
	v.Path, v.Line, v.Evaluated = path, 0, true
	return v, nil
}
