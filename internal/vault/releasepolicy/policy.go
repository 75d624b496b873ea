// SPDX-License-Identifier: Apache-2.0

// Package releasepolicy reads and evaluates the policies that say to whom a key is released, in the grammar of Azure Key
// Vault's secure key release:
//
//	{"version": "1.0.0", "anyOf": [
//	  {"authority": "https://attest.example", "allOf": [
//	    {"claim": "x-ms-sevsnpvm-hostdata", "equals": "<64 hexadecimal digits>"},
//	    {"anyOf": [{"claim": "x-ms-runtime.role", "equals": "builder"}, {"claim": "x-ms-sevsnpvm-guestsvn", "greaterOrEquals": 2}]}
//	  ]}
//	]}
//
// It trusts nothing: a policy is bounded in size and depth, and what it does not know it refuses to read. It does not
// verify tokens: whoever calls Evaluate has established that the issuer made the claims. A policy that was not parsed
// permits nothing.
package releasepolicy

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cofferdam.dev/internal/strictjson"
)

const (
	// MaxSize bounds a policy in bytes.
	MaxSize = 32 << 10
	// MaxConditions bounds the conditions of a policy, those that have others in them included.
	MaxConditions = 500
	// MaxDepth bounds how deeply conditions lie in each other.
	MaxDepth = 12
	// maxText bounds names of claims, authorities and values in bytes.
	maxText = 4 << 10
)

// Operator compares a claim with a value.
type Operator string

// The operators. Exists has a boolean for its value; the others have a string, a number or a boolean.
const (
	Equals          Operator = "equals"
	NotEquals       Operator = "notEquals"
	Less            Operator = "less"
	LessOrEquals    Operator = "lessOrEquals"
	Greater         Operator = "greater"
	GreaterOrEquals Operator = "greaterOrEquals"
	Exists          Operator = "exists"
)

var operators = []Operator{Equals, NotEquals, Less, LessOrEquals, Greater, GreaterOrEquals, Exists}

// Combination says how many of a list of conditions must hold.
type Combination string

// The combinations.
const (
	AnyOf Combination = "anyOf"
	AllOf Combination = "allOf"
)

// Policy is a policy. The zero value permits nothing.
type Policy struct {
	Version string
	// Authorities are alternatives.
	Authorities []Authority
}

// Authority is an issuer of tokens with what its claims must be.
type Authority struct {
	Issuer    string
	Condition Condition
}

// Condition is either a combination of others, or a comparison.
type Condition struct {
	// Combine and List are set for a combination.
	Combine Combination
	List    []Condition
	// Claim, Operator and Value are set for a comparison. Claim is a path whose parts are separated by dots; Value is a
	// JSON string, number or boolean.
	Claim    string
	Operator Operator
	Value    json.RawMessage
}

// versions are those that are read; 0.2 is what old tools for containers write.
var versions = []string{"0.2", "1.0", "1.0.0"}

// Parse reads a policy.
func Parse(b []byte) (*Policy, error) {
	p, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("reading release policy: %w", err)
	}
	return p, nil
}

func parse(b []byte) (*Policy, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(b), MaxSize)
	}
	o, err := strictjson.Parse(b)
	if err != nil {
		return nil, err
	}
	if err := o.Only("version", "anyOf"); err != nil {
		return nil, err
	}
	p := &Policy{}
	if p.Version, err = o.Text("version"); err != nil {
		return nil, err
	}
	if !slices.Contains(versions, p.Version) {
		return nil, fmt.Errorf("its version is %q, not 1.0.0", p.Version)
	}
	list, err := o.List("anyOf", MaxConditions)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("anyOf names no authority")
	}
	r := &reader{}
	for i, raw := range list {
		a, err := r.authority(raw)
		if err != nil {
			return nil, fmt.Errorf("anyOf[%d]: %w", i, err)
		}
		p.Authorities = append(p.Authorities, *a)
	}
	return p, nil
}

// reader counts what it reads.
type reader struct{ conditions int }

func (r *reader) authority(raw json.RawMessage) (*Authority, error) {
	o, err := strictjson.Parse(raw)
	if err != nil {
		return nil, err
	}
	if err := o.Only("authority", string(AnyOf), string(AllOf)); err != nil {
		return nil, err
	}
	a := &Authority{}
	if a.Issuer, err = o.Text("authority"); err != nil {
		return nil, err
	}
	if NormalIssuer(a.Issuer) == "" || len(a.Issuer) > maxText {
		return nil, errors.New("the authority is empty or too long")
	}
	c, err := r.combination(o, 1)
	if err != nil {
		return nil, err
	}
	a.Condition = *c
	return a, nil
}

// combination reads the one list of conditions that an object has.
func (r *reader) combination(o strictjson.Object, depth int) (*Condition, error) {
	if o.Has(string(AnyOf)) == o.Has(string(AllOf)) {
		return nil, errors.New("want exactly one of anyOf and allOf")
	}
	if depth > MaxDepth {
		return nil, fmt.Errorf("conditions lie deeper in each other than %d", MaxDepth)
	}
	c := &Condition{Combine: AllOf}
	if o.Has(string(AnyOf)) {
		c.Combine = AnyOf
	}
	list, err := o.List(string(c.Combine), MaxConditions)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s has no conditions", c.Combine)
	}
	for i, raw := range list {
		inner, err := r.condition(raw, depth+1)
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", c.Combine, i, err)
		}
		c.List = append(c.List, *inner)
	}
	return c, nil
}

func (r *reader) condition(raw json.RawMessage, depth int) (*Condition, error) {
	if r.conditions++; r.conditions > MaxConditions {
		return nil, fmt.Errorf("the policy has more than %d conditions", MaxConditions)
	}
	o, err := strictjson.Parse(raw)
	if err != nil {
		return nil, err
	}
	if !o.Has("claim") {
		if err := o.Only(string(AnyOf), string(AllOf)); err != nil {
			return nil, fmt.Errorf("%w, and there is no claim", err)
		}
		return r.combination(o, depth)
	}
	if len(o) != 2 {
		return nil, errors.New("a claim has exactly one operator")
	}
	c := &Condition{}
	if c.Claim, err = o.Text("claim"); err != nil {
		return nil, err
	}
	if len(c.Claim) > maxText || slices.Contains(strings.Split(c.Claim, "."), "") {
		return nil, fmt.Errorf("%q is no name of a claim", c.Claim)
	}
	for name, value := range o {
		if name != "claim" {
			c.Operator, c.Value = Operator(name), value
		}
	}
	return c, c.check()
}

// check refuses operators that are unknown, and values that they can not have.
func (c *Condition) check() error {
	if !slices.Contains(operators, c.Operator) {
		return fmt.Errorf("claim %q: %q is no operator", c.Claim, c.Operator)
	}
	if len(c.Value) > maxText {
		return fmt.Errorf("claim %q: the value is longer than %d bytes", c.Claim, maxText)
	}
	value, err := readScalar(c.Value)
	if err != nil {
		return fmt.Errorf("claim %q: the value of %s %w", c.Claim, c.Operator, err)
	}
	switch c.Operator {
	case Exists:
		if value.text != "true" && value.text != "false" {
			return fmt.Errorf("claim %q: the value of exists is neither true nor false", c.Claim)
		}
	case Less, LessOrEquals, Greater, GreaterOrEquals:
		if value.number == nil {
			return fmt.Errorf("claim %q: the value of %s is no number", c.Claim, c.Operator)
		}
	case Equals, NotEquals:
	}
	return nil
}

// NormalIssuer returns the form in which issuers and authorities are compared: policies name authorities with and without
// https:// in front and a slash behind, and host names differ by more than case.
func NormalIssuer(s string) string {
	const scheme = "https://"
	if len(s) >= len(scheme) && strings.EqualFold(s[:len(scheme)], scheme) {
		s = s[len(scheme):]
	}
	s = strings.TrimRight(s, "/")
	if strings.Contains(s, "://") {
		return s // another scheme is another authority
	}
	host, path, found := strings.Cut(s, "/")
	if !found {
		return strings.ToLower(host)
	}
	return strings.ToLower(host) + "/" + path
}
