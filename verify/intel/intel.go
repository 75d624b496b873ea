// SPDX-License-Identifier: Apache-2.0

// Package intel appraises the quotes of Intel's data center attestation: those of SGX enclaves (version 3) and of TDX
// trust domains (versions 4 and 5). It judges whether a quote was made by Intel's quoting enclave on a machine that a
// configured root vouches for, what Intel says about that machine's TCB, and how the guest was launched. What the guest is
// (its measurement, its host data, its report data) it hands on for the caller to compare; package verify does.
//
// It trusts the roots of its Input, and its Policy. Everything else is hostile: the quote, the certificates inside of it,
// and whatever a source of collateral returns is used only once a root vouches for it. All of Intel's collateral is
// mandatory: TCB info, the identity of the quoting enclave and both revocation lists. Without the identity, anybody with
// one Intel machine could certify an enclave of his own as a quoting enclave. The zero Policy admits nothing.
//
// The package never touches the network, the clock or a file, and never panics on input.
package intel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence/dcap"
	"cofferdam.dev/evidence/pcs"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

// Input is what an appraisal is made of.
type Input struct {
	// TEE is what the quote must be about. A quote of the other kind is refused.
	TEE dcap.TEEType
	// Quote is the quote, with the zero bytes that may follow it.
	Quote []byte
	// Certificates are those that came beside the quote, in DER. A quote has its own inside, so that each of these must be
	// one of them, or the root.
	Certificates [][]byte
	// EventLog is the log of measured events (CCEL) of a trust domain, or empty.
	EventLog []byte
	// Now is the time at which everything must be valid. Zero refuses.
	Now time.Time
	// Roots are the trust anchors. Those of other domains are passed over.
	Roots []anchor.Root
	// AllowSimulated admits roots of the simulated domain.
	AllowSimulated bool
	// Collateral has what Intel publishes. When it is nil, nothing is at hand and the verdict is left open.
	Collateral collateral.Source
	// Cache remembers from one appraisal to the next what was parsed and verified. It may be nil.
	Cache *Cache
}

// Result is what an appraisal established. It is worth something only when all checks passed.
type Result struct {
	// Quote is the parsed quote, or nil when there is none.
	Quote *dcap.Quote
	// PCK is what the certificate of the machine says about it, or nil when there is none.
	PCK *dcap.PCK
	// Domain is the trust domain of the root in which the chain ends, or empty.
	Domain anchor.Domain
	// Simulated is true when the chain ends in a simulated root.
	Simulated bool
	// From and Until bound the times at which certificates, revocation lists, TCB info and identity are judged alike. They
	// are zero without a chain.
	From, Until time.Time
	// Chain are the certificates from the root to the machine's key, as far as they could be linked.
	Chain []anchor.Link
	// Measurement is the launch measurement: MRTD (48 bytes) or MRENCLAVE (32 bytes).
	Measurement []byte
	// HostData is what the host fixed at launch: MRCONFIGID (48 bytes) or CONFIGID (64 bytes).
	HostData []byte
	// ReportData is what the guest asked to have signed.
	ReportData [64]byte
	// TCB is what Intel says about the machine.
	TCB TCB
}

// TCB is what Intel's documents say about machine, quoting enclave and TDX module. Parts that could not be determined are
// nil.
type TCB struct {
	// Status is the status of all parts together, the worst counting, or empty when a part could not be determined.
	Status pcs.Status
	// Platform, QE and Module are the levels that the parts reach.
	Platform, QE, Module *pcs.Verdict
	// CurrentPlatform and CurrentModule are those of the TDX module that runs now, when it was updated under the guest.
	CurrentPlatform, CurrentModule *pcs.Verdict
	// Advisories are the identifiers of all security advisories of these levels, sorted.
	Advisories []string
	// EvaluationNumber is the lower of the tcbEvaluationDataNumbers of TCB info and QE identity.
	EvaluationNumber uint32
}

// Mandatory returns the checks without which no quote of that kind is accepted.
func Mandatory(tee dcap.TEEType) []check.Name {
	switch tee {
	case dcap.TEETDX:
		return slices.Concat(mandatory, mandatoryTDX)
	case dcap.TEESGX:
		return slices.Concat(mandatory, mandatorySGX)
	}
	return check.Names()
}

var mandatory = []check.Name{
	check.Time, check.Format, check.TEE, check.Certification, check.ChipCertificate, check.TrustAnchor, check.Chain,
	check.Profile, check.Validity, check.QEReport, check.AttestationKey, check.Signature, check.RootCRL, check.PCKCRL,
	check.Revocation, check.TCBInfo, check.QEIdentity, check.CollateralAge, check.TCBEvaluation, check.PlatformModel,
	check.PlatformID, check.QuotingEnclave, check.TCBLevel, check.TCBStatus, check.Advisories, check.Debug,
}

var mandatoryTDX = []check.Name{
	check.TDXModule, check.TDAttributes, check.Migration, check.XFAM, check.TDConfiguration, check.ServiceTD,
	check.RuntimeRegisters, check.EventLog,
}

var mandatorySGX = []check.Name{check.EnclaveAttributes, check.EnclaveSigner, check.EnclaveConfiguration}

// appraisal is one run of Appraise.
type appraisal struct {
	*check.Record

	in    *Input
	p     *Policy
	res   *Result
	roots []anchor.Root
}

// Appraise judges a quote and records every check. Checks of the content are made even when the chain fails, so that a
// verdict names everything that is wrong at once.
func Appraise(ctx context.Context, rec *check.Record, in Input, p Policy) Result {
	a := &appraisal{Record: rec, in: &in, p: &p, res: &Result{}}
	a.Require(!in.Now.IsZero(), check.Time, check.CodeTimeNotSet, "a time", check.Stamp(in.Now))
	q := a.parse()
	if q == nil {
		return *a.res
	}
	a.roots = anchor.Usable(rec, in.Roots, anchor.Intel, in.AllowSimulated)
	a.res.Quote, a.res.ReportData = q, q.ReportData()
	c := a.chain(q)
	a.signatures(q, c)
	s := a.statements(ctx, c)
	a.revocation(c, s)
	a.ages(s)
	a.platform(s)
	qe := a.quotingEnclave(q, s)
	a.tcb(q, s, qe)
	if q.TD != nil {
		a.trustDomain(q.TD)
	} else {
		a.enclave(q.Enclave)
	}
	return *a.res
}

// parse decodes the quote and requires it to be of the kind that was asked for.
func (a *appraisal) parse() *dcap.Quote {
	q, err := dcap.ParseQuote(a.in.Quote)
	var trailing *dcap.TrailingError
	if errors.As(err, &trailing) {
		// What follows is nobody's statement; the rest is judged, so that the verdict names all that is wrong.
		q, err = dcap.ParseQuoteIgnoringTrailing(a.in.Quote)
		if !a.p.AllowTrailingData {
			a.Fail(check.Format, check.CodeTrailingData, "nothing but zeros after the quote", trailing.Error())
		}
	}
	if err != nil {
		a.Fail(check.Format, check.CodeReportMalformed, "a quote of version 3, 4 or 5", err.Error())
		return nil
	}
	a.Pass(check.Format, "a quote", fmt.Sprintf("quote of version %d, %d bytes after it", q.Header.Version, len(q.Trailing)))
	ruled := q.Header.TEE == dcap.TEETDX && a.p.TDX != nil || q.Header.TEE == dcap.TEESGX && a.p.SGX != nil
	expected := a.in.TEE.String() + " with rules for it"
	a.Require(ruled && q.Header.TEE == a.in.TEE, check.TEE, check.CodeTEE, expected, q.Header.TEE.String())
	return q
}

// within narrows the time in which the verdict is the same.
func (a *appraisal) within(from, until time.Time) {
	if a.res.From.IsZero() || from.After(a.res.From) {
		a.res.From = from.UTC()
	}
	if a.res.Until.IsZero() || until.Before(a.res.Until) {
		a.res.Until = until.UTC()
	}
}
