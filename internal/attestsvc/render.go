// SPDX-License-Identifier: Apache-2.0

package attestsvc

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"time"

	"cofferdam.dev/internal/maapolicy"
	"cofferdam.dev/internal/strictjson"
	"cofferdam.dev/internal/token"
)

// Form is the form of a token. The zero value is FormMAA.
type Form string

// The forms, all over the same appraisal.
const (
	// FormMAA is Azure Attestation's, signed with RS256.
	FormMAA Form = "maa"
	// FormMAA256 is the same, signed with ES256.
	FormMAA256 Form = "maa-es256"
	// FormEAR is an EAT attestation result (draft-ietf-rats-ear-04), signed with ES256.
	FormEAR Form = "ear"
	// FormKBS is FormEAR with the claims beside the result instead of within it, so that release policies can name them, as
	// the key broker hands it out; signed with ES256.
	FormKBS Form = "kbs"
	// FormOIDC is for federations of workload identities: subject and audience as OpenID Connect has them, with ES256.
	FormOIDC Form = "oidc"
)

// ParseForm returns the form with this name; none is FormMAA.
func ParseForm(name string) (Form, error) {
	switch f := Form(name); f {
	case "":
		return FormMAA, nil
	case FormMAA, FormMAA256, FormEAR, FormKBS, FormOIDC:
		return f, nil
	}
	return "", badRequest("token form %q is unknown; there are %q", name, []Form{FormMAA, FormMAA256, FormEAR, FormKBS, FormOIDC})
}

func (f Form) algorithm() token.Algorithm {
	if f == FormMAA || f == "" {
		return token.RS256
	}
	return token.ES256
}

// reserved are claims that a policy can not issue, because others rely on the service for them.
var reserved = map[string]bool{
	"iss": true, "iat": true, "nbf": true, "exp": true, "jti": true, "aud": true, "sub": true, "nonce": true, "eat_nonce": true,
	"cnf": true, claimFresh: true, "submods": true, "ear.verifier-id": true, "ear.status": true, claimKey: true,
}

// render returns the claims of the token.
func (s *Service) render(tenant string, r *Request, a *appraisal, out *maapolicy.Outcome, now, expires time.Time, jti string) (map[string]any, error) {
	claims := map[string]any{}
	for k, v := range a.claims {
		claims[k] = v
	}
	for k, v := range out.Object() {
		old, taken := claims[k]
		if reserved[k] || taken && !same(old, v) {
			return nil, &PolicyError{fmt.Errorf("the policy issues the claim %q, which is the service's", k)}
		}
		claims[k] = v
	}
	base := map[string]any{
		"iss": s.Issuer(tenant, a.simulated), "iat": now.Unix(), "nbf": now.Unix(), "exp": expires.Unix(), "jti": jti,
	}
	if r.Nonce != "" {
		base["nonce"] = r.Nonce
	}
	if r.Audience != "" {
		base["aud"] = r.Audience
	}
	switch r.Form {
	case FormEAR:
		return s.ear(base, claims, r, a, out), nil
	case FormKBS:
		all := s.ear(base, claims, r, a, out)
		maps.Copy(claims, all) // what the result says comes first
		return claims, nil
	case FormOIDC:
		if r.Audience == "" {
			return nil, badRequest("a token for a federation needs an audience")
		}
		base["sub"] = subject(tenant, r.Kind, a)
		if r.Nonce != "" {
			base["eat_nonce"] = r.Nonce
		}
		base["hwmodel"] = r.Kind.hardware(a.simulated)
		base["dbgstat"] = debugStatus(claims)
	case FormMAA, FormMAA256:
	}
	for k, v := range base {
		claims[k] = v
	}
	return claims, nil
}

// same compares a claim of the service with one of the policy.
func same(a, b any) bool {
	if text, ok := rawJSON(a); ok {
		return text == b
	}
	return reflect.DeepEqual(a, b)
}

// subject names what was attested: its kind, its launch measurement and its host data.
func subject(tenant string, k Kind, a *appraisal) string {
	sum := sha256.New()
	for _, part := range [][]byte{[]byte(k), a.measurement, a.hostData} {
		_, _ = fmt.Fprintf(sum, "%d:%s", len(part), part) // a hash never fails
	}
	return fmt.Sprintf("%s:%s:%s", tenant, k.attestationType(), base64.RawURLEncoding.EncodeToString(sum.Sum(nil)))
}

func (k Kind) hardware(simulated bool) string {
	if simulated {
		return "SIMULATED"
	}
	switch k {
	case SevSnpVM:
		return "AMD_SEV_SNP"
	case SgxEnclave, OpenEnclave:
		return "INTEL_SGX"
	case TdxVM:
		return "INTEL_TDX"
	case AzureGuest:
		return "AZURE_CVM"
	}
	return ""
}

// debugStatus is that of EAT; a guest that can be debugged is one whose claims say so, or those of the machine beneath it.
func debugStatus(claims map[string]any) string {
	if beneath, ok := claims["x-ms-isolation-tee"].(map[string]any); ok && debugStatus(beneath) == "enabled" {
		return "enabled"
	}
	for _, name := range []string{"x-ms-sevsnpvm-is-debuggable", "x-ms-sgx-is-debuggable", "tdx_td_attributes_debug"} {
		if v, ok := claims[name].(bool); ok && v {
			return "enabled"
		}
	}
	return "disabled-since-boot"
}

// Tiers of AR4SI (draft-ietf-rats-ar4si): values of a trustworthiness vector, and status of a submodule.
const (
	tierNone            = 0
	tierAffirming       = 2
	tierWarning         = 32
	tierContraindicated = 96
)

// earProfile names the profile of our results.
const earProfile = "tag:cofferdam.dev,2026:ear/v1"

// ear returns an attestation result. Only what was accepted gets here; what the vector affirms is what was established:
// genuine hardware, and, where the operator or the publisher vouches for the measurement, the executables.
func (s *Service) ear(base, claims map[string]any, r *Request, a *appraisal, out *maapolicy.Outcome) map[string]any {
	vector := map[string]int{
		"instance-identity": tierAffirming, "hardware": tierAffirming, "configuration": tierAffirming, "executables": 33,
	}
	if a.status.Status != "" && a.status.Status != "UpToDate" {
		vector["hardware"] = tierWarning
	}
	if a.claims[claimCompliance] != nil {
		vector["executables"] = tierAffirming
	}
	if debugStatus(claims) == "enabled" {
		vector["configuration"] = tierContraindicated
	}
	if a.simulated {
		vector["hardware"] = tierContraindicated + 1 // 97: hardware that is not what it must be
	}
	worst := tierNone
	for _, v := range vector {
		worst = max(worst, v/tierWarning*tierWarning, min(v, tierAffirming))
	}
	base["eat_profile"] = earProfile
	base["ear.verifier-id"] = map[string]string{"developer": "https://cofferdam.dev", "build": "attestation"}
	if r.Nonce != "" {
		base["eat_nonce"] = r.Nonce
	}
	submod := map[string]any{
		"ear.status": worst, "ear.trustworthiness-vector": vector, "ear.appraisal-policy-id": a.claims[claimPolicyHash],
		"ear.cofferdam.rule": out.Reason(),
	}
	if r.Form == FormEAR {
		submod["ear.cofferdam.claims"] = claims
	}
	base["submods"] = map[string]any{"cpu0": submod}
	if a.simulated {
		base[claimSimulated] = true
	}
	if r.Runtime != nil && r.Runtime.JSON {
		if o, err := strictjson.Parse(r.Runtime.Bytes); err == nil && o.Has(claimKey) {
			base[claimKey] = o[claimKey] // where relying parties of confidential containers look for the guest's key
		}
	}
	return base
}

// dataClaim adds data of the client that are bound to the evidence and are JSON.
func dataClaim(claims map[string]any, name string, d *Data) error {
	if d == nil || len(d.Bytes) == 0 || !d.JSON {
		return nil
	}
	// Strictly: a token must not have a key twice, which its readers would read differently.
	if _, err := strictjson.Parse(d.Bytes); err != nil {
		return badRequest("the data for %s are said to be JSON and are no object: %v", name, err)
	}
	claims[name] = json.RawMessage(d.Bytes)
	return nil
}
