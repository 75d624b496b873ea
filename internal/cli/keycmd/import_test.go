// SPDX-License-Identifier: Apache-2.0

package keycmd

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/internal/vault/releasepolicy"
)

// readConfigOfImport reads a configuration as `key import -c` does.
func readConfigOfImport(t *testing.T, name string) (*importOptions, error) {
	t.Helper()
	o := &importOptions{config: name}
	return o, o.readImportConfig(New(&console.Console{}).keyImportCommand())
}

// The published samples parse, and what they leave to fill in is asked for by name. Filled in, their claims are the policy.
func TestImportConfigSamples(t *testing.T) {
	t.Parallel()
	for _, sample := range []string{"encfs", "skr"} {
		t.Run(sample, func(t *testing.T) {
			t.Parallel()
			file := testcap.Vectors(t, "sidecar/"+sample+"/importkeyconfig.json")
			_, err := readConfigOfImport(t, file)
			if err == nil || !strings.Contains(err.Error(), "key.akv.endpoint is still <") {
				t.Errorf("error %v, want one about the endpoint that is not filled in", err)
			}
			o, err := readConfigOfImport(t, fillIn(t, file))
			if err != nil {
				t.Fatal(err)
			}
			if o.name != "sample-key" || o.Vault != "https://keys.vault.test" || o.version != "7.4" || o.kind != "RSA-HSM" || o.token != "t0ken" || o.salt != "9b53" || !o.exportable {
				t.Errorf("name %q, vault %q, version %q, type %q, salt %q, exportable %v", o.name, o.Vault, o.version, o.kind, o.salt, o.exportable)
			}
			got, err := o.policy.Marshal(releasepolicy.VaultForm)
			const want = `{"version":"1.0.0","anyOf":[{"authority":"https://attest.test","allOf":[{"claim":"x-ms-sevsnpvm-hostdata","equals":"abc"},` +
				`{"claim":"x-ms-compliance-status","equals":"azure-compliant-uvm"},{"claim":"x-ms-sevsnpvm-is-debuggable","equals":"false"},{"claim":"x-ms-sevsnpvm-vmpl","equals":"0"}]}]}`
			if err != nil || string(got) != want {
				t.Errorf("policy %s, %v; want %s", got, err, want)
			}
		})
	}
}

// fillIn puts values in the place of a sample's.
func fillIn(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(b, &tree); err != nil {
		t.Fatal(err)
	}
	key, _ := tree["key"].(map[string]any)
	key["kid"], key["kty"], key["authority"] = "sample-key", "RSA-HSM", map[string]any{"endpoint": "attest.test"}
	key["akv"] = map[string]any{"endpoint": "keys.vault.test", "api_version": "api-version=7.4", "bearer_token": "t0ken"}
	tree["key_derivation"] = map[string]any{"salt": "9b53", "label": "l"}
	b, err = json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "importkeyconfig.json")
	if err := os.WriteFile(name, bytes.ReplaceAll(b, []byte(`\u003chash-digest-of-the-security-policy\u003e`), []byte("abc")), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// Values are written as strings, alternatives are authorities, and what can not be compared is refused.
func TestImportConfigClaims(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, claims, want, problem string }{
		{"a number and a boolean", `[[{"claim":"vmpl","equals":0},{"claim":"debug","equals":false}]]`, `"allOf":[{"claim":"vmpl","equals":"0"},{"claim":"debug","equals":"false"}]`, ""},
		{"alternatives", `[[{"claim":"a","equals":"1"}],[{"claim":"b","equals":"2"}]]`, `"allOf":[{"claim":"b","equals":"2"}]`, ""},
		{"an object", `[[{"claim":"a","equals":{}}]]`, "", "claims[0][0]"},
		{"null", `[[{"claim":"a","equals":null}]]`, "", "claims[0][0]"},
		{"nothing", `[[{"claim":"a"}]]`, "", "claims[0][0]"},
		{"a list that is empty", `[[]]`, "", "no release policy"},
		{"no name", `[[{"claim":"","equals":"1"}]]`, "", "no release policy"},
		{"not filled in", `[[{"claim":"a","equals":"<hash>"}]]`, "", "is still <hash>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			name := filepath.Join(t.TempDir(), "c.json")
			text := `{"key":{"kid":"k","authority":{"endpoint":"https://attest.test"}},"claims":` + c.claims + `}`
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			o, err := readConfigOfImport(t, name)
			if c.problem != "" {
				if err == nil || !strings.Contains(err.Error(), c.problem) {
					t.Errorf("error %v, want one with %q", err, c.problem)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := o.policy.Marshal(releasepolicy.VaultForm)
			if err != nil || !strings.Contains(string(got), c.want) {
				t.Errorf("policy %s, %v; want one with %s", got, err, c.want)
			}
		})
	}
}

// Whatever is read as a key is one or an error, and one that is written as a JWK is the same when it is read again.
func FuzzReadKeyMaterial(f *testing.F) {
	f.Add([]byte(`{"kty":"oct","k":"MTIzNDU2Nzg5MGFiY2RlZg"}`), 0)
	f.Add([]byte(`{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}`), 0)
	f.Add([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"), 0)
	f.Add([]byte("31323334353637383930"), 4)
	f.Add([]byte("\x00raw"), 3)
	f.Fuzz(func(t *testing.T, b []byte, format int) {
		m, err := readKeyMaterial(b, keyFormats[uint(format)%uint(len(keyFormats))])
		if err != nil {
			return
		}
		jwk, err := materialJWK(m, true, nil)
		if err != nil {
			t.Fatal(err)
		}
		again, err := readKeyMaterial(jwk, "jwk")
		if err != nil || again.Type() != m.Type() || !bytes.Equal(again.Expose(), m.Expose()) {
			t.Errorf("the key reads as another after it was written: %v, %v", again, err)
		}
	})
}
