// SPDX-License-Identifier: Apache-2.0

package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// foreign is a key of an issuer that is not ours: its ID is whatever the issuer calls it.
type foreign struct{ key crypto.PublicKey }

// farAway is the expiry of foreign keys: who read them decides how long they count.
var farAway = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// foreignKey is what is read of a key in an issuer's set, besides the key itself. Azure Attestation gives some of its keys
// by their certificates alone.
type foreignKey struct {
	ID           string   `json:"kid"`
	Type         string   `json:"kty"`
	Use          string   `json:"use"`
	Algorithm    string   `json:"alg"`
	N            string   `json:"n"`
	X            string   `json:"x"`
	Certificates [][]byte `json:"x5c"`
}

// ParseJWKS reads the key set of an issuer whose tokens are to be verified. Keys that are for something else, that have no
// name, or that no algorithm of this package uses are passed over. Certificates are containers of their keys and nothing
// more: whoever fetched the set decided whose it is.
func ParseJWKS(b []byte) ([]PublicKey, error) {
	if len(b) > MaxSetSize {
		return nil, fmt.Errorf("reading a key set: it has %d bytes, more than %d", len(b), MaxSetSize)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, fmt.Errorf("reading a key set: %w", err)
	}
	if len(set.Keys) > MaxKeys {
		return nil, fmt.Errorf("reading a key set: it has %d keys, more than %d", len(set.Keys), MaxKeys)
	}
	var out []PublicKey
	for _, raw := range set.Keys {
		k, ok := parseForeign(raw)
		if !ok {
			continue
		}
		if slices.ContainsFunc(out, func(o PublicKey) bool { return o.ID == k.ID }) {
			return nil, fmt.Errorf("reading a key set: two keys are called %q", k.ID)
		}
		out = append(out, k)
	}
	return out, nil
}

func parseForeign(raw json.RawMessage) (PublicKey, bool) {
	var w foreignKey
	if err := json.Unmarshal(raw, &w); err != nil || w.ID == "" || w.Use != "" && w.Use != "sig" {
		return PublicKey{}, false
	}
	key, ok := w.key(raw)
	if !ok {
		return PublicKey{}, false
	}
	alg := algorithmOf(key)
	if w.Algorithm != "" && Algorithm(w.Algorithm) != alg || !alg.fits(key) {
		return PublicKey{}, false
	}
	return PublicKey{ID: w.ID, Algorithm: alg, Expires: farAway, SignsUntil: farAway, foreign: &foreign{key}}, true
}

func (w *foreignKey) key(raw json.RawMessage) (crypto.PublicKey, bool) {
	if w.N == "" && w.X == "" {
		if len(w.Certificates) == 0 {
			return nil, false
		}
		cert, err := x509.ParseCertificate(w.Certificates[0])
		if err != nil {
			return nil, false
		}
		return cert.PublicKey, true
	}
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(raw); err != nil || !jwk.IsPublic() {
		return nil, false
	}
	return jwk.Key, true
}

// algorithmOf returns the algorithm that tokens of a key are signed with.
func algorithmOf(key crypto.PublicKey) Algorithm {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return RS256
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P384() {
			return ES384
		}
		return ES256
	}
	return ""
}
