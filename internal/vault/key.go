// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
)

// KeyType is the type of a key by the names of JWK; "-HSM" is the type of keys that may be exportable.
type KeyType string

// The types of keys.
const (
	RSA    KeyType = "RSA"
	RSAHSM KeyType = "RSA-HSM"
	EC     KeyType = "EC"
	ECHSM  KeyType = "EC-HSM"
	Oct    KeyType = "oct"
	OctHSM KeyType = "oct-HSM"
)

// HSM reports whether keys of the type may be exportable.
func (t KeyType) HSM() bool { return strings.HasSuffix(string(t), "-HSM") }

// Base returns the type without "-HSM".
func (t KeyType) Base() KeyType { return KeyType(strings.TrimSuffix(string(t), "-HSM")) }

// Curve is an elliptic curve by its JWK name.
type Curve string

// The curves.
const (
	P256 Curve = "P-256"
	P384 Curve = "P-384"
	P521 Curve = "P-521"
)

// Operation is something that can be done with a key, by its JWK name.
type Operation string

// The operations.
const (
	Encrypt   Operation = "encrypt"
	Decrypt   Operation = "decrypt"
	Sign      Operation = "sign"
	Verify    Operation = "verify"
	WrapKey   Operation = "wrapKey"
	UnwrapKey Operation = "unwrapKey"
	Import    Operation = "import"
	Export    Operation = "export"
)

var allOperations = []Operation{Encrypt, Decrypt, Sign, Verify, WrapKey, UnwrapKey, Import, Export}

// defaultOperations are those of a key whose request names none.
func (t KeyType) defaultOperations() []Operation {
	switch t.Base() {
	case RSA:
		return []Operation{Encrypt, Decrypt, Sign, Verify, WrapKey, UnwrapKey}
	case EC:
		return []Operation{Sign, Verify}
	}
	return []Operation{Encrypt, Decrypt, WrapKey, UnwrapKey}
}

func checkOperations(ops []Operation) error {
	for i, op := range ops {
		if !slices.Contains(allOperations, op) || slices.Contains(ops[:i], op) {
			return bad("The operation %q of the key is unknown, or there twice.", op)
		}
	}
	return nil
}

// Key is what may be known of a version of a key.
type Key struct {
	Name       string
	Version    string
	Type       KeyType
	Curve      Curve // of EC keys
	Bits       int
	Operations []Operation
	// Public is an *rsa.PublicKey or *ecdsa.PublicKey, and nil for oct keys.
	Public     crypto.PublicKey
	Attributes Attributes
	Tags       map[string]string
	// Policy is that of all versions of the key.
	Policy *ReleasePolicy
	// Deleted is set for deleted keys.
	Deleted *Deletion
}

// Deletion says when an object was deleted, and until when it can be recovered.
type Deletion struct{ At, Purge time.Time }

// KeyRequest says what a new key shall be.
type KeyRequest struct {
	// Type must be set for a key that is made. An imported key has its own, and HSM instead.
	Type KeyType
	HSM  bool
	// Bits is the size of an RSA or oct key; zero is 2048 or 256.
	Bits int
	// Curve is that of an EC key; empty is P-256.
	Curve      Curve
	Operations []Operation
	Attributes AttributeChange
	Tags       map[string]string
	// Policy replaces that of the key; nil keeps it.
	Policy *ReleasePolicy
}

// KeyUpdate says what of a key changes. Nil fields stay as they are.
type KeyUpdate struct {
	Operations []Operation
	Attributes AttributeChange
	Tags       map[string]string
	Policy     *ReleasePolicy
}

func newKey(o *object, rec record) (*Key, error) {
	rec = rec.clone()
	k := &Key{
		Name: o.head.Name, Version: rec.Version, Type: rec.Type, Curve: rec.Curve, Bits: rec.Bits, Operations: rec.Operations,
		Attributes: rec.Attributes, Tags: rec.Tags, Policy: o.head.Policy.clone(), Deleted: o.head.Deleted.export(),
	}
	if rec.Public != nil {
		var err error
		k.Public, err = x509.ParsePKIXPublicKey(rec.Public)
		if err != nil {
			return nil, fmt.Errorf("reading the public part of key %s: %w", k.Name, err)
		}
	}
	return k, nil
}

func (p *ReleasePolicy) clone() *ReleasePolicy {
	if p == nil {
		return nil
	}
	return &ReleasePolicy{p.ContentType, slices.Clone(p.Data), p.Immutable}
}

func (d *deletion) export() *Deletion {
	if d == nil {
		return nil
	}
	return &Deletion{d.At, d.Purge}
}

func newKeys(list []*object) ([]*Key, error) {
	var out []*Key
	for _, o := range list {
		k, err := newKey(o, o.head.Current)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}
