// SPDX-License-Identifier: Apache-2.0

// Package testcollateral makes collateral of the right form for tests of whatever keeps and carries it. Its signatures
// are by a key that lives as long as the test, so that no verifier accepts any of it. It trusts nothing and is never
// part of a program.
package testcollateral

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence/snp"
)

// Maker makes items that are all valid for the same time.
type Maker struct {
	// From and Until are the period of every item.
	From, Until time.Time

	key *ecdsa.PrivateKey
}

// New returns a maker.
func New(t testing.TB, from, until time.Time) *Maker {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Maker{From: from.UTC().Truncate(time.Second), Until: until.UTC().Truncate(time.Second), key: key}
}

// Item makes what a request asks for.
func (m *Maker) Item(t testing.TB, r collateral.Request) collateral.Item {
	t.Helper()
	var it collateral.Item
	switch r.Kind {
	case collateral.AMDVCEK:
		product := map[string]string{"Milan": "Milan-B0"}[r.Product]
		if product == "" {
			product = r.Product
		}
		exts, err := snp.ChipExtensions(product, snp.TCB(r.TCB), r.ChipID)
		if err != nil {
			t.Fatal(err)
		}
		it.Body = m.certificate(t, "SEV-VCEK", exts)
	case collateral.AMDChain:
		name := "SEV-" + r.Product
		if r.VLEK {
			name = "SEV-VLEK-" + r.Product
		}
		it.Body = m.chain(t, name, "ARK-"+r.Product)
	case collateral.AMDCRL, collateral.IntelRootCRL:
		it.Body = m.list(t)
	case collateral.IntelPCKCRL:
		it.Body, it.IssuerChain = m.list(t), m.chain(t, "PCK "+r.CA, "Root")
	case collateral.IntelTCBInfo:
		it.Body = m.statement("tcbInfo", strings.ToUpper(r.TEE), r)
		it.IssuerChain = m.chain(t, "TCB Signing", "Root")
	case collateral.IntelQEIdentity:
		id := map[string]string{collateral.SGX: "QE", collateral.TDX: "TD_QE"}[r.TEE]
		it.Body, it.IssuerChain = m.statement("enclaveIdentity", id, r), m.chain(t, "TCB Signing", "Root")
	default:
		t.Fatalf("no item can be made for %q", r.Name())
	}
	return it
}

// Certificate makes a certificate that has a name and nothing else of interest.
func (m *Maker) Certificate(t testing.TB, name string) []byte {
	t.Helper()
	return m.certificate(t, name, nil)
}

func (m *Maker) certificate(t testing.TB, name string, exts []pkix.Extension) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, m.authority(name, exts), m.authority(name, nil), m.key.Public(), m.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (m *Maker) authority(name string, exts []pkix.Extension) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name, Organization: []string{"Test Only"}},
		NotBefore: m.From, NotAfter: m.Until, ExtraExtensions: exts, KeyUsage: x509.KeyUsageCRLSign, SubjectKeyId: []byte{1},
	}
}

func (m *Maker) chain(t testing.TB, names ...string) []byte {
	t.Helper()
	var text []byte
	for _, n := range names {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.certificate(t, n, nil)})...)
	}
	return text
}

func (m *Maker) list(t testing.TB) []byte {
	t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: m.From, NextUpdate: m.Until}
	der, err := x509.CreateRevocationList(rand.Reader, template, m.authority("Test Root", nil), m.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (m *Maker) statement(member, id string, r collateral.Request) []byte {
	number := r.EvaluationNumber
	if number == 0 {
		number = 17
	}
	return fmt.Appendf(nil, `{%q:{"id":%q,"version":3,"issueDate":%q,"nextUpdate":%q,"fmspc":%q,"tcbEvaluationDataNumber":%d},"signature":%q}`,
		member, id, m.From.Format(time.RFC3339), m.Until.Format(time.RFC3339), strings.ToUpper(hex.EncodeToString(r.FMSPC[:])),
		number, strings.Repeat("0", 128))
}
