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
	"strings"
	"time"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/dcap"
	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/azure"
	"cofferdam.dev/verify/check"
	"cofferdam.dev/verify/intel"
	"cofferdam.dev/verify/uvm"
)

// Options are the appraisal policy of a relying party. The zero value refuses everything.
type Options struct {
	// Roots are the trust anchors, such as those of anchor.AMDRoots. Empty refuses.
	Roots []anchor.Root
	// AllowSimulated admits roots of the simulated domain. Without it they are as good as absent.
	AllowSimulated bool
	// Now is the time at which certificates must be valid. Zero refuses.
	Now time.Time

	// Measurements are the launch measurements that are trusted: launch digests (48 bytes), MRTD (48) or MRENCLAVE (32).
	// Empty refuses, unless UVM or the signers of Intel.SGX say what is trusted instead. Azure's VMs are launched as
	// paravisors, whose measurements and lack of host data are a matter of Azure.
	Measurements [][]byte
	// HostData are the host data that are trusted: SHA-256 of a policy's text each. In a longer field (MRCONFIGID,
	// CONFIGID) zeros must follow. Empty refuses: a guest without host data is admitted by a value of zeros.
	HostData [][32]byte

	// Source is on whose behalf the report must have been made. A secret must be released to SourceWorkload only.
	Source evidence.Source
	// Nonce is what this relying party sent, at least evidence.MinNonceSize bytes.
	Nonce []byte
	// RuntimeData, when not nil, is what the report must be bound to. When nil, the report must be bound to whatever data
	// the evidence holds, which the relying party then reads from there.
	RuntimeData []byte
	// ReportData are report data of another form than evidence.ReportData makes, 64 bytes each; for an Azure VM what its TPM
	// was asked to sign in another form than evidence.QualifyingData makes, such as a bare nonce. When it is given, Source
	// and Nonce may be left out.
	ReportData [][]byte

	// Collateral has certificates and revocation lists that did not come with the evidence. It may be nil. What came with
	// the evidence is used when this source does not have it.
	Collateral collateral.Source

	// SNP is what is asked of AMD's machines, firmware and launch.
	SNP amd.Policy
	// Intel is what is asked of Intel's machines, and of trust domains and enclaves on them. Where it has no trusted values
	// for MRCONFIGID or CONFIGID, HostData has.
	Intel intel.Policy
	// Azure is what is asked of Azure's VMs besides what SNP or Intel ask.
	Azure azure.Policy
	// UVM are the publishers whose endorsements count for measurements of SNP guests that are not listed. Zero admits none.
	UVM uvm.Policy
}

// Appraise judges evidence. It always returns a verdict, also when ctx has ended or the document is nil.
func Appraise(ctx context.Context, doc *evidence.Document, opts Options) *Verdict {
	return (&Verifier{}).Appraise(ctx, doc, opts)
}

// Verifier appraises like Appraise and remembers verified signatures, so that judging a machine that was seen before costs
// one signature instead of three. It remembers no decision: roots, revocation lists, policy and time are judged anew each
// time. It is safe for concurrent use. The zero Verifier remembers nothing.
type Verifier struct {
	cache  *anchor.Cache
	quotes *intel.Cache
}

// NewVerifier returns a verifier that remembers at most size certificates and signatures.
func NewVerifier(size int) *Verifier {
	c := anchor.NewCache(size)
	return &Verifier{cache: c, quotes: intel.NewCache(c)}
}

// Forget drops everything that is remembered. A verdict never depends on it.
func (f *Verifier) Forget() {
	f.cache.Forget()
	f.quotes.Forget()
}

// Appraise judges evidence. It always returns a verdict, also when ctx has ended or the document is nil.
func (f *Verifier) Appraise(ctx context.Context, doc *evidence.Document, opts Options) *Verdict {
	a := &appraisal{Record: &check.Record{}, opts: &opts, f: f, v: &Verdict{Schema: Schema, Time: opts.Now.UTC()}}
	switch {
	case ctx.Err() != nil:
		a.Undecided(check.Format, check.CodeCancelled, "time to appraise", ctx.Err().Error())
	case doc == nil:
		a.Fail(check.Format, check.CodeEvidenceMissing, "a document", "none")
	case doc.Validate() != nil:
		a.Fail(check.Format, check.CodeEvidenceMalformed, "a document within its limits", doc.Validate().Error())
	default:
		a.v.Type = doc.Type
		a.dispatch(ctx, doc)
	}
	a.v.Checks = a.Checks()
	a.v.conclude(a.mandatory)
	return a.v
}

// appraisal is one run of Appraise.
type appraisal struct {
	*check.Record

	opts *Options
	f    *Verifier
	v    *Verdict
	// mandatory are the checks without which nothing is accepted.
	mandatory []check.Name
}

// subject is what every kind of evidence says about a guest, in terms that they share.
type subject struct {
	measurement, hostData, reportData []byte
	// endorsable says that publishers' endorsements are about such measurements.
	endorsable bool
	// judged says that the appraiser compared measurement and host data itself.
	judged bool
	// identified says that something else than the measurement says what the guest is, and is pinned.
	identified bool
}

// shared are the checks of this package without which nothing is accepted, whatever the evidence is.
var shared = []check.Name{check.Measurement, check.HostData, check.ReportData}

// dispatch has the appraiser of the evidence's kind judge it, and compares what it says about the guest.
func (a *appraisal) dispatch(ctx context.Context, doc *evidence.Document) {
	var s *subject
	switch doc.Type {
	case evidence.TypeSEVSNP:
		s = a.snp(ctx, doc)
	case evidence.TypeTDX:
		s = a.quote(ctx, doc, dcap.TEETDX)
	case evidence.TypeSGX:
		s = a.quote(ctx, doc, dcap.TEESGX)
	case evidence.TypeAzureVTPM:
		s = a.azure(ctx, doc)
	default:
		a.Fail(check.Format, check.CodeTypeUnsupported, strings.Join([]string{
			evidence.TypeSEVSNP, evidence.TypeTDX, evidence.TypeSGX, evidence.TypeAzureVTPM,
		}, ", "), doc.Type)
		return
	}
	a.unused(doc)
	a.mandatory = append(a.mandatory, shared...)
	if s == nil {
		return // the format check says why
	}
	a.references(ctx, s, doc)
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
