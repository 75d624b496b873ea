// SPDX-License-Identifier: Apache-2.0

package maapolicy

import (
	"context"
	"fmt"
	"slices"
)

// Limits of an evaluation.
const (
	// maxClaims bounds the claims that there are at any time.
	maxClaims = 10_000
	// maxSteps bounds the comparisons.
	maxSteps = 5_000_000
	// maxText bounds the text that functions make, in bytes.
	maxText = 8 << 20
)

// EvaluationError says which part of a policy could not be evaluated on the claims that were given.
type EvaluationError struct {
	Position
	Message string
}

// Error implements error.
func (e *EvaluationError) Error() string {
	return fmt.Sprintf("evaluating the policy at %s: %s", e.Position, e.Message)
}

func evaluationError(at Position, format string, args ...any) error {
	return &EvaluationError{at, fmt.Sprintf(format, args...)}
}

// Outcome is what a policy came to.
type Outcome struct {
	// Permitted is whether a rule permitted and none denied.
	Permitted bool
	// DecidedBy is the rule that decided: the first that denied, else the first that permitted, else nil.
	DecidedBy *Trace
	// Issued are the claims for the token, in the order in which they were issued. They are empty unless Permitted.
	Issued []Claim
	// Properties are what configuration and issuance rules set.
	Properties []Claim
	// Traces tell of each rule that was looked at, in order.
	Traces []Trace
}

// Evaluate applies the policy to claims. It returns an *EvaluationError when a function is given what it can not take, a
// rule would issue what is read-only, or the evaluation grows beyond its limits; then nothing is permitted.
func (p *Policy) Evaluate(ctx context.Context, claims []Claim) (*Outcome, error) {
	e := &evaluation{ctx: ctx, claims: slices.Clone(claims), out: &Outcome{}}
	if len(claims) > maxClaims {
		return nil, fmt.Errorf("there are %d claims, more than %d", len(claims), maxClaims)
	}
	for _, s := range []Section{Configuration, Authorization} {
		if err := e.section(s, p.rules[s]); err != nil {
			return nil, err
		}
	}
	e.decide()
	if !e.out.Permitted {
		return e.out, nil
	}
	if err := e.section(Issuance, p.rules[Issuance]); err != nil {
		return nil, err
	}
	return e.out, nil
}

// evaluation is one run. Claims only grow, so an index names a claim for good.
type evaluation struct {
	ctx    context.Context //nolint:containedctx // lives as long as the call
	claims []Claim
	steps  int
	text   int
	out    *Outcome
}

// decide draws the conclusion from the authorization rules.
func (e *evaluation) decide() {
	permit, deny := -1, -1
	for i, t := range e.out.Traces {
		switch {
		case t.Fired && t.Action == "permit" && permit < 0:
			permit = i
		case t.Fired && t.Action == "deny" && deny < 0:
			deny = i
		}
	}
	e.out.Permitted = permit >= 0 && deny < 0
	if deny >= 0 {
		permit = deny
	}
	if permit >= 0 {
		t := e.out.Traces[permit]
		e.out.DecidedBy = &t
	}
}

func (e *evaluation) section(s Section, rules []*rule) error {
	for _, r := range rules {
		if err := e.ctx.Err(); err != nil {
			return fmt.Errorf("evaluating the policy: %w", err)
		}
		found := map[string][]int{}
		t := Trace{Section: s, Position: r.at, Action: r.action.verb, Fired: true}
		for _, c := range r.conditions {
			ct, err := e.condition(c, found)
			if err != nil {
				return err
			}
			t.Conditions = append(t.Conditions, ct)
			if !ct.Held {
				t.Fired = false
				break
			}
		}
		if t.Fired {
			if err := e.act(&r.action, found); err != nil {
				return err
			}
		}
		e.out.Traces = append(e.out.Traces, t)
	}
	return nil
}

// condition looks for the claims that pass all tests, and keeps them under the condition's name.
func (e *evaluation) condition(c *condition, found map[string][]int) (ConditionTrace, error) {
	operands := make([]operand, len(c.tests))
	for i, t := range c.tests {
		var err error
		if operands[i], err = e.value(t.operand, found); err != nil {
			return ConditionTrace{}, err
		}
	}
	var matches []int
	for i := range e.claims {
		ok := true
		for j := range c.tests {
			if e.steps += 1 + len(operands[j].values); e.steps > maxSteps {
				return ConditionTrace{}, evaluationError(c.at, "the policy takes more than %d comparisons", maxSteps)
			}
			if ok = c.tests[j].passes(&e.claims[i], operands[j]); !ok {
				break
			}
		}
		if ok {
			matches = append(matches, i)
		}
	}
	if c.id != "" {
		found[c.id] = matches
	}
	held := len(matches) > 0 != c.negated
	t := ConditionTrace{Position: c.at, Negated: c.negated, Held: held, Matched: len(matches)}
	if !held {
		t.Why = e.why(c, operands, matches)
	}
	return t, nil
}

// passes reports whether the claim's property compares with any of the values.
func (t *test) passes(c *Claim, o operand) bool {
	v := c.property(t.property)
	return slices.ContainsFunc(o.values, func(w Value) bool { return compare(v, t.operator, w) })
}

func compare(v Value, operator string, w Value) bool {
	switch operator {
	case "==":
		return v == w
	case "!=":
		return v != w
	}
	if v.kind != Integer || w.kind != Integer {
		return false
	}
	switch operator {
	case "<":
		return v.integer < w.integer
	case "<=":
		return v.integer <= w.integer
	case ">":
		return v.integer > w.integer
	case ">=":
		return v.integer >= w.integer
	}
	return false
}

// act makes the claims of an action, one for each value.
func (e *evaluation) act(a *action, found map[string][]int) error {
	claims, err := e.made(a, found)
	if err != nil {
		return err
	}
	if len(e.claims)+len(claims) > maxClaims {
		return evaluationError(a.at, "there are more than %d claims", maxClaims)
	}
	switch a.verb {
	case "issue":
		if i := slices.IndexFunc(claims, func(c Claim) bool { return c.ReadOnly }); i >= 0 {
			return evaluationError(a.at, "claim %q can not be issued: its value comes from read-only claims", claims[i].Type)
		}
		e.out.Issued = append(e.out.Issued, claims...)
	case "issueproperty":
		e.out.Properties = append(e.out.Properties, claims...)
	}
	if a.claim == "" || a.verb != "issue" { // what a condition found is among the incoming claims already
		e.claims = append(e.claims, claims...)
	}
	return nil
}

func (e *evaluation) made(a *action, found map[string][]int) ([]Claim, error) {
	if a.verb == "permit" || a.verb == "deny" {
		return nil, nil
	}
	var claims []Claim
	if a.claim != "" {
		for _, i := range found[a.claim] {
			c := e.claims[i]
			c.Issuer = IssuerPolicy
			claims = append(claims, c)
		}
		return claims, nil
	}
	typ, err := e.single(a.typ, found, String, "the type of a claim")
	if err != nil {
		return nil, err
	}
	o, err := e.value(a.value, found)
	if err != nil {
		return nil, err
	}
	for _, v := range o.values {
		claims = append(claims, Claim{typ.values[0].text, v, IssuerPolicy, o.readOnly || typ.readOnly})
	}
	return claims, nil
}
