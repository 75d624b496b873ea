// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"context"
	"encoding/hex"

	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/verify/amd"
)

// snp has an SNP report judged.
func (a *appraisal) snp(ctx context.Context, doc *evidence.Document) *subject {
	a.mandatory = amd.Mandatory()
	res := amd.Appraise(ctx, a.Record, amd.Input{
		Report: doc.Report, Certificates: doc.Certificates, Now: a.opts.Now, Roots: a.opts.Roots,
		AllowSimulated: a.opts.AllowSimulated, Collateral: a.collateral(doc), Cache: a.cache,
	}, a.opts.SNP)
	return a.snpResult(&res, doc)
}

// snpResult puts what was established about a report into the verdict.
func (a *appraisal) snpResult(res *amd.Result, doc *evidence.Document) *subject {
	a.v.Domain, a.v.Simulated, a.v.Chain = res.Domain, res.Simulated, res.Chain
	a.v.ValidFrom, a.v.ValidUntil = res.From, res.Until
	r := res.Report
	if r == nil {
		return nil
	}
	a.v.Report = claims(r, res.Chip, doc)
	return &subject{measurement: r.Measurement[:], hostData: r.HostData[:], reportData: r.ReportData[:]}
}

func claims(r *snp.Report, chip *snp.ChipCertificate, doc *evidence.Document) *ReportClaims {
	c := &ReportClaims{
		Version: r.Version, ChipID: hex.EncodeToString(r.ChipID[:]), SigningKey: r.KeyInfo.SigningKey().String(),
		VMPL: r.VMPL, GuestSVN: r.GuestSVN, Policy: r.Policy.String(), PlatformInfo: r.PlatformInfo.String(),
		ReportedTCB: r.ReportedTCB.String(), CommittedTCB: r.CommittedTCB.String(), CurrentTCB: r.CurrentTCB.String(),
		LaunchTCB: r.LaunchTCB.String(), Measurement: hex.EncodeToString(r.Measurement[:]),
		HostData: hex.EncodeToString(r.HostData[:]), ReportData: hex.EncodeToString(r.ReportData[:]),
		ReportID: hex.EncodeToString(r.ReportID[:]), Source: string(doc.Source), Nonce: hex.EncodeToString(doc.Nonce),
		RuntimeData: doc.RuntimeData,
	}
	if chip != nil {
		c.Product = chip.ProductName
	}
	return c
}
