// SPDX-License-Identifier: Apache-2.0

// Package maapolicy is the policy language of Microsoft Azure Attestation, versions 1.0, 1.1 and 1.2: a parser that names
// line and column, an evaluator over claims, and an explanation of what decided.
//
// The public documentation of the language leaves things open. Here deny wins over permit, nothing is permitted without a
// permit, and a condition that compares with the values of other claims holds when any of them compares.
//
// A policy is trusted as its author is; claims are trusted as far as their issuer says. Neither can do more than choose
// among claims: the language has no loops, evaluation is bounded in steps, claims and text, and does no I/O.
package maapolicy

import (
	"fmt"
	"strconv"
)

// Issuers of claims.
const (
	// IssuerService marks what the attestation service found in verified evidence.
	IssuerService = "AttestationService"
	// IssuerPolicy marks what a policy added.
	IssuerPolicy = "AttestationPolicy"
	// IssuerCustom marks what the client sent besides the evidence.
	IssuerCustom = "CustomClaim"
)

// Kind is the type of a value.
type Kind string

// The kinds, by the names that the language has for them. The zero Kind is that of no value.
const (
	String  Kind = "String"
	Integer Kind = "Integer"
	Boolean Kind = "Boolean"
)

// Value is the value of a claim. Values of different kinds are never equal. The zero Value is none and equals nothing but
// itself.
type Value struct {
	kind    Kind
	text    string
	integer int64
	boolean bool
}

// StringValue returns text as a value.
func StringValue(s string) Value { return Value{kind: String, text: s} }

// IntegerValue returns an integer as a value.
func IntegerValue(i int64) Value { return Value{kind: Integer, integer: i} }

// BooleanValue returns a Boolean as a value.
func BooleanValue(b bool) Value { return Value{kind: Boolean, boolean: b} }

// Kind returns the kind of the value.
func (v Value) Kind() Kind { return v.kind }

// JSON returns the value as encoding/json writes it: a string, an int64 or a bool; nil for no value.
func (v Value) JSON() any {
	switch v.kind {
	case String:
		return v.text
	case Integer:
		return v.integer
	case Boolean:
		return v.boolean
	}
	return nil
}

// String returns the value as the language writes it, long text cut short.
func (v Value) String() string {
	const most = 200
	switch v.kind {
	case String:
		if len(v.text) > most {
			return fmt.Sprintf("%q… (%d bytes)", v.text[:most], len(v.text))
		}
		return strconv.Quote(v.text)
	case Integer:
		return strconv.FormatInt(v.integer, 10)
	case Boolean:
		return strconv.FormatBool(v.boolean)
	}
	return "nothing"
}

// Claim is one claim. Several claims may have one type: together they are a set of values.
type Claim struct {
	Type  string
	Value Value
	// Issuer is one of the issuers above; empty is IssuerCustom.
	Issuer string
	// ReadOnly keeps the value, and what is computed of it, out of tokens.
	ReadOnly bool
}

// property returns the value of a property by its name in the language.
func (c *Claim) property(name string) Value {
	switch name {
	case "type":
		return StringValue(c.Type)
	case "valueType":
		return StringValue(string(c.Value.kind))
	case "issuer":
		if c.Issuer == "" {
			return StringValue(IssuerCustom)
		}
		return StringValue(c.Issuer)
	}
	return c.Value
}
