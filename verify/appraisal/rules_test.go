// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"context"
	"encoding/base64"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/rego"

	"cofferdam.dev/evidence"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

func decode64(t testing.TB, text []byte) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRules evaluates rules over a verdict.
func TestRules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, rule string
		before     verify.Outcome
		after      verify.Outcome
		want       []string
	}{
		{"nothing denied", `deny contains "x" if input.simulated`, verify.Accepted, verify.Accepted, nil},
		{"denied", `deny contains "no hardware" if not input.simulated`, verify.Accepted, verify.Refused, []string{"RULE_DENIED no hardware"}},
		{"denied with a code", `deny contains {"code": "LINE", "message": sprintf("it is %v", [input.report.product])} if input.report.product == "Milan-B0"`,
			verify.Accepted, verify.Refused, []string{"RULE_LINE it is Milan-B0"}},
		{"all 64 bits", `deny contains "x" if input.report.launchMitigations != 18446744073709551615`, verify.Accepted, verify.Accepted, nil},
		{"two", `deny contains m if some m in ["a", "b", "a"]`, verify.Undecided, verify.Refused, []string{"RULE_DENIED a", "RULE_DENIED b"}},
		{"open stays open", `deny contains "x" if false`, verify.Undecided, verify.Undecided, nil},
		{"refused stays refused", "deny contains \"x\" if false\nallow := true", verify.Refused, verify.Refused, nil},
		{"no set", `deny := true`, verify.Accepted, verify.Refused, []string{"RULES_FAILED deny is a bool, not a set"}},
		{"undefined", `deny := "x" if false`, verify.Accepted, verify.Refused, []string{"RULES_FAILED deny has no value"}},
		{"a number", `deny contains 1`, verify.Accepted, verify.Refused, []string{"RULES_FAILED deny has a json.Number, neither a text nor an object"}},
		{"a bad code", `deny contains {"code": "a b", "message": "x"}`, verify.Accepted, verify.Refused, nil},
		{"an error", `deny contains "x" if to_number(input.report.product) > 1`, verify.Accepted, verify.Refused, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, err := compileRules(t.Context(), []string{"package appraisal\n" + c.rule})
			if err != nil {
				t.Fatal(err)
			}
			v := &verify.Verdict{Schema: verify.Schema, Outcome: c.before, Domain: anchor.AMD, Report: &verify.ReportClaims{Product: "Milan-B0", LaunchMitigations: 1<<64 - 1}}
			a := &Appraiser{policy: &Policy{}, rules: r}
			rec := &check.Record{}
			a.judge(t.Context(), rec, v)
			conclude(rec, v)
			var got []string
			for _, k := range rec.Checks() {
				if k.Result != check.Pass {
					got = append(got, fmt.Sprintf("%s %s", k.Code, k.Actual))
				}
			}
			if v.Outcome != c.after || c.want != nil && cmp.Diff(c.want, got) != "" || (len(got) == 0) != (c.after != verify.Refused || c.before == verify.Refused) {
				t.Errorf("outcome is %s with %q, want %s with %q", v.Outcome, got, c.after, c.want)
			}
		})
	}
}

// TestRulesRefused requires modules that could do more than look at the verdict not to compile.
func TestRulesRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"network":        {"package appraisal\ndeny contains x if x := http.send({\"method\": \"get\", \"url\": \"https://example.com\"})", "undefined function http.send"},
		"clock":          {"package appraisal\ndeny contains \"x\" if time.now_ns() > 0", "undefined function time.now_ns"},
		"random":         {"package appraisal\ndeny contains \"x\" if rand.intn(\"a\", 2) > 0", "undefined function rand.intn"},
		"environment":    {"package appraisal\ndeny contains \"x\" if opa.runtime().env.HOME", "undefined function opa.runtime"},
		"memory":         {"package appraisal\ndeny contains x if x := numbers.range(1, 1000000000)[_]", "undefined function numbers.range"},
		"long text":      {"package appraisal\ndeny contains sprintf(\"%1000000000d\", [1])", "without widths"},
		"star":           {"package appraisal\ndeny contains x if x := sprintf(\"%*d\", [1000000000, 1])", "without widths"},
		"format made":    {"package appraisal\nf := \"%1000000000d\"\ndeny contains x if x := sprintf(f, [1])", "constant format"},
		"other package":  {"package policy\ndeny contains \"x\"", "package policy, not appraisal"},
		"no deny":        {"package appraisal\nallow := true", "no module has a rule deny"},
		"too long":       {"package appraisal\n" + strings.Repeat("#", maxModuleSize), "more than 65536"},
		"unknown member": {"package appraisal\ndeny contains \"x\" if input.simulatd", "undefined ref: input.simulatd"},
		"deep unknown":   {"package appraisal\ndeny contains \"x\" if input.report.chipid == \"00\"", "undefined ref: input.report.chipid"},
		"unknown in all": {"package appraisal\ndeny contains \"x\" if input.checks[_].nam == \"vmpl\"", "undefined ref: input.checks[_].nam"},
		"in a local":     {"package appraisal\ndeny contains \"x\" if { r := input.report; r.chipid == \"00\" }", "undefined ref"},
		"other type":     {"package appraisal\ndeny contains \"x\" if input.report.vmpl == \"0\"", "match error"},
		"no Rego":        {"package appraisal\ndeny contains", "rego_parse_error"},
		"old Rego":       {"package appraisal\ndeny[x] { x := 1 }", "rego_parse_error"},
	} {
		_, err := compileRules(t.Context(), []string{c.text})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// TestRulesEnd requires an evaluation to end in its time.
func TestRulesEnd(t *testing.T) {
	t.Parallel()
	r, err := compileRules(t.Context(), []string{`package appraisal
list := [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]
deny contains "x" if {
	some a in list; some b in list; some c in list; some d in list; some e in list; some f in list; some g in list; some h in list
	((((((a + b) + c) + d) + e) + f) + g) + h == 0
}`})
	if err != nil {
		t.Fatal(err)
	}
	r.limit = time.Second
	start := time.Now()
	if _, err = r.evaluate(t.Context(), &verify.Verdict{}); err == nil {
		t.Error("it came to an end")
	}
	if d := time.Since(start); d > time.Minute { // without an end it takes many
		t.Errorf("it took %s", d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	rec := &check.Record{}
	(&Appraiser{policy: &Policy{}, rules: r}).judge(ctx, rec, &verify.Verdict{})
	if c := rec.Checks(); len(c) != 1 || c[0].Result != check.NotDecided || c[0].Code != check.CodeCancelled {
		t.Errorf("cancelled: %+v", c)
	}
}

// TestSchemaOracle has another implementation hold policies to the JSON Schema.
func TestSchemaOracle(t *testing.T) {
	t.Parallel()
	schema, err := JSONSchema()
	if err != nil {
		t.Fatal(err)
	}
	query, err := rego.New(rego.Query(`result := json.match_schema(input.doc, input.schema)`)).PrepareForEval(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	matches := func(policy []byte) bool {
		t.Helper()
		results, err := query.Eval(t.Context(), rego.EvalInput(map[string]any{"doc": string(policy), "schema": string(schema)}))
		if err != nil || len(results) != 1 {
			t.Fatalf("%v %v", results, err)
		}
		pair, ok := results[0].Bindings["result"].([]any)
		return ok && pair[0] == true
	}
	full, err := parse(t, string(read(t, "testdata/full.yaml"))).Canonical()
	if err != nil {
		t.Fatal(err)
	}
	if !matches(full) {
		t.Error("the schema does not match the full policy")
	}
	for old, replacement := range map[string]string{
		`"name"`: `"nam"`, `"Milan"`: `"Rome"`, `"amd"`: `"arm"`, `"30d"`: `"30"`, `"bootloader":3`: `"bootloader":300`, `["example"]`: `[]`,
		`"maximum":3`: `"maximum":4`, `"cxl"`: `"debug"`, `"1.51"`: `"1"`, `"simulatedRoots":["`: `"simulatedRoots":["0`,
	} {
		text := strings.Replace(string(full), old, replacement, 1)
		if text == string(full) {
			t.Errorf("%s is not in the policy", old)
		}
		_, parseErr := Parse([]byte(text))
		if matches([]byte(text)) || parseErr == nil {
			t.Errorf("%s is accepted by the schema or by the parser (%v)", replacement, parseErr)
		}
	}
}

// TestPolicyWithoutSections takes policies that nobody validated: they refuse.
func TestPolicyWithoutSections(t *testing.T) {
	t.Parallel()
	for _, p := range []*Policy{{}, {Evidence: []EvidenceType{"sev-snp", "tdx", "sgx", "azure-vtpm", "other"}, Domains: []Domain{"amd", "intel"}}} {
		for _, kind := range []string{"", "sev-snp", "tdx", "sgx", "azure-vtpm", "other"} {
			if o := p.Options(kind, Request{Now: vectorTime}); len(o.Roots) != 0 || len(o.Measurements)+len(o.HostData) != 0 {
				t.Errorf("%q: %d roots, %d measurements, %d host data", kind, len(o.Roots), len(o.Measurements), len(o.HostData))
			}
		}
	}
}

// TestNil appraises nothing.
func TestNil(t *testing.T) {
	t.Parallel()
	a, err := New(t.Context(), parse(t, small), nil)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, a.Appraise(t.Context(), nil, Request{Now: vectorTime}), verify.Refused, check.CodeEvidenceMissing)
	v := a.Appraise(t.Context(), &evidence.Document{Type: evidence.TypeSEVSNP, Report: []byte{1}}, Request{Now: vectorTime})
	expect(t, v, verify.Refused, check.CodeReportMalformed)
	p := parse(t, small)
	p.Binding.MinimumNonceSize = 16
	a, err = New(t.Context(), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	v = a.Appraise(t.Context(), &evidence.Document{Type: evidence.TypeSEVSNP, Report: []byte{1}}, Request{Now: vectorTime, Nonce: make([]byte, 15)})
	expect(t, v, verify.Refused, check.CodeNonceNotSet, check.CodeReportMalformed)
}

// TestInputSchema holds the schema of what rules see against verdicts with everything in them.
func TestInputSchema(t *testing.T) {
	t.Parallel()
	v := &verify.Verdict{}
	fill(reflect.ValueOf(v).Elem())
	input, err := ruleInput(v)
	if err != nil {
		t.Fatal(err)
	}
	schema := inputSchema(reflect.TypeFor[verify.Verdict]())
	results, err := rego.New(rego.Query(`result := json.match_schema(input.doc, input.schema)`),
		rego.Input(map[string]any{"doc": input, "schema": schema})).Eval(t.Context())
	if err != nil || len(results) != 1 {
		t.Fatalf("%v %v", results, err)
	}
	if pair, ok := results[0].Bindings["result"].([]any); !ok || pair[0] != true {
		t.Errorf("the verdict has what the schema does not: %v", pair)
	}
	members := func(v any) int { m, _ := v.(map[string]any); return len(m) }
	for path, pair := range map[string][2]any{
		"": {input, schema}, "report": {input.(map[string]any)["report"], schema["properties"].(map[string]any)["report"]},
		"quote": {input.(map[string]any)["quote"], schema["properties"].(map[string]any)["quote"]},
	} {
		if got, want := members(pair[0]), members(pair[1].(map[string]any)["properties"]); got != want || got == 0 {
			t.Errorf("%q has %d members, in the schema %d", path, got, want)
		}
	}
}

// fill sets every field to something else than zero.
func fill(v reflect.Value) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(vectorTime))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	default:
		v.SetUint(1)
	}
}
