// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the protocol names certificates by it; nothing is decided by it
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
)

// minRSA is the least size of the key that signs releases, in bits.
const minRSA = 2048

// Signer signs releases. Its certificate chain is in each, so that clients can tell by the authorities that they trust,
// and by the vault's host name in the certificate, that the vault signed.
type Signer struct {
	key   *rsa.PrivateKey
	chain [][]byte
}

// String names the signer without its key.
func (s *Signer) String() string { return fmt.Sprintf("signer with %d certificates", len(s.chain)) }

// GoString is String, so that no format prints the key.
func (s *Signer) GoString() string { return s.String() }

// LoadSigner returns a signer with the certificate chain, leaf first, and the RSA key in two PEM files.
func LoadSigner(certFile, keyFile string) (*Signer, error) {
	c, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate that signs releases: %w", err)
	}
	key, ok := c.PrivateKey.(*rsa.PrivateKey)
	if !ok || key.N.BitLen() < minRSA {
		return nil, fmt.Errorf("reading the certificate that signs releases: %s holds no RSA key of %d bits or more, which clients require", keyFile, minRSA)
	}
	return &Signer{key, c.Certificate}, nil
}

// NewSigner returns a signer with a key and its certificate chain in DER, leaf first.
func NewSigner(key *rsa.PrivateKey, chain [][]byte) (*Signer, error) {
	if key == nil || key.N.BitLen() < minRSA || len(chain) == 0 {
		return nil, fmt.Errorf("what signs releases: it has no certificate, or no RSA key of %d bits or more, which clients require", minRSA)
	}
	return &Signer{key, chain}, nil
}

// developmentLife is how long the certificates of DevelopmentSigner are valid.
const developmentLife = 90 * 24 * time.Hour

// DevelopmentSigner makes a signer whose chain of leaf, intermediate and root is made at each call, and returns the root
// in PEM for clients to trust. It is for development: nobody vouches for it. The root's key is gone when it returns.
func DevelopmentSigner(names []string, now time.Time) (*Signer, []byte, error) {
	s, root, err := developmentSigner(names, now)
	if err != nil {
		return nil, nil, fmt.Errorf("making certificates that sign releases, for development: %w", err)
	}
	return s, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root}), nil
}

func developmentSigner(names []string, now time.Time) (*Signer, []byte, error) {
	if len(names) == 0 {
		return nil, nil, errors.New("there is no name to certify")
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	intKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	key, err := rsa.GenerateKey(rand.Reader, minRSA)
	if err != nil {
		return nil, nil, err
	}
	root := template("release root", now)
	root.IsCA, root.KeyUsage, root.MaxPathLen = true, x509.KeyUsageCertSign, 1
	between := template("release authority", now)
	between.IsCA, between.KeyUsage, between.MaxPathLenZero = true, x509.KeyUsageCertSign, true
	leaf := template(names[0], now)
	leaf.KeyUsage = x509.KeyUsageDigitalSignature
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, n)
		}
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, &rootKey.PublicKey, rootKey)
	if err != nil {
		return nil, nil, err
	}
	intDER, err := x509.CreateCertificate(rand.Reader, between, root, &intKey.PublicKey, rootKey)
	if err != nil {
		return nil, nil, err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, between, &key.PublicKey, intKey)
	if err != nil {
		return nil, nil, err
	}
	return &Signer{key, [][]byte{leafDER, intDER, rootDER}}, rootDER, nil
}

func template(name string, now time.Time) *x509.Certificate {
	serial := make([]byte, 16)
	_, _ = rand.Read(serial) // never fails
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[1:]), Subject: pkix.Name{CommonName: name, Organization: []string{"cofferdam development"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(developmentLife), BasicConstraintsValid: true,
	}
}

// vaultHeader is the protected header of a vault's releases, with the members in the order in which Azure's vaults write
// them.
type vaultHeader struct {
	Algorithm string   `json:"alg"`
	KeyID     string   `json:"kid"`
	SHA1      string   `json:"x5t"`
	Type      string   `json:"typ"`
	SHA256    string   `json:"x5t#S256"`
	Chain     [][]byte `json:"x5c"`
}

// managedHeader is that of a managed HSM's.
type managedHeader struct {
	Algorithm string   `json:"alg"`
	KeyID     string   `json:"kid"`
	Chain     [][]byte `json:"x5c"`
	SHA256    string   `json:"x5t#S256"`
}

// header returns the protected header, encoded. It is the same for all releases.
func (s *Signer) header(managed bool) (string, error) {
	sum1 := sha1.Sum(s.chain[0]) //nolint:gosec // see above
	sum256 := sha256.Sum256(s.chain[0])
	var h any = vaultHeader{
		Algorithm: "RS256", KeyID: strings.ToUpper(hex.EncodeToString(sum1[:])), SHA1: encode64(sum1[:]), Type: "JWT",
		SHA256: encode64(sum256[:]), Chain: s.chain,
	}
	if managed {
		h = managedHeader{"RS256", encode64(sum256[:]), s.chain, encode64(sum256[:])}
	}
	b, err := json.Marshal(h)
	if err != nil {
		return "", fmt.Errorf("encoding the header of releases: %w", err)
	}
	return encode64(b), nil
}

// sign returns payload as a JWS in its compact form. It is made here, and not by the JOSE library, because that has an
// order of members of its own.
func (s *Signer) sign(header string, payload []byte) (string, error) {
	signed := header + "." + base64.RawURLEncoding.EncodeToString(payload)
	sum := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPKCS1v15(rand.Reader, s.key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("signing a release: %w", err)
	}
	return signed + "." + encode64(sig), nil
}
