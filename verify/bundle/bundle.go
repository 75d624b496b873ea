// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"time"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/appraisal"
)

// Schema is the schema of every payload.
const Schema = "cofferdam.dev/evidence-bundle/v1"

// Bundle is an appraisal with everything that it was made of. Byte strings must not be changed.
type Bundle struct {
	// Document is the evidence.
	Document *evidence.Document
	// Time is the time of appraisal.
	Time time.Time
	// Nonce, RuntimeData and ReportData are what the relying party expected, as in appraisal.Request.
	Nonce, RuntimeData []byte
	ReportData         [][]byte
	// Collateral is what was used and did not come with the evidence.
	Collateral collateral.Embedded
	// Policy is the appraisal policy, its files resolved.
	Policy *appraisal.Policy
	// Verdict is what the appraisal came to.
	Verdict *verify.Verdict
	// Signer is the ID of the key that signed, or empty. It is only what the bundle says when no key was there to verify
	// it with.
	Signer string
}

// Make appraises evidence and returns the appraisal as a bundle, which is not signed yet.
func Make(ctx context.Context, a *appraisal.Appraiser, doc *evidence.Document, r appraisal.Request) (*Bundle, error) {
	if doc == nil {
		return nil, errors.New("making a bundle: there is no evidence")
	}
	r.Now = r.Now.UTC().Truncate(time.Second) // what the bundle can say
	recorder := collateral.Record(r.Collateral)
	r.Collateral = recorder
	v := a.Appraise(ctx, doc, r)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("making a bundle: %w", err)
	}
	return &Bundle{
		Document: doc, Time: r.Now, Nonce: r.Nonce, RuntimeData: r.RuntimeData, ReportData: r.ReportData,
		Collateral: recorder.Used(), Policy: a.Policy(), Verdict: v,
	}, nil
}

// Sign returns the bundle as a file that the key, on P-256, signed.
func (b *Bundle) Sign(key *ecdsa.PrivateKey) ([]byte, error) {
	if key == nil || key.Curve == nil {
		return nil, errors.New("signing a bundle: there is no key")
	}
	payload, err := b.payload()
	if err != nil {
		return nil, err
	}
	return seal(payload, key)
}

// MarshalUnsigned returns the bundle as a file that nobody vouches for: whoever has it can change policy, time and
// verdict.
func (b *Bundle) MarshalUnsigned() ([]byte, error) {
	payload, err := b.payload()
	if err != nil {
		return nil, err
	}
	return seal(payload, nil)
}

// Open reads a bundle that one of the keys signed. Every changed byte is an error.
func Open(data []byte, keys ...*ecdsa.PublicKey) (*Bundle, error) {
	payload, sig, err := unwrap(data)
	if err == nil && sig == nil {
		err = ErrUnsigned
	}
	if err == nil {
		err = sig.verify(payload, keys)
	}
	var b *Bundle
	if err == nil {
		b, err = parse(payload)
	}
	if err != nil {
		return nil, fmt.Errorf("opening a bundle: %w", err)
	}
	b.Signer = sig.KeyID
	return b, nil
}

// OpenInsecure reads a bundle without verifying who signed it, if anybody did. The evidence in it is as good as any; the
// policy, the time and the recorded verdict are those of whoever had the file last.
func OpenInsecure(data []byte) (*Bundle, error) {
	payload, sig, err := unwrap(data)
	var b *Bundle
	if err == nil {
		b, err = parse(payload)
	}
	if err != nil {
		return nil, fmt.Errorf("opening a bundle: %w", err)
	}
	if sig != nil {
		b.Signer = sig.KeyID
	}
	return b, nil
}

// Options say how a bundle is appraised again. The zero value asks for the recorded appraisal.
type Options struct {
	// At is the time of appraisal. Zero is the recorded one.
	At time.Time
	// Appraiser judges. Nil judges by the recorded policy.
	Appraiser *appraisal.Appraiser
	// SimulatedRoots are known simulated roots, as in appraisal.Request: a bundle brings none.
	SimulatedRoots []anchor.Root
}

// Reverify appraises again, with nothing but the bundle and the options, and says how the verdict differs from the
// recorded one.
func (b *Bundle) Reverify(ctx context.Context, o Options) (*verify.Verdict, appraisal.Change, error) {
	a := o.Appraiser
	if a == nil {
		var err error
		if a, err = appraisal.New(ctx, b.Policy, nil); err != nil {
			return nil, appraisal.Change{}, fmt.Errorf("appraising a bundle again: %w", err)
		}
	}
	at := o.At
	if at.IsZero() {
		at = b.Time
	}
	v := a.Appraise(ctx, b.Document, appraisal.Request{
		Now: at, Nonce: b.Nonce, RuntimeData: b.RuntimeData, ReportData: b.ReportData, SimulatedRoots: o.SimulatedRoots,
		Collateral: b.Collateral,
	})
	if err := ctx.Err(); err != nil {
		return nil, appraisal.Change{}, fmt.Errorf("appraising a bundle again: %w", err)
	}
	return v, appraisal.Compare(b.Verdict, v), nil
}
