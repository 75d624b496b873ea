// SPDX-License-Identifier: Apache-2.0

package kbs

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/token"
	"cofferdam.dev/internal/vault"
)

// TestGuest has guests with each kind of key get a secret, in their session and with their token alone.
func TestGuest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.allow("default/key/*")
	w.put("default/key/1", "the secret")
	for _, kind := range []string{"RSA", "P-256", "P-521"} {
		g := w.newGuest(kind)
		challenge := g.request()
		if len(challenge.cookies) != 1 {
			t.Fatalf("the challenge has %d cookies", len(challenge.cookies))
		}
		c := challenge.cookies[0]
		if c.Name != "kbs-session-id" || !c.HttpOnly || c.Path != "/kbs/v0" || time.Until(c.Expires) > 6*time.Minute || time.Until(c.Expires) < 4*time.Minute {
			t.Errorf("the cookie is %v", c)
		}
		if a := g.get("default/key/1", ""); a.status != http.StatusUnauthorized || a.failure(t) != "TokenNotFound" {
			t.Errorf("before attestation: %d %s", a.status, a.body)
		}
		a := g.attest(g.attestation(theMachine(t)))
		if a.status != http.StatusOK || len(a.cookies) != 1 || a.cookies[0].Value != c.Value {
			t.Fatalf("%d %s %v", a.status, a.body, a.cookies)
		}
		for _, bearer := range []string{"", g.token} {
			if got := g.mustGet("default/key/1", bearer); got != "the secret" {
				t.Errorf("%s: %q", kind, got)
			}
		}
		claims := payloadOf(t, g.token)
		if claims["iss"] != simulated || claims["x-cofferdam-simulated"] != true || claims["nonce"] != g.nonce || claims["exp"].(float64)-claims["iat"].(float64) != 300 {
			t.Errorf("the token says %v", claims)
		}
		if key, ok := claims["tee-pubkey"].(map[string]any); !ok || key["kty"] != g.Public["kty"] || key["x"] != nil && key["x"] != g.Public["x"] {
			t.Errorf("the token's key is %v", claims["tee-pubkey"])
		}
	}
	w.put("default/key/1", "the next")
	g := w.newGuest("P-256")
	g.handshake()
	if got := g.mustGet("default/key/1", ""); got != "the next" {
		t.Errorf("%q", got)
	}
}

func payloadOf(t testing.TB, compact string) map[string]any {
	t.Helper()
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		t.Fatalf("no token: %q", compact)
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestWithoutInitData has a guest that does not say what it was launched with.
func TestWithoutInitData(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	g := w.newGuest("P-256")
	g.request()
	body := g.attestation(theMachine(t))
	body["init-data"] = nil
	if a := g.attest(body); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestOwnPolicy has a secret with a release policy of its own, which decides whatever the rules say.
func TestOwnPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	set := func(authority string) {
		yes := true
		_, err := w.vault.SetSecret(t.Context(), "default--key--own", vault.SecretRequest{
			Value: seal.NewSecret([]byte("own")), Attributes: vault.AttributeChange{Exportable: &yes},
			Policy: &vault.ReleasePolicy{Data: []byte(`{"version":"1.0.0","anyOf":[{"authority":"` + authority + `","allOf":[{"claim":"x-ms-sevsnpvm-vmpl","equals":0}]}]}`)},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	set(simulated)
	g := w.newGuest("P-256")
	g.handshake()
	if got := g.mustGet("default/key/own", ""); got != "own" {
		t.Errorf("%q", got)
	}
	w.put("default/key/own", "newer") // keeps the policy
	if got := g.mustGet("default/key/own", g.token); got != "newer" {
		t.Errorf("%q", got)
	}
	w.allow("*/*/*")
	set(brokerURL)
	a := g.get("default/key/own", "")
	if a.status != http.StatusForbidden || a.failure(t) != "PolicyDeny" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	_, id, _ := strings.Cut(string(a.body), "(release ")
	id, _, _ = strings.Cut(id, ")")
	d, err := w.vault.Explain(t.Context(), id)
	if err != nil || d.Allowed || d.Reason != vault.ReasonPolicy || !strings.Contains(d.Detail, simulated) {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestAudit has what the operator finds: each release and denial with its reasons, and no secret.
func TestAudit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.put("default/key/1", "SECRET-VALUE")
	g := w.newGuest("P-256")
	g.handshake()
	if a := g.get("default/key/1", ""); a.status != http.StatusForbidden || strings.Contains(string(a.body), "rule") {
		t.Errorf("without rules: %d %s", a.status, a.body)
	}
	if a := w.setRules(rulesFor(brokerURL, theMachine(t).hostData, "default/key/1")); a.status != http.StatusOK {
		t.Fatalf("%s", a.body)
	}
	g.get("default/key/1", "")
	if a := w.setRules(rulesFor(simulated, [32]byte{1}, "default/key/1")); a.status != http.StatusOK {
		t.Fatalf("%s", a.body)
	}
	if a := g.get("default/key/1", ""); strings.Contains(string(a.body), "hostdata") {
		t.Errorf("the guest learns the reason: %s", a.body)
	}
	w.allow("default/key/*")
	g.mustGet("default/key/1", "")
	g.get("default/key/2", "")
	var reasons []string
	for _, e := range w.entries() {
		if strings.Contains(string(e.Event), "SECRET-VALUE") {
			t.Errorf("%s has the secret", e.Kind)
		}
		var d decision
		if e.Kind == "kbs.release" {
			if err := json.Unmarshal(e.Event, &d); err != nil {
				t.Fatal(err)
			}
			if d.Issuer != simulated || d.Token == "" || !d.Simulated || len(d.Key) != 64 {
				t.Errorf("%+v", d)
			}
			reason := d.Outcome + " " + d.Resource + ": " + d.Reason
			for _, f := range d.Failures {
				reason += ", " + f.Claim + " " + f.Operator + " " + f.Expected[:5]
			}
			reasons = append(reasons, reason)
		}
	}
	want := []string{
		"deny default/key/1: no rule is for this resource",
		"deny default/key/1: rules[0] has no authority " + simulated,
		`deny default/key/1: rules[0] is not satisfied, x-ms-sevsnpvm-hostdata equals "0100`,
		"allow default/key/1: rules[0] is satisfied",
		"deny default/key/2: there is no such resource",
	}
	if strings.Join(reasons, "\n") != strings.Join(want, "\n") {
		t.Errorf("the log says\n%s", strings.Join(reasons, "\n"))
	}
}

// entries closes the audit log, requires it to hold, and returns what is in it.
func (w *world) entries() []*audit.Entry {
	w.t.Helper()
	if err := w.log.Close(); err != nil {
		w.t.Fatal(err)
	}
	var list []*audit.Entry
	v, err := audit.NewVerifier([]*ecdsa.PublicKey{&w.auditKey.PublicKey}, func(e *audit.Entry) error {
		list = append(list, e)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	names, err := audit.Files(w.auditDir)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err == nil {
			err = v.File(n, bytes.NewReader(b))
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return list
}

// TestNothingWithoutAudit closes the log, and nothing is released any more.
func TestNothingWithoutAudit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.allow("*/*/*")
	w.put("a/b/c", "secret")
	g := w.newGuest("P-256")
	g.handshake()
	g.mustGet("a/b/c", "")
	if err := w.log.Close(); err != nil {
		t.Fatal(err)
	}
	if a := g.get("a/b/c", ""); a.status != http.StatusServiceUnavailable {
		t.Errorf("released without a record: %d %s", a.status, a.body)
	}
	g.request()
	if a := g.attest(g.attestation(theMachine(t))); a.status != http.StatusServiceUnavailable {
		t.Errorf("attested without a record: %d %s", a.status, a.body)
	}
	if a := w.administer("POST", "/kbs/v0/resource/a/b/d", adminToken, "x"); a.status != http.StatusServiceUnavailable {
		t.Errorf("set without a record: %d %s", a.status, a.body)
	}
}

// TestStoreIsSealed looks for what must not be in the clear in the store, and has somebody write to it who lacks the root.
func TestStoreIsSealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.allow("default/key/1")
	w.put("default/key/1", "SECRET-VALUE")
	g := w.newGuest("P-256")
	g.handshake()
	var all []store.Entry
	if err := w.store.View(t.Context(), func(r store.Reader) error {
		var err error
		all, err = r.List("", "", store.MaxList)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	seen := map[string][]byte{}
	for _, e := range all {
		for _, s := range []string{"SECRET-VALUE", g.cookie(), g.token, string(w.sessionKey.Expose()), "hostdata"} {
			if strings.Contains(e.Key+string(e.Value), s) {
				t.Errorf("%s has %.20q", e.Key, s)
			}
		}
		seen[e.Key] = e.Value
	}
	mine, err := token.Generate(token.ES256, "mine", time.Now(), time.Now().Add(time.Hour), time.Now().Add(2*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	forged, err := mine.Sign(payloadOf(t, g.token), nil)
	if err != nil {
		t.Fatal(err)
	}
	rules := rulesFor(simulated, theMachine(t).hostData, "*/*/*")
	for name, c := range map[string]struct {
		key    string
		value  []byte
		bearer string
	}{
		"rules in the clear":  {"kbs/rules", []byte(rules), g.token},
		"rules of elsewhere":  {"kbs/rules", seen["kbs/session-key"], g.token},
		"a key to sign with":  {"kbs/keys/" + mine.Public().ID, asJSON(t, mine.Public()), forged},
		"a session of anyone": {"kbs/" + sessionPath(g.cookie()), []byte(`{"until":99999999999,"token":"x"}`), ""},
	} {
		if c.key == "kbs/rules" && seen[c.key] == nil {
			t.Fatal("the rules are not in the store")
		}
		set := func(value []byte) {
			if err := w.store.Update(t.Context(), func(tx store.Tx) error {
				if value == nil {
					return tx.Delete(c.key)
				}
				return tx.Put(c.key, value)
			}); err != nil {
				t.Fatal(err)
			}
		}
		set(c.value)
		if a := g.get("default/key/1", c.bearer); a.status == http.StatusOK || strings.Contains(string(a.body), "kbs/rules") {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		set(seen[c.key])
	}
	if got := g.mustGet("default/key/1", ""); got != "SECRET-VALUE" {
		t.Errorf("afterwards: %q", got)
	}
}

// TestSweep removes sessions that are over, and no others.
func TestSweep(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	count := func() int {
		var list []store.Entry
		if err := w.store.View(t.Context(), func(r store.Reader) error {
			var err error
			list, err = r.List(storePrefix+sessionPrefix, "", store.MaxList)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	for range 3 {
		w.newGuest("P-256").request() // leaves nothing in the store
	}
	w.newGuest("P-256").handshake()
	w.Advance(4 * time.Minute)
	w.newGuest("P-256").handshake()
	for _, want := range []int{2, 1, 0} {
		if err := w.sweep(t.Context()); err != nil || count() != want {
			t.Errorf("%d sessions, want %d (%v)", count(), want, err)
		}
		w.Advance(2 * time.Minute)
		if want == 1 {
			w.Advance(4 * time.Minute)
		}
	}
}
