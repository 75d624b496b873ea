// SPDX-License-Identifier: Apache-2.0

// Package token makes and verifies the signed tokens of the services: keys with their certificates, rotation with overlap,
// the JWK set that relying parties fetch, and tokens in JWS.
//
// Private keys are made in the process that signs and never leave it: they are not stored, not exported and not printed.
// What other instances and relying parties need is the public half, which outlives the last token that the key signed.
//
// When a token is verified, the caller's keys and algorithms decide; nothing in its header chooses a key but by naming one
// of them, and no key is ever fetched.
package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Algorithm is a signature algorithm by its JWA name.
type Algorithm string

// The algorithms. There is no "none".
const (
	RS256 Algorithm = "RS256"
	ES256 Algorithm = "ES256"
	ES384 Algorithm = "ES384"
)

// rsaBits is the size of RSA keys, that of Azure Attestation's.
const rsaBits = 2048

// Key is a private key with its certificate. It prints as its key ID alone.
type Key struct {
	public PublicKey
	signer crypto.Signer
}

// PublicKey is what others need to know of a key.
type PublicKey struct {
	// ID is the JWK thumbprint (RFC 7638) with SHA-256, in base64url.
	ID string `json:"kid"`
	// Algorithm is the only one that the key is used with.
	Algorithm Algorithm `json:"alg"`
	// Certificate is the key's certificate in DER.
	Certificate []byte `json:"certificate"`
	// SignsUntil is when the key stops signing, and Expires when no token that it signed is valid any more.
	SignsUntil time.Time `json:"signsUntil"`
	Expires    time.Time `json:"expires"`

	foreign *foreign // of another issuer, instead of a certificate
}

// Generate makes a key with a self-signed certificate for name, valid from now until expires.
func Generate(alg Algorithm, name string, now, signsUntil, expires time.Time) (*Key, error) {
	k, err := generate(alg, name, now, signsUntil, expires)
	if err != nil {
		return nil, fmt.Errorf("making a key for %s: %w", alg, err)
	}
	return k, nil
}

func generate(alg Algorithm, name string, now, signsUntil, expires time.Time) (*Key, error) {
	var signer crypto.Signer
	var err error
	switch alg {
	case RS256:
		signer, err = rsa.GenerateKey(rand.Reader, rsaBits)
	case ES256:
		signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ES384:
		signer, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	default:
		return nil, fmt.Errorf("the algorithm is unknown")
	}
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-Skew), NotAfter: expires.Add(Skew),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		return nil, err
	}
	id, err := thumbprint(signer.Public())
	if err != nil {
		return nil, err
	}
	return &Key{PublicKey{ID: id, Algorithm: alg, Certificate: der, SignsUntil: signsUntil.UTC(), Expires: expires.UTC()}, signer}, nil
}

func thumbprint(public crypto.PublicKey) (string, error) {
	sum, err := (&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// Public returns the public half.
func (k *Key) Public() PublicKey { return k.public }

// String names the key without its secret.
func (k *Key) String() string { return fmt.Sprintf("%s key %s", k.public.Algorithm, k.public.ID) }

// GoString is String, so that no format prints the secret.
func (k *Key) GoString() string { return k.String() }

// jwk returns the key as a JWK with its certificate, after checking that the parts belong together.
func (p *PublicKey) jwk() (*jose.JSONWebKey, error) {
	if p.foreign != nil {
		return &jose.JSONWebKey{Key: p.foreign.key, KeyID: p.ID, Algorithm: string(p.Algorithm), Use: "sig"}, nil
	}
	cert, err := x509.ParseCertificate(p.Certificate)
	if err != nil {
		return nil, fmt.Errorf("key %q: %w", p.ID, err)
	}
	id, err := thumbprint(cert.PublicKey)
	if err != nil || id != p.ID {
		return nil, fmt.Errorf("key %q: its certificate holds key %q: %w", p.ID, id, err)
	}
	if !p.Algorithm.fits(cert.PublicKey) {
		return nil, fmt.Errorf("key %q: a %T does not sign with %s", p.ID, cert.PublicKey, p.Algorithm)
	}
	sha := sha256.Sum256(cert.Raw)
	return &jose.JSONWebKey{
		Key: cert.PublicKey, KeyID: p.ID, Algorithm: string(p.Algorithm), Use: "sig",
		Certificates: []*x509.Certificate{cert}, CertificateThumbprintSHA256: sha[:],
	}, nil
}

// fits reports whether the key is of the kind that the algorithm needs.
func (a Algorithm) fits(public crypto.PublicKey) bool {
	switch key := public.(type) {
	case *rsa.PublicKey:
		return a == RS256 && key.N.BitLen() >= rsaBits
	case *ecdsa.PublicKey:
		return a == ES256 && key.Curve == elliptic.P256() || a == ES384 && key.Curve == elliptic.P384()
	}
	return false
}
