// SPDX-License-Identifier: Apache-2.0

package attestsvc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/attest"
	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/store/boltstore"
	"cofferdam.dev/internal/testguest"
	"cofferdam.dev/internal/token"
	"cofferdam.dev/verify/anchor"
)

// world is a simulated machine with one guest, and what is trusted of it.
type world struct {
	root     anchor.Root
	guest    attest.Provider
	measured [48]byte
	hostData [32]byte
}

func TestMain(m *testing.M) { os.Exit(testguest.Main(m)) }

const initTime = "the policy of the guest"

func theWorld(t testing.TB) *world {
	t.Helper()
	m := testguest.Shared(t)
	g := m.Guest(t, initTime)
	return &world{m.Root, g, g.Measurement, g.HostData}
}

// evidence has the guest make a report for runtime data.
func (w *world) evidence(t testing.TB, runtime string) *Request {
	t.Helper()
	var data [64]byte
	sum := sha256.Sum256([]byte(runtime))
	copy(data[:], sum[:])
	res, err := w.guest.Report(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	r := &Request{Kind: SevSnpVM, Report: res.Report, Runtime: &Data{Bytes: []byte(runtime), JSON: true}}
	if r.Certificates, err = res.CertificateList(); err != nil {
		t.Fatal(err)
	}
	return r
}

const runtimeJSON = `{"keys":[{"kty":"RSA","kid":"k","n":"AQAB","e":"AQAB","key_ops":["encrypt"]}],"role":"builder"}`

// fixture is a service with what it stands on.
type fixture struct {
	*Service

	store store.Store
	audit string
	key   *ecdsa.PrivateKey
	log   *audit.Log
}

// newService starts a service that takes simulated evidence. Change may alter its options.
func newService(t testing.TB, change func(*Options)) *fixture {
	t.Helper()
	w := theWorld(t)
	dir := t.TempDir()
	st, err := boltstore.Open(filepath.Join(dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{store: st, audit: filepath.Join(dir, "audit"), key: key}
	if f.log, err = audit.Open(f.audit, audit.Options{Instance: "test", Key: key}); err != nil {
		t.Fatal(err)
	}
	opts := Options{Issuer: "https://attest.example", Baseline: DefaultBaseline(), Store: st, Audit: f.log}
	opts.Baseline.Roots = append(opts.Baseline.Roots, w.root)
	opts.Baseline.AllowSimulated = true
	if change != nil {
		change(&opts)
	}
	if f.Service, err = New(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = f.log.Close() // a test may have closed it
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// claims verifies a token and returns what it says.
func (f *fixture) claims(t testing.TB, compact, issuer, audience string, alg token.Algorithm) map[string]any {
	t.Helper()
	keys, err := f.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := token.Verify(compact, token.Expect{Keys: keys, Algorithms: []token.Algorithm{alg}, Issuer: issuer, Audience: audience, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, b)
}

func decode(t testing.TB, b []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// body returns the claims of a token, unverified.
func body(t testing.TB, compact string) map[string]any {
	t.Helper()
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		t.Fatalf("no token: %q", compact)
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, b)
}
