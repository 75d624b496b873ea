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

// chain parses the certificates of the evidence and links them to a configured root.
func (a *appraisal) chain(_ context.Context, r *snp.Report) *chain {
	certs := a.parseCertificates(a.in.Certificates)
	c := &chain{}
	a.chooseLeaf(c, certs, r.KeyInfo.SigningKey())
	roots := anchor.Usable(a.Record, a.in.Roots, anchor.AMD, a.in.AllowSimulated)
	if c.leaf != nil {
		a.link(c, roots, certs)
	}
	if c.root != nil {
		a.profile(c)
		a.validity(c)
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

// chooseLeaf takes the certificate with a chip key of the kind that the report names, else the first with a chip key.
func (a *appraisal) chooseLeaf(c *chain, certs []*x509.Certificate, key snp.SigningKey) {
	var first error
	for _, cert := range certs {
		pub, ok := cert.PublicKey.(*ecdsa.PublicKey)
		if !ok || pub.Curve != elliptic.P384() {
			continue
		}
		chip, err := snp.ParseChipCertificate(cert)
		if err != nil {
			first = err
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
	switch {
	case c.chip != nil:
		a.Pass(check.ChipCertificate, "a certificate of a "+key.String(), fmt.Sprintf("%s of %s", c.chip.Key,
			c.chip.ProductName))
	case c.leaf != nil:
		a.Fail(check.ChipCertificate, check.CodeCertificateBad, "a certificate of a "+key.String(), first.Error())
	default:
		a.Undecided(check.ChipCertificate, check.CodeCertificateMissing, "a certificate of a "+key.String(),
			fmt.Sprintf("none among %d certificates", len(certs)))
	}
}

// link finds the intermediate that the leaf names and a root that signed it. Keys that came with the evidence verify
// nothing until a root has signed them.
func (a *appraisal) link(c *chain, roots []anchor.Root, certs []*x509.Certificate) {
	expected := describeRoots(roots)
	for _, cert := range certs {
		if anchor.Denied(cert) {
			a.Fail(check.TrustAnchor, check.CodeTrustAnchorDenied, expected,
				fmt.Sprintf("%s, whose private key is published", cert.Subject))
			return
		}
	}
	named := false
	for i := range roots {
		r := &roots[i]
		for _, cert := range slices.Concat(certs, r.Intermediates()) {
			if !bytes.Equal(cert.RawSubject, c.leaf.RawIssuer) || cert == c.leaf {
				continue
			}
			named = true
			if !r.Signed(a.in.Cache, cert) {
				continue
			}
			c.root, c.intermediate = r, cert
			if a.in.Cache.Signed(cert, c.leaf) == nil {
				a.linked(c, certs)
				return
			}
		}
	}
	a.unlinked(c, expected, named, len(roots))
}

// linked records the chain. A certificate that is no part of it is refused: evidence has no room for what nobody judged.
func (a *appraisal) linked(c *chain, certs []*x509.Certificate) {
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
		anchor.NewLink("root", c.root.Name, c.root.Certificate),
		anchor.NewLink("intermediate", "", c.intermediate),
		anchor.NewLink("chip", "", c.leaf),
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
		a.Undecided(check.TrustAnchor, check.CodeCertificateMissing, "the certificate of "+issuer, "not in the evidence")
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

// validity requires the time of appraisal to be within all validity periods. A certificate out of its period proves
// nothing, but does not show anything wrong either: the verdict is left open.
func (a *appraisal) validity(c *chain) {
	certs := []*x509.Certificate{c.root.Certificate, c.intermediate, c.leaf}
	from, until := certs[0].NotBefore, certs[0].NotAfter
	for _, cert := range certs[1:] {
		if cert.NotBefore.After(from) {
			from = cert.NotBefore
		}
		if cert.NotAfter.Before(until) {
			until = cert.NotAfter
		}
	}
	a.res.From, a.res.Until = from.UTC(), until.UTC()
	expected := fmt.Sprintf("%s to %s", stamp(from), stamp(until))
	switch now := a.in.Now; {
	case now.Before(from):
		a.Undecided(check.Validity, check.CodeCertificateNotYet, expected, stamp(now))
	case now.After(until):
		a.Undecided(check.Validity, check.CodeCertificateExpired, expected, stamp(now))
	default:
		a.Pass(check.Validity, expected, stamp(now))
	}
}
