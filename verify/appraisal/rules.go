// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"cofferdam.dev/verify"
	"cofferdam.dev/verify/check"
)

const (
	// rulesPackage is the package of every module.
	rulesPackage = "appraisal"
	// maxModules and maxModuleSize bound what is compiled, which takes time that grows faster than the text.
	maxModules    = 16
	maxModuleSize = 64 << 10
	// maxRuleTime bounds an evaluation. It is far more than one takes, since a machine that is busy with others is slow.
	maxRuleTime = 10 * time.Second
	// maxDenials bounds what is told about what was denied; more deny as well.
	maxDenials = 50
	// maxDenialSize bounds the text of one.
	maxDenialSize = 1000
	// CodePrefix begins the codes that rules choose for what they deny.
	CodePrefix = "RULE_"
)

// pureBuiltins are the built-in functions that a rule may call, by the part of the name before the first dot. They read
// nothing but their arguments, and what they make is at most some times as long as those: none repeats a text, fills to
// a width, counts up to a number, or asks the clock, the network or a random source.
var pureBuiltins = map[string]bool{
	"abs": true, "and": true, "array": true, "assign": true, "base64": true, "bits": true, "ceil": true, "concat": true,
	"contains": true, "count": true, "div": true, "endswith": true, "eq": true, "equal": true, "floor": true,
	"gt": true, "gte": true, "hex": true, "indexof": true, "internal": true, "intersection": true,
	"is_array": true, "is_boolean": true, "is_null": true, "is_number": true, "is_object": true, "is_set": true,
	"is_string": true, "lower": true, "lt": true, "lte": true, "max": true, "min": true, "minus": true, "mul": true,
	"neq": true, "object": true, "or": true, "plus": true, "regex": true, "rem": true, "round": true, "semver": true,
	"sort": true, "split": true, "startswith": true, "substring": true, "sum": true, "to_number": true, "trim": true,
	"trim_left": true, "trim_prefix": true, "trim_right": true, "trim_space": true, "trim_suffix": true,
	"type_name": true, "union": true, "upper": true, "sprintf": true, "time": true,
}

// impureBuiltins are the exceptions: the clock, and what makes long texts of short ones.
var impureBuiltins = map[string]bool{"time.now_ns": true, "bits.lsh": true, "regex.replace": true, "regex.template_match": true}

// capabilities also leave out the widths and precisions of sprintf, by taking only formats that are constants: see
// checkFormats.
func capabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.Builtins = slices.DeleteFunc(c.Builtins, func(b *ast.Builtin) bool {
		group, _, _ := strings.Cut(b.Name, ".")
		return !pureBuiltins[group] || impureBuiltins[b.Name]
	})
	c.AllowNet = []string{}
	return c
}

// rules are compiled modules.
type rules struct {
	query rego.PreparedEvalQuery
	limit time.Duration // of one evaluation
}

// compileRules returns nil where there are no modules.
func compileRules(ctx context.Context, texts []string) (*rules, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	modules := map[string]*ast.Module{}
	denies := false
	for i, text := range texts {
		name := fmt.Sprintf("rules.modules[%d]", i)
		m, err := parseModule(name, text)
		if err != nil {
			return nil, err
		}
		denies = denies || slices.ContainsFunc(m.Rules, func(r *ast.Rule) bool { return r.Head.Name == "deny" || r.Head.Ref().String() == "deny" })
		modules[name] = m
	}
	if !denies {
		return nil, errors.New("no module has a rule deny, so that nothing would ever be denied")
	}
	compiler := ast.NewCompiler().WithCapabilities(capabilities()).WithSchemas(inputSchemas())
	if compiler.Compile(modules); compiler.Failed() {
		return nil, compiler.Errors
	}
	query, err := rego.New(rego.Query("data.appraisal.deny"), rego.Compiler(compiler), rego.StrictBuiltinErrors(true)).PrepareForEval(ctx)
	if err != nil {
		return nil, err
	}
	return &rules{query, maxRuleTime}, nil
}

func parseModule(name, text string) (*ast.Module, error) {
	if len(text) > maxModuleSize {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", name, len(text), maxModuleSize)
	}
	m, err := ast.ParseModuleWithOpts(name, text, ast.ParserOptions{RegoVersion: ast.RegoV1, Capabilities: capabilities()})
	if err != nil {
		return nil, err
	}
	if m.Package.Path.String() != "data."+rulesPackage {
		return nil, fmt.Errorf("%s is of package %s, not %s", name, strings.TrimPrefix(m.Package.Path.String(), "data."), rulesPackage)
	}
	// It could put one function in the place of another, such as one whose arguments are not looked at.
	with := false
	ast.WalkWiths(m, func(*ast.With) bool { with = true; return true })
	if with {
		return nil, fmt.Errorf("%s uses with, which rules can not", name)
	}
	return m, checkFormats(name, m)
}

// formatForm are formats without a width or precision, which could make gigabytes of a few characters.
var formatForm = regexp.MustCompile(`^([^%]|%[vdsqxXtT%])*$`)

// checkFormats requires the format of every sprintf to be a constant without widths.
func checkFormats(name string, m *ast.Module) error {
	var err error
	check := func(operator string, args []*ast.Term, at *ast.Location) {
		if operator != ast.Sprintf.Name || err != nil {
			return
		}
		var s ast.String
		ok := false
		if len(args) > 0 {
			s, ok = args[0].Value.(ast.String)
		}
		if !ok || !formatForm.MatchString(string(s)) {
			err = fmt.Errorf("%s:%d: sprintf takes a constant format with %%v, %%d, %%s, %%q, %%x or %%t, without widths", name, at.Row)
		}
	}
	ast.WalkExprs(m, func(e *ast.Expr) bool {
		if e.IsCall() {
			check(e.Operator().String(), e.Operands(), e.Location)
		}
		return false
	})
	ast.WalkTerms(m, func(t *ast.Term) bool {
		if c, ok := t.Value.(ast.Call); ok && len(c) > 0 {
			check(c[0].String(), c[1:], t.Location)
		}
		return false
	})
	return err
}

// denial is one thing that rules deny.
type denial struct {
	code    check.Code
	message string
}

// evaluate returns what the rules deny about a verdict.
func (r *rules) evaluate(ctx context.Context, v *verify.Verdict) ([]denial, error) {
	input, err := ruleInput(v)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.limit)
	defer cancel()
	results, err := r.query.Eval(ctx, rego.EvalInput(input))
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Expressions) != 1 {
		return nil, errors.New("deny has no value")
	}
	set, ok := results[0].Expressions[0].Value.([]any)
	if !ok {
		return nil, fmt.Errorf("deny is a %T, not a set", results[0].Expressions[0].Value)
	}
	found := map[denial]bool{}
	for _, member := range set {
		d, err := readDenial(member)
		if err != nil {
			return nil, err
		}
		found[d] = true
	}
	return slices.SortedFunc(maps.Keys(found), func(a, b denial) int {
		return strings.Compare(string(a.code)+" "+a.message, string(b.code)+" "+b.message)
	}), nil
}

var codeForm = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,39}$`)

// readDenial reads a text, or an object with a code and a message.
func readDenial(v any) (denial, error) {
	d := denial{code: check.CodeRule}
	switch v := v.(type) {
	case string:
		d.message = v
	case map[string]any:
		code, ok1 := v["code"].(string)
		message, ok2 := v["message"].(string)
		if !ok1 || !ok2 || len(v) != 2 || !codeForm.MatchString(code) {
			return d, errors.New("deny has an object that is not a code (capitals, digits and _, at most 40) and a message")
		}
		d.code, d.message = check.Code(CodePrefix+strings.TrimPrefix(code, CodePrefix)), message
	default:
		return d, fmt.Errorf("deny has a %T, neither a text nor an object", v)
	}
	if len(d.message) > maxDenialSize {
		d.message = strings.ToValidUTF8(d.message[:maxDenialSize], "") + "…"
	}
	return d, nil
}
