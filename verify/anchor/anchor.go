// SPDX-License-Identifier: Apache-2.0

// Package anchor is where trust begins: the roots that a relying party configures, each under a typed trust domain, the
// published roots of AMD and Intel, and the list of keys that nobody may trust because their private halves are published.
//
// It trusts the certificates that are embedded in it and what its caller configures. A domain comes from configuration and
// never from evidence; a hardware domain admits the vendor's own roots and no others, and the simulated domain admits none
// of those. The package never touches the network, the clock or a file, and never decides about evidence.
package anchor

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"cofferdam.dev/verify/check"
)

// Domain is a trust domain: who vouches for what a root signs. It comes from configuration, never from evidence.
type Domain string

// The trust domains.
const (
	// AMD is AMD hardware. Its roots are the embedded ones and no others.
	AMD Domain = "amd"
	// Intel is Intel hardware. Its root is the embedded one and no other.
	Intel Domain = "intel"
	// Simulated is no hardware at all.
	Simulated Domain = "simulated"
)

// Root is a trust anchor. NewRoot makes one that is checked once instead of at every appraisal.
type Root struct {
	// Domain is what the root is trusted for.
	Domain Domain
	// Name is shown in verdicts.
	Name string
	// Certificate is the self-signed root certificate.
	Certificate *x509.Certificate

	// checked is what was checked, so that a copy whose fields were changed is checked again.
	checked checkedRoot
	// known are intermediates that the root is known to have signed.
	known []*x509.Certificate
}

type checkedRoot struct {
	domain Domain
	cert   *x509.Certificate
}

// NewRoot returns a root after checking it: a self-signed certificate authority with a key of the kind that AMD (RSA-4096)
// or Intel (P-256) uses, not publicly known to be worthless, and for a hardware domain one of the vendor's own.
func NewRoot(domain Domain, name string, cert *x509.Certificate) (Root, error) {
	r := Root{Domain: domain, Name: name, Certificate: cert}
	if _, err := r.Check(); err != nil {
		return Root{}, fmt.Errorf("trusting root %q: %w", name, err)
	}
	r.checked = checkedRoot{domain, cert}
	return r, nil
}

// Check returns why the root can not be used, with the code for it.
func (r Root) Check() (check.Code, error) {
	cert := r.Certificate
	switch {
	case cert == nil:
		return check.CodeTrustAnchorBad, errors.New("it has no certificate")
	case r.checked == checkedRoot{r.Domain, cert}:
		return check.CodeOK, nil
	case Denied(cert):
		return check.CodeTrustAnchorDenied, fmt.Errorf("its private key is published (SHA-256 of public key %s)", SPKI(cert))
	case r.Domain != AMD && r.Domain != Intel && r.Domain != Simulated:
		return check.CodeTrustAnchorBad, fmt.Errorf("trust domain %q is not %q, %q or %q", r.Domain, AMD, Intel, Simulated)
	case r.Domain != Simulated && vendor(cert) != r.Domain:
		return check.CodeTrustAnchorBad, fmt.Errorf("it is no root of the domain %q (SHA-256 of public key %s)", r.Domain, SPKI(cert))
	case r.Domain == Simulated && vendor(cert) != "":
		return check.CodeTrustAnchorBad, fmt.Errorf("it is a root of %q under the domain %q", vendor(cert), Simulated)
	}
	if err := CheckAuthority(cert); err != nil {
		return check.CodeTrustAnchorBad, err
	}
	if err := (*Cache)(nil).Signed(cert, cert); err != nil {
		return check.CodeTrustAnchorBad, fmt.Errorf("it is not signed by itself: %w", err)
	}
	return check.CodeOK, nil
}

// Intermediates returns the certificates of authorities that the root is known to have signed: the embedded ones of a
// vendor's root.
func (r Root) Intermediates() []*x509.Certificate { return slices.Clone(r.known) }

// Signed reports whether the certificate is an authority that the root signed. Known ones were verified when the root was
// loaded.
func (r Root) Signed(c *Cache, cert *x509.Certificate) bool {
	if !bytes.Equal(cert.RawIssuer, r.Certificate.RawSubject) {
		return false
	}
	if slices.ContainsFunc(r.known, cert.Equal) {
		return true
	}
	return CheckAuthority(cert) == nil && c.Signed(r.Certificate, cert) == nil
}

// CheckAuthority requires what both vendors' certificate authorities are: an authority that may sign certificates, with
// an RSA-4096 key (AMD) or a P-256 key (Intel).
func CheckAuthority(cert *x509.Certificate) error {
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() != 4096 {
			return fmt.Errorf("%s has an RSA key of %d bits, not 4096", cert.Subject, key.N.BitLen())
		}
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return fmt.Errorf("%s has a key on curve %s, not P-256", cert.Subject, key.Params().Name)
		}
	default:
		return fmt.Errorf("%s has neither an RSA-4096 nor a P-256 key", cert.Subject)
	}
	if !cert.BasicConstraintsValid || !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return fmt.Errorf("%s may not sign certificates", cert.Subject)
	}
	return nil
}

// Usable returns the roots by which evidence of a domain may be judged: the domain's own and, where they are allowed, the
// simulated ones. Roots of the other vendors are passed over; a root that should not have been configured is recorded as
// a failed check.
func Usable(rec *check.Record, roots []Root, domain Domain, allowSimulated bool) []Root {
	var usable []Root
	for _, r := range roots {
		other := r.Domain == AMD || r.Domain == Intel
		if r.Domain != domain && other || r.Domain == Simulated && !allowSimulated {
			continue
		}
		if code, err := r.Check(); err != nil {
			rec.Fail(check.TrustAnchor, code, "a usable root", fmt.Sprintf("root %q: %v", r.Name, err))
			continue
		}
		usable = append(usable, r)
	}
	return usable
}
