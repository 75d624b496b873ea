// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/dcap"
	"cofferdam.dev/evidence/hcl"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/check"
)

var (
	vectorTime = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	quoteTime  = time.Date(2025, 6, 21, 0, 0, 0, 0, time.UTC)
)

func vector(t testing.TB, name string) []byte {
	t.Helper()
	return read(t, testcap.Vectors(t, name))
}

// s1 is Azure's container group with its endorsement.
func s1(t testing.TB) *evidence.Document {
	t.Helper()
	doc := &evidence.Document{
		Type: evidence.TypeSEVSNP, Report: vector(t, "snp/s1-aci-milan-v2/snp_report.bin"),
		Endorsements: [][]byte{vector(t, "snp/s1-aci-milan-v2/body.uvm_reference_info.bin")},
	}
	text := vector(t, "snp/s1-aci-milan-v2/uvm_host_amd_certificate.pem")
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		doc.Certificates = append(doc.Certificates, block.Bytes)
	}
	return doc
}

const s1Policy = `schema: cofferdam.dev/appraisal-policy/v1
evidence: [sev-snp]
domains: [amd]
hostData:
  policyHashes: [cadd74f71ebb8fbf9782baab649612520f3c416bc5ce9ac768808ddc8d9b031c]
snp:
  endorsements:
    issuers: ["did:x509:0:sha256:I__iuL25oXEVFdTP_aBLx_eT1RPHbCQ_ECBQfYZpt9s::eku:1.3.6.1.4.1.311.76.59.1.2"]
    feed: ContainerPlat-AMD-UVM
    minimumSVN: 22
  tcb:
    Milan: {reported: {bootloader: 3, snp: 8, microcode: 0x73}}
`

// quote makes a document of a quote and the file of its collateral.
func quote(t testing.TB, kind, file, parts, tee, ca string, fmspc [6]byte) *evidence.Document {
	t.Helper()
	var p map[string]string
	if err := json.Unmarshal(vector(t, parts), &p); err != nil {
		t.Fatal(err)
	}
	list := func(name string) evidence.Item {
		b, err := hex.DecodeString(p[name])
		if err != nil {
			t.Fatal(err)
		}
		return evidence.Item{Body: b, IssuerChain: []byte(p[name+"_issuer_chain"])}
	}
	signed := func(member, name string) evidence.Item {
		return evidence.Item{Body: fmt.Appendf(nil, `{"%s":%s,"signature":"%s"}`, member, p[name], p[name+"_signature"]),
			IssuerChain: []byte(p[name+"_issuer_chain"])}
	}
	return &evidence.Document{Type: kind, Report: vector(t, file), Collateral: map[string]evidence.Item{
		collateral.TCBInfo(tee, fmspc).Name(): signed("tcbInfo", "tcb_info"),
		collateral.QEIdentity(tee).Name():     signed("enclaveIdentity", "qe_identity"),
		collateral.PCKCRL(ca).Name():          list("pck_crl"),
		collateral.RootCRL().Name():           list("root_ca_crl"),
	}}
}

// quotePolicy pins what the quote says.
func quotePolicy(t testing.TB, doc *evidence.Document) string {
	t.Helper()
	q, err := dcap.ParseQuote(doc.Report)
	if err != nil {
		t.Fatal(err)
	}
	data := q.ReportData()
	head := fmt.Sprintf("schema: %s\nevidence: [%s]\ndomains: [intel]\nhostData: {allowNone: true}\nbinding: {reportData: [\"%x\"]}\nintel:\n  minimumEvaluationNumber: 17\n", Schema, doc.Type, data)
	if q.TD != nil {
		return head + fmt.Sprintf("tdx:\n  mrtd: [\"%x\"]\n  rtmr0: {any: true}\n  rtmr1: {any: true}\n  rtmr2: {any: true}\n  rtmr3: {any: true}\n"+
			"  requiredAttributes: 0x10000000\n  allowedXFAM: 0xe5aff\n", q.TD.MRTD)
	}
	return head + fmt.Sprintf("  statuses: [UpToDate, ConfigurationAndSWHardeningNeeded]\nsgx:\n  mrenclave: [\"%x\"]\n  allowedFlags: 0x4c0\n  allowedXFRM: 0xe02ff\n", q.Enclave.MREnclave)
}

func azureVector(t testing.TB) (*evidence.Document, string) {
	t.Helper()
	doc := &evidence.Document{Type: evidence.TypeAzureVTPM, Report: vector(t, "azure-vtpm/snp/a1-3/evidence-v1.json")}
	e, err := hcl.ParseEvidence(doc.Report)
	if err != nil {
		t.Fatal(err)
	}
	return doc, fmt.Sprintf("schema: %s\nevidence: [azure-vtpm]\ndomains: [amd]\nbinding: {reportData: [\"%x\"]}\nsnp:\n  tcb:\n    Milan: {reported: {}}\n"+
		"azure:\n  measurements: [\"%x\"]\n  pcrs:\n    4: [\"%x\"]\n    7: [\"%x\"]\n", Schema, "challenge", e.Report[32+0x90:32+0x90+48], e.Quote.PCRs[4], e.Quote.PCRs[7])
}

func judge(t testing.TB, text string, doc *evidence.Document, r Request) *verify.Verdict {
	t.Helper()
	a, err := New(t.Context(), parse(t, text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return a.Appraise(t.Context(), doc, r)
}

func expect(t testing.TB, v *verify.Verdict, outcome verify.Outcome, want ...check.Code) {
	t.Helper()
	var got []check.Code
	for _, c := range v.Failures() {
		got = append(got, c.Code)
	}
	if v.Outcome != outcome || !slices.Equal(got, want) {
		t.Errorf("verdict is %s with %v, want %s with %v", v.Outcome, got, outcome, want)
		for _, c := range v.Failures() {
			t.Logf("%s %s: expected %s, actual %.200s", c.Name, c.Code, c.Expected, c.Actual)
		}
	}
}

// TestVectors appraises real evidence of every type, and requires each part of the policy to matter.
func TestVectors(t *testing.T) {
	t.Parallel()
	doc := s1(t)
	data := [][]byte{doc.Report[0x50:0x90]}
	td := quote(t, evidence.TypeTDX, "tdx/t1-v4-b0c06f/tdx_quote.bin", "tdx/t1-v4-b0c06f/collateral.json", collateral.TDX, collateral.PlatformCA, [6]byte{0xb0, 0xc0, 0x6f})
	enclave := quote(t, evidence.TypeSGX, "sgx/g1-v3-00a067/sgx_quote.bin", "sgx/g1-v3-00a067/collateral.json", collateral.SGX, collateral.ProcessorCA, [6]byte{0, 0xa0, 0x67, 0x11})
	vm, vmPolicy := azureVector(t)
	for _, c := range []struct {
		name     string
		doc      *evidence.Document
		policy   string
		old, new string
		at       time.Time
		outcome  verify.Outcome
		want     []check.Code
	}{
		{"SNP", doc, s1Policy, "", "", vectorTime, verify.Accepted, nil},
		{"SNP, measurement listed", doc, s1Policy, s1Policy[strings.Index(s1Policy, "  endorsements"):strings.Index(s1Policy, "  tcb")],
			fmt.Sprintf("  measurements: [\"%x\"]\n", doc.Report[0x90:0xc0]), vectorTime, verify.Accepted, nil},
		{"SNP, no measurement", doc, s1Policy, s1Policy[strings.Index(s1Policy, "  endorsements"):strings.Index(s1Policy, "  tcb")], "", vectorTime,
			verify.Refused, []check.Code{check.CodeMeasurementNotSet}},
		{"SNP, SVN", doc, s1Policy, "SVN: 22", "SVN: 23", vectorTime, verify.Refused, []check.Code{check.CodeEndorsementSVN}},
		{"SNP, feed", doc, s1Policy, "ContainerPlat-AMD-UVM", "Other", vectorTime, verify.Refused, []check.Code{check.CodeEndorsementFeed}},
		{"SNP, floor", doc, s1Policy, "snp: 8", "snp: 9", vectorTime, verify.Refused, []check.Code{check.CodeTCBFloor, check.CodeTCBLaunchFloor}},
		{"SNP, line", doc, s1Policy, "Milan", "Genoa", vectorTime, verify.Refused, []check.Code{check.CodeTCBFloorMissing}},
		{"SNP, host data", doc, s1Policy, "cadd", "cade", vectorTime, verify.Refused, []check.Code{check.CodeHostData}},
		{"SNP, no host data", doc, s1Policy, s1Policy[strings.Index(s1Policy, "hostData"):strings.Index(s1Policy, "snp:\n")], "", vectorTime,
			verify.Refused, []check.Code{check.CodeHostDataNotSet}},
		{"SNP, other vendor", doc, s1Policy, "[amd]", "[intel]", vectorTime, verify.Refused, []check.Code{check.CodeTrustAnchorUnknown}},
		{"SNP, source too", doc, s1Policy, "hostData:", "binding: {source: workload}\nhostData:", vectorTime, verify.Refused,
			[]check.Code{check.CodeSource, check.CodeNonceNotSet, check.CodeReportData}},
		{"SNP, revocation", doc, s1Policy, "  tcb", "  requireRevocation: true\n  tcb", vectorTime, verify.Undecided, []check.Code{check.CodeCollateralMissing}},
		{"SNP, denied chip", doc, s1Policy, "  tcb", fmt.Sprintf("  chips: {deny: [\"%x\"]}\n  tcb", doc.Report[0x1a0:0x1e0]), vectorTime, verify.Refused, []check.Code{check.CodeChipDenied}},
		{"SNP, rules", doc, s1Policy, "snp:\n", "rules: {modules: [\"package appraisal\\ndeny contains {\\\"code\\\": \\\"VERSION\\\", \\\"message\\\": \\\"version 2\\\"} if input.report.version < 3\"]}\nsnp:\n",
			vectorTime, verify.Refused, []check.Code{"RULE_VERSION"}},
		{"TDX", td, quotePolicy(t, td), "", "", quoteTime, verify.Accepted, nil},
		{"TDX, evaluation", td, quotePolicy(t, td), "Number: 17", "Number: 18", quoteTime, verify.Refused, []check.Code{check.CodeEvaluationNumber}},
		{"TDX, register", td, quotePolicy(t, td), "rtmr2: {any: true}", "rtmr2: {values: [\"" + strings.Repeat("00", 48) + "\"]}", quoteTime, verify.Refused, []check.Code{check.CodeRegister}},
		{"TDX, model", td, quotePolicy(t, td), "intel:\n", "intel:\n  models: {deny: [b0c06f000000]}\n", quoteTime, verify.Refused, []check.Code{check.CodePlatformModelNotAllowed}},
		{"TDX, age", td, quotePolicy(t, td), "intel:\n", "intel:\n  maxCollateralAge: 24h\n", quoteTime, verify.Undecided, []check.Code{check.CodeCollateralTooOld}},
		{"SGX", enclave, quotePolicy(t, enclave), "", "", quoteTime, verify.Accepted, nil},
		{"SGX, status", enclave, quotePolicy(t, enclave), "  statuses: [UpToDate, ConfigurationAndSWHardeningNeeded]\n", "", quoteTime, verify.Refused, []check.Code{check.CodeTCBStatus}},
		{"SGX, no advisory", enclave, quotePolicy(t, enclave), "intel:\n", "intel:\n  advisories: {allow: []}\n", quoteTime, verify.Refused, []check.Code{check.CodeAdvisory}},
		{"Azure", vm, vmPolicy, "", "", vectorTime, verify.Accepted, nil},
		{"Azure, register", vm, vmPolicy, "    7: [\"", "    7: [\"" + strings.Repeat("00", 32) + "\"]\n    0: [\"", vectorTime, verify.Refused, []check.Code{check.CodePCR, check.CodePCR}},
		{"other type", vm, s1Policy, "", "", vectorTime, verify.Refused, []check.Code{check.CodeEvidenceType}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(c.policy, c.old, c.new, 1)
			if text == c.policy && c.old+c.new != "" {
				t.Fatalf("%q is not in the policy", c.old)
			}
			r := Request{Now: c.at}
			if c.doc == doc {
				r.ReportData = data
			}
			v := judge(t, text, c.doc, r)
			expect(t, v, c.outcome, c.want...)
			if !slices.ContainsFunc(v.Checks, func(k check.Check) bool { return k.Name == check.EvidenceType }) {
				t.Error("the type was not checked")
			}
		})
	}
}

// TestResolve puts files in the place of their names.
func TestResolve(t *testing.T) {
	t.Parallel()
	doc := s1(t)
	text := `schema: cofferdam.dev/appraisal-policy/v1
evidence: [sev-snp]
domains: [amd]
hostData: {policyFiles: [policy.rego]}
rules: {files: [rules.rego]}
snp:
  measurementFiles: [m.txt]
  tcb: {Milan: {reported: {}}}
`
	files := map[string]string{
		"policy.rego": string(decode64(t, vector(t, "snp/s1-aci-milan-v2/uvm_security_policy.base64"))),
		"rules.rego":  "package appraisal\ndeny contains \"simulated\" if input.simulated",
		"m.txt":       fmt.Sprintf("# the utility VM\n%x  # 2023\n", doc.Report[0x90:0xc0]),
	}
	p := parse(t, text)
	if _, err := New(t.Context(), p, nil); err == nil || !strings.Contains(err.Error(), "were not read") {
		t.Errorf("a policy whose files were not read is used: %v", err)
	}
	err := p.Resolve(func(name string) ([]byte, error) {
		if s, ok := files[name]; ok {
			return []byte(s), nil
		}
		return nil, os.ErrNotExist
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(t.Context(), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, a.Appraise(t.Context(), doc, Request{Now: vectorTime, ReportData: [][]byte{doc.Report[0x50:0x90]}}), verify.Accepted)

	p = parse(t, text)
	err = p.Resolve(func(string) ([]byte, error) { return nil, os.ErrNotExist })
	if err == nil || strings.Count(err.Error(), "file does not exist") != 3 {
		t.Errorf("missing files: %v", err)
	}
}

// TestMeasurementFiles reads reference values in every form.
func TestMeasurementFiles(t *testing.T) {
	t.Parallel()
	digest := strings.Repeat("ab", 48)
	answer := func(tee string) string {
		return fmt.Sprintf(`{"schema":"cofferdam.dev/guest-measurement/v1","image":"x","tee":%q,"kind":"k","digest":%q}`, tee, digest)
	}
	simulated := strings.NewReplacer("domains: [amd]", "domains: [amd, simulated]\nallowSimulated: true\nsimulatedRoots: ["+strings.Repeat("00", 32)+"]")
	for _, c := range []struct {
		name, file string
		simulated  bool
		want       string
	}{
		{"answer", answer("snp"), false, ""},
		{"lines", "# one\n" + digest + " # it\n\n" + digest + "\n", false, ""},
		{"simulated", answer("simulated"), true, ""},
		{"simulated, not allowed", answer("simulated"), false, `it is a measurement for "simulated", not for "snp"`},
		{"other TEE", answer("tdx"), true, `for "tdx"`},
		{"other schema", strings.Replace(answer("snp"), "/v1", "/v2", 1), false, "schema"},
		{"short", digest[2:], false, "not 96 hexadecimal digits"},
		{"comments", "# nothing\n", false, "no measurement"},
		{"empty", "", false, "it is empty"},
		{"long", strings.Repeat("#", MaxFileSize+1), false, "more than 1048576"},
		{"broken", "{", false, "unexpected end"},
	} {
		text := strings.Replace(small, "  tcb:", "  measurementFiles: [f]\n  tcb:", 1)
		if c.simulated {
			text = simulated.Replace(text)
		}
		p := parse(t, text)
		err := p.Resolve(func(string) ([]byte, error) { return []byte(c.file), nil })
		if c.want == "" && (err != nil || len(p.SNP.Measurements) == 0 || p.SNP.Measurements[0][0] != 0xab) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// TestSigstruct trusts the enclave of a SIGSTRUCT, and none whose signature does not hold.
func TestSigstruct(t *testing.T) {
	t.Parallel()
	file := vector(t, "sgx/sigstruct/sig1.sigstruct.bin")
	const text = "schema: cofferdam.dev/appraisal-policy/v1\nevidence: [sgx]\ndomains: [intel]\nsgx: {sigstructFiles: [e]}\n"
	p := parse(t, text)
	if err := p.Resolve(func(string) ([]byte, error) { return file, nil }); err != nil || len(p.SGX.MRENCLAVE) != 1 || p.SGX.MRENCLAVE[0][0] != 0xc5 {
		t.Errorf("%v %v", p.SGX.MRENCLAVE, err)
	}
	file = slices.Clone(file)
	file[960] ^= 1
	p = parse(t, text)
	if err := p.Resolve(func(string) ([]byte, error) { return file, nil }); err == nil {
		t.Error("a changed SIGSTRUCT is trusted")
	}
}

// TestEndorsementOfPolicy uses an endorsement that the relying party has.
func TestEndorsementOfPolicy(t *testing.T) {
	t.Parallel()
	doc := s1(t)
	p := parse(t, strings.Replace(s1Policy, "    minimumSVN: 22\n", "    minimumSVN: 22\n    files: [e.cose]\n", 1))
	if err := p.Resolve(func(string) ([]byte, error) { return doc.Endorsements[0], nil }); err != nil {
		t.Fatal(err)
	}
	bare := *doc
	bare.Endorsements = nil
	a, err := New(t.Context(), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, a.Appraise(t.Context(), &bare, Request{Now: vectorTime, ReportData: [][]byte{doc.Report[0x50:0x90]}}), verify.Accepted)
	if bare.Endorsements != nil {
		t.Error("the document was changed")
	}
}
