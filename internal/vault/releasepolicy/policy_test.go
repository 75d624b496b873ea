// SPDX-License-Identifier: Apache-2.0

package releasepolicy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const issuer = "https://attest.example"

func one(condition string) string {
	return `{"version":"1.0.0","anyOf":[{"authority":"https://attest.example","allOf":[` + condition + `]}]}`
}

func mustParse(t testing.TB, text string) *Policy {
	t.Helper()
	p, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOperators(t *testing.T) {
	t.Parallel()
	claims, err := ParseClaims([]byte(`{
		"text": "abc", "yes": true, "no": "false", "n": 7, "digits": "7", "frac": 1.50, "one": 1.0, "big": 18446744073709551616, "exp": 1e3,
		"null": null, "list": [1], "o": {"role": "builder", "deep": {"n": 2}}, "a.b": "dotted", "empty": "", "zero": -0
	}`))
	if err != nil {
		t.Fatal(err)
	}
	for condition, want := range map[string]bool{
		`{"claim":"text","equals":"abc"}`:                               true,
		`{"claim":"text","equals":"ABC"}`:                               false,
		`{"claim":"text","notEquals":"abc"}`:                            false,
		`{"claim":"text","notEquals":"x"}`:                              true,
		`{"claim":"text","less":9}`:                                     false,
		`{"claim":"text","greater":-9}`:                                 false,
		`{"claim":"yes","equals":true}`:                                 true,
		`{"claim":"yes","equals":"true"}`:                               true,
		`{"claim":"yes","equals":"True"}`:                               false,
		`{"claim":"yes","equals":1}`:                                    false,
		`{"claim":"yes","notEquals":false}`:                             true,
		`{"claim":"no","equals":false}`:                                 true,
		`{"claim":"n","equals":7}`:                                      true,
		`{"claim":"n","equals":"7"}`:                                    true,
		`{"claim":"n","equals":7.0}`:                                    true,
		`{"claim":"n","equals":"7.0"}`:                                  false,
		`{"claim":"n","equals":70}`:                                     false,
		`{"claim":"n","less":8}`:                                        true,
		`{"claim":"n","less":7}`:                                        false,
		`{"claim":"n","lessOrEquals":7}`:                                true,
		`{"claim":"n","greater":6.999}`:                                 true,
		`{"claim":"n","greater":7}`:                                     false,
		`{"claim":"n","greaterOrEquals":"7"}`:                           true,
		`{"claim":"n","greaterOrEquals":10}`:                            false, // not as text
		`{"claim":"digits","greaterOrEquals":7}`:                        true,
		`{"claim":"digits","equals":7}`:                                 true,
		`{"claim":"frac","equals":1.5}`:                                 true,
		`{"claim":"one","equals":1}`:                                    true,
		`{"claim":"zero","equals":0}`:                                   true,
		`{"claim":"big","equals":18446744073709551616}`:                 true,
		`{"claim":"big","equals":18446744073709551617}`:                 false,
		`{"claim":"big","greater":18446744073709551615}`:                true,
		`{"claim":"exp","equals":1000}`:                                 false,
		`{"claim":"exp","notEquals":1000}`:                              false,
		`{"claim":"exp","exists":true}`:                                 true,
		`{"claim":"null","exists":true}`:                                false,
		`{"claim":"null","exists":false}`:                               true,
		`{"claim":"null","equals":"null"}`:                              false,
		`{"claim":"gone","equals":""}`:                                  false,
		`{"claim":"gone","notEquals":"x"}`:                              false,
		`{"claim":"gone","exists":false}`:                               true,
		`{"claim":"gone","exists":"false"}`:                             true,
		`{"claim":"empty","equals":""}`:                                 true,
		`{"claim":"list","equals":1}`:                                   false,
		`{"claim":"list","notEquals":2}`:                                false,
		`{"claim":"list","exists":true}`:                                true,
		`{"claim":"list.0","exists":true}`:                              false,
		`{"claim":"o","equals":"builder"}`:                              false,
		`{"claim":"o.role","equals":"builder"}`:                         true,
		`{"claim":"o.deep.n","lessOrEquals":2}`:                         true,
		`{"claim":"o.deep.gone","exists":false}`:                        true,
		`{"claim":"text.role","exists":true}`:                           false,
		`{"claim":"a.b","equals":"dotted"}`:                             false,
		`{"claim":"O.role","equals":"builder"}`:                         false,
		`{"anyOf":[{"claim":"n","equals":1},{"claim":"n","equals":7}]}`: true,
		`{"anyOf":[{"claim":"n","equals":1},{"claim":"n","equals":2}]}`: false,
		`{"allOf":[{"claim":"n","equals":7},{"claim":"n","equals":2}]}`: false,
		`{"allOf":[{"claim":"n","equals":7},{"anyOf":[{"claim":"gone","equals":2},{"claim":"yes","equals":"true"}]}]}`: true,
	} {
		if got := mustParse(t, one(condition)).Evaluate(issuer, claims).Satisfied; got != want {
			t.Errorf("%s is %v, want %v", condition, got, want)
		}
	}
}

func TestAuthorities(t *testing.T) {
	t.Parallel()
	p := func(authority string) string {
		return fmt.Sprintf(`{"version":"1.0","anyOf":[{"authority":%q,"anyOf":[{"claim":"a","equals":"b"}]}]}`, authority)
	}
	claims := Claims{"a": "b"}
	for _, c := range []struct {
		authority, issuer string
		want              bool
	}{
		{"https://attest.example", "https://attest.example", true},
		{"https://attest.example/", "https://attest.example", true},
		{"attest.example", "https://attest.example", true},
		{"attest.example//", "https://attest.example/", true},
		{"HTTPS://Attest.Example", "https://attest.example", true},
		{"https://attest.example/Tenant", "https://attest.example/Tenant", true},
		{"https://attest.example/Tenant", "https://attest.example/tenant", false},
		{"https://attest.example", "https://attest.example/tenants/x", false},
		{"http://attest.example", "https://attest.example", false},
		{"https://attest.example", "http://attest.example", false},
		{"https://attest.example", "https://attest.example.evil", false},
		{"https://attest.example", "https://evil/https://attest.example", false},
		{"https://attest.example", "", false},
		{"https://attest.example", "/", false},
	} {
		if got := mustParse(t, p(c.authority)).Evaluate(c.issuer, claims).Satisfied; got != c.want {
			t.Errorf("authority %q and issuer %q: %v, want %v", c.authority, c.issuer, got, c.want)
		}
	}
	two := mustParse(t, `{"version":"1.0","anyOf":[{"authority":"https://a","allOf":[{"claim":"x","equals":1}]},{"authority":"https://b","allOf":[{"claim":"x","equals":2}]}]}`)
	for _, c := range []struct {
		issuer string
		x      any
		want   bool
	}{{"https://a", "1", true}, {"https://a", "2", false}, {"https://b", "2", true}, {"https://b", "1", false}, {"https://c", "1", false}} {
		if got := two.Evaluate(c.issuer, Claims{"x": c.x}).Satisfied; got != c.want {
			t.Errorf("issuer %s with %v: %v", c.issuer, c.x, got)
		}
	}
}

func TestZeroDenies(t *testing.T) {
	t.Parallel()
	var none *Policy
	for name, p := range map[string]*Policy{
		"nil": none, "zero": {}, "no condition": {Authorities: []Authority{{Issuer: issuer}}},
		"empty list": {Authorities: []Authority{{Issuer: issuer, Condition: Condition{Combine: AllOf}}}},
		"no value":   {Authorities: []Authority{{Issuer: issuer, Condition: Condition{Claim: "a", Operator: NotEquals}}}},
	} {
		if p.Evaluate(issuer, Claims{"a": "b"}).Satisfied {
			t.Errorf("%s: permitted", name)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"anyOf":[`, MaxDepth) + `{"claim":"a","equals":1}` + strings.Repeat(`]}`, MaxDepth)
	many := strings.TrimSuffix(strings.Repeat(`{"claim":"a","equals":1},`, MaxConditions+1), ",")
	for name, text := range map[string]string{
		"nothing":             ``,
		"a list":              `[]`,
		"a string":            `"eyJ2ZXJzaW9uIjoiMS4wIn0"`,
		"no version":          `{"anyOf":[{"authority":"https://a","allOf":[{"claim":"a","equals":1}]}]}`,
		"another version":     `{"version":"2.0","anyOf":[{"authority":"https://a","allOf":[{"claim":"a","equals":1}]}]}`,
		"no authorities":      `{"version":"1.0","anyOf":[]}`,
		"all authorities":     `{"version":"1.0","allOf":[{"authority":"https://a","allOf":[{"claim":"a","equals":1}]}]}`,
		"unknown member":      `{"version":"1.0","x":1,"anyOf":[{"authority":"https://a","allOf":[{"claim":"a","equals":1}]}]}`,
		"twice":               `{"version":"1.0","version":"1.0","anyOf":[{"authority":"https://a","allOf":[{"claim":"a","equals":1}]}]}`,
		"case":                `{"version":"1.0","anyof":[{"authority":"https://a","allOf":[{"claim":"a","equals":1}]}]}`,
		"no authority":        `{"version":"1.0","anyOf":[{"allOf":[{"claim":"a","equals":1}]}]}`,
		"empty authority":     `{"version":"1.0","anyOf":[{"authority":"https:///","allOf":[{"claim":"a","equals":1}]}]}`,
		"no conditions":       `{"version":"1.0","anyOf":[{"authority":"https://a"}]}`,
		"empty conditions":    one(``),
		"both":                `{"version":"1.0","anyOf":[{"authority":"https://a","allOf":[{"claim":"a","equals":1}],"anyOf":[{"claim":"a","equals":1}]}]}`,
		"empty inner":         one(`{"anyOf":[]}`),
		"no operator":         one(`{"claim":"a"}`),
		"two operators":       one(`{"claim":"a","equals":1,"notEquals":2}`),
		"unknown operator":    one(`{"claim":"a","like":"b"}`),
		"claim and list":      one(`{"claim":"a","anyOf":[{"claim":"a","equals":1}]}`),
		"empty claim":         one(`{"claim":"","equals":1}`),
		"empty path":          one(`{"claim":"a..b","equals":1}`),
		"claim no string":     one(`{"claim":1,"equals":1}`),
		"null":                one(`{"claim":"a","equals":null}`),
		"list value":          one(`{"claim":"a","equals":[1]}`),
		"exponent":            one(`{"claim":"a","equals":1e999999999}`),
		"huge":                one(`{"claim":"a","equals":` + strings.Repeat("1", 100) + `}`),
		"less than text":      one(`{"claim":"a","less":"b"}`),
		"less than bool":      one(`{"claim":"a","less":true}`),
		"exists what":         one(`{"claim":"a","exists":1}`),
		"deep":                one(deep),
		"many":                one(many),
		"after the end":       one(`{"claim":"a","equals":1}`) + `{}`,
		"authority in nested": one(`{"authority":"https://a","allOf":[{"claim":"a","equals":1}]}`),
	} {
		if p, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s: was read as %+v", name, p)
		}
	}
}

// TestForms holds the two ways of writing to what the services were recorded to answer.
func TestForms(t *testing.T) {
	t.Parallel()
	const sent = `{ "anyOf": [ { "anyOf": [ { "equals": true, "claim": "sdk-test" } ], "authority": "https://sk.example/" } ], "version": "1.0" }`
	for _, c := range []struct {
		form Form
		want string
	}{
		{VaultForm, `{"version":"1.0","anyOf":[{"authority":"https://sk.example","anyOf":[{"claim":"sdk-test","equals":true}]}]}`},
		{ManagedForm, `{"anyOf":[{"anyOf":[{"claim":"sdk-test","equals":true}],"authority":"https://sk.example/"}],"version":"1.0.0"}`},
	} {
		got, err := mustParse(t, sent).Marshal(c.form)
		if err != nil || string(got) != c.want {
			t.Errorf("form %d: %s (%v), want %s", c.form, got, err, c.want)
		}
	}
	got, err := mustParse(t, one(`{"claim":"a<b","equals":"x&\"y\u2028"}`)).Marshal(VaultForm)
	if want := one(`{"claim":"a<b","equals":"x&\"y\u2028"}`); err != nil || string(got) != want {
		t.Errorf("%s (%v), want %s", got, err, want)
	}
}

func TestExplanation(t *testing.T) {
	t.Parallel()
	p := mustParse(t, `{"version":"1.0.0","anyOf":[
		{"authority":"https://other.example","allOf":[{"claim":"x","equals":1}]},
		{"authority":"https://attest.example","allOf":[
			{"claim":"hostdata","equals":"aa"},
			{"claim":"debug","equals":"false"},
			{"anyOf":[{"claim":"role","equals":"builder"},{"claim":"svn","greater":3}]},
			{"anyOf":[{"claim":"debug","equals":"false"},{"claim":"svn","greater":9}]}]}]}`)
	out := p.Evaluate(issuer, Claims{"hostdata": "bb", "debug": false, "svn": []any{strings.Repeat("long", 100)}})
	if out.Satisfied {
		t.Fatal("permitted")
	}
	got := out.Failures()
	long := `["` + strings.Repeat("long", 100)
	want := []Result{
		{Path: "anyOf[1].allOf[0]", Claim: "hostdata", Operator: Equals, Expected: `"aa"`, Actual: `"bb"`},
		{Path: "anyOf[1].allOf[2].anyOf[0]", Claim: "role", Operator: Equals, Expected: `"builder"`},
		{Path: "anyOf[1].allOf[2].anyOf[1]", Claim: "svn", Operator: Greater, Expected: `3`, Actual: long[:maxActual] + "…",
			Problem: "the claim is no string, boolean or number without exponent"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
}
