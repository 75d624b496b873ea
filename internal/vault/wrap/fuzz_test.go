// SPDX-License-Identifier: Apache-2.0

package wrap

import (
	"encoding/json"
	"testing"
)

// FuzzSelect feeds anything to the choice of a guest's key: what is chosen can be sealed to.
func FuzzSelect(f *testing.F) {
	f.Add([]byte(`{"kty":"OKP","crv":"X25519","x":"3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08","use":"enc"}`)) // RFC 8037 appendix A.6
	f.Add([]byte(`{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","key_ops":["deriveKey"]}`))
	f.Add([]byte(`{"kty":"RSA","n":"AQAB","e":"AQAB","use":"enc"}`))
	f.Add([]byte(`{"kty":"AKP","alg":"X-Wing","pub":"AAAA","use":"enc"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, e := range Formats() {
			r, err := Select([]json.RawMessage{b}, e)
			if err != nil {
				continue
			}
			if _, err := Seal(e, r.Public, []byte("x")); err != nil && e != HPKEECDH { // points of low order are on the curve
				t.Errorf("%s: %v", e, err)
			}
		}
	})
}
