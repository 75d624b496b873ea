// SPDX-License-Identifier: Apache-2.0

package fragment

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"os"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/evidence/cose1"
	"cofferdam.dev/evidence/didx509"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/internal/testchain"
	"cofferdam.dev/policy"

	"github.com/google/go-cmp/cmp"
)

const text = "package part\n\nsvn := \"7\"\nframework_version := \"0.2.3\"\n\nfragments := []\n\ncontainers := [{}]\n"

func signer(t testing.TB, c *testchain.Chain) Signer {
	t.Helper()
	issuer, err := didx509.Subject(c.Certificates)
	if err != nil {
		t.Fatal(err)
	}
	return Signer{
		Key: c.Key, Chain: c.Certificates, Algorithm: cose1.ES384, Issuer: issuer, Feed: "registry/app",
		At: testchain.NotBefore.AddDate(0, 3, 0),
	}
}

func TestSignAndOpen(t *testing.T) {
	t.Parallel()
	s := signer(t, testchain.New(t, "Publisher", nil))
	svn := int64(7)
	for name, claims := range map[string]bool{"text keys": false, "claims": true} {
		s.Claims, s.SVN = claims, &svn
		message, err := s.Sign(rand.Reader, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		f, err := Open(message)
		if err != nil {
			t.Fatal(err)
		}
		if f.Issuer != s.Issuer || f.Feed != s.Feed || string(f.Text) != text || !f.SignedAt.Equal(s.At) || f.SHA256 != sha256.Sum256(message) ||
			(f.SVN != nil) != claims || claims && *f.SVN != svn {
			t.Errorf("%s: %+v", name, f)
		}
		got, err := f.Import("", nil)
		want := policy.Fragment{Feed: s.Feed, Issuer: s.Issuer, MinimumSVN: "7", Includes: []string{"containers"}}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %s, %v", name, diff, err)
		}
		got, err = f.Import("5", []string{"namespace"})
		if err != nil || got.MinimumSVN != "5" || got.Includes[0] != "namespace" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// TestOpenRefuses opens what is signed well and is no fragment, and what is not signed well.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	c := testchain.New(t, "Publisher", nil)
	good := signer(t, c)
	message, err := good.Sign(rand.Reader, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	as := func(change func(*cose1.Header), payload string) []byte {
		h := cose1.Header{
			Algorithm: cose1.ES384, ContentType: ContentType, Chain: c.Certificates, Issuer: good.Issuer, Feed: "feed", Form: cose1.FormText,
			IssuedAt: good.At,
		}
		change(&h)
		m, err := cose1.Sign(rand.Reader, c.Key, h, []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	endorsement, err := os.ReadFile(testcap.Vectors(t, "uvm/u1-esrp.test.cose"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		message []byte
		want    string
	}{
		"nothing":     {nil, "parsing COSE_Sign1"},
		"too large":   {make([]byte, MaxSize+1), "at most"},
		"tampered":    {bytes.Replace(message, []byte("package part"), []byte("package evil"), 1), "does not verify"},
		"other kind":  {as(func(h *cose1.Header) { h.ContentType = "application/json" }, text), `was signed as "application/json"`},
		"no kind":     {as(func(h *cose1.Header) { h.ContentType = "" }, text), `was signed as ""`},
		"no feed":     {as(func(h *cose1.Header) { h.Feed = "" }, text), "names no feed"},
		"no text":     {as(func(*cose1.Header) {}, ""), "text has 0 bytes"},
		"endorsement": {endorsement, `was signed as "application/json"`},
	} {
		_, err := Open(c.message)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
	}
	late := good
	late.At = testchain.NotAfter.Add(time.Hour)
	_, err = late.Sign(rand.Reader, []byte(text))
	if err == nil {
		t.Error("signed after the certificate's end")
	}
	_, err = good.Sign(rand.Reader, []byte("# a remark\npackage part\n"))
	if err == nil {
		t.Error("signed what no enforcer takes")
	}
}

// TestUndated opens a fragment that does not say when it was signed: its chain counts as long as it ever was valid.
func TestUndated(t *testing.T) {
	t.Parallel()
	s := signer(t, testchain.New(t, "Publisher", nil))
	s.At = time.Time{}
	message, err := s.Sign(rand.Reader, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(message)
	if err != nil || !f.SignedAt.IsZero() {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]*Description{
		"package a\nsvn := \"1\"\ncontainers := [\n{}]\n":                   {Namespace: "a", SVN: "1", Defines: []string{"containers"}},
		"package a\nsvn = 3\nfragments := [{}]\ncontainers = [{}]\n":        {Namespace: "a", SVN: "3", Defines: []string{"containers", "fragments"}},
		"package a_B1\n  svn := \"1\"\n":                                    {Namespace: "a_B1"},
		"package a\nsvn := \"1.2.3\"\ncontainers := []\nfragments := [ ]\n": {Namespace: "a"},
		"package a.b\n": nil, "package a # x\n": nil, "": nil, "\npackage a\n": nil, "package 1\n": nil,
	} {
		got, err := Describe([]byte(in))
		if (err == nil) != (want != nil) {
			t.Errorf("%q: %v", in, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", in, diff)
		}
	}
	real, err := os.ReadFile(testcap.Vectors(t, "fragments/infra.rego"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Describe(real)
	if diff := cmp.Diff(&Description{Namespace: "infra", SVN: "1", Defines: []string{"containers"}}, got); diff != "" || err != nil {
		t.Errorf("%s, %v", diff, err)
	}
}

func FuzzOpen(f *testing.F) {
	s := signer(f, testchain.New(f, "Publisher", nil))
	message, err := s.Sign(rand.Reader, []byte(text))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(message)
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Open(data)
		if err == nil && (got.Issuer == "" || got.Feed == "" || len(got.Text) == 0) {
			t.Errorf("opened %+v", got)
		}
	})
}
