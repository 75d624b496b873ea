// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence/dcap"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

// Common names of "PCK Certificate and CRL Profile", section "X.509 Certificate Hierarchy".
const (
	rootName       = "Intel SGX Root CA"
	platformName   = "Intel SGX PCK Platform CA"
	processorName  = "Intel SGX PCK Processor CA"
	pckName        = "Intel SGX PCK Certificate"
	tcbSigningName = "Intel SGX TCB Signing"
)

// chain is what links a quote to a root, as far as it could be established.
type chain struct {
	root         *anchor.Root
	intermediate *x509.Certificate
	leaf         *x509.Certificate
}

// linked reports whether a root vouches for the leaf.
func (c *chain) linked() bool { return c.root != nil && c.leaf != nil }

// ca names the authority that issued the leaf, or is empty.
func (c *chain) ca() string {
	if c.intermediate == nil {
		return ""
	}
	switch c.intermediate.Subject.CommonName {
	case platformName:
		return collateral.PlatformCA
	case processorName:
		return collateral.ProcessorCA
	}
	return ""
}

// chain parses the certificates inside of the quote and links them to a configured root.
func (a *appraisal) chain(q *dcap.Quote) *chain {
	c := &chain{}
	expected := dcap.CertificationPCKChain.String()
	if q.CertificationType != dcap.CertificationPCKChain {
		a.Fail(check.Certification, check.CodeCertificationUnsupported, expected, q.CertificationType.String())
		return c
	}
	if !plainPEM(q.CertificationData, q.Certificates) {
		a.Fail(check.Certification, check.CodeCertificateBad, "plain PEM", "PEM with other bytes than the certificates need")
		return c
	}
	a.Pass(check.Certification, expected, expected)
	certs := a.certificates(q.Certificates)
	if len(certs) < 2 {
		a.Undecided(check.ChipCertificate, check.CodeCertificateMissing, "machine certificate and its issuer",
			fmt.Sprintf("%d usable certificates", len(certs)))
		return c
	}
	c.leaf = certs[0]
	a.machine(c.leaf)
	a.link(c, certs)
	if c.linked() {
		a.in.Cache.facts().Keep(c.leaf, c.intermediate)
		a.profile(c)
		a.validity(c)
		a.res.Domain, a.res.Simulated = c.root.Domain, c.root.Domain == anchor.Simulated
	}
	return c
}

// plainPEM reports whether the text is just what the certificates need, but for where its lines end: Azure's machines wrap
// them at 76 characters, others at 64.
func plainPEM(text []byte, chain [][]byte) bool {
	var want []byte
	for _, der := range chain {
		want = append(want, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	unwrap := func(b []byte) []byte {
		b = bytes.ReplaceAll(bytes.TrimSuffix(b, []byte{0}), []byte("\r"), nil)
		return bytes.ReplaceAll(b, []byte("\n"), nil)
	}
	return bytes.Equal(unwrap(text), unwrap(want)) && !bytes.Contains(text, []byte("\n\n"))
}

func (a *appraisal) certificates(ders [][]byte) []*x509.Certificate {
	var certs []*x509.Certificate
	for i, der := range ders {
		cert, err := a.in.Cache.facts().Certificate(der)
		if err != nil {
			a.Fail(check.ChipCertificate, check.CodeCertificateBad, "certificates in DER",
				fmt.Sprintf("certificate %d: %v", i, err))
			return nil
		}
		certs = append(certs, cert)
	}
	return certs
}

// machine reads what the leaf says about the machine.
func (a *appraisal) machine(leaf *x509.Certificate) {
	pck, err := dcap.ParsePCK(leaf)
	if err != nil {
		a.Fail(check.ChipCertificate, check.CodeCertificateBad, "a PCK certificate", err.Error())
		return
	}
	a.res.PCK = pck
	a.Pass(check.ChipCertificate, "a PCK certificate", fmt.Sprintf("FMSPC %x", pck.FMSPC))
}

// link finds a root that signed the intermediate. Keys that came with the evidence verify nothing until a root has signed
// them.
func (a *appraisal) link(c *chain, certs []*x509.Certificate) {
	expected := describeRoots(a.roots)
	for _, cert := range certs {
		if anchor.Denied(cert) {
			a.Fail(check.TrustAnchor, check.CodeTrustAnchorDenied, expected,
				fmt.Sprintf("%s, whose private key is published", cert.Subject))
			return
		}
	}
	facts, intermediate := a.in.Cache.facts(), certs[1]
	i := slices.IndexFunc(a.roots, func(r anchor.Root) bool { return r.Signed(facts, intermediate) })
	if i < 0 {
		a.Fail(check.TrustAnchor, check.CodeTrustAnchorUnknown, expected,
			fmt.Sprintf("%s issued by %s", intermediate.Subject, intermediate.Issuer))
		return
	}
	root := &a.roots[i]
	a.Pass(check.TrustAnchor, describeRoots([]anchor.Root{*root}), root.Certificate.Subject.String())
	if err := signedBy(facts, intermediate, c.leaf); err != nil {
		a.Fail(check.Chain, check.CodeChainSignature, "machine certificate signed by "+intermediate.Subject.String(), err.Error())
		return
	}
	c.root, c.intermediate = root, intermediate
	a.res.Chain = []anchor.Link{
		anchor.NewLink("root", root.Name, root.Certificate), anchor.NewLink("intermediate", "", intermediate),
		anchor.NewLink("chip", "", c.leaf),
	}
	a.leftOver(c, certs)
}

// leftOver refuses certificates that are no part of the chain: evidence has no room for what nobody judged.
func (a *appraisal) leftOver(c *chain, certs []*x509.Certificate) {
	const expected = "no certificate but those of the chain"
	for i, cert := range certs[2:] {
		if i > 0 || !cert.Equal(c.root.Certificate) {
			a.Fail(check.Chain, check.CodeCertificateUnused, expected, cert.Subject.String())
			return
		}
	}
	for i, der := range a.in.Certificates {
		known := func(cert *x509.Certificate) bool { return bytes.Equal(cert.Raw, der) }
		if !slices.ContainsFunc(append(certs[:2:2], c.root.Certificate), known) {
			a.Fail(check.Chain, check.CodeCertificateUnused, expected, fmt.Sprintf("certificate %d beside the quote", i))
			return
		}
	}
	a.Pass(check.Chain, "three certificates", "three certificates")
}

// signedBy verifies that issuer signed cert and is the one that cert names.
func signedBy(facts *anchor.Cache, issuer, cert *x509.Certificate) error {
	if !bytes.Equal(issuer.RawSubject, cert.RawIssuer) {
		return fmt.Errorf("%s is issued by %s, not by %s", cert.Subject, cert.Issuer, issuer.Subject)
	}
	return facts.Signed(issuer, cert)
}

// profile checks that each certificate is used in its own role: the names tell which it is.
func (a *appraisal) profile(c *chain) {
	want := fmt.Sprintf("%s; %s or %s; %s", rootName, platformName, processorName, pckName)
	got := fmt.Sprintf("%s; %s; %s", c.root.Certificate.Subject.CommonName, c.intermediate.Subject.CommonName,
		c.leaf.Subject.CommonName)
	err := endEntity(c.leaf, pckName)
	if err != nil {
		got = err.Error()
	}
	ok := err == nil && c.root.Certificate.Subject.CommonName == rootName && c.ca() != "" &&
		len(c.intermediate.UnhandledCriticalExtensions) == 0
	a.Require(ok, check.Profile, check.CodeChainProfile, want, got)
}

// endEntity requires what machine and signing certificates have in common: the name of the role, a P-256 key that may sign
// data, no authority, and no critical extension that is unknown.
func endEntity(cert *x509.Certificate, name string) error {
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	switch {
	case cert.Subject.CommonName != name:
		return fmt.Errorf("certificate of %s, not of %s", cert.Subject, name)
	case !ok || key.Curve != elliptic.P256():
		return fmt.Errorf("certificate of %s has no P-256 key", name)
	case cert.IsCA || !cert.BasicConstraintsValid || cert.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return fmt.Errorf("certificate of %s is an authority, or may not sign data", name)
	case len(cert.UnhandledCriticalExtensions) != 0:
		return fmt.Errorf("certificate of %s has the critical extension %v, which is unknown", name, cert.UnhandledCriticalExtensions[0])
	}
	return nil
}

// validity requires the time of appraisal to be within the validity periods of the whole chain.
func (a *appraisal) validity(c *chain) {
	for _, cert := range []*x509.Certificate{c.root.Certificate, c.intermediate, c.leaf} {
		a.within(cert.NotBefore, cert.NotAfter)
	}
	a.Within(a.in.Now, a.res.From, a.res.Until)
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
