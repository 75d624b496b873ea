// SPDX-License-Identifier: Apache-2.0

package cose1

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"cofferdam.dev/evidence/didx509"
	"cofferdam.dev/internal/cbor"
)

// Limits of a message.
const (
	MaxSize     = 2 << 20
	maxHeader   = 256 << 10
	maxReceipts = 16
)

const tagSign1 = 18 // RFC 9052, 4.2

// Message is a parsed message. Parse vouches for its form alone; Verify for its signature.
type Message struct {
	Header  Header
	Payload []byte

	// Receipts are what transparency ledgers said about the message, unverified, as it was delivered with it.
	Receipts [][]byte

	protected []byte
	signature []byte
	critical  []string // labels that the signer wants understood and that this package does not
}

// Header is what the protected header says, all of it signed.
type Header struct {
	Algorithm   Algorithm
	ContentType string // empty for none, or one that is a number

	// Chain is the signer's, leaf first; empty where the message has none.
	Chain []*x509.Certificate

	// Issuer and Feed say who made the message and which series it belongs to. Form says how they are written.
	Issuer, Feed string
	Form         Form

	// SVN is the payload's security version; nil where the header has none.
	SVN *int64

	// IssuedAt is when the signer says to have signed; zero where the header does not say.
	IssuedAt time.Time
}

// Form is a way of writing issuer and feed.
type Form uint8

// The forms. FormText has the text keys iss, feed and signingtime; FormClaims has CWT claims (RFC 9597), and alone can
// carry a security version. A header with neither has FormNone.
const (
	FormNone Form = iota
	FormText
	FormClaims
)

// Parse reads a message, tagged or not. The message shares the input's memory.
func Parse(data []byte) (*Message, error) {
	m, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("parsing COSE_Sign1: %w", err)
	}
	return m, nil
}

func parse(data []byte) (*Message, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("message has %d bytes, at most %d are allowed", len(data), MaxSize)
	}
	outer, err := cbor.Decode(data)
	if err != nil {
		return nil, err
	}
	if outer.Kind == cbor.Tag && outer.Tag == tagSign1 {
		outer = outer.Items[0]
	}
	if outer.Kind != cbor.Array || len(outer.Items) != 4 {
		return nil, errors.New("message is not an array of four, tagged 18 or untagged")
	}
	protected, unprotected, payload, signature := outer.Items[0], outer.Items[1], outer.Items[2], outer.Items[3]
	for _, part := range []struct {
		name string
		have cbor.Item
		want cbor.Kind
	}{
		{"protected header", protected, cbor.Bytes},
		{"unprotected header", unprotected, cbor.Map},
		{"payload", payload, cbor.Bytes},
		{"signature", signature, cbor.Bytes},
	} {
		if part.have.Kind != part.want {
			return nil, fmt.Errorf("%s is %s, want %s", part.name, part.have.Kind, part.want)
		}
	}
	if len(protected.Bytes) > maxHeader {
		return nil, fmt.Errorf("protected header has %d bytes, at most %d are allowed", len(protected.Bytes), maxHeader)
	}
	m := &Message{Payload: payload.Bytes, protected: protected.Bytes, signature: signature.Bytes}
	err = m.readProtected()
	if err != nil {
		return nil, fmt.Errorf("protected header: %w", err)
	}
	m.Receipts, err = readReceipts(unprotected)
	return m, err
}

// labelReceipts holds an array of receipts (draft-ietf-cose-merkle-tree-proofs).
const labelReceipts = 394

func readReceipts(unprotected cbor.Item) ([][]byte, error) {
	v, ok := unprotected.Lookup(labelReceipts)
	if !ok {
		return nil, nil
	}
	if v.Kind != cbor.Array || len(v.Items) > maxReceipts {
		return nil, fmt.Errorf("receipts are not an array of at most %d", maxReceipts)
	}
	var list [][]byte
	for _, r := range v.Items {
		if r.Kind != cbor.Bytes {
			return nil, fmt.Errorf("a receipt is %s, want a byte string", r.Kind)
		}
		list = append(list, r.Bytes)
	}
	return list, nil
}

// Verify checks that the holder of the leaf's key signed the message, that the chain was valid when the signer says to
// have signed (see didx509.VerifyChain for a message that does not say), that the issuer resolves to the leaf's key,
// and that nothing was marked critical that this package does not understand. Whether the issuer is to be trusted is
// another question.
func (m *Message) Verify() error {
	switch {
	case len(m.critical) > 0:
		return fmt.Errorf("verifying COSE_Sign1: critical header %q is not understood", m.critical)
	case len(m.Header.Chain) == 0:
		return errors.New("verifying COSE_Sign1: message carries no certificate chain")
	case m.Header.Issuer == "":
		return errors.New("verifying COSE_Sign1: message names no issuer")
	}
	key, err := didx509.Resolve(m.Header.Issuer, m.Header.Chain, m.Header.IssuedAt)
	if err != nil {
		return fmt.Errorf("verifying COSE_Sign1: issuer: %w", err)
	}
	return m.VerifySignature(key)
}

// VerifySignature checks the signature alone, with a key that the caller knows from elsewhere. It looks neither at the
// chain nor at the issuer nor at what is marked critical.
func (m *Message) VerifySignature(key crypto.PublicKey) error {
	err := m.Header.Algorithm.verify(key, toBeSigned(m.protected, m.Payload), m.signature)
	if err != nil {
		return fmt.Errorf("verifying COSE_Sign1: %w", err)
	}
	return nil
}

// VerifyDetached checks the signature of a message that has been taken apart elsewhere and whose payload travels apart
// from it, with a key that the caller knows. protected is the protected header as it was encoded.
func VerifyDetached(a Algorithm, key crypto.PublicKey, protected, payload, signature []byte) error {
	err := a.verify(key, toBeSigned(protected, payload), signature)
	if err != nil {
		return fmt.Errorf("verifying COSE_Sign1 with a detached payload: %w", err)
	}
	return nil
}

// toBeSigned is the Sig_structure (RFC 9052, 4.4) with no external data.
func toBeSigned(protected, payload []byte) []byte {
	b := cbor.AppendText(cbor.AppendArray(nil, 4), "Signature1")
	b = cbor.AppendBytes(b, protected)
	b = cbor.AppendBytes(b, nil)
	return cbor.AppendBytes(b, payload)
}
