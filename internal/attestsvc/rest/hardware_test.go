// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/verify/uvm"
)

// TestContainerGroup sends what the release sidecar of a real container group on Azure sends: the report, the certificates
// that its host put into the guest, the endorsement of the utility VM, and the policy.
func TestContainerGroup(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *attestsvc.Options, _ *Options) {
		o.Baseline.SNP.MinimumTCB = map[snp.ProductLine]snp.TCBParts{snp.Milan: {Bootloader: 3, SNP: 8, Microcode: 0x73}} // that of 2023
		o.Baseline.Compliance = []attestsvc.Compliance{{Status: "azure-compliant-uvm", Kind: attestsvc.SevSnpVM, UVM: uvm.AzureContainerPlat(22)}}
	})
	load := func(name string) []byte { return read(t, testcap.Vectors(t, "snp/s1-aci-milan-v2/"+name)) }
	policy, err := base64.StdEncoding.DecodeString(string(load("uvm_security_policy.base64")))
	if err != nil {
		t.Fatal(err)
	}
	endorsements := asJSON(t, map[string][]string{"Uvm": {b64(load("body.uvm_reference_info.bin"))}})
	report := asJSON(t, map[string]string{
		"SnpReport": b64(load("snp_report.bin")), "VcekCertChain": b64(load("uvm_host_amd_certificate.pem")), "Endorsements": b64(endorsements),
	})
	a := f.do(t, http.MethodPost, "/attest/SevSnpVM?api-version=2020-10-01", "", map[string]any{
		"report": base64.URLEncoding.EncodeToString(report), "runtimeData": map[string]string{"data": "", "dataType": "JSON"}, "nonce": json.Number("7"),
		"initTimeData": map[string]string{"data": base64.StdEncoding.EncodeToString(policy), "dataType": "Binary"},
	})
	token := a.token(t)
	got := claims(t, token)
	for name, want := range map[string]any{
		"iss": issuer, "nonce": "7", "x-ms-compliance-status": "azure-compliant-uvm", "x-cofferdam-simulated": nil, "x-ms-attestation-type": "sevsnpvm",
		"x-ms-sevsnpvm-hostdata":      "cadd74f71ebb8fbf9782baab649612520f3c416bc5ce9ac768808ddc8d9b031c",
		"x-ms-sevsnpvm-microcode-svn": float64(0x73), "x-ms-sevsnpvm-is-debuggable": false, "x-ms-runtime": nil,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, not %v", name, got[name], want)
		}
	}
	if a := newFixture(t, nil).do(t, http.MethodPost, attestSNP, "", map[string]any{"report": b64(report)}); a.status != http.StatusBadRequest {
		t.Errorf("by today's floors: %d", a.status)
	}
}

// TestTrustDomain sends a real quote, at a time for which its collateral is known, and years later.
func TestTrustDomain(t *testing.T) {
	t.Parallel()
	now := time.Date(2025, 6, 21, 0, 0, 0, 0, time.UTC)
	f := newFixture(t, func(o *attestsvc.Options, _ *Options) {
		o.Now = func() time.Time { return now }
		o.Baseline.Collateral = domainCollateral(t)
	})
	quote := read(t, testcap.Vectors(t, "tdx/t1-v4-b0c06f/tdx_quote.bin"))
	body := map[string]string{"quote": base64.StdEncoding.EncodeToString(quote)}
	got := claims(t, f.do(t, http.MethodPost, "/attest/TdxVm?api-version=2025-06-01", "", body).token(t))
	if got["attester_tcb_status"] != "UpToDate" || got["x-ms-attestation-type"] != "tdxvm" || got["iss"] != issuer || got["tdx_td_attributes_debug"] != false {
		t.Errorf("%v", got)
	}
	now = time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)
	later := newFixture(t, func(o *attestsvc.Options, _ *Options) {
		o.Now = func() time.Time { return now }
		o.Baseline.Collateral = domainCollateral(t)
	})
	a := later.do(t, http.MethodPost, "/attest/TdxVm?api-version=2025-06-01", "", body)
	if e := a.failure(t); a.status != http.StatusServiceUnavailable || e.Inner == nil || e.Inner.Outcome != "undecided" || a.header.Get("Retry-After") == "" {
		t.Errorf("with old collateral: %d %s", a.status, a.body)
	}
}

// domainCollateral is what Intel published for the machine of the quote.
func domainCollateral(t *testing.T) collateral.Source {
	t.Helper()
	var p map[string]string
	if err := json.Unmarshal(read(t, testcap.Vectors(t, "tdx/t1-v4-b0c06f/collateral.json")), &p); err != nil {
		t.Fatal(err)
	}
	list := func(name string) collateral.Item {
		b, err := hex.DecodeString(p[name])
		if err != nil {
			t.Fatal(err)
		}
		return collateral.Item{Body: b}
	}
	signed := func(member, name string) collateral.Item {
		return collateral.Item{
			Body:        fmt.Appendf(nil, `{%q:%s,"signature":%q}`, member, p[name], p[name+"_signature"]),
			IssuerChain: []byte(p[name+"_issuer_chain"]),
		}
	}
	return collateral.Embedded{
		collateral.TCBInfo(collateral.TDX, [6]byte{0xb0, 0xc0, 0x6f}).Name(): signed("tcbInfo", "tcb_info"),
		collateral.QEIdentity(collateral.TDX).Name():                         signed("enclaveIdentity", "qe_identity"),
		collateral.PCKCRL(collateral.PlatformCA).Name():                      list("pck_crl"), collateral.RootCRL().Name(): list("root_ca_crl"),
	}
}
