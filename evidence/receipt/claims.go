// SPDX-License-Identifier: Apache-2.0

package receipt

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
)

// claimProtocol is the only way of digesting claims that exists (Azure Confidential Ledger, 2023-01-18-preview).
const claimProtocol = "LedgerEntryV1"

// maxClaims bounds the claims of one transaction.
const maxClaims = 1024

// Claim is what an application says to have recorded: an entry in clear, or its digest.
type Claim struct {
	Kind   string       `json:"kind"` // "LedgerEntry" or "ClaimDigest"
	Entry  *LedgerEntry `json:"ledgerEntry,omitempty"`
	Digest *EntryDigest `json:"digest,omitempty"`
}

// LedgerEntry is an entry in clear, and the key under which its digest hides it.
type LedgerEntry struct {
	CollectionID string `json:"collectionId"`
	Contents     string `json:"contents"`
	Protocol     string `json:"protocol"`
	SecretKey    string `json:"secretKey"` // base64; it is public with the claim
}

// EntryDigest stands for an entry that is not told.
type EntryDigest struct {
	Protocol string `json:"protocol"`
	Value    string `json:"value"` // 64 hexadecimal digits
}

// EntryDigest computes the digest of a claim: that of its entry, or the one that it states.
func (c Claim) EntryDigest() ([sha256.Size]byte, error) {
	switch {
	case c.Kind == "LedgerEntry" && c.Entry != nil && c.Digest == nil && c.Entry.Protocol == claimProtocol:
		key, err := base64.StdEncoding.DecodeString(c.Entry.SecretKey)
		if err != nil {
			return [sha256.Size]byte{}, fmt.Errorf("secret key of a claim: %w", err)
		}
		mac := func(s string) []byte {
			h := hmac.New(sha256.New, key)
			h.Write([]byte(s))
			return h.Sum(nil)
		}
		return hash(mac(c.Entry.CollectionID), mac(c.Entry.Contents)), nil
	case c.Kind == "ClaimDigest" && c.Digest != nil && c.Entry == nil && c.Digest.Protocol == claimProtocol:
		return hexDigest(c.Digest.Value)
	}
	return [sha256.Size]byte{}, fmt.Errorf("claim of kind %q is neither an entry nor a digest of protocol %q", c.Kind, claimProtocol)
}

// ClaimsDigest is what a leaf records of claims.
func ClaimsDigest(claims []Claim) ([sha256.Size]byte, error) {
	if len(claims) > maxClaims {
		return [sha256.Size]byte{}, errors.New("digesting claims: there are too many")
	}
	all := binary.LittleEndian.AppendUint32(nil, uint32(len(claims)))
	for i, c := range claims {
		d, err := c.EntryDigest()
		if err != nil {
			return [sha256.Size]byte{}, fmt.Errorf("digesting claims: claim %d: %w", i, err)
		}
		one := hash([]byte(claimProtocol), d[:])
		all = append(all, one[:]...)
	}
	return hash(all), nil
}
