// SPDX-License-Identifier: Apache-2.0

// Package verify appraises attestation evidence: it takes a document, the trust anchors and reference values of whoever
// relies on it, and a time, and returns a verdict that lists every check with what was expected and what was found.
//
// It trusts its Options and nothing else; package anchor has the vendors' roots to put there. Evidence is hostile: it never
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

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence"
	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

// Options are the appraisal policy of a relying party. The zero value refuses everything.
type Options struct {
	// Roots are the trust anchors, such as those of anchor.AMDRoots. Empty refuses.
	Roots []anchor.Root
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

	// Collateral has certificates and revocation lists that did not come with the evidence. It may be nil. What came with
	// the evidence is used when this source does not have it.
	Collateral collateral.Source

	// SNP is what is asked of AMD's machines, firmware and launch.
	SNP amd.Policy
}

// Appraise judges evidence. It always returns a verdict, also when ctx has ended or the document is nil.
func Appraise(ctx context.Context, doc *evidence.Document, opts Options) *Verdict {
	return (&Verifier{}).Appraise(ctx, doc, opts)
}

// Verifier appraises like Appraise and remembers verified signatures, so that judging a machine that was seen before costs
// one signature instead of three. It remembers no decision: roots, revocation lists, policy and time are judged anew each
// time. It is safe for concurrent use. The zero Verifier remembers nothing.
type Verifier struct{ cache *anchor.Cache }

// NewVerifier returns a verifier that remembers at most size certificates and signatures.
func NewVerifier(size int) *Verifier { return &Verifier{cache: anchor.NewCache(size)} }

// Forget drops everything that is remembered. A verdict never depends on it.
func (f *Verifier) Forget() { f.cache.Forget() }

// Appraise judges evidence. It always returns a verdict, also when ctx has ended or the document is nil.
func (f *Verifier) Appraise(ctx context.Context, doc *evidence.Document, opts Options) *Verdict {
	a := &appraisal{Record: &check.Record{}, opts: &opts, cache: f.cache, v: &Verdict{Schema: Schema, Time: opts.Now.UTC()}}
	switch {
	case ctx.Err() != nil:
		a.Undecided(check.Format, check.CodeCancelled, "time to appraise", ctx.Err().Error())
	case doc == nil:
		a.Fail(check.Format, check.CodeEvidenceMissing, "a document", "none")
	case doc.Validate() != nil:
		a.Fail(check.Format, check.CodeEvidenceMalformed, "a document within its limits", doc.Validate().Error())
	default:
		a.dispatch(ctx, doc)
	}
	a.v.Checks = a.Checks()
	a.v.conclude(a.mandatory)
	return a.v
}

// appraisal is one run of Appraise.
type appraisal struct {
	*check.Record

	opts  *Options
	cache *anchor.Cache
	v     *Verdict
	// mandatory are the checks without which nothing is accepted.
	mandatory []check.Name
}

// subject is what every kind of evidence says about a guest, in terms that they share.
type subject struct {
	measurement, hostData, reportData []byte
}

// shared are the checks of this package without which nothing is accepted, whatever the evidence is.
var shared = []check.Name{check.Measurement, check.HostData, check.ReportData}

// dispatch has the appraiser of the evidence's kind judge it, and compares what it says about the guest.
func (a *appraisal) dispatch(ctx context.Context, doc *evidence.Document) {
	var s *subject
	switch doc.Type {
	case evidence.TypeSEVSNP:
		s = a.snp(ctx, doc)
	default:
		a.Fail(check.Format, check.CodeTypeUnsupported, evidence.TypeSEVSNP, doc.Type)
		return
	}
	a.mandatory = append(a.mandatory, shared...)
	if s == nil {
		return // the format check says why
	}
	a.references(s, doc)
	a.binding(s, doc)
}

// collateral is the relying party's source, and behind it what came with the evidence.
func (a *appraisal) collateral(doc *evidence.Document) collateral.Source {
	embedded := collateral.Embedded{}
	for name, item := range doc.Collateral {
		embedded[name] = collateral.Item{Body: item.Body, IssuerChain: item.IssuerChain}
	}
	return collateral.Join(a.opts.Collateral, embedded)
}
