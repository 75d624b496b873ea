// SPDX-License-Identifier: Apache-2.0

package wrap

import (
	"crypto"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
)

var encode = base64.RawURLEncoding.EncodeToString

func newRSA(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newHPKE(t testing.TB, kem hpke.KEM) hpke.PrivateKey {
	t.Helper()
	key, err := kem.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// set is a list of keys in JWK, each an object.
func set(keys ...map[string]any) []json.RawMessage {
	var out []json.RawMessage
	for _, k := range keys {
		b, err := json.Marshal(k)
		if err != nil {
			panic(err)
		}
		out = append(out, b)
	}
	return out
}

func with(k map[string]any, more ...any) map[string]any {
	out := map[string]any{}
	for name, v := range k {
		out[name] = v
	}
	for i := 0; i < len(more); i += 2 {
		out[more[i].(string)] = more[i+1]
	}
	return out
}

func rsaJWK(k *rsa.PublicKey) map[string]any {
	return map[string]any{"kty": "RSA", "n": encode(k.N.Bytes()), "e": encode(big.NewInt(int64(k.E)).Bytes())}
}

func ecJWK(name string, k hpke.PublicKey) map[string]any {
	b := k.Bytes()[1:]
	return map[string]any{"kty": "EC", "crv": name, "x": encode(b[:len(b)/2]), "y": encode(b[len(b)/2:])}
}

// TestFormats seals in each format to a key that was chosen from JWK, and opens it with its private half alone.
func TestFormats(t *testing.T) {
	t.Parallel()
	enc := []any{"use", "enc"}
	key2, key3 := newRSA(t, 2048), newRSA(t, 3072)
	p256, p384, p521 := newHPKE(t, hpke.DHKEM(ecdh.P256())), newHPKE(t, hpke.DHKEM(ecdh.P384())), newHPKE(t, hpke.DHKEM(ecdh.P521()))
	x, hybrid := newHPKE(t, hpke.DHKEM(ecdh.X25519())), newHPKE(t, hpke.MLKEM768X25519())
	for name, c := range map[string]struct {
		format  Enc
		jwk     map[string]any
		private crypto.PrivateKey
		other   crypto.PrivateKey
	}{
		"RSA, SHA-1":   {CKMRSAAESKeyWrap, with(rsaJWK(&key2.PublicKey), "key_ops", []string{"encrypt"}), key2, key3},
		"RSA, SHA-256": {RSAAESKeyWrap256, with(rsaJWK(&key3.PublicKey), enc...), key3, key2},
		"RSA, SHA-384": {RSAAESKeyWrap384, with(rsaJWK(&key2.PublicKey), "e", "AAEAAQ", "use", "enc"), key2, key3},
		"P-256":        {HPKEECDH, with(ecJWK("P-256", p256.PublicKey()), enc...), p256, p384},
		"P-384":        {HPKEECDH, with(ecJWK("P-384", p384.PublicKey()), "key_ops", []string{"deriveBits"}), p384, p256},
		"P-521":        {HPKEECDH, with(ecJWK("P-521", p521.PublicKey()), enc...), p521, hybrid},
		"X25519":       {HPKEECDH, map[string]any{"kty": "OKP", "crv": "X25519", "x": encode(x.PublicKey().Bytes()), "use": "enc"}, x, p256},
		"hybrid":       {HPKEHybrid, map[string]any{"kty": "AKP", "alg": "X-Wing", "pub": encode(hybrid.PublicKey().Bytes()), "use": "enc"}, hybrid, x},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := Select(set(c.jwk), c.format)
			if err != nil {
				t.Fatal(err)
			}
			sealed, err := Seal(c.format, r.Public, []byte("the secret"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := Open(c.format, c.private, sealed)
			if err != nil || string(got) != "the secret" {
				t.Fatalf("opened as %q: %v", got, err)
			}
			if got, err := Open(c.format, c.other, sealed); err == nil {
				t.Errorf("another key opened it: %q", got)
			}
			for _, e := range Formats() {
				if got, err := Open(e, c.private, sealed); err == nil && e != c.format {
					t.Errorf("opened as %s: %q", e, got)
				}
				if e.RSA() != c.format.RSA() {
					if _, err := Seal(e, r.Public, []byte("x")); err == nil {
						t.Errorf("sealed as %s", e)
					}
				}
			}
			for i := 0; i < len(sealed); i += 7 {
				bad := append([]byte{}, sealed...)
				bad[i] ^= 0x40
				if _, err := Open(c.format, c.private, bad); !errors.Is(err, ErrOpen) {
					t.Fatalf("changed at %d: %v", i, err)
				}
				if _, err := Open(c.format, c.private, sealed[:i]); !errors.Is(err, ErrOpen) {
					t.Fatalf("cut at %d: %v", i, err)
				}
			}
		})
	}
}

// TestSelect says which key of a guest is taken.
func TestSelect(t *testing.T) {
	t.Parallel()
	key := rsaJWK(&newRSA(t, 2048).PublicKey)
	ec := ecJWK("P-256", newHPKE(t, hpke.DHKEM(ecdh.P256())).PublicKey())
	small := rsaJWK(&newRSA(t, 1024).PublicKey)
	encrypt, sign := []string{"encrypt"}, []string{"sign"}
	for name, c := range map[string]struct {
		keys   []json.RawMessage
		format Enc
		want   string // the kid, or nothing when there must be an error
	}{
		"by use":                {set(with(key, "kid", "a", "use", "enc")), RSAAESKeyWrap256, "a"},
		"by operation":          {set(with(key, "kid", "a", "key_ops", encrypt)), RSAAESKeyWrap256, "a"},
		"the first":             {set(with(key, "kid", "a", "use", "enc"), with(key, "kid", "b", "use", "enc")), RSAAESKeyWrap256, "a"},
		"not one for signing":   {set(with(key, "kid", "a", "use", "sig"), with(key, "kid", "b", "key_ops", encrypt)), RSAAESKeyWrap256, "b"},
		"not without a purpose": {set(with(key, "kid", "a")), RSAAESKeyWrap256, ""},
		"only for signing":      {set(with(key, "kid", "a", "key_ops", sign)), RSAAESKeyWrap256, ""},
		"not another type":      {set(with(ec, "kid", "a", "use", "enc"), with(key, "kid", "b", "use", "enc")), RSAAESKeyWrap256, "b"},
		"the type decides":      {set(with(ec, "kid", "a", "use", "enc"), with(key, "kid", "b", "use", "enc")), HPKEECDH, "a"},
		"none":                  {nil, RSAAESKeyWrap256, ""},
		"unknown format":        {set(with(key, "kid", "a", "use", "enc")), "RSA-OAEP", ""},
		"no format":             {set(with(key, "kid", "a", "use", "enc")), "", ""},
		"small":                 {set(with(small, "kid", "a", "use", "enc"), with(key, "kid", "b", "use", "enc")), RSAAESKeyWrap256, ""},
		"exponent 1":            {set(with(key, "kid", "a", "use", "enc", "e", "AQ")), RSAAESKeyWrap256, ""},
		"exponent 3":            {set(with(key, "kid", "a", "use", "enc", "e", "Aw")), RSAAESKeyWrap256, ""},
		"even exponent":         {set(with(key, "kid", "a", "use", "enc", "e", "AQAC")), RSAAESKeyWrap256, ""},
		"huge exponent":         {set(with(key, "kid", "a", "use", "enc", "e", encode(make([]byte, 1))+"AQAAAAAAAQ")), RSAAESKeyWrap256, ""},
		"even modulus":          {set(with(key, "kid", "a", "use", "enc", "n", encode(append([]byte{0x80}, make([]byte, 255)...)))), RSAAESKeyWrap256, ""},
		"huge modulus":          {set(with(key, "kid", "a", "use", "enc", "n", encode([]byte(strings.Repeat("\xff", 4096))))), RSAAESKeyWrap256, ""},
		"no modulus":            {set(with(key, "kid", "a", "use", "enc", "n", "")), RSAAESKeyWrap256, ""},
		"standard base64":       {set(with(key, "kid", "a", "use", "enc", "n", "++//")), RSAAESKeyWrap256, ""},
		"not on the curve":      {set(with(ec, "kid", "a", "use", "enc", "y", ec["x"])), HPKEECDH, ""},
		"another curve":         {set(with(ec, "kid", "a", "use", "enc", "crv", "P-384")), HPKEECDH, ""},
		"unknown curve":         {set(with(ec, "kid", "a", "use", "enc", "crv", "secp256k1")), HPKEECDH, ""},
		"low order":             {set(map[string]any{"kty": "OKP", "crv": "X25519", "x": encode(make([]byte, 31)), "use": "enc", "kid": "a"}), HPKEECDH, ""},
		"short hybrid":          {set(map[string]any{"kty": "AKP", "alg": "X-Wing", "pub": "AAAA", "use": "enc", "kid": "a"}), HPKEHybrid, ""},
		"no object":             {[]json.RawMessage{[]byte(`"x"`), []byte(`[]`), []byte(`null`)}, RSAAESKeyWrap256, ""},
		"contradiction":         {set(with(key, "kid", "a", "use", "sig", "key_ops", encrypt), with(key, "kid", "b", "use", "enc")), RSAAESKeyWrap256, "b"},
		"twice":                 {[]json.RawMessage{[]byte(strings.Replace(string(set(with(key, "kid", "a", "use", "enc"))[0]), `"kid"`, `"n":"AQAB","kid"`, 1))}, RSAAESKeyWrap256, ""},
		"another case":          {set(map[string]any{"KTY": "RSA", "N": key["n"], "E": key["e"], "Use": "enc", "KID": "a"}), RSAAESKeyWrap256, ""},
		"another case besides":  {set(with(key, "kid", "a", "use", "enc", "N", "AQAB", "uSE", "sig", "kID", "b")), RSAAESKeyWrap256, "a"},
		"too many":              {set(make([]map[string]any, maxKeys+1)...), RSAAESKeyWrap256, ""},
	} {
		r, err := Select(c.keys, c.format)
		switch {
		case c.want == "" && err == nil:
			t.Errorf("%s: %q was taken", name, r.KeyID)
		case c.want != "" && (err != nil || r.KeyID != c.want):
			t.Errorf("%s: %v, %v, want %q", name, r, err, c.want)
		}
	}
}

// TestLowOrder has public keys with which everybody agrees on the same secret.
func TestLowOrder(t *testing.T) {
	t.Parallel()
	one := make([]byte, 32)
	one[0] = 1
	eight, err := base64.RawURLEncoding.DecodeString("4Ot6fDtBuK4WVuP68Z_EatoJjeucMrH9hmIFFl9JuAA")
	if err != nil {
		t.Fatal(err)
	}
	for name, point := range map[string][]byte{"zero": make([]byte, 32), "one": one, "order eight": eight} {
		r, err := Select(set(map[string]any{"kty": "OKP", "crv": "X25519", "x": encode(point), "use": "enc"}), HPKEECDH)
		if err != nil {
			continue
		}
		if b, err := Seal(HPKEECDH, r.Public, []byte("secret")); err == nil {
			t.Errorf("%s: sealed as %x", name, b)
		}
	}
	hybrid := newHPKE(t, hpke.MLKEM768X25519()).PublicKey().Bytes()
	copy(hybrid[len(hybrid)-32:], make([]byte, 32)) // the half for X25519
	r, err := Select(set(map[string]any{"kty": "AKP", "alg": "X-Wing", "pub": encode(hybrid), "use": "enc"}), HPKEHybrid)
	if err != nil {
		return
	}
	if b, err := Seal(HPKEHybrid, r.Public, []byte("secret")); err == nil {
		t.Errorf("hybrid: sealed as %x", b)
	}
}

func TestSealRefuses(t *testing.T) {
	t.Parallel()
	if _, err := Seal(RSAAESKeyWrap256, &newRSA(t, 1024).PublicKey, []byte("x")); err == nil {
		t.Error("sealed to 1024 bits")
	}
	x := newHPKE(t, hpke.DHKEM(ecdh.X25519()))
	pure := newHPKE(t, hpke.MLKEM768())
	for name, err := range map[string]error{
		"nothing":        second(Seal(HPKEECDH, x.PublicKey(), nil)),
		"too much":       second(Seal(HPKEECDH, x.PublicKey(), make([]byte, MaxPayload+1))),
		"ML-KEM alone":   second(Seal(HPKEHybrid, pure.PublicKey(), []byte("x"))),
		"ECDH as hybrid": second(Seal(HPKEHybrid, x.PublicKey(), []byte("x"))),
		"no key":         second(Seal(HPKEECDH, nil, []byte("x"))),
		"low order":      second(Seal(HPKEECDH, must(hpke.DHKEM(ecdh.X25519()).NewPublicKey(make([]byte, 32))), []byte("x"))),
		"string":         second(Open(HPKEECDH, "key", []byte("x"))),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprint(err))
	}
	return v
}
