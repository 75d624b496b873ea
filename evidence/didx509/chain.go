// SPDX-License-Identifier: Apache-2.0

package didx509

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Limits of a chain. They are far above what certificate authorities make, and keep hostile chains cheap to refuse.
const (
	MaxCertificates    = 8
	MaxCertificateSize = 16 << 10
	maxRSABits         = 8192
	minRSABits         = 2048
)

// ParseChain reads certificates in DER, leaf first, within the package's limits.
func ParseChain(der [][]byte) ([]*x509.Certificate, error) {
	if len(der) > MaxCertificates {
		return nil, fmt.Errorf("chain has %d certificates, at most %d are allowed", len(der), MaxCertificates)
	}
	chain := make([]*x509.Certificate, 0, len(der))
	for i, b := range der {
		if len(b) > MaxCertificateSize {
			return nil, fmt.Errorf("certificate %d has %d bytes, at most %d are allowed", i, len(b), MaxCertificateSize)
		}
		c, err := x509.ParseCertificate(b)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i, err)
		}
		chain = append(chain, c)
	}
	return chain, nil
}

// VerifyChain checks that each certificate, leaf first, was rightly signed by the one after it, that all but the leaf
// are authorities, that the leaf's key may sign, and that all were valid at a time. The zero time stands for the end of
// the leaf's validity, which asks only whether the chain ever was valid. The last certificate is trusted as it is: that
// it means anything is for a fingerprint to say.
func VerifyChain(chain []*x509.Certificate, at time.Time) error {
	if len(chain) < 2 || len(chain) > MaxCertificates {
		return fmt.Errorf("chain has %d certificates, want 2 to %d", len(chain), MaxCertificates)
	}
	for i, c := range chain {
		if c == nil || len(c.Raw) == 0 || len(c.Raw) > MaxCertificateSize {
			return fmt.Errorf("certificate %d is not a parsed certificate of at most %d bytes", i, MaxCertificateSize)
		}
		err := acceptableKey(c.PublicKey)
		if err != nil {
			return fmt.Errorf("certificate %d: %w", i, err)
		}
	}
	leaf, last := chain[0], chain[len(chain)-1]
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return errors.New("the leaf's key usage does not include digital signatures")
	}
	for i, c := range chain[1:] {
		// Verify takes the last certificate as it is; as an issuer it must be an authority like the others.
		err := chain[i].CheckSignatureFrom(c)
		if err != nil {
			return fmt.Errorf("certificate %d was not signed by certificate %d: %w", i, i+1, err)
		}
	}
	if at.IsZero() {
		at = leaf.NotAfter
	}
	o := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	o.Roots.AddCert(last)
	for _, c := range chain[1 : len(chain)-1] {
		o.Intermediates.AddCert(c)
	}
	found, err := leaf.Verify(o)
	if err != nil {
		return fmt.Errorf("chain is not valid at %s: %w", at.UTC().Format(time.RFC3339), err)
	}
	if !slices.ContainsFunc(found, func(f []*x509.Certificate) bool { return slices.EqualFunc(f, chain, (*x509.Certificate).Equal) }) {
		return errors.New("chain is not in order, or holds certificates that are no part of it")
	}
	return nil
}

// acceptableKey refuses keys that are too weak to mean anything, or made to be slow.
func acceptableKey(key any) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSABits || n > maxRSABits {
			return fmt.Errorf("RSA key has %d bits, want %d to %d", n, minRSABits, maxRSABits)
		}
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() && k.Curve != elliptic.P521() {
			return errors.New("elliptic curve is not P-256, P-384 or P-521")
		}
	case ed25519.PublicKey:
	default:
		return fmt.Errorf("key of type %T is not supported", key)
	}
	return nil
}
