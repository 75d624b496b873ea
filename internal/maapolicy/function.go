// SPDX-License-Identifier: Apache-2.0

package maapolicy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/jmespath-community/go-jmespath/pkg/api"
	jpfunctions "github.com/jmespath-community/go-jmespath/pkg/functions"
)

// operand is what an expression comes to: a set of values, with repetitions. A read-only one may not be issued.
type operand struct {
	values   []Value
	readOnly bool
}

type function struct {
	arguments int
	apply     func(e *evaluation, c *call, args []operand) (operand, error)
}

// functions are those of version 1.2.
var functions = map[string]function{
	"JmesPath":          {2, applyJmesPath},
	"JsonToClaimValue":  {1, applyJSONToClaimValue},
	"IsSubsetOf":        {2, applyIsSubsetOf},
	"AppendString":      {2, applyAppendString},
	"NegateBool":        {1, applyNegateBool},
	"ContainsOnlyValue": {2, applyContainsOnlyValue},
}

func functionNames() string { return strings.Join(slices.Sorted(maps.Keys(functions)), ", ") }

// value evaluates an expression, arguments from left to right.
func (e *evaluation) value(x expression, found map[string][]int) (operand, error) {
	switch x := x.(type) {
	case *literal:
		return operand{values: []Value{x.value}}, nil
	case *reference:
		var o operand
		for _, i := range found[x.id] {
			o.values = append(o.values, e.claims[i].property(x.property))
			o.readOnly = o.readOnly || x.property == "value" && e.claims[i].ReadOnly
		}
		return o, nil
	case *call:
		args := make([]operand, len(x.arguments))
		for i, a := range x.arguments {
			var err error
			if args[i], err = e.value(a, found); err != nil {
				return operand{}, err
			}
		}
		return functions[x.function].apply(e, x, args)
	}
	return operand{}, fmt.Errorf("expression of type %T", x)
}

// single evaluates an expression that must come to one value of a kind.
func (e *evaluation) single(x expression, found map[string][]int, kind Kind, what string) (operand, error) {
	o, err := e.value(x, found)
	if err != nil {
		return operand{}, err
	}
	return o, one(x.position(), o, kind, what)
}

// one requires an operand to be one value of a kind; of any, when kind is empty.
func one(at Position, o operand, kind Kind, what string) error {
	if len(o.values) != 1 {
		return evaluationError(at, "%s must be one value, not %d", what, len(o.values))
	}
	if v := o.values[0]; kind != "" && v.kind != kind {
		return evaluationError(at, "%s must be a %s, not %s", what, kind, v)
	}
	return nil
}

// argument requires an argument of a call to be one value of a kind.
func argument(c *call, args []operand, i int, kind Kind) (Value, error) {
	err := one(c.arguments[i].position(), args[i], kind, fmt.Sprintf("argument %d of %s", i+1, c.function))
	if err != nil {
		return Value{}, err
	}
	return args[i].values[0], nil
}

// spend counts text that was made.
func (e *evaluation) spend(at Position, n int) error {
	if e.text += n; e.text > maxText {
		return evaluationError(at, "the policy makes more than %d bytes of text", maxText)
	}
	return nil
}

// jmesLimit bounds a query in bytes; what it works on is bounded by maxText.
const jmesLimit = 8 << 10

func applyJmesPath(e *evaluation, c *call, args []operand) (operand, error) {
	text, err := argument(c, args, 0, String)
	if err != nil {
		return operand{}, err
	}
	query, err := argument(c, args, 1, String)
	if err != nil {
		return operand{}, err
	}
	if len(query.text) > jmesLimit || query.text == "" {
		return operand{}, evaluationError(c.at, "the query has %d bytes, not 1 to %d", len(query.text), jmesLimit)
	}
	if err = e.spend(c.at, len(text.text)); err != nil {
		return operand{}, err
	}
	if err = checkQuery(query.text, len(text.text)); err != nil {
		return operand{}, evaluationError(c.at, "query %s: %v", query, err)
	}
	data, err := decodeJSON(text.text, false)
	if err != nil {
		return operand{}, evaluationError(c.arguments[0].position(), "argument 1 of JmesPath is no JSON: %v", err)
	}
	result, err := search(query.text, data)
	if err != nil {
		return operand{}, evaluationError(c.at, "query %s: %v", query, err)
	}
	b, err := json.Marshal(result)
	if err != nil {
		return operand{}, evaluationError(c.at, "query %s: %v", query, err)
	}
	if err = e.spend(c.at, len(b)); err != nil {
		return operand{}, err
	}
	return operand{[]Value{StringValue(string(b))}, args[0].readOnly || args[1].readOnly}, nil
}

// search runs a query, which checkQuery has passed, with the functions of JMESPath and with equals_ignore_case. A panic of the library becomes an error: the query is its author's.
func search(query string, data any) (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			result, err = nil, fmt.Errorf("it can not be evaluated: %v", p)
		}
	}()
	q, err := api.Compile(query, jpfunctions.FunctionEntry{
		Name:      "equals_ignore_case",
		Arguments: []jpfunctions.ArgSpec{{Types: []jpfunctions.JpType{jpfunctions.JpString}}, {Types: []jpfunctions.JpType{jpfunctions.JpString}}},
		Handler: func(args []any) (any, error) {
			a, okA := args[0].(string)
			b, okB := args[1].(string)
			if !okA || !okB {
				return nil, errors.New("equals_ignore_case compares strings")
			}
			return strings.EqualFold(a, b), nil
		},
	})
	if err != nil {
		return nil, err
	}
	return q.Search(data)
}

// decodeJSON decodes one JSON value and nothing after it.
func decodeJSON(text string, numbers bool) (any, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	if numbers {
		dec.UseNumber()
	}
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the value")
	}
	return v, nil
}

func applyJSONToClaimValue(e *evaluation, c *call, args []operand) (operand, error) {
	text, err := argument(c, args, 0, String)
	if err != nil {
		return operand{}, err
	}
	if err = e.spend(c.at, len(text.text)); err != nil {
		return operand{}, err
	}
	v, err := decodeJSON(text.text, true)
	if err != nil {
		return operand{}, evaluationError(c.arguments[0].position(), "%s is no JSON: %v", text, err)
	}
	list, isList := v.([]any)
	if !isList {
		list = []any{v}
	}
	o := operand{readOnly: args[0].readOnly}
	for _, v := range list {
		w, err := primitive(v)
		if err != nil {
			return operand{}, evaluationError(c.at, "%s is no claim value: %v", text, err)
		}
		if w.kind != "" {
			o.values = append(o.values, w)
		}
	}
	return o, nil
}

// primitive converts a JSON value; null becomes no value.
func primitive(v any) (Value, error) {
	switch v := v.(type) {
	case nil:
		return Value{}, nil
	case string:
		return StringValue(v), nil
	case bool:
		return BooleanValue(v), nil
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return IntegerValue(i), nil
		}
		f, err := v.Float64()
		if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
			return Value{}, fmt.Errorf("the number %s is no integer of 64 bits", v)
		}
		return IntegerValue(int64(f)), nil
	}
	return Value{}, errors.New("it holds an object, or an array in an array")
}

func applyIsSubsetOf(e *evaluation, c *call, args []operand) (operand, error) {
	if e.steps += len(args[0].values) + len(args[1].values); e.steps > maxSteps {
		return operand{}, evaluationError(c.at, "the policy takes more than %d comparisons", maxSteps)
	}
	super := map[Value]bool{}
	for _, v := range args[1].values {
		super[v] = true
	}
	all := !slices.ContainsFunc(args[0].values, func(v Value) bool { return !super[v] })
	return operand{values: []Value{BooleanValue(all)}}, nil
}

func applyAppendString(e *evaluation, c *call, args []operand) (operand, error) {
	a, err := argument(c, args, 0, String)
	if err != nil {
		return operand{}, err
	}
	b, err := argument(c, args, 1, String)
	if err != nil {
		return operand{}, err
	}
	if err = e.spend(c.at, len(a.text)+len(b.text)); err != nil {
		return operand{}, err
	}
	return operand{[]Value{StringValue(a.text + b.text)}, args[0].readOnly || args[1].readOnly}, nil
}

func applyNegateBool(_ *evaluation, c *call, args []operand) (operand, error) {
	v, err := argument(c, args, 0, Boolean)
	if err != nil {
		return operand{}, err
	}
	return operand{[]Value{BooleanValue(!v.boolean)}, args[0].readOnly}, nil
}

func applyContainsOnlyValue(_ *evaluation, c *call, args []operand) (operand, error) {
	want, err := argument(c, args, 1, "")
	if err != nil {
		return operand{}, err
	}
	other := slices.ContainsFunc(args[0].values, func(v Value) bool { return v != want })
	return operand{values: []Value{BooleanValue(len(args[0].values) > 0 && !other)}}, nil
}
