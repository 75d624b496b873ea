// SPDX-License-Identifier: Apache-2.0

// Package verify appraises attestation evidence: it takes a document, the trust anchors and reference values of whoever
// relies on it, and a time, and returns a verdict that lists every check with what was expected and what was found.
//
// It trusts its Options and the roots of AMD that are embedded in it, and nothing else. Evidence is hostile: it never
// chooses the root or the trust domain by which it is judged, and certificates that come with it are used only once a
// configured root vouches for them. Options deny by default: an empty list of measurements, host data or roots, a product
// line without a TCB floor, a missing nonce or time refuse, and the zero Options refuse everything.
//
// A verdict is accepted, refused, or undecided. Refused means that a check found something wrong. Undecided means that
// nothing wrong was found but something needed was missing or out of date, such as a certificate. Neither grants
// anything.
//
// The package never touches the network, the clock, or a file, and never panics on input.
package verify

import (
	"context"
	"time"

	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/verify/check"
)

// Options are the appraisal policy of a relying party. The zero value refuses everything.
type Options struct {
	// Roots are the trust anchors, such as those of AMDRoots. Empty refuses.
	Roots []Root
	// AllowSimulated admits roots of the simulated domain. Without it they are as good as absent.
	AllowSimulated bool
	// Now is the time at which certificates must be valid. Zero refuses.
	Now time.Time

	// Measurements are the launch digests that are trusted, 48 bytes each. Empty refuses.
	Measurements [][]byte
	// HostData are the host data that are trusted: SHA-256 of a policy's text each. Empty refuses.
	HostData [][32]byte

	// Source is on whose behalf the report must have been made. A secret must be released to SourceWorkload only.
	Source evidence.Source
	// Nonce is what this relying party sent, at least evidence.MinNonceSize bytes.
	Nonce []byte
	// RuntimeData, when not nil, is what the report must be bound to. When nil, the report must be bound to whatever data
	// the evidence holds, which the relying party then reads from there.
	RuntimeData []byte
	// ReportData are report data of another form than evidence.ReportData makes, 64 bytes each. When it is given, Source
	// and Nonce may be left out.
	ReportData [][]byte

	// MinimumTCB has the lowest TCB that a report may state and that the guest may have been launched with, per product
	// line. A line that is absent is refused.
	MinimumTCB map[snp.ProductLine]snp.TCBParts
	// AllowProvisionalTCB admits machines that run firmware which is not committed, and so could still go back.
	AllowProvisionalTCB bool
	// MaxVMPL is the least privileged level that may have asked for the report. Zero admits level 0 alone.
	MaxVMPL uint32
	// AllowDebug admits guests whose memory the host may decrypt.
	AllowDebug bool
	// AllowMigrationAgent admits guests that may be associated with a migration agent.
	AllowMigrationAgent bool
	// AllowVLEK admits reports that a cloud provider's key signed. Such a report need not name a chip.
	AllowVLEK bool
	// RequirePlatform and ForbidPlatform are bits that must and must not be set in the platform information.
	RequirePlatform, ForbidPlatform snp.PlatformInfo
}

// DefaultMinimumTCB returns floors that exclude firmware with publicly known ways to forge or bend reports: SNP firmware
// of AMD-SB-3019 or later on Milan and Genoa. Turin has no such bulletin yet.
func DefaultMinimumTCB() map[snp.ProductLine]snp.TCBParts {
	return map[snp.ProductLine]snp.TCBParts{
		snp.Milan: {SNP: 0x18},
		snp.Genoa: {SNP: 0x17},
		snp.Turin: {},
	}
}

// Appraise judges evidence. It always returns a verdict, also when ctx has ended or the document is nil.
func Appraise(ctx context.Context, doc *evidence.Document, opts Options) *Verdict {
	a := &appraisal{opts: &opts, v: &Verdict{Schema: Schema, Time: opts.Now.UTC()}}
	switch {
	case ctx.Err() != nil:
		a.Undecided(check.Format, check.CodeCancelled, "time to appraise", ctx.Err().Error())
	case doc == nil:
		a.Fail(check.Format, check.CodeEvidenceMissing, "a document", "none")
	case doc.Validate() != nil:
		a.Fail(check.Format, check.CodeEvidenceMalformed, "a document within its limits", doc.Validate().Error())
	case doc.Type != evidence.TypeSEVSNP:
		a.Fail(check.Format, check.CodeTypeUnsupported, evidence.TypeSEVSNP, doc.Type)
	default:
		a.snp(doc)
	}
	a.v.Checks = a.Checks()
	a.v.conclude()
	return a.v
}

// appraisal is one run of Appraise.
type appraisal struct {
	check.Record

	opts *Options
	v    *Verdict
}
