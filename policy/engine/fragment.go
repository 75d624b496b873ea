// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Fragment is a signed policy fragment whose signature, chain and issuer have been verified.
type Fragment struct {
	Issuer   string // did:x509:…
	Feed     string
	SVN      *int64 // of the signed header; nil where it has none
	Receipts []Receipt
	Text     []byte
}

// Receipt is a verified receipt of a transparency ledger over a fragment.
type Receipt struct {
	Issuer      string   // the ledger
	TTLSubjects []string // the trust lists that name the ledger's keys
}

// LoadFragment asks to load a fragment. Its text is parsed only after the policy has accepted who signed it; it can
// refer to nothing outside itself.
func (e *Engine) LoadFragment(ctx context.Context, f Fragment) (Decision, error) {
	tx, err := e.Begin(ctx)
	if err != nil {
		return denied(PointLoadFragment, "no decision: "+err.Error()), err
	}
	defer tx.Rollback()
	d, err := tx.LoadFragment(ctx, f)
	if err == nil {
		tx.Commit()
	}
	return d, err
}

// LoadFragment is Engine.LoadFragment within the unit.
func (t *Tx) LoadFragment(ctx context.Context, f Fragment) (Decision, error) {
	namespace, err := fragmentNamespace(f.Text)
	if err != nil {
		return denied(PointLoadFragment, err.Error()), nil
	}
	if t.engine != nil {
		if err := t.engine.complete(); err != nil {
			return Decision{}, err
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.engine.deadline)
		defer cancel()
	}
	input := fragmentInput(f, namespace)
	input["fragment_loaded"] = false
	d, said, err := t.answer(ctx, PointLoadFragment, input, true)
	if err != nil || !d.Allowed {
		return d, err
	}
	contents, err := t.engine.evaluateFragment(ctx, namespace, f.Text, member(said, "parameters"))
	if err != nil {
		return denied(PointLoadFragment, "fragment is invalid: "+err.Error()), nil
	}
	input["fragment_loaded"], input["contents"] = true, contents
	if d, err = t.Decide(ctx, PointLoadFragment, input); err != nil || !d.Allowed {
		return d, err
	}
	s := t.engine.store
	before := s.docs["facts"]
	if err := t.engine.computeFacts(ctx); err != nil {
		return denied(PointLoadFragment, "no decision: "+err.Error()), err
	}
	s.state.undo = append(s.state.undo, func() { s.docs["facts"] = before })
	return d, nil
}

func fragmentInput(f Fragment, namespace string) map[string]any {
	receipts := make([]any, len(f.Receipts))
	for i, r := range f.Receipts {
		receipts[i] = map[string]any{"issuer": r.Issuer, "ttl_subjects": list(r.TTLSubjects)}
	}
	in := map[string]any{
		"issuer": f.Issuer, "feed": f.Feed, "namespace": namespace, "receipts": receipts,
		"has_header_svn": f.SVN != nil, "header_svn": nil,
	}
	if f.SVN != nil {
		in["header_svn"] = *f.SVN
	}
	return in
}

var namespaceLine = regexp.MustCompile(`^package ([A-Za-z_][A-Za-z0-9_]*)$`)

// reservedNamespaces are documents that a fragment must not take the place of.
var reservedNamespaces = []string{"framework", "api", "policy", "facts", "given", metadataDoc, "defaultMounts", "privilegedMounts"}

func fragmentNamespace(text []byte) (string, error) {
	if len(text) > MaxTextSize {
		return "", fmt.Errorf("fragment has %d bytes, at most %d are allowed", len(text), MaxTextSize)
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	m := namespaceLine.FindSubmatch(first)
	if m == nil {
		return "", errors.New(`fragment's first line is not "package NAME"`)
	}
	if name := string(m[1]); !slices.Contains(reservedNamespaces, name) {
		return name, nil
	}
	return "", fmt.Errorf("fragment's namespace %q is reserved", m[1])
}

// fragmentFields are what a fragment may contribute.
var fragmentFields = []string{
	"svn", "framework_version", "framework_svn", "containers", "fragments", "external_processes", "platform_rules",
	"transparency_trust_lists",
}

// evaluateFragment computes what the text says under each set of parameters, on its own.
func (e *Engine) evaluateFragment(ctx context.Context, namespace string, text []byte, parameters ast.Value) ([]any, error) {
	c, err := compileFragment(namespace, text)
	if err != nil {
		return nil, err
	}
	alone := &Engine{
		program: &program{compiler: c, complete: true}, queries: map[string]ast.Body{},
		store: &store{state: newState(), docs: map[string]ast.Value{}},
	}
	sets := []ast.Value{ast.NewObject()}
	if a, ok := parameters.(*ast.Array); ok && a.Len() > 0 {
		sets = sets[:0]
		a.Foreach(func(t *ast.Term) { sets = append(sets, t.Value) })
	}
	var out []any
	for _, set := range sets {
		in := ast.NewObject(ast.Item(ast.StringTerm("parameters"), ast.NewTerm(set)))
		v, err := alone.query(ctx, "data."+namespace, in)
		if err != nil {
			return nil, err
		}
		all, ok := v.(ast.Object)
		if !ok {
			return nil, errors.New("it defines nothing")
		}
		content := ast.NewObject(ast.Item(ast.StringTerm("parameters"), ast.NewTerm(set)))
		for _, field := range fragmentFields {
			if value := member(all, field); value != nil {
				content.Insert(ast.StringTerm(field), ast.NewTerm(value))
			}
		}
		out = append(out, content)
	}
	return out, nil
}

// parameterText gives fragments their one function: what the listing gives wins over the default that the fragment
// declares, and without either there is no value.
const parameterText = `package %s

parameter(name) := input.parameters[name]
`

// defaultText is for fragments that declare parameters. It reads them by object.get so that the compiler does not hold
// their constant against it.
const defaultText = `
parameter(name) := value if {
	not name in object.keys(input.parameters)
	declared := object.get(parameters_api, name, {})
	"default" in object.keys(declared)
	value := object.get(declared, "default", null)
}
`

func compileFragment(namespace string, text []byte) (*ast.Compiler, error) {
	caps := capabilities()
	m, err := ast.ParseModuleWithOpts("fragment.rego", string(text), ast.ParserOptions{
		RegoVersion: ast.RegoV0, Capabilities: caps,
	})
	if err != nil {
		return nil, err
	}
	if err := confine(m, namespace, map[string]bool{namespace: true}); err != nil {
		return nil, err
	}
	function := fmt.Sprintf(parameterText, namespace)
	declares := func(r *ast.Rule) bool { return ruleName(r) == "parameters_api" }
	if slices.ContainsFunc(m.Rules, declares) {
		function += defaultText
	}
	pm, err := ast.ParseModuleWithOpts("parameter.rego", function, ast.ParserOptions{RegoVersion: ast.RegoV1, Capabilities: caps})
	if err != nil {
		return nil, err
	}
	modules := map[string]*ast.Module{"fragment.rego": m, "parameter.rego": pm}
	c := newCompiler(caps)
	if c.Compile(modules); c.Failed() {
		return nil, c.Errors
	}
	return c, nil
}
