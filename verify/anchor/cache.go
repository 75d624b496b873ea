// SPDX-License-Identifier: Apache-2.0

package anchor

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"

	"cofferdam.dev/verify/internal/recent"
)

// Cache remembers which signatures were verified and which certificates were parsed, so that judging evidence of a known
// machine again costs one signature. It holds mathematical facts alone: that a certain key made a certain signature over
// certain bytes, under a digest of all three. Whether a certificate is trusted, valid now, revoked or allowed is decided
// anew at every appraisal, so that a change of roots, revocation lists, policy or time takes effect at once and nothing
// that is remembered can be out of date.
//
// It is bounded, and safe for concurrent use. A nil Cache works and remembers nothing.
type Cache recent.Map[fact]

// fact is what is remembered: a parsed certificate with its description, a parsed list, or nothing but that the signature
// verified.
type fact struct {
	cert *x509.Certificate
	link Link
	list *x509.RevocationList
}

// DefaultCacheSize is enough for a few thousand machines; a certificate takes about 8 KiB.
const DefaultCacheSize = 8192

// NewCache returns a cache of at most size facts. Of the facts that were not used for longest, half are dropped at a time.
func NewCache(size int) *Cache {
	return (*Cache)(recent.New[fact](size))
}

// facts returns what is remembered. It is nil for a nil Cache, and works then, too.
func (c *Cache) facts() *recent.Map[fact] { return (*recent.Map[fact])(c) }

// Len returns the number of facts that are remembered.
func (c *Cache) Len() int { return c.facts().Len() }

// Forget drops everything.
func (c *Cache) Forget() { c.facts().Forget() }

// Certificate parses a certificate in DER, or returns the one that Keep was given. It is shared: it must not be changed.
func (c *Cache) Certificate(der []byte) (*x509.Certificate, error) {
	if c != nil {
		if f, ok := c.facts().Get(recent.Digest("certificate", der)); ok {
			return f.cert, nil
		}
	}
	return x509.ParseCertificate(der)
}

// Keep remembers parsed certificates. Callers keep those that a root vouches for, so that strangers can not fill the cache.
func (c *Cache) Keep(certs ...*x509.Certificate) {
	if c == nil {
		return
	}
	for _, cert := range certs {
		k := recent.Digest("certificate", cert.Raw)
		if _, ok := c.facts().Get(k); !ok {
			c.facts().Put(k, fact{cert: cert, link: NewLink("", "", cert)})
		}
	}
}

// Link describes a certificate like NewLink.
func (c *Cache) Link(role, name string, cert *x509.Certificate) Link {
	if c != nil {
		if f, ok := c.facts().Get(recent.Digest("certificate", cert.Raw)); ok {
			l := f.link
			l.Role, l.Name = role, name
			return l
		}
	}
	return NewLink(role, name, cert)
}

// RevocationList parses a revocation list in DER, or returns the one that was parsed before and whose signature verified.
// It is shared: it must not be changed.
func (c *Cache) RevocationList(der []byte) (*x509.RevocationList, error) {
	if c != nil {
		if f, ok := c.facts().Get(recent.Digest("list", der)); ok {
			return f.list, nil
		}
	}
	return x509.ParseRevocationList(der)
}

// Signed verifies that the parent's key signed the child, in the one form that the key's vendor uses: RSASSA-PSS with
// SHA-384 and a salt as long for RSA, ECDSA with SHA-256 for P-256.
func (c *Cache) Signed(parent, child *x509.Certificate) error {
	return c.signature(parent, child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature)
}

// SignedList verifies that the issuer's key signed the revocation list.
func (c *Cache) SignedList(issuer *x509.Certificate, list *x509.RevocationList) error {
	err := c.signature(issuer, list.SignatureAlgorithm, list.RawTBSRevocationList, list.Signature)
	if err == nil {
		c.facts().Put(recent.Digest("list", list.Raw), fact{list: list})
	}
	return err
}

func (c *Cache) signature(issuer *x509.Certificate, alg x509.SignatureAlgorithm, signed, sig []byte) error {
	want := x509.UnknownSignatureAlgorithm
	switch issuer.PublicKey.(type) {
	case *rsa.PublicKey:
		want = x509.SHA384WithRSAPSS
	case *ecdsa.PublicKey:
		want = x509.ECDSAWithSHA256
	}
	if alg != want || want == x509.UnknownSignatureAlgorithm {
		return fmt.Errorf("signature algorithm is %s, not %s", alg, want)
	}
	var k recent.Key
	if c != nil {
		k = recent.Digest("signature", []byte(alg.String()), issuer.RawSubjectPublicKeyInfo, signed, sig)
		if _, ok := c.facts().Get(k); ok {
			return nil
		}
	}
	if err := issuer.CheckSignature(alg, signed, sig); err != nil {
		return fmt.Errorf("verifying signature: %w", err)
	}
	c.facts().Put(k, fact{})
	return nil
}
