// SPDX-License-Identifier: Apache-2.0

package anchor

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"embed"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"sync"
)

//go:embed roots
var rootFiles embed.FS

// AMDRoots returns AMD's root keys for Milan, Genoa (also Bergamo and Siena) and Turin. They and their intermediates are
// embedded and parsed once.
func AMDRoots() []Root { return slices.Clone(amdRoots()) }

var amdRoots = sync.OnceValue(loadAMDRoots)

// loadAMDRoots leaves out what does not verify; a test requires that nothing is left out.
func loadAMDRoots() []Root {
	entries, err := rootFiles.ReadDir("roots/amd")
	if err != nil {
		return nil
	}
	var roots []Root
	var none *Cache
	for _, e := range entries {
		certs, err := readCertificates("roots/amd/" + e.Name())
		if err != nil || len(certs) != 2 {
			continue
		}
		ask, ark := certs[0], certs[1]
		if none.Signed(ark, ark) != nil || none.Signed(ark, ask) != nil || CheckAuthority(ark) != nil {
			continue
		}
		i := slices.IndexFunc(roots, func(r Root) bool { return r.Certificate.Equal(ark) })
		if i < 0 {
			roots = append(roots, Root{Domain: AMD, Name: ark.Subject.CommonName, Certificate: ark,
				checked: checkedRoot{AMD, ark}})
			i = len(roots) - 1
		}
		roots[i].known = append(roots[i].known, ask)
	}
	return roots
}

// IntelRoot returns the Intel SGX root CA, under which all DCAP quotes are endorsed, those of TDX too. It is embedded and
// parsed once.
func IntelRoot() Root { return intelRoot() }

var intelRoot = sync.OnceValue(loadIntelRoot)

// loadIntelRoot returns a root that nothing accepts when the embedded one does not verify; a test requires that it does.
func loadIntelRoot() Root {
	certs, err := readCertificates("roots/intel/sgx_root_ca.pem")
	if err != nil || len(certs) != 1 || CheckAuthority(certs[0]) != nil || (*Cache)(nil).Signed(certs[0], certs[0]) != nil {
		return Root{}
	}
	return Root{Domain: Intel, Name: certs[0].Subject.CommonName, Certificate: certs[0], checked: checkedRoot{Intel, certs[0]}}
}

func readCertificates(name string) ([]*x509.Certificate, error) {
	b, err := rootFiles.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("reading embedded root: %w", err)
	}
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return certs, nil
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parsing embedded root %s: %w", name, err)
		}
		certs = append(certs, c)
	}
}

// vendor returns the hardware domain whose root this is, or nothing.
func vendor(cert *x509.Certificate) Domain {
	same := func(r Root) bool { return r.Certificate != nil && bytes.Equal(r.Certificate.Raw, cert.Raw) }
	switch {
	case slices.ContainsFunc(amdRoots(), same):
		return AMD
	case same(intelRoot()):
		return Intel
	}
	return ""
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

// Denied reports whether the private key of the certificate is published, so that its signature proves nothing.
func Denied(cert *x509.Certificate) bool { return deniedKeys[SPKI(cert)] }

// SPKI returns the SHA-256 of a certificate's public key in hexadecimal.
func SPKI(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}
