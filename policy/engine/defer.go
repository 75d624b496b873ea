// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Half of the framework says why a request was denied, or is about fragments. Most groups need neither, and compiling
// it takes longer than all of their decisions. So it is left out at first for a policy that can not tell the
// difference: one whose rules are constants or name one rule of the framework each, as those of a generated policy
// do. Any other policy is compiled with all of it at once.

// deferred are the framework's files that a plain policy is compiled with only when they are needed.
func deferred() map[string]string {
	return map[string]string{"reasons.rego": reasonsText, "fragments.rego": fragmentsText}
}

// deferredPoints are the enforcement points whose rules are among the deferred ones.
var deferredPoints = []Point{PointLoadFragment, PointLoadTrustList}

// plain says whether every rule of a policy is a constant, or one of the framework's rules under its own name.
func plain(m *ast.Module) bool {
	return !slices.ContainsFunc(m.Rules, func(r *ast.Rule) bool { return !constant(r) && !forwards(r) })
}

// simple says whether a rule is of the form `name := value`, without anything else.
func simple(r *ast.Rule) bool {
	return len(r.Head.Ref()) == 1 && len(r.Head.Args) == 0 && r.Head.Key == nil && r.Head.Value != nil && r.Else == nil &&
		len(r.Body) == 1 && len(r.Body[0].With) == 0 && r.Body[0].Equal(ast.NewExpr(ast.BooleanTerm(true)))
}

// constant says whether a rule gives a value that depends on nothing.
func constant(r *ast.Rule) bool {
	if !simple(r) {
		return false
	}
	depends := false
	ast.WalkTerms(r.Head.Value, func(t *ast.Term) bool {
		switch t.Value.(type) {
		case ast.Null, ast.Boolean, ast.Number, ast.String, *ast.Array, ast.Object, ast.Set:
		default:
			depends = true
		}
		return depends
	})
	return !depends
}

// forwards says whether a rule is `point := data.framework.point`, or the one that asks for the reasons of a denial.
func forwards(r *ast.Rule) bool {
	if !simple(r) {
		return false
	}
	name := ruleName(r)
	if name == "reason" {
		return r.Head.Value.Equal(ast.ObjectTerm(ast.Item(ast.StringTerm("errors"), ast.NewTerm(frameworkRef("errors")))))
	}
	_, known := points[Point(name)]
	return known && r.Head.Value.Value.Compare(frameworkRef(name)) == 0
}

func frameworkRef(name string) ast.Ref {
	return ast.Ref{ast.DefaultRootDocument, ast.StringTerm("framework"), ast.StringTerm(name)}
}

// complete compiles what was deferred. Decisions stay what they are: no rule in force refers to what is added.
func (e *Engine) complete() error {
	if e.program.complete {
		return nil
	}
	p, err := compile(e.text, true)
	if err != nil {
		return err
	}
	e.program, e.queries = p, map[string]ast.Body{}
	return nil
}
