// SPDX-License-Identifier: Apache-2.0

package keycmd

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"cofferdam.dev/internal/vault"
	"cofferdam.dev/release"
)

// maxPrivateKey bounds a file with a key in bytes.
const maxPrivateKey = 64 << 10

// keyFormats are those in which keys are read.
var keyFormats = []string{"auto", "pem", "jwk", "raw", "hex"}

// readKeyMaterial reads a private key. What is wrong with one is told without quoting it.
func readKeyMaterial(b []byte, format string) (*vault.Material, error) {
	text := bytes.TrimSpace(b)
	if format == "auto" {
		switch {
		case bytes.HasPrefix(text, []byte("{")):
			format = "jwk"
		case bytes.HasPrefix(text, []byte("-----BEGIN")):
			format = "pem"
		default:
			return nil, errors.New("it is neither PEM nor JWK; for the bytes of a symmetric key say --format raw or hex")
		}
	}
	switch format {
	case "jwk":
		return vault.ParseMaterial(text)
	case "pem":
		key, err := readPrivatePEM(text)
		if err != nil {
			return nil, err
		}
		return vault.NewMaterial(key)
	case "hex":
		raw, err := hex.DecodeString(string(text))
		if err != nil {
			return nil, errors.New("it is not hexadecimal")
		}
		return vault.NewMaterial(raw)
	}
	return vault.NewMaterial(bytes.Clone(b))
}

// readPrivatePEM reads the one private key of a PEM file.
func readPrivatePEM(text []byte) (any, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch {
		case block.Type == "EC PARAMETERS": // stands before the key where OpenSSL made it
			continue
		case block.Type == "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case block.Type == "RSA PRIVATE KEY" && len(block.Headers) == 0:
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case block.Type == "EC PRIVATE KEY" && len(block.Headers) == 0:
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return nil, errors.New("the private key is encrypted; pipe it in decrypted: openssl pkcs8 -in FILE | cofferdam key import NAME -")
		default:
			return nil, fmt.Errorf("it holds a %q, not a private key", block.Type)
		}
		if err != nil {
			return nil, errors.New("its private key can not be read") // the parser's error may quote it
		}
		return key, nil
	}
	return nil, errors.New("it holds no private key in PEM")
}

// materialJWK writes a key as a JWK with its secret. With hsm its type is the one of keys that may be exportable. The
// operations are those given, or else those that the key was read with.
func materialJWK(m *vault.Material, hsm bool, operations []string) (json.RawMessage, error) {
	var value any = m.Expose()
	if m.Type() != vault.Oct {
		var err error
		if value, err = x509.ParsePKCS8PrivateKey(m.Expose()); err != nil {
			return nil, errors.New("the key can not be encoded")
		}
	}
	b, err := (&jose.JSONWebKey{Key: value}).MarshalJSON()
	if err != nil {
		return nil, errors.New("the key can not be encoded")
	}
	defer clear(b)
	var members map[string]json.RawMessage
	if err := json.Unmarshal(b, &members); err != nil {
		return nil, errors.New("the key can not be encoded")
	}
	if hsm {
		members["kty"] = json.RawMessage(`"` + string(m.Type()) + `-HSM"`)
	}
	if len(operations) == 0 {
		for _, op := range m.Operations() {
			operations = append(operations, string(op))
		}
	}
	if len(operations) > 0 {
		if members["key_ops"], err = json.Marshal(operations); err != nil {
			return nil, errors.New("the key can not be encoded")
		}
	}
	return json.Marshal(members)
}

// derivation is how a key of an encrypted filesystem follows from an RSA key.
type derivation struct{ salt, label, derivedOut string }

// derive writes the derived key, 32 bytes, to a file for its owner alone: HKDF with SHA-256 over the private exponent, as
// guests do after a release.
func (d *derivation) derive(m *vault.Material) error {
	salt, err := hex.DecodeString(d.salt)
	if err != nil || len(salt) == 0 {
		return errors.New("deriving a key: the salt is not hexadecimal, or empty")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(m.Expose())
	key, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return fmt.Errorf("deriving a key: only RSA keys are derived from, not %s keys", m.Type())
	}
	label := d.label
	if label == "" {
		label = release.DerivationLabel
	}
	b, err := hkdf.Key(sha256.New, key.D.Bytes(), salt, label, sha256.Size)
	if err != nil {
		return fmt.Errorf("deriving a key: %w", err)
	}
	defer clear(b)
	return writeSecret(d.derivedOut, b)
}

// writeSecret writes a new file for its owner alone. A file that is there is left alone: it may hold the only copy of a key.
func writeSecret(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("writing the secret: %w", err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing the secret: %w", errors.Join(err, os.Remove(name)))
	}
	return nil
}
