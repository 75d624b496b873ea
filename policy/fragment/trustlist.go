// SPDX-License-Identifier: Apache-2.0

package fragment

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"cofferdam.dev/evidence/cose1"
	"cofferdam.dev/evidence/receipt"
	"cofferdam.dev/internal/cbor"
)

// TrustListType is the content type that a transparency trust list is signed as, and its media type in a registry.
const TrustListType = "application/vnd.transparency-trust-list.v1+cose"

// trustListTypes are what is read: also the type from before it had a version in its name.
var trustListTypes = []string{TrustListType, "application/vnd.transparency-trust-list+cose"}

// Limits of a trust list.
const (
	MaxTrustListSize = 256 << 10 // bytes of the message
	maxLedgers       = 64
	maxLedgerName    = 1024
)

// TrustList is a transparency trust list whose signature and issuer were verified: ledgers, and the keys with which they
// sign receipts. Whether its issuer may say so is for the policy in force.
type TrustList struct {
	Issuer  string // did:x509:…, resolved over the chain that the message carries
	Subject string
	SVN     int64
	Ledgers map[string]receipt.KeySet // by the name that the ledger's receipts give

	// SignedAt is when the signer says to have signed; zero where it does not say. The chain was valid then.
	SignedAt  time.Time
	Algorithm cose1.Algorithm

	// SHA256 is the hash of the whole message.
	SHA256 [32]byte
}

// Names lists the ledgers, sorted.
func (l *TrustList) Names() []string { return slices.Sorted(maps.Keys(l.Ledgers)) }

// OpenTrustList verifies a signed trust list.
func OpenTrustList(message []byte) (*TrustList, error) {
	l, err := openTrustList(message)
	if err != nil {
		return nil, fmt.Errorf("opening trust list: %w", err)
	}
	return l, nil
}

func openTrustList(message []byte) (*TrustList, error) {
	if len(message) > MaxTrustListSize {
		return nil, fmt.Errorf("it has %d bytes, at most %d are allowed", len(message), MaxTrustListSize)
	}
	m, err := cose1.Parse(message)
	if err != nil {
		return nil, err
	}
	h := m.Header
	switch {
	case !slices.Contains(trustListTypes, h.ContentType):
		return nil, fmt.Errorf("it was signed as %q, want %q", h.ContentType, TrustListType)
	case h.Feed == "":
		return nil, errors.New("its signed header names no subject")
	case h.SVN == nil:
		return nil, errors.New("its signed header has no svn, and nothing else of it does")
	}
	err = m.Verify()
	if err != nil {
		return nil, err
	}
	ledgers, err := readLedgers(m.Payload)
	if err != nil {
		return nil, err
	}
	return &TrustList{
		Issuer: h.Issuer, Subject: h.Feed, SVN: *h.SVN, Ledgers: ledgers, SignedAt: h.IssuedAt, Algorithm: h.Algorithm,
		SHA256: sha256.Sum256(message),
	}, nil
}

// attributeKeys is the attribute of a ledger that holds its keys, a COSE_KeySet.
const attributeKeys = 1

// readLedgers reads the payload, a map from names to the ledgers' attributes. Attributes that are not known are left out.
func readLedgers(payload []byte) (map[string]receipt.KeySet, error) {
	it, err := cbor.Decode(payload)
	if err != nil {
		return nil, err
	}
	if it.Kind != cbor.Map || len(it.Pairs) == 0 || len(it.Pairs) > maxLedgers {
		return nil, fmt.Errorf("payload is not a map of 1 to %d ledgers", maxLedgers)
	}
	ledgers := map[string]receipt.KeySet{}
	for _, p := range it.Pairs {
		name := p.Key.Text
		if p.Key.Kind != cbor.Text || !validLedger(name) {
			return nil, fmt.Errorf("a ledger's name is not a text of 1 to %d bytes, or stands for something else: %q", maxLedgerName, name)
		}
		keys, ok := p.Value.Lookup(attributeKeys)
		if !ok {
			return nil, fmt.Errorf("ledger %q has no keys", name)
		}
		if ledgers[name], err = receipt.KeysFromCOSE(keys); err != nil {
			return nil, fmt.Errorf("ledger %q: %w", name, err)
		}
	}
	return ledgers, nil
}

// validLedger refuses names that mean something else in a policy.
func validLedger(name string) bool {
	return name != "" && name != "*" && !strings.HasPrefix(name, trustListPrefix) && len(name) <= maxLedgerName
}

// trustListPrefix begins a requirement that names a trust list in place of a ledger.
const trustListPrefix = "TTL:"
