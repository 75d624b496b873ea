// SPDX-License-Identifier: Apache-2.0

package cose1

import (
	"fmt"
	"slices"

	"cofferdam.dev/internal/cbor"
)

// Labels of a hash envelope (draft-ietf-cose-hash-envelope, 4).
const (
	labelPayloadHash  = 258
	labelPreimageType = 259
)

// Hashes of a hash envelope, by their COSE numbers (RFC 9054, 2.1).
const (
	HashSHA256 = -16
	HashSHA384 = -43
	HashSHA512 = -44
)

// Envelope says that a message's payload stands for something else: it is that thing's hash.
type Envelope struct {
	// Hash is the hash algorithm's COSE number.
	Hash int64
	// PreimageType is the content type of what was hashed; empty for none, or one that is a number.
	PreimageType string
}

// HashEnvelope returns what the protected header says about the payload being a hash, and nil when it says nothing.
func (m *Message) HashEnvelope() (*Envelope, error) {
	h, err := cbor.Decode(m.protected)
	if err != nil {
		return nil, fmt.Errorf("reading hash envelope: %w", err)
	}
	hash, ok := h.Lookup(labelPayloadHash)
	kind, hasKind := h.Lookup(labelPreimageType)
	switch {
	case !ok && !hasKind:
		return nil, nil
	case hash.Kind != cbor.Int:
		return nil, fmt.Errorf("reading hash envelope: hash algorithm is %s, want an integer", hash.Kind)
	case hasKind && kind.Kind != cbor.Text && kind.Kind != cbor.Int:
		return nil, fmt.Errorf("reading hash envelope: preimage's content type is %s, want a text or a number", kind.Kind)
	}
	return &Envelope{Hash: hash.Int, PreimageType: kind.Text}, nil
}

// Critical returns the labels that the signer wants understood and that this package does not make sense of. A caller
// that knows none of them must refuse the message; Verify does.
func (m *Message) Critical() []string { return slices.Clone(m.critical) }
