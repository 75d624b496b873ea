// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"embed"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync"

	"cofferdam.dev/verify/check"
)

// Domain is a trust domain: who vouches for what a root signs. It comes from configuration, never from evidence.
type Domain string

// The trust domains.
const (
	// DomainAMD is AMD hardware. Its roots are the embedded ones and no others.
	DomainAMD Domain = "amd"
	// DomainIntel is Intel hardware.
	DomainIntel Domain = "intel"
	// DomainSimulated is no hardware at all.
	DomainSimulated Domain = "simulated"
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

// NewRoot returns a root after checking it: a self-signed certificate authority with an RSA-4096 key, not publicly known
// to be worthless, and for the AMD domain one of AMD's own.
func NewRoot(domain Domain, name string, cert *x509.Certificate) (Root, error) {
	r := Root{Domain: domain, Name: name, Certificate: cert}
	if _, err := r.check(); err != nil {
		return Root{}, fmt.Errorf("trusting root %q: %w", name, err)
	}
	r.checked = checkedRoot{domain, cert}
	return r, nil
}

// check returns why a root can not be used, with the code for it.
func (r Root) check() (check.Code, error) {
	cert := r.Certificate
	switch {
	case cert == nil:
		return check.CodeTrustAnchorBad, errors.New("it has no certificate")
	case r.checked == checkedRoot{r.Domain, cert}:
		return check.CodeOK, nil
	case denied(cert):
		return check.CodeTrustAnchorDenied, fmt.Errorf("its private key is published (SHA-256 of public key %s)", spki(cert))
	case r.Domain != DomainAMD && r.Domain != DomainSimulated:
		return check.CodeTrustAnchorBad, fmt.Errorf("trust domain %q is not %q or %q", r.Domain, DomainAMD, DomainSimulated)
	case r.Domain == DomainAMD && !isAMD(cert):
		return check.CodeTrustAnchorBad, fmt.Errorf("it is none of AMD's roots (SHA-256 of public key %s)", spki(cert))
	case r.Domain == DomainSimulated && isAMD(cert):
		return check.CodeTrustAnchorBad, fmt.Errorf("it is a root of AMD under the domain %q", DomainSimulated)
	}
	if err := checkAuthority(cert); err != nil {
		return check.CodeTrustAnchorBad, err
	}
	if err := signedBy(cert, cert); err != nil {
		return check.CodeTrustAnchorBad, fmt.Errorf("it is not signed by itself: %w", err)
	}
	return check.CodeOK, nil
}

// checkAuthority requires the properties of AMD's certificate authorities.
func checkAuthority(cert *x509.Certificate) error {
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	switch {
	case !ok || key.N.BitLen() != 4096:
		return fmt.Errorf("%s has no RSA-4096 key", cert.Subject)
	case !cert.BasicConstraintsValid || !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return fmt.Errorf("%s may not sign certificates", cert.Subject)
	}
	return nil
}

// signedBy verifies a signature in the only form that AMD uses: RSASSA-PSS with SHA-384 and a salt as long.
func signedBy(parent, child *x509.Certificate) error {
	if child.SignatureAlgorithm != x509.SHA384WithRSAPSS {
		return fmt.Errorf("signature algorithm is %s, not %s", child.SignatureAlgorithm, x509.SHA384WithRSAPSS)
	}
	return parent.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature)
}

//go:embed roots/*.pem
var rootFiles embed.FS

// AMDRoots returns AMD's root keys for Milan, Genoa (also Bergamo and Siena) and Turin. They and their intermediates are
// embedded and parsed once.
func AMDRoots() []Root { return slices.Clone(amdRoots()) }

var amdRoots = sync.OnceValue(loadAMDRoots)

// loadAMDRoots leaves out what does not verify; a test requires that nothing is left out.
func loadAMDRoots() []Root {
	entries, err := rootFiles.ReadDir("roots")
	if err != nil {
		return nil
	}
	var roots []Root
	for _, e := range entries {
		b, err := rootFiles.ReadFile("roots/" + e.Name())
		if err != nil {
			continue
		}
		ask, ark, err := parsePair(b)
		if err != nil || signedBy(ark, ark) != nil || signedBy(ark, ask) != nil || checkAuthority(ark) != nil {
			continue
		}
		i := slices.IndexFunc(roots, func(r Root) bool { return r.Certificate.Equal(ark) })
		if i < 0 {
			roots = append(roots, Root{Domain: DomainAMD, Name: ark.Subject.CommonName, Certificate: ark,
				checked: checkedRoot{DomainAMD, ark}})
			i = len(roots) - 1
		}
		roots[i].known = append(roots[i].known, ask)
	}
	return roots
}

// parsePair parses a file of an intermediate and its root, in that order.
func parsePair(b []byte) (ask, ark *x509.Certificate, err error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, err
		}
		certs = append(certs, c)
	}
	if len(certs) != 2 {
		return nil, nil, fmt.Errorf("there are %d certificates, not 2", len(certs))
	}
	return certs[0], certs[1], nil
}

func isAMD(cert *x509.Certificate) bool {
	return slices.ContainsFunc(amdRoots(), func(r Root) bool { return bytes.Equal(r.Certificate.Raw, cert.Raw) })
}

// deniedKeys are the SHA-256 digests of public keys whose private keys are published: the ARK, ASK, ASVK, VCEK and VLEK
// of the testing package of github.com/google/go-sev-guest, which makes certificates with AMD's names from them.
var deniedKeys = map[string]bool{
	"686a27cee8debf56a4cf2ae07b2835b5440f7761ea14d05d3326155c0392a892": true,
	"1fffee37a1b2d138e0f88d222b7c98272ef37fac6974b4434798a24215ad811c": true,
	"4f8607e1c7ec17b73541450d3caacaf057575f6ef734edda85a97c10cae0d1ba": true,
	"2b8cd73f8dd0b8c49f7968bae46b3036b8b13e355fc6adaf1d57330fa02a8f76": true,
	"56824dcd7946619798dd7a2c3cac52c3992ad5fb52742ad139cba3d3fc4b8c62": true,
}

func denied(cert *x509.Certificate) bool { return deniedKeys[spki(cert)] }

// spki returns the SHA-256 of a certificate's public key in hexadecimal.
func spki(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}
