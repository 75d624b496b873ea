// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/testcap"
)

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sample is one example of the published API descriptions.
type sample struct {
	Parameters map[string]json.RawMessage
	Responses  map[string]struct{ Body json.RawMessage }
}

func readSample(t testing.TB, name string) sample {
	t.Helper()
	var s sample
	if err := json.Unmarshal(read(t, testcap.Vectors(t, "maa/"+name)), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// text returns a string parameter of a sample, or the token of its answer.
func (s sample) text(t testing.TB, name string) string {
	t.Helper()
	raw := s.Parameters[name]
	var v string
	if name == "" {
		var body struct{ Token string }
		if err := json.Unmarshal(s.Responses["200"].Body, &body); err != nil {
			t.Fatal(err)
		}
		return body.Token
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestPublishedEvidence sends the published requests as they are. Their evidence is years old: what is asked is that it
// is refused for that, and for nothing that is right in it.
func TestPublishedEvidence(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *attestsvc.Options, _ *Options) {
		o.Now = func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
	})
	for name, c := range map[string]struct {
		file, path string
		has, lacks []string
	}{
		"SNP": {"rest-2022-08-01/AttestSevSnpVm.json", "SevSnpVm?api-version=2022-08-01", []string{"REPORT_"},
			[]string{"RUNTIME_DATA_MISMATCH", "SIGNATURE_INVALID"}},
		"SGX": {"rest-2022-08-01/AttestSgxEnclave.json", "SgxEnclave?api-version=2022-08-01", []string{"COLLATERAL_MISSING"},
			[]string{"RUNTIME_DATA_MISMATCH", "SIGNATURE", "MALFORMED", "TRUST_ANCHOR"}},
		"SGX, standard base64": {"rest-2025-06-01/AttestSgxEnclave.json", "SgxEnclave?api-version=2025-06-01", []string{"COLLATERAL_MISSING"},
			[]string{"RUNTIME_DATA_MISMATCH", "SIGNATURE", "MALFORMED"}},
		"Open Enclave": {"rest-2022-08-01/AttestOpenEnclave.json", "OpenEnclave?api-version=2022-08-01", []string{"SIGNATURE_INVALID"},
			[]string{"RUNTIME_DATA_MISMATCH"}},
		"an SGX quote as TDX": {"rest-2025-06-01/AttestTdxVm.json", "TdxVm?api-version=2025-06-01", []string{"TEE"}, []string{"MALFORMED"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := readSample(t, c.file)
			body := s.Parameters["request"]
			if body == nil {
				body = s.Parameters["body"]
			}
			a := f.do(t, http.MethodPost, "/attest/"+c.path, "", string(body))
			e := a.failure(t)
			var codes []string
			for _, d := range e.Details {
				codes = append(codes, d.Code)
			}
			all := strings.Join(codes, " ")
			for _, w := range c.has {
				if !strings.Contains(all, w) {
					t.Errorf("codes are %q, without %q", all, w)
				}
			}
			for _, w := range c.lacks {
				if strings.Contains(all, w) {
					t.Errorf("codes are %q, with %q", all, w)
				}
			}
			t.Logf("%d %s", a.status, e.Message)
		})
	}
}

// TestPublishedPolicies sets the published policies.
func TestPublishedPolicies(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	doc := func(name string) string {
		return strings.TrimSpace(string(read(t, testcap.Vectors(t, "maa/docs/"+name))))
	}
	const path = "/policies/SgxEnclave?api-version=2022-08-01"
	for _, c := range []struct {
		name, token, result, code string
	}{
		{"placeholder", policyToken(doc("policy-sgx-custom-1.0.txt")), "", codePolicyParsing},
		{"default 1.1", policyToken(doc("policy-sgx-default-1.1.txt")), "Updated", ""},
		{"two rules", policyToken(doc("policy-sgx-multiple-1.0.txt")), "Updated", ""},
		{"unsigned", doc("policy-sgx-unsigned.jwt.txt"), "Updated", ""},
		{"alg RSA256", doc("policy-sgx-signed.jwt.txt"), "", codeParameter},
		{"set, the answer's policy", readSample(t, "rest-2022-08-01/Set_Policy.json").text(t, ""), "Updated", ""},
		{"set, the request is another answer", readSample(t, "rest-2022-08-01/Set_Policy.json").text(t, "newAttestationPolicy"), "", codeParameter},
	} {
		a := f.do(t, http.MethodPut, path, adminToken, c.token)
		if c.code != "" {
			if e := a.failure(t); e.Code != c.code || a.status != http.StatusBadRequest {
				t.Errorf("%s: %d %+v", c.name, a.status, e)
			}
			continue
		}
		if got := claims(t, a.token(t)); got["x-ms-policy-result"] != c.result {
			t.Errorf("%s: %v", c.name, got)
		}
		if got := claims(t, f.do(t, http.MethodGet, path, "", nil).token(t)); got["x-ms-policy"] != c.token {
			t.Errorf("%s: reading gives %v", c.name, got)
		}
	}
	reset := readSample(t, "rest-2022-08-01/Reset_Policy.json").text(t, "PolicyJws")
	if got := claims(t, f.do(t, http.MethodPost, "/policies/SgxEnclave:reset?api-version=2022-08-01", adminToken, reset).token(t)); got["x-ms-policy-result"] != "Removed" {
		t.Errorf("%v", got)
	}
}

// TestPublishedSigners adds the published certificates. Each is signed by a certificate that the tenant would have to have.
func TestPublishedSigners(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	for name, c := range map[string]struct{ path, body, want string }{
		"add": {"/certificates:add", readSample(t, "rest-2022-08-01/Add_PolicyCertificate.json").text(t, "policyCertificateToAdd"), "signs itself in"},
		"remove": {"/certificates:remove", readSample(t, "rest-2022-08-01/Remove_PolicyCertificate.json").text(t, "policyCertificateToRemove"),
			"signs itself in"},
		"add, older": {"/certificates:add", strings.TrimSpace(string(read(t, testcap.Vectors(t, "maa/docs/policy-signer-certificate.jwt.txt")))), "signs itself in"},
	} {
		e := f.do(t, http.MethodPost, c.path+"?api-version=2022-08-01", adminToken, c.body).failure(t)
		if e.Code != codeOperation || !strings.Contains(e.Message, c.want) {
			t.Errorf("%s: %+v", name, e)
		}
	}
}
