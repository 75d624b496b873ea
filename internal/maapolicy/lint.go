// SPDX-License-Identifier: Apache-2.0

package maapolicy

import (
	"cmp"
	"fmt"
	"slices"
)

// Lint returns what is odd about the policy, by position: forms that are accepted though the language does not have them,
// and rules that can not be meant.
func (p *Policy) Lint() []Warning { return slices.Clone(p.warnings) }

// lint adds the warnings that need the whole policy.
func (p *parser) lint() {
	rules := p.policy.rules[Authorization]
	end := p.policy.at[Authorization]
	permits := slices.ContainsFunc(rules, func(r *rule) bool { return r.action.verb == "permit" })
	if !permits {
		if end == (Position{}) {
			end = Position{1, 1}
		}
		p.warn(end, "NOTHING_PERMITTED", "no rule permits: everything is refused")
	}
	for _, r := range rules {
		if len(r.conditions) > 0 {
			continue
		}
		switch r.action.verb {
		case "permit":
			p.warn(r.at, "EVERYTHING_PERMITTED", "the rule permits whatever was verified, also guests that can be debugged")
		case "deny":
			p.warn(r.at, "EVERYTHING_DENIED", "the rule denies always, and deny wins over permit")
		}
	}
	for _, s := range []Section{Configuration, Authorization, Issuance} {
		for _, r := range p.policy.rules[s] {
			p.lintRule(r)
		}
	}
	slices.SortStableFunc(p.policy.warnings, func(a, b Warning) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

func (p *parser) lintRule(r *rule) {
	for i, c := range r.conditions {
		if !slices.ContainsFunc(c.tests, func(t test) bool { return t.property == "type" }) {
			p.warn(c.at, "ANY_TYPE", "the condition takes claims of any type")
		}
		if c.id != "" && !r.uses(c.id, i) {
			p.warn(c.at, "UNUSED_NAME", "nothing refers to %q", c.id)
		}
	}
}

// uses reports whether anything after the condition refers to its name.
func (r *rule) uses(id string, after int) bool {
	if r.action.claim == id || refers(r.action.typ, id) || refers(r.action.value, id) {
		return true
	}
	for _, c := range r.conditions[after+1:] {
		if slices.ContainsFunc(c.tests, func(t test) bool { return refers(t.operand, id) }) {
			return true
		}
	}
	return false
}

func refers(x expression, id string) bool {
	switch x := x.(type) {
	case *reference:
		return x.id == id
	case *call:
		return slices.ContainsFunc(x.arguments, func(a expression) bool { return refers(a, id) })
	}
	return false
}

// String returns the warning as one line.
func (w Warning) String() string { return fmt.Sprintf("%s: %s: %s", w.Position, w.Code, w.Message) }
