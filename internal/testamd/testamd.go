// SPDX-License-Identifier: Apache-2.0

// Package testamd is an AMD for tests: authorities of every product line with AMD's certificate profile, chip and
// provider keys, signed reports of any content, and revocation lists. Everything hangs on a root that is made anew in
// each test binary and names itself a simulation.
//
// It trusts nothing, is linked into no program, and never decides anything.
package testamd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"cofferdam.dev/evidence/snp"
)

// Begin is when the authorities and chip keys become valid; they stay so for decades and for seven years.
var Begin = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// key is the one RSA key of all authorities: they differ in their names, and making one takes a second.
var key = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 4096) })

// impostorKey is that of authorities which only bear the names.
var impostorKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 4096) })

// Authority is a product line's root with its intermediate for one kind of chip key.
type Authority struct {
	Line               snp.ProductLine
	VLEK               bool
	Root, Intermediate *x509.Certificate

	key *rsa.PrivateKey
}

// New makes the authorities of a product line for chip keys or, with vlek, for providers' keys. All have one root key.
func New(t testing.TB, line snp.ProductLine, vlek bool) *Authority {
	t.Helper()
	return authorities(t, key, line, vlek, x509.KeyUsageCertSign|x509.KeyUsageCRLSign)
}

// NewImpostor makes authorities that bear the same names, under a key of their own.
func NewImpostor(t testing.TB, line snp.ProductLine, vlek bool) *Authority {
	t.Helper()
	return authorities(t, impostorKey, line, vlek, x509.KeyUsageCertSign|x509.KeyUsageCRLSign)
}

// NewWithoutLists makes authorities whose root may not sign revocation lists.
func NewWithoutLists(t testing.TB, line snp.ProductLine) *Authority {
	t.Helper()
	return authorities(t, key, line, false, x509.KeyUsageCertSign)
}

func authorities(t testing.TB, key func() (*rsa.PrivateKey, error), line snp.ProductLine, vlek bool, usage x509.KeyUsage) *Authority {
	t.Helper()
	k, err := key()
	if err != nil {
		t.Fatal(err)
	}
	a := &Authority{Line: line, VLEK: vlek, key: k}
	root := authority("ARK-"+string(line), 0x10000)
	root.KeyUsage = usage
	a.Root = sign(t, root, root, k.Public(), k)
	name := "SEV-" + string(line)
	serial := int64(0x10001)
	if vlek {
		name, serial = "SEV-VLEK-"+string(line), 0x10101
	}
	a.Intermediate = sign(t, authority(name, serial), a.Root, k.Public(), k)
	return a
}

func subject(common string) pkix.Name {
	return pkix.Name{Organization: []string{snp.SimulatedOrganization}, CommonName: common}
}

func authority(common string, serial int64) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: subject(common), NotBefore: Begin, NotAfter: Begin.AddDate(25, 0, 0),
		SignatureAlgorithm: x509.SHA384WithRSAPSS, KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
}

func sign(t testing.TB, template, parent *x509.Certificate, public any, k *rsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, k)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// Chip is a key that signs reports, with its certificate.
type Chip struct {
	Certificate *x509.Certificate

	key *ecdsa.PrivateKey
}

// VCEK makes the key of a chip at a TCB. The chip's ID is as long as the product line has it.
func (a *Authority) VCEK(t testing.TB, product string, tcb snp.TCB, chipID []byte) *Chip {
	t.Helper()
	exts, err := snp.ChipExtensions(product, tcb, chipID)
	if err != nil {
		t.Fatal(err)
	}
	return a.Key(t, "SEV-VCEK", exts)
}

// Provider makes the VLEK of a cloud provider at a TCB.
func (a *Authority) Provider(t testing.TB, product string, tcb snp.TCB, provider string) *Chip {
	t.Helper()
	exts, err := snp.ProviderExtensions(product, tcb, provider)
	if err != nil {
		t.Fatal(err)
	}
	return a.Key(t, "SEV-VLEK", exts)
}

// Key makes a key with any name and extensions.
func (a *Authority) Key(t testing.TB, common string, exts []pkix.Extension) *Chip {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(0), Subject: subject(common), NotBefore: Begin, NotAfter: Begin.AddDate(7, 0, 0),
		SignatureAlgorithm: x509.SHA384WithRSAPSS, ExtraExtensions: exts,
	}, a.Intermediate, k.Public(), a.key)
	return &Chip{Certificate: cert, key: k}
}

// Sign returns the report's bytes with a signature by the key.
func (c *Chip) Sign(t testing.TB, r snp.Report) []byte {
	t.Helper()
	r.SignatureAlgorithm = snp.SignatureECDSAP384SHA384
	digest := sha512.Sum384(r.SignedBytes())
	x, y, err := ecdsa.Sign(rand.Reader, c.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	x.FillBytes(r.R[:])
	y.FillBytes(r.S[:])
	slices.Reverse(r.R[:])
	slices.Reverse(r.S[:])
	return r.Marshal()
}

// List describes a revocation list.
type List struct {
	From, Until time.Time
	Serials     []*big.Int
	// Partial marks the list as a part of one, by a critical extension.
	Partial bool
}

// CRL makes a revocation list of the root.
func (a *Authority) CRL(t testing.TB, l List) []byte {
	t.Helper()
	list := &x509.RevocationList{
		SignatureAlgorithm: x509.SHA384WithRSAPSS, Number: big.NewInt(1), ThisUpdate: l.From, NextUpdate: l.Until,
	}
	for _, s := range l.Serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: s, RevocationTime: l.From})
	}
	if l.Partial {
		list.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0}}}
	}
	issuer := *a.Root
	issuer.KeyUsage |= x509.KeyUsageCRLSign // what the root may do is for verifiers to check
	der, err := x509.CreateRevocationList(rand.Reader, list, &issuer, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
