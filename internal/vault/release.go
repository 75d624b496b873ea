// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/vault/authority"
	"cofferdam.dev/internal/vault/releasepolicy"
	"cofferdam.dev/internal/vault/wrap"
)

// ReleaseRequest asks for a key or secret to be released.
type ReleaseRequest struct {
	Name string
	// Version is empty for the current one.
	Version string
	// Target is the token that says what the guest is.
	Target string
	// Enc is how the key is wrapped to the guest's key; empty is CKM_RSA_AES_KEY_WRAP.
	Enc wrap.Enc
	// Wrap takes the place of Enc for protocols that wrap in another way. It gets what the token says and the secret, which
	// it must not keep, after the policy was found to be satisfied.
	Wrap func(st *authority.Statement, secret []byte) ([]byte, error)
}

// Released is a key or secret that was released.
type Released struct {
	// ID is that of the decision, for Explain.
	ID string
	// Key or Secret is what was released, without its material.
	Key    *Key
	Secret *Secret
	// Wrapped is the material, wrapped to the guest's key. A key is wrapped as PKCS#8 in DER, or the bytes of an oct key.
	Wrapped []byte
	Enc     wrap.Enc
	// Recipient is the kid of the guest's key.
	Recipient string
	// Simulated says that the guest runs on a simulated secure processor.
	Simulated bool
	Receipt   audit.Receipt
}

// errDenied is all that a caller gets to know of a denial.
const errDenied = "Target environment attestation statement cannot be verified."

// Release releases a key. A denial is an *Error with the code Denied that has the decision's ID and no reasons.
func (v *Vault) Release(ctx context.Context, r ReleaseRequest) (*Released, error) {
	return v.release(ctx, keys, r)
}

// ReleaseSecret is Release for a secret.
func (v *Vault) ReleaseSecret(ctx context.Context, r ReleaseRequest) (*Released, error) {
	return v.release(ctx, secrets, r)
}

func (v *Vault) release(ctx context.Context, c class, r ReleaseRequest) (*Released, error) {
	if r.Enc == "" {
		r.Enc = wrap.CKMRSAAESKeyWrap
	}
	path := string(c) + "/" + r.Name
	if r.Wrap == nil && !slices.Contains(wrap.Formats(), r.Enc) {
		return nil, v.refused(ctx, string(c)+".release", path, bad("The encryption algorithm (enc) %.100q is not known.", r.Enc))
	}
	// The token comes first: its issuer may be slow to tell its keys, and the object must be read as it is after that, not
	// as it was before somebody disabled it.
	st, tokenErr := v.opts.Authorities.Verify(ctx, r.Target, v.opts.Now())
	o, rec, material, err := v.read(ctx, c, r.Name, r.Version)
	if err != nil {
		return nil, v.refused(ctx, string(c)+".release", path, err)
	}
	defer material.Destroy()
	path = string(c) + "/" + o.head.Name // as it is written, not as it was asked for
	now := v.opts.Now()
	if err := rec.usable(c, o.head.Name, now); err != nil {
		return nil, v.refused(ctx, string(c)+".release", path+"/"+rec.Version, err)
	}
	d := &Decision{Time: now.UTC(), Object: path, Version: rec.Version, Enc: r.Enc}
	if r.Wrap != nil {
		d.Enc = ""
	}
	if errors.Is(tokenErr, authority.ErrUnavailable) {
		return nil, fmt.Errorf("releasing %s: %w", path, tokenErr)
	}
	wrapped, err := d.decide(o, rec, material, r, st, tokenErr)
	if err != nil {
		return nil, err
	}
	defer func() { clear(wrapped) }()
	if err := v.conclude(ctx, c, d); err != nil {
		return nil, err
	}
	if !d.Allowed {
		return nil, &Error{Code: Denied, Message: errDenied, Release: d.ID}
	}
	out := &Released{
		ID: d.ID, Wrapped: slices.Clone(wrapped), Enc: d.Enc, Recipient: d.Recipient, Simulated: d.Simulated, Receipt: d.Receipt,
	}
	if c == keys {
		out.Key, err = newKey(o, rec)
	} else {
		out.Secret = newSecret(o, rec)
	}
	return out, err
}

// decide fills in the decision, and returns the wrapped material when it is a release. An error means that nothing could be
// decided.
func (d *Decision) decide(o *object, rec record, material *seal.Secret, r ReleaseRequest, st *authority.Statement, tokenErr error) ([]byte, error) {
	sum := sha256.Sum256([]byte(r.Target))
	d.Token = hex.EncodeToString(sum[:])
	if !rec.Attributes.Exportable || o.head.Policy == nil {
		d.deny(ReasonNotExportable, "the version is not exportable, or there is no release policy")
		return nil, nil
	}
	d.Policy = o.head.Policy.Data
	if tokenErr != nil {
		d.deny(ReasonToken, tokenErr.Error())
		return nil, nil
	}
	d.Issuer, d.TokenID, d.Simulated = st.Issuer, st.ID, st.Simulated
	policy, err := releasepolicy.Parse(o.head.Policy.Data)
	if err != nil {
		return nil, fmt.Errorf("releasing %s: %w", d.Object, err)
	}
	d.Outcome = policy.Evaluate(st.Issuer, st.Claims)
	if !d.Outcome.Satisfied {
		d.deny(ReasonPolicy, describe(d.Outcome))
		return nil, nil
	}
	wrapped, err := d.wrap(st, material, r)
	if err != nil {
		d.deny(ReasonWrappingKey, err.Error())
		return nil, nil
	}
	d.Allowed = true
	return wrapped, nil
}

func (d *Decision) wrap(st *authority.Statement, material *seal.Secret, r ReleaseRequest) ([]byte, error) {
	if r.Wrap != nil {
		return r.Wrap(st, material.Expose())
	}
	to, err := wrap.Select(st.WrappingKeys(), r.Enc)
	if err != nil {
		return nil, err
	}
	d.Recipient = to.KeyID
	return wrap.Seal(r.Enc, to.Public, material.Expose())
}

// conclude records a decision: in the audit log first, then where Explain finds it. Without either nothing is released.
func (v *Vault) conclude(ctx context.Context, c class, d *Decision) error {
	d.ID = newDecisionID(d.Time)
	var err error
	d.Receipt, err = v.Record(ctx, string(c)+".release", d.Object+"/"+d.Version, d.Allowed, d.summary())
	if err != nil {
		return fmt.Errorf("recording the release %s: %w", d.ID, err)
	}
	return v.keepDecision(ctx, d)
}
