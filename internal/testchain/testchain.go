// SPDX-License-Identifier: Apache-2.0

// Package testchain makes certificate chains for tests of whatever verifies signatures. Its authorities live as long as
// one test. It trusts nothing and is never part of a program.
package testchain

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The validity of every leaf. The authorities are valid five years longer on each side.
var (
	NotBefore = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	NotAfter  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// Chain is a leaf's key and its certificates, leaf first: leaf, intermediate, root.
type Chain struct {
	Key          crypto.Signer
	Certificates []*x509.Certificate
}

// New makes a chain whose leaf has a common name and a key, a new P-384 one if key is nil.
func New(t testing.TB, name string, key crypto.Signer) *Chain {
	t.Helper()
	c, err := Make(name, key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Make is New for programs that tests run.
func Make(name string, key crypto.Signer) (*Chain, error) {
	var keys [3]crypto.Signer
	for i := range keys {
		k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			return nil, err
		}
		keys[i] = k
	}
	if key != nil {
		keys[0] = key
	}
	root, err := issue("Test Root", true, keys[2], nil, keys[2])
	if err != nil {
		return nil, err
	}
	middle, err := issue("Test Intermediate", true, keys[1], root, keys[2])
	if err != nil {
		return nil, err
	}
	leaf, err := issue(name, false, keys[0], middle, keys[1])
	if err != nil {
		return nil, err
	}
	return &Chain{Key: keys[0], Certificates: []*x509.Certificate{leaf, middle, root}}, nil
}

func issue(name string, ca bool, key crypto.Signer, by *x509.Certificate, signer crypto.Signer) (*x509.Certificate, error) {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name, Organization: []string{"Test Only"}},
		NotBefore: NotBefore, NotAfter: NotAfter, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if ca {
		c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign
		c.NotBefore, c.NotAfter = NotBefore.AddDate(-5, 0, 0), NotAfter.AddDate(5, 0, 0)
	}
	if by == nil {
		by = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Write writes the key (key.pem, PKCS #8) and the chain (chain.pem) into dir.
func (c *Chain) Write(dir string) error {
	der, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err != nil {
		return err
	}
	err = os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	if err != nil {
		return err
	}
	var text []byte
	for _, cert := range c.Certificates {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return os.WriteFile(filepath.Join(dir, "chain.pem"), text, 0o600)
}
