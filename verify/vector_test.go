// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

// vectorTime lies in the validity of every certificate of the vectors: the youngest begin in February 2026.
var vectorTime = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// anyTCB admits every TCB of every product line.
var anyTCB = map[snp.ProductLine]snp.TCBParts{snp.Milan: {}, snp.Genoa: {}, snp.Turin: {}}

// vector is one piece of real evidence.
type vector struct {
	name   string
	report string
	certs  []string
}

var vectors = []vector{
	{"s1", "snp/s1-aci-milan-v2/snp_report.bin", []string{"snp/s1-aci-milan-v2/uvm_host_amd_certificate.pem"}},
	{"s2", "snp/s2-debug-allowed/attestation.bin", []string{"snp/s2-debug-allowed/vcek.der"}},
	{"s3", "snp/s3-milan-v2/report.bin", []string{"snp/s3-milan-v2/vcek.der"}},
	{"s6-milan", "snp/s6-aci-v3/milan_report.bin", []string{"snp/s6-aci-v3/milan_vcek.pem", "snp/s6-aci-v3/milan_ask.pem"}},
	{"s6-genoa", "snp/s6-aci-v3/genoa_report.bin", []string{"snp/s6-aci-v3/genoa_vcek.pem", "snp/s6-aci-v3/genoa_ask.pem"}},
	{"s10-milan", "snp/s10-virtee/report_milan.hex", []string{"snp/s10-virtee/vcek_milan.der", "snp/s10-virtee/cert_chain_milan.pem"}},
}

// document reads a vector.
func (v vector) document(t testing.TB) *evidence.Document {
	t.Helper()
	report := read(t, v.report)
	if strings.HasSuffix(v.report, ".hex") {
		b, err := hex.DecodeString(strings.TrimSpace(string(report)))
		if err != nil {
			t.Fatal(err)
		}
		report = b
	}
	doc := &evidence.Document{Type: evidence.TypeSEVSNP, Report: report}
	for _, name := range v.certs {
		doc.Certificates = append(doc.Certificates, certificates(t, read(t, name))...)
	}
	return doc
}

// certificates splits PEM, or takes DER as it is.
func certificates(t testing.TB, b []byte) [][]byte {
	t.Helper()
	if !bytes.Contains(b, []byte("BEGIN")) {
		return [][]byte{b}
	}
	var ders [][]byte
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return ders
		}
		ders = append(ders, block.Bytes)
	}
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(testcap.Vectors(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pinned returns options that expect what the report itself says, so that only the chain and the launch decide.
func pinned(t testing.TB, doc *evidence.Document) Options {
	t.Helper()
	r, err := snp.ParseReport(doc.Report)
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		Roots: anchor.AMDRoots(), Now: vectorTime, Measurements: [][]byte{r.Measurement[:]}, HostData: [][32]byte{r.HostData},
		ReportData: [][]byte{r.ReportData[:]}, SNP: amd.Policy{MinimumTCB: anyTCB},
	}
}

// codes lists what did not pass.
func codes(v *Verdict) []check.Code {
	var c []check.Code
	for _, f := range v.Failures() {
		c = append(c, f.Code)
	}
	return c
}

func expect(t *testing.T, v *Verdict, outcome Outcome, want ...check.Code) {
	t.Helper()
	if v.Outcome != outcome {
		t.Errorf("outcome is %q, not %q", v.Outcome, outcome)
	}
	if diff := cmp.Diff(want, codes(v)); diff != "" {
		t.Errorf("checks that did not pass (-want +got):\n%s", diff)
	}
}

func TestVectorsHaveTheirVerdicts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		vector  string
		name    string
		change  func(*evidence.Document, *Options)
		outcome Outcome
		want    []check.Code
	}{
		{"s1", "real container group", nil, Accepted, nil},
		{"s1", "before firmware fixes", func(_ *evidence.Document, o *Options) { o.SNP.MinimumTCB = amd.DefaultMinimumTCB() },
			Refused, []check.Code{check.CodeTCBFloor, check.CodeTCBLaunchFloor}},
		{"s1", "another policy", func(_ *evidence.Document, o *Options) { o.HostData = [][32]byte{{1}} },
			Refused, []check.Code{check.CodeHostData}},
		{"s1", "another measurement", func(_ *evidence.Document, o *Options) { o.Measurements = [][]byte{make([]byte, 48)} },
			Refused, []check.Code{check.CodeMeasurement}},
		{"s1", "other report data", func(_ *evidence.Document, o *Options) { o.ReportData = [][]byte{make([]byte, 64)} },
			Refused, []check.Code{check.CodeReportData}},
		{"s1", "without any certificate", func(d *evidence.Document, _ *Options) { d.Certificates = nil },
			Undecided, []check.Code{check.CodeCertificateMissing, check.CodeSignatureNotChecked, check.CodeProductUnknown}},
		{"s1", "with the chip certificate alone", func(d *evidence.Document, _ *Options) { d.Certificates = d.Certificates[:1] },
			Accepted, nil},
		{"s1", "when its certificate has expired", func(_ *evidence.Document, o *Options) { o.Now = vectorTime.AddDate(10, 0, 0) },
			Undecided, []check.Code{check.CodeCertificateExpired}},
		{"s1", "before its certificate was made", func(_ *evidence.Document, o *Options) { o.Now = vectorTime.AddDate(-10, 0, 0) },
			Undecided, []check.Code{check.CodeCertificateNotYet}},
		{"s1", "under another line's root alone", func(_ *evidence.Document, o *Options) { o.Roots = rootsNamed("ARK-Genoa") },
			Refused, []check.Code{check.CodeTrustAnchorUnknown}},
		{"s1", "without roots", func(_ *evidence.Document, o *Options) { o.Roots = nil },
			Refused, []check.Code{check.CodeTrustAnchorUnknown}},
		{"s1", "without a floor for its line", func(_ *evidence.Document, o *Options) {
			o.SNP.MinimumTCB = map[snp.ProductLine]snp.TCBParts{snp.Genoa: {}}
		}, Refused, []check.Code{check.CodeTCBFloorMissing}},
		{"s1", "when alias checks are required", func(_ *evidence.Document, o *Options) {
			o.SNP.RequirePlatform = snp.PlatformAliasCheckComplete
		}, Refused, []check.Code{check.CodePlatform}},
		{"s1", "when multithreading is forbidden", func(_ *evidence.Document, o *Options) { o.SNP.ForbidPlatform = snp.PlatformSMT },
			Refused, []check.Code{check.CodePlatform}},
		{"s2", "debugging allowed", nil, Refused, []check.Code{check.CodeDebug}},
		{"s2", "debugging accepted", func(_ *evidence.Document, o *Options) { o.SNP.AllowDebug = true }, Accepted, nil},
		{"s3", "provisional firmware", nil, Refused, []check.Code{check.CodeTCBProvisional}},
		{"s3", "provisional firmware accepted", func(_ *evidence.Document, o *Options) { o.SNP.AllowProvisionalTCB = true },
			Accepted, nil},
		{"s6-milan", "version 3", nil, Accepted, nil},
		{"s6-milan", "with firmware fixes", func(_ *evidence.Document, o *Options) { o.SNP.MinimumTCB = amd.DefaultMinimumTCB() },
			Accepted, nil},
		{"s6-genoa", "version 3 of Genoa", func(_ *evidence.Document, o *Options) {
			o.SNP.MinimumTCB = amd.DefaultMinimumTCB()
			o.SNP.RequirePlatform = snp.PlatformAliasCheckComplete
		}, Accepted, nil},
		{"s10-milan", "all of the report data", nil, Accepted, nil},
	} {
		t.Run(c.vector+" "+c.name, func(t *testing.T) {
			t.Parallel()
			doc := byName(c.vector).document(t)
			opts := pinned(t, doc)
			if c.change != nil {
				c.change(doc, &opts)
			}
			expect(t, Appraise(context.Background(), doc, opts), c.outcome, c.want...)
		})
	}
}

func byName(name string) vector {
	for _, v := range vectors {
		if v.name == name {
			return v
		}
	}
	return vector{}
}

func rootsNamed(name string) []anchor.Root {
	for _, r := range anchor.AMDRoots() {
		if r.Name == name {
			return []anchor.Root{r}
		}
	}
	return nil
}

// TestRavl reads the bundle of another verifier's project.
func TestRavl(t *testing.T) {
	t.Parallel()
	var f struct{ Evidence, Endorsements string }
	if err := json.Unmarshal(read(t, "snp/s9-aci-ravl/sev_snp.att.json"), &f); err != nil {
		t.Fatal(err)
	}
	report, err1 := base64.StdEncoding.DecodeString(f.Evidence)
	chain, err2 := base64.StdEncoding.DecodeString(f.Endorsements)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	doc := &evidence.Document{Type: evidence.TypeSEVSNP, Report: report, Certificates: certificates(t, chain)}
	expect(t, Appraise(context.Background(), doc, pinned(t, doc)), Accepted)
}

// TestPolicyText judges the complete Azure bundle: the policy text is the one that the host data name.
func TestPolicyText(t *testing.T) {
	t.Parallel()
	doc := byName("s1").document(t)
	text, err := base64.StdEncoding.DecodeString(string(read(t, "snp/s1-aci-milan-v2/uvm_security_policy.base64")))
	if err != nil {
		t.Fatal(err)
	}
	opts := pinned(t, doc)
	doc.Policy = text
	expect(t, Appraise(context.Background(), doc, opts), Accepted)
	text[len(text)/2] ^= 1
	expect(t, Appraise(context.Background(), doc, opts), Refused, check.CodePolicyText)
}

// TestLookAlikes judges certificates that bear AMD's names and no signature of AMD.
func TestLookAlikes(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"vcek-invalid-legacy.der", "vcek-invalid-new.der"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc := byName("s3").document(t)
			opts := pinned(t, doc)
			opts.SNP.AllowProvisionalTCB = true
			doc.Certificates = [][]byte{read(t, "snp/s4-invalid-vcek/"+name)}
			v := Appraise(context.Background(), doc, opts)
			if v.Outcome != Refused || v.Domain != "" || len(v.Chain) != 0 {
				t.Errorf("outcome %q, domain %q, chain %v", v.Outcome, v.Domain, v.Chain)
			}
			got := map[check.Code]bool{}
			for _, c := range codes(v) {
				got[c] = true
			}
			if !got[check.CodeChainSignature] || !got[check.CodeSignatureInvalid] {
				t.Errorf("codes are %v", codes(v))
			}
		})
	}
}

// TestForeignChipCertificate judges reports with the genuine certificate of another chip.
func TestForeignChipCertificate(t *testing.T) {
	t.Parallel()
	doc := byName("s6-milan").document(t)
	opts := pinned(t, doc)
	doc.Certificates = byName("s1").document(t).Certificates
	expect(t, Appraise(context.Background(), doc, opts), Refused, check.CodeChipTCBMismatch, check.CodeChipIDMismatch,
		check.CodeSignatureInvalid)
	doc.Certificates = [][]byte{read(t, "snp/s10-virtee/vcek_turin.der")}
	v := Appraise(context.Background(), doc, opts)
	if v.Accepted() || v.Chain == nil {
		t.Errorf("a Turin certificate gives %q with chain %v", v.Outcome, v.Chain)
	}
}

// TestZeroOptions requires every setting to be given.
func TestZeroOptions(t *testing.T) {
	t.Parallel()
	for _, v := range vectors {
		got := Appraise(context.Background(), v.document(t), Options{})
		if got.Outcome != Refused {
			t.Errorf("%s: outcome is %q", v.name, got.Outcome)
		}
		have := map[check.Code]bool{}
		for _, c := range codes(got) {
			have[c] = true
		}
		for _, c := range []check.Code{check.CodeTimeNotSet, check.CodeTrustAnchorUnknown, check.CodeMeasurementNotSet, check.CodeHostDataNotSet,
			check.CodeNonceNotSet, check.CodeSourceNotSet, check.CodeReportData, check.CodeTCBFloorMissing} {
			if !have[c] {
				t.Errorf("%s: %s is not among %v", v.name, c, codes(got))
			}
		}
	}
	for name, doc := range map[string]*evidence.Document{
		"nil": nil, "empty": {}, "other type": {Type: "tdx", Report: []byte{1}},
	} {
		if got := Appraise(context.Background(), doc, Options{}); got.Outcome != Refused {
			t.Errorf("%s document: outcome is %q", name, got.Outcome)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	expect(t, Appraise(ctx, nil, Options{}), Undecided, check.CodeCancelled)
	if (&Verdict{}).Accepted() || (*Verdict)(nil).Accepted() {
		t.Error("a verdict that was never concluded is accepted")
	}
}
