// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/dcap"
	"cofferdam.dev/evidence/hcl"
	"cofferdam.dev/evidence/pcs"
	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/azure"
	"cofferdam.dev/verify/check"
	"cofferdam.dev/verify/intel"
	"cofferdam.dev/verify/uvm"
)

// quoteTime is when the collateral of the vectors of quotes holds.
var quoteTime = time.Date(2025, 6, 21, 0, 0, 0, 0, time.UTC)

// quoteDocument puts a quote and the collateral of its file into a document.
func quoteDocument(t testing.TB, kind, quote, parts, tee, ca string, fmspc [6]byte) *evidence.Document {
	t.Helper()
	var p map[string]string
	if err := json.Unmarshal(read(t, parts), &p); err != nil {
		t.Fatal(err)
	}
	list := func(name string) evidence.Item {
		b, err := hex.DecodeString(p[name])
		if err != nil {
			t.Fatal(err)
		}
		return evidence.Item{Body: b}
	}
	signed := func(member, name string) evidence.Item {
		return evidence.Item{Body: fmt.Appendf(nil, `{"%s":%s,"signature":"%s"}`, member, p[name], p[name+"_signature"]),
			IssuerChain: []byte(p[name+"_issuer_chain"])}
	}
	return &evidence.Document{Type: kind, Report: read(t, quote), Collateral: map[string]evidence.Item{
		collateral.TCBInfo(tee, fmspc).Name(): signed("tcbInfo", "tcb_info"),
		collateral.QEIdentity(tee).Name():     signed("enclaveIdentity", "qe_identity"),
		collateral.PCKCRL(ca).Name():          list("pck_crl"),
		collateral.RootCRL().Name():           list("root_ca_crl"),
	}}
}

func tdxDocument(t testing.TB) *evidence.Document {
	t.Helper()
	return quoteDocument(t, evidence.TypeTDX, "tdx/t1-v4-b0c06f/tdx_quote.bin", "tdx/t1-v4-b0c06f/collateral.json", collateral.TDX,
		collateral.PlatformCA, [6]byte{0xb0, 0xc0, 0x6f})
}

func sgxDocument(t testing.TB) *evidence.Document {
	t.Helper()
	return quoteDocument(t, evidence.TypeSGX, "sgx/g1-v3-00a067/sgx_quote.bin", "sgx/g1-v3-00a067/collateral.json", collateral.SGX,
		collateral.ProcessorCA, [6]byte{0, 0xa0, 0x67, 0x11})
}

// quoteOptions expect what the quote itself says.
func quoteOptions(t testing.TB, doc *evidence.Document) Options {
	t.Helper()
	q, err := dcap.ParseQuote(doc.Report)
	if err != nil {
		t.Fatal(err)
	}
	td, enclave := intel.DefaultTDX(), intel.DefaultSGX()
	for i := range td.RTMR {
		td.RTMR[i].Any = true
	}
	td.Owner.Any, td.OwnerConfig.Any, td.ServiceTD.Any = true, true, true
	data := q.ReportData()
	o := Options{
		Roots: append(anchor.AMDRoots(), anchor.IntelRoot()), Now: quoteTime, ReportData: [][]byte{data[:]},
		Intel: intel.Policy{TDX: &td, SGX: &enclave},
	}
	if q.TD != nil {
		o.Measurements, o.HostData = [][]byte{q.TD.MRTD[:]}, [][32]byte{[32]byte(q.TD.MRConfigID[:])}
	} else {
		o.Measurements, o.HostData = [][]byte{q.Enclave.MREnclave[:]}, [][32]byte{[32]byte(q.Enclave.ConfigID[:])}
		o.Intel.AcceptedStatuses = []pcs.Status{pcs.UpToDate, pcs.ConfigurationAndSWHardeningNeeded}
	}
	return o
}

// TestQuotes appraises quotes of trust domains and enclaves through documents.
func TestQuotes(t *testing.T) {
	t.Parallel()
	signer := func(o *Options, d *evidence.Document) intel.Signer {
		q, err := dcap.ParseQuote(d.Report)
		if err != nil {
			t.Fatal(err)
		}
		return intel.Signer{MRSigner: q.Enclave.MRSigner, ISVProdID: q.Enclave.ISVProdID}
	}
	for _, c := range []struct {
		name    string
		doc     func(testing.TB) *evidence.Document
		change  func(*evidence.Document, *Options)
		outcome Outcome
		want    []check.Code
	}{
		{"trust domain", tdxDocument, nil, Accepted, nil},
		{"enclave", sgxDocument, nil, Accepted, nil},
		{"trust domain, another measurement", tdxDocument, func(_ *evidence.Document, o *Options) { o.Measurements = [][]byte{make([]byte, 48)} },
			Refused, []check.Code{check.CodeMeasurement}},
		{"trust domain, other host data", tdxDocument, func(_ *evidence.Document, o *Options) { o.HostData = [][32]byte{{1}} },
			Refused, []check.Code{check.CodeHostData}},
		{"trust domain, no host data given", tdxDocument, func(_ *evidence.Document, o *Options) { o.HostData = nil },
			Refused, []check.Code{check.CodeHostDataNotSet}},
		{"trust domain, other report data", tdxDocument, func(_ *evidence.Document, o *Options) { o.ReportData = [][]byte{make([]byte, 64)} },
			Refused, []check.Code{check.CodeReportData}},
		{"trust domain, AMD's roots alone", tdxDocument, func(_ *evidence.Document, o *Options) { o.Roots = anchor.AMDRoots() }, Refused, nil},
		{"trust domain passed off as an enclave", tdxDocument, func(d *evidence.Document, _ *Options) { d.Type = evidence.TypeSGX }, Refused, nil},
		{"trust domain passed off as an SNP guest", tdxDocument, func(d *evidence.Document, _ *Options) { d.Type = evidence.TypeSEVSNP },
			Refused, []check.Code{check.CodeReportMalformed}},
		{"trust domain, collateral out of date", tdxDocument, func(_ *evidence.Document, o *Options) { o.Now = vectorTime }, Undecided, nil},
		{"trust domain without collateral", tdxDocument, func(d *evidence.Document, _ *Options) { d.Collateral = nil }, Undecided, nil},
		{"trust domain, collateral of the relying party", tdxDocument, func(d *evidence.Document, o *Options) {
			e := collateral.Embedded{}
			for name, item := range d.Collateral {
				e[name] = collateral.Item{Body: item.Body, IssuerChain: item.IssuerChain}
			}
			d.Collateral, o.Collateral = nil, e
		}, Accepted, nil},
		{"trust domain, evaluation number", tdxDocument, func(_ *evidence.Document, o *Options) { o.Intel.MinimumEvaluationNumber = 18 },
			Refused, []check.Code{check.CodeEvaluationNumber}},
		{"enclave, status", sgxDocument, func(_ *evidence.Document, o *Options) { o.Intel.AcceptedStatuses = nil },
			Refused, []check.Code{check.CodeTCBStatus}},
		{"enclave with an event log", sgxDocument, func(d *evidence.Document, _ *Options) { d.EventLog = []byte{1} },
			Refused, []check.Code{check.CodeEvidenceMalformed}},
		{"enclave by its signer", sgxDocument, func(d *evidence.Document, o *Options) {
			o.Measurements, o.Intel.SGX.Signers = nil, []intel.Signer{signer(o, d)}
		}, Accepted, nil},
		{"enclave, neither measurement nor signer", sgxDocument, func(_ *evidence.Document, o *Options) { o.Measurements = nil },
			Refused, []check.Code{check.CodeMeasurementNotSet}},
		{"enclave of another signer", sgxDocument, func(d *evidence.Document, o *Options) {
			s := signer(o, d)
			s.MRSigner[0] ^= 1
			o.Measurements, o.Intel.SGX.Signers = nil, []intel.Signer{s}
		}, Refused, []check.Code{check.CodeEnclaveSigner}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			doc := c.doc(t)
			o := quoteOptions(t, doc)
			if c.change != nil {
				c.change(doc, &o)
			}
			v := Appraise(context.Background(), doc, o)
			if v.Outcome != c.outcome || c.want != nil && !slices.Equal(codes(v), c.want) {
				t.Errorf("outcome %q, codes %v", v.Outcome, codes(v))
			}
		})
	}
}

// azureDocument holds the evidence of an Azure VM, and options that expect what it says.
func azureDocument(t testing.TB, name string) (*evidence.Document, Options) {
	t.Helper()
	doc := &evidence.Document{Type: evidence.TypeAzureVTPM, Report: read(t, name)}
	e, err := hcl.ParseEvidence(doc.Report)
	if err != nil {
		t.Fatal(err)
	}
	q, err := hcl.ParseAttest(e.Quote.Message)
	if err != nil {
		t.Fatal(err)
	}
	const headerSize, measurementAt = 32, 0x90
	o := Options{
		Roots: append(anchor.AMDRoots(), anchor.IntelRoot()), Now: vectorTime, ReportData: [][]byte{q.ExtraData},
		SNP:   amd.Policy{MinimumTCB: anyTCB, AllowProvisionalTCB: true},
		Azure: azure.Policy{Measurements: [][]byte{e.Report[headerSize+measurementAt:][:48]}, PCRs: map[int][][sha256.Size]byte{}},
	}
	for i, p := range e.Quote.PCRs {
		o.Azure.PCRs[i] = [][sha256.Size]byte{p}
	}
	return doc, o
}

// TestAzure appraises the evidence of Azure's VMs through documents.
func TestAzure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, file string
		change     func(*evidence.Document, *Options)
		outcome    Outcome
		want       []check.Code
	}{
		{"version 0", "a1-3/evidence-v0.json", nil, Accepted, nil},
		{"version 1", "a1-3/evidence-v1.json", nil, Accepted, nil},
		{"version 2", "a1-3/evidence-v2.json", nil, Accepted, nil},
		{"report of version 2", "a5/evidence-v1.json", nil, Accepted, nil},
		{"live", "a5/live-evidence.json", nil, Accepted, nil},
		{"nothing was signed with the quote", "a5/milan-v3-attestation.json", nil, Refused, []check.Code{check.CodeReportData}},
		{"another challenge", "a5/live-evidence.json", func(_ *evidence.Document, o *Options) { o.ReportData = [][]byte{[]byte("other")} },
			Refused, []check.Code{check.CodeReportData}},
		{"measurement of a guest without a paravisor", "a5/live-evidence.json", func(_ *evidence.Document, o *Options) {
			o.Measurements, o.Azure.Measurements = o.Azure.Measurements, nil
		}, Refused, []check.Code{check.CodeMeasurementNotSet}},
		{"no register pinned", "a5/live-evidence.json", func(_ *evidence.Document, o *Options) { o.Azure.PCRs = nil },
			Refused, []check.Code{check.CodePCRNotPinned}},
		{"passed off as a report", "a5/live-evidence.json", func(d *evidence.Document, _ *Options) { d.Type = evidence.TypeSEVSNP },
			Refused, []check.Code{check.CodeReportMalformed}},
		{"no evidence", "a5/live-evidence.json", func(d *evidence.Document, _ *Options) { d.Report = []byte("{}") },
			Refused, []check.Code{check.CodeAzureMalformed}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			doc, o := azureDocument(t, "azure-vtpm/snp/"+c.file)
			if c.change != nil {
				c.change(doc, &o)
			}
			expect(t, Appraise(context.Background(), doc, o), c.outcome, c.want...)
		})
	}
}

// TestEndorsement has the complete Azure container group judged by its publisher's endorsement.
func TestEndorsement(t *testing.T) {
	t.Parallel()
	own := read(t, "snp/s1-aci-milan-v2/body.uvm_reference_info.bin")
	other, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(read(t, "snp/s1b-security-context/reference-info-base64"))))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name         string
		endorsements [][]byte
		change       func(*Options)
		outcome      Outcome
		want         []check.Code
	}{
		{"endorsed", [][]byte{own}, nil, Accepted, nil},
		{"one of two", [][]byte{other, own}, nil, Accepted, nil},
		{"another measurement", [][]byte{other}, nil, Refused, []check.Code{check.CodeMeasurement}},
		{"too old", [][]byte{own}, func(o *Options) { o.UVM.MinimumSVN = 23 }, Refused, []check.Code{check.CodeEndorsementSVN}},
		{"another series", [][]byte{own}, func(o *Options) { o.UVM.Feed = "other" }, Refused, []check.Code{check.CodeEndorsementFeed}},
		{"another publisher", [][]byte{own}, func(o *Options) { o.UVM.Issuers[0] += "1" }, Refused, []check.Code{check.CodeEndorsementIssuer}},
		{"none came", nil, nil, Undecided, []check.Code{check.CodeEndorsementMissing}},
		{"none needed", nil, func(o *Options) { o.Measurements = nil; o.UVM = uvm.Policy{} }, Refused, []check.Code{check.CodeMeasurementNotSet}},
		{"no publisher is trusted", [][]byte{own}, func(o *Options) { o.UVM = uvm.Policy{} }, Refused, []check.Code{check.CodeMeasurementNotSet}},
		{"no endorsement at all", [][]byte{[]byte("text")}, nil, Refused, []check.Code{check.CodeEndorsementMalformed}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			doc := byName("s1").document(t)
			o := pinned(t, doc)
			o.Measurements, o.UVM = nil, uvm.AzureContainerPlat(22)
			if c.change != nil {
				c.change(&o)
			}
			doc.Endorsements = c.endorsements
			v := Appraise(context.Background(), doc, o)
			expect(t, v, c.outcome, c.want...)
			if c.outcome == Accepted && (v.Endorsement == nil || v.Endorsement.SVN != 22) {
				t.Errorf("the endorsement is %+v", v.Endorsement)
			}
		})
	}
}

// TestRenderKinds draws the picture of every kind of evidence.
func TestRenderKinds(t *testing.T) {
	t.Parallel()
	td, sgx := tdxDocument(t), sgxDocument(t)
	vm, vmOptions := azureDocument(t, "azure-vtpm/snp/a5/live-evidence.json")
	endorsed := byName("s1").document(t)
	endorsed.Endorsements = [][]byte{read(t, "snp/s1-aci-milan-v2/body.uvm_reference_info.bin")}
	o := pinned(t, endorsed)
	o.Measurements, o.UVM = nil, uvm.AzureContainerPlat(22)
	for name, v := range map[string]*Verdict{
		"tdx":      Appraise(t.Context(), td, quoteOptions(t, td)),
		"sgx":      Appraise(t.Context(), sgx, quoteOptions(t, sgx)),
		"azure":    Appraise(t.Context(), vm, vmOptions),
		"endorsed": Appraise(t.Context(), endorsed, o),
	} {
		if !v.Accepted() {
			t.Errorf("%s: codes %v", name, codes(v))
		}
		var b bytes.Buffer
		if err := Render(&b, v, false); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".txt", b.Bytes())
	}
}
