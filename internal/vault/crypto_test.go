// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func makeKeys(t testing.TB, w *world, requests map[string]KeyRequest) {
	t.Helper()
	for name, r := range requests {
		if _, err := w.CreateKey(t.Context(), name, r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEncryption(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	makeKeys(t, w, map[string]KeyRequest{
		"rsa": {Type: RSA}, "ec": {Type: EC}, "o128": {Type: Oct, Bits: 128}, "o192": {Type: OctHSM, Bits: 192}, "o256": {Type: Oct}, "o512": {Type: Oct, Bits: 512},
	})
	fits := map[string][]Algorithm{
		"rsa": {RSAOAEP, RSAOAEP256}, "o128": {A128GCM, A128KW, AESKW, AESKWP}, "o192": {A192GCM, A192KW, AESKW, AESKWP},
		"o256": {A256GCM, A256KW, AESKW, AESKWP},
	}
	all := []Algorithm{RSAOAEP, RSAOAEP256, A128GCM, A192GCM, A256GCM, A128KW, A192KW, A256KW, AESKW, AESKWP, RS256, "RSA1_5", "A256CBC", "none", ""}
	plaintext := []byte("sixteen bytes...")
	for _, name := range []string{"rsa", "o128", "o192", "o256", "o512", "ec"} {
		for _, a := range all {
			_, c, err := w.WrapKey(ctx, name, "", a, plaintext)
			if want := slices.Contains(fits[name], a); !want {
				if code := codeOf(err); code != BadParameter && code != NotPermitted {
					t.Errorf("%s with %q: %v", name, a, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s with %q: %v", name, a, err)
				continue
			}
			_, got, err := w.UnwrapKey(ctx, name, "", *c)
			if err != nil || !bytes.Equal(got.Expose(), plaintext) {
				t.Errorf("%s with %q came back as %x: %v", name, a, got.Expose(), err)
			}
			for what, bad := range map[string]Ciphertext{
				"changed":         {a, flip(c.Value), c.IV, c.Tag, c.AAD},
				"cut":             {a, c.Value[:len(c.Value)-1], c.IV, c.Tag, c.AAD},
				"empty":           {a, nil, nil, nil, nil},
				"other algorithm": {all[(slices.Index(all, a)+1)%len(all)], c.Value, c.IV, c.Tag, c.AAD},
			} {
				if bad.Algorithm == AESKW && what == "other algorithm" {
					continue // another name for the same
				}
				if _, got, err := w.UnwrapKey(ctx, name, "", bad); codeOf(err) != BadParameter {
					t.Errorf("%s with %q, %s: %x, %v", name, a, what, got.Expose(), err)
				}
			}
		}
	}
	_, c, err := w.Encrypt(ctx, "o256", "", A256GCM, plaintext, []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	if _, got, err := w.Decrypt(ctx, "o256", "", *c); err != nil || !bytes.Equal(got.Expose(), plaintext) {
		t.Errorf("with associated data: %v", err)
	}
	c.AAD = []byte("AAD")
	if _, _, err := w.Decrypt(ctx, "o256", "", *c); codeOf(err) != BadParameter {
		t.Errorf("with other associated data: %v", err)
	}
	if _, _, err := w.Encrypt(ctx, "rsa", "", RSAOAEP, make([]byte, 300), nil); codeOf(err) != BadParameter {
		t.Errorf("too long for the key: %v", err)
	}
	if _, _, err := w.Encrypt(ctx, "o256", "", A256GCM, make([]byte, maxInput+1), nil); codeOf(err) != BadParameter {
		t.Errorf("too long: %v", err)
	}
}

// TestSignatures verifies each signature with another library, in the form of a JWS.
func TestSignatures(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	makeKeys(t, w, map[string]KeyRequest{
		"rsa": {Type: RSA}, "p256": {Type: EC}, "p384": {Type: ECHSM, Curve: P384}, "p521": {Type: EC, Curve: P521}, "oct": {Type: Oct},
	})
	fits := map[string][]Algorithm{"rsa": {RS256, RS384, RS512, PS256, PS384, PS512}, "p256": {ES256}, "p384": {ES384}, "p521": {ES512}}
	for _, a := range []Algorithm{RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, "ES256K", "HS256", "none", ""} {
		signed := encodeJSON(map[string]any{"alg": a}) + "." + encodeJSON("payload")
		h, _ := a.hash()
		digest := make([]byte, 32)
		if h != 0 {
			hash := h.New()
			_, _ = hash.Write([]byte(signed))
			digest = hash.Sum(nil)
		}
		for _, name := range []string{"rsa", "p256", "p384", "p521", "oct"} {
			k, signature, err := w.Sign(ctx, name, "", a, digest)
			if !slices.Contains(fits[name], a) {
				if code := codeOf(err); code != BadParameter && code != NotPermitted {
					t.Errorf("%s with %q: %v", name, a, err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			object, err := jose.ParseSignedCompact(signed+"."+base64.RawURLEncoding.EncodeToString(signature), []jose.SignatureAlgorithm{jose.SignatureAlgorithm(a)})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := object.Verify(k.Public); err != nil {
				t.Errorf("%s with %q: %v", name, a, err)
			}
			for what, c := range map[string]struct {
				digest, signature []byte
				want              bool
			}{
				"as it is": {digest, signature, true}, "other signature": {digest, flip(signature), false}, "short": {digest, signature[1:], false},
				"none": {digest, nil, false}, "other digest": {flip(digest), signature, false},
			} {
				if _, ok, err := w.Verify(ctx, name, "", a, c.digest, c.signature); err != nil || ok != c.want {
					t.Errorf("%s with %q, %s: %v, %v", name, a, what, ok, err)
				}
			}
			if _, _, err := w.Sign(ctx, name, "", a, digest[1:]); codeOf(err) != BadParameter {
				t.Errorf("%s with %q signs a short digest: %v", name, a, err)
			}
		}
	}
}

// TestKeyRules says what a key's own rules permit.
func TestKeyRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	makeKeys(t, w, map[string]KeyRequest{"k": {Type: RSA, Operations: []Operation{Sign, Verify, Encrypt, Decrypt}}, "v": {Type: EC, Operations: []Operation{Verify}}})
	digest := make([]byte, sha256.Size)
	_, c, err := w.Encrypt(ctx, "k", "", RSAOAEP256, []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	do := func() map[Operation]Code {
		out := map[Operation]Code{}
		_, _, err := w.Sign(ctx, "k", "", RS256, digest)
		out[Sign] = codeOf(err)
		_, _, err = w.Verify(ctx, "k", "", RS256, digest, make([]byte, 256))
		out[Verify] = codeOf(err)
		_, _, err = w.Encrypt(ctx, "k", "", RSAOAEP256, []byte("x"), nil)
		out[Encrypt] = codeOf(err)
		_, _, err = w.Decrypt(ctx, "k", "", *c)
		out[Decrypt] = codeOf(err)
		_, _, err = w.WrapKey(ctx, "k", "", RSAOAEP256, []byte("x"))
		out[WrapKey] = codeOf(err)
		_, _, err = w.UnwrapKey(ctx, "k", "", *c)
		out[UnwrapKey] = codeOf(err)
		return out
	}
	expect := func(what string, make, read Code) {
		t.Helper()
		want := map[Operation]Code{Sign: make, Encrypt: make, Verify: read, Decrypt: read, WrapKey: NotPermitted, UnwrapKey: NotPermitted}
		if make != "" {
			want[WrapKey] = make
		}
		if read != "" {
			want[UnwrapKey] = read
		}
		if got := do(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	update := func(a AttributeChange) {
		t.Helper()
		if _, err := w.UpdateKey(ctx, "k", "", KeyUpdate{Attributes: a}); err != nil {
			t.Fatal(err)
		}
	}
	expect("enabled", "", "")
	update(AttributeChange{Enabled: ptr(false)})
	expect("disabled", Disabled, Disabled)
	update(AttributeChange{Enabled: ptr(true), NotBefore: ptr(w.clock.Now().Add(time.Minute)), Expires: ptr(w.clock.Now().Add(2 * time.Minute))})
	expect("not yet valid", Disabled, "")
	w.clock.Advance(time.Minute)
	expect("valid", "", "")
	w.clock.Advance(time.Minute)
	expect("expired", Disabled, "")
	if _, _, err := w.Sign(ctx, "v", "", ES256, digest); codeOf(err) != NotPermitted {
		t.Errorf("signing with a key for verifying: %v", err)
	}
	if _, _, err := w.Sign(ctx, "gone", "", ES256, digest); codeOf(err) != KeyNotFound {
		t.Errorf("signing with no key: %v", err)
	}
}

// TestParseMaterial reads keys that another library writes as JWK.
func TestParseMaterial(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	b, err := jose.JSONWebKey{Key: key}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	public, err := jose.JSONWebKey{Key: key.Public()}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	hsm := strings.Replace(string(b), `"RSA"`, `"RSA-HSM"`, 1)
	for name, c := range map[string]struct {
		jwk  string
		want KeyType
	}{
		"RSA":             {string(b), RSA},
		"RSA-HSM":         {hsm, RSA},
		"with operations": {strings.Replace(string(b), "{", `{"key_ops":["sign","verify"],"ext":true,`, 1), RSA},
		"oct":             {`{"kty":"oct","k":"AAECAwQFBgcICQoLDA0ODw"}`, Oct},
		"oct-HSM":         {`{"kty":"oct-HSM","k":"AAECAwQFBgcICQoLDA0ODw"}`, Oct},
		"public":          {string(public), ""},
		"empty oct":       {`{"kty":"oct","k":""}`, ""},
		"long oct":        {`{"kty":"oct","k":"` + strings.Repeat("AAAA", 22) + `"}`, ""},
		"padded oct":      {`{"kty":"oct","k":"AA=="}`, ""},
		"no oct":          {`{"kty":"oct"}`, ""},
		"no type":         {`{"k":"AA"}`, ""},
		"unknown type":    {`{"kty":"OKP","crv":"Ed25519","x":"AA","d":"AA"}`, ""},
		"other primes":    {strings.Replace(string(b), `"p":"`, `"p":"AA`, 1), ""},
		"operations":      {`{"kty":"oct","k":"AA","key_ops":"sign"}`, ""},
		"twice":           {`{"kty":"oct","kty":"oct","k":"AA"}`, ""},
		"no JSON":         {`x`, ""},
		"large":           {`{"kty":"oct","k":"` + strings.Repeat("A", maxJWK) + `"}`, ""},
	} {
		m, err := ParseMaterial([]byte(c.jwk))
		if c.want == "" {
			if codeOf(err) != BadParameter {
				t.Errorf("%s: %v, %v", name, m, err)
			}
			continue
		}
		if err != nil || m.Type() != c.want {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
}
