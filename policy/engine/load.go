// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"cofferdam.dev/policy"

	"github.com/open-policy-agent/opa/v1/ast"
)

// load compiles a policy and computes what every decision needs of it.
func load(text []byte, o Options) (*Engine, error) {
	p, err := compile(text, false)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		lock: make(chan struct{}, 1), text: slices.Clone(text), program: p, egress: p.egress, deadline: o.Deadline, queries: map[string]ast.Body{},
		stdio: map[string]bool{},
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
	if err := e.readGiven(ctx); err != nil {
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

// readGiven evaluates what the policy's text gives to the framework.
func (e *Engine) readGiven(ctx context.Context) error {
	given := ast.NewObject()
	for _, name := range []string{
		"framework_version", "framework_svn", "containers", "fragments", "external_processes", "platform_rules",
		"transparency_trust_lists",
	} {
		if !e.program.rules[name] {
			continue
		}
		v, err := e.query(ctx, "data.policy."+name, nil)
		if err != nil {
			return err
		}
		if v == nil {
			return fmt.Errorf("policy's %s has no value by itself", name)
		}
		given.Insert(ast.StringTerm(name), ast.NewTerm(v))
	}
	e.store.docs["given"] = given
	return nil
}

// computeFacts evaluates what the framework derives from policy and fragments alone.
func (e *Engine) computeFacts(ctx context.Context) error {
	v, err := e.query(ctx, "data.framework.malformed", nil)
	if err != nil {
		return err
	}
	if list, _ := v.(*ast.Array); list == nil || list.Len() > 0 {
		return fmt.Errorf("policy has something of an unexpected form: %v", v)
	}
	if v, err = e.query(ctx, "data.framework.facts", nil); err != nil {
		return err
	}
	if v == nil {
		return errors.New("policy has something of an unexpected form")
	}
	e.store.docs["facts"] = v
	return nil
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
