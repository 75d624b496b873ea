// SPDX-License-Identifier: Apache-2.0

package rcar

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/testcap"
)

func TestRequests(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]TEE{
		`{"version":"0.4.0","tee":"snp","extra-params":""}`:                                                         SNP,
		`{"version":"0.4.0","tee":"tdx","extra-params":{"supported-hash-algorithms":["sha256","sha384","sha512"]}}`: TDX,
		`{"version":"0.4.0","tee":"sgx","extra-params":null}`:                                                       SGX,
		`{"version":"0.4.0","tee":"az-snp-vtpm"}`:                                                                   AzureSNP,
		`{"extra-params":{},"tee":"aztdxvtpm","version":"0.4.0"}`:                                                   AzureTDX,
		`{"version":"0.4.0","tee":"azsnpvtpm"}`:                                                                     AzureSNP,
	} {
		if got, err := ParseRequest([]byte(name)); got != want || err != nil {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	for body, want := range map[string]error{
		``: nil, `[]`: nil, `{}`: nil, `{"version":"0.4.0"}`: nil, `{"tee":"snp"}`: nil, `{"version":4,"tee":"snp"}`: nil,
		`{"version":"0.4.0","tee":"snp","more":1}`: nil, `{"version":"0.4.0","version":"0.4.0","tee":"snp"}`: nil,
		`{"version":"0.4.0","tee":"snp"} x`: nil, `{"version":"0.4.0","Tee":"snp"}`: nil,
		`{"version":"0.4.0","tee":"snp","extra-params":"` + strings.Repeat("x", MaxRequest) + `"}`: nil,
		`{"version":"0.1.1","tee":"snp"}`: ErrVersion, `{"version":"0.4.1","tee":"snp"}`: ErrVersion, `{"version":"0.4","tee":"snp"}`: ErrVersion,
		`{"version":"1.0.0","tee":"snp"}`: ErrVersion, `{"version":"","tee":"snp"}`: ErrVersion,
		`{"version":"0.4.0","tee":"sample"}`: ErrTEE, `{"version":"0.4.0","tee":"SNP"}`: ErrTEE, `{"version":"0.4.0","tee":""}`: ErrTEE,
		`{"version":"0.4.0","tee":"nvidia"}`: ErrTEE, `{"version":"0.4.0","tee":"sev"}`: ErrTEE,
	} {
		if _, err := ParseRequest([]byte(body)); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%.100s: %v, want %v", body, err, want)
		}
	}
}

func TestChallenge(t *testing.T) {
	t.Parallel()
	if got := string(Challenge("n")); got != `{"extra-params":"","nonce":"n"}` {
		t.Error(got)
	}
}

// attestation is a good attestation of a TDX guest.
func attestation(t testing.TB) (body map[string]any, key map[string]string) {
	t.Helper()
	_, key = guestKey(t, "P-256")
	return map[string]any{
		"init-data":    nil,
		"runtime-data": map[string]any{"nonce": "n/+=", "tee-pubkey": key},
		"tee-evidence": map[string]any{
			"primary_evidence":    map[string]any{"quote": base64.StdEncoding.EncodeToString([]byte("quote")), "cc_eventlog": nil},
			"additional_evidence": "",
		},
	}, key
}

func TestAttestation(t *testing.T) {
	t.Parallel()
	body, key := attestation(t)
	a, err := ParseAttestation(TDX, asJSON(t, body))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"additional-evidence":"","nonce":"n/+=","tee-pubkey":{"alg":"ECDH-ES+A256KW","crv":"P-256","kty":"EC","x":"` + key["x"] + `","y":"` + key["y"] + `"}}`
	if string(a.RuntimeData) != want || a.Nonce != "n/+=" || string(a.Evidence.Report) != "quote" || a.InitData != nil {
		t.Errorf("%+v, %s", a, a.RuntimeData)
	}
	evidence := body["tee-evidence"].(map[string]any)
	evidence["additional_evidence"] = "{}"
	evidence["primary_evidence"].(map[string]any)["cc_eventlog"] = base64.StdEncoding.EncodeToString([]byte("log"))
	if a, err = ParseAttestation(TDX, asJSON(t, body)); err != nil || string(a.RuntimeData) != strings.Replace(want, `""`, `"{}"`, 1) ||
		string(a.Evidence.EventLog) != "log" {
		t.Errorf("%s, %v", a.RuntimeData, err)
	}
	_, rs := guestKey(t, "RSA")
	body["runtime-data"].(map[string]any)["tee-pubkey"] = rs
	if a, err = ParseAttestation(TDX, asJSON(t, body)); err != nil || !strings.Contains(string(a.RuntimeData), `{"alg":"RSA-OAEP-256","e":"AQAB","kty":"RSA","n":"`) {
		t.Errorf("%v", err)
	}
}

// TestAttestations has attestations that are refused before any evidence is judged.
func TestAttestations(t *testing.T) {
	t.Parallel()
	good, _ := attestation(t)
	runtime, evidence := good["runtime-data"].(map[string]any), good["tee-evidence"].(map[string]any)
	with := func(m map[string]any, name string, value any) map[string]any {
		m = maps.Clone(m)
		if m[name] = value; value == nil {
			delete(m, name)
		}
		return m
	}
	quote := func(v any) map[string]any { return with(good, "tee-evidence", with(evidence, "primary_evidence", v)) }
	for name, c := range map[string]struct {
		tee  TEE
		body any
		want string
	}{
		"no object":          {TDX, "x", "no object"},
		"unknown member":     {TDX, with(good, "x", 1), `"x" is unknown`},
		"no runtime data":    {TDX, with(good, "runtime-data", nil), "runtime-data"},
		"no nonce":           {TDX, with(good, "runtime-data", with(runtime, "nonce", nil)), "nonce"},
		"long nonce":         {TDX, with(good, "runtime-data", with(runtime, "nonce", strings.Repeat("n", maxText+1))), "nonce"},
		"no key":             {TDX, with(good, "runtime-data", with(runtime, "tee-pubkey", nil)), "tee-pubkey"},
		"more runtime data":  {TDX, with(good, "runtime-data", with(runtime, "additional-evidence", "")), "unknown"},
		"no evidence":        {TDX, with(good, "tee-evidence", nil), "tee-evidence"},
		"older evidence":     {TDX, with(good, "tee-evidence", `{"quote":"AAAA"}`), "tee-evidence"},
		"no primary":         {TDX, with(good, "tee-evidence", with(evidence, "primary_evidence", nil)), "primary_evidence"},
		"no additional":      {TDX, with(good, "tee-evidence", with(evidence, "additional_evidence", nil)), "additional_evidence"},
		"additional":         {TDX, with(good, "tee-evidence", with(evidence, "additional_evidence", `{"nvidia":{}}`)), "additional devices"},
		"additional spaces":  {TDX, with(good, "tee-evidence", with(evidence, "additional_evidence", ` `)), "additional devices"},
		"no quote":           {TDX, quote(map[string]any{}), "quote"},
		"empty quote":        {TDX, quote(map[string]any{"quote": ""}), "empty"},
		"quote in base64url": {TDX, quote(map[string]any{"quote": "_-__"}), "base64"},
		"more in the quote":  {TDX, quote(map[string]any{"quote": "AAAA", "x": 1}), "unknown"},
		"log with SGX":       {SGX, quote(map[string]any{"quote": "AAAA", "cc_eventlog": "AAAA"}), "unknown"},
		"log is no text":     {TDX, quote(map[string]any{"quote": "AAAA", "cc_eventlog": 1}), "cc_eventlog"},
		"quote for SNP":      {SNP, good, "unknown"},
		"quote for Azure":    {AzureSNP, good, "unknown"},
		"no such kind":       {"sample", good, "can not be verified"},
		"no kind":            {"", good, "can not be verified"},
		"init data no TOML":  {TDX, with(good, "init-data", map[string]string{"format": "json", "body": "{}"}), "toml"},
		"init data empty":    {TDX, with(good, "init-data", map[string]string{"format": "toml", "body": ""}), "bytes"},
		"init data a text":   {TDX, with(good, "init-data", "x"), "init-data"},
		"init data more":     {TDX, with(good, "init-data", map[string]string{"format": "toml", "body": "x", "y": ""}), "unknown"},
		"too large":          {TDX, with(good, "init-data", map[string]string{"format": "toml", "body": strings.Repeat("x", MaxAttestation)}), "more than"},
	} {
		if _, err := ParseAttestation(c.tee, asJSON(t, c.body)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestInitData(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]crypto.Hash{
		"version = \"0.1.0\"\nalgorithm = \"sha384\"\n[data]\n\"x\" = '''\nalgorithm = \"sha512\"\n'''\n": crypto.SHA384,
		"algorithm = 'sha-256' # for SNP\r\n":              crypto.SHA256,
		"  algorithm=\"sha512\"":                           crypto.SHA512,
		"algorithm = \"sha1\"\n":                           0,
		"algorithm = \"sha384\"\nalgorithm = \"sha512\"\n": 0,
		"[data]\nalgorithm = \"sha384\"\n":                 0,
		"version = \"0.1.0\"\n":                            0,
		"# algorithm = \"sha384\"\n":                       0,
	} {
		good, _ := attestation(t)
		good["init-data"] = map[string]string{"format": "toml", "body": body}
		a, err := ParseAttestation(TDX, asJSON(t, good))
		switch {
		case want == 0 && err == nil:
			t.Errorf("%q: %v", body, a.InitData.Hash)
		case want != 0 && (err != nil || a.InitData.Hash != want || string(a.InitData.Body) != body):
			t.Errorf("%q: %v", body, err)
		}
	}
}

// TestAzure has the evidence that real machines made, in each of its forms.
func TestAzure(t *testing.T) {
	t.Parallel()
	dir := testcap.Vectors(t, "azure-vtpm")
	for file, tee := range map[string]TEE{
		"snp/a1-3/evidence-v0.json": AzureSNP, "snp/a1-3/evidence-v1.json": AzureSNP, "snp/a1-3/evidence-v2.json": AzureSNP, "tdx/a6/evidence-v1.json": AzureTDX,
	} {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		good, _ := attestation(t)
		good["tee-evidence"].(map[string]any)["primary_evidence"] = json.RawMessage(b)
		a, err := ParseAttestation(tee, asJSON(t, good))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		var before, after any
		if json.Unmarshal(b, &before) != nil || json.Unmarshal(a.Evidence.Report, &after) != nil || cmp.Diff(before, after) != "" {
			t.Errorf("%s: it changed", file)
		}
		other := map[TEE]TEE{AzureSNP: AzureTDX, AzureTDX: AzureSNP}[tee]
		if _, err := ParseAttestation(other, asJSON(t, good)); err == nil {
			t.Errorf("%s is taken for %s", file, other)
		}
	}
}

func FuzzAttestation(f *testing.F) {
	good, _ := attestation(f)
	b := asJSON(f, good)
	for i := range len(tees) {
		f.Add(i, b)
	}
	f.Fuzz(func(t *testing.T, i int, b []byte) {
		a, err := ParseAttestation(tees[uint(i)%uint(len(tees))], b)
		if err != nil {
			return
		}
		if a.Key == nil || len(a.RuntimeData) == 0 || len(a.Evidence.Report) == 0 {
			t.Errorf("%+v", a)
		}
		if _, err := a.Key.Encrypt([]byte("x")); err != nil {
			t.Error(err)
		}
	})
}

var tees = []TEE{SNP, TDX, SGX, AzureSNP, AzureTDX}
