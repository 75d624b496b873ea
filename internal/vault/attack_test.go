// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/token"
	"cofferdam.dev/internal/vault/authority"
)

// TestPolicyIsTheOnlyWay reads a secret that has a release policy without the guest that the policy wants.
func TestPolicyIsTheOnlyWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	first, err := w.SetSecret(ctx, "s", SecretRequest{
		Value: seal.NewSecret([]byte("x")), Attributes: AttributeChange{Exportable: ptr(true)},
		Policy: &ReleasePolicy{Data: []byte(policyText), Immutable: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.SecretValue(ctx, "s", ""); codeOf(err) != Denied {
		t.Errorf("the current version: %v", err)
	}
	// A newer version without the attribute is an ordinary one, and opens nothing of the older.
	if _, err := w.SetSecret(ctx, "s", SecretRequest{Value: seal.NewSecret([]byte("y"))}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.SecretValue(ctx, "s", first.Version); codeOf(err) != Denied {
		t.Errorf("the older version: %v", err)
	}
	if _, v, err := w.SecretValue(ctx, "s", ""); err != nil || string(v.Expose()) != "y" {
		t.Errorf("the newer version: %v", err)
	}
	if _, err := w.UpdateSecret(ctx, "s", first.Version, SecretUpdate{Attributes: AttributeChange{Exportable: ptr(false)}}); !errors.Is(err, ErrExportableFixed) {
		t.Errorf("making it an ordinary one: %v", err)
	}
}

// TestImmutable tries each way to another policy for a key whose policy is immutable.
func TestImmutable(t *testing.T) {
	t.Parallel()
	w, g := releaseWorld(t, nil)
	ctx := t.Context()
	r := exportable()
	r.Policy.Immutable = true
	if _, err := w.CreateKey(ctx, "k", r); err != nil {
		t.Fatal(err)
	}
	weak := &ReleasePolicy{Data: []byte(`{"version":"1.0","anyOf":[{"authority":"` + attestIssuer + `","allOf":[{"claim":"iss","exists":true}]}]}`)}
	weaker := exportable()
	weaker.Policy = weak
	plain := KeyRequest{Type: RSAHSM, Policy: weak}
	m, err := NewMaterial([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	imported := weaker
	imported.HSM = true
	for name, try := range map[string]func() error{
		"update":        func() error { _, err := w.UpdateKey(ctx, "k", "", KeyUpdate{Policy: weak}); return err },
		"another case":  func() error { _, err := w.UpdateKey(ctx, "K", "", KeyUpdate{Policy: weak}); return err },
		"new version":   func() error { _, err := w.CreateKey(ctx, "k", weaker); return err },
		"import":        func() error { _, err := w.ImportKey(ctx, "K", m, imported); return err },
		"plain version": func() error { _, err := w.CreateKey(ctx, "k", plain); return err },
		"the same, mutable": func() error {
			_, err := w.UpdateKey(ctx, "k", "", KeyUpdate{Policy: &ReleasePolicy{Data: []byte(policyText)}})
			return err
		},
		"by deleting it": func() error {
			if _, err := w.DeleteKey(ctx, "k"); err != nil {
				return err
			}
			_, err := w.CreateKey(ctx, "k", weaker)
			if _, err := w.RecoverKey(ctx, "k"); err != nil {
				t.Error(err)
			}
			return err
		},
	} {
		if err := try(); codeOf(err) != BadParameter && codeOf(err) != Conflict {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.RotateKey(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.UpdateKey(ctx, "k", "", KeyUpdate{Attributes: AttributeChange{Enabled: ptr(false)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.RotateKey(ctx, "k"); codeOf(err) != Disabled {
		t.Errorf("a disabled key was rotated into use: %v", err)
	}
	if _, err := w.UpdateKey(ctx, "k", "", KeyUpdate{Attributes: AttributeChange{Enabled: ptr(true)}}); err != nil {
		t.Fatal(err)
	}
	bad := g.token(t, map[string]any{"x-ms-sevsnpvm-hostdata": "00"})
	if _, err := w.Release(ctx, ReleaseRequest{Name: "k", Target: bad}); codeOf(err) != Denied {
		t.Errorf("released: %v", err)
	}
}

// TestSlowIssuer disables, and then deletes, a key while the vault asks the token's issuer for its keys: what was
// acknowledged before the answer counts.
func TestSlowIssuer(t *testing.T) {
	t.Parallel()
	asked, answer := make(chan struct{}), make(chan struct{})
	var g *guest
	w := newWorld(t, nil)
	g = newGuest(t, w.clock)
	set, err := authority.NewSet(authority.Authority{Issuer: attestIssuer, Keys: authority.Func(func(context.Context) ([]token.PublicKey, error) {
		asked <- struct{}{}
		<-answer
		return []token.PublicKey{g.signer.Public()}, nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	w.opts.Authorities = set
	ctx := t.Context()
	if _, err := w.CreateKey(ctx, "k", exportable()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want   Code
		change func() error
	}{
		{"", func() error { return nil }},
		{Disabled, func() error {
			_, err := w.UpdateKey(ctx, "k", "", KeyUpdate{Attributes: AttributeChange{Enabled: ptr(false)}})
			return err
		}},
		{KeyNotFound, func() error { _, err := w.DeleteKey(ctx, "k"); return err }},
	} {
		done := make(chan error)
		target := g.token(t, nil)
		go func() {
			_, err := w.Release(ctx, ReleaseRequest{Name: "k", Target: target})
			done <- err
		}()
		<-asked
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		answer <- struct{}{}
		if err := <-done; codeOf(err) != c.want {
			t.Errorf("want %q: %v", c.want, err)
		}
	}
}

// panicking is a store that panics once.
type panicking struct {
	store.Store
	once sync.Once
}

func (p *panicking) Update(ctx context.Context, f func(store.Tx) error) error {
	p.once.Do(func() { panic("a store that is broken") })
	return p.Store.Update(ctx, f)
}

// TestBatchPanic has the writer of a group panic: nobody waits for ever, and the next one writes.
func TestBatchPanic(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	s := &panicking{Store: w.store}
	var b batch
	func() {
		defer func() {
			if recover() == nil {
				t.Error("it did not panic")
			}
		}()
		_ = b.put(t.Context(), s, "vault/test/x", []byte("1"))
	}()
	done := make(chan error, 1)
	go func() { done <- b.put(t.Context(), s, "vault/test/x", []byte("2")) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the next writer waits for ever")
	}
}

// TestHostileJWK has private keys whose numbers are not those of a key.
func TestHostileJWK(t *testing.T) {
	t.Parallel()
	e := base64.RawURLEncoding.EncodeToString
	big := e([]byte(strings.Repeat("\xff", 256)))
	for name, jwk := range map[string]string{
		"zero primes":      fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB","d":%q,"p":"AA","q":"AA"}`, big, big),
		"primes of one":    fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB","d":%q,"p":"AQ","q":%q}`, big, big, big),
		"no primes":        fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB","d":%q}`, big, big),
		"exponent of one":  fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQ","d":"AQ","p":%q,"q":%q}`, big, e([]byte{3}), e([]byte{5})),
		"exponent too big": fmt.Sprintf(`{"kty":"RSA","n":%q,"e":%q,"d":"AQ","p":"Aw","q":"BQ"}`, big, big),
		"even modulus":     fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB","d":"AQ","p":"Ag","q":%q}`, e([]byte(strings.Repeat("\xfe", 256))), big),
		"off the curve":    `{"kty":"EC","crv":"P-256","x":"AQ","y":"AQ","d":"AQ"}`,
		"scalar of zero":   `{"kty":"EC","crv":"P-256","x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU","d":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`,
		"another scalar":   `{"kty":"EC","crv":"P-256","x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU","d":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAI"}`,
		"long scalar":      fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU","d":%q}`, big),
		"public alone":     `{"kty":"EC","crv":"P-256","x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"}`,
		"two types":        `{"kty":"oct","kty":"RSA","k":"AAAA"}`,
		"a type's end":     `{"kty":"oct\",\"x\":\"","k":"AAAA"}`,
		"empty oct":        `{"kty":"oct","k":""}`,
		"long oct":         fmt.Sprintf(`{"kty":"oct","k":%q}`, big),
	} {
		if m, err := ParseMaterial([]byte(jwk)); codeOf(err) != BadParameter || m != nil {
			t.Errorf("%s: became %v, %v", name, m, err)
		} else if strings.Contains(err.Error(), "_____") {
			t.Errorf("%s: the error quotes the key: %v", name, err)
		}
	}
}

// changing is a file that somebody shortens after it was read once.
type changing struct {
	*bytes.Reader
	text  []byte
	seeks int
}

func (c *changing) Seek(offset int64, whence int) (int64, error) {
	if c.seeks++; c.seeks == 2 {
		lines := bytes.SplitAfter(c.text, []byte("\n"))
		c.Reader = bytes.NewReader(bytes.Join(append(lines[:2:2], lines[3:]...), nil))
	}
	return c.Reader.Seek(offset, whence)
}

// TestChangingBackup takes an entry out of a backup between its being checked and its being restored.
func TestChangingBackup(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for _, name := range []string{"a", "b", "c"} {
		if _, err := w.CreateKey(t.Context(), name, KeyRequest{Type: EC}); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, err := w.Backup(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	other := w.another(t, nil)
	_, err := other.Restore(t.Context(), &changing{Reader: bytes.NewReader(b.Bytes()), text: b.Bytes()})
	if err == nil || !strings.Contains(err.Error(), "changed while") {
		t.Errorf("restored: %v", err)
	}
	if page, _, err := other.Keys(t.Context(), "", MaxPage); err != nil || len(page) != 0 {
		t.Errorf("there are %d keys, %v", len(page), err)
	}
}

// TestStatement shows the vault what an attestation service signs about itself, such as a tenant's policy, in place of what
// it signs about a guest: there is no guest's key in it, so that even a policy which asks for nothing gives nothing away.
func TestStatement(t *testing.T) {
	t.Parallel()
	w, g := releaseWorld(t, nil)
	ctx := t.Context()
	r := exportable()
	r.Policy = &ReleasePolicy{Data: []byte(`{"version":"1.0","anyOf":[{"authority":"` + attestIssuer + `","allOf":[{"claim":"x","exists":false}]}]}`)}
	if _, err := w.CreateKey(ctx, "k", r); err != nil {
		t.Fatal(err)
	}
	for name, runtime := range map[string]any{
		"none": nil, "text": "{\"keys\":[]}", "a list": []any{map[string]any{"keys": []any{g.jwk()}}}, "keys of another name": map[string]any{"Keys": []any{g.jwk()}},
		"no list": map[string]any{"keys": g.jwk()}, "empty": map[string]any{"keys": []any{}}, "deeper": map[string]any{"x": map[string]any{"keys": []any{g.jwk()}}},
	} {
		_, err := w.Release(ctx, ReleaseRequest{Name: "k", Target: g.token(t, map[string]any{"x-ms-runtime": runtime, "X-MS-Runtime": map[string]any{"keys": []any{g.jwk()}}})})
		var refusal *Error
		if !errors.As(err, &refusal) || refusal.Code != Denied {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d, err := w.Explain(ctx, refusal.Release); err != nil || d.Reason != ReasonWrappingKey {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}
