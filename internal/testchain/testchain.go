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
	if key == nil {
		key = newKey(t)
	}
	rootKey, middleKey := newKey(t), newKey(t)
	root := issue(t, "Test Root", true, rootKey, nil, rootKey)
	middle := issue(t, "Test Intermediate", true, middleKey, root, rootKey)
	leaf := issue(t, name, false, key, middle, middleKey)
	return &Chain{Key: key, Certificates: []*x509.Certificate{leaf, middle, root}}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func issue(t testing.TB, name string, ca bool, key crypto.Signer, by *x509.Certificate, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name, Organization: []string{"Test Only"}},
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
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// Write writes the key (key.pem, PKCS #8) and the chain (chain.pem) into dir, and returns their paths.
func (c *Chain) Write(t testing.TB, dir string) (key, chain string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err != nil {
		t.Fatal(err)
	}
	key, chain = filepath.Join(dir, "key.pem"), filepath.Join(dir, "chain.pem")
	err = os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	for _, cert := range c.Certificates {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	err = os.WriteFile(chain, text, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return key, chain
}
