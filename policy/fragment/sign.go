// SPDX-License-Identifier: Apache-2.0

package fragment

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"io"
	"time"

	"cofferdam.dev/evidence/cose1"
)

// Signer is who signs a fragment, and how. All fields but SVN, At and Claims must be set.
type Signer struct {
	Key       crypto.Signer
	Chain     []*x509.Certificate // leaf first, root last
	Algorithm cose1.Algorithm

	// Issuer is the did:x509 that policies will name; it must resolve over the chain.
	Issuer string
	Feed   string

	// At is the time of signing, which the header then names. The chain must be valid at it. Zero names none.
	At time.Time

	// Claims writes issuer and feed as CWT claims, which can carry the SVN, in place of the older text keys, which all
	// enforcers read and which have no place for it.
	Claims bool
	SVN    *int64
}

// Sign signs a fragment's text. What it returns has been verified as Open does.
func (s *Signer) Sign(random io.Reader, text []byte) ([]byte, error) {
	h := cose1.Header{
		Algorithm: s.Algorithm, ContentType: ContentType, Chain: s.Chain, Issuer: s.Issuer, Feed: s.Feed,
		IssuedAt: s.At, Form: cose1.FormText,
	}
	if s.Claims {
		h.Form, h.SVN = cose1.FormClaims, s.SVN
	}
	_, err := Describe(text)
	if err != nil {
		return nil, fmt.Errorf("signing fragment: %w", err)
	}
	message, err := cose1.Sign(random, s.Key, h, text)
	if err != nil {
		return nil, fmt.Errorf("signing fragment: %w", err)
	}
	_, err = Open(message)
	if err != nil {
		return nil, fmt.Errorf("signing fragment: %w", err)
	}
	return message, nil
}
