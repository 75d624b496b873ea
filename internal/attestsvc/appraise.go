// SPDX-License-Identifier: Apache-2.0

package attestsvc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence/dcap"
	"cofferdam.dev/evidence/hcl"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/anchor"
	rules "cofferdam.dev/verify/appraisal"
	"cofferdam.dev/verify/azure"
	"cofferdam.dev/verify/check"
	"cofferdam.dev/verify/intel"
	"cofferdam.dev/verify/uvm"
)

// Baseline is what the operator asks of all evidence, whatever a tenant's policy says. The zero Baseline refuses all.
type Baseline struct {
	// Roots are the trust anchors, and AllowSimulated admits those of the simulated domain.
	Roots          []anchor.Root
	AllowSimulated bool
	// Collateral has what the vendors publish.
	Collateral collateral.Source
	// SNP, Intel and VM are the rules for SNP guests, for quotes, and for Azure's VMs with a paravisor.
	SNP   amd.Policy
	Intel intel.Policy
	VM    azure.Policy
	// Compliance gives names to launch measurements that somebody vouches for.
	Compliance []Compliance
	// Policy, when not nil, must accept the evidence as well: see PolicyBaseline.
	Policy *rules.Policy
}

// DefaultBaseline returns a baseline for hardware of AMD and Intel: firmware without publicly known holes, no debugging.
// What a trust domain or an enclave is, is left to the tenants' policies. There is no rule for VMs with a paravisor: whose
// paravisor is trusted, and what it booted, the operator must say.
func DefaultBaseline() Baseline {
	open := intel.Pins{Any: true}
	td, enclave := intel.DefaultTDX(), intel.DefaultSGX()
	for i := range td.RTMR {
		td.RTMR[i] = open
	}
	td.ConfigID, td.Owner, td.OwnerConfig, td.ServiceTD = open, open, open, open
	enclave.ConfigID = open
	return Baseline{
		Roots: append(anchor.AMDRoots(), anchor.IntelRoot()),
		SNP:   amd.Policy{MinimumTCB: amd.DefaultMinimumTCB()},
		Intel: intel.Policy{TDX: &td, SGX: &enclave},
	}
}

// Compliance is a name for guests whose launch measurement is among Measurements, or is endorsed as UVM says. It becomes
// the claim x-ms-compliance-status.
type Compliance struct {
	Status       string
	Kind         Kind
	Measurements [][]byte
	UVM          uvm.Policy
}

// appraisal is what was established about one request.
type appraisal struct {
	rec       check.Record
	domain    anchor.Domain
	simulated bool
	from      time.Time
	until     time.Time
	chain     []anchor.Link
	claims    map[string]any
	status    intel.TCB

	measurement, hostData, reportData []byte
	mandatory                         []check.Name
	// evidence is what was judged, out of its wrapping, and identity what of it is signed: the rest has several forms that
	// are as good, such as the two signatures by which ECDSA signs one message, or a chain in another order.
	evidence, identity []byte
	// verdict is that of the baseline's policy, or nil.
	verdict *verify.Verdict
}

// appraise judges the evidence of a request by the baseline, and what is bound to it.
func (s *Service) appraise(ctx context.Context, r *Request, now time.Time) *appraisal {
	a := &appraisal{claims: map[string]any{}, evidence: r.Report}
	b := &s.opts.Baseline
	source := collateral.Record(b.Collateral)
	switch r.Kind {
	case SevSnpVM:
		a.snp(amd.Appraise(ctx, &a.rec, amd.Input{
			Report: r.Report, Certificates: r.Certificates, Now: now, Roots: b.Roots, AllowSimulated: b.AllowSimulated,
			Collateral: source, Cache: s.facts,
		}, b.SNP))
	case SgxEnclave, OpenEnclave, TdxVM:
		s.appraiseQuote(ctx, a, r, now, source)
	case AzureGuest:
		a.vm(azure.Appraise(ctx, &a.rec, azure.Input{
			Evidence: r.Report, Certificates: r.Certificates, Now: now, Roots: b.Roots, AllowSimulated: b.AllowSimulated,
			Collateral: source, Cache: s.facts, QuoteCache: s.quotes, SNP: b.SNP, TDX: b.Intel,
		}, b.VM))
	}
	s.byPolicy(ctx, a, r, now, source)
	a.bind(r)
	a.complyWith(ctx, b.Compliance, r, now)
	return a
}

func (s *Service) appraiseQuote(ctx context.Context, a *appraisal, r *Request, now time.Time, source *collateral.Recorder) {
	quote, tee := r.Report, dcap.TEESGX
	switch r.Kind {
	case TdxVM:
		tee = dcap.TEETDX
	case OpenEnclave:
		q, err := quoteOfOpenEnclave(r.Report)
		if err != nil {
			a.rec.Fail(check.Format, check.CodeReportMalformed, "an Open Enclave report", err.Error())
			return
		}
		quote, a.evidence = q, q
	case SevSnpVM, SgxEnclave, AzureGuest:
	}
	b := &s.opts.Baseline
	res := intel.Appraise(ctx, &a.rec, intel.Input{
		TEE: tee, Quote: quote, EventLog: r.EventLog, Now: now, Roots: b.Roots, AllowSimulated: b.AllowSimulated,
		Collateral: source, Cache: s.quotes,
	}, b.Intel)
	a.mandatory = intel.Mandatory(tee)
	a.domain, a.simulated, a.from, a.until, a.chain, a.status = res.Domain, res.Simulated, res.From, res.Until, res.Chain, res.TCB
	a.measurement, a.hostData, a.reportData = res.Measurement, res.HostData, res.ReportData[:]
	if res.Quote == nil {
		return
	}
	a.identity = res.Quote.SignedBytes()
	if tee == dcap.TEETDX && res.Quote.TD != nil {
		tdxClaims(a.claims, res.Quote.TD, res.TCB)
	}
	if tee == dcap.TEESGX && res.Quote.Enclave != nil {
		sgxClaims(a.claims, res.Quote.Enclave, r, quote, source.Used())
	}
}

func (a *appraisal) snp(res amd.Result) {
	a.mandatory = amd.Mandatory()
	a.domain, a.simulated, a.from, a.until, a.chain = res.Domain, res.Simulated, res.From, res.Until, res.Chain
	if r := res.Report; r != nil {
		a.identity = a.evidence[:snp.SignedSize] // a report has more
		a.measurement, a.hostData, a.reportData = r.Measurement[:], r.HostData[:], r.ReportData[:]
		snpClaims(a.claims, r, res.Chip)
	}
}

// vm takes over what was established about a VM with a paravisor. The guest's own data are what its TPM signed, which the
// caller's nonce is compared with; what the hardware report binds is the paravisor's, and was judged.
func (a *appraisal) vm(res azure.Result) {
	a.mandatory = azure.Mandatory(res.Kind)
	a.reportData = res.ExtraData
	if e, err := hcl.ParseEvidence(a.evidence); err == nil {
		a.identity = e.Quote.Message
	}
	tee := map[string]any{}
	switch {
	case res.SNP != nil:
		a.domain, a.simulated, a.from, a.until, a.chain = res.SNP.Domain, res.SNP.Simulated, res.SNP.From, res.SNP.Until, res.SNP.Chain
		if r := res.SNP.Report; r != nil {
			a.measurement = r.Measurement[:]
			snpClaims(tee, r, res.SNP.Chip)
			tee["x-ms-attestation-type"] = SevSnpVM.attestationType()
		}
	case res.TDX != nil:
		a.domain, a.simulated, a.from, a.until, a.chain = res.TDX.Domain, res.TDX.Simulated, res.TDX.From, res.TDX.Until, res.TDX.Chain
		if q := res.TDX.Quote; q != nil && q.TD != nil {
			a.measurement, a.status = q.TD.MRTD[:], res.TDX.TCB
			tdxClaims(tee, q.TD, res.TDX.TCB)
			tee["x-ms-attestation-type"] = TdxVM.attestationType()
		}
	}
	vmClaims(a.claims, tee, res.Claims, res.PCRs)
}

// bind compares what the client wants bound with what the evidence was made for.
func (a *appraisal) bind(r *Request) {
	if r.Runtime != nil && len(r.Runtime.Bytes) > 0 {
		want := boundData(r.Kind, r.Runtime)
		got := bytes.TrimRight(a.reportData, "\x00")
		a.rec.Require(len(a.reportData) > 0 && bytes.Equal(bytes.TrimRight(want, "\x00"), got), check.RuntimeData, check.CodeRuntimeData,
			hex.EncodeToString(want), hex.EncodeToString(a.reportData))
	}
	if r.InitTime != nil && len(r.InitTime.Bytes) > 0 {
		sum, got := r.InitTime.digest(), a.hostData
		if len(got) >= sha256.Size && len(got) < len(sum) {
			sum = sum[:len(got)]
		}
		if len(got) > len(sum) && len(bytes.Trim(got[len(sum):], "\x00")) == 0 {
			got = got[:len(sum)] // wider fields are filled up with zeros
		}
		a.rec.Require(bytes.Equal(got, sum), check.HostData, check.CodeHostData, hex.EncodeToString(sum), hex.EncodeToString(a.hostData))
	}
}

// reportDataSize is that of SNP, TDX and SGX alike, in bytes.
const reportDataSize = 64

// boundData is the report data that bind runtime data: their digest, the rest zero. What a vTPM signs is the digest alone.
func boundData(k Kind, runtime *Data) []byte {
	sum := runtime.digest()
	if k == AzureGuest {
		return sum
	}
	return append(sum, make([]byte, reportDataSize-len(sum))...)
}

// complyWith looks for the first rule whose measurement this is.
func (a *appraisal) complyWith(ctx context.Context, rules []Compliance, r *Request, now time.Time) {
	for i := range rules {
		rule := &rules[i]
		if rule.Kind != r.Kind || len(a.measurement) == 0 {
			continue
		}
		for _, m := range rule.Measurements {
			if bytes.Equal(m, a.measurement) {
				a.claims[claimCompliance] = rule.Status
				return
			}
		}
		if rule.UVM.IsZero() {
			continue
		}
		for _, e := range r.Endorsements {
			var rec check.Record
			_ = uvm.Appraise(ctx, &rec, uvm.Input{Endorsement: e, Measurement: a.measurement, Now: now}, rule.UVM) // the record has it
			if verify.Conclude(rec.Checks(), uvm.Mandatory()) == verify.Accepted {
				a.claims[claimCompliance] = rule.Status
				return
			}
		}
	}
}
