// SPDX-License-Identifier: Apache-2.0

package maapolicy

import (
	"fmt"
	"strings"
)

// Trace tells of one rule.
type Trace struct {
	Section    Section          `json:"section"`
	Position   Position         `json:"position"`
	Action     string           `json:"action"`
	Fired      bool             `json:"fired"`
	Conditions []ConditionTrace `json:"conditions,omitempty"`
}

// ConditionTrace tells of one condition. Those after one that did not hold are not looked at.
type ConditionTrace struct {
	Position Position `json:"position"`
	Negated  bool     `json:"negated,omitempty"`
	Held     bool     `json:"held"`
	// Matched is the number of claims that passed all tests.
	Matched int `json:"matched"`
	// Why says in words why the condition did not hold.
	Why string `json:"why,omitempty"`
}

// nearest bounds the claims that a reason names.
const nearest = 3

// why says why a condition did not hold: of the claims that pass its tests of type, which other test they fail.
func (e *evaluation) why(c *condition, operands []operand, matches []int) string {
	if c.negated {
		m := &e.claims[matches[0]]
		return fmt.Sprintf("there is a claim %q, which must be absent: it is %s", m.Type, m.Value)
	}
	var reasons []string
	more := 0
	for i := range e.claims {
		if reason := missed(c, operands, &e.claims[i]); reason != "" {
			if len(reasons) == nearest {
				more++
				continue
			}
			reasons = append(reasons, reason)
		}
	}
	switch {
	case len(reasons) == 0:
		return "there is no claim of type " + c.types(operands)
	case more > 0:
		reasons = append(reasons, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(reasons, "; ")
}

// missed returns the first test that a claim of the right type fails, in words; "" when the type is another.
func missed(c *condition, operands []operand, claim *Claim) string {
	reason := ""
	for i := range c.tests {
		t := &c.tests[i]
		if t.passes(claim, operands[i]) {
			continue
		}
		if t.property == "type" {
			return ""
		}
		if reason == "" {
			reason = fmt.Sprintf("claim %q has %s %s; the rule wants %s %s", claim.Type, t.property, claim.property(t.property),
				t.operator, operands[i])
		}
	}
	return reason
}

// types names the types that a condition asks for.
func (c *condition) types(operands []operand) string {
	for i := range c.tests {
		if c.tests[i].property == "type" {
			return fmt.Sprintf("%s %s", c.tests[i].operator, operands[i])
		}
	}
	return "any"
}

// String names the values of a set, some of them when there are many.
func (o operand) String() string {
	var s []string
	for i, v := range o.values {
		if i == nearest {
			s = append(s, fmt.Sprintf("… (%d values)", len(o.values)))
			break
		}
		s = append(s, v.String())
	}
	if len(s) == 0 {
		return "nothing"
	}
	return strings.Join(s, " or ")
}

// Reason says in words what decided.
func (o *Outcome) Reason() string {
	if d := o.DecidedBy; d != nil {
		verb := "permits"
		if d.Action == "deny" {
			verb = "denies"
		}
		return fmt.Sprintf("the rule at %s %s", d.Position, verb)
	}
	var reasons []string
	for _, t := range o.Traces {
		if t.Section != Authorization || t.Action != "permit" || len(t.Conditions) == 0 {
			continue
		}
		c := t.Conditions[len(t.Conditions)-1]
		reasons = append(reasons, fmt.Sprintf("the rule at %s: condition at %s: %s", t.Position, c.Position, c.Why))
	}
	if len(reasons) == 0 {
		return "no rule permits"
	}
	return "no rule permits: " + strings.Join(reasons, "; ")
}

// Object returns the issued claims as the members of a token: a value for a type that was issued once, a list for one
// that was issued more often.
func (o *Outcome) Object() map[string]any { return object(o.Issued) }

// Property returns the last value that a property was set to, and whether it was set.
func (o *Outcome) Property(name string) (Value, bool) {
	for i := len(o.Properties) - 1; i >= 0; i-- {
		if o.Properties[i].Type == name {
			return o.Properties[i].Value, true
		}
	}
	return Value{}, false
}

func object(claims []Claim) map[string]any {
	m := map[string]any{}
	counts := map[string]int{}
	for _, c := range claims {
		counts[c.Type]++
	}
	for _, c := range claims {
		if counts[c.Type] == 1 {
			m[c.Type] = c.Value.JSON()
			continue
		}
		list, _ := m[c.Type].([]any) // nil at first
		m[c.Type] = append(list, c.Value.JSON())
	}
	return m
}
