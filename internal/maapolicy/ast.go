// SPDX-License-Identifier: Apache-2.0

package maapolicy

// Version is the version of the language that a policy names.
type Version string

// The versions. Each has what the one before has: 1.1 adds configuration rules, 1.2 functions and absent claims.
const (
	Version10 Version = "1.0"
	Version11 Version = "1.1"
	Version12 Version = "1.2"
)

// Section is a part of a policy.
type Section string

// The sections, in the order in which they are evaluated.
const (
	Configuration Section = "configurationrules"
	Authorization Section = "authorizationrules"
	Issuance      Section = "issuancerules"
)

// Policy is a policy that was parsed. It is immutable and safe for concurrent use.
type Policy struct {
	version  Version
	rules    map[Section][]*rule
	at       map[Section]Position
	warnings []Warning
}

// Version returns the version that the policy names.
func (p *Policy) Version() Version { return p.version }

// rule is conditions and an action.
type rule struct {
	at         Position
	conditions []*condition
	action     action
}

// condition filters claims. It holds when a claim passes all tests, or, when it is negated, when none does.
type condition struct {
	at      Position
	negated bool
	id      string // "" when nothing refers to it
	tests   []test
}

// test compares one property of a claim.
type test struct {
	at       Position
	property string
	operator string
	operand  expression
}

// action is what a rule does.
type action struct {
	at    Position
	verb  string
	typ   expression // of add, issue, issueproperty
	value expression
	claim string // of issue(claim=c) and the like: an identifier
}

// expression is one of the kinds below.
type expression interface{ position() Position }

type literal struct {
	at    Position
	value Value
}

// reference is a property of the claims that a condition of the rule found.
type reference struct {
	at           Position
	id, property string
}

type call struct {
	at        Position
	function  string
	arguments []expression
}

func (e *literal) position() Position   { return e.at }
func (e *reference) position() Position { return e.at }
func (e *call) position() Position      { return e.at }

// Warning is something in a policy that is accepted though the language does not have it, or that can not be meant.
type Warning struct {
	Position

	Code    string `json:"code"`
	Message string `json:"message"`
}
