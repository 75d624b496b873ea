// SPDX-License-Identifier: Apache-2.0

// Package amd appraises SEV-SNP attestation reports: whether a report is signed by a key that a configured root vouches
// for, on which machine, under which firmware, and how the guest was launched. What the guest is (its measurement, its
// policy, its report data) it hands on for the caller to compare; package verify does.
//
// It trusts the roots of its Input, and its Policy. Everything else is hostile: the report, the certificates beside it,
// and whatever a source of collateral returns is used only once a root vouches for it. The zero Policy admits nothing.
//
// The package never touches the network, the clock or a file, and never panics on input.
package amd

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

// Input is what an appraisal is made of.
type Input struct {
	// Report is the attestation report of snp.ReportSize bytes.
	Report []byte
	// Certificates are those that came with it, in DER and in any order.
	Certificates [][]byte
	// Now is the time at which everything must be valid. Zero refuses.
	Now time.Time
	// Roots are the trust anchors. Those of other domains are passed over.
	Roots []anchor.Root
	// AllowSimulated admits roots of the simulated domain.
	AllowSimulated bool
	// Collateral has certificates and revocation lists that did not come with the report. It may be nil.
	Collateral collateral.Source
	// Cache remembers verified signatures from one appraisal to the next. It may be nil.
	Cache *anchor.Cache
}

// Result is what an appraisal established. It is worth something only when all checks passed.
type Result struct {
	// Report is the parsed report, or nil when there is none.
	Report *snp.Report
	// Chip is what the certificate of the key that signed says, or nil when there is none.
	Chip *snp.ChipCertificate
	// Domain is the trust domain of the root in which the chain ends, or empty.
	Domain anchor.Domain
	// Simulated is true when the chain ends in a simulated root, and also when nothing vouches for a chain that says of
	// itself that it is simulated.
	Simulated bool
	// From and Until bound the times at which certificates and revocation lists are judged alike. They are zero without
	// a chain.
	From, Until time.Time
	// Chain are the certificates from the root to the chip key, as far as they could be linked.
	Chain []anchor.Link
}

// Mandatory returns the checks without which no report is accepted.
func Mandatory() []check.Name { return slices.Clone(mandatory) }

var mandatory = []check.Name{
	check.Time, check.Format, check.ChipCertificate, check.TrustAnchor, check.Chain, check.Profile, check.Validity,
	check.Signer, check.ChipTCB, check.ChipID, check.Product, check.Signature, check.VMPL, check.GuestPolicy, check.Debug,
	check.Migration, check.Platform, check.TCBOrder, check.TCBCommitted, check.TCBFloor, check.Revocation, check.Mitigations,
	check.ChipList, check.IDBlock, check.AuthorKey, check.GuestSVN, check.GuestIdentity, check.AppraisalPolicy,
}

// minReportVersion is the oldest version of real firmware; version 1 was never shipped with a TCB worth a floor.
const minReportVersion = 2

// appraisal is one run of Appraise.
type appraisal struct {
	*check.Record

	in  *Input
	p   *Policy
	res *Result
}

// Appraise judges a report and records every check. Checks of the content are made even when the chain fails, so that a
// verdict names everything that is wrong at once.
func Appraise(ctx context.Context, rec *check.Record, in Input, p Policy) Result {
	a := &appraisal{Record: rec, in: &in, p: &p, res: &Result{}}
	a.Require(!in.Now.IsZero(), check.Time, check.CodeTimeNotSet, "a time", check.Stamp(in.Now))
	a.policy()
	r := a.parse()
	if r == nil {
		return *a.res
	}
	c := a.chain(ctx, r)
	a.res.Report, a.res.Chip = r, c.chip
	line := productLine(r, c.chip)
	a.signer(r, c)
	a.line(line)
	a.chips(r, c.chip)
	a.signature(r, c)
	a.guest(r)
	a.platform(r)
	a.mitigations(r, line)
	a.tcb(r, line)
	return *a.res
}

// policy records what makes the policy meaningless.
func (a *appraisal) policy() {
	if err := a.p.Validate(); err != nil {
		a.Fail(check.AppraisalPolicy, check.CodeAppraisalPolicy, "a policy that can be held", err.Error())
		return
	}
	a.Pass(check.AppraisalPolicy, "a policy that can be held", "it can")
}

// parse decodes the report, and records what form it has.
func (a *appraisal) parse() *snp.Report {
	known := fmt.Sprintf("report version %d to %d", minReportVersion, snp.MaxReportVersion)
	r, err := snp.ParseReport(a.in.Report)
	if err != nil {
		code := check.CodeReportMalformed
		if len(a.in.Report) == snp.ReportSize && binary.LittleEndian.Uint32(a.in.Report) > snp.MaxReportVersion {
			code = check.CodeVersionUnsupported
		}
		a.Fail(check.Format, code, "an SNP report, "+known, err.Error())
		return nil
	}
	a.Require(r.Version >= minReportVersion, check.Format, check.CodeVersionUnsupported, known, fmt.Sprintf("version %d", r.Version))
	return r
}

// productLine is what the certificate says, or the report where there is no certificate; empty when neither does.
func productLine(r *snp.Report, chip *snp.ChipCertificate) snp.ProductLine {
	if chip != nil {
		return chip.Line
	}
	line, err := r.CPUID.ProductLine()
	if err != nil {
		return ""
	}
	return line
}
