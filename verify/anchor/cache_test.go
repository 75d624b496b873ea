// SPDX-License-Identifier: Apache-2.0

package anchor

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/testamd"
)

func TestCacheHoldsFactsAlone(t *testing.T) {
	t.Parallel()
	a := testamd.New(t, snp.Milan, false)
	chip := a.VCEK(t, "Milan-B0", snp.TCB{1}, make([]byte, 64))
	for name, c := range map[string]*Cache{"none": nil, "cache": NewCache(100)} {
		for range 3 {
			if err := c.Signed(a.Intermediate, chip.Certificate); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := c.Signed(a.Root, a.Intermediate); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			c.Keep(chip.Certificate)
			if diff := cmp.Diff(NewLink("chip", "x", chip.Certificate), c.Link("chip", "x", chip.Certificate)); diff != "" {
				t.Errorf("%s: (-want +got):\n%s", name, diff)
			}
			if got, err := c.Certificate(chip.Certificate.Raw); err != nil || !got.Equal(chip.Certificate) {
				t.Errorf("%s: %v", name, err)
			}
		}
		forged := *chip.Certificate
		forged.Signature = append([]byte(nil), forged.Signature...)
		forged.Signature[0] ^= 1
		tampered := *chip.Certificate
		tampered.RawTBSCertificate = append([]byte(nil), tampered.RawTBSCertificate...)
		tampered.RawTBSCertificate[20] ^= 1
		for what, cert := range map[string]*x509.Certificate{"signature": &forged, "content": &tampered} {
			for range 2 {
				if c.Signed(a.Intermediate, cert) == nil {
					t.Errorf("%s: another %s verifies", name, what)
				}
			}
		}
		if c.Signed(AMDRoots()[0].Certificate, chip.Certificate) == nil {
			t.Errorf("%s: it verifies with another key", name)
		}
		if c.Signed(chip.Certificate, chip.Certificate) == nil {
			t.Errorf("%s: a chip's key verifies", name)
		}
		if c.Signed(IntelRoot().Certificate, a.Intermediate) == nil {
			t.Errorf("%s: it verifies with a key of another kind", name)
		}
		c.Forget()
		if c.Len() != 0 {
			t.Errorf("%s: %d facts are left", name, c.Len())
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	a := testamd.New(t, snp.Milan, false)
	c := NewCache(6)
	kept := a.VCEK(t, "Milan-B0", snp.TCB{}, make([]byte, 64)).Certificate
	c.Keep(kept)
	for i := range 20 {
		c.Keep(a.VCEK(t, "Milan-B0", snp.TCB{7: byte(i)}, make([]byte, 64)).Certificate)
		if got, err := c.Certificate(kept.Raw); err != nil || got != kept {
			t.Fatalf("what is used is dropped after %d others: %v", i, err)
		}
		if c.Len() > 6 {
			t.Fatalf("%d facts are remembered", c.Len())
		}
	}
}

func TestListsAreKeptOnceVerified(t *testing.T) {
	t.Parallel()
	a := testamd.New(t, snp.Milan, false)
	der := a.CRL(t, testamd.List{From: testamd.Begin, Until: testamd.Begin.Add(time.Hour)})
	c := NewCache(10)
	list, err := c.RevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SignedList(AMDRoots()[0].Certificate, list); err == nil || c.Len() != 0 {
		t.Errorf("another key: error %v, %d facts", err, c.Len())
	}
	if err := c.SignedList(a.Root, list); err != nil {
		t.Fatal(err)
	}
	if again, err := c.RevocationList(der); err != nil || again != list {
		t.Errorf("it is parsed again: %v", err)
	}
	der[len(der)-1] ^= 1
	forged, err := c.RevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	if c.SignedList(a.Root, forged) == nil {
		t.Error("a changed list verifies")
	}
}
