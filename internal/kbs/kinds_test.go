// SPDX-License-Identifier: Apache-2.0

package kbs

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/kbs/rcar"
	"cofferdam.dev/internal/store/open"
	"cofferdam.dev/internal/store/storetest"
	"cofferdam.dev/internal/testcap"
)

// TestKinds has evidence of each other kind, made by real machines for somebody else: it is judged as what it is, and what
// is wrong with it is what it is bound to.
func TestKinds(t *testing.T) {
	t.Parallel()
	read := func(dir, file string) []byte {
		b, err := os.ReadFile(filepath.Join(testcap.Vectors(t, dir), file))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	quote := func(dir, file string) any {
		return map[string]string{"quote": base64.StdEncoding.EncodeToString(read(dir, file))}
	}
	for name, c := range map[string]struct {
		evidence any
		kind     attestsvc.Kind
	}{
		"tdx":         {quote("tdx/t1-v4-b0c06f", "tdx_quote.bin"), attestsvc.TdxVM},
		"sgx":         {quote("sgx/g1-v3-00a067", "sgx_quote.bin"), attestsvc.SgxEnclave},
		"az-snp-vtpm": {json.RawMessage(read("azure-vtpm/snp/a1-3", "evidence-v2.json")), attestsvc.AzureGuest},
		"azsnpvtpm":   {json.RawMessage(read("azure-vtpm/snp/a1-3", "evidence-v0.json")), attestsvc.AzureGuest},
		"az-tdx-vtpm": {json.RawMessage(read("azure-vtpm/tdx/a6", "evidence-v1.json")), attestsvc.AzureGuest},
	} {
		w := newWorld(t, nil)
		g := w.newGuest("P-256")
		a := g.send("POST", "auth", map[string]string{"version": "0.4.0", "tee": name})
		if err := json.Unmarshal(a.body, &struct{ Nonce *string }{&g.nonce}); err != nil || a.status != http.StatusOK {
			t.Fatalf("%s: %d %s (%v)", name, a.status, a.body, err)
		}
		a = g.attest(map[string]any{
			"runtime-data": map[string]any{"nonce": g.nonce, "tee-pubkey": g.Public},
			"tee-evidence": map[string]any{"primary_evidence": c.evidence, "additional_evidence": ""},
		})
		if a.status != http.StatusUnauthorized || a.failure(t) != "AttestationError" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		found := false
		for _, e := range w.entries() {
			var event struct {
				Type    attestsvc.Kind
				Verdict struct{ Codes []string }
			}
			if e.Kind == "attestation.refused" && json.Unmarshal(e.Event, &event) == nil {
				found = event.Type == c.kind && slices.Contains(event.Verdict.Codes, "RUNTIME_DATA_MISMATCH")
				if !found {
					t.Errorf("%s: the log says %s", name, e.Event)
				}
			}
		}
		if !found {
			t.Errorf("%s: the log has no refusal", name)
		}
	}
	if kindOf("sample") != "" {
		t.Error("sample is a kind")
	}
	for _, tee := range tees {
		if kindOf(tee) == "" {
			t.Errorf("%s is no kind", tee)
		}
	}
	if tees[0] != rcar.SNP || len(tees) != 5 {
		t.Error("the numbers of kinds in sessions changed")
	}
}

// TestUndecided has a guest whose evidence lacks what nobody else has: nothing is wrong with it, and a later try may succeed.
func TestUndecided(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	g := w.newGuest("P-256")
	g.request()
	body := g.attestation(theMachine(t))
	primary := body["tee-evidence"].(map[string]any)["primary_evidence"].(map[string]any)
	chain := primary["cert_chain"]
	primary["cert_chain"] = nil
	a := g.attest(body)
	if a.status != http.StatusServiceUnavailable || a.failure(t) != "Undecided" || a.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", a.status, a.body)
	}
	primary["cert_chain"] = chain // the challenge was not used up
	if a := g.attest(body); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestCluster has two brokers that share a store in etcd, each with a connection of its own.
func TestCluster(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes seconds")
	}
	url := strings.Replace(storetest.StartEtcd(t).Endpoint, "http://", "etcd://", 1) + "/broker"
	root := newRoot(t)
	connect := func() *world {
		st, err := open.URL(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = st.Close() })
		return newWorldOn(t, st, root, nil)
	}
	one, two := connect(), connect()
	one.allow("*/*/*")
	two.put("default/key/1", "secret")
	g := one.newGuest("P-256")
	g.request()
	body := g.attestation(theMachine(t))
	g.move(two)
	if a := g.attest(body); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	g.move(one)
	if a := g.attest(body); a.status != http.StatusUnauthorized || !strings.Contains(string(a.body), "used before") {
		t.Errorf("answered twice: %d %s", a.status, a.body)
	}
	if got := g.mustGet("default/key/1", ""); got != "secret" {
		t.Errorf("%q", got)
	}
}

func FuzzRules(f *testing.F) {
	f.Add([]byte(rulesFor(simulated, [32]byte{}, "a/b/*")))
	f.Add([]byte(`{"schema":"cofferdam.dev/resource-policy/v1","rules":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRules(b)
		if err != nil {
			return
		}
		for _, one := range r.list {
			if one.policy == nil || len(one.patterns) == 0 {
				t.Errorf("%+v", one)
			}
		}
		r.find(Path{"a", "b", "c"})
	})
}
