// SPDX-License-Identifier: Apache-2.0

package maapolicy

import (
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Limits of a policy.
const (
	// MaxSize bounds a policy's text in bytes.
	MaxSize = 256 << 10
	// MaxRules bounds the rules of all sections together.
	MaxRules = 2000
	// maxConditions bounds the conditions of a rule, and the tests of a condition.
	maxConditions = 64
	// maxDepth bounds how deep calls may be nested.
	maxDepth = 16
)

// Parse reads a policy. The error is a *SyntaxError when its text is not one.
func Parse(text []byte) (*Policy, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("policy has %d bytes, more than %d", len(text), MaxSize)
	}
	if !utf8.Valid(text) {
		return nil, fmt.Errorf("policy is not UTF-8 text")
	}
	p := &parser{lexer: lexer{string(text), Position{1, 1}}, policy: &Policy{rules: map[Section][]*rule{}, at: map[Section]Position{}}}
	if err := p.parse(); err != nil {
		return nil, err
	}
	p.lint()
	return p.policy, nil
}

// parser reads a policy by recursive descent with one token of foresight.
type parser struct {
	lexer  lexer
	policy *Policy
	ahead  token
	rules  int
}

func (p *parser) shift() (token, error) {
	t := p.ahead
	var err error
	p.ahead, err = p.lexer.next()
	return t, err
}

// expect takes a symbol.
func (p *parser) expect(symbol, where string) error {
	if !p.is(symbol) {
		return syntaxError(p.ahead.at, "want %q %s, got %s", symbol, where, p.ahead)
	}
	_, err := p.shift()
	return err
}

func (p *parser) is(symbol string) bool { return p.ahead.kind == tokenSymbol && p.ahead.text == symbol }

// name takes a name.
func (p *parser) name(what string) (token, error) {
	if p.ahead.kind != tokenName {
		return token{}, syntaxError(p.ahead.at, "want %s, got %s", what, p.ahead)
	}
	return p.shift()
}

func (p *parser) warn(at Position, code, format string, args ...any) {
	p.policy.warnings = append(p.policy.warnings, Warning{at, code, fmt.Sprintf(format, args...)})
}

func (p *parser) since(v Version, at Position, what string) error {
	if p.policy.version < v { // versions compare as text
		return syntaxError(at, "%s needs version %s or later; the policy says %s", what, v, p.policy.version)
	}
	return nil
}

func (p *parser) parse() error {
	if _, err := p.shift(); err != nil {
		return err
	}
	if err := p.version(); err != nil {
		return err
	}
	order := []Section{Configuration, Authorization, Issuance}
	for p.ahead.kind != tokenEnd {
		t, err := p.name("a section")
		if err != nil {
			return err
		}
		s := Section(t.text)
		i := slices.Index(order, s)
		switch _, twice := p.policy.at[s]; {
		case twice:
			return syntaxError(t.at, "%s is there twice", s)
		case !slices.Contains([]Section{Configuration, Authorization, Issuance}, s):
			return syntaxError(t.at, "%q is no section; there are %s, %s and %s", t.text, Configuration, Authorization, Issuance)
		case i < 0:
			return syntaxError(t.at, "%s comes too late: the order is %s, %s, %s", s, Configuration, Authorization, Issuance)
		case s == Configuration:
			if err := p.since(Version11, t.at, string(s)); err != nil {
				return err
			}
		}
		order = order[i+1:]
		p.policy.at[s] = t.at
		if err := p.section(s); err != nil {
			return err
		}
	}
	return nil
}

// version reads the line that every policy begins with.
func (p *parser) version() error {
	at := p.ahead.at
	if p.ahead.kind != tokenName || p.ahead.text != "version" {
		return syntaxError(at, `a policy begins with "version=1.0;", "version=1.1;" or "version=1.2;"; got %s`, p.ahead)
	}
	var text string
	for _, want := range []string{"version", "=", "", ".", "", ";"} {
		if want != "" && p.ahead.text != want || want == "" && p.ahead.kind != tokenNumber {
			return syntaxError(p.ahead.at, `want "version=1.0;", "version=1.1;" or "version=1.2;", got %s`, p.ahead)
		}
		t, err := p.shift()
		if err != nil {
			return err
		}
		if want == "" || want == "." {
			text += t.text
		}
	}
	p.policy.version = Version(text)
	if !slices.Contains([]Version{Version10, Version11, Version12}, p.policy.version) {
		return syntaxError(at, "version %s is unknown; there are %s, %s and %s", text, Version10, Version11, Version12)
	}
	return nil
}

func (p *parser) section(s Section) error {
	if err := p.expect("{", "after the name of the section"); err != nil {
		return err
	}
	for !p.is("}") {
		if p.rules++; p.rules > MaxRules {
			return syntaxError(p.ahead.at, "there are more than %d rules", MaxRules)
		}
		r, err := p.rule(s)
		if err != nil {
			return err
		}
		p.policy.rules[s] = append(p.policy.rules[s], r)
		if p.is("}") {
			p.warn(p.ahead.at, "MISSING_SEMICOLON", "the last rule of %s does not end in a semicolon", s)
			break
		}
		if err := p.expect(";", "after the rule"); err != nil {
			return err
		}
	}
	if err := p.expect("}", "after the rules"); err != nil {
		return err
	}
	if p.ahead.kind == tokenEnd {
		p.warn(p.ahead.at, "MISSING_SEMICOLON", "%s does not end in a semicolon", s)
		return nil
	}
	return p.expect(";", "after the section")
}

func (p *parser) rule(s Section) (*rule, error) {
	r := &rule{at: p.ahead.at}
	for !p.is("=>") {
		if len(r.conditions) == maxConditions {
			return nil, syntaxError(p.ahead.at, "the rule has more than %d conditions", maxConditions)
		}
		c, err := p.condition(r)
		if err != nil {
			return nil, err
		}
		r.conditions = append(r.conditions, c)
		if p.is("=>") {
			break
		}
		if err := p.expect("&&", `or "=>" after the condition`); err != nil {
			return nil, err
		}
		if p.is("=>") {
			return nil, syntaxError(p.ahead.at, `want a condition after "&&", got "=>"`)
		}
	}
	if err := p.expect("=>", "before the action"); err != nil {
		return nil, err
	}
	return r, p.action(s, r)
}

func (p *parser) condition(r *rule) (*condition, error) {
	c := &condition{at: p.ahead.at}
	if p.is("!") {
		if err := p.since(Version12, c.at, "a condition with !"); err != nil {
			return nil, err
		}
		c.negated = true
		if _, err := p.shift(); err != nil {
			return nil, err
		}
	}
	if p.ahead.kind == tokenName {
		if err := p.identifier(r, c); err != nil {
			return nil, err
		}
	}
	if err := p.expect("[", "before the tests of a condition"); err != nil {
		return nil, err
	}
	for {
		if len(c.tests) == maxConditions {
			return nil, syntaxError(p.ahead.at, "the condition has more than %d tests", maxConditions)
		}
		t, err := p.test(r)
		if err != nil {
			return nil, err
		}
		c.tests = append(c.tests, t)
		if p.is("]") {
			_, err := p.shift()
			return c, err
		}
		if err := p.expect(",", `or "]" after the test`); err != nil {
			return nil, err
		}
	}
}

func (p *parser) identifier(r *rule, c *condition) error {
	t, err := p.shift()
	if err != nil {
		return err
	}
	if c.negated {
		return syntaxError(t.at, "a condition with ! finds no claim that %q could name", t.text)
	}
	if slices.ContainsFunc(r.conditions, func(o *condition) bool { return o.id == t.text }) {
		return syntaxError(t.at, "%q names two conditions of the rule", t.text)
	}
	c.id = t.text
	return p.expect(":", "after the name of a condition")
}

// operators by kind of operand; all work on integers.
var (
	operators = []string{"==", "!=", "<=", "<", ">=", ">", "="}
	equality  = []string{"==", "!="}
)

func (p *parser) test(r *rule) (test, error) {
	name, err := p.name("a property: type, value, valueType or issuer")
	if err != nil {
		return test{}, err
	}
	t := test{at: name.at, property: name.text}
	if !slices.Contains([]string{"type", "value", "valueType", "issuer"}, t.property) {
		return t, syntaxError(t.at, "%q is no property; there are type, value, valueType and issuer", t.property)
	}
	if p.ahead.kind != tokenSymbol || !slices.Contains(operators, p.ahead.text) {
		return t, syntaxError(p.ahead.at, "want an operator after %q, got %s", t.property, p.ahead)
	}
	operator, err := p.shift()
	if err != nil {
		return t, err
	}
	if t.operator = operator.text; t.operator == "=" {
		p.warn(operator.at, "SINGLE_EQUALS", "= in a condition is taken for ==")
		t.operator = "=="
	}
	t.operand, err = p.expression(r, 0)
	if err != nil {
		return t, err
	}
	l, isLiteral := t.operand.(*literal)
	ordered := !slices.Contains(equality, t.operator)
	switch {
	case t.property != "value" && (ordered || isLiteral && l.value.kind != String):
		return t, syntaxError(operator.at, "%s is text: it is compared with == or != with a string", t.property)
	case ordered && isLiteral && l.value.kind != Integer:
		return t, syntaxError(operator.at, "%s compares integers, not %s", t.operator, l.value)
	}
	return t, nil
}

func (p *parser) expression(r *rule, depth int) (expression, error) {
	if depth > maxDepth {
		return nil, syntaxError(p.ahead.at, "calls are nested deeper than %d", maxDepth)
	}
	t, err := p.shift()
	if err != nil {
		return nil, err
	}
	switch t.kind {
	case tokenString:
		return &literal{t.at, StringValue(t.text)}, nil
	case tokenNumber:
		i, err := strconv.ParseInt(t.text, 10, 64)
		if err != nil {
			return nil, syntaxError(t.at, "%s is not within 64 bits", t.text)
		}
		return &literal{t.at, IntegerValue(i)}, nil
	case tokenName:
		switch {
		case t.text == "true" || t.text == "false":
			return &literal{t.at, BooleanValue(t.text == "true")}, nil
		case p.is("."):
			return p.reference(r, t)
		case p.is("("):
			return p.call(r, t, depth)
		}
	case tokenEnd, tokenSymbol:
	}
	return nil, syntaxError(t.at, "want a value (a string, an integer, true, false, c.value or a function), got %s", t)
}

func (p *parser) reference(r *rule, id token) (expression, error) {
	if _, err := p.shift(); err != nil {
		return nil, err
	}
	property, err := p.name("a property after the dot")
	if err != nil {
		return nil, err
	}
	if !slices.Contains([]string{"type", "value", "valueType", "issuer"}, property.text) {
		return nil, syntaxError(property.at, "%q is no property; there are type, value, valueType and issuer", property.text)
	}
	if !r.names(id.text) {
		return nil, syntaxError(id.at, "no condition before this is named %q", id.text)
	}
	return &reference{id.at, id.text, property.text}, nil
}

func (r *rule) names(id string) bool {
	return slices.ContainsFunc(r.conditions, func(c *condition) bool { return c.id == id })
}

func (p *parser) call(r *rule, name token, depth int) (expression, error) {
	f, ok := functions[name.text]
	if !ok {
		return nil, syntaxError(name.at, "%q is no function; there are %s", name.text, functionNames())
	}
	if err := p.since(Version12, name.at, "the function "+name.text); err != nil {
		return nil, err
	}
	c := &call{at: name.at, function: name.text}
	if _, err := p.shift(); err != nil {
		return nil, err
	}
	for !p.is(")") {
		if len(c.arguments) > 0 {
			if err := p.expect(",", `or ")" after the argument`); err != nil {
				return nil, err
			}
		}
		if len(c.arguments) == f.arguments {
			break
		}
		a, err := p.expression(r, depth+1)
		if err != nil {
			return nil, err
		}
		c.arguments = append(c.arguments, a)
	}
	if len(c.arguments) != f.arguments || !p.is(")") {
		return nil, syntaxError(name.at, "%s takes %d arguments", name.text, f.arguments)
	}
	_, err := p.shift()
	return c, err
}
