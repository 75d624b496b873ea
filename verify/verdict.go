// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"slices"
	"time"

	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

// Schema is the schema of every verdict.
const Schema = "cofferdam.dev/verdict/v1"

// Outcome is what a verdict comes to. Its zero value is none of the outcomes and accepts nothing.
type Outcome string

// The outcomes.
const (
	// Accepted means that every check was made and passed.
	Accepted Outcome = "accepted"
	// Refused means that at least one check failed.
	Refused Outcome = "refused"
	// Undecided means that no check failed, but at least one could not be made.
	Undecided Outcome = "undecided"
)

// Verdict is the result of an appraisal.
type Verdict struct {
	// Schema is the constant of that name.
	Schema string `json:"schema"`
	// Type is the type of the evidence, as the document states it.
	Type string `json:"type,omitempty"`
	// Outcome is the result of all checks together.
	Outcome Outcome `json:"outcome"`
	// Simulated is true when the chain ends in a simulated root, and also when nothing vouches for a chain that says of
	// itself that it is simulated: then the verdict says nothing about hardware.
	Simulated bool `json:"simulated"`
	// Domain is the trust domain of the root in which the chain ends, or empty.
	Domain anchor.Domain `json:"domain,omitempty"`
	// Time is the time that was used.
	Time time.Time `json:"time"`
	// ValidFrom and ValidUntil bound the times, both included, at which certificates, revocation lists, statements about the
	// TCB and endorsements would have been judged alike. They are zero when there is no chain.
	ValidFrom  time.Time `json:"validFrom,omitzero"`
	ValidUntil time.Time `json:"validUntil,omitzero"`
	// Checks are all checks that were made, in the order of the chain.
	Checks []check.Check `json:"checks"`
	// Chain are the certificates from the root to the chip key, as far as they could be linked.
	Chain []anchor.Link `json:"chain,omitempty"`
	// Report is what an SNP report says, Quote what a quote of a trust domain or an enclave says, VM what the paravisor of
	// an Azure VM says, and Endorsement what the endorsement says by which the measurement was judged. They are only
	// claims unless Outcome is Accepted.
	Report      *ReportClaims      `json:"report,omitempty"`
	Quote       *QuoteClaims       `json:"quote,omitempty"`
	VM          *VMClaims          `json:"vm,omitempty"`
	Endorsement *EndorsementClaims `json:"endorsement,omitempty"`
}

// Accepted reports whether the outcome is Accepted.
func (v *Verdict) Accepted() bool { return v != nil && v.Outcome == Accepted }

// Failures returns the checks that did not pass, failed ones first.
func (v *Verdict) Failures() []check.Check {
	var failed, open []check.Check
	for _, c := range v.Checks {
		switch c.Result {
		case check.Pass:
		case check.NotDecided:
			open = append(open, c)
		default:
			failed = append(failed, c)
		}
	}
	return append(failed, open...)
}

// conclude sets the outcome from the checks.
func (v *Verdict) conclude(mandatory []check.Name) { v.Outcome = Conclude(v.Checks, mandatory) }

// Conclude returns what checks come to: refused when one failed or has no result, undecided when one could not be made,
// and accepted when all passed and every mandatory one was made. Without mandatory checks nothing is accepted.
func Conclude(checks []check.Check, mandatory []check.Name) Outcome {
	open := false
	passed := map[check.Name]bool{}
	for _, c := range checks {
		switch c.Result {
		case check.Pass:
			passed[c.Name] = true
		case check.NotDecided:
			open = true
		default:
			return Refused
		}
	}
	complete := len(mandatory) > 0 && !slices.ContainsFunc(mandatory, func(n check.Name) bool { return !passed[n] })
	switch {
	case open:
		return Undecided
	case complete:
		return Accepted
	}
	return Refused
}
