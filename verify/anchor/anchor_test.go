// SPDX-License-Identifier: Apache-2.0

package anchor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sevtest "github.com/google/go-sev-guest/testing"

	"cofferdam.dev/internal/testcap"
)

// TestDeniedKeysAreThePublishedOnes computes the deny list from the package that publishes the keys.
func TestDeniedKeysAreThePublishedOnes(t *testing.T) {
	t.Parallel()
	published := map[string]any{
		"ARK": sevtest.DefaultArk().Public(), "ASK": sevtest.DefaultAsk().Public(), "ASVK": sevtest.DefaultAsvk().Public(),
		"VCEK": sevtest.DefaultVcek().Public(), "VLEK": sevtest.DefaultVlek().Public(),
	}
	for name, key := range published {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(der); !deniedKeys[hex.EncodeToString(sum[:])] {
			t.Errorf("%s with SHA-256 %x is not denied", name, sum)
		}
	}
	if len(deniedKeys) != len(published) {
		t.Errorf("%d keys are denied, not %d", len(deniedKeys), len(published))
	}
}

// TestEmbeddedRootsAreThePublishedOnes compares the embedded files with the published anchors.
func TestEmbeddedRootsAreThePublishedOnes(t *testing.T) {
	t.Parallel()
	for _, vendor := range []string{"amd", "intel"} {
		dir := testcap.Vectors(t, "anchors/"+vendor)
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			got, err := rootFiles.ReadFile("roots/" + vendor + "/" + e.Name())
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil || string(got) != string(want) {
				t.Errorf("%s differs from what is embedded: %v", e.Name(), err)
			}
		}
	}
}

func TestVendorRootsAreComplete(t *testing.T) {
	t.Parallel()
	known := map[string]int{}
	for _, r := range append(AMDRoots(), IntelRoot()) {
		known[r.Name] = len(r.Intermediates())
	}
	want := map[string]int{"ARK-Milan": 2, "ARK-Genoa": 2, "ARK-Turin": 2, "Intel SGX Root CA": 0}
	if diff := cmp.Diff(want, known); diff != "" {
		t.Errorf("roots and their numbers of intermediates (-want +got):\n%s", diff)
	}
	sum := sha256.Sum256(IntelRoot().Certificate.Raw)
	if got := hex.EncodeToString(sum[:]); got != "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3" {
		t.Errorf("Intel's root has SHA-256 %s", got)
	}
}

func TestNewRootRefuses(t *testing.T) {
	t.Parallel()
	amd := AMDRoots()[0]
	for _, r := range append(AMDRoots(), IntelRoot()) {
		if _, err := NewRoot(r.Domain, "own", r.Certificate); err != nil {
			t.Errorf("the vendor's root is refused: %v", err)
		}
	}
	for name, r := range map[string]Root{
		"nothing":                     {Domain: AMD},
		"Intel's root as AMD's":       {Domain: AMD, Certificate: IntelRoot().Certificate},
		"Intel's root as simulated":   {Domain: Simulated, Certificate: IntelRoot().Certificate},
		"AMD's root as simulated":     {Domain: Simulated, Certificate: amd.Certificate},
		"AMD's root as Intel's":       {Domain: Intel, Certificate: amd.Certificate},
		"AMD's root without a domain": {Certificate: amd.Certificate},
		"an intermediate":             {Domain: Simulated, Certificate: amd.known[0]},
		"a P-384 key":                 {Domain: Simulated, Certificate: selfSigned(t)},
	} {
		if _, err := NewRoot(r.Domain, "test", r.Certificate); err == nil {
			t.Errorf("%s is a root", name)
		}
	}
}

// TestChangedRootIsCheckedAgain changes copies of a checked root.
func TestChangedRootIsCheckedAgain(t *testing.T) {
	t.Parallel()
	r := AMDRoots()[0]
	if _, err := r.Check(); err != nil {
		t.Fatal(err)
	}
	r.Domain = Simulated
	if _, err := r.Check(); err == nil {
		t.Error("another domain is not noticed")
	}
	r = AMDRoots()[0]
	r.Certificate = selfSigned(t)
	if _, err := r.Check(); err == nil {
		t.Error("another certificate is not noticed")
	}
}

// TestRootWithBrokenSignatureIsRefused takes a root whose key is replaced.
func TestRootWithBrokenSignatureIsRefused(t *testing.T) {
	t.Parallel()
	forged := *AMDRoots()[0].Certificate
	forged.Signature = append([]byte{1}, forged.Signature[1:]...)
	forged.Raw = append([]byte{}, forged.Raw...)
	forged.Raw[len(forged.Raw)-1] ^= 1
	for _, d := range []Domain{AMD, Intel, Simulated} {
		if _, err := NewRoot(d, "test", &forged); err == nil {
			t.Errorf("it is a root of domain %q", d)
		}
	}
	key, ok := forged.PublicKey.(*rsa.PublicKey)
	if !ok || key.N.BitLen() != 4096 {
		t.Fatal("the test's root has no RSA-4096 key")
	}
}

func selfSigned(t *testing.T) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ARK-Milan"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
