// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"bytes"
	"context"
	"fmt"

	"cofferdam.dev/evidence/dcap"
	"cofferdam.dev/evidence/hcl"
	"cofferdam.dev/evidence/tdx"
	"cofferdam.dev/verify/check"
	"cofferdam.dev/verify/intel"
)

// tdx has the quote judged and compares it with the TDREPORT that the paravisor got. Nothing of the TDREPORT can be
// verified here but what the quote repeats; the binding that counts is the quote's.
func (a *appraisal) tdx(ctx context.Context, e *hcl.Evidence, r *hcl.Report) *launched {
	res := intel.Appraise(ctx, a.Record, intel.Input{
		TEE: dcap.TEETDX, Quote: e.TDQuote, Certificates: a.in.Certificates, Now: a.in.Now, Roots: a.in.Roots, AllowSimulated: a.in.AllowSimulated,
		Collateral: a.in.Collateral, Cache: a.in.QuoteCache,
	}, a.in.TDX)
	a.res.TDX = &res
	if res.Quote == nil || res.Quote.TD == nil {
		return nil
	}
	const expected = "a quote of the TDREPORT"
	report, err := tdx.ParseReport(r.Hardware)
	switch {
	case err != nil:
		a.Fail(check.TDReport, check.CodeTDReport, expected, err.Error())
	case report.CheckHashes() != nil:
		a.Fail(check.TDReport, check.CodeTDReport, expected, report.CheckHashes().Error())
	default:
		want := report.Body()
		if res.Quote.TD.V15 != nil {
			want = report.Body15()
		}
		a.Require(bytes.Equal(want.Marshal(), res.Quote.TD.Marshal()), check.TDReport, check.CodeTDReport,
			fmt.Sprintf("MRTD %x, report data %x", want.MRTD, want.ReportData),
			fmt.Sprintf("MRTD %x, report data %x", res.Quote.TD.MRTD, res.Quote.TD.ReportData))
	}
	return &launched{measurement: res.Measurement, hostData: res.HostData, reportData: res.ReportData}
}

// DefaultTDX returns rules that fit the trust domains in which Azure runs its paravisor. They differ from intel.DefaultTDX
// in two points. The attribute that keeps the host from injecting exceptions for memory that it took away is not asked
// for, because Azure does not set it: how the paravisor meets such exceptions is part of what its launch measurement pins.
// And the registers of the trust domain are open, because what is booted is measured into the paravisor's TPM instead,
// whose registers Policy pins.
func DefaultTDX() intel.TDX {
	rules := intel.DefaultTDX()
	rules.AllowedAttributes |= rules.RequiredAttributes
	rules.RequiredAttributes = 0
	for i := range rules.RTMR {
		rules.RTMR[i] = intel.Pins{Any: true}
	}
	return rules
}
