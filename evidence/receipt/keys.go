// SPDX-License-Identifier: Apache-2.0

package receipt

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// KeySet is public keys by KeyID. The zero value holds none, and verifies nothing.
type KeySet map[string]*ecdsa.PublicKey

// Limits of a file of keys.
const (
	MaxKeysSize = 1 << 20 // bytes
	maxKeys     = 256
)

// KeyID is how CCF names a key: the lower-case hexadecimal SHA-256 of its SubjectPublicKeyInfo. Keys on other curves than
// P-256 and P-384 are refused.
func KeyID(key *ecdsa.PublicKey) (string, error) {
	if key == nil || key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
		return "", errors.New("naming a ledger's key: it is not on curve P-256 or P-384")
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("naming a ledger's key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// add adds a key. Where its source gives it a name, that must be the KeyID: a key can not be slipped in under another's.
func (s KeySet) add(key *ecdsa.PublicKey, name string) error {
	id, err := KeyID(key)
	if err != nil {
		return err
	}
	if name != "" && name != id {
		return fmt.Errorf("key is named %q, and its SHA-256 is %s", name, id)
	}
	s[id] = key
	if len(s) > maxKeys {
		return fmt.Errorf("there are more than %d keys", maxKeys)
	}
	return nil
}

// ParseKeys reads the keys of a ledger from a file: a JSON Web Key set, the JSON list of service certificates that SCITT
// ledgers publish ({"parameters": [{"serviceCertificate": …}]}), or certificates in PEM. The certificates are wrappings
// of keys here; neither their validity nor who signed them counts.
func ParseKeys(data []byte) (KeySet, error) {
	keys, err := parseKeys(data)
	if err == nil && len(keys) == 0 {
		err = errors.New("there is none")
	}
	if err != nil {
		return nil, fmt.Errorf("reading the keys of a ledger: %w", err)
	}
	return keys, nil
}

func parseKeys(data []byte) (KeySet, error) {
	if len(data) > MaxKeysSize {
		return nil, fmt.Errorf("file has %d bytes, at most %d are allowed", len(data), MaxKeysSize)
	}
	keys := KeySet{}
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return keys, keys.addPEM(data)
	}
	var file struct {
		Keys       []jwk `json:"keys"`
		Parameters []struct {
			Certificate string `json:"serviceCertificate"`
		} `json:"parameters"`
	}
	err := json.Unmarshal(data, &file)
	if err != nil {
		return nil, err
	}
	if len(file.Keys) > 0 && len(file.Parameters) > 0 {
		return nil, errors.New("it is a set of keys and a list of certificates at once")
	}
	for i, k := range file.Keys {
		key, err := k.key()
		if err == nil {
			err = keys.add(key, k.ID)
		}
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i, err)
		}
	}
	for i, p := range file.Parameters {
		der, err := base64.StdEncoding.DecodeString(p.Certificate)
		if err == nil {
			err = keys.addCertificate(der)
		}
		if err != nil {
			return nil, fmt.Errorf("service certificate %d: %w", i, err)
		}
	}
	return keys, nil
}

// jwk is an elliptic curve key as a JSON Web Key (RFC 7518, 6.2).
type jwk struct {
	Type  string `json:"kty"`
	Curve string `json:"crv"`
	ID    string `json:"kid"`
	X     string `json:"x"`
	Y     string `json:"y"`
}

func (k jwk) key() (*ecdsa.PublicKey, error) {
	if k.Type != "EC" {
		return nil, fmt.Errorf("type is %q, want \"EC\"", k.Type)
	}
	x, err := base64.RawURLEncoding.DecodeString(k.X)
	if err != nil {
		return nil, fmt.Errorf("x: %w", err)
	}
	y, err := base64.RawURLEncoding.DecodeString(k.Y)
	if err != nil {
		return nil, fmt.Errorf("y: %w", err)
	}
	switch k.Curve {
	case "P-256":
		return point(elliptic.P256(), x, y)
	case "P-384":
		return point(elliptic.P384(), x, y)
	}
	return nil, fmt.Errorf("curve is %q, want \"P-256\" or \"P-384\"", k.Curve)
}

// point makes a key of coordinates, each of the curve's length.
func point(curve elliptic.Curve, x, y []byte) (*ecdsa.PublicKey, error) {
	n := (curve.Params().BitSize + 7) / 8
	if len(x) != n || len(y) != n {
		return nil, fmt.Errorf("coordinates have %d and %d bytes, want %d", len(x), len(y), n)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, x...), y...))
	if err != nil {
		return nil, fmt.Errorf("coordinates: %w", err)
	}
	return key, nil
}

func (s KeySet) addPEM(data []byte) error {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("it holds a PEM block of type %q, want \"CERTIFICATE\"", block.Type)
		}
		err := s.addCertificate(block.Bytes)
		if err != nil {
			return err
		}
	}
	return nil
}

func (s KeySet) addCertificate(der []byte) error {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return fmt.Errorf("certificate has a key of type %T, want one on P-256 or P-384", cert.PublicKey)
	}
	return s.add(key, "")
}

// IDs lists the identifiers, sorted.
func (s KeySet) IDs() []string { return slices.Sorted(maps.Keys(s)) }
