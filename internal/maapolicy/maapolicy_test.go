// SPDX-License-Identifier: Apache-2.0

package maapolicy_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/maapolicy"
	"cofferdam.dev/internal/testcap"
)

func text(s string) maapolicy.Value  { return maapolicy.StringValue(s) }
func number(i int64) maapolicy.Value { return maapolicy.IntegerValue(i) }
func truth(b bool) maapolicy.Value   { return maapolicy.BooleanValue(b) }

func service(typ string, v maapolicy.Value) maapolicy.Claim {
	return maapolicy.Claim{Type: typ, Value: v, Issuer: maapolicy.IssuerService}
}

func parse(t testing.TB, policy string) *maapolicy.Policy {
	t.Helper()
	p, err := maapolicy.Parse([]byte(policy))
	if err != nil {
		t.Fatalf("%v\n%s", err, policy)
	}
	return p
}

// TestAuthorization is the table of what permits.
func TestAuthorization(t *testing.T) {
	t.Parallel()
	claims := []maapolicy.Claim{
		service("debug", truth(false)), service("svn", number(3)), service("name", text("a")), service("name", text("b")),
		{Type: "name", Value: text("c")},
	}
	for name, c := range map[string]struct {
		rules     string
		permitted bool
	}{
		"no rule":                         {``, false},
		"permit":                          {`=> permit();`, true},
		"deny":                            {`=> deny();`, false},
		"deny wins, before":               {`=> deny(); => permit();`, false},
		"deny wins, after":                {`=> permit(); => deny();`, false},
		"equal Boolean":                   {`[type=="debug", value==false] => permit();`, true},
		"other Boolean":                   {`[type=="debug", value==true] => permit();`, false},
		"Boolean and text differ":         {`[type=="debug", value=="false"] => permit();`, false},
		"unequal across kinds":            {`[type=="debug", value!="false"] => permit();`, true},
		"one of a set":                    {`[type=="name", value=="b"] => permit();`, true},
		"none of a set":                   {`[type=="name", value=="d"] => permit();`, false},
		"unequal to one of a set":         {`[type=="name", value!="a"] => permit();`, true},
		"less":                            {`[type=="svn", value<4] => permit();`, true},
		"not less":                        {`[type=="svn", value<3] => permit();`, false},
		"at most":                         {`[type=="svn", value<=3] => permit();`, true},
		"more":                            {`[type=="svn", value>2] => permit();`, true},
		"not more":                        {`[type=="svn", value>3] => permit();`, false},
		"at least":                        {`[type=="svn", value>=3] => permit();`, true},
		"negative":                        {`[type=="svn", value>-1] => permit();`, true},
		"order of text":                   {`a:[type=="svn"] && [type=="name", value>a.value] => permit();`, false},
		"all conditions":                  {`[type=="svn"] && [type=="gone"] => permit();`, false},
		"two rules":                       {`[type=="gone"] => permit(); [type=="svn"] => permit();`, true},
		"issuer":                          {`[type=="name", value=="c", issuer=="AttestationService"] => permit();`, false},
		"default issuer":                  {`[type=="name", value=="c", issuer=="CustomClaim"] => permit();`, true},
		"value type":                      {`[type=="svn", valueType=="Integer"] => permit();`, true},
		"other value type":                {`[type=="svn", valueType=="String"] => permit();`, false},
		"any type":                        {`[value==3] => permit();`, true},
		"absent":                          {`![type=="gone"] => permit();`, true},
		"not absent":                      {`![type=="svn"] => permit();`, false},
		"value of another claim":          {`a:[type=="name", issuer=="CustomClaim"] && [type=="name", value==a.value] => permit();`, true},
		"value of another claim, missing": {`a:[type=="svn"] && [type=="name", value==a.value] => permit();`, false},
		"issuer of another claim":         {`a:[type=="svn"] && [type=="name", issuer==a.issuer] => permit();`, true},
		"added before":                    {`=> add(type="x", value=1); [type=="x", issuer=="AttestationPolicy"] => permit();`, true},
		"added after":                     {`[type=="x"] => permit(); => add(type="x", value=1);`, false},
		"single equals":                   {`[type="svn"] => permit();`, true},
		"comment":                         {"// => deny();\n=> permit(); // yes\n", true},
		"escapes":                         {`=> add(type="q", value="\"\\"); [type=="q", value=="\"\\"] => permit();`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, err := parse(t, "version=1.2; authorizationrules{ "+c.rules+" };").Evaluate(t.Context(), claims)
			if err != nil {
				t.Fatal(err)
			}
			if o.Permitted != c.permitted {
				t.Errorf("permitted: %v; %s", o.Permitted, o.Reason())
			}
		})
	}
}

// TestFunctions has the examples of the public documentation, without its slips, and the edges of each function.
func TestFunctions(t *testing.T) {
	t.Parallel()
	claims := []maapolicy.Claim{
		service("json", text(`{"values": [0,1,2,3,4], "s":"x", "o":{}}`)), service("query", text("values[2]")),
		service("int", text("100")), service("bool", text("true")), service("str", text(`"abc"`)), service("null", text("null")),
		service("array", text(`[0, "abc", true, null]`)), service("nested", text(`[[1]]`)), service("fraction", text("1.5")),
		service("whole", text("1e2")), service("big", text("123456789012345678")),
		service("sub", text("abc")), service("sub", number(100)),
		service("super", truth(true)), service("super", text("abc")), service("super", number(100)),
		service("set", number(100)), service("set", number(101)), service("same", number(1)), service("same", number(1)),
		service("yes", truth(true)),
		{Type: "pcrs", Value: text(`[1]`), Issuer: maapolicy.IssuerService, ReadOnly: true},
	}
	for name, c := range map[string]struct {
		rule string
		want map[string]any
		err  string
	}{
		"JmesPath":                {`a:[type=="json"] && b:[type=="query"] => issue(type="r", value=JmesPath(a.value, b.value));`, map[string]any{"r": "2"}, ""},
		"JmesPath of literals":    {`=> issue(type="r", value=JmesPath("{\"foo\": \"bar\"}", "foo"));`, map[string]any{"r": `"bar"`}, ""},
		"JmesPath of nothing":     {`=> issue(type="r", value=JmesPath("{}", "foo"));`, map[string]any{"r": "null"}, ""},
		"equals_ignore_case":      {`=> issue(type="r", value=JmesPath("{\"a\":\"X\"}", "equals_ignore_case(a, 'x')"));`, map[string]any{"r": "true"}, ""},
		"equals_ignore_case of 1": {`=> issue(type="r", value=JmesPath("{\"a\":1}", "equals_ignore_case(a, 'x')"));`, nil, "10:"},
		"padding":                 {`=> issue(type="r", value=JmesPath("1", "pad_left('a', ` + "`1000000000`" + `)"));`, nil, "pad_left is not available"},
		"bad query":               {`=> issue(type="r", value=JmesPath("1", "["));`, nil, "query"},
		"empty query":             {`=> issue(type="r", value=JmesPath("1", ""));`, nil, "query has 0 bytes"},
		"no JSON":                 {`=> issue(type="r", value=JmesPath("{", "a"));`, nil, "argument 1 of JmesPath is no JSON"},
		"two JSON values":         {`=> issue(type="r", value=JmesPath("1 2", "a"));`, nil, "something follows"},
		"query is a number":       {`=> issue(type="r", value=JmesPath("1", 2));`, nil, "argument 2 of JmesPath must be a String"},
		"integer":                 {`c:[type=="int"] => issue(type="r", value=JsonToClaimValue(c.value));`, map[string]any{"r": int64(100)}, ""},
		"Boolean":                 {`c:[type=="bool"] => issue(type="r", value=JsonToClaimValue(c.value));`, map[string]any{"r": true}, ""},
		"string":                  {`c:[type=="str"] => issue(type="r", value=JsonToClaimValue(c.value));`, map[string]any{"r": "abc"}, ""},
		"null":                    {`c:[type=="null"] => issue(type="r", value=JsonToClaimValue(c.value));`, map[string]any{}, ""},
		"array":                   {`c:[type=="array"] => issue(type="r", value=JsonToClaimValue(c.value));`, map[string]any{"r": []any{int64(0), "abc", true}}, ""},
		"whole number":            {`c:[type=="whole"] => issue(type="r", value=JsonToClaimValue(c.value));`, map[string]any{"r": int64(100)}, ""},
		"large integer":           {`c:[type=="big"] => issue(type="r", value=JsonToClaimValue(c.value));`, map[string]any{"r": int64(123456789012345678)}, ""},
		"fraction":                {`c:[type=="fraction"] => issue(type="r", value=JsonToClaimValue(c.value));`, nil, "no integer"},
		"object":                  {`c:[type=="json"] => issue(type="r", value=JsonToClaimValue(c.value));`, nil, "an object"},
		"array in array":          {`c:[type=="nested"] => issue(type="r", value=JsonToClaimValue(c.value));`, nil, "an array in an array"},
		"several claims":          {`c:[type=="sub"] => issue(type="r", value=JsonToClaimValue(c.value));`, nil, "must be one value, not 2"},
		"subset":                  {`a:[type=="sub"] && b:[type=="super"] => issue(type="r", value=IsSubsetOf(a.value, b.value));`, map[string]any{"r": true}, ""},
		"no subset":               {`a:[type=="sub"] && b:[type=="super"] => issue(type="r", value=IsSubsetOf(b.value, a.value));`, map[string]any{"r": false}, ""},
		"empty set is a subset":   {`a:[type=="sub"] && b:[type=="null"] => issue(type="r", value=IsSubsetOf(JsonToClaimValue(b.value), a.value));`, map[string]any{"r": true}, ""},
		"append":                  {`a:[type=="int"] && b:[type=="bool"] => issue(type="r", value=AppendString(a.value, AppendString("-", b.value)));`, map[string]any{"r": "100-true"}, ""},
		"append a number":         {`=> issue(type="r", value=AppendString("a", 1));`, nil, "argument 2 of AppendString must be a String"},
		"negate":                  {`c:[type=="yes"] => issue(type="r", value=NegateBool(c.value));`, map[string]any{"r": false}, ""},
		"negate text":             {`=> issue(type="r", value=NegateBool("true"));`, nil, "must be a Boolean"},
		"contains other values":   {`c:[type=="set"] => issue(type="r", value=ContainsOnlyValue(c.value, 100));`, map[string]any{"r": false}, ""},
		"contains only":           {`c:[type=="same"] => issue(type="r", value=ContainsOnlyValue(c.value, 1));`, map[string]any{"r": true}, ""},
		"contains only, empty":    {`c:[type=="null"] => issue(type="r", value=ContainsOnlyValue(JsonToClaimValue(c.value), 1));`, map[string]any{"r": false}, ""},
		"claims of a set":         {`c:[type=="set"] => issue(claim=c);`, map[string]any{"set": []any{int64(100), int64(101)}}, ""},
		"type from a claim":       {`c:[type=="sub", value=="abc"] => issue(type=c.value, value=c.type);`, map[string]any{"abc": "sub"}, ""},
		"type that is no text":    {`c:[type=="yes"] => issue(type=c.value, value=1);`, nil, "type of a claim must be a String"},
		"read-only claim":         {`c:[type=="pcrs"] => issue(claim=c);`, nil, `claim "pcrs" can not be issued`},
		"made of read-only":       {`c:[type=="pcrs"] => issue(type="r", value=JsonToClaimValue(JmesPath(c.value, "[0]")));`, nil, `claim "r" can not be issued`},
		"appended read-only":      {`c:[type=="pcrs"] => issue(type="r", value=AppendString("", c.value));`, nil, "can not be issued"},
		"added read-only":         {`c:[type=="pcrs"] => add(type="r", value=c.value); c:[type=="r"] => issue(claim=c);`, nil, "can not be issued"},
		"truth about read-only":   {`c:[type=="pcrs"] => issue(type="r", value=ContainsOnlyValue(c.value, "[1]"));`, map[string]any{"r": true}, ""},
		"used in a test":          {`a:[type=="json"] && [type=="yes", value==JsonToClaimValue(JmesPath(a.value, "s == 'x'"))] => issue(type="r", value=1);`, map[string]any{"r": int64(1)}, ""},
		"issued is incoming":      {`=> issue(type="a", value=1); c:[type=="a", issuer=="AttestationPolicy"] => issue(type="b", value=c.value);`, map[string]any{"a": int64(1), "b": int64(1)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := parse(t, "version=1.2; authorizationrules{=> permit();}; issuancerules{ "+c.rule+" };")
			o, err := p.Evaluate(t.Context(), claims)
			if c.err != "" {
				var e *maapolicy.EvaluationError
				if !errors.As(err, &e) || c.err != "10:" && !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, o.Object()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestSyntax has one mistake each, and where it is.
func TestSyntax(t *testing.T) {
	t.Parallel()
	in := func(rules string) string { return "version=1.2;\nauthorizationrules{\n" + rules + "\n};" }
	for name, c := range map[string]struct{ policy, want string }{
		"empty":                     {"", "1:1: a policy begins with"},
		"no version":                {"authorizationrules{};", "1:1: a policy begins with"},
		"version as text":           {`version="1.0";`, "1:9: want"},
		"unknown version":           {"version=2.0;", "1:1: version 2.0 is unknown"},
		"unknown section":           {"version=1.0;\nrules{};", `2:1: "rules" is no section`},
		"section twice":             {"version=1.0; issuancerules{}; issuancerules{};", "1:31: issuancerules is there twice"},
		"order of sections":         {"version=1.0; issuancerules{}; authorizationrules{};", "1:31: authorizationrules comes too late"},
		"configuration in 1.0":      {"version=1.0; configurationrules{};", "needs version 1.1"},
		"function in 1.1":           {"version=1.1; issuancerules{ => issue(type=\"a\", value=NegateBool(true)); };", "function NegateBool needs version 1.2"},
		"absence in 1.1":            {"version=1.1; authorizationrules{ ![type==\"a\"] => permit(); };", "needs version 1.2"},
		"issue in authorization":    {in(`=> issue(type="a", value=1);`), `3:4: authorizationrules has no action "issue"`},
		"permit in issuance":        {"version=1.0; issuancerules{ => permit(); };", `has no action "permit"`},
		"missing semicolon":         {in(`=> permit() => deny();`), `3:13: want ";" after the rule`},
		"placeholder":               {in(`[value==<product-id>] => permit();`), `3:9: want a value`},
		"typographic quotes":        {in(`[type==“a”] => permit();`), "3:8: '“' is a typographic quotation mark"},
		"string without end":        {in(`[type=="a] => permit();`), "3:8: the string does not end on its line"},
		"string without end at all": {`version=1.0; issuancerules{ "`, "1:29: the string does not end"},
		"escape":                    {in(`[type=="a\n"] => permit();`), "3:10: a backslash in a string"},
		"unknown property":          {in(`[typ=="a"] => permit();`), `3:2: "typ" is no property`},
		"unknown operator":          {in(`[type~"a"] => permit();`), "3:6: '~' has no meaning here"},
		"no operator":               {in(`[type] => permit();`), "3:6: want an operator"},
		"order of types":            {in(`[type>"a"] => permit();`), "3:6: type is text"},
		"type is a number":          {in(`[type==1] => permit();`), "3:6: type is text"},
		"order of text":             {in(`[value<"a"] => permit();`), "3:7: < compares integers"},
		"unknown function":          {in(`[value==NegateBol(true)] => permit();`), `3:9: "NegateBol" is no function`},
		"too few arguments":         {in(`[value==ContainsOnlyValue(1)] => permit();`), "3:9: ContainsOnlyValue takes 2 arguments"},
		"too many arguments":        {in(`[value==NegateBool(true, true)] => permit();`), "3:9: NegateBool takes 1 arguments"},
		"undeclared name":           {in(`c:[type=="a"] && [value==c1.value] => permit();`), `3:26: no condition before this is named "c1"`},
		"own name":                  {in(`c:[value==c.value] => permit();`), `no condition before this is named "c"`},
		"name twice":                {in(`c:[type=="a"] && c:[type=="b"] => permit();`), `"c" names two conditions`},
		"name of an absent claim":   {in(`!c:[type=="a"] => permit();`), "finds no claim"},
		"undeclared claim":          {in(`=> add(claim=c);`), `3:14: no condition of the rule is named "c"`},
		"type alone":                {in(`=> add(type="a");`), "3:4: add needs type and value"},
		"value without name":        {in(`=> add("a", value=1);`), "3:8: want a parameter"},
		"unknown parameter":         {in(`=> add(type="a", value=1, issuer="x");`), `parameter "issuer"`},
		"claim and value":           {in(`c:[type=="a"] => add(claim=c, value=1);`), `parameter "value"`},
		"empty type":                {in(`=> add(type="", value=1);`), "is a string that is not empty"},
		"comparison as parameter":   {in(`=> add(type=="a", value=1);`), `want "=" after the parameter`},
		"trailing and":              {in(`[type=="a"] && => permit();`), `want a condition after "&&"`},
		"or":                        {in(`[type=="a"] || [type=="b"] => permit();`), "3:13: '|' has no meaning here"},
		"huge number":               {in(`[value==99999999999999999999] => permit();`), "not within 64 bits"},
		"no number":                 {in(`[value==0x10] => permit();`), `"0x10" is no number`},
		"no UTF-8":                  {"version=1.0;\xff", "not UTF-8"},
		"columns in characters":     {in(`[type=="äöü"]] => permit();`), "3:14: want"},
		"deep calls":                {in("[value==" + strings.Repeat("NegateBool(", 40) + "true" + strings.Repeat(")", 40) + "] => permit();"), "nested deeper"},
		"many rules":                {in(strings.Repeat("=> deny();", maapolicy.MaxRules+1)), "more than"},
		"large":                     {strings.Repeat(" ", maapolicy.MaxSize+1), "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := maapolicy.Parse([]byte(c.policy)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestProperties(t *testing.T) {
	t.Parallel()
	p := parse(t, `version=1.1; configurationrules{ => issueproperty(type="report_validity_in_minutes", value=5);
		=> issueproperty(type="omit_x5c", value=true); => issueproperty(type="report_validity_in_minutes", value=6); };
		authorizationrules{ [type=="omit_x5c"] => permit(); };`)
	o, err := p.Evaluate(t.Context(), nil)
	if err != nil || !o.Permitted {
		t.Fatalf("%+v, %v", o, err)
	}
	if v, ok := o.Property("report_validity_in_minutes"); !ok || v != number(6) {
		t.Errorf("%v, %v", v, ok)
	}
	if _, ok := o.Property("other"); ok {
		t.Error("a property that was never set")
	}
}

func TestReason(t *testing.T) {
	t.Parallel()
	claims := []maapolicy.Claim{service("debug", truth(true)), service("svn", number(2)), service("svn", number(4))}
	for name, c := range map[string]struct{ rules, want string }{
		"permitted": {"\n=> permit();", "the rule at 2:1 permits"},
		"denied":    {"=> permit();\n[type==\"svn\"] => deny();", "the rule at 2:1 denies"},
		"no rule":   {"", "no rule permits"},
		"value":     {"[type==\"debug\", value==false] => permit();", `condition at 1:34: claim "debug" has value true; the rule wants == false`},
		"set":       {"[type==\"svn\", value>5] => permit();", `claim "svn" has value 2; the rule wants > 5; claim "svn" has value 4; the rule wants > 5`},
		"missing":   {"[type==\"x\"] => permit();", `there is no claim of type == "x"`},
		"present":   {"![type==\"debug\"] => permit();", `there is a claim "debug", which must be absent: it is true`},
		"reference": {"a:[type==\"svn\"] && [type==\"debug\", value==a.value] => permit();", `the rule wants == 2 or 4`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, err := parse(t, "version=1.2; authorizationrules{ "+c.rules+"};").Evaluate(t.Context(), claims)
			if err != nil || !strings.Contains(o.Reason(), c.want) {
				t.Errorf("%q, %v; want %q", o.Reason(), err, c.want)
			}
		})
	}
}

func TestLint(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ policy, want string }{
		"clean":                {`version=1.0; authorizationrules{ c:[type=="a"] => add(claim=c); [type=="a"] => permit(); };`, ""},
		"nothing permitted":    {`version=1.0;`, "1:1 NOTHING_PERMITTED"},
		"everything permitted": {`version=1.0; authorizationrules{ => permit(); };`, "1:34 EVERYTHING_PERMITTED"},
		"everything denied":    {`version=1.0; authorizationrules{ [type=="a"] => permit(); => deny(); };`, "1:59 EVERYTHING_DENIED"},
		"tolerated":            {`version=1.0; authorizationrules{ [type="a"] => permit() }`, "1:39 SINGLE_EQUALS 1:57 MISSING_SEMICOLON 1:58 MISSING_SEMICOLON"},
		"any type":             {`version=1.0; authorizationrules{ [value==1] => permit(); };`, "1:34 ANY_TYPE"},
		"unused name":          {`version=1.0; authorizationrules{ c:[type=="a"] => permit(); };`, "1:34 UNUSED_NAME"},
	} {
		var got []string
		for _, w := range parse(t, c.policy).Lint() {
			got = append(got, fmt.Sprint(w.Position, " ", w.Code))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestPublishedPolicies parses the policies of the public documentation.
func TestPublishedPolicies(t *testing.T) {
	t.Parallel()
	read := func(name string) string {
		b, err := os.ReadFile(testcap.Vectors(t, "maa/docs/"+name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	sgx := []maapolicy.Claim{
		service("x-ms-sgx-is-debuggable", truth(true)), service("x-ms-sgx-mrsigner", text("mrsigner2")),
		service("$is-debuggable", truth(true)), service("$svn", number(3)),
	}
	for name, c := range map[string]struct {
		text, err string
		permitted bool
		issued    map[string]any
	}{
		"default 1.1":  {read("policy-sgx-default-1.1.txt"), "", true, map[string]any{"is-debuggable": true, "sgx-mrsigner": "mrsigner2"}},
		"multiple 1.0": {read("policy-sgx-multiple-1.0.txt"), "", true, map[string]any{}},
		"placeholders": {read("policy-sgx-custom-1.0.txt"), "5:50: want a value", false, nil},
		"in a token":   {inToken(t, read("policy-sgx-unsigned.jwt.txt")), "", true, map[string]any{"is-debuggable": true, "svn": int64(3)}},
		"signed, which denies what can be debugged": {inToken(t, read("policy-sgx-signed.jwt.txt")), "", false, map[string]any{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := maapolicy.Parse([]byte(c.text))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			o, err := p.Evaluate(t.Context(), sgx)
			if err != nil || o.Permitted != c.permitted {
				t.Fatalf("%+v, %v", o, err)
			}
			if diff := cmp.Diff(c.issued, o.Object()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// inToken returns the policy in the claim AttestationPolicy of a token.
func inToken(t *testing.T, token string) string {
	t.Helper()
	parts := strings.Split(strings.TrimSpace(token), ".")
	body, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		t.Fatal(err)
	}
	var claims struct{ AttestationPolicy string }
	if err = json.Unmarshal(body, &claims); err != nil {
		t.Fatal(err)
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(claims.AttestationPolicy, "="))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestBounds has policies that would grow without end.
func TestBounds(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]string{
		"claims": strings.Repeat(`c:[type=="a"] => add(claim=c); `, 20),
		"text":   `=> add(type="t0", value="0123456789abcdef");` + chain(40),
	} {
		p := parse(t, `version=1.2; authorizationrules{ `+rules+` => permit(); };`)
		if _, err := p.Evaluate(t.Context(), []maapolicy.Claim{service("a", text("x"))}); err == nil {
			t.Errorf("%s: no bound", name)
		}
	}
	var many []maapolicy.Claim
	for i := range 9000 {
		many = append(many, service("a", number(int64(i))))
	}
	p := parse(t, `version=1.2; authorizationrules{ c:[type=="a"] && [type=="a", value==c.value] => permit(); };`)
	if _, err := p.Evaluate(t.Context(), many); err == nil {
		t.Error("comparisons: no bound")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := parse(t, "version=1.2; authorizationrules{ => permit(); };").Evaluate(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}

// chain doubles a text n times.
func chain(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `c:[type=="t%d"] => add(type="t%d", value=AppendString(c.value, c.value)); `, i, i+1)
	}
	return b.String()
}

func FuzzParse(f *testing.F) {
	f.Add("version=1.2; configurationrules{ => issueproperty(type=\"a\", value=1); }; authorizationrules{ c:[type==\"a\", value!=1] && ![issuer==\"b\"] => permit(); };")
	f.Add("version=1.2; issuancerules{ c:[type==\"a\"] => issue(type=\"b\", value=JsonToClaimValue(JmesPath(c.value, \"a[0]\"))); };")
	f.Add("version=1.0;authorizationrules{=>deny()}")
	claims := []maapolicy.Claim{service("a", text(`{"a":[1]}`)), service("b", number(1))}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := maapolicy.Parse([]byte(s))
		if err != nil {
			return
		}
		o, err := p.Evaluate(t.Context(), claims)
		if err == nil && o.Permitted && !strings.Contains(s, "permit") {
			t.Errorf("it permits without a permit: %q", s)
		}
	})
}
