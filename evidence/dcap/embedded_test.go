// SPDX-License-Identifier: Apache-2.0

package dcap

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"cofferdam.dev/internal/testcap"
)

// embedded reads a quote that a JSON document holds in base64url, behind a path of keys.
func embedded(t *testing.T, name string, path ...string) []byte {
	t.Helper()
	text, err := os.ReadFile(testcap.Vectors(t, name))
	if err != nil {
		t.Fatal(err)
	}
	var doc any
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	for _, key := range path {
		doc = doc.(map[string]any)[key]
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(doc.(string), "="))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestEmbeddedQuotes parses the quotes inside the evidence of Azure's machines and of an attestation service's published
// samples. The signature of one sample is known to be wrong, which is nothing that a parser can see.
func TestEmbeddedQuotes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		b      []byte
		body   BodyType
		fmspc  string
		signed bool
	}{
		"Azure TDX": {
			embedded(t, "azure-vtpm/tdx/a6/evidence-v1.json", "td_quote"), BodyTDX10, "00806f050000", true,
		},
		"service's SGX sample": {
			embedded(t, "maa/rest-2022-08-01/AttestSgxEnclave.json", "parameters", "request", "quote"), BodySGX, "00906ea10000", true,
		},
		"service's Open Enclave sample": { // behind a header of 16 bytes
			embedded(t, "maa/rest-2022-08-01/AttestOpenEnclave.json", "parameters", "request", "report")[16:], BodySGX, "00906ea10000", false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q, err := ParseQuote(c.b)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := q.Marshal(); err != nil || !bytes.Equal(again, c.b) {
				t.Errorf("encoding gives other bytes: %v", err)
			}
			pck, err := ParsePCK(parseChain(t, q)[0])
			if err != nil {
				t.Fatal(err)
			}
			if q.BodyType() != c.body || hex.EncodeToString(pck.FMSPC[:]) != c.fmspc {
				t.Errorf("body %d, FMSPC %x", q.BodyType(), pck.FMSPC)
			}
			if c.signed {
				verifyInside(t, q)
			}
		})
	}
}
