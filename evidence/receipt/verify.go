// SPDX-License-Identifier: Apache-2.0

package receipt

import (
	"crypto/subtle"
	"errors"
	"fmt"

	"cofferdam.dev/evidence/cose1"
)

// What can be wrong with a receipt of the right form. Whoever asks for receipts treats all of them as no receipt.
var (
	// ErrUnknownKey says that the receipt was signed with a key that is none of those given.
	ErrUnknownKey = errors.New("the receipt's signing key is none of the trusted keys")
	// ErrOtherStatement says that the receipt is about something else.
	ErrOtherStatement = errors.New("the receipt is about another statement")
	// ErrSignature says that the ledger's signature is over another root than that of the receipt's proof, or is none.
	ErrSignature = errors.New("the ledger's signature is not over the proof's root")
)

// Verify checks that a key of keys signed roots in which every proof of the receipt holds, and that every proof is about
// this statement (COSE_Sign1, with the receipt or without). Whose keys they are is the caller's knowledge: give it those
// of the ledger that the receipt names, and no others.
func (r *Receipt) Verify(statement []byte, keys KeySet) error {
	err := r.verify(statement, keys)
	if err != nil {
		return fmt.Errorf("verifying receipt of %q: %w", r.Ledger, err)
	}
	return nil
}

func (r *Receipt) verify(statement []byte, keys KeySet) error {
	key, ok := keys[r.KeyID]
	if !ok || key == nil {
		return fmt.Errorf("%w: it is %s", ErrUnknownKey, r.KeyID)
	}
	want, err := StatementDigest(statement)
	if err != nil {
		return err
	}
	if len(r.Proofs) == 0 {
		return errors.New("it has no proof")
	}
	for i, p := range r.Proofs {
		if subtle.ConstantTimeCompare(p.Leaf.Claims[:], want[:]) != 1 {
			return fmt.Errorf("%w: proof %d has claims digest %x, the statement %x", ErrOtherStatement, i, p.Leaf.Claims, want)
		}
		root := p.Root()
		err = cose1.VerifyDetached(r.Algorithm, key, r.protected, root[:], r.signature)
		if err != nil {
			return fmt.Errorf("%w: proof %d has root %x: %w", ErrSignature, i, root, err)
		}
	}
	return nil
}
