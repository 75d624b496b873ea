// SPDX-License-Identifier: Apache-2.0

// Package testledger is a ledger for tests of whatever reads receipts: it records signed statements in a tree of hashes
// and signs receipts of the form that CCF's ledgers give. It shares no code with package receipt, so that each checks the
// other. Its keys live as long as one test. It trusts nothing and is never part of a program.
package testledger

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"cofferdam.dev/internal/cbor"
)

// SignedAt is when every receipt says to have been signed.
var SignedAt = time.Date(2025, 6, 2, 0, 0, 0, 0, time.UTC)

// Ledger is one ledger.
type Ledger struct {
	Name string
	Key  *ecdsa.PrivateKey

	// Entries is how many transactions the ledger has when it signs a receipt, 2 or more.
	Entries int
}

// New makes a ledger with a new P-384 key.
func New(t testing.TB, name string) *Ledger {
	t.Helper()
	l, err := Make(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Make is New for programs that tests run.
func Make(name string) (*Ledger, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	return &Ledger{Name: name, Key: key, Entries: 11}, err
}

// KeyID is the name of the ledger's key.
func (l *Ledger) KeyID() string {
	der, err := x509.MarshalPKIXPublicKey(&l.Key.PublicKey)
	if err != nil {
		return "" // a key of this package always encodes
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// JWKS is the ledger's key as a JSON Web Key set.
func (l *Ledger) JWKS() ([]byte, error) {
	raw, err := l.Key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	n := (len(raw) - 1) / 2
	code := base64.RawURLEncoding
	return json.Marshal(map[string]any{"keys": []any{map[string]string{
		"kty": "EC", "crv": l.Key.Params().Name, "kid": l.KeyID(),
		"x": code.EncodeToString(raw[1 : 1+n]), "y": code.EncodeToString(raw[1+n:]),
	}}})
}

// Attach returns a statement (COSE_Sign1) with one receipt more.
func (l *Ledger) Attach(statement []byte) ([]byte, error) {
	parts, err := split(statement)
	if err != nil {
		return nil, err
	}
	r, err := l.Receipt(statement)
	if err != nil {
		return nil, err
	}
	have, _ := parts[1].Lookup(394)
	list := cbor.AppendArray(nil, len(have.Items)+1)
	for _, it := range have.Items {
		list = append(list, it.Raw...)
	}
	list = cbor.AppendBytes(list, r)
	return join(parts, cbor.AppendMap(nil, []cbor.Entry{{Key: number(394), Value: list}})), nil
}

// Receipt returns a receipt over a statement.
func (l *Ledger) Receipt(statement []byte) ([]byte, error) {
	parts, err := split(statement)
	if err != nil {
		return nil, err
	}
	claims := sha256.Sum256(join(parts, cbor.AppendMap(nil, nil)))
	writes := sha256.Sum256([]byte("what the transaction wrote"))
	evidence := "ce:2.7:" + hex.EncodeToString(writes[:])
	evidenceHash := sha256.Sum256([]byte(evidence))
	leaf := sha256.Sum256(append(append(append([]byte(nil), writes[:]...), evidenceHash[:]...), claims[:]...))
	root, path := grow(l.Entries, leaf)

	steps := cbor.AppendArray(nil, len(path))
	for _, s := range path {
		steps = append(cbor.AppendArray(steps, 2), s.side)
		steps = cbor.AppendBytes(steps, s.hash[:])
	}
	components := cbor.AppendBytes(cbor.AppendArray(nil, 3), writes[:])
	components = cbor.AppendBytes(cbor.AppendText(components, evidence), claims[:])
	proof := cbor.AppendMap(nil, []cbor.Entry{{Key: number(1), Value: components}, {Key: number(2), Value: steps}})
	protected := l.protected()
	signature, err := l.sign(protected, root[:])
	if err != nil {
		return nil, err
	}
	proofs := cbor.AppendBytes(cbor.AppendArray(nil, 1), proof)
	b := cbor.AppendArray(cbor.AppendTag(nil, 18), 4)
	b = cbor.AppendBytes(b, protected)
	b = cbor.AppendMap(b, []cbor.Entry{{Key: number(396), Value: cbor.AppendMap(nil, []cbor.Entry{{Key: number(-1), Value: proofs}})}})
	b = append(b, 0xf6) // the payload is the root, which is computed
	return cbor.AppendBytes(b, signature), nil
}

func (l *Ledger) protected() []byte {
	alg := int64(-35)
	if l.Key.Curve == elliptic.P256() {
		alg = -7
	}
	claims := cbor.AppendMap(nil, []cbor.Entry{
		{Key: number(1), Value: cbor.AppendText(nil, l.Name)},
		{Key: number(2), Value: cbor.AppendText(nil, "scitt.ccf.signature.v1")},
		{Key: number(6), Value: number(SignedAt.Unix())},
	})
	ccf := cbor.AppendMap(nil, []cbor.Entry{{Key: cbor.AppendText(nil, "txid"), Value: cbor.AppendText(nil, "2.8")}})
	return cbor.AppendMap(nil, []cbor.Entry{
		{Key: number(1), Value: number(alg)},
		{Key: number(4), Value: cbor.AppendBytes(nil, []byte(l.KeyID()))},
		{Key: number(395), Value: number(2)},
		{Key: number(15), Value: claims},
		{Key: cbor.AppendText(nil, "ccf.v1"), Value: ccf},
	})
}

func (l *Ledger) sign(protected, root []byte) ([]byte, error) {
	b := cbor.AppendText(cbor.AppendArray(nil, 4), "Signature1")
	b = cbor.AppendBytes(cbor.AppendBytes(cbor.AppendBytes(b, protected), nil), root)
	var digest []byte
	if l.Key.Curve == elliptic.P256() {
		sum := sha256.Sum256(b)
		digest = sum[:]
	} else {
		sum := sum384(b)
		digest = sum[:]
	}
	r, s, err := ecdsa.Sign(rand.Reader, l.Key, digest)
	if err != nil {
		return nil, fmt.Errorf("signing a receipt: %w", err)
	}
	n := (l.Key.Params().BitSize + 7) / 8
	out := make([]byte, 2*n)
	r.FillBytes(out[:n])
	s.FillBytes(out[n:])
	return out, nil
}

func number(n int64) []byte { return cbor.AppendInt(nil, n) }

func split(statement []byte) ([]cbor.Item, error) {
	it, err := cbor.Decode(statement)
	if err != nil {
		return nil, err
	}
	if it.Kind == cbor.Tag {
		it = it.Items[0]
	}
	if it.Kind != cbor.Array || len(it.Items) != 4 {
		return nil, errors.New("statement is no COSE_Sign1")
	}
	return it.Items, nil
}

func join(parts []cbor.Item, unprotected []byte) []byte {
	b := cbor.AppendArray(cbor.AppendTag(nil, 18), 4)
	b = append(append(b, parts[0].Raw...), unprotected...)
	return append(append(b, parts[2].Raw...), parts[3].Raw...)
}
