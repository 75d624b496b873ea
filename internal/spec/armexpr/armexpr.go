// SPDX-License-Identifier: Apache-2.0

// Package armexpr evaluates the expressions of Azure Resource Manager templates, offline.
//
// It knows the functions whose result follows from their arguments. What only a deployment knows (references to
// resources, keys, the time, random values) is an *UnknownError and never a guess; so is a function that it does not
// implement. It trusts nothing that it reads: length, depth, steps and the size of results are bounded, and it has no
// side effects.
package armexpr

import (
	"errors"
	"fmt"
	"strings"

	"cofferdam.dev/internal/spec/doc"
)

// Limits.
const (
	MaxLength = 24_576 // of an expression, as ARM has it
	maxDepth  = 50
	maxSteps  = 200_000
	maxOutput = 16 << 20
	maxRange  = 10_000
)

// Split tells whether a string of a template is an expression. If not, literal is what it means: a leading [[ stands
// for [.
func Split(text string) (expression, literal string, ok bool) {
	switch {
	case !strings.HasPrefix(text, "[") || !strings.HasSuffix(text, "]"):
		return "", text, false
	case strings.HasPrefix(text, "[["):
		return "", text[1:], false
	}
	return text[1 : len(text)-1], "", true
}

// UnknownError says that a value cannot be known offline.
type UnknownError struct {
	Expression string
	Reason     string
}

// Error names the expression.
func (e *UnknownError) Error() string {
	return fmt.Sprintf("expression %s cannot be evaluated offline: %s", shorten(e.Expression), e.Reason)
}

// MissingParameterError says that a parameter has neither a value nor a default.
type MissingParameterError struct{ Name string }

// Error names the parameter.
func (e *MissingParameterError) Error() string {
	return fmt.Sprintf("parameter %q has neither a value nor a default value", e.Name)
}

// Unknowable says that an error is about a value that is not known here, rather than about a mistake.
func Unknowable(err error) bool {
	var u *UnknownError
	var m *MissingParameterError
	return errors.As(err, &u) || errors.As(err, &m)
}

// Scope answers what an expression asks of its surroundings. All names are compared without regard to case.
type Scope interface {
	// Parameter and Variable return values with every expression in them evaluated.
	Parameter(name string) (*doc.Value, error)
	Variable(name string) (*doc.Value, error)

	// CopyIndex returns the index of the named loop, or of the innermost for "".
	CopyIndex(name string) (int, error)

	// Known returns what is known of resourceGroup(), subscription() and the like, or nil.
	Known(function string) *doc.Value
}

// Budget bounds the work for a whole template.
type Budget struct{ steps, output int }

func (b *Budget) step(result *doc.Value) error {
	b.steps++
	if result != nil {
		b.output += len(result.Text) + 16*(len(result.Items)+len(result.Members))
	}
	if b.steps > maxSteps || b.output > maxOutput {
		return errors.New("evaluating the template takes too much work")
	}
	return nil
}

// Evaluate evaluates an expression, given without its brackets.
func Evaluate(expression string, s Scope, b *Budget) (*doc.Value, error) {
	e, err := parse(expression)
	if err != nil {
		return nil, fmt.Errorf("expression [%s]: %w", shorten(expression), err)
	}
	ev := evaluator{scope: s, budget: b, text: "[" + expression + "]"}
	v, err := ev.eval(e)
	if err != nil && !Unknowable(err) {
		return nil, fmt.Errorf("expression %s: %w", shorten(ev.text), err)
	}
	return v, err
}

func shorten(s string) string {
	const limit = 200
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
