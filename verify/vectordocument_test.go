// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/verify/check"
	"cofferdam.dev/verify/uvm"
)

// decoded reads a vector in base64.
func decoded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(read(t, name))))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSharedPolicy judges two machines of different lines that run under one policy, which lies in another vector.
func TestSharedPolicy(t *testing.T) {
	t.Parallel()
	text := decoded(t, "snp/s1b-security-context/security-policy-base64")
	for _, name := range []string{"s6-milan", "s6-genoa", "s1"} {
		doc := byName(name).document(t)
		o := pinned(t, doc)
		doc.Policy = text
		v := Appraise(context.Background(), doc, o)
		if name == "s1" {
			expect(t, v, Refused, check.CodePolicyText)
			continue
		}
		expect(t, v, Accepted)
	}
}

// TestHalfReportData holds the rule "the first half is the hash, the rest is zero" against a report that uses all bytes.
func TestHalfReportData(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]check.Code{"s1": nil, "s10-milan": {check.CodeReportData}} {
		doc := byName(name).document(t)
		o := pinned(t, doc)
		data := make([]byte, 64)
		copy(data, o.ReportData[0][:32])
		o.ReportData = [][]byte{data}
		outcome := Refused
		if want == nil {
			outcome = Accepted
		}
		expect(t, Appraise(context.Background(), doc, o), outcome, want...)
	}
}

// TestForeignEndorsement takes the endorsement of a later utility VM, in the newer form, for an earlier one.
func TestForeignEndorsement(t *testing.T) {
	t.Parallel()
	doc := byName("s1").document(t)
	o := pinned(t, doc)
	o.Measurements, o.UVM = nil, uvm.AzureContainerPlat(22)
	doc.Endorsements = [][]byte{read(t, "uvm/u2-esrp_transparent_hash_envelop.cose")}
	expect(t, Appraise(context.Background(), doc, o), Refused, check.CodeMeasurement)
}

// TestCertificatesOfAContainer takes what a host mounts into its containers. No report belongs to it: the chain holds,
// and the report of another chip is refused.
func TestCertificatesOfAContainer(t *testing.T) {
	t.Parallel()
	var host struct{ VCEKCert, CertificateChain, TCBM string }
	if err := json.Unmarshal(decoded(t, "snp/s1b-security-context/host-amd-cert-base64"), &host); err != nil {
		t.Fatal(err)
	}
	doc := byName("s1").document(t)
	o := pinned(t, doc)
	doc.Certificates = certificates(t, []byte(host.VCEKCert+host.CertificateChain))
	v := Appraise(context.Background(), doc, o)
	if len(v.Chain) != 3 || v.Domain != "amd" {
		t.Errorf("chain %v, domain %q", v.Chain, v.Domain)
	}
	expect(t, v, Refused, check.CodeChipIDMismatch, check.CodeSignatureInvalid)
}

// TestExtendedReport brings the certificates in the table of an extended report, with an entry that is no certificate.
func TestExtendedReport(t *testing.T) {
	t.Parallel()
	doc := byName("s6-milan").document(t)
	o := pinned(t, doc)
	table, err := snp.MarshalCertificateTable([]snp.CertificateEntry{
		{GUID: snp.GUIDVCEK, Data: doc.Certificates[0]}, {GUID: snp.GUID{1}, Data: []byte("something of the host's")},
		{GUID: snp.GUIDASK, Data: doc.Certificates[1]},
	})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := snp.ParseCertificateTable(append(table, make([]byte, 4096-len(table)%4096)...))
	if err != nil {
		t.Fatal(err)
	}
	doc.Certificates = nil
	for _, e := range entries {
		if e.GUID == snp.GUIDVCEK || e.GUID == snp.GUIDASK {
			doc.Certificates = append(doc.Certificates, e.Data)
		}
	}
	expect(t, Appraise(context.Background(), doc, o), Accepted)
	doc.Certificates = append(doc.Certificates, entries[1].Data)
	expect(t, Appraise(context.Background(), doc, o), Refused, check.CodeCertificateBad)
}

// TestUnusedParts refuses what nobody judges.
func TestUnusedParts(t *testing.T) {
	t.Parallel()
	doc := byName("s1").document(t)
	o := pinned(t, doc)
	doc.EventLog = []byte("log")
	expect(t, Appraise(context.Background(), doc, o), Refused, check.CodeEvidenceMalformed)
	doc.EventLog = nil
	td := tdxDocument(t)
	td.Endorsements = [][]byte{read(t, "uvm/u2-esrp_transparent_hash_envelop.cose")}
	expect(t, Appraise(context.Background(), td, quoteOptions(t, td)), Refused, check.CodeEvidenceMalformed)
	doc.Collateral = map[string]evidence.Item{"intel/root-crl": {Body: []byte("nobody asks for it")}}
	expect(t, Appraise(context.Background(), doc, o), Accepted)
}
