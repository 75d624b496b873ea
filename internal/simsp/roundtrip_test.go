// SPDX-License-Identifier: Apache-2.0

package simsp

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sevtest "github.com/google/go-sev-guest/testing"

	"cofferdam.dev/attest"
	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

var nonce = []byte("nonce-of-16-byte")

// roundTrip launches a guest, has it ask for a report through its port, and returns the document of its evidence with
// options that accept it.
func roundTrip(t testing.TB, p *Processor, l Launch) (*evidence.Document, verify.Options) {
	t.Helper()
	g := mustLaunch(t, p, l)
	port, _ := serve(t, t.Context(), g)
	provider := attest.OpenSimulated(port)
	data := []byte("public key of the workload")
	r, err := provider.Report(t.Context(), evidence.ReportData(evidence.SourceWorkload, nonce, data))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := snp.ParseCertificateTable(r.Certificates)
	if err != nil {
		t.Fatal(err)
	}
	doc := &evidence.Document{
		Type: r.Type, Report: r.Report, Source: evidence.SourceWorkload, Nonce: nonce, RuntimeData: data,
		Policy: []byte("policy"),
	}
	for _, e := range entries {
		doc.Certificates = append(doc.Certificates, e.Data)
	}
	b, err := doc.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if doc, err = evidence.ParseDocument(b); err != nil {
		t.Fatal(err)
	}
	m, err := p.Machine()
	if err != nil {
		t.Fatal(err)
	}
	of, err := findProduct(m.Product)
	if err != nil {
		t.Fatal(err)
	}
	ark, _, err := p.Authority(of.line, false)
	if err != nil {
		t.Fatal(err)
	}
	root, err := anchor.NewRoot(anchor.Simulated, "local", ark)
	if err != nil {
		t.Fatal(err)
	}
	digest := g.Measurement()
	return doc, verify.Options{
		Roots: append(anchor.AMDRoots(), root), AllowSimulated: true, Now: time.Now(), Measurements: [][]byte{digest[:]},
		HostData: [][32]byte{l.HostData}, Source: evidence.SourceWorkload, Nonce: nonce,
		SNP: amd.Policy{MinimumTCB: amd.DefaultMinimumTCB()},
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	p := processorForTest(t)
	other := foreignProcessor(t)
	for _, c := range []struct {
		name    string
		change  func(*evidence.Document, *verify.Options)
		outcome verify.Outcome
		want    []check.Code
	}{
		{"accepted", nil, verify.Accepted, nil},
		{"with exact runtime data", func(d *evidence.Document, o *verify.Options) { o.RuntimeData = d.RuntimeData },
			verify.Accepted, nil},
		{"simulated not allowed", func(_ *evidence.Document, o *verify.Options) { o.AllowSimulated = false },
			verify.Refused, []check.Code{check.CodeTrustAnchorUnknown}},
		{"AMD's roots alone", func(_ *evidence.Document, o *verify.Options) { o.Roots = anchor.AMDRoots() },
			verify.Refused, []check.Code{check.CodeTrustAnchorUnknown}},
		{"root of another installation", func(_ *evidence.Document, o *verify.Options) {
			o.Roots = []anchor.Root{{Domain: anchor.Simulated, Name: "other", Certificate: other.ark}}
		}, verify.Refused, []check.Code{check.CodeTrustAnchorUnknown}},
		{"simulated root passed off as AMD's", func(_ *evidence.Document, o *verify.Options) {
			o.Roots = []anchor.Root{{Domain: anchor.AMD, Name: "local", Certificate: p.ark}}
		}, verify.Refused, []check.Code{check.CodeTrustAnchorBad, check.CodeTrustAnchorUnknown}},
		{"root without a domain", func(_ *evidence.Document, o *verify.Options) {
			o.Roots = []anchor.Root{{Name: "local", Certificate: p.ark}}
		}, verify.Refused, []check.Code{check.CodeTrustAnchorBad, check.CodeTrustAnchorUnknown}},
		{"another nonce", func(_ *evidence.Document, o *verify.Options) { o.Nonce = []byte("another nonce") },
			verify.Refused, []check.Code{check.CodeNonce, check.CodeReportData}},
		{"document claims this nonce", func(d *evidence.Document, o *verify.Options) {
			o.Nonce = []byte("another nonce")
			d.Nonce = o.Nonce
		}, verify.Refused, []check.Code{check.CodeReportData}},
		{"host's report for a workload's", func(_ *evidence.Document, o *verify.Options) { o.Source = evidence.SourceHost },
			verify.Refused, []check.Code{check.CodeSource, check.CodeReportData}},
		{"document claims another source", func(d *evidence.Document, o *verify.Options) {
			o.Source, d.Source = evidence.SourceHost, evidence.SourceHost
		}, verify.Refused, []check.Code{check.CodeReportData}},
		{"runtime data replaced", func(d *evidence.Document, _ *verify.Options) { d.RuntimeData = []byte("other key") },
			verify.Refused, []check.Code{check.CodeReportData}},
		{"other runtime data expected", func(_ *evidence.Document, o *verify.Options) { o.RuntimeData = []byte{} },
			verify.Refused, []check.Code{check.CodeRuntimeData}},
		{"policy replaced", func(d *evidence.Document, o *verify.Options) {
			d.Policy = []byte("open policy")
			o.HostData = [][32]byte{sha256.Sum256(d.Policy)}
		}, verify.Refused, []check.Code{check.CodeHostData, check.CodePolicyText}},
		{"certificates in another order", func(d *evidence.Document, _ *verify.Options) { slices.Reverse(d.Certificates) },
			verify.Accepted, nil},
		{"a certificate too many", func(d *evidence.Document, _ *verify.Options) {
			d.Certificates = append(d.Certificates, other.ark.Raw)
		}, verify.Refused, []check.Code{check.CodeCertificateUnused}},
		{"intermediate missing", func(d *evidence.Document, _ *verify.Options) { d.Certificates = d.Certificates[:1] },
			verify.Undecided, []check.Code{check.CodeCertificateMissing}},
		{"years later", func(_ *evidence.Document, o *verify.Options) { o.Now = o.Now.AddDate(8, 0, 0) },
			verify.Undecided, []check.Code{check.CodeCertificateExpired}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			doc, opts := roundTrip(t, p, launch(t))
			if c.change != nil {
				c.change(doc, &opts)
			}
			v := verify.Appraise(t.Context(), doc, opts)
			var got []check.Code
			for _, f := range v.Failures() {
				got = append(got, f.Code)
			}
			if diff := cmp.Diff(c.want, got); v.Outcome != c.outcome || diff != "" {
				t.Errorf("outcome %q, not %q; codes (-want +got):\n%s", v.Outcome, c.outcome, diff)
			}
			if !v.Simulated || v.Outcome == verify.Accepted && v.Domain != anchor.Simulated {
				t.Errorf("it is judged as %q, simulated %t", v.Domain, v.Simulated)
			}
		})
	}
}

// foreignProcessor is one of another installation, with small effort: the same chip under a new root.
func foreignProcessor(t *testing.T) *Processor {
	t.Helper()
	p := processorForTest(t)
	ark, ask, err := issueCAs(p.askKey, p.askKey, time.Now().Add(-time.Hour).Truncate(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return &Processor{dir: p.dir, ark: ark, ask: ask, askKey: p.askKey, chip: p.chip, endorsements: map[endorsed]*endorsement{}}
}

// TestForgedChain has a host make a chain of its own with the names of the pinned one.
func TestForgedChain(t *testing.T) {
	t.Parallel()
	p := processorForTest(t)
	_, opts := roundTrip(t, p, launch(t))
	doc, own := roundTrip(t, foreignProcessor(t), launch(t))
	own.Roots = opts.Roots
	v := verify.Appraise(t.Context(), doc, own)
	if v.Outcome != verify.Refused || v.Failures()[0].Code != check.CodeTrustAnchorUnknown {
		t.Errorf("outcome %q, failures %v", v.Outcome, v.Failures())
	}
}

// TestPublishedTestRootsAreDenied makes evidence with the published keys of another project's testing package, which bear
// AMD's names, and requires it to be refused even where the root was configured.
func TestPublishedTestRootsAreDenied(t *testing.T) {
	t.Parallel()
	p := processorForTest(t)
	doc, opts := roundTrip(t, p, launch(t))
	signer, err := sevtest.DefaultTestOnlyCertChain("Milan-B0", time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	r, err := snp.ParseReport(doc.Report)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha512.Sum384(r.SignedBytes())
	rr, ss, err := ecdsa.Sign(rand.Reader, sevtest.DefaultVcek(), digest[:])
	if err != nil {
		t.Fatal(err)
	}
	r.R, r.S = littleEndian(rr), littleEndian(ss)
	doc.Report = r.Marshal()
	doc.Certificates = [][]byte{signer.Vcek.Raw, signer.Ask.Raw, signer.Ark.Raw}
	for name, root := range map[string]*x509.Certificate{"not configured": nil, "configured": signer.Ark} {
		o := opts
		if root != nil {
			o.Roots = []anchor.Root{{Domain: anchor.Simulated, Name: "test", Certificate: root}}
		}
		v := verify.Appraise(context.Background(), doc, o)
		named := slices.ContainsFunc(v.Failures(), func(c check.Check) bool { return c.Code == check.CodeTrustAnchorDenied })
		if v.Outcome != verify.Refused || !named {
			t.Errorf("%s: outcome %q, failures %v", name, v.Outcome, v.Failures())
		}
	}
	if _, err := anchor.NewRoot(anchor.Simulated, "test", signer.Ark); err == nil {
		t.Error("the root can be made a trust anchor")
	}
}
