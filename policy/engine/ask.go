// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// decide answers one request and applies its state changes. With an allowed decision it returns the rule's own answer;
// with a denied one it finds the reasons if why says so.
func (e *Engine) decide(ctx context.Context, point Point, input map[string]any, why bool) (Decision, ast.Object, error) {
	withRule := maps.Clone(input)
	if withRule == nil {
		withRule = map[string]any{}
	}
	withRule["rule"] = string(point)
	in, err := inputValue(withRule)
	if err != nil {
		return Decision{}, nil, err
	}
	if slices.Contains(deferredPoints, point) {
		err = e.complete()
		if err != nil {
			return Decision{}, nil, err
		}
	}
	info, known := points[point]
	switch {
	case !known:
		return denied(point, fmt.Sprintf("enforcement point %q is unknown", point)), nil, nil
	case e.api == nil:
		return denied(point, "policy does not define api_version"), nil, nil
	case e.program.rules[string(point)]:
		return e.ask(ctx, point, "data.policy.", in, why)
	case info.optional, e.api.less(info.since) && info.older == framework:
		return e.ask(ctx, point, "data.framework.", in, why)
	case e.api.less(info.since) && info.older == allow:
		d := Decision{Point: point, Allowed: true}
		d.fill(nil, in)
		return d, nil, nil
	case e.api.less(info.since):
		return denied(point, fmt.Sprintf("policy of api_version %s does not know %s", e.api, point)), nil, nil
	}
	return denied(point, fmt.Sprintf("rule for %s is missing from policy", point)), nil, nil
}

// ask evaluates the rule of a point in a package.
func (e *Engine) ask(ctx context.Context, point Point, pkg string, in ast.Object, why bool) (Decision, ast.Object, error) {
	bounded, cancel := context.WithTimeout(ctx, e.deadline)
	defer cancel()
	v, err := e.query(bounded, pkg+string(point), in)
	if err != nil {
		return Decision{}, nil, err
	}
	var a answer
	if v != nil {
		if a, err = parseAnswer(v); err != nil {
			return Decision{}, nil, err
		}
	}
	if !a.allowed && !why {
		return denied(point, "nobody asked for the reasons"), nil, nil
	}
	if !a.allowed {
		d, err := e.explain(ctx, point, pkg, in)
		return d, nil, err
	}
	if err := e.store.state.apply(a.changes); err != nil {
		return denied(point, "state: "+err.Error()), nil, nil
	}
	d := Decision{Point: point, Allowed: true}
	d.fill(a.object, in)
	e.shareStdio(&d, in)
	return d, a.object, nil
}

// shareStdio gives every process of a container the access to standard streams that the container was created with.
func (e *Engine) shareStdio(d *Decision, in ast.Object) {
	id, ok := member(in, "containerID").(ast.String)
	if !ok {
		return
	}
	switch d.Point {
	case PointCreateContainer:
		s, before := e.store.state, e.stdio[string(id)]
		s.undo = append(s.undo, func() { e.stdio[string(id)] = before })
		e.stdio[string(id)] = d.AllowStdio
	case PointExecInContainer:
		d.AllowStdio = e.stdio[string(id)]
	}
}

// explain asks the policy's reason, or the framework's errors, for a denial.
func (e *Engine) explain(ctx context.Context, point Point, pkg string, in ast.Object) (Decision, error) {
	err := e.complete() // takes what it takes
	if err != nil {
		return Decision{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, e.deadline)
	defer cancel()
	d := Decision{Point: point}
	var list ast.Value
	switch {
	case pkg == "data.framework.":
		v, err := e.query(ctx, "data.framework.errors", in)
		if err != nil {
			return Decision{}, err
		}
		list = v
	case e.program.rules["reason"]:
		v, err := e.query(ctx, "data.policy.reason", in)
		if err != nil {
			return Decision{}, err
		}
		reason, _ := v.(ast.Object)
		list = member(reason, "errors")
	}
	if d.Reasons = reasonList(list); len(d.Reasons) == 0 {
		d.Reasons = []string{fmt.Sprintf("policy's rule for %s does not allow it and gives no reason", point)}
	}
	return d, nil
}

// query evaluates a reference; nil means undefined.
func (e *Engine) query(ctx context.Context, ref string, in ast.Object) (ast.Value, error) {
	body, ok := e.queries[ref]
	if !ok {
		parsed, err := ast.ParseBody("x = " + ref)
		if err != nil {
			return nil, err
		}
		if body, err = e.program.compiler.QueryCompiler().Compile(parsed); err != nil {
			return nil, err
		}
		e.queries[ref] = body
	}
	cancel := topdown.NewCancel()
	defer context.AfterFunc(ctx, cancel.Cancel)()
	q := topdown.NewQuery(body).WithCompiler(e.program.compiler).WithStore(e.store).
		WithTransaction(transaction{}).WithCancel(cancel)
	if in != nil {
		q = q.WithInput(ast.NewTerm(in))
	}
	results, err := q.Run(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("evaluation took longer than allowed: %w", ctx.Err())
	case err != nil:
		return nil, err
	case len(results) == 0:
		return nil, nil
	}
	if t := results[0][ast.Var("x")]; t != nil {
		return t.Value, nil
	}
	return nil, nil
}

// inputValue converts an input; values that are OPA's already stay as they are.
func inputValue(input map[string]any) (ast.Object, error) {
	obj := ast.NewObject()
	for k, v := range input {
		var value ast.Value
		var err error
		if list, ok := v.([]any); ok && len(list) > 0 {
			value, err = listValue(list)
		} else {
			value, err = ast.InterfaceToValue(v)
		}
		if err != nil {
			return nil, fmt.Errorf("input %s: %w", k, err)
		}
		obj.Insert(ast.StringTerm(k), ast.NewTerm(value))
	}
	return obj, nil
}

func listValue(list []any) (ast.Value, error) {
	terms := make([]*ast.Term, len(list))
	for i, x := range list {
		v, ok := x.(ast.Value)
		if !ok {
			var err error
			if v, err = ast.InterfaceToValue(x); err != nil {
				return nil, err
			}
		}
		terms[i] = ast.NewTerm(v)
	}
	return ast.NewArray(terms...), nil
}
