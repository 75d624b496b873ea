// SPDX-License-Identifier: Apache-2.0

package engine

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"strings"

	"cofferdam.dev/policy"

	"github.com/open-policy-agent/opa/v1/ast"
)

var (
	//go:embed framework.rego
	frameworkText string
	//go:embed facts.rego
	factsText string
	//go:embed reasons.rego
	reasonsText string
	//go:embed fragments.rego
	fragmentsText string
)

// pureBuiltins are the built-in functions that a policy may call, by the part of the name before the first dot. None
// of them reads anything but its arguments, and none can ask the clock, the network or a random source.
var pureBuiltins = map[string]bool{
	"abs": true, "all": true, "and": true, "any": true, "array": true, "assign": true, "base64": true,
	"base64url": true, "bits": true, "ceil": true, "concat": true, "contains": true, "count": true, "div": true,
	"endswith": true, "eq": true, "equal": true, "floor": true, "format_int": true, "glob": true, "gt": true,
	"gte": true, "hex": true, "indexof": true, "indexof_n": true, "internal": true, "intersection": true,
	"is_array": true, "is_boolean": true, "is_null": true, "is_number": true, "is_object": true, "is_set": true,
	"is_string": true, "json": true, "lower": true, "lt": true, "lte": true, "max": true, "min": true, "minus": true,
	"mul": true, "neq": true, "numbers": true, "object": true, "or": true, "plus": true, "product": true,
	"re_match": true, "regex": true, "rem": true, "replace": true, "round": true, "semver": true, "set_diff": true,
	"sort": true, "split": true, "sprintf": true, "startswith": true, "strings": true, "substring": true, "sum": true,
	"to_number": true, "trim": true, "trim_left": true, "trim_prefix": true, "trim_right": true, "trim_space": true,
	"trim_suffix": true, "type_name": true, "union": true, "units": true, "upper": true, "walk": true,
}

// impureBuiltins are the exceptions from pureBuiltins: a schema may refer to files and addresses, which are then read.
var impureBuiltins = map[string]bool{"json.match_schema": true, "json.verify_schema": true}

// maxExpressions bounds what a text computes, besides the constants that it lists: compiling takes time that grows
// faster than the text, and nothing can interrupt it. A generated policy has under a hundred.
const maxExpressions = 4096

// policyDocuments are what a policy's text may refer to below data.
var policyDocuments = map[string]bool{
	"framework": true, "policy": true, metadataDoc: true, "defaultMounts": true, "privilegedMounts": true,
}

func capabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	kept := c.Builtins[:0]
	for _, b := range c.Builtins {
		group, _, _ := strings.Cut(b.Name, ".")
		if pureBuiltins[group] && !impureBuiltins[b.Name] {
			kept = append(kept, b)
		}
	}
	c.Builtins = kept
	c.AllowNet = []string{}
	return c
}

// program is a policy compiled together with the framework.
type program struct {
	compiler *ast.Compiler
	rules    map[string]bool // names that the policy defines
	complete bool            // nothing of the framework is left out
	egress   *policy.Egress  // nil: no limit
}

// parse reads a policy's text and checks that it keeps to itself.
func parse(text []byte, caps *ast.Capabilities) (*ast.Module, error) {
	if len(text) > MaxTextSize {
		return nil, fmt.Errorf("text has %d bytes, at most %d are allowed", len(text), MaxTextSize)
	}
	// Generated policies are written in the older dialect and name its keywords in imports.
	m, err := ast.ParseModuleWithOpts("policy.rego", string(text), ast.ParserOptions{
		RegoVersion: ast.RegoV0, Capabilities: caps,
	})
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, errors.New("text is empty")
	}
	return m, confine(m, "policy", policyDocuments)
}

// compile compiles a policy with the framework, and with its deferred part if the policy is not plain or all says so.
func compile(text []byte, all bool) (*program, error) {
	caps := capabilities()
	m, err := parse(text, caps)
	if err != nil {
		return nil, err
	}
	all = all || !plain(m)
	modules := map[string]*ast.Module{"policy.rego": m}
	files := map[string]string{"framework.rego": frameworkText, "facts.rego": factsText}
	if all {
		maps.Copy(files, deferred())
	}
	for name, text := range files {
		fm, err := ast.ParseModuleWithOpts(name, text, ast.ParserOptions{RegoVersion: ast.RegoV1, Capabilities: caps})
		if err != nil {
			return nil, err
		}
		modules[name] = fm
	}
	c := newCompiler(caps)
	if c.Compile(modules); c.Failed() {
		return nil, c.Errors
	}
	p := &program{compiler: c, rules: map[string]bool{}, complete: all}
	p.egress, err = egress(m)
	if err != nil {
		return nil, err
	}
	for _, r := range m.Rules {
		p.rules[ruleName(r)] = true
	}
	return p, nil
}

func ruleName(r *ast.Rule) string { return r.Head.Ref()[0].Value.String() }

// newCompiler leaves one stage out: comprehension indices, an optimisation that mistakes a function's argument in
// `argument in set` for a free variable.
func newCompiler(caps *ast.Capabilities) *ast.Compiler {
	return ast.NewCompiler().WithCapabilities(caps).WithSkipStages(ast.StageBuildComprehensionIndices)
}

// confine checks that the module is the package that it should be, and that it refers to no document below data but
// the given ones.
func confine(m *ast.Module, pkg string, documents map[string]bool) error {
	want := ast.Ref{ast.DefaultRootDocument, ast.StringTerm(pkg)}
	if !m.Package.Path.Equal(want) {
		return fmt.Errorf("its package is %q, expected \"package %s\"", m.Package.String(), pkg)
	}
	var err error
	expressions := 0
	check := func(x any) bool {
		switch x := x.(type) {
		case *ast.Expr:
			if expressions++; expressions > maxExpressions {
				err = fmt.Errorf("it has more than %d expressions", maxExpressions)
			}
		case ast.Var:
			if err == nil && x.Equal(ast.DefaultRootDocument.Value) {
				err = errors.New("it refers to data as a whole")
			}
		case ast.Ref:
			if expressions++; err == nil {
				err = checkRef(x, documents)
			}
		}
		return err != nil
	}
	var visit *ast.GenericVisitor
	visit = ast.NewGenericVisitor(func(x any) bool {
		ref, ok := x.(ast.Ref)
		if !ok {
			return check(x)
		}
		check(ref)
		if _, ok := ref[0].Value.(ast.Var); ok {
			ref = ref[1:] // the head was just checked; what is in the brackets stands for itself
		}
		for _, t := range ref {
			visit.Walk(t)
		}
		return true
	})
	for _, i := range m.Imports {
		visit.Walk(i.Path)
	}
	for _, r := range m.Rules {
		visit.Walk(r)
	}
	return err
}

func checkRef(ref ast.Ref, documents map[string]bool) error {
	if len(ref) == 0 || !ref[0].Equal(ast.DefaultRootDocument) {
		return nil
	}
	if len(ref) > 1 {
		if s, ok := ref[1].Value.(ast.String); ok && documents[string(s)] {
			return nil
		}
	}
	return fmt.Errorf("it refers to %s, which is outside of it", ref)
}
