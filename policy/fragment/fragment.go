// SPDX-License-Identifier: Apache-2.0

// Package fragment is the signed policy fragment: a piece of Rego that adds containers to a policy which names the
// piece's signer, its feed and the oldest security version that it takes. A policy may besides want that ledgers have
// recorded the fragment; whose keys those ledgers have is in signed trust lists, which the package reads as well.
//
// Open answers who signed a message and what it says, nothing more: the signature verifies with the leaf's key of the
// chain that the message carries, and the issuer that it names (did:x509) resolves over that chain. Whoever has a key
// can make such a message. Whether its issuer, feed and version are accepted is for the policy in force, and until that
// has said yes nothing of the text may be evaluated; the package itself never evaluates it. It has no clock: a host
// could set it. A chain is held against the time at which the signer says to have signed.
package fragment

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"cofferdam.dev/evidence/cose1"
	"cofferdam.dev/policy"
)

// MaxSize bounds a signed fragment.
const MaxSize = policy.MaxTextSize + 256<<10

// ContentType is the media type that a fragment's text is signed as.
const ContentType = "application/unknown+rego"

// The media types of a signed fragment in an OCI registry.
const (
	ArtifactType = "application/x-ms-ccepolicy-frag"
	MediaType    = "application/cose-x509+rego"
)

// Signed is a fragment whose signature and issuer were verified.
type Signed struct {
	Issuer string // did:x509:…, resolved over the chain that the message carries
	Feed   string
	SVN    *int64 // of the signed header; nil where it has none

	// Text is the Rego, unevaluated.
	Text []byte

	// SignedAt is when the signer says to have signed; zero where it does not say. The chain was valid then.
	SignedAt  time.Time
	Algorithm cose1.Algorithm

	// Receipts are those of transparency ledgers, as they came with the message and not verified: see Ledgers.
	Receipts [][]byte

	// SHA256 is the hash of the whole message.
	SHA256 [32]byte

	message []byte
}

// Open verifies a signed fragment.
func Open(message []byte) (*Signed, error) {
	if len(message) > MaxSize {
		return nil, fmt.Errorf("opening fragment: it has %d bytes, at most %d are allowed", len(message), MaxSize)
	}
	m, err := cose1.Parse(message)
	if err != nil {
		return nil, fmt.Errorf("opening fragment: %w", err)
	}
	err = acceptable(m)
	if err != nil {
		return nil, fmt.Errorf("opening fragment: %w", err)
	}
	err = m.Verify()
	if err != nil {
		return nil, fmt.Errorf("opening fragment: %w", err)
	}
	h := m.Header
	return &Signed{
		Issuer: h.Issuer, Feed: h.Feed, SVN: h.SVN, Text: m.Payload, SignedAt: h.IssuedAt, Algorithm: h.Algorithm,
		Receipts: m.Receipts, SHA256: sha256.Sum256(message), message: message,
	}, nil
}

// acceptable refuses what a signer signed as something else than a fragment.
func acceptable(m *cose1.Message) error {
	switch {
	case !strings.HasSuffix(m.Header.ContentType, "+rego"):
		return fmt.Errorf("it was signed as %q, want %q", m.Header.ContentType, ContentType)
	case m.Header.Feed == "":
		return errors.New("its signed header names no feed")
	case len(m.Payload) == 0 || len(m.Payload) > policy.MaxTextSize:
		return fmt.Errorf("its text has %d bytes, want 1 to %d", len(m.Payload), policy.MaxTextSize)
	}
	return nil
}
