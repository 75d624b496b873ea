// SPDX-License-Identifier: Apache-2.0

package rcar

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"cofferdam.dev/internal/kbs/kbstest"
)

var enc = base64.RawURLEncoding.EncodeToString

// guestKey returns a key with what a guest says of it.
func guestKey(t testing.TB, kind string) (*kbstest.Key, map[string]string) {
	t.Helper()
	k, err := kbstest.NewKey(kind)
	if err != nil {
		t.Fatal(err)
	}
	return k, k.Public
}

func asJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestEncrypt has another library decrypt, and then a reader that writes the header anew, as guests do.
func TestEncrypt(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"RSA", "P-256", "P-384", "P-521"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			private, members := guestKey(t, kind)
			k, err := ParseKey(asJSON(t, members))
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{"", "x", strings.Repeat("secret", 5000)} {
				b, err := k.Encrypt([]byte(secret))
				if err != nil {
					t.Fatal(err)
				}
				plain, err := private.Decrypt(b)
				if err != nil || string(plain) != secret {
					t.Errorf("%q, %v", plain, err)
				}
				if err := rewritten(b); err != nil {
					t.Error(err)
				}
			}
			one, other := mustEncrypt(t, k), mustEncrypt(t, k)
			if one["iv"] == other["iv"] || one["encrypted_key"] == other["encrypted_key"] {
				t.Error("two answers have the same key or nonce")
			}
		})
	}
}

func mustEncrypt(t testing.TB, k *Key) map[string]string {
	t.Helper()
	b, err := k.Encrypt([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]string
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// rewritten writes the protected header as guests do: alg and enc, and then other members sorted by name, without spaces.
// It must be what was authenticated.
func rewritten(answer []byte) error {
	var m map[string]string
	if err := json.Unmarshal(answer, &m); err != nil {
		return err
	}
	raw, err := base64.RawURLEncoding.DecodeString(m["protected"])
	if err != nil {
		return err
	}
	var h map[string]any
	if err := json.Unmarshal(raw, &h); err != nil {
		return err
	}
	text := fmt.Sprintf(`{"alg":%q,"enc":%q`, h["alg"], h["enc"])
	delete(h, "alg")
	delete(h, "enc")
	for name, v := range h {
		b, err := json.Marshal(v) // sorts the names of a map
		if err != nil {
			return err
		}
		text += fmt.Sprintf(",%q:%s", name, b)
	}
	if text += "}"; text != string(raw) {
		return fmt.Errorf("the header is %s, and a guest makes it %s", raw, text)
	}
	return nil
}

// TestTampered changes each part of an answer.
func TestTampered(t *testing.T) {
	t.Parallel()
	private, members := guestKey(t, "P-256")
	k, err := ParseKey(asJSON(t, members))
	if err != nil {
		t.Fatal(err)
	}
	whole := mustEncrypt(t, k)
	for name := range whole {
		m := maps.Clone(whole)
		b := []byte(m[name])
		b[len(b)/2] ^= 1
		m[name] = string(b)
		if _, err := private.Decrypt(asJSON(t, m)); err == nil {
			t.Errorf("%s can be changed", name)
		}
	}
}

// TestKeys has keys that are refused, each for one reason.
func TestKeys(t *testing.T) {
	t.Parallel()
	_, ec := guestKey(t, "P-256")
	_, rs := guestKey(t, "RSA")
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	with := func(m map[string]string, name, value string) map[string]string {
		m = maps.Clone(m)
		if m[name] = value; value == "" {
			delete(m, name)
		}
		return m
	}
	for name, c := range map[string]struct {
		key  any
		want string
	}{
		"no object":        {[]string{}, "no object"},
		"no type":          {with(ec, "kty", ""), `"kty"`},
		"octets":           {with(ec, "kty", "oct"), "not supported"},
		"OKP":              {with(ec, "kty", "OKP"), "not supported"},
		"private":          {with(ec, "d", "AAAA"), `"d" is unknown`},
		"key ID":           {with(rs, "kid", "x"), `"kid" is unknown`},
		"RSA 1.5":          {with(rs, "alg", "RSA1_5"), "RSA1_5"},
		"SHA-1":            {with(rs, "alg", "RSA-OAEP"), "RSA-OAEP"},
		"no algorithm":     {with(rs, "alg", ""), `"alg"`},
		"direct agreement": {with(ec, "alg", "ECDH-ES"), "ECDH-ES"},
		"curve":            {with(ec, "crv", "secp256k1"), "secp256k1"},
		"other curve":      {with(ec, "crv", "P-384"), "48"},
		"short x":          {with(ec, "x", ec["x"][:40]), `"x"`},
		"padded":           {with(ec, "x", ec["x"]+"="), `"x"`},
		"not on the curve": {with(ec, "y", ec["x"]), "curve"},
		"point at nothing": {with(with(ec, "x", enc(make([]byte, 32))), "y", enc(make([]byte, 32))), "curve"},
		"small":            {with(rs, "n", enc(small.N.Bytes())), "1024 bits"},
		"large":            {with(rs, "n", enc(append([]byte{0x80}, make([]byte, 512)...))), "4104 bits"},
		"endless":          {with(rs, "n", strings.Repeat("A", 1<<16)), "too long"},
		"even":             {with(rs, "n", enc(append([]byte{0x80}, make([]byte, 255)...))), "even"},
		"exponent 1":       {with(rs, "e", "AQ"), "exponent"},
		"even exponent":    {with(rs, "e", "AQAA"), "exponent"},
		"wide exponent":    {with(rs, "e", "AQAAAAAB"), "exponent"},
		"number for text":  {map[string]any{"kty": "EC", "alg": ECDHESA256KW, "crv": "P-256", "x": 1, "y": 2}, `"x"`},
	} {
		_, err := ParseKey(asJSON(t, c.key))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	one, err := ParseKey(asJSON(t, ec))
	if err != nil {
		t.Fatal(err)
	}
	_, other := guestKey(t, "P-256")
	two, err := ParseKey(asJSON(t, other))
	if err != nil {
		t.Fatal(err)
	}
	if len(one.Thumbprint()) != 64 || one.Thumbprint() == two.Thumbprint() {
		t.Error("keys are not told apart")
	}
}
