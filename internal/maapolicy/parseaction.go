// SPDX-License-Identifier: Apache-2.0

package maapolicy

import "slices"

// verbs are the actions that a section allows.
var verbs = map[Section][]string{
	Configuration: {"issueproperty"},
	Authorization: {"permit", "deny", "add"},
	Issuance:      {"add", "issue", "issueproperty"},
}

func (p *parser) action(s Section, r *rule) error {
	verb, err := p.name("an action")
	if err != nil {
		return err
	}
	r.action = action{at: verb.at, verb: verb.text}
	if !slices.Contains(verbs[s], verb.text) {
		return syntaxError(verb.at, "%s has no action %q; it has %q", s, verb.text, verbs[s])
	}
	if err := p.expect("(", "after the action"); err != nil {
		return err
	}
	if verb.text != "permit" && verb.text != "deny" {
		if err := p.parameters(r); err != nil {
			return err
		}
	}
	return p.expect(")", "after the action")
}

// parameters reads claim=c, or type=… and value=… in either order.
func (p *parser) parameters(r *rule) error {
	a := &r.action
	for {
		name, err := p.name("a parameter: claim, or type and value")
		if err != nil {
			return err
		}
		if err := p.expect("=", "after the parameter"); err != nil {
			return err
		}
		switch {
		case name.text == "claim" && a.typ == nil && a.value == nil && a.claim == "":
			err = p.claimParameter(r)
		case name.text == "type" && a.typ == nil && a.claim == "":
			a.typ, err = p.expression(r, 0)
		case name.text == "value" && a.value == nil && a.claim == "":
			a.value, err = p.expression(r, 0)
		default:
			return syntaxError(name.at, "parameter %q is unknown, there twice, or beside claim; want claim, or type and value", name.text)
		}
		if err != nil {
			return err
		}
		if !p.is(",") {
			break
		}
		if _, err := p.shift(); err != nil {
			return err
		}
	}
	if a.claim == "" && (a.typ == nil || a.value == nil) {
		return syntaxError(a.at, "%s needs type and value, or claim", a.verb)
	}
	if l, ok := a.typ.(*literal); ok && (l.value.kind != String || l.value.text == "") {
		return syntaxError(l.at, "the type of a claim is a string that is not empty, not %s", l.value)
	}
	return nil
}

func (p *parser) claimParameter(r *rule) error {
	id, err := p.name("the name of a condition")
	if err != nil {
		return err
	}
	if !r.names(id.text) {
		return syntaxError(id.at, "no condition of the rule is named %q", id.text)
	}
	r.action.claim = id.text
	return nil
}
