// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"testing"

	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/hcl"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/azure"
	"cofferdam.dev/verify/check"
	"cofferdam.dev/verify/intel"
)

// TestBinding has a machine of the test's own sign for a source, a nonce and data, and asks for others.
func TestBinding(t *testing.T) {
	t.Parallel()
	nonce, data := []byte("sixteen bytes 16"), []byte("key")
	authority, doc, o := known(t)
	r, err := snp.ParseReport(doc.Report)
	if err != nil {
		t.Fatal(err)
	}
	r.ReportData = evidence.ReportData(evidence.SourceWorkload, nonce, data)
	id := make([]byte, 64)
	id[0] = 1
	chip := authority.VCEK(t, "Milan-B0", r.ReportedTCB, id)
	doc.Report, doc.Certificates = chip.Sign(t, *r), [][]byte{chip.Certificate.Raw, authority.Intermediate.Raw}
	doc.Source, doc.Nonce, doc.RuntimeData = evidence.SourceWorkload, nonce, data
	o.ReportData, o.Source, o.Nonce = nil, evidence.SourceWorkload, nonce
	for _, c := range []struct {
		name    string
		change  func(*evidence.Document, *Options)
		outcome Outcome
		want    []check.Code
	}{
		{"as it was made", nil, Accepted, nil},
		{"with the data that are expected", func(_ *evidence.Document, o *Options) { o.RuntimeData = data }, Accepted, nil},
		{"other data expected", func(_ *evidence.Document, o *Options) { o.RuntimeData = []byte("other") }, Refused,
			[]check.Code{check.CodeRuntimeData}},
		{"no data expected", func(_ *evidence.Document, o *Options) { o.RuntimeData = []byte{} }, Refused, []check.Code{check.CodeRuntimeData}},
		{"other data brought", func(d *evidence.Document, _ *Options) { d.RuntimeData = []byte("other") }, Refused,
			[]check.Code{check.CodeReportData}},
		{"another nonce", func(_ *evidence.Document, o *Options) { o.Nonce = []byte("another nonce") }, Refused,
			[]check.Code{check.CodeNonce, check.CodeReportData}},
		{"this nonce claimed", func(d *evidence.Document, o *Options) {
			d.Nonce, o.Nonce = []byte("another nonce"), []byte("another nonce")
		}, Refused, []check.Code{check.CodeReportData}},
		{"no nonce", func(_ *evidence.Document, o *Options) { o.Nonce = nil }, Refused, []check.Code{check.CodeNonceNotSet, check.CodeReportData}},
		{"a short nonce", func(_ *evidence.Document, o *Options) { o.Nonce = nonce[:7] }, Refused,
			[]check.Code{check.CodeNonceNotSet, check.CodeReportData}},
		{"the host's word", func(_ *evidence.Document, o *Options) { o.Source = evidence.SourceHost }, Refused,
			[]check.Code{check.CodeSource, check.CodeReportData}},
		{"the host's word claimed", func(d *evidence.Document, o *Options) {
			d.Source, o.Source = evidence.SourceHost, evidence.SourceHost
		}, Refused, []check.Code{check.CodeReportData}},
		{"no source", func(_ *evidence.Document, o *Options) { o.Source = "" }, Refused, []check.Code{check.CodeSourceNotSet, check.CodeReportData}},
		{"report data besides", func(_ *evidence.Document, o *Options) { o.ReportData = [][]byte{make([]byte, 64), r.ReportData[:]} },
			Accepted, nil},
		{"other report data besides", func(_ *evidence.Document, o *Options) { o.ReportData = [][]byte{make([]byte, 64)} },
			Refused, []check.Code{check.CodeReportData}},
		{"report data and another nonce", func(_ *evidence.Document, o *Options) {
			o.ReportData, o.Nonce = [][]byte{r.ReportData[:]}, []byte("another nonce")
		}, Refused, []check.Code{check.CodeNonce, check.CodeReportData}},
		{"report data alone", func(_ *evidence.Document, o *Options) {
			o.ReportData, o.Nonce, o.Source = [][]byte{r.ReportData[:]}, nil, ""
		}, Accepted, nil},
		{"report data alone, other data brought", func(d *evidence.Document, o *Options) {
			o.ReportData, o.Nonce, o.Source, d.RuntimeData = [][]byte{r.ReportData[:]}, nil, "", []byte("other")
		}, Refused, []check.Code{check.CodeReportData}},
		{"empty report data", func(_ *evidence.Document, o *Options) {
			o.ReportData, o.Nonce, o.Source = [][]byte{{}}, nil, ""
		}, Refused, []check.Code{check.CodeReportData}},
		{"a nonce that is too long", func(d *evidence.Document, _ *Options) { d.Nonce = make([]byte, 65) }, Refused,
			[]check.Code{check.CodeEvidenceMalformed}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d, opts := *doc, o
			if c.change != nil {
				c.change(&d, &opts)
			}
			expect(t, Appraise(t.Context(), &d, opts), c.outcome, c.want...)
		})
	}
}

// TestHostDataOfLongerFields compares a policy's hash with fields that are longer than it.
func TestHostDataOfLongerFields(t *testing.T) {
	t.Parallel()
	hash := sha256.Sum256([]byte("policy"))
	for _, c := range []struct {
		name  string
		field []byte
		want  bool
	}{
		{"as long", hash[:], true},
		{"with zeros", slices.Concat(hash[:], make([]byte, 16)), true},
		{"with something else", slices.Concat(hash[:], make([]byte, 15), []byte{1}), false},
		{"behind zeros", slices.Concat(make([]byte, 16), hash[:]), false},
		{"cut", hash[:31], false},
		{"empty", nil, false},
	} {
		if got := (&subject{hostData: c.field}).has(hash); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestHostDataElsewhere leaves the caller's rules alone, and its pins in force.
func TestHostDataElsewhere(t *testing.T) {
	t.Parallel()
	pinned := intel.Pins{Values: [][]byte{make([]byte, 48)}}
	in := intel.Policy{TDX: &intel.TDX{}, SGX: &intel.SGX{ConfigID: pinned}}
	out := hostDataElsewhere(in)
	if !out.TDX.ConfigID.Any || out.SGX.ConfigID.Any || in.TDX.ConfigID.Any {
		t.Errorf("in %+v, %+v; out %+v, %+v", in.TDX, in.SGX, out.TDX, out.SGX)
	}
	if out := hostDataElsewhere(intel.Policy{}); out.TDX != nil || out.SGX != nil {
		t.Error("rules were made where there were none")
	}
}

// TestAzureTDX appraises an Azure VM on Intel's hardware, whose collateral is not at hand.
func TestAzureTDX(t *testing.T) {
	t.Parallel()
	doc, o := azureDocument(t, "azure-vtpm/tdx/a6/evidence-v1.json")
	e, err := hcl.ParseEvidence(doc.Report)
	if err != nil {
		t.Fatal(err)
	}
	const reportAt, infoAt, measurementAt = 32, 512, 16 // HCL header, TDINFO in TDREPORT, MRTD in TDINFO
	td := azure.DefaultTDX()
	for i := range td.RTMR {
		td.RTMR[i].Any = true
	}
	o.Intel.TDX = &td
	o.Azure.Measurements = [][]byte{e.Report[reportAt+infoAt+measurementAt:][:48]}
	v := Appraise(t.Context(), doc, o)
	if v.Outcome != Undecided || v.Domain != anchor.Intel || v.Quote == nil || v.VM == nil || v.Report != nil {
		t.Errorf("outcome %q, domain %q, codes %v", v.Outcome, v.Domain, codes(v))
	}
	if v.VM != nil && (!v.VM.ConsoleEnabled || v.VM.TPMPersisted || v.VM.RootCertThumbprint != "6nZZnYaJc4KqUZ_yvA-mucFdYNouvlPnITnNMXsHl-0") {
		t.Errorf("the VM is %+v", v.VM)
	}
	stranger := *doc
	stranger.Certificates = [][]byte{{1}}
	if v := Appraise(t.Context(), &stranger, o); v.Outcome != Refused || !slices.Contains(codes(v), check.CodeCertificateUnused) {
		t.Errorf("a certificate that nobody judges: outcome %q, codes %v", v.Outcome, codes(v))
	}
	var b bytes.Buffer
	if err := Render(&b, v, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"quoting enclave", "quote", "paravisor", "TPM quote", "registers"} {
		if !bytes.Contains(b.Bytes(), []byte(want)) {
			t.Errorf("the picture has no %s:\n%s", want, b.String())
		}
	}
}
