// SPDX-License-Identifier: Apache-2.0

package devdomain

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"time"

	"cofferdam.dev/internal/vault/rest"
	"cofferdam.dev/internal/wholefile"
)

// How long certificates are valid. The authority's own stays the same for the life of the directory, since groups pin it;
// those that it issues are made at each start.
const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = 90 * 24 * time.Hour
)

// releaseBits is the size of the key that signs releases: clients want RSA there.
const releaseBits = 2048

// ca issues the domain's certificates.
type ca struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// openCA reads the authority from its two files, and makes it when they are not there.
func openCA(certFile, keyFile string, now time.Time) (*ca, error) {
	_, err := os.Stat(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		err = makeCA(certFile, keyFile, now)
	}
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(keyFile)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %v; want 0600", keyFile, info.Mode().Perm())
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T, not an ECDSA key", keyFile, pair.PrivateKey)
	}
	if now.After(pair.Leaf.NotAfter) {
		return nil, fmt.Errorf("%s expired at %s", certFile, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return &ca{key, pair.Leaf}, nil
}

func makeCA(certFile, keyFile string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := certificate("development authority", now, authorityLife)
	t.IsCA, t.KeyUsage, t.MaxPathLenZero = true, x509.KeyUsageCertSign, true
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	defer clear(private)
	// The certificate comes first: a key without one would be taken for whole.
	if err := wholefile.Replace(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return err
	}
	return wholefile.Replace(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600)
}

func certificate(name string, now time.Time, life time.Duration) *x509.Certificate {
	serial := make([]byte, 16)
	_, _ = rand.Read(serial) // never fails: crypto/rand aborts the program instead
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[1:]), Subject: pkix.Name{CommonName: name, Organization: []string{"cofferdam development"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(life), BasicConstraintsValid: true,
	}
}

// issue returns the chain of a server's certificate for the names and a key.
func (c *ca) issue(names []string, key crypto.Signer, now time.Time) ([][]byte, error) {
	t := certificate(names[0], now, leafLife)
	t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, c.cert, key.Public(), c.key)
	if err != nil {
		return nil, err
	}
	return [][]byte{der, c.cert.Raw}, nil
}

// tls is how servers of these names are reached. The key is not written anywhere.
func (c *ca) tls(names []string, now time.Time) (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	chain, err := c.issue(names, key, now)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: key}}}, nil
}

// signer signs releases of a vault of these names, by a key that is not written anywhere either.
func (c *ca) signer(names []string, now time.Time) (*rest.Signer, error) {
	key, err := rsa.GenerateKey(rand.Reader, releaseBits)
	if err != nil {
		return nil, err
	}
	chain, err := c.issue(names, key, now)
	if err != nil {
		return nil, err
	}
	return rest.NewSigner(key, chain)
}
