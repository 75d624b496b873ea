// SPDX-License-Identifier: Apache-2.0

package attestsvc

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/evidence/dcap"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/internal/token"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/intel"
)

// TestForms has one appraisal in every form.
func TestForms(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	f := newService(t, func(o *Options) {
		o.Baseline.Compliance = []Compliance{{Status: "test-guest", Kind: SevSnpVM, Measurements: [][]byte{w.measured[:]}}}
	})
	const issuer = "https://attest.example/simulated"
	r := w.evidence(t, runtimeJSON)
	r.InitTime = &Data{Bytes: []byte(initTime)}
	r.Nonce = "n-1"
	attest := func(form Form, audience string) *Answer {
		r.Form, r.Audience = form, audience
		a, err := f.Attest(t.Context(), DefaultTenant, r)
		if err != nil {
			t.Fatal(err)
		}
		if a.Verdict.Outcome != verify.Accepted || !a.Verdict.Simulated || a.Verdict.Rule != "the rule at 3:2 permits" {
			t.Errorf("%+v", a.Verdict)
		}
		return a
	}
	maa := f.claims(t, attest(FormMAA, "").Token, issuer, "", token.RS256)
	for name, want := range map[string]any{
		"x-ms-sevsnpvm-hostdata": hex.EncodeToString(w.hostData[:]), "x-ms-sevsnpvm-launchmeasurement": hex.EncodeToString(w.measured[:]),
		"x-ms-sevsnpvm-is-debuggable": false, "x-ms-sevsnpvm-vmpl": 0.0, "x-ms-attestation-type": "sevsnpvm", "x-ms-ver": "1.0",
		"x-ms-compliance-status": "test-guest", "nonce": "n-1", claimSimulated: true,
		"x-ms-policy-hash": PolicyHash(defaultPolicies[SevSnpVM]),
	} {
		if diff := cmp.Diff(want, maa[name]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if rt, ok := maa[claimRuntime].(map[string]any); !ok || rt["role"] != "builder" {
		t.Errorf("runtime claims are %v", maa[claimRuntime])
	}
	if _, ok := maa[claimInitTime]; ok {
		t.Error("data that are no JSON became claims")
	}
	if life := maa["exp"].(float64) - maa["iat"].(float64); life != TokenLife.Seconds() {
		t.Errorf("it lives for %v s", life)
	}
	es := f.claims(t, attest(FormMAA256, "").Token, issuer, "", token.ES256)
	if es["jti"] == maa["jti"] || es["x-ms-sevsnpvm-reportid"] != maa["x-ms-sevsnpvm-reportid"] {
		t.Errorf("ES256: %v", es)
	}
	oidc := f.claims(t, attest(FormOIDC, "sts.example").Token, issuer, "sts.example", token.ES256)
	if oidc["hwmodel"] != "SIMULATED" || oidc["dbgstat"] != "disabled-since-boot" || oidc["eat_nonce"] != "n-1" ||
		!strings.HasPrefix(oidc["sub"].(string), "default:sevsnpvm:") {
		t.Errorf("OIDC: %v", oidc)
	}
	ear := f.claims(t, attest(FormEAR, "").Token, issuer, "", token.ES256)
	cpu := ear["submods"].(map[string]any)["cpu0"].(map[string]any)
	vector := cpu["ear.trustworthiness-vector"].(map[string]any)
	if cpu["ear.status"] != 96.0 || vector["hardware"] != 97.0 || vector["executables"] != 2.0 || ear["eat_profile"] != earProfile ||
		cpu["ear.appraisal-policy-id"] != maa["x-ms-policy-hash"] {
		t.Errorf("EAR: %v", ear)
	}
	r.Form, r.Audience = FormOIDC, ""
	if _, err := f.Attest(t.Context(), DefaultTenant, r); err == nil {
		t.Error("a token for a federation without audience")
	}
	holds(t, f)
}

// holds requires the audit log to hold, and returns its entries.
func holds(t testing.TB, f *fixture) []*audit.Entry {
	t.Helper()
	if err := f.log.Close(); err != nil {
		t.Fatal(err)
	}
	var list []*audit.Entry
	v, err := audit.NewVerifier([]*ecdsa.PublicKey{&f.key.PublicKey}, func(e *audit.Entry) error {
		list = append(list, e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	names, err := audit.Files(f.audit)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.File(n, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// TestRefusals has each way in which evidence is not accepted.
func TestRefusals(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	for name, c := range map[string]struct {
		options func(*Options)
		request func(*Request)
		want    string
	}{
		"simulated":        {func(o *Options) { o.Baseline.AllowSimulated = false }, nil, "TRUST_ANCHOR_UNKNOWN"},
		"zero baseline":    {func(o *Options) { o.Baseline = Baseline{} }, nil, "TRUST_ANCHOR_UNKNOWN"},
		"runtime data":     {nil, func(r *Request) { r.Runtime.Bytes = []byte(`{"x":1}`) }, "RUNTIME_DATA_MISMATCH"},
		"init-time data":   {nil, func(r *Request) { r.InitTime = &Data{Bytes: []byte("x")} }, "HOST_DATA_MISMATCH"},
		"changed report":   {nil, func(r *Request) { r.Report[0x90] ^= 1 }, "SIGNATURE_INVALID"},
		"short report":     {nil, func(r *Request) { r.Report = r.Report[:100] }, "REPORT_MALFORMED"},
		"no certificates":  {nil, func(r *Request) { r.Certificates = nil }, "CERTIFICATE_MISSING"},
		"as a quote":       {nil, func(r *Request) { r.Kind = TdxVM }, "MALFORMED"},
		"as an enclave":    {nil, func(r *Request) { r.Kind = OpenEnclave }, "MALFORMED"},
		"as a VM":          {nil, func(r *Request) { r.Kind = AzureGuest }, "MALFORMED"},
		"runtime no JSON":  {nil, func(r *Request) { *r = *w.evidence(t, "text") }, "are no object"},
		"unknown kind":     {nil, func(r *Request) { r.Kind = "Tpm" }, "unknown"},
		"no report":        {nil, func(r *Request) { r.Report = nil }, "no report"},
		"long nonce":       {nil, func(r *Request) { r.Nonce = strings.Repeat("n", 200) }, "nonce"},
		"many endorsement": {nil, func(r *Request) { r.Endorsements = make([][]byte, 9) }, "endorsements"},
		"draft, syntax":    {nil, func(r *Request) { r.Draft = []byte("version=1.0") }, "1:12"},
		"draft denies":     {nil, func(r *Request) { r.Draft = []byte("version=1.0; authorizationrules{ => deny(); };") }, "1:34 denies"},
		"draft, reserved": {nil, func(r *Request) {
			r.Draft = []byte(`version=1.0; authorizationrules{ => permit(); }; issuancerules{ => issue(type="iss", value="x"); };`)
		}, `claim "iss"`},
		"draft, another value": {nil, func(r *Request) {
			r.Draft = []byte(`version=1.0; authorizationrules{ => permit(); }; issuancerules{ => issue(type="x-ms-sevsnpvm-vmpl", value=3); };`)
		}, `claim "x-ms-sevsnpvm-vmpl"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newService(t, c.options)
			r := w.evidence(t, runtimeJSON)
			if c.request != nil {
				c.request(r)
			}
			a, err := f.Attest(t.Context(), DefaultTenant, r)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%+v, %v; want %q", a, err, c.want)
			}
			var refused *RefusedError
			entries := holds(t, f)
			if errors.As(err, &refused) != slices.ContainsFunc(entries, func(e *audit.Entry) bool { return e.Kind == "attestation.refused" }) {
				t.Errorf("error %T, and the audit has %d entries", err, len(entries))
			}
			for _, e := range entries {
				if bytes.Contains(e.Event, []byte("builder")) {
					t.Error("the audit holds runtime data")
				}
			}
		})
	}
}

// TestPolicies has a tenant say what is right, and another not see it.
func TestPolicies(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	f := newService(t, nil)
	policy := `version=1.2;
configurationrules{ => issueproperty(type="report_validity_in_minutes", value=10); };
authorizationrules{ [type=="x-ms-sevsnpvm-hostdata", value=="` + hex.EncodeToString(w.hostData[:]) + `"] => permit(); };
issuancerules{ c:[type=="x-ms-runtime"] => issue(type="role", value=JsonToClaimValue(JmesPath(c.value, "role")));
  c:[type=="x-ms-sevsnpvm-vmpl"] => issue(claim=c); };`
	ch, err := f.SetPolicy(t.Context(), "contoso", SevSnpVM, unsignedToken(policy), "test")
	if err != nil || ch.Result != "Updated" {
		t.Fatalf("%+v, %v", ch, err)
	}
	_, text, hash, err := f.Policy(t.Context(), "contoso", SevSnpVM)
	if err != nil || text != policy {
		t.Fatalf("%q, %v", text, err)
	}
	a, err := f.Attest(t.Context(), "contoso", w.evidence(t, runtimeJSON))
	if err != nil {
		t.Fatal(err)
	}
	claims := f.claims(t, a.Token, "https://attest.example/tenants/contoso/simulated", "", token.RS256)
	if claims["role"] != "builder" || claims["x-ms-policy-hash"] != hash || claims["exp"].(float64)-claims["iat"].(float64) != 600 {
		t.Errorf("%v", claims)
	}
	if _, text, _, err := f.Policy(t.Context(), DefaultTenant, SevSnpVM); err != nil || text == policy {
		t.Errorf("another tenant has %q, %v", text, err)
	}
	strict := strings.Replace(policy, hex.EncodeToString(w.hostData[:]), "00", 1)
	if _, err := f.SetPolicy(t.Context(), "contoso", SevSnpVM, unsignedToken(strict), "test"); err != nil {
		t.Fatal(err)
	}
	_, err = f.Attest(t.Context(), "contoso", w.evidence(t, runtimeJSON))
	var refused *RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), `claim "x-ms-sevsnpvm-hostdata" has value`) {
		t.Errorf("%v", err)
	}
	for name, bad := range map[string]string{
		"syntax": unsignedToken("version=1.0; x"), "no token": "x", "no policy": part(`{"alg":"none"}`) + "." + part(`{}`) + ".",
		"signature on none": unsignedToken(policy) + "x", "HS256": part(`{"alg":"HS256"}`) + "." + part(`{}`) + ".x",
		"no certificate": part(`{"alg":"RS256"}`) + "." + part(`{}`) + ".x",
	} {
		if _, err := f.SetPolicy(t.Context(), "contoso", SevSnpVM, bad, "test"); err == nil {
			t.Errorf("%s: it was set", name)
		}
	}
	if ch, err := f.ResetPolicy(t.Context(), "contoso", SevSnpVM, `eyJhbGciOiJub25lIn0..`, "test"); err != nil || ch.Result != "Removed" {
		t.Errorf("%+v, %v", ch, err)
	}
	if _, err := f.Attest(t.Context(), "contoso", w.evidence(t, runtimeJSON)); err != nil {
		t.Error(err)
	}
	for _, tenant := range []string{"", "A", "a/b", "..", "-a", strings.Repeat("a", 64)} {
		if _, err := f.Attest(t.Context(), tenant, w.evidence(t, runtimeJSON)); err == nil {
			t.Errorf("tenant %q is taken", tenant)
		}
	}
}

func part(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// TestNonces has nonces used once, by their tenant, in their time, also by another instance and after a restart.
func TestNonces(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	clock := time.Now()
	f := newService(t, func(o *Options) {
		o.RequireNonce = true
		o.Now = func() time.Time { return clock }
	})
	other, err := New(t.Context(), f.opts)
	if err != nil {
		t.Fatal(err)
	}
	attest := func(s *Service, tenant, nonce string) error {
		r := w.evidence(t, `{"nonce":"`+nonce+`"}`)
		r.Nonce = nonce
		_, err := s.Attest(t.Context(), tenant, r)
		return err
	}
	give := func(tenant string) string {
		n, _, err := f.Challenge(tenant)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	n := give(DefaultTenant)
	if err := attest(other, DefaultTenant, n); err != nil {
		t.Errorf("at another instance: %v", err)
	}
	late := give(DefaultTenant)
	for name, c := range map[string]struct{ tenant, nonce, want string }{
		"twice":          {DefaultTenant, n, "used before"},
		"other tenant's": {"contoso", give(DefaultTenant), "none that this service gave"},
		"none":           {DefaultTenant, "", "none that this service gave"},
		"own":            {DefaultTenant, "abcdef", "none that this service gave"},
		"changed":        {DefaultTenant, late[:20] + "____" + late[24:], "none that this service gave"},
	} {
		if err := attest(f.Service, c.tenant, c.nonce); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, r := range map[string]*Request{
		"elsewhere": w.evidence(t, `{"x":{"nonce":"`+late+`"}}`), "another": w.evidence(t, `{"nonce":"x"}`), "no JSON": w.evidence(t, "x"), "no data": w.evidence(t, "{}"),
	} {
		if r.Nonce = late; name == "no data" {
			r.Runtime = nil
		}
		if _, err := f.Attest(t.Context(), DefaultTenant, r); err == nil || !strings.Contains(err.Error(), "do not have the nonce") {
			t.Errorf("nonce %s: %v", name, err)
		}
	}
	if err := attest(f.Service, DefaultTenant, late); err != nil {
		t.Errorf("a nonce that others tried to use: %v", err)
	}
	late = give(DefaultTenant)
	clock = clock.Add(NonceLife + 2*time.Second)
	if err := attest(f.Service, DefaultTenant, late); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("late: %v", err)
	}
	if err := f.sweepPrefix(t.Context(), "used/"); err != nil {
		t.Fatal(err)
	}
	if err := attest(f.Service, DefaultTenant, n); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("after it was forgotten: %v", err)
	}
	if err := attest(f.Service, DefaultTenant, give(DefaultTenant)); err != nil {
		t.Error(err)
	}
}

func TestReplays(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	f := newService(t, func(o *Options) { o.RefuseReplays = true })
	r := w.evidence(t, runtimeJSON)
	if _, err := f.Attest(t.Context(), DefaultTenant, r); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Attest(t.Context(), DefaultTenant, r); err == nil || !strings.Contains(err.Error(), "accepted before") {
		t.Errorf("a replay: %v", err)
	}
	if _, err := f.Attest(t.Context(), "contoso", r); err != nil {
		t.Errorf("at another tenant: %v", err)
	}
}

// TestDraft tries a policy: the token is unsigned, and nothing is used up.
func TestDraft(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	f := newService(t, func(o *Options) { o.RequireNonce = true })
	r := w.evidence(t, runtimeJSON)
	r.Draft = []byte(`version=1.0; authorizationrules{ => permit(); }; issuancerules{ => issue(type="a", value=1); };`)
	a, err := f.Attest(t.Context(), DefaultTenant, r)
	if err != nil || !strings.HasSuffix(a.Token, ".") || body(t, a.Token)["a"] != 1.0 {
		t.Errorf("%+v, %v", a, err)
	}
	keys, err := f.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := token.Verify(a.Token, token.Expect{
		Keys: keys, Algorithms: []token.Algorithm{token.RS256}, Issuer: "https://attest.example/simulated", Now: time.Now(),
	}); err == nil {
		t.Error("a draft's token is taken")
	}
}

// TestNothingUnrecorded closes the audit log: then nothing is signed.
func TestNothingUnrecorded(t *testing.T) {
	t.Parallel()
	f := newService(t, nil)
	if err := f.log.Close(); err != nil {
		t.Fatal(err)
	}
	if a, err := f.Attest(t.Context(), DefaultTenant, theWorld(t).evidence(t, runtimeJSON)); err == nil {
		t.Errorf("%+v was given though nobody could record it", a)
	}
	if _, err := f.SetPolicy(t.Context(), DefaultTenant, SevSnpVM, unsignedToken(defaultPolicies[SevSnpVM]), "x"); err == nil {
		t.Error("a policy was set though nobody could record it")
	}
}

// TestPublishedClaims compares the claims of the published SNP example, whose report is of a version that no machine makes
// any more, with those of its token.
func TestPublishedClaims(t *testing.T) {
	t.Parallel()
	var sample struct {
		Parameters struct {
			Request struct{ Report string }
		}
		Responses map[string]struct{ Body struct{ Token string } }
	}
	b, err := os.ReadFile(testcap.Vectors(t, "maa/rest-2022-08-01/AttestSevSnpVm.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err = json.Unmarshal(b, &sample); err != nil {
		t.Fatal(err)
	}
	outer, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(sample.Parameters.Request.Report, "="))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(decode(t, outer)["SnpReport"].(string), "="))
	if err != nil {
		t.Fatal(err)
	}
	r, err := snp.ParseReport(raw)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]any{}
	snpClaims(got, r, nil)
	want := map[string]any{}
	for k, v := range body(t, sample.Responses["200"].Body.Token) {
		if strings.HasPrefix(k, "x-ms-sevsnpvm-") {
			if n, ok := v.(float64); ok {
				v = int64(n)
			}
			want[k] = v
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(want) < 15 {
		t.Errorf("(-published +ours)\n%s", diff)
	}
}

// TestTDXClaims compares names and types with those of the published token.
func TestTDXClaims(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(testcap.Vectors(t, "maa/docs/token-tdx-eat.txt"))
	if err != nil {
		t.Fatal(err)
	}
	q, err := os.ReadFile(testcap.Vectors(t, "tdx/t1-v4-b0c06f/tdx_quote.bin"))
	if err != nil {
		t.Fatal(err)
	}
	quote, err := dcap.ParseQuote(q)
	if err != nil {
		t.Fatal(err)
	}
	ours := map[string]any{}
	tdxClaims(ours, quote.TD, intel.TCB{Status: "UpToDate"})
	again, err := json.Marshal(ours)
	if err != nil {
		t.Fatal(err)
	}
	got := decode(t, again)
	service := []string{"exp", "iat", "iss", "jti", "nbf", "x-ms-attestation-type", "x-ms-compliance-status", "x-ms-policy-hash", "x-ms-runtime", "x-ms-ver"}
	for name, v := range decode(t, b) {
		if slices.Contains(service, name) {
			continue
		}
		w, ok := got[name]
		if !ok || typeOf(w) != typeOf(v) {
			t.Errorf("%s: published %v, ours %v", name, v, w)
			continue
		}
		if s, ok := v.(string); ok && strings.HasPrefix(name, "tdx_") && len(s) != len(w.(string)) {
			t.Errorf("%s: published %q, ours %q", name, s, w)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("ours alone: %v", got)
	}
}

func typeOf(v any) string {
	switch v.(type) {
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "Boolean"
	}
	return "other"
}

func TestOptions(t *testing.T) {
	t.Parallel()
	f := newService(t, nil)
	for name, change := range map[string]func(*Options){
		"issuer": func(o *Options) { o.Issuer = "" }, "slash": func(o *Options) { o.Issuer += "/" },
		"store": func(o *Options) { o.Store = nil }, "audit": func(o *Options) { o.Audit = nil },
	} {
		o := f.opts
		change(&o)
		if _, err := New(context.Background(), o); err == nil {
			t.Errorf("%s: it started", name)
		}
	}
}

// TestKeysExpire has many instances come and go. The key set has all whose tokens may be valid, however many there were, and
// those that expired are removed.
func TestKeysExpire(t *testing.T) {
	t.Parallel()
	clock := time.Now()
	f := newService(t, func(o *Options) { o.Now = func() time.Time { return clock } })
	const many = token.MaxKeys + 50
	for i := range many {
		k := token.PublicKey{ID: fmt.Sprintf("%04d", i), Expires: clock.Add(time.Hour)}
		if err := f.publish(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	if keys, err := f.Keys(t.Context()); err != nil || len(keys) != many+2 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	clock = clock.Add(2 * time.Hour)
	if err := f.sweepKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := 0
	err := f.store.View(t.Context(), func(r store.Reader) error {
		list, err := r.List(keyPrefix, "", store.MaxList)
		left = len(list)
		return err
	})
	if err != nil || left != 2 {
		t.Errorf("%d keys are left, %v", left, err)
	}
}
