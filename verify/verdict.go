// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"slices"
	"time"
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

// Result is what one check comes to.
type Result string

// The results.
const (
	Pass       Result = "pass"
	Fail       Result = "fail"
	NotDecided Result = "undecided"
)

// Check is one check of an appraisal.
type Check struct {
	// Name says which check it is; it is stable.
	Name CheckName `json:"name"`
	// Code is CodeOK, or says in a stable word why the check did not pass.
	Code Code `json:"code"`
	// Title says in words what the check asks for.
	Title string `json:"title"`
	// Result is what the check came to.
	Result Result `json:"result"`
	// Expected and Actual are the values that were compared.
	Expected string `json:"expected,omitempty"`
	Actual   string `json:"actual,omitempty"`
	// Fix says what to change when the check did not pass.
	Fix string `json:"fix,omitempty"`
}

// Verdict is the result of an appraisal.
type Verdict struct {
	// Schema is the constant of that name.
	Schema string `json:"schema"`
	// Outcome is the result of all checks together.
	Outcome Outcome `json:"outcome"`
	// Simulated is true when the chain ends in a simulated root, and also when nothing vouches for a chain that says of
	// itself that it is simulated: then the verdict says nothing about hardware.
	Simulated bool `json:"simulated"`
	// Domain is the trust domain of the root in which the chain ends, or empty.
	Domain Domain `json:"domain,omitempty"`
	// Time is the time that was used.
	Time time.Time `json:"time"`
	// ValidFrom and ValidUntil bound the times at which the certificates would have been judged alike. They are zero when
	// there is no chain.
	ValidFrom  time.Time `json:"validFrom,omitzero"`
	ValidUntil time.Time `json:"validUntil,omitzero"`
	// Checks are all checks that were made, in the order of the chain.
	Checks []Check `json:"checks"`
	// Chain are the certificates from the root to the chip key, as far as they could be linked.
	Chain []Link `json:"chain,omitempty"`
	// Report is what the report says. It is only a claim unless Outcome is Accepted.
	Report *ReportClaims `json:"report,omitempty"`
}

// Link is one certificate of a chain.
type Link struct {
	// Role is "root", "intermediate" or "chip".
	Role string `json:"role"`
	// Name is the name under which a root was configured.
	Name string `json:"name,omitempty"`
	// Label is the subject's common name and organization.
	Label string `json:"label"`
	// Subject is the certificate's subject.
	Subject string `json:"subject"`
	// SPKI is the SHA-256 of the certificate's public key in hexadecimal.
	SPKI string `json:"spkiSHA256"`
	// NotBefore and NotAfter are the certificate's validity.
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
}

// ReportClaims are the fields of a report that a relying party may want to show or store, byte strings in hexadecimal.
type ReportClaims struct {
	Version      uint32 `json:"version"`
	Product      string `json:"product,omitempty"`
	ChipID       string `json:"chipID"`
	SigningKey   string `json:"signingKey"`
	VMPL         uint32 `json:"vmpl"`
	GuestSVN     uint32 `json:"guestSVN"`
	Policy       string `json:"policy"`
	PlatformInfo string `json:"platformInfo"`
	ReportedTCB  string `json:"reportedTCB"`
	CommittedTCB string `json:"committedTCB"`
	CurrentTCB   string `json:"currentTCB"`
	LaunchTCB    string `json:"launchTCB"`
	Measurement  string `json:"measurement"`
	HostData     string `json:"hostData"`
	ReportData   string `json:"reportData"`
	ReportID     string `json:"reportID"`
	Source       string `json:"source,omitempty"`
	Nonce        string `json:"nonce,omitempty"`
	RuntimeData  []byte `json:"runtimeData,omitempty"`
}

// Accepted reports whether the outcome is Accepted.
func (v *Verdict) Accepted() bool { return v != nil && v.Outcome == Accepted }

// Failures returns the checks that did not pass, failed ones first.
func (v *Verdict) Failures() []Check {
	var failed, open []Check
	for _, c := range v.Checks {
		switch c.Result {
		case Pass:
		case NotDecided:
			open = append(open, c)
		default:
			failed = append(failed, c)
		}
	}
	return append(failed, open...)
}

// mandatory are the checks without which nothing is accepted. They guard against a check that a change forgets to make.
var mandatory = []CheckName{
	CheckTime, CheckFormat, CheckChipCertificate, CheckTrustAnchor, CheckChain, CheckProfile, CheckValidity,
	CheckSigner, CheckChipTCB, CheckChipID, CheckProduct, CheckSignature, CheckVMPL, CheckGuestPolicy, CheckDebug,
	CheckMigration, CheckPlatform, CheckTCBOrder, CheckTCBCommitted, CheckTCBFloor, CheckMeasurement, CheckHostData,
	CheckReportData,
}

// conclude sets the outcome from the checks.
func (v *Verdict) conclude() {
	v.Outcome = Refused
	open := false
	passed := map[CheckName]bool{}
	for _, c := range v.Checks {
		switch c.Result {
		case Pass:
			passed[c.Name] = true
		case NotDecided:
			open = true
		default:
			return
		}
	}
	complete := !slices.ContainsFunc(mandatory, func(n CheckName) bool { return !passed[n] })
	switch {
	case open:
		v.Outcome = Undecided
	case complete:
		v.Outcome = Accepted
	}
}
