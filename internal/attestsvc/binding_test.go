// SPDX-License-Identifier: Apache-2.0

package attestsvc

import (
	"crypto"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/token"
	"cofferdam.dev/verify/check"
)

// TestHashes binds runtime data by each digest, asks for a short token, and reads the guest's key from it.
func TestHashes(t *testing.T) {
	t.Parallel()
	w, f := theWorld(t), newService(t, nil)
	const runtime = `{"nonce":"n","tee-pubkey":{"alg":"ECDH-ES+A256KW","crv":"P-256","kty":"EC","x":"AA","y":"AA"}}`
	sum384, sum512 := sha512.Sum384([]byte(runtime)), sha512.Sum512([]byte(runtime))
	for _, c := range []struct {
		hash crypto.Hash
		data []byte
	}{{crypto.SHA384, sum384[:]}, {crypto.SHA512, sum512[:]}} {
		r := w.evidence(t, runtime)
		var data [64]byte
		copy(data[:], c.data)
		res, err := w.guest.Report(t.Context(), data)
		if err != nil {
			t.Fatal(err)
		}
		r.Report, r.Runtime.Hash, r.Form, r.Life = res.Report, c.hash, FormKBS, time.Minute
		a, err := f.Attest(t.Context(), DefaultTenant, r)
		if err != nil {
			t.Fatalf("%v: %v", c.hash, err)
		}
		claims := f.claims(t, a.Token, f.Issuer(DefaultTenant, true), "", token.ES256)
		var want map[string]any
		if err := json.Unmarshal([]byte(runtime), &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[claimKey], claims[claimKey]); diff != "" {
			t.Error(diff)
		}
		if claims["eat_profile"] != earProfile || claims["x-ms-sevsnpvm-is-debuggable"] != false || claims[claimSimulated] != true {
			t.Errorf("%v", claims)
		}
		if life := claims["exp"].(float64) - claims["iat"].(float64); life != 60 {
			t.Errorf("it lives for %v s", life)
		}
		var refused *RefusedError
		for _, other := range []crypto.Hash{0, crypto.SHA256, crypto.SHA384 ^ crypto.SHA512 ^ c.hash} {
			r.Runtime.Hash = other
			if _, err := f.Attest(t.Context(), DefaultTenant, r); !errors.As(err, &refused) {
				t.Errorf("%v taken as %v: %v", c.hash, other, err)
			}
		}
		r.Runtime.Hash = crypto.MD5
		var bad *RequestError
		if _, err := f.Attest(t.Context(), DefaultTenant, r); !errors.As(err, &bad) {
			t.Errorf("MD5: %v", err)
		}
	}
}

// TestKeyIsReserved has a policy name a key that nothing binds to the evidence.
func TestKeyIsReserved(t *testing.T) {
	t.Parallel()
	w, f := theWorld(t), newService(t, nil)
	r := w.evidence(t, `{"a":1}`)
	r.Form = FormKBS
	r.Draft = []byte(`version=1.0; authorizationrules{ => permit(); }; issuancerules{ => issue(type="tee-pubkey", value="mine"); };`)
	var policy *PolicyError
	if _, err := f.Attest(t.Context(), DefaultTenant, r); !errors.As(err, &policy) {
		t.Errorf("%v", err)
	}
}

// TestBoundData has each kind's report data for a digest.
func TestBoundData(t *testing.T) {
	t.Parallel()
	sum := sha512.Sum384([]byte("x"))
	for _, k := range Kinds {
		want := append(append([]byte{}, sum[:]...), make([]byte, 16)...)
		if k == AzureGuest {
			want = sum[:]
		}
		if diff := cmp.Diff(want, boundData(k, &Data{Bytes: []byte("x"), Hash: crypto.SHA384})); diff != "" {
			t.Errorf("%s: %s", k, diff)
		}
	}
}

// TestBoundInitTime has digests that are shorter and longer than the field that holds them.
func TestBoundInitTime(t *testing.T) {
	t.Parallel()
	body := []byte("algorithm = \"sha384\"\n")
	sum := sha512.Sum384(body)
	wide := append(append([]byte{}, sum[:]...), make([]byte, 16)...)
	for name, c := range map[string]struct {
		hash  crypto.Hash
		field []byte
		want  bool
	}{
		"cut":                {crypto.SHA384, sum[:32], true},
		"whole":              {crypto.SHA384, sum[:], true},
		"filled up":          {crypto.SHA384, wide, true},
		"filled with others": {crypto.SHA384, append(append([]byte{}, sum[:]...), 1), false},
		"too short":          {crypto.SHA384, sum[:16], false},
		"none":               {crypto.SHA384, nil, false},
		"another":            {crypto.SHA512, sum[:], false},
	} {
		a := &appraisal{hostData: c.field}
		a.bind(&Request{InitTime: &Data{Bytes: body, Hash: c.hash}})
		if got := len(a.rec.Checks()) == 1 && a.rec.Checks()[0].Result == check.Pass; got != c.want {
			t.Errorf("%s: %v", name, a.rec.Checks())
		}
	}
}
