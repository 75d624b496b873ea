// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"

	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/testcap"
)

const attestSNP = "/attest/SevSnpVm?api-version=2022-08-01"

// TestRequestForms has every way in which clients are known to send one request, and all are understood.
func TestRequestForms(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	f := newFixture(t, nil)
	good := w.body(t, runtimeJSON)
	inner := w.evidence(t, runtimeJSON)
	with := func(name string, v any) map[string]any {
		m := maps.Clone(good)
		if m[name] = v; v == nil {
			delete(m, name)
		}
		return m
	}
	pretty, err := json.MarshalIndent(inner, "  ", "\t")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path  string
		body  any
		claim string
		want  any
	}{
		"plain":                  {attestSNP, good, "x-ms-attestation-type", "sevsnpvm"},
		"type in other case":     {"/attest/SevSnpVM?api-version=2020-10-01", good, "", nil},
		"type in lower case":     {"/attest/sevsnpvm?api-version=2025-06-01", good, "", nil},
		"doubled slashes":        {"//attest//SevSnpVm?api-version=2018-09-01-preview", good, "", nil},
		"slash at the end":       {"/attest/SevSnpVm/?api-version=2026-03-11-preview", good, "", nil},
		"encoded query name":     {"/attest/SevSnpVm?api%2Dversion=2022-09-01-preview", good, "", nil},
		"other parameters":       {attestSNP + "&x=1", good, "", nil},
		"report pretty-printed":  {attestSNP, with("report", b64(pretty)), "", nil},
		"report padded":          {attestSNP, with("report", base64.URLEncoding.EncodeToString(pretty)), "", nil},
		"report in base64":       {attestSNP, with("report", base64.StdEncoding.EncodeToString(pretty)), "", nil},
		"base64, no padding":     {attestSNP, with("report", base64.RawStdEncoding.EncodeToString(pretty)), "", nil},
		"nonce as a string":      {attestSNP, with("nonce", "n-1"), "nonce", "n-1"},
		"nonce as a number":      {attestSNP, with("nonce", json.Number("18446744073709551615")), "nonce", "18446744073709551615"},
		"nonce null":             {attestSNP, with("nonce", json.RawMessage("null")), "nonce", nil},
		"nonce empty":            {attestSNP, with("nonce", ""), "nonce", nil},
		"init-time data empty":   {attestSNP, with("initTimeData", map[string]string{"data": "", "dataType": ""}), "", nil},
		"init-time data null":    {attestSNP, with("initTimeData", json.RawMessage("null")), "", nil},
		"init-time data":         {attestSNP, with("initTimeData", map[string]string{"data": b64([]byte(initTime)), "dataType": "binary"}), "", nil},
		"runtime data empty":     {attestSNP, with("runtimeData", map[string]string{"data": "", "dataType": "JSON"}), "x-ms-runtime", nil},
		"no runtime data":        {attestSNP, with("runtimeData", nil), "x-ms-runtime", nil},
		"data type in lower":     {attestSNP, with("runtimeData", map[string]string{"data": b64([]byte(runtimeJSON)), "datatype": "json"}), "", nil},
		"runtime data binary":    {attestSNP, with("runtimeData", map[string]string{"data": b64([]byte(runtimeJSON)), "dataType": "Binary"}), "x-ms-runtime", nil},
		"unknown member":         {attestSNP, with("somethingNew", []int{1}), "", nil},
		"empty endorsements":     {attestSNP, with("report", b64(asJSON(t, mixed(inner, "Endorsements", "")))), "", nil},
		"a form in the body":     {attestSNP, with("form", "maa-es256"), "x-ms-ver", "1.0"},
		"a form in the query":    {attestSNP + "&form=ear", good, "eat_profile", "tag:cofferdam.dev,2026:ear/v1"},
		"an audience":            {attestSNP + "&form=oidc&audience=sts.example", good, "aud", "sts.example"},
		"audience in the body":   {attestSNP + "&form=oidc", with("audience", "sts.example"), "aud", "sts.example"},
		"tenant":                 {"/tenants/contoso" + attestSNP, good, "iss", issuer + "/tenants/contoso/simulated"},
		"simulated":              {"/simulated" + attestSNP, good, "iss", issuer + "/simulated"},
		"tenant, simulated":      {"/tenants/contoso/simulated" + attestSNP, good, "iss", issuer + "/tenants/contoso/simulated"},
		"draft":                  {attestSNP, with("draftPolicyForAttestation", "version=1.0; authorizationrules{=>permit();}; issuancerules{=>issue(type=\"a\",value=1);};"), "a", 1.0},
		"draft as a token":       {attestSNP, with("draftPolicyForAttestation", policyToken("version=1.0; authorizationrules{=>permit();}; issuancerules{=>issue(type=\"a\",value=2);};")), "a", 2.0},
		"draft empty":            {attestSNP, with("draftPolicyForAttestation", ""), "x-ms-ver", "1.0"},
		"names in another case":  {attestSNP, map[string]any{"Report": good["report"], "RuntimeData": good["runtimeData"]}, "", nil},
		"certificates in base64": {attestSNP, with("report", b64(asJSON(t, mixed(inner, "VcekCertChain", otherAlphabet(t, inner["VcekCertChain"]))))), "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := f.do(t, http.MethodPost, c.path, "", c.body)
			got := claims(t, a.token(t))
			if c.claim != "" && got[c.claim] != c.want {
				t.Errorf("claim %s is %v, not %v", c.claim, got[c.claim], c.want)
			}
			if a.header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
				t.Errorf("%v", a.header)
			}
		})
	}
}

func mixed(m map[string]any, name string, v any) map[string]any {
	m = maps.Clone(m)
	m[name] = v
	return m
}

func otherAlphabet(t *testing.T, v any) string {
	t.Helper()
	s, _ := v.(string)
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b)
}

func policyToken(text string) string {
	body := `{"AttestationPolicy":"` + b64([]byte(text)) + `"}`
	return b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(body)) + "."
}

// TestRequestErrors has each error of an appraisal, by status, code and what its message says.
func TestRequestErrors(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	f := newFixture(t, nil)
	good := w.body(t, runtimeJSON)
	inner := w.evidence(t, runtimeJSON)
	with := func(name string, v any) map[string]any { return mixed(good, name, v) }
	report := func(name string, v any) map[string]any { return with("report", b64(asJSON(t, mixed(inner, name, v)))) }
	type row struct {
		path   string
		body   any
		status int
		code   string
		want   string
	}
	bad := func(body any, want string) row { return row{attestSNP, body, 400, codeParameter, want} }
	for name, c := range map[string]row{
		"no version":           {"/attest/SevSnpVm", good, 400, codeParameter, "api-version"},
		"unknown version":      {"/attest/SevSnpVm?api-version=2000-01-01", good, 400, codeParameter, "api-version"},
		"two versions":         {attestSNP + "&api%2Dversion=2022-08-01", good, 400, codeParameter, "api-version"},
		"malformed query":      {attestSNP + "&a=%zz", good, 400, codeParameter, "query"},
		"unknown type":         {"/attest/Tpm?api-version=2022-08-01", good, 400, codeParameter, "Tpm"},
		"unknown tenant":       {"/tenants/nobody" + attestSNP, good, 404, "NotFound", "tenant"},
		"default by name":      {"/tenants/default" + attestSNP, good, 404, "NotFound", "tenant"},
		"dots":                 {"/x/.." + attestSNP, good, 404, "NotFound", "endpoint"},
		"too long a path":      {"/attest/SevSnpVm/x?api-version=2022-08-01", good, 404, "NotFound", "endpoint"},
		"empty body":           bad("", "JSON"),
		"no JSON":              bad("report=x", "JSON"),
		"a list":               bad("[]", "JSON"),
		"cut off":              bad(`{"report":"`, "JSON"),
		"more after it":        bad(`{"report":"AA"} {}`, "JSON"),
		"twice":                bad(`{"report":"AA","report":"AB"}`, "twice"),
		"twice in other case":  bad(`{"report":"AA","Report":"AB"}`, "twice"),
		"twice, nested":        bad(`{"report":"AA","runtimeData":{"data":"","data":"AA"}}`, "twice"),
		"deeply nested":        bad(`{"report":"AA","x":`+strings.Repeat("[", 10_000)+strings.Repeat("]", 10_000)+`}`, "nested"),
		"no report":            bad("{}", "report"),
		"report as a quote":    bad(map[string]any{"quote": "AAAA"}, "report, not quote"),
		"report no string":     bad(with("report", 1), "no string"),
		"report no base64":     bad(with("report", "!!!"), "base64"),
		"mixed alphabets":      bad(with("report", "-/-/"), "base64"),
		"padding":              bad(with("report", "AAAA===="), "base64"),
		"report no JSON":       bad(with("report", "AAAA"), "JSON"),
		"report twice":         bad(with("report", b64([]byte(`{"SnpReport":"AA","snpreport":"AA"}`))), "twice"),
		"no SnpReport":         bad(with("report", b64([]byte(`{}`))), "SnpReport"),
		"chain no PEM":         bad(report("VcekCertChain", b64([]byte("x"))), "PEM"),
		"endorsements no JSON": bad(report("Endorsements", b64([]byte("x"))), "Endorsements"),
		"endorsement a number": bad(report("Endorsements", b64([]byte(`{"Uvm":[1]}`))), "Uvm"),
		"many endorsements":    bad(report("Endorsements", b64([]byte(`{"Uvm":["AA","AA","AA","AA","AA"]}`))), "endorsements"),
		"nonce an object":      bad(with("nonce", map[string]any{}), "nonce"),
		"nonce too long":       bad(with("nonce", strings.Repeat("n", 200)), "nonce"),
		"runtime data a list":  bad(with("runtimeData", []int{}), "runtimeData"),
		"runtime data type":    bad(with("runtimeData", map[string]string{"data": "AAAA", "dataType": "XML"}), "dataType"),
		"runtime no JSON":      bad(w.body(t, "text"), "are no object"),
		"runtime twice":        bad(w.body(t, `{"a":1,"a":2}`), "twice"),
		"form":                 bad(with("form", "x"), "form"),
		"form twice":           {attestSNP + "&form=ear", with("form", "ear"), 400, codeParameter, "more than once"},
		"federation, nobody":   bad(with("form", "oidc"), "audience"),
		"another report":       bad(with("runtimeData", map[string]string{"data": "AAAA", "dataType": "Binary"}), "RUNTIME_DATA_MISMATCH"),
		"init-time data":       bad(with("initTimeData", map[string]string{"data": "AAAA", "dataType": "Binary"}), "HOST_DATA_MISMATCH"),
		"malformed report":     bad(report("SnpReport", "AAAA"), "REPORT_MALFORMED"),
		"not signed":           bad(report("SnpReport", strings.Repeat("A", 200)+inner["SnpReport"].(string)[200:]), ""),
		"draft, syntax":        {attestSNP, with("draftPolicyForAttestation", "version=1.0;\nauthorizationrules{ x };"), 400, codePolicyParsing, "2:"},
		"draft, no token":      bad(with("draftPolicyForAttestation", "eyJ9"), "token"),
		"draft denies":         {attestSNP, with("draftPolicyForAttestation", "version=1.0; authorizationrules{=>deny();};"), 400, codePolicyEvaluation, "1:33 denies"},
		"draft, reserved":      {attestSNP, with("draftPolicyForAttestation", `version=1.0; authorizationrules{=>permit();}; issuancerules{=>issue(type="iss",value="x");};`), 400, codePolicyEvaluation, `"iss"`},
		"quote as a report":    {"/attest/TdxVm?api-version=2022-08-01", map[string]any{"report": "AAAA"}, 400, codeParameter, "quote, not report"},
		"no quote":             {"/attest/SgxEnclave?api-version=2022-08-01", map[string]any{"quote": "AAAA"}, 400, codeParameter, "MALFORMED"},
		"no enclave":           {"/attest/OpenEnclave?api-version=2022-08-01", map[string]any{"report": "AAAA"}, 400, codeParameter, "MALFORMED"},
		"guest library": {"/attest/AzureGuest?api-version=2022-08-01", map[string]any{"AttestationInfo": b64([]byte(`{"AttestationProtocolVersion":"2.0","TpmInfo":{}}`))},
			400, codeParameter, "hcl_report"},
		"no VM": {"/attest/AzureGuest?api-version=2022-08-01", map[string]any{"report": b64([]byte(`{"x":1}`))}, 400, codeParameter, "AZURE"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := f.do(t, http.MethodPost, c.path, "", c.body)
			e := a.failure(t)
			if a.status != c.status || e.Code != c.code || !strings.Contains(e.Message, c.want) {
				t.Errorf("%d %s %q; want %d %s %q", a.status, e.Code, e.Message, c.status, c.code, c.want)
			}
		})
	}
}

// TestRefusalExplains has the parts of an error that say what to change.
func TestRefusalExplains(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	f := newFixture(t, nil)
	body := w.body(t, runtimeJSON)
	body["runtimeData"] = map[string]string{"data": "AAAA", "dataType": "Binary"}
	body["initTimeData"] = map[string]string{"data": "AAAA", "dataType": "Binary"}
	e := f.do(t, http.MethodPost, attestSNP, "", body).failure(t)
	if len(e.Details) != 2 || e.Inner == nil || e.Inner.Outcome != "refused" || !e.Inner.Simulated {
		t.Fatalf("%+v", e)
	}
	for _, d := range e.Details {
		if d.Code == "" || d.Message == "" || d.Expected == "" || d.Actual == "" || d.Target == "" {
			t.Errorf("%+v", d)
		}
	}
	body = w.body(t, runtimeJSON)
	body["draftPolicyForAttestation"] = `version=1.0; authorizationrules{ [type=="x-ms-sevsnpvm-vmpl", value==3] => permit(); };`
	e = f.do(t, http.MethodPost, attestSNP, "", body).failure(t)
	if len(e.Details) != 0 || e.Inner == nil || !strings.Contains(e.Inner.Rule, "x-ms-sevsnpvm-vmpl") {
		t.Errorf("%+v", e)
	}
	delete(body, "draftPolicyForAttestation")
	body["report"] = b64(asJSON(t, mixed(w.evidence(t, runtimeJSON), "VcekCertChain", "")))
	a := f.do(t, http.MethodPost, attestSNP, "", body)
	if e := a.failure(t); a.status != http.StatusBadRequest || e.Inner == nil || e.Inner.Outcome == "accepted" {
		t.Errorf("without certificates: %d %+v", a.status, e)
	}
}

// TestGuestVM sends a real VM's evidence, which is refused for what the operator did not configure and not for its form.
func TestGuestVM(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	for _, name := range []string{"azure-vtpm/snp/a1-3/evidence-v0.json", "azure-vtpm/snp/a1-3/evidence-v1.json", "azure-vtpm/snp/a5/evidence-v1.json", "azure-vtpm/tdx/a6/evidence-v1.json"} {
		for _, member := range []string{"report", "attestationInfo"} {
			a := f.do(t, http.MethodPost, "/attest/AzureGuest?api-version=2020-10-01", "", map[string]any{member: b64(read(t, testcap.Vectors(t, name)))})
			e := a.failure(t)
			if e.Inner == nil || strings.Contains(e.Message, "MALFORMED") || strings.Contains(e.Message, "SIGNATURE_INVALID") {
				t.Errorf("%s: %s", name, a.body)
			}
		}
	}
}

// TestNonceOnce asks for a nonce and uses it twice.
func TestNonceOnce(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	f := newFixture(t, func(o *attestsvc.Options, _ *Options) { o.RequireNonce = true })
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		a := f.do(t, method, "/tenants/contoso/challenge", "", nil)
		var c struct{ Nonce, Expires string }
		if err := json.Unmarshal(a.body, &c); err != nil || c.Nonce == "" || c.Expires == "" || a.header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%d %s", a.status, a.body)
		}
		body := w.body(t, `{"nonce":"`+c.Nonce+`"}`)
		body["nonce"] = c.Nonce
		if got := claims(t, f.do(t, http.MethodPost, "/tenants/contoso"+attestSNP, "", body).token(t)); got["nonce"] != c.Nonce || got["x-cofferdam-fresh"] != true {
			t.Errorf("%v", got)
		}
		for path, want := range map[string]string{"/tenants/contoso" + attestSNP: "used before", attestSNP: "none that this service gave"} {
			if e := f.do(t, http.MethodPost, path, "", body).failure(t); !strings.Contains(e.Message, want) {
				t.Errorf("%s: %+v", path, e)
			}
		}
	}
}
