// SPDX-License-Identifier: Apache-2.0

package rest_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"
)

func from64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestOperations has what is made with keys of the vault understood by the standard library, and the other way round.
func TestOperations(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	created := w.must(t, "POST", "/keys/rsa/create", object{"kty": "RSA"})
	public := &rsa.PublicKey{N: new(big.Int).SetBytes(from64(t, created.get("key.n"))), E: 65537}
	text := []byte("a text")
	version := strings.TrimPrefix(created.get("key.kid"), vaultURL+"/keys/rsa")
	sealed, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public, text, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/keys/rsa/decrypt", "/keys/rsa//decrypt", "/keys/rsa" + version + "/decrypt", "/keys/rsa/unwrapKey", "/keys/rsa/unwrapkey"} {
		a := w.must(t, "POST", path, object{"alg": "RSA-OAEP", "value": base64.StdEncoding.EncodeToString(sealed)})
		if string(from64(t, a.get("value"))) != string(text) || a.get("kid") != created.get("key.kid") {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	for _, pair := range [][2]string{{"encrypt", "decrypt"}, {"wrapkey", "unwrapkey"}} {
		a := w.must(t, "POST", "/keys/rsa/"+pair[0], object{"alg": "RSA-OAEP-256", "value": b64(text)})
		a = w.must(t, "POST", "/keys/rsa/"+pair[1], object{"alg": "RSA-OAEP-256", "value": a.get("value")})
		if string(from64(t, a.get("value"))) != string(text) {
			t.Errorf("%s: %s", pair, a.body)
		}
	}
	digest := sha256.Sum256(text)
	a := w.must(t, "POST", "/keys/rsa/sign", object{"alg": "RS256", "value": b64(digest[:])})
	if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], from64(t, a.get("value"))); err != nil {
		t.Error(err)
	}
	created = w.must(t, "POST", "/keys/ec/create", object{"kty": "EC"})
	point := append([]byte{4}, append(from64(t, created.get("key.x")), from64(t, created.get("key.y"))...)...)
	ec, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	a = w.must(t, "POST", "/keys/ec/sign", object{"alg": "ES256", "value": b64(digest[:])})
	signature := from64(t, a.get("value"))
	if len(signature) != 64 || !ecdsa.Verify(ec, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		t.Errorf("the signature %x does not verify", signature)
	}
	for change, want := range map[byte]string{0: "true", 1: "false"} {
		signature[63] ^= change
		if a := w.must(t, "POST", "/keys/ec/verify", object{"alg": "ES256", "digest": b64(digest[:]), "value": b64(signature)}); a.get("value") != want {
			t.Errorf("changed by %d: %s", change, a.body)
		}
		signature[63] ^= change
	}
	w.must(t, "POST", "/keys/oct/create", object{"kty": "oct"})
	a = w.must(t, "POST", "/keys/oct/encrypt", object{"alg": "A256GCM", "value": b64(text), "aad": b64([]byte("aad"))})
	if len(from64(t, a.get("iv"))) != 12 || len(from64(t, a.get("tag"))) != 16 {
		t.Errorf("encrypted: %s", a.body)
	}
	a = w.must(t, "POST", "/keys/oct/decrypt", object{"alg": "A256GCM", "value": a.get("value"), "iv": a.get("iv"), "tag": a.get("tag"), "aad": b64([]byte("aad"))})
	if string(from64(t, a.get("value"))) != string(text) {
		t.Errorf("decrypted: %s", a.body)
	}
	if w.log.Len() > 0 {
		t.Errorf("the log has %s", w.log)
	}
}

func TestOperationErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	w.must(t, "POST", "/keys/ec/create", object{"kty": "EC", "key_ops": []string{"sign"}})
	w.must(t, "POST", "/keys/oct/create", object{"kty": "oct"})
	w.must(t, "POST", "/keys/off/create", object{"kty": "EC", "attributes": object{"enabled": false}})
	w.must(t, "POST", "/keys/old/create", object{"kty": "EC", "attributes": object{"exp": 1}})
	digest := b64(make([]byte, 32))
	for name, c := range map[string]struct {
		path    string
		body    any
		status  int
		code    string
		inner   string
		message string
	}{
		"no body":           {"/keys/ec/sign", nil, 400, "BadParameter", "", "no body"},
		"no algorithm":      {"/keys/ec/sign", object{"value": digest}, 400, "BadParameter", "", "alg"},
		"a long algorithm":  {"/keys/ec/sign", object{"alg": strings.Repeat("E", 65), "value": digest}, 400, "BadParameter", "", "alg"},
		"unknown algorithm": {"/keys/ec/sign", object{"alg": "ES256K", "value": digest}, 400, "BadParameter", "", ""},
		"another's":         {"/keys/ec/sign", object{"alg": "RS256", "value": digest}, 400, "BadParameter", "", ""},
		"no value":          {"/keys/ec/sign", object{"alg": "ES256"}, 400, "BadParameter", "", "value"},
		"a short digest":    {"/keys/ec/sign", object{"alg": "ES256", "value": "AAAA"}, 400, "BadParameter", "", ""},
		"not base64":        {"/keys/ec/sign", object{"alg": "ES256", "value": "!"}, 400, "BadParameter", "", "base64url"},
		"no digest":         {"/keys/ec/verify", object{"alg": "ES256", "value": digest}, 400, "BadParameter", "", "digest"},
		"not its operation": {"/keys/ec/verify", object{"alg": "ES256", "value": digest, "digest": digest}, 403, "Forbidden", "KeyOperationForbidden", "verify"},
		"disabled":          {"/keys/off/sign", object{"alg": "ES256", "value": digest}, 403, "Forbidden", "KeyDisabled", ""},
		"expired":           {"/keys/old/sign", object{"alg": "ES256", "value": digest}, 403, "Forbidden", "KeyDisabled", ""},
		"not there":         {"/keys/x/sign", object{"alg": "ES256", "value": digest}, 404, "KeyNotFound", "", ""},
		"an own IV":         {"/keys/oct/encrypt", object{"alg": "A256GCM", "value": digest, "iv": "AAAA"}, 400, "BadParameter", "", "iv"},
		"a changed one":     {"/keys/oct/decrypt", object{"alg": "A256GCM", "value": digest, "iv": b64(make([]byte, 12)), "tag": b64(make([]byte, 16))}, 400, "BadParameter", "", "can not be decrypted"},
		"no IV":             {"/keys/oct/decrypt", object{"alg": "A256GCM", "value": digest}, 400, "BadParameter", "", "can not be decrypted"},
		"weak":              {"/keys/oct/encrypt", object{"alg": "A256CBC", "value": digest}, 400, "BadParameter", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := w.send(t.Context(), "operator", "POST", c.path, c.body)
			if a.status != c.status || a.code() != c.code || a.inner() != c.inner || !strings.Contains(a.get("error.message"), c.message) {
				t.Errorf("%d %s\nwant %d %s %s %s", a.status, a.body, c.status, c.code, c.inner, c.message)
			}
		})
	}
}
