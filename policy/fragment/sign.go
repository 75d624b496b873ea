// SPDX-License-Identifier: Apache-2.0

package fragment

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"cofferdam.dev/evidence/cose1"
	"cofferdam.dev/evidence/receipt"
	"cofferdam.dev/internal/cbor"
)

// Signer is who signs a fragment or a trust list, and how. All fields but SVN, At and Claims must be set; for a trust
// list, SVN must be, too.
type Signer struct {
	Key       crypto.Signer
	Chain     []*x509.Certificate // leaf first, root last
	Algorithm cose1.Algorithm

	// Issuer is the did:x509 that policies will name; it must resolve over the chain.
	Issuer string
	Feed   string // of a trust list, the subject

	// At is the time of signing, which the header then names. The chain must be valid at it. Zero names none.
	At time.Time

	// Claims writes issuer and feed as CWT claims, which can carry the SVN, in place of the older text keys, which all
	// enforcers read and which have no place for it. A trust list always has claims.
	Claims bool
	SVN    *int64
}

func (s *Signer) header(contentType string, claims bool) cose1.Header {
	h := cose1.Header{
		Algorithm: s.Algorithm, ContentType: contentType, Chain: s.Chain, Issuer: s.Issuer, Feed: s.Feed,
		IssuedAt: s.At, Form: cose1.FormText,
	}
	if claims {
		h.Form, h.SVN = cose1.FormClaims, s.SVN
	}
	return h
}

// Sign signs a fragment's text. What it returns has been verified as Open does.
func (s *Signer) Sign(random io.Reader, text []byte) ([]byte, error) {
	_, err := Describe(text)
	if err != nil {
		return nil, fmt.Errorf("signing fragment: %w", err)
	}
	message, err := cose1.Sign(random, s.Key, s.header(ContentType, s.Claims), text)
	if err != nil {
		return nil, fmt.Errorf("signing fragment: %w", err)
	}
	_, err = Open(message)
	if err != nil {
		return nil, fmt.Errorf("signing fragment: %w", err)
	}
	return message, nil
}

// SignTrustList signs a list of ledgers and their keys. What it returns has been verified as OpenTrustList does.
func (s *Signer) SignTrustList(random io.Reader, ledgers map[string]receipt.KeySet) ([]byte, error) {
	if s.SVN == nil {
		return nil, errors.New("signing trust list: it needs an svn")
	}
	var entries []cbor.Entry
	for name, keys := range ledgers {
		set, err := keys.AppendCOSE(nil)
		if err != nil {
			return nil, fmt.Errorf("signing trust list: ledger %q: %w", name, err)
		}
		attributes := cbor.AppendMap(nil, []cbor.Entry{{Key: cbor.AppendInt(nil, attributeKeys), Value: set}})
		entries = append(entries, cbor.Entry{Key: cbor.AppendText(nil, name), Value: attributes})
	}
	message, err := cose1.Sign(random, s.Key, s.header(TrustListType, true), cbor.AppendMap(nil, entries))
	if err != nil {
		return nil, fmt.Errorf("signing trust list: %w", err)
	}
	_, err = OpenTrustList(message)
	if err != nil {
		return nil, fmt.Errorf("signing trust list: %w", err)
	}
	return message, nil
}
