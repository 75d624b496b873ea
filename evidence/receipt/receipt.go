// SPDX-License-Identifier: Apache-2.0

package receipt

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"cofferdam.dev/evidence/cose1"
	"cofferdam.dev/internal/cbor"
)

// MaxSize bounds an encoded receipt, in bytes.
const MaxSize = 64 << 10

// maxReceipts bounds the receipts that a statement carries.
const maxReceipts = 16

// maxName bounds the names in a receipt, in bytes.
const maxName = 1024

// Labels of a receipt's headers (RFC 9052, RFC 9597, RFC 9942), and of the claims in them.
const (
	labelAlgorithm = 1
	labelCritical  = 2
	labelKeyID     = 4
	labelClaims    = 15
	labelReceipts  = 394
	labelVDS       = 395 // the kind of tree
	labelVDP       = 396 // the proofs

	labelCCF      = "ccf.v1"
	labelCCFTxID  = "txid"
	inclusion     = -1
	claimIssuer   = 1
	claimSubject  = 2
	claimIssuedAt = 6

	vdsCCF   = 2 // CCF_LEDGER_SHA256
	tagSign1 = 18
)

// latest is the last time that is taken for one: the end of the year 9999.
const latest = 253402300799

// Receipt is a parsed receipt over a signed statement. Parse vouches for its form alone; Verify for the rest.
type Receipt struct {
	// Ledger names the ledger, as it names itself (iss).
	Ledger string
	// Subject is what the ledger's signature is about (sub); empty where the receipt does not say.
	Subject string
	// IssuedAt is when the ledger says to have signed the root; zero where it does not say.
	IssuedAt time.Time
	// KeyID is the lower-case hexadecimal SHA-256 of the signing key's SubjectPublicKeyInfo: see KeyID.
	KeyID string
	// TransactionID is the transaction that holds the signed root ("view.seqno"), which is later than that of the
	// leaf; empty where the receipt does not say.
	TransactionID string
	// Algorithm is ES256 or ES384.
	Algorithm cose1.Algorithm
	// Proofs is at least one; each must hold.
	Proofs []Proof

	protected []byte
	signature []byte
}

// FromStatement returns the receipts that a signed statement (COSE_Sign1) carries in its unprotected header, in their
// order; none is no error.
func FromStatement(statement []byte) ([]*Receipt, error) {
	s, err := takeApart(statement, cose1.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("reading the receipts of a statement: %w", err)
	}
	v, ok := s.unprotected.Lookup(labelReceipts)
	if !ok {
		return nil, nil
	}
	if v.Kind != cbor.Array || len(v.Items) > maxReceipts {
		return nil, fmt.Errorf("reading the receipts of a statement: they are not an array of at most %d", maxReceipts)
	}
	var list []*Receipt
	for i, it := range v.Items {
		if it.Kind != cbor.Bytes {
			return nil, fmt.Errorf("reading the receipts of a statement: receipt %d is %s, want a byte string", i, it.Kind)
		}
		r, err := Parse(it.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading the receipts of a statement: receipt %d: %w", i, err)
		}
		list = append(list, r)
	}
	return list, nil
}

// StatementDigest is what a ledger records of a signed statement (COSE_Sign1): the SHA-256 of the statement, tagged, with
// nothing in its unprotected header. So a receipt can be added to a statement without changing what it is about.
func StatementDigest(statement []byte) ([sha256.Size]byte, error) {
	s, err := takeApart(statement, cose1.MaxSize)
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("computing the digest of a statement: %w", err)
	}
	head := cbor.AppendArray(cbor.AppendTag(nil, tagSign1), 4)
	return hash(head, s.protected.Raw, cbor.AppendMap(nil, nil), s.payload.Raw, s.signature.Raw), nil
}

// Parse reads one receipt.
func Parse(data []byte) (*Receipt, error) {
	r, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("parsing receipt: %w", err)
	}
	return r, nil
}

func parse(data []byte) (*Receipt, error) {
	s, err := takeApart(data, MaxSize)
	if err != nil {
		return nil, err
	}
	if s.payload.Kind != cbor.Null {
		return nil, fmt.Errorf("payload is %s, want none: the root is computed", s.payload.Kind)
	}
	r := &Receipt{protected: s.protected.Bytes, signature: s.signature.Bytes}
	err = r.readProtected()
	if err != nil {
		return nil, fmt.Errorf("protected header: %w", err)
	}
	proofs, _ := s.unprotected.Lookup(labelVDP)
	list, _ := proofs.Lookup(inclusion)
	if list.Kind != cbor.Array || len(list.Items) == 0 || len(list.Items) > maxProofs {
		return nil, fmt.Errorf("it does not carry 1 to %d proofs of inclusion", maxProofs)
	}
	for i, it := range list.Items {
		if it.Kind != cbor.Bytes {
			return nil, fmt.Errorf("proof %d is %s, want a byte string", i, it.Kind)
		}
		p, err := parseProof(it.Bytes)
		if err != nil {
			return nil, fmt.Errorf("proof %d: %w", i, err)
		}
		r.Proofs = append(r.Proofs, p)
	}
	return r, nil
}

func (r *Receipt) readProtected() error {
	h, err := cbor.Decode(r.protected)
	if err != nil {
		return err
	}
	if h.Kind != cbor.Map {
		return fmt.Errorf("it is %s, want a map", h.Kind)
	}
	alg, _ := h.Lookup(labelAlgorithm)
	vds, _ := h.Lookup(labelVDS)
	kid, _ := h.Lookup(labelKeyID)
	r.Algorithm = cose1.Algorithm(alg.Int)
	switch {
	case alg.Kind != cbor.Int || r.Algorithm != cose1.ES256 && r.Algorithm != cose1.ES384:
		return fmt.Errorf("algorithm is %s, want %s or %s", r.Algorithm, cose1.ES256, cose1.ES384)
	case vds.Kind != cbor.Int || vds.Int != vdsCCF:
		return fmt.Errorf("kind of tree is not CCF's (%d)", vdsCCF)
	case kid.Kind != cbor.Bytes || !isKeyID(string(kid.Bytes)):
		return errors.New("key identifier is not 64 lower-case hexadecimal digits")
	}
	if _, ok := h.Lookup(labelCritical); ok {
		return errors.New("it marks something critical, and nothing is known that a receipt may")
	}
	r.KeyID = string(kid.Bytes)
	claims, _ := h.Lookup(labelClaims)
	ccf, hasCCF := h.LookupText(labelCCF)
	txid, hasTxID := ccf.LookupText(labelCCFTxID)
	if hasCCF && (!hasTxID || txid.Kind != cbor.Text || len(txid.Text) > maxName) {
		return errors.New("it names no transaction by text")
	}
	r.TransactionID = txid.Text
	return r.readClaims(claims)
}

func (r *Receipt) readClaims(claims cbor.Item) error {
	issuer, _ := claims.Lookup(claimIssuer)
	subject, hasSubject := claims.Lookup(claimSubject)
	at, hasTime := claims.Lookup(claimIssuedAt)
	switch {
	case issuer.Kind != cbor.Text || issuer.Text == "" || len(issuer.Text) > maxName:
		return fmt.Errorf("it names no ledger by a text of 1 to %d bytes", maxName)
	case hasSubject && (subject.Kind != cbor.Text || len(subject.Text) > maxName):
		return errors.New("subject is not a short text")
	case hasTime && (at.Kind != cbor.Int || at.Int <= 0 || at.Int > latest):
		return errors.New("time of signing is not a number of seconds since 1970")
	}
	r.Ledger, r.Subject = issuer.Text, subject.Text
	if hasTime {
		r.IssuedAt = time.Unix(at.Int, 0).UTC()
	}
	return nil
}

// parts are the four of a COSE_Sign1.
type parts struct{ protected, unprotected, payload, signature cbor.Item }

func takeApart(data []byte, limit int) (parts, error) {
	if len(data) > limit {
		return parts{}, fmt.Errorf("it has %d bytes, at most %d are allowed", len(data), limit)
	}
	it, err := cbor.Decode(data)
	if err != nil {
		return parts{}, err
	}
	if it.Kind == cbor.Tag && it.Tag == tagSign1 {
		it = it.Items[0]
	}
	if it.Kind != cbor.Array || len(it.Items) != 4 {
		return parts{}, errors.New("it is not an array of four, tagged 18 or untagged")
	}
	s := parts{it.Items[0], it.Items[1], it.Items[2], it.Items[3]}
	if s.protected.Kind != cbor.Bytes || s.unprotected.Kind != cbor.Map || s.signature.Kind != cbor.Bytes {
		return parts{}, errors.New("headers or signature are not of the kinds that COSE_Sign1 has")
	}
	return s, nil
}

func isKeyID(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && hex.EncodeToString(b) == s
}
