// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence/dcap"
	"cofferdam.dev/evidence/hcl"
	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
	"cofferdam.dev/verify/intel"
)

// Policy is what a relying party asks of the VM. The zero value admits none.
type Policy struct {
	// Measurements are the launch digests of paravisors that are trusted, 48 bytes each. Empty refuses. They are apart from
	// the digests of guests without a paravisor on purpose: such a guest can have any claims bound to its report, and so pass
	// for a paravisor whose TPM says what it likes.
	Measurements [][]byte
	// PCRs are the trusted values of the TPM's SHA-256 registers, by index. Each register that is listed must have one of
	// its values; one without values refuses. PCR 4 or PCR 7 must be among them.
	PCRs map[int][][sha256.Size]byte
	// AllowInsecureBoot admits VMs that the host configured without secure boot.
	AllowInsecureBoot bool
}

// Input is what an appraisal is made of.
type Input struct {
	// Evidence is the JSON that the guest sent, as hcl.ParseEvidence takes it.
	Evidence []byte
	// Certificates are further certificates of the chip's key, in DER and in any order.
	Certificates [][]byte
	// Now is the time at which everything must be valid. Zero refuses.
	Now time.Time
	// Roots are the trust anchors, and AllowSimulated admits those of the simulated domain.
	Roots          []anchor.Root
	AllowSimulated bool
	// Collateral has what the vendors publish. It may be nil.
	Collateral collateral.Source
	// Cache remembers verified signatures from one appraisal to the next, and QuoteCache what Intel publishes. Each may be nil.
	Cache      *anchor.Cache
	QuoteCache *intel.Cache
	// SNP and TDX are what is asked of the hardware beneath, whichever it is. An SNP report must be asked for at VMPL 0,
	// whatever is asked here.
	SNP amd.Policy
	TDX intel.Policy
}

// Result is what an appraisal established. It is worth something only when all checks passed.
type Result struct {
	// Kind is the hardware report's, or zero when there is none.
	Kind hcl.Kind
	// SNP and TDX are what was established about the hardware: one of them, by Kind.
	SNP *amd.Result
	TDX *intel.Result
	// Claims are the paravisor's, or nil when there are none.
	Claims *hcl.Claims
	// Quote is the TPM's, or nil when there is none.
	Quote *hcl.Attest
	// PCRs are the register values that came with the quote.
	PCRs [hcl.PCRCount][sha256.Size]byte
	// ExtraData is what the TPM was asked to sign with the quote, at most 64 bytes. Empty means that nobody's nonce was asked
	// for, so that the evidence could be of any time.
	ExtraData []byte
}

// Mandatory returns the checks without which no evidence over that kind of hardware report is accepted.
func Mandatory(kind hcl.Kind) []check.Name {
	switch kind {
	case hcl.KindSNP:
		return slices.Concat(mandatory, amd.Mandatory())
	case hcl.KindTDX:
		return append(slices.Concat(mandatory, intel.Mandatory(dcap.TEETDX)), check.TDReport)
	}
	return check.Names()
}

var mandatory = []check.Name{
	check.AzureEvidence, check.Measurement, check.HostData, check.Paravisor, check.VMConfiguration, check.TPMQuote, check.TPMSignature, check.PCRDigest,
	check.PCRs,
}

// appraisal is one run of Appraise.
type appraisal struct {
	*check.Record

	in  *Input
	p   *Policy
	res *Result
}

// Appraise judges evidence and records every check. The TPM's part is judged even when the hardware's fails, so that a
// verdict names everything that is wrong at once.
func Appraise(ctx context.Context, rec *check.Record, in Input, p Policy) Result {
	a := &appraisal{Record: rec, in: &in, p: &p, res: &Result{}}
	const expected = "evidence of an Azure confidential VM"
	e, err := hcl.ParseEvidence(in.Evidence)
	if err != nil {
		a.Fail(check.AzureEvidence, check.CodeAzureMalformed, expected, err.Error())
		return *a.res
	}
	r, err := hcl.ParseReport(e.Report)
	if err != nil {
		a.Fail(check.AzureEvidence, check.CodeAzureMalformed, expected, err.Error())
		return *a.res
	}
	a.res.Kind, a.res.PCRs = r.Kind, e.Quote.PCRs
	launch := a.hardware(ctx, e, r)
	if launch != nil { // otherwise the hardware report could not be read, and that is recorded
		a.launch(launch)
		a.binding(r, launch)
	}
	a.claims(r)
	a.quote(&e.Quote)
	return *a.res
}

// launched is what the hardware signed about the guest.
type launched struct {
	measurement, hostData []byte
	reportData            [64]byte
}

// hardware has the hardware report judged.
func (a *appraisal) hardware(ctx context.Context, e *hcl.Evidence, r *hcl.Report) *launched {
	want := map[hcl.Kind]string{hcl.KindSNP: "an SNP report and its certificate", hcl.KindTDX: "a TDREPORT and a quote of it"}[r.Kind]
	if (r.Kind == hcl.KindSNP) != (len(e.VCEK) > 0) {
		a.Fail(check.AzureEvidence, check.CodeAzureInconsistent, want, fmt.Sprintf("an %s report, but a quote or certificate of the other kind", r.Kind))
		return nil
	}
	a.Pass(check.AzureEvidence, want, fmt.Sprintf("HCL report of version %d", r.Version))
	if r.Kind == hcl.KindTDX {
		return a.tdx(ctx, e, r)
	}
	return a.snp(ctx, e, r)
}

func (a *appraisal) snp(ctx context.Context, e *hcl.Evidence, r *hcl.Report) *launched {
	certs := append([][]byte{e.VCEK}, slices.DeleteFunc(slices.Clone(a.in.Certificates), func(c []byte) bool {
		return slices.Equal(c, e.VCEK)
	})...)
	p := a.in.SNP
	p.MaxVMPL = 0 // that is the paravisor; what asks from above it is the guest, which must not choose report data
	res := amd.Appraise(ctx, a.Record, amd.Input{
		Report: r.Hardware, Certificates: certs, Now: a.in.Now, Roots: a.in.Roots, AllowSimulated: a.in.AllowSimulated,
		Collateral: a.in.Collateral, Cache: a.in.Cache,
	}, p)
	a.res.SNP = &res
	if res.Report == nil {
		return nil
	}
	return &launched{measurement: res.Report.Measurement[:], hostData: res.Report.HostData[:], reportData: res.Report.ReportData}
}

// launch compares the launch measurement with the trusted ones. A paravisor is launched without host data; a guest that has
// some was launched as something else.
func (a *appraisal) launch(l *launched) {
	got := hex.EncodeToString(l.measurement)
	if len(a.p.Measurements) == 0 {
		a.Fail(check.Measurement, check.CodeMeasurementNotSet, "a trusted measurement of a paravisor, but none is given", got)
	} else {
		a.Require(slices.ContainsFunc(a.p.Measurements, func(m []byte) bool { return bytes.Equal(m, l.measurement) }), check.Measurement,
			check.CodeMeasurement, check.Hex(a.p.Measurements), got)
	}
	a.Require(len(bytes.Trim(l.hostData, "\x00")) == 0, check.HostData, check.CodeHostData, "none: zeros", hex.EncodeToString(l.hostData))
}

// binding compares the claims with the report data that the hardware signed: their SHA-256, and zeros.
func (a *appraisal) binding(r *hcl.Report, l *launched) {
	sum := sha256.Sum256(r.Claims)
	var want [64]byte
	copy(want[:], sum[:])
	a.Require(l.reportData == want, check.Paravisor, check.CodeClaimsNotBound, hex.EncodeToString(want[:]), hex.EncodeToString(l.reportData[:]))
}

// claims reads what the paravisor says, whether it is bound or not.
func (a *appraisal) claims(r *hcl.Report) {
	c, err := hcl.ParseClaims(r.Claims)
	if err != nil {
		a.Fail(check.Paravisor, check.CodeClaimsMalformed, "the claims of a paravisor", err.Error())
		return
	}
	a.res.Claims = c
	expected := "secure boot"
	if a.p.AllowInsecureBoot {
		expected = "secure boot or not"
	}
	a.Require(c.VM.TPMEnabled && (c.VM.SecureBoot || a.p.AllowInsecureBoot), check.VMConfiguration, check.CodeSecureBoot, expected,
		fmt.Sprintf("secure boot %t, TPM %t, console %t", c.VM.SecureBoot, c.VM.TPMEnabled, c.VM.ConsoleEnabled))
}
