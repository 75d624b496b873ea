// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sevtest "github.com/google/go-sev-guest/testing"

	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newCertificate makes a root of Intel's kind, which is quicker to make than one of AMD's.
func newCertificate(t testing.TB, curve elliptic.Curve, ca bool) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test Root"}, NotBefore: now, NotAfter: now.AddDate(1, 0, 0),
		BasicConstraintsValid: true, IsCA: ca, KeyUsage: x509.KeyUsageCertSign,
	}
	if !ca {
		template.KeyUsage = x509.KeyUsageDigitalSignature
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

func names(t *testing.T, s *Store) []string {
	t.Helper()
	roots, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	list := []string{}
	for _, r := range roots {
		list = append(list, r.Name)
	}
	return list
}

func TestStore(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	s := Open(home)
	if got := names(t, s); len(got) != 0 {
		t.Errorf("a new list has %v", got)
	}
	if _, err := os.Lstat(filepath.Join(home, "trust")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reading made something: %v", err)
	}
	first, second := newCertificate(t, elliptic.P256(), true), newCertificate(t, elliptic.P256(), true)
	added, err := s.Add(anchor.Simulated, "zoe", first, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Add(anchor.Simulated, "adam-2", second, now); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"adam-2", "zoe"}, names(t, Open(home))); diff != "" {
		t.Errorf("names differ (-want +got):\n%s", diff)
	}
	found, err := s.Find("zoe")
	if err != nil {
		t.Fatal(err)
	}
	if found.SPKI != added.SPKI || !found.Added.Equal(now) || !found.Certificate.Equal(first) || found.Domain != anchor.Simulated {
		t.Errorf("found %+v, added %+v", found, added)
	}
	root, err := found.Anchor()
	if err != nil || root.Domain != anchor.Simulated || root.Name != "zoe" {
		t.Errorf("anchor %+v, %v", root, err)
	}
	for name, cert := range map[string]*x509.Certificate{"zoe": newCertificate(t, elliptic.P256(), true), "eve": first} {
		if _, err := s.Add(anchor.Simulated, name, cert, now); err == nil || !strings.Contains(err.Error(), `there is "zoe" already`) {
			t.Errorf("adding %q a second time: %v", name, err)
		}
	}
	if err := s.Remove("zoe"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"zoe", "", "local", "../roots"} {
		if err := s.Remove(name); !errors.Is(err, ErrUnknown) {
			t.Errorf("removing %q: %v", name, err)
		}
		if _, err := s.Find(name); !errors.Is(err, ErrUnknown) {
			t.Errorf("finding %q: %v", name, err)
		}
	}
	info, err := os.Lstat(filepath.Join(home, "trust", fileName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, error %v", info.Mode(), err)
	}
}

func TestAddRefuses(t *testing.T) {
	t.Parallel()
	s := Open(t.TempDir())
	amd, intel := anchor.AMDRoots()[0].Certificate, anchor.IntelRoot().Certificate
	good := newCertificate(t, elliptic.P256(), true)
	forged := *good
	forged.Signature = make([]byte, len(good.Signature))
	for name, c := range map[string]struct {
		domain anchor.Domain
		cert   *x509.Certificate
		code   check.Code
	}{
		"no certificate":             {anchor.Simulated, nil, check.CodeTrustAnchorBad},
		"no domain":                  {"", good, check.CodeTrustAnchorBad},
		"unknown domain":             {"arm", good, check.CodeTrustAnchorBad},
		"simulated as AMD's":         {anchor.AMD, good, check.CodeTrustAnchorBad},
		"simulated as Intel's":       {anchor.Intel, good, check.CodeTrustAnchorBad},
		"AMD's as simulated":         {anchor.Simulated, amd, check.CodeTrustAnchorBad},
		"Intel's as simulated":       {anchor.Simulated, intel, check.CodeTrustAnchorBad},
		"no authority":               {anchor.Simulated, newCertificate(t, elliptic.P256(), false), check.CodeTrustAnchorBad},
		"other curve":                {anchor.Simulated, newCertificate(t, elliptic.P384(), true), check.CodeTrustAnchorBad},
		"not signed by itself":       {anchor.Simulated, &forged, check.CodeTrustAnchorBad},
		"published key":              {anchor.Simulated, published(t), check.CodeTrustAnchorDenied},
		"AMD's own, which is there":  {anchor.AMD, amd, check.CodeOK},
		"Intel's own, which is here": {anchor.Intel, intel, check.CodeOK},
	} {
		_, err := s.Add(c.domain, "name", c.cert, now)
		var bad *Untrustworthy
		switch {
		case err == nil:
			t.Errorf("%s: added", name)
		case c.code != check.CodeOK && (!errors.As(err, &bad) || bad.Code != c.code):
			t.Errorf("%s: error %v, want the code %s", name, err, c.code)
		case c.code == check.CodeOK && !strings.Contains(err.Error(), "are built in"):
			t.Errorf("%s: error %v", name, err)
		}
	}
	for _, name := range []string{"", "local", "-a", "A", "a b", "a/b", "a.pem", "ä", strings.Repeat("a", 64)} {
		if _, err := s.Add(anchor.Simulated, name, good, now); err == nil {
			t.Errorf("the name %q was taken", name)
		}
	}
	if got := names(t, s); len(got) != 0 {
		t.Errorf("the list has %v", got)
	}
}

// published is a root whose private key is published.
func published(t *testing.T) *x509.Certificate {
	t.Helper()
	signer, err := sevtest.DefaultTestOnlyCertChain("Milan-B0", now)
	if err != nil {
		t.Fatal(err)
	}
	return signer.Ark
}

func TestFileIsReadStrictly(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	s := Open(home)
	for _, name := range []string{"a", "b"} {
		if _, err := s.Add(anchor.Simulated, name, newCertificate(t, elliptic.P256(), true), now); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(home, "trust", fileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string][2]string{
		"cut":             {"]\n}\n", ""},
		"more":            {"]\n}\n", "]\n}\n{}"},
		"schema":          {schema, "cofferdam.dev/trusted-roots/v2"},
		"unknown key":     {`"schema"`, `"x": 1, "schema"`},
		"key's case":      {`"added"`, `"Added"`},
		"twice a key":     {`"name": "a"`, `"name": "a", "name": "a"`},
		"name":            {`"name": "a"`, `"name": "A"`},
		"reserved name":   {`"name": "b"`, `"name": "local"`},
		"order":           {`"name": "a"`, `"name": "c"`},
		"twice a name":    {`"name": "a"`, `"name": "b"`},
		"hardware domain": {`"simulated"`, `"amd"`},
		"other key":       {roots[0].SPKI, roots[1].SPKI},
		"time":            {"2026-03-01", "2026-13-01"},
		"certificate":     {`"certificate": "`, `"certificate": "!`},
		"no certificate":  {`"certificate": "`, `"certificate": "AAAA`},
		"null":            {`"name": "a"`, `"name": null`},
	} {
		changed := strings.Replace(string(whole), edit[0], edit[1], 1)
		if changed == string(whole) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := parse([]byte(changed)); err == nil {
			t.Errorf("%s: read", name)
		}
	}
	if err := os.Chmod(path, 0o622); err != nil {
		t.Fatal(err)
	}
	if _, err := s.List(); err == nil || !strings.Contains(err.Error(), "its owner alone may write") {
		t.Errorf("a file that anybody may write: %v", err)
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	var wg sync.WaitGroup
	want := []string{}
	for i := range 12 {
		name := fmt.Sprintf("root-%02d", i)
		want = append(want, name)
		cert := newCertificate(t, elliptic.P256(), true)
		wg.Go(func() {
			if _, err := Open(home).Add(anchor.Simulated, name, cert, now); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff(want, names(t, Open(home))); diff != "" {
		t.Errorf("names differ (-want +got):\n%s", diff)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"schema":"cofferdam.dev/trusted-roots/v1","roots":[]}`))
	f.Add([]byte(`{"schema":"cofferdam.dev/trusted-roots/v1","roots":[{"name":"a","domain":"simulated","spki":"","added":"","certificate":""}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		roots, err := parse(b)
		for _, r := range roots {
			if err == nil && (r.Domain != anchor.Simulated || r.Certificate == nil || CheckName(r.Name) != nil) {
				t.Errorf("read %+v", r)
			}
		}
	})
}
