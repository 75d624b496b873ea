// SPDX-License-Identifier: Apache-2.0

package kbs

import (
	"crypto"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/seal"
	"cofferdam.dev/verify/amd"
)

// TestAttacks has each way in which a handshake must not succeed. Those with a good request are refused after it.
func TestAttacks(t *testing.T) {
	t.Parallel()
	m := theMachine(t)
	report := func(body map[string]any) map[string]any {
		return body["tee-evidence"].(map[string]any)["primary_evidence"].(map[string]any)["attestation_report"].(map[string]any)
	}
	for name, attack := range map[string]func(w *world, g *guest) any{
		"evidence for another key": func(w *world, g *guest) any {
			body := g.attestation(m)
			body["runtime-data"].(map[string]any)["tee-pubkey"] = w.newGuest("P-256").Public
			return body
		},
		"evidence for another algorithm": func(_ *world, g *guest) any {
			body := g.attestation(m)
			body["runtime-data"].(map[string]any)["tee-pubkey"].(map[string]string)["alg"] = "ECDH-ES"
			return body
		},
		"nonce of another session": func(w *world, g *guest) any {
			other := w.newGuest("P-256")
			other.request()
			g.nonce = other.nonce
			return g.attestation(m)
		},
		"nonce of the guest's own": func(_ *world, g *guest) any { g.nonce = strings.Repeat("A", 54); return g.attestation(m) },
		"no nonce":                 func(_ *world, g *guest) any { g.nonce = ""; return g.attestation(m) },
		"evidence for another nonce": func(w *world, g *guest) any {
			mine := g.nonce
			other := w.newGuest("P-256")
			other.request()
			g.nonce = other.nonce
			body := g.attestation(m)
			body["runtime-data"].(map[string]any)["nonce"] = mine
			return body
		},
		"challenge that is over": func(w *world, g *guest) any { w.Advance(6 * time.Minute); return g.attestation(m) },
		"changed report": func(_ *world, g *guest) any {
			body := g.attestation(m)
			report(body)["measurement"].([]int)[0] ^= 1
			return body
		},
		"changed host data": func(_ *world, g *guest) any {
			body := g.attestation(m)
			report(body)["host_data"].([]int)[0] ^= 1
			return body
		},
		"changed report data": func(_ *world, g *guest) any {
			body := g.attestation(m)
			report(body)["report_data"].([]int)[63] = 1
			return body
		},
		"other init data": func(_ *world, g *guest) any {
			body := g.attestation(m)
			body["init-data"] = map[string]string{"format": "toml", "body": initData + "#"}
			return body
		},
		"other algorithm for init data": func(_ *world, g *guest) any {
			body := g.attestation(m)
			body["init-data"] = map[string]string{"format": "toml", "body": strings.Replace(initData, "sha256", "sha384", 1)}
			return body
		},
		"additional evidence": func(_ *world, g *guest) any {
			body := g.attestation(m)
			body["tee-evidence"].(map[string]any)["additional_evidence"] = `{"sampledevice":{}}`
			return body
		},
		"nothing": func(*world, *guest) any { return "" },
		"no JSON": func(*world, *guest) any { return "{" },
		"another cookie": func(_ *world, g *guest) any {
			body := g.attestation(m)
			g.setCookie("AAAA")
			return body
		},
		"session of another kind of evidence": func(_ *world, g *guest) any {
			body := g.attestation(m)
			g.changeCookie(sessionRandom, 1)
			return body
		},
		"session of an unknown kind": func(_ *world, g *guest) any {
			body := g.attestation(m)
			g.changeCookie(sessionRandom, 0x80)
			return body
		},
		"forged session": func(_ *world, g *guest) any {
			body := g.attestation(m)
			g.changeCookie(0, 1)
			return body
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.allow("*/*/*")
			w.put("default/key/1", "secret")
			g := w.newGuest("P-256")
			g.request()
			a := g.attest(attack(w, g))
			if a.status != http.StatusUnauthorized || a.failure(t) != "AttestationError" {
				t.Errorf("%d %s", a.status, a.body)
			}
			if strings.Contains(string(a.body), "MISMATCH") || strings.Contains(string(a.body), "INVALID") {
				t.Errorf("the guest learns the reason: %s", a.body)
			}
			if a := g.get("default/key/1", ""); a.status != http.StatusUnauthorized {
				t.Errorf("after it: %d %s", a.status, a.body)
			}
		})
	}
}

// setCookie replaces the guest's session.
func (g *guest) setCookie(value string) {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), "GET", g.url+"/kbs/v0/x", nil)
	if err != nil {
		g.t.Fatal(err)
	}
	g.http.Jar.SetCookies(req.URL, []*http.Cookie{{Name: "kbs-session-id", Value: value, Path: "/kbs/v0"}})
}

func (g *guest) cookie() string {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), "GET", g.url+"/kbs/v0/x", nil)
	if err != nil {
		g.t.Fatal(err)
	}
	list := g.http.Jar.Cookies(req.URL)
	if len(list) != 1 {
		g.t.Fatalf("there are %d cookies", len(list))
	}
	return list[0].Value
}

// move has the guest go on with another instance.
func (g *guest) move(to *world) {
	g.t.Helper()
	session := g.cookie()
	g.url = to.server.URL
	g.setCookie(session)
}

// changeCookie changes a byte of what the session is made of.
func (g *guest) changeCookie(at int, by byte) {
	g.t.Helper()
	raw, err := decode64(g.cookie())
	if err != nil {
		g.t.Fatal(err)
	}
	raw[at] ^= by
	g.setCookie(encode64(raw))
}

// TestReplays answers a challenge twice, in one session, in another, and after the first was used.
func TestReplays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	g := w.newGuest("P-256")
	g.request()
	body := g.attestation(theMachine(t))
	if a := g.attest(body); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := g.attest(body); a.status != http.StatusUnauthorized || !strings.Contains(string(a.body), "used before") {
		t.Errorf("again: %d %s", a.status, a.body)
	}
	thief := w.newGuest("P-256")
	if a := thief.attest(body); a.status != http.StatusUnauthorized {
		t.Errorf("without a session: %d %s", a.status, a.body)
	}
	thief.request()
	if a := thief.attest(body); a.status != http.StatusUnauthorized {
		t.Errorf("in another session: %d %s", a.status, a.body)
	}
}

// TestOnce has many requests answer one challenge at a time: one gets a token.
func TestOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	g := w.newGuest("P-256")
	g.request()
	b, err := json.Marshal(g.attestation(theMachine(t)))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[int]int{}
	for range 8 {
		wg.Go(func() {
			s, err := w.Attest(t.Context(), g.cookie(), b)
			mu.Lock()
			defer mu.Unlock()
			if err == nil && len(s.Body) > 0 {
				got[http.StatusOK]++
			} else {
				got[http.StatusUnauthorized]++
			}
		})
	}
	wg.Wait()
	if got[http.StatusOK] != 1 || got[http.StatusUnauthorized] != 7 {
		t.Errorf("%v", got)
	}
}

// TestTheft has somebody with another guest's session or token: what is answered is for that guest's key.
func TestTheft(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.allow("*/*/*")
	w.put("default/key/1", "secret")
	g, thief := w.newGuest("P-256"), w.newGuest("P-256")
	g.handshake()
	for _, bearer := range []string{"", g.token} {
		thief.setCookie(g.cookie())
		a := thief.get("default/key/1", bearer)
		if plain, err := thief.decrypt(a); err == nil {
			t.Errorf("the thief has %q", plain)
		}
		if plain, err := g.decrypt(a); err != nil || plain != "secret" {
			t.Errorf("%q, %v", plain, err)
		}
	}
}

// TestTokens has tokens that are not taken.
func TestTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.allow("*/*/*")
	w.put("default/key/1", "secret")
	g := w.newGuest("P-256")
	g.handshake()
	other := newWorld(t, nil)
	foreign := other.newGuest("P-256")
	foreign.handshake()
	parts := strings.Split(g.token, ".")
	stale := func(form attestsvc.Form) string {
		// Bound to a key, as the protocol has it, but to no challenge of the service.
		g.nonce = "my own"
		runtime := fmt.Sprintf(`{"additional-evidence":"","nonce":"my own","tee-pubkey":%s}`, asJSON(t, g.Public))
		r := &attestsvc.Request{Kind: attestsvc.SevSnpVM, Nonce: "my own", Form: form, Runtime: &attestsvc.Data{Bytes: []byte(runtime), JSON: true, Hash: crypto.SHA384}}
		res := g.report(theMachine(t))
		r.Report = res.Report
		r.Certificates = certificates(t, res.Certificates)
		a, err := w.attestsvc.Attest(t.Context(), attestsvc.DefaultTenant, r)
		if err != nil {
			t.Fatal(err)
		}
		return a.Token
	}
	for name, token := range map[string]string{
		"of another broker":    foreign.token,
		"unsigned":             parts[0] + "." + parts[1] + ".",
		"no algorithm":         encode64([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
		"changed":              parts[0] + "." + encode64([]byte(`{"iss":"https://broker.example/simulated","exp":99999999999,"x-cofferdam-fresh":true}`)) + "." + parts[2],
		"no token":             "token",
		"of no challenge":      stale(attestsvc.FormKBS),
		"of no challenge, EAR": stale(attestsvc.FormEAR),
		"of no challenge, MAA": stale(attestsvc.FormMAA),
	} {
		if a := g.get("default/key/1", token); a.status != http.StatusUnauthorized || a.failure(t) != "TokenVerifierError" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := g.get("default/key/1", g.token); a.status != http.StatusOK {
		t.Errorf("the good one: %d %s", a.status, a.body)
	}
	w.Advance(7 * time.Minute)
	if a := g.get("default/key/1", g.token); a.status != http.StatusUnauthorized || a.failure(t) != "TokenVerifierError" {
		t.Errorf("a token that is over: %d %s", a.status, a.body)
	}
	if a := g.get("default/key/1", ""); a.status != http.StatusUnauthorized || a.failure(t) != "TokenNotFound" {
		t.Errorf("a session that is over: %d %s", a.status, a.body)
	}
}

func asJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestBaseline has baselines that a simulated guest does not meet.
func TestBaseline(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*attestsvc.Options){
		"simulated":   func(o *attestsvc.Options) { o.Baseline.AllowSimulated = false },
		"nothing":     func(o *attestsvc.Options) { o.Baseline = attestsvc.Baseline{} },
		"no firmware": func(o *attestsvc.Options) { o.Baseline.SNP = amd.Policy{} },
	} {
		w := newWorld(t, change)
		g := w.newGuest("P-256")
		g.request()
		if a := g.attest(g.attestation(theMachine(t))); a.status != http.StatusUnauthorized || a.failure(t) != "AttestationError" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		refused := 0
		for _, e := range w.entries() {
			if e.Kind == "attestation.refused" && strings.Contains(string(e.Event), "codes") {
				refused++
			}
		}
		if refused != 1 {
			t.Errorf("%s: the log has %d refusals with codes", name, refused)
		}
	}
}

// TestInstances has two brokers on one store: what one begins, the other goes on with, and no challenge is answered twice.
func TestInstances(t *testing.T) {
	t.Parallel()
	one := newWorld(t, nil)
	two := newWorldOn(t, one.store, one.root, nil)
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
	if got := g.mustGet("default/key/1", ""); got != "secret" {
		t.Errorf("%q", got)
	}
	if got := g.mustGet("default/key/1", g.token); got != "secret" {
		t.Errorf("%q", got)
	}
	if a := g.attest(body); a.status != http.StatusUnauthorized {
		t.Errorf("answered twice: %d %s", a.status, a.body)
	}
	two.setRules(rulesFor(simulated, [32]byte{9}, "*/*/*"))
	if a := g.get("default/key/1", ""); a.status != http.StatusForbidden {
		t.Errorf("with the other's rules: %d %s", a.status, a.body)
	}
}

// TestLoad has guests in parallel, while secrets and rules change.
func TestLoad(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes seconds")
	}
	w := newWorld(t, nil)
	w.allow("*/*/*")
	w.put("default/key/1", "secret")
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := w.PutResource(t.Context(), Path{"default", "key", "2"}, seal.NewSecret([]byte{1})); err != nil && i < 400 {
				t.Error(err)
			}
			if err := w.SetRules(t.Context(), []byte(rulesFor(simulated, theMachine(t).hostData, "*/*/*"))); err != nil {
				t.Error(err)
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	var guests sync.WaitGroup
	for range 16 {
		g := w.newGuest("P-256")
		guests.Go(func() {
			for range 3 {
				g.request()
				a := g.attest(g.attestation(theMachine(t)))
				plain, err := g.decrypt(g.get("default/key/1", ""))
				if a.status != http.StatusOK || err != nil || plain != "secret" {
					t.Errorf("%d, %q, %v", a.status, plain, err)
				}
			}
		})
	}
	guests.Wait()
	close(stop)
	wg.Wait()
}
