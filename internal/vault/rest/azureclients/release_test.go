// SPDX-License-Identifier: Apache-2.0

package azureclients

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/go-jose/go-jose/v4"

	"cofferdam.dev/internal/vault/wrap"
)

// TestRelease releases a key as a program with Azure's client does, and opens it as the original sidecar does.
func TestRelease(t *testing.T) {
	t.Parallel()
	guest, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, managed := range []bool{false, true} {
		t.Run(fmt.Sprintf("managed %v", managed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, managed)
			c := w.keys(t, "app", secret)
			policy := []byte(`{"version":"1.0.0","anyOf":[{"authority":"` + attestURL + `","allOf":[{"claim":"host","equals":"abc"}]}]}`)
			created, err := c.CreateKey(t.Context(), "k", azkeys.CreateKeyParameters{
				Kty: ptr(azkeys.KeyTypeRSAHSM), KeyAttributes: &azkeys.KeyAttributes{Exportable: ptr(true)},
				ReleasePolicy: &azkeys.KeyReleasePolicy{EncodedPolicy: policy, Immutable: ptr(true)},
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for version, enc := range map[string]azkeys.KeyEncryptionAlgorithm{
				"": azkeys.KeyEncryptionAlgorithmCKMRSAAESKEYWRAP, created.Key.KID.Version(): azkeys.KeyEncryptionAlgorithmRSAAESKEYWRAP256,
			} {
				released, err := c.Release(t.Context(), "k", version, azkeys.ReleaseParameters{
					TargetAttestationToken: ptr(w.target(t, guest, "abc")), Algorithm: &enc, Nonce: ptr("once"),
				}, nil)
				if err != nil {
					t.Fatal(err)
				}
				key := w.open(t, *released.Value, guest, string(enc))
				if !key.PublicKey.Equal(&rsa.PublicKey{N: new(big.Int).SetBytes(created.Key.N), E: 65537}) {
					t.Error("another key was released")
				}
			}
			_, err = c.Release(t.Context(), "k", "", azkeys.ReleaseParameters{TargetAttestationToken: ptr(w.target(t, guest, "other"))}, nil)
			isRefused(t, err, 403, "Forbidden")
			_, err = c.UpdateKey(t.Context(), "k", "", azkeys.UpdateKeyParameters{ReleasePolicy: &azkeys.KeyReleasePolicy{EncodedPolicy: policy}}, nil)
			isRefused(t, err, 400, "BadParameter")
		})
	}
}

func (w *world) target(t *testing.T, guest *rsa.PrivateKey, host string) string {
	t.Helper()
	enc := base64.RawURLEncoding.EncodeToString
	signed, err := w.issuer.Sign(map[string]any{
		"iss": attestURL, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(), "host": host,
		"x-ms-runtime": map[string]any{"keys": []any{map[string]any{
			"kty": "RSA", "kid": "guest", "key_ops": []string{"encrypt"}, "n": enc(guest.N.Bytes()), "e": enc(big.NewInt(int64(guest.E)).Bytes()),
		}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// open verifies an answer by its certificates, and opens the key in it.
func (w *world) open(t *testing.T, value string, guest *rsa.PrivateKey, enc string) *rsa.PrivateKey {
	t.Helper()
	jws, err := jose.ParseSignedCompact(value, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	chains, err := jws.Signatures[0].Protected.Certificates(x509.VerifyOptions{DNSName: "contoso.vault.example", Roots: w.root})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := jws.Verify(chains[0][0].PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	var p struct {
		Request struct {
			Nonce string `json:"nonce"`
			Enc   string `json:"enc"`
		} `json:"request"`
		Response struct {
			Key struct {
				Key struct {
					Wrapped string `json:"key_hsm"`
				} `json:"key"`
			} `json:"key"`
		} `json:"response"`
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		t.Fatal(err)
	}
	if p.Request.Nonce != "once" || p.Request.Enc != enc {
		t.Errorf("the answer is to %+v", p.Request)
	}
	inner, err := base64.RawURLEncoding.DecodeString(p.Response.Key.Key.Wrapped)
	if err != nil {
		t.Fatal(err)
	}
	var sealed struct {
		Ciphertext string `json:"ciphertext"`
	}
	if err := json.Unmarshal(inner, &sealed); err != nil {
		t.Fatal(err)
	}
	b, err := base64.RawURLEncoding.DecodeString(sealed.Ciphertext)
	if err != nil {
		t.Fatal(err)
	}
	der, err := wrap.OpenRSA(wrap.Enc(enc), guest, b)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		t.Fatal(err)
	}
	private, ok := key.(*rsa.PrivateKey)
	if !ok {
		t.Fatalf("a %T was released", key)
	}
	return private
}

func TestOperations(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	c, ctx := w.keys(t, "app", secret), t.Context()
	created, err := c.CreateKey(ctx, "rsa", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeRSA)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	version := created.Key.KID.Version()
	oaep := azkeys.KeyOperationParameters{Algorithm: ptr(azkeys.EncryptionAlgorithmRSAOAEP256), Value: []byte("text")}
	sealed, err := c.Encrypt(ctx, "rsa", version, oaep, nil)
	if err != nil {
		t.Fatal(err)
	}
	oaep.Value = sealed.Result
	if got, err := c.Decrypt(ctx, "rsa", "", oaep, nil); err != nil || string(got.Result) != "text" {
		t.Errorf("%q, %v", got.Result, err)
	}
	oaep.Value = []byte("a key")
	wrapped, err := c.WrapKey(ctx, "rsa", "", oaep, nil)
	if err != nil {
		t.Fatal(err)
	}
	oaep.Value = wrapped.Result
	if got, err := c.UnwrapKey(ctx, "rsa", version, oaep, nil); err != nil || string(got.Result) != "a key" {
		t.Errorf("%q, %v", got.Result, err)
	}
	h := crypto.SHA256.New()
	h.Write([]byte("text"))
	digest := h.Sum(nil)
	signed, err := c.Sign(ctx, "rsa", "", azkeys.SignParameters{Algorithm: ptr(azkeys.SignatureAlgorithmPS256), Value: digest}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ok, err := c.Verify(ctx, "rsa", version, azkeys.VerifyParameters{Algorithm: ptr(azkeys.SignatureAlgorithmPS256), Digest: digest, Signature: signed.Result}, nil)
	if err != nil || !*ok.Value {
		t.Errorf("%v, %v", ok, err)
	}
}
