// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
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

	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/token"
	"cofferdam.dev/internal/vault/authority"
	"cofferdam.dev/internal/vault/releasepolicy"
	"cofferdam.dev/internal/vault/wrap"
)

const attestIssuer = "https://attest.example"

// hostData is what the guest of the tests was started with.
const hostData = "7c2ab5e9e6f5b3a0c0f5a6a3d3ee2d5a1f1a9c1e0e0bb8a4d3d1b7b2a1c3d4e5"

// guest is a guest with its key, and a service that attests it.
type guest struct {
	key    *rsa.PrivateKey
	signer *token.Key
	clock  *clock
}

func newGuest(t testing.TB, c *clock) *guest {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := token.Generate(token.RS256, "test", c.Now(), c.Now().AddDate(1, 0, 0), c.Now().AddDate(2, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	return &guest{key, signer, c}
}

func (g *guest) authorities(t testing.TB) *authority.Set {
	t.Helper()
	set, err := authority.NewSet(
		authority.Authority{Issuer: attestIssuer, Keys: authority.Static{g.signer.Public()}},
		authority.Authority{Issuer: attestIssuer + "/simulated", Keys: authority.Static{g.signer.Public()}, Simulated: true},
	)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func (g *guest) jwk(more ...string) map[string]any {
	e := base64.RawURLEncoding.EncodeToString
	k := map[string]any{"kty": "RSA", "kid": "guest", "n": e(g.key.N.Bytes()), "e": e(big.NewInt(int64(g.key.E)).Bytes()), "key_ops": []string{"encrypt"}}
	for i := 0; i < len(more); i += 2 {
		k[more[i]] = more[i+1]
	}
	return k
}

// token is what the service says of the guest, with claims that replace others; nil removes one.
func (g *guest) token(t testing.TB, change map[string]any) string {
	t.Helper()
	now := g.clock.Now()
	claims := map[string]any{
		"iss": attestIssuer, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(), "jti": "one",
		"x-ms-sevsnpvm-hostdata": hostData, "x-ms-sevsnpvm-is-debuggable": false, "x-ms-sevsnpvm-guestsvn": 4,
		"x-ms-runtime": map[string]any{"keys": []any{g.jwk()}, "role": "builder"},
	}
	for name, v := range change {
		if claims[name] = v; v == nil {
			delete(claims, name)
		}
	}
	s, err := g.signer.Sign(claims, map[string]any{"jku": "https://evil.example/certs"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const policyText = `{"version":"1.0.0","anyOf":[{"authority":"https://attest.example/","allOf":[` +
	`{"claim":"x-ms-sevsnpvm-hostdata","equals":"` + hostData + `"},{"claim":"x-ms-sevsnpvm-is-debuggable","equals":"false"},` +
	`{"anyOf":[{"claim":"x-ms-runtime.role","equals":"builder"},{"claim":"x-ms-sevsnpvm-guestsvn","greaterOrEquals":9}]}]}]}`

func exportable() KeyRequest {
	return KeyRequest{Type: RSAHSM, Attributes: AttributeChange{Exportable: ptr(true)}, Policy: &ReleasePolicy{Data: []byte(policyText)}}
}

// releaseWorld is a vault that believes in the service of a guest.
func releaseWorld(t testing.TB, change func(*Options)) (*world, *guest) {
	t.Helper()
	var g *guest
	w := newWorld(t, func(o *Options) {
		g = newGuest(t, &clock{now: o.Now()})
		o.Authorities = g.authorities(t)
		if change != nil {
			change(o)
		}
	})
	g.clock = w.clock
	return w, g
}

func TestReleaseKinds(t *testing.T) {
	t.Parallel()
	w, g := releaseWorld(t, nil)
	ctx := t.Context()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	imported, err := NewMaterial(private)
	if err != nil {
		t.Fatal(err)
	}
	raw := []byte("0123456789abcdef0123456789abcdef")
	oct, err := NewMaterial(bytes.Clone(raw))
	if err != nil {
		t.Fatal(err)
	}
	r := exportable()
	r.HSM = true
	for name, m := range map[string]*Material{"rsa": imported, "oct": oct} {
		if _, err := w.ImportKey(ctx, name, m, r); err != nil {
			t.Fatal(err)
		}
	}
	r.Type = ECHSM
	if _, err := w.CreateKey(ctx, "ec", r); err != nil {
		t.Fatal(err)
	}
	for _, enc := range []wrap.Enc{"", wrap.CKMRSAAESKeyWrap, wrap.RSAAESKeyWrap256, wrap.RSAAESKeyWrap384} {
		for _, name := range []string{"rsa", "oct", "ec"} {
			out, err := w.Release(ctx, ReleaseRequest{Name: name, Target: g.token(t, nil), Enc: enc})
			if err != nil {
				t.Fatal(err)
			}
			b, err := wrap.Open(out.Enc, g.key, out.Wrapped)
			if err != nil {
				t.Fatal(err)
			}
			if out.Recipient != "guest" || out.Simulated || out.Receipt.Sequence == 0 || out.Key.Name != name {
				t.Errorf("released %+v", out)
			}
			if name == "oct" {
				if !bytes.Equal(b, raw) {
					t.Errorf("oct is %x", b)
				}
				continue
			}
			key, err := x509.ParsePKCS8PrivateKey(b)
			if err != nil {
				t.Fatal(err)
			}
			if k, ok := key.(*rsa.PrivateKey); name == "rsa" && (!ok || !k.Equal(private)) {
				t.Error("another RSA key came back")
			}
			if k, ok := key.(*ecdsa.PrivateKey); name == "ec" && (!ok || !k.PublicKey.Equal(out.Key.Public)) {
				t.Error("another EC key came back")
			}
		}
	}
	if _, err := w.Release(ctx, ReleaseRequest{Name: "rsa", Target: g.token(t, nil), Enc: "RSA-OAEP"}); !errors.Is(err, &Error{Code: BadParameter}) {
		t.Errorf("unknown enc: %v", err)
	}
}

// TestDenials has one release for each reason for a denial, what the caller sees of it, and what the operator.
func TestDenials(t *testing.T) {
	t.Parallel()
	w, g := releaseWorld(t, nil)
	ctx := t.Context()
	if _, err := w.CreateKey(ctx, "k", exportable()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateKey(ctx, "closed", KeyRequest{Type: RSAHSM}); err != nil {
		t.Fatal(err)
	}
	other := newGuest(t, w.clock)
	draft, err := token.Draft(map[string]any{"iss": attestIssuer})
	if err != nil {
		t.Fatal(err)
	}
	type claims = map[string]any
	for name, c := range map[string]struct {
		key    string
		target string
		reason Reason
		detail string // part of it
	}{
		"no token":            {"k", "", ReasonToken, "three parts"},
		"draft":               {"k", draft, ReasonToken, "malformed"},
		"other service":       {"k", other.token(t, nil), ReasonToken, "not trusted"},
		"unknown issuer":      {"k", g.token(t, claims{"iss": "https://evil.example"}), ReasonToken, "https://evil.example"},
		"expired":             {"k", g.token(t, claims{"exp": w.clock.Now().Add(-time.Hour).Unix()}), ReasonToken, "expired"},
		"simulated":           {"k", g.token(t, claims{"x-cofferdam-simulated": true}), ReasonToken, "simulated"},
		"simulated's issuer":  {"k", g.token(t, claims{"iss": attestIssuer + "/simulated", "x-cofferdam-simulated": true}), ReasonPolicy, `no authority "https://attest.example/simulated"`},
		"other policy hash":   {"k", g.token(t, claims{"x-ms-sevsnpvm-hostdata": "00"}), ReasonPolicy, `allOf[0]: x-ms-sevsnpvm-hostdata equals "` + hostData + `", actual "00"`},
		"no policy hash":      {"k", g.token(t, claims{"x-ms-sevsnpvm-hostdata": nil}), ReasonPolicy, "actual missing"},
		"debuggable":          {"k", g.token(t, claims{"x-ms-sevsnpvm-is-debuggable": true}), ReasonPolicy, "actual true"},
		"other role":          {"k", g.token(t, claims{"x-ms-runtime": claims{"keys": []any{g.jwk()}, "role": "x"}}), ReasonPolicy, "anyOf[0].allOf[2].anyOf[1]: x-ms-sevsnpvm-guestsvn greaterOrEquals 9, actual 4"},
		"no runtime data":     {"k", g.token(t, claims{"x-ms-runtime": claims{"role": "builder"}}), ReasonWrappingKey, "none of 0 keys"},
		"key for signing":     {"k", g.token(t, claims{"x-ms-runtime": claims{"role": "builder", "keys": []any{claims{"kty": "RSA", "use": "sig"}}}}), ReasonWrappingKey, "none of 1 keys"},
		"keys elsewhere":      {"k", g.token(t, claims{"x-ms-runtime": claims{"role": "builder"}, "keys": []any{g.jwk()}}), ReasonWrappingKey, "none of 0 keys"},
		"small key":           {"k", g.token(t, claims{"x-ms-runtime": claims{"role": "builder", "keys": []any{g.jwk("n", "AQAB")}}}), ReasonWrappingKey, "modulus"},
		"not exportable":      {"closed", g.token(t, nil), ReasonNotExportable, "not exportable"},
		"not exportable, too": {"closed", "", ReasonNotExportable, "not exportable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := w.Release(ctx, ReleaseRequest{Name: c.key, Target: c.target})
			var refusal *Error
			if !errors.As(err, &refusal) || refusal.Code != Denied || refusal.Message != errDenied || out != nil {
				t.Fatalf("%v, %v", out, err)
			}
			d, err := w.Explain(ctx, refusal.Release)
			if err != nil {
				t.Fatal(err)
			}
			if d.Allowed || d.Reason != c.reason || !strings.Contains(d.Detail, c.detail) || d.ID != refusal.Release || d.Object != "key/"+c.key || len(d.Token) != 64 {
				t.Errorf("the decision is %+v, want %s with %q", d, c.reason, c.detail)
			}
			if (d.Outcome != nil) != (c.reason == ReasonPolicy || c.reason == ReasonWrappingKey) {
				t.Errorf("the outcome is %+v", d.Outcome)
			}
		})
	}
}

// TestRefusedWithoutDecision has what is refused before a token is looked at.
func TestRefusedWithoutDecision(t *testing.T) {
	t.Parallel()
	w, g := releaseWorld(t, nil)
	ctx := t.Context()
	k, err := w.CreateKey(ctx, "k", exportable())
	if err != nil {
		t.Fatal(err)
	}
	target := g.token(t, nil)
	release := func(name, version string) error {
		_, err := w.Release(ctx, ReleaseRequest{Name: name, Version: version, Target: target})
		return err
	}
	expect := func(what string, err error, code Code) {
		t.Helper()
		if !errors.Is(err, &Error{Code: code}) {
			t.Errorf("%s: %v, want %s", what, err, code)
		}
	}
	expect("missing", release("gone", ""), KeyNotFound)
	expect("missing version", release("k", strings.Repeat("0", 32)), KeyNotFound)
	expect("strange version", release("k", "../x"), KeyNotFound)
	expect("strange name", release("k/x", ""), BadParameter)
	if err := release("K", k.Version); err != nil {
		t.Error(err)
	}
	update := func(a AttributeChange) {
		t.Helper()
		if _, err := w.UpdateKey(ctx, "k", "", KeyUpdate{Attributes: a}); err != nil {
			t.Fatal(err)
		}
	}
	update(AttributeChange{Enabled: ptr(false)})
	expect("disabled", release("k", ""), Disabled)
	update(AttributeChange{Enabled: ptr(true), NotBefore: ptr(w.clock.Now().Add(time.Minute))})
	expect("not yet", release("k", ""), Disabled)
	w.clock.Advance(time.Minute)
	update(AttributeChange{Expires: ptr(w.clock.Now().Add(time.Minute))})
	if err := release("k", ""); err != nil {
		t.Error(err)
	}
	w.clock.Advance(time.Minute)
	expect("expired", release("k", ""), Disabled)
	update(AttributeChange{Expires: ptr(w.clock.Now().Add(time.Hour))})
	if _, err := w.DeleteKey(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	expect("deleted", release("k", ""), KeyNotFound)
}

// TestAuditBeforeRelease closes the audit log: nothing is released, changed or told any more.
func TestAuditBeforeRelease(t *testing.T) {
	t.Parallel()
	var log *audit.Log
	w, g := releaseWorld(t, func(o *Options) { log = o.Audit })
	ctx := t.Context()
	if _, err := w.CreateKey(ctx, "k", exportable()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.SetSecret(ctx, "s", SecretRequest{Value: seal.NewSecret([]byte("x"))}); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func() error{
		"release": func() error { _, err := w.Release(ctx, ReleaseRequest{Name: "k", Target: g.token(t, nil)}); return err },
		"rotate":  func() error { _, err := w.RotateKey(ctx, "k"); return err },
		"delete":  func() error { _, err := w.DeleteKey(ctx, "k"); return err },
		"secret":  func() error { _, _, err := w.SecretValue(ctx, "s", ""); return err },
		"update": func() error {
			_, err := w.UpdateKey(ctx, "k", "", KeyUpdate{Attributes: AttributeChange{Enabled: ptr(false)}})
			return err
		},
	} {
		if err := f(); !errors.Is(err, audit.ErrClosed) {
			t.Errorf("%s without an audit log: %v", name, err)
		}
	}
	if k, err := w.Key(ctx, "k", ""); err != nil || !k.Attributes.Enabled {
		t.Errorf("the key was changed: %+v, %v", k, err)
	}
}

func TestReleaseSecret(t *testing.T) {
	t.Parallel()
	w, g := releaseWorld(t, nil)
	ctx := t.Context()
	_, err := w.SetSecret(ctx, "s", SecretRequest{
		Value: seal.NewSecret([]byte("the password")), Attributes: AttributeChange{Exportable: ptr(true)}, Policy: &ReleasePolicy{Data: []byte(policyText)},
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := w.ReleaseSecret(ctx, ReleaseRequest{Name: "s", Target: g.token(t, nil), Enc: wrap.RSAAESKeyWrap256})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := wrap.Open(out.Enc, g.key, out.Wrapped); err != nil || string(b) != "the password" || out.Secret.Name != "s" || out.Key != nil {
		t.Errorf("released %q (%v)", b, err)
	}
	var seen releasepolicy.Claims
	out, err = w.ReleaseSecret(ctx, ReleaseRequest{Name: "s", Target: g.token(t, nil), Wrap: func(st *authority.Statement, secret []byte) ([]byte, error) {
		seen = st.Claims
		return append([]byte("wrapped "), secret...), nil
	}})
	if err != nil || string(out.Wrapped) != "wrapped the password" || seen["jti"] != "one" || out.Enc != "" {
		t.Errorf("released %+v (%v)", out, err)
	}
	called := false
	_, err = w.ReleaseSecret(ctx, ReleaseRequest{Name: "s", Target: g.token(t, map[string]any{"x-ms-sevsnpvm-hostdata": "00"}), Wrap: func(*authority.Statement, []byte) ([]byte, error) {
		called = true
		return nil, nil
	}})
	if !errors.Is(err, &Error{Code: Denied}) || called {
		t.Errorf("denied: %v, and wrapped: %v", err, called)
	}
}

// TestNothingSecretLeaks looks for the material in everything that lies on disk, and in what is printed.
func TestNothingSecretLeaks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w, g := releaseWorld(t, nil)
	ctx := t.Context()
	raw := []byte("correct horse battery staple.....")
	m, err := NewMaterial(bytes.Clone(raw))
	if err != nil {
		t.Fatal(err)
	}
	r := exportable()
	r.HSM = true
	if _, err := w.ImportKey(ctx, "k", m, r); err != nil {
		t.Fatal(err)
	}
	if _, err := w.SetSecret(ctx, "s", SecretRequest{Value: seal.NewSecret(bytes.Clone(raw))}); err != nil {
		t.Fatal(err)
	}
	target := g.token(t, nil)
	if _, err := w.Release(ctx, ReleaseRequest{Name: "k", Target: target}); err != nil {
		t.Fatal(err)
	}
	_ = dir
	var all bytes.Buffer
	err = w.store.View(ctx, func(r store.Reader) error {
		list, err := r.List("", "", store.MaxList)
		for _, e := range list {
			all.WriteString(e.Key)
			all.Write(e.Value)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(w.audit, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	j, err := json.Marshal(map[string]any{"m": m, "s": m.secret})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&all, "%v %+v %#v %s %x %d %s %v %+v", m, m, m, m, m, m, j, m.secret, *m)
	for what, needle := range map[string][]byte{
		"the secret": raw, "in base64": []byte(base64.StdEncoding.EncodeToString(raw)), "in hexadecimal": fmt.Appendf(nil, "%x", raw),
		"the token": []byte(target[len(target)-40:]), "the policy's claim in a decision": []byte("guestsvn greaterOrEquals"),
	} {
		if bytes.Contains(all.Bytes(), needle) {
			t.Errorf("%s is there in the clear", what)
		}
	}
}

// TestReleaseLoad releases from many sides at once, while the key is rotated and its policy set.
func TestReleaseLoad(t *testing.T) {
	t.Parallel()
	w, g := releaseWorld(t, nil)
	ctx := t.Context()
	const clients, names, rounds = 64, 10, 1
	r := exportable()
	r.Type = ECHSM
	for i := range names {
		if _, err := w.CreateKey(ctx, fmt.Sprint("k", i), r); err != nil {
			t.Fatal(err)
		}
	}
	target, bad := g.token(t, nil), g.token(t, map[string]any{"x-ms-sevsnpvm-hostdata": "00"})
	var wg sync.WaitGroup
	ids := make([][]string, clients)
	for c := range clients {
		wg.Go(func() {
			for i := range names * rounds {
				name := fmt.Sprint("k", (i+c)%names)
				out, err := w.Release(ctx, ReleaseRequest{Name: name, Target: target, Enc: wrap.RSAAESKeyWrap256})
				if err != nil {
					t.Error(err)
					return
				}
				ids[c] = append(ids[c], out.ID)
				if i%names == 0 {
					_, err := w.Release(ctx, ReleaseRequest{Name: name, Target: bad})
					var refusal *Error
					if !errors.As(err, &refusal) || refusal.Code != Denied {
						t.Error(err)
						return
					}
				}
				if c == 0 && i%5 == 0 {
					if _, err := w.RotateKey(ctx, name); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	for _, list := range ids {
		for _, id := range list {
			if d, err := w.Explain(ctx, id); err != nil || !d.Allowed {
				t.Fatalf("%s: %+v, %v", id, d, err)
			}
		}
	}
}

func TestExplainRoundTrip(t *testing.T) {
	t.Parallel()
	w, g := releaseWorld(t, nil)
	ctx := t.Context()
	if _, err := w.CreateKey(ctx, "k", exportable()); err != nil {
		t.Fatal(err)
	}
	out, err := w.Release(ctx, ReleaseRequest{Name: "k", Target: g.token(t, nil)})
	if err != nil {
		t.Fatal(err)
	}
	d, err := w.Explain(ctx, out.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(out.Receipt, d.Receipt); diff != "" || !d.Outcome.Satisfied || d.TokenID != "one" || d.Issuer != attestIssuer {
		t.Errorf("the decision is %+v (%s)", d, diff)
	}
	for _, id := range []string{"", "x", strings.Repeat("0", 32), "../" + out.ID, strings.ToUpper(out.ID)} {
		if id == out.ID {
			continue
		}
		if d, err := w.Explain(ctx, id); err == nil {
			t.Errorf("%q: %+v", id, d)
		}
	}
}

// BenchmarkRelease measures what a release costs the vault: a token over RSA is verified, the policy evaluated, the key
// wrapped, the decision recorded.
func BenchmarkRelease(b *testing.B) {
	w, g := releaseWorld(b, nil)
	if _, err := w.CreateKey(context.Background(), "k", exportable()); err != nil {
		b.Fatal(err)
	}
	target := g.token(b, nil)
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := w.Release(context.Background(), ReleaseRequest{Name: "k", Target: target}); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "releases/s")
}
