// SPDX-License-Identifier: Apache-2.0

package releasepolicy

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var (
	names  = rapid.SampledFrom([]string{"a", "b", "o.a", "o.b", "gone"})
	values = rapid.SampledFrom([]string{`"x"`, `"1"`, `1`, `2`, `2.5`, `-3`, `true`, `false`, `"true"`, `""`})
)

func condition(t *rapid.T, depth int) Condition {
	if depth > 0 && rapid.IntRange(0, 2).Draw(t, "nest") == 0 {
		return combination(t, depth)
	}
	c := Condition{Claim: names.Draw(t, "claim"), Operator: rapid.SampledFrom(operators).Draw(t, "operator")}
	for {
		c.Value = json.RawMessage(values.Draw(t, "value"))
		if c.check() == nil {
			return c
		}
	}
}

func combination(t *rapid.T, depth int) Condition {
	c := Condition{Combine: rapid.SampledFrom([]Combination{AnyOf, AllOf}).Draw(t, "combine")}
	for range rapid.IntRange(1, 4).Draw(t, "length") {
		c.List = append(c.List, condition(t, depth-1))
	}
	return c
}

func policies(t *rapid.T) *Policy {
	p := &Policy{Version: "1.0.0"}
	for range rapid.IntRange(1, 3).Draw(t, "authorities") {
		p.Authorities = append(p.Authorities, Authority{
			Issuer:    rapid.SampledFrom([]string{"https://a.example", "https://b.example/x"}).Draw(t, "issuer"),
			Condition: combination(t, 3),
		})
	}
	return p
}

func claimsOf(t *rapid.T) Claims {
	scalar := rapid.SampledFrom([]any{"x", "1", json.Number("1"), json.Number("2"), json.Number("-3"), true, false, "", nil, []any{"x"}})
	c := Claims{}
	inner := map[string]any{}
	for _, name := range []string{"a", "b"} {
		if rapid.Bool().Draw(t, "has "+name) {
			c[name] = scalar.Draw(t, name)
		}
		if rapid.Bool().Draw(t, "has o."+name) {
			inner[name] = scalar.Draw(t, "o."+name)
		}
	}
	c["o"] = inner
	return c
}

// TestProperties holds for any policy: both forms read back as the same decision; order does not matter; failures are
// named exactly when there is no permission; and no combination is without a reason.
func TestProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, claims := policies(t), claimsOf(t)
		iss := rapid.SampledFrom([]string{"https://a.example", "https://b.example/x", "https://c.example"}).Draw(t, "iss")
		out := p.Evaluate(iss, claims)
		for _, form := range []Form{VaultForm, ManagedForm} {
			b, err := p.Marshal(form)
			if err != nil {
				t.Fatal(err)
			}
			again, err := Parse(b)
			if err != nil {
				t.Fatalf("%s: %v", b, err)
			}
			if diff := cmp.Diff(out, again.Evaluate(iss, claims)); diff != "" {
				t.Fatal(diff)
			}
			b2, err := again.Marshal(form)
			if err != nil || string(b) != string(b2) {
				t.Fatalf("written again: %s, not %s (%v)", b2, b, err)
			}
		}
		turned := reversed(p)
		if got := turned.Evaluate(iss, claims).Satisfied; got != out.Satisfied {
			t.Fatal("the order of conditions matters")
		}
		if known := iss != "https://c.example"; out.Satisfied && (!known || len(out.Failures()) > 0) {
			t.Fatal("permitted to an unknown issuer, or with failures")
		}
		for _, a := range out.Authorities {
			if a.Matches && !out.Satisfied && len(out.Failures()) == 0 {
				t.Fatal("denied without a reason")
			}
			if got := slowly(&p.Authorities[0].Condition, claims); a.Path == "anyOf[0]" && got != a.Condition.Satisfied {
				t.Fatalf("another evaluation gives %v", got)
			}
		}
	})
}

func reversed(p *Policy) *Policy {
	var turn func(c Condition) Condition
	turn = func(c Condition) Condition {
		c.List = slices.Clone(c.List)
		slices.Reverse(c.List)
		for i := range c.List {
			c.List[i] = turn(c.List[i])
		}
		return c
	}
	out := &Policy{Version: p.Version}
	for _, a := range slices.Backward(p.Authorities) {
		out.Authorities = append(out.Authorities, Authority{a.Issuer, turn(a.Condition)})
	}
	return out
}

// slowly combines in another way: by counting what fails.
func slowly(c *Condition, claims Claims) bool {
	if c.Combine == "" {
		return c.compare("", claims).Satisfied
	}
	failed := 0
	for i := range c.List {
		if !slowly(&c.List[i], claims) {
			failed++
		}
	}
	if c.Combine == AllOf {
		return failed == 0
	}
	return failed < len(c.List)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(one(`{"claim":"a","equals":"b"}`)))
	f.Add([]byte(one(`{"anyOf":[{"claim":"a.b","less":2.5},{"allOf":[{"claim":"c","exists":false}]}]}`)))
	f.Add([]byte(`{"anyOf":[{"anyOf":[{"claim":"sdk-test","equals":true}],"authority":"https://sk.example/"}],"version":"1.0"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		for _, form := range []Form{VaultForm, ManagedForm} {
			text, err := p.Marshal(form)
			if err != nil {
				t.Fatal(err)
			}
			again, err := Parse(text)
			if err != nil && len(text) <= MaxSize {
				t.Fatalf("%s: %v", text, err)
			}
			if err == nil && !cmp.Equal(p.Evaluate("https://attest.example", Claims{"a": "b"}).Satisfied, again.Evaluate("https://attest.example", Claims{"a": "b"}).Satisfied) {
				t.Fatalf("%s decides otherwise than %s", text, b)
			}
		}
	})
}
