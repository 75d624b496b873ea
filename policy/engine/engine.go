// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"cofferdam.dev/policy"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Defaults of Options.
const (
	DefaultMinimumAPI = "0.10.0"
	DefaultDeadline   = 10 * time.Second

	// MaxTextSize bounds a policy's text.
	MaxTextSize = 1 << 20
)

// Options configure an Engine. The zero value is the strict one.
type Options struct {
	// DefaultMounts are mounts that every container may have besides those its policy lists (/proc, /dev, …);
	// PrivilegedMounts those that a privileged container may have besides.
	DefaultMounts    []policy.Mount
	PrivilegedMounts []policy.Mount

	// MinimumAPI is the oldest api_version accepted: an older policy would leave newer enforcement points open.
	// Empty means DefaultMinimumAPI. "0.0.0" accepts every policy, even one without a version, which denies all.
	MinimumAPI string

	// Deadline bounds loading, and each decision. Zero means DefaultDeadline.
	Deadline time.Duration
}

// Engine holds one loaded policy and the group's state. It is safe for concurrent use: requests are decided one after
// another.
type Engine struct {
	Requests

	lock     chan struct{} // holds one token while somebody decides
	program  *program
	store    *store
	queries  map[string]ast.Body
	api      *version // nil: the policy has none, and everything is denied
	deadline time.Duration
}

// New loads a policy.
func New(text []byte, o Options) (*Engine, error) {
	e, err := load(text, o)
	if err != nil {
		return nil, fmt.Errorf("loading policy: %w", err)
	}
	return e, nil
}

func load(text []byte, o Options) (*Engine, error) {
	p, err := compile(text)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		lock: make(chan struct{}, 1), program: p, deadline: o.Deadline, queries: map[string]ast.Body{},
		store: &store{state: newState(), docs: map[string]ast.Value{
			"defaultMounts": mountDocument(o.DefaultMounts), "privilegedMounts": mountDocument(o.PrivilegedMounts),
		}},
	}
	if e.deadline == 0 {
		e.deadline = DefaultDeadline
	}
	e.Requests = Requests{decide: e.Decide}
	ctx, cancel := context.WithTimeout(context.Background(), e.deadline)
	defer cancel()
	if err := e.readVersion(ctx, o.MinimumAPI); err != nil {
		return nil, err
	}
	return e, e.computeFacts(ctx)
}

// readVersion finds api_version, or its older name, and holds it against the oldest one accepted.
func (e *Engine) readVersion(ctx context.Context, minimum string) error {
	if minimum == "" {
		minimum = DefaultMinimumAPI
	}
	lowest, err := parseVersion(minimum)
	if err != nil {
		return fmt.Errorf("minimum api_version: %w", err)
	}
	newest, err := parseVersion(APIVersion)
	if err != nil {
		return err
	}
	for _, name := range []string{"api_version", "api_svn"} {
		if !e.program.rules[name] {
			continue
		}
		v, err := e.query(ctx, "data.policy."+name, nil)
		if err != nil {
			return err
		}
		s, ok := v.(ast.String)
		if !ok {
			return fmt.Errorf("%s is no text", name)
		}
		api, err := parseVersion(string(s))
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		case newest.less(api):
			return fmt.Errorf("%s %s is newer than %s, the newest that is understood", name, api, newest)
		case api.less(lowest):
			return fmt.Errorf("%s %s is older than %s: enforcement points added since would be open", name, api, lowest)
		}
		e.api = &api
		return nil
	}
	if (version{}).less(lowest) {
		return errors.New("policy does not define api_version")
	}
	return nil
}

// computeFacts evaluates what the framework derives from policy and fragments alone.
func (e *Engine) computeFacts(ctx context.Context) error {
	v, err := e.query(ctx, "data.framework.facts", nil)
	if err != nil {
		return err
	}
	if v == nil {
		return errors.New("policy's containers, fragments or external processes have an unexpected form")
	}
	e.store.docs["facts"] = v
	return nil
}

// Decide asks one enforcement point and applies the state changes of an allowed decision. An error means that no
// decision could be made; the Decision returned with it denies.
func (e *Engine) Decide(ctx context.Context, point Point, input map[string]any) (Decision, error) {
	tx, err := e.Begin(ctx)
	if err != nil {
		return denied(point, "no decision: "+err.Error()), err
	}
	defer tx.Rollback()
	d, err := tx.Decide(ctx, point, input)
	if err == nil {
		tx.Commit()
	}
	return d, err
}

// Begin starts a unit of decisions whose state changes are undone unless it is committed. Until Commit or Rollback
// all other callers wait, so that nobody builds on a mount that has not happened yet; the caller must not ask the
// Engine itself meanwhile.
//
//	tx, err := e.Begin(ctx)
//	defer tx.Rollback()
//	d, err := tx.MountDevice(ctx, target, hash)
//	… refuse unless d.Allowed; mount …
//	tx.Commit()
func (e *Engine) Begin(ctx context.Context) (*Tx, error) {
	select {
	case e.lock <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the policy: %w", ctx.Err())
	}
	t := &Tx{engine: e}
	t.Requests = Requests{decide: t.Decide}
	return t, nil
}

// Tx is a unit of decisions in progress. It is not safe for concurrent use.
type Tx struct {
	Requests
	engine *Engine // nil once it has ended
}

// Decide is Engine.Decide within the unit.
func (t *Tx) Decide(ctx context.Context, point Point, input map[string]any) (Decision, error) {
	if t.engine == nil {
		err := errors.New("unit of decisions has ended")
		return denied(point, err.Error()), err
	}
	d, err := t.engine.decide(ctx, point, input)
	if err != nil {
		return denied(point, "no decision: "+err.Error()), fmt.Errorf("deciding %s: %w", point, err)
	}
	return d, nil
}

// Commit keeps the state changes of the unit and lets others proceed.
func (t *Tx) Commit() {
	if t.engine != nil {
		t.engine.store.state.keep()
		t.end()
	}
}

// Rollback undoes the state changes of the unit and lets others proceed. After Commit it does nothing.
func (t *Tx) Rollback() {
	if t.engine != nil {
		t.engine.store.state.rollback(0)
		t.end()
	}
}

func (t *Tx) end() {
	<-t.engine.lock
	t.engine = nil
}

func (e *Engine) decide(ctx context.Context, point Point, input map[string]any) (Decision, error) {
	ctx, cancel := context.WithTimeout(ctx, e.deadline)
	defer cancel()
	withRule := maps.Clone(input)
	if withRule == nil {
		withRule = map[string]any{}
	}
	withRule["rule"] = string(point)
	v, err := inputValue(withRule)
	if err != nil {
		return Decision{}, err
	}
	in, ok := v.(ast.Object)
	if !ok {
		return Decision{}, errors.New("input is no object")
	}

	info, known := points[point]
	ruled := e.program.rules[string(point)]
	switch {
	case !known:
		return denied(point, fmt.Sprintf("enforcement point %q is unknown", point)), nil
	case e.api == nil:
		return denied(point, "policy does not define api_version"), nil
	case ruled:
		return e.ask(ctx, point, "data.policy.", in)
	case info.optional, e.api.less(info.since) && info.older == framework:
		return e.ask(ctx, point, "data.framework.", in)
	case e.api.less(info.since) && info.older == allow:
		d := Decision{Point: point, Allowed: true}
		d.fill(answer{object: ast.NewObject()}, in)
		return d, nil
	case e.api.less(info.since):
		return denied(point, fmt.Sprintf("policy of api_version %s does not know %s", e.api, point)), nil
	}
	return denied(point, fmt.Sprintf("rule for %s is missing from policy", point)), nil
}

// ask evaluates the rule of a point in a package.
func (e *Engine) ask(ctx context.Context, point Point, pkg string, in ast.Object) (Decision, error) {
	v, err := e.query(ctx, pkg+string(point), in)
	if err != nil {
		return Decision{}, err
	}
	var a answer
	if v != nil {
		if a, err = parseAnswer(v); err != nil {
			return Decision{}, err
		}
	}
	if !a.allowed {
		return e.explain(ctx, point, pkg, in)
	}
	if err := e.store.state.apply(a.changes); err != nil {
		return denied(point, "state: "+err.Error()), nil
	}
	d := Decision{Point: point, Allowed: true}
	d.fill(a, in)
	return d, nil
}

// explain asks the policy's reason, or the framework's errors, for a denial.
func (e *Engine) explain(ctx context.Context, point Point, pkg string, in ast.Object) (Decision, error) {
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
	for _, t := range results[0] {
		return t.Value, nil
	}
	return nil, nil
}

func mountDocument(list []policy.Mount) ast.Value {
	terms := make([]*ast.Term, len(list))
	for i, m := range list {
		options := make([]*ast.Term, len(m.Options))
		for j, o := range m.Options {
			options[j] = ast.StringTerm(o)
		}
		terms[i] = ast.ObjectTerm(
			ast.Item(ast.StringTerm("destination"), ast.StringTerm(m.Destination)),
			ast.Item(ast.StringTerm("options"), ast.ArrayTerm(options...)),
			ast.Item(ast.StringTerm("source"), ast.StringTerm(m.Source)),
			ast.Item(ast.StringTerm("type"), ast.StringTerm(m.Type)),
		)
	}
	return ast.NewArray(terms...)
}

// inputValue converts an input; values that are OPA's already stay as they are.
func inputValue(input map[string]any) (ast.Value, error) {
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
