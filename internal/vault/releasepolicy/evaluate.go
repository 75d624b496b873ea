// SPDX-License-Identifier: Apache-2.0

package releasepolicy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strings"
	"unicode/utf8"

	"cofferdam.dev/internal/strictjson"
)

// Claims are the claims of a token: what encoding/json makes of the payload, with numbers as json.Number.
type Claims map[string]any

// ParseClaims reads the payload of a token. No object in it may have a name twice.
func ParseClaims(payload []byte) (Claims, error) {
	if _, err := strictjson.Parse(payload); err != nil {
		return nil, fmt.Errorf("reading claims: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	var c Claims
	if err := dec.Decode(&c); err != nil {
		return nil, fmt.Errorf("reading claims: %w", err)
	}
	return c, nil
}

// scalar is a string, number or boolean. Two are equal when their texts are, so that the boolean true equals the string
// "true": policies are written both ways.
type scalar struct {
	text string
	// number is set for numbers, and for strings that are spelt as numbers are.
	number *big.Rat
}

// plainNumber has no exponent and a bounded length, so that nothing large is ever computed.
var plainNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]{0,39})(\.[0-9]{1,40})?$`)

func newScalar(v any) (s scalar, ok bool) {
	switch v := v.(type) {
	case string:
		s.text = v
		if plainNumber.MatchString(v) {
			s.number, _ = new(big.Rat).SetString(v)
		}
	case bool:
		s.text = fmt.Sprint(v)
	case json.Number:
		if !plainNumber.MatchString(string(v)) {
			return s, false
		}
		s.number, _ = new(big.Rat).SetString(string(v))
		s.text = string(v)
		if strings.Contains(s.text, ".") {
			s.text = strings.TrimRight(strings.TrimRight(s.text, "0"), ".") // 1.0 is 1
		}
		if s.number.Sign() == 0 {
			s.text = "0" // not -0
		}
	default:
		return s, false
	}
	return s, true
}

// readScalar reads the value of a condition.
func readScalar(raw json.RawMessage) (scalar, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return scalar{}, fmt.Errorf("is no JSON: %w", err)
	}
	s, ok := newScalar(v)
	if !ok {
		return scalar{}, errors.New("is no string, boolean or number without exponent")
	}
	return s, nil
}

// find returns the claim at a path, or false when it is not there, null, or below something that is no object. A name that
// has a dot in it can not be reached.
func (c Claims) find(path string) (any, bool) {
	var v any = map[string]any(c)
	for part := range strings.SplitSeq(path, ".") {
		o, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = o[part]; !ok {
			return nil, false
		}
	}
	return v, v != nil
}

// Outcome is what a policy came to for some claims: a tree in the shape of the policy. Everything in it was evaluated.
type Outcome struct {
	Satisfied bool `json:"satisfied"`
	// Issuer is who made the claims.
	Issuer      string             `json:"issuer"`
	Authorities []AuthorityOutcome `json:"authorities"`
}

// AuthorityOutcome is what one authority's conditions came to.
type AuthorityOutcome struct {
	Path      string `json:"path"`
	Authority string `json:"authority"`
	// Matches says that it is the authority that made the claims.
	Matches   bool   `json:"matches"`
	Satisfied bool   `json:"satisfied"`
	Condition Result `json:"condition"`
}

// Result is what a condition came to.
type Result struct {
	// Path says where in the policy the condition stands.
	Path      string      `json:"path"`
	Satisfied bool        `json:"satisfied"`
	Combine   Combination `json:"combine,omitempty"`
	List      []Result    `json:"list,omitempty"`
	Claim     string      `json:"claim,omitempty"`
	Operator  Operator    `json:"operator,omitempty"`
	// Expected is the condition's value as JSON.
	Expected string `json:"expected,omitempty"`
	// Actual is the claim's value as JSON, shortened when it is long, and empty when there is none.
	Actual string `json:"actual,omitempty"`
	// Problem says why a claim that is there can not be compared.
	Problem string `json:"problem,omitempty"`
}

// Evaluate evaluates the policy for claims that the issuer made.
func (p *Policy) Evaluate(issuer string, claims Claims) *Outcome {
	out := &Outcome{Issuer: issuer}
	if p == nil {
		return out
	}
	for i, a := range p.Authorities {
		path := fmt.Sprintf("anyOf[%d]", i)
		r := AuthorityOutcome{
			Path: path, Authority: a.Issuer, Matches: issuer != "" && NormalIssuer(a.Issuer) == NormalIssuer(issuer),
			Condition: a.Condition.evaluate(path, claims),
		}
		r.Satisfied = r.Matches && r.Condition.Satisfied
		out.Satisfied = out.Satisfied || r.Satisfied
		out.Authorities = append(out.Authorities, r)
	}
	return out
}

func (c *Condition) evaluate(path string, claims Claims) Result {
	if c.Combine == "" {
		return c.compare(path, claims)
	}
	r := Result{Path: path + "." + string(c.Combine), Combine: c.Combine}
	held := 0
	for i := range c.List {
		inner := c.List[i].evaluate(fmt.Sprintf("%s[%d]", r.Path, i), claims)
		if inner.Satisfied {
			held++
		}
		r.List = append(r.List, inner)
	}
	switch c.Combine {
	case AnyOf:
		r.Satisfied = held > 0
	case AllOf:
		r.Satisfied = held == len(c.List) && held > 0
	}
	return r
}

func (c *Condition) compare(path string, claims Claims) Result {
	r := Result{Path: path, Claim: c.Claim, Operator: c.Operator, Expected: string(c.Value)}
	actual, there := claims.find(c.Claim)
	if there {
		r.Actual = shorten(actual)
	}
	want, err := readScalar(c.Value)
	if err != nil {
		r.Problem = "the expected value " + err.Error()
		return r
	}
	if c.Operator == Exists {
		r.Satisfied = want.text == fmt.Sprint(there)
		return r
	}
	if !there {
		return r // a claim that is missing satisfies nothing, notEquals included
	}
	got, ok := newScalar(actual)
	if !ok {
		r.Problem = "the claim is no string, boolean or number without exponent"
		return r
	}
	r.Satisfied, r.Problem = c.Operator.holds(got, want)
	return r
}

func (o Operator) holds(got, want scalar) (satisfied bool, problem string) {
	switch o {
	case Equals:
		return got.text == want.text, ""
	case NotEquals:
		// Neither by text nor by number: what is to be kept out must not come in by being spelt in another way.
		alike := got.number != nil && want.number != nil && got.number.Cmp(want.number) == 0
		return got.text != want.text && !alike, ""
	}
	if got.number == nil || want.number == nil {
		return false, "the claim is no number"
	}
	order := got.number.Cmp(want.number)
	switch o {
	case Less:
		return order < 0, ""
	case LessOrEquals:
		return order <= 0, ""
	case Greater:
		return order > 0, ""
	case GreaterOrEquals:
		return order >= 0, ""
	}
	return false, "the operator is unknown"
}

// maxActual bounds what is shown of a claim in bytes.
const maxActual = 256

func shorten(v any) string {
	if s, ok := v.(string); ok && len(s) > maxActual+utf8.UTFMax {
		v = s[:maxActual+utf8.UTFMax] // each condition may look at the same long claim
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	if len(b) > maxActual {
		return strings.ToValidUTF8(string(b[:maxActual]), "") + "…"
	}
	return string(b)
}

// Failures returns the comparisons that did not hold and that mattered: those of the authority that made the claims, and
// not those of an alternative where another one held. It is empty when the policy is satisfied, and when it has no such
// authority.
func (o *Outcome) Failures() []Result {
	var out []Result
	if o.Satisfied {
		return nil
	}
	for _, a := range o.Authorities {
		if a.Matches {
			out = append(out, a.Condition.failures()...)
		}
	}
	return out
}

func (r *Result) failures() []Result {
	if r.Satisfied {
		return nil
	}
	if r.Combine == "" {
		return []Result{*r}
	}
	var out []Result
	for i := range r.List {
		out = append(out, r.List[i].failures()...)
	}
	return out
}
