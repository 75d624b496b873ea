// SPDX-License-Identifier: Apache-2.0

package amd

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

// chain is what links a report to a root, as far as it could be established.
type chain struct {
	root         *anchor.Root
	intermediate *x509.Certificate
	leaf         *x509.Certificate
	chip         *snp.ChipCertificate
}

// chain parses the certificates of the evidence, gets those that it lacks, and links them to a configured root.
func (a *appraisal) chain(ctx context.Context, r *snp.Report) *chain {
	certs := a.parseCertificates(a.in.Certificates)
	c := &chain{}
	key := r.KeyInfo.SigningKey()
	bad := c.choose(certs, key)
	if c.leaf == nil && key == snp.SigningKeyVCEK {
		if cert := a.fetchVCEK(ctx, r); cert != nil {
			certs = append(certs, cert)
			bad = c.choose(certs, key)
		}
	}
	a.chosen(c, key, bad, len(certs))
	roots := anchor.Usable(a.Record, a.in.Roots, anchor.AMD, a.in.AllowSimulated)
	if c.leaf != nil {
		a.link(ctx, c, roots, certs)
	}
	if c.root != nil {
		a.profile(c)
		a.validity(c)
		a.revocation(ctx, c)
		a.res.Domain = c.root.Domain
		a.res.Simulated = c.root.Domain == anchor.Simulated
	} else if c.leaf != nil {
		// Nothing vouches for the name, but whoever uses it is not to be mistaken for hardware.
		a.res.Simulated = slices.Contains(c.leaf.Issuer.Organization, snp.SimulatedOrganization)
	}
	return c
}

func (a *appraisal) parseCertificates(ders [][]byte) []*x509.Certificate {
	var certs []*x509.Certificate
	for i, der := range ders {
		cert, err := a.in.Cache.Certificate(der)
		if err != nil {
			a.Fail(check.ChipCertificate, check.CodeCertificateBad, "certificates in DER",
				fmt.Sprintf("certificate %d: %v", i, err))
			continue
		}
		certs = append(certs, cert)
	}
	return certs
}

// choose takes the certificate with a chip key of the kind that the report names, else the first with a chip key. When
// there is none but one that could not be read, it says why.
func (c *chain) choose(certs []*x509.Certificate, key snp.SigningKey) (bad error) {
	for _, cert := range certs {
		pub, ok := cert.PublicKey.(*ecdsa.PublicKey)
		if !ok || pub.Curve != elliptic.P384() {
			continue
		}
		chip, err := snp.ParseChipCertificate(cert)
		if err != nil {
			bad = err
			if c.leaf == nil {
				c.leaf = cert
			}
			continue
		}
		if c.chip == nil || chip.Key == key {
			c.leaf, c.chip = cert, chip
		}
		if chip.Key == key {
			break
		}
	}
	return bad
}

func (a *appraisal) chosen(c *chain, key snp.SigningKey, bad error, n int) {
	expected := "a certificate of a " + key.String()
	switch {
	case c.chip != nil:
		a.Pass(check.ChipCertificate, expected, fmt.Sprintf("%s of %s", c.chip.Key, c.chip.ProductName))
	case c.leaf != nil:
		a.Fail(check.ChipCertificate, check.CodeCertificateBad, expected, bad.Error())
	default:
		a.Undecided(check.ChipCertificate, check.CodeCertificateMissing, expected, fmt.Sprintf("none among %d certificates", n))
	}
}

// link finds the intermediate that the leaf names and a root that signed it. Keys that came with the evidence verify
// nothing until a root has signed them.
func (a *appraisal) link(ctx context.Context, c *chain, roots []anchor.Root, certs []*x509.Certificate) {
	expected := describeRoots(roots)
	if a.refuseDenied(expected, certs) {
		return
	}
	named, done := a.tryLink(c, roots, certs, certs)
	if !done && !named && c.chip != nil && len(roots) > 0 {
		fetched := a.fetchChain(ctx, c.chip)
		if a.refuseDenied(expected, fetched) {
			return
		}
		named, done = a.tryLink(c, roots, fetched, certs)
	}
	if !done {
		a.unlinked(c, expected, named, len(roots))
	}
}

func (a *appraisal) refuseDenied(expected string, certs []*x509.Certificate) bool {
	for _, cert := range certs {
		if anchor.Denied(cert) {
			a.Fail(check.TrustAnchor, check.CodeTrustAnchorDenied, expected,
				fmt.Sprintf("%s, whose private key is published", cert.Subject))
			return true
		}
	}
	return false
}

// tryLink looks for the intermediate among candidates and what the roots are known to have signed. It reports whether one
// bears the issuer's name, and whether the chain is complete. sent are the certificates of the evidence.
func (a *appraisal) tryLink(c *chain, roots []anchor.Root, candidates, sent []*x509.Certificate) (named, done bool) {
	for i := range roots {
		r := &roots[i]
		for _, cert := range slices.Concat(candidates, r.Intermediates()) {
			if !bytes.Equal(cert.RawSubject, c.leaf.RawIssuer) || cert == c.leaf {
				continue
			}
			named = true
			if !r.Signed(a.in.Cache, cert) {
				continue
			}
			c.root, c.intermediate = r, cert
			if a.in.Cache.Signed(cert, c.leaf) == nil {
				a.linked(c, sent)
				return named, true
			}
		}
	}
	return named, false
}

// linked records the chain. A certificate that is no part of it is refused: evidence has no room for what nobody judged.
func (a *appraisal) linked(c *chain, certs []*x509.Certificate) {
	a.in.Cache.Keep(c.leaf, c.intermediate, c.root.Certificate)
	a.Pass(check.TrustAnchor, describeRoots([]anchor.Root{*c.root}), c.root.Certificate.Subject.String())
	left := slices.DeleteFunc(slices.Clone(certs), func(x *x509.Certificate) bool {
		return x == c.leaf || x.Equal(c.intermediate) || x.Equal(c.root.Certificate)
	})
	if len(left) == 0 {
		a.Pass(check.Chain, "three certificates", "three certificates")
	} else {
		a.Fail(check.Chain, check.CodeCertificateUnused, "no certificate but those of the chain", left[0].Subject.String())
	}
	a.res.Chain = []anchor.Link{
		a.in.Cache.Link("root", c.root.Name, c.root.Certificate),
		a.in.Cache.Link("intermediate", "", c.intermediate),
		a.in.Cache.Link("chip", "", c.leaf),
	}
}

// unlinked says why there is no chain, and forgets what is not part of one.
func (a *appraisal) unlinked(c *chain, expected string, named bool, roots int) {
	issuer := c.leaf.Issuer.String()
	switch {
	case c.root != nil:
		a.Pass(check.TrustAnchor, expected, c.root.Certificate.Subject.String())
		a.Fail(check.Chain, check.CodeChainSignature, "chip certificate signed by "+c.intermediate.Subject.String(),
			"the signature does not verify")
	case roots > 0 && !named:
		a.Undecided(check.TrustAnchor, check.CodeCertificateMissing, "the certificate of "+issuer, "not at hand")
	default:
		a.Fail(check.TrustAnchor, check.CodeTrustAnchorUnknown, expected, "chip certificate issued by "+issuer)
	}
	c.root, c.intermediate = nil, nil
}

func describeRoots(roots []anchor.Root) string {
	if len(roots) == 0 {
		return "a root, but none is configured and allowed"
	}
	names := make([]string, len(roots))
	for i, r := range roots {
		names[i] = fmt.Sprintf("%s (%s)", r.Name, r.Domain)
	}
	return strings.Join(names, ", ")
}

// profile checks that each certificate is used in its own role: the names tell product line and kind of key.
func (a *appraisal) profile(c *chain) {
	if c.chip == nil {
		return // reported already
	}
	suffix, leafName := string(c.chip.Line), "SEV-"+c.chip.Key.String()
	if c.chip.Key == snp.SigningKeyVLEK {
		suffix = "VLEK-" + suffix
	}
	want := fmt.Sprintf("ARK-%s, SEV-%s, %s", c.chip.Line, suffix, leafName)
	got := fmt.Sprintf("%s, %s, %s", c.root.Certificate.Subject.CommonName, c.intermediate.Subject.CommonName,
		c.leaf.Subject.CommonName)
	ok := got == want && !c.leaf.IsCA && len(c.leaf.UnhandledCriticalExtensions) == 0 &&
		len(c.intermediate.UnhandledCriticalExtensions) == 0
	if c.leaf.IsCA {
		got += " (an authority)"
	}
	a.Require(ok, check.Profile, check.CodeChainProfile, want, got)
}

// validity requires the time of appraisal to be within the validity periods of the whole chain.
func (a *appraisal) validity(c *chain) {
	for _, cert := range []*x509.Certificate{c.root.Certificate, c.intermediate, c.leaf} {
		a.narrow(cert.NotBefore, cert.NotAfter)
	}
	a.Within(a.in.Now, a.res.From, a.res.Until)
}
