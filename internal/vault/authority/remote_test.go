// SPDX-License-Identifier: Apache-2.0

package authority

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/internal/token"
)

// publisher is an issuer's key set on a server that counts who asks.
type publisher struct {
	mu     sync.Mutex
	body   string
	status int
	asked  atomic.Int64
	gate   chan struct{} // when not nil, answers wait for it
}

func (p *publisher) set(status int, body string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status, p.body = status, body
}

// ServeHTTP implements http.Handler.
func (p *publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.asked.Add(1)
	p.mu.Lock()
	status, body, gate := p.status, p.body, p.gate
	p.mu.Unlock()
	if gate != nil {
		<-gate
	}
	if status/100 == 3 {
		w.Header().Set("Location", "/elsewhere")
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
	_ = r
}

func jwks(t testing.TB, keys ...*token.Key) string {
	t.Helper()
	var list []token.PublicKey
	for _, k := range keys {
		list = append(list, k.Public())
	}
	b, err := token.JWKS(list, now)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRemote(t *testing.T) {
	t.Parallel()
	first, second := newKey(t, token.RS256), newKey(t, token.ES256)
	p := &publisher{status: 200, body: jwks(t, first)}
	server := httptest.NewTLSServer(p)
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	clock := now
	r, err := NewRemote(RemoteOptions{URL: server.URL + "/certs", CA: ca, Now: func() time.Time { return clock }})
	if err != nil {
		t.Fatal(err)
	}
	expect := func(what string, k *token.Key, keys, asked int) {
		t.Helper()
		got, err := r.Keys(t.Context(), k.Public().ID)
		if (keys == 0) != (err != nil) || len(got) != keys || p.asked.Load() != int64(asked) {
			t.Errorf("%s: %d keys (%v) after %d questions, want %d after %d", what, len(got), err, p.asked.Load(), keys, asked)
		}
	}
	expect("first", first, 1, 1)
	expect("from the copy", first, 1, 1)
	expect("an unknown key, at once", second, 1, 1)
	p.set(200, jwks(t, first, second))
	clock = clock.Add(askPause)
	expect("an unknown key, later", second, 2, 2)
	p.set(500, "")
	clock = clock.Add(freshFor)
	for range 50 { // the copy is asked to be renewed, and nobody waits for it
		expect0, err := r.Keys(t.Context(), first.Public().ID)
		if err != nil || len(expect0) != 2 {
			t.Fatalf("with the issuer down: %v, %v", expect0, err)
		}
	}
	clock = clock.Add(usableFor)
	if _, err := r.Keys(t.Context(), first.Public().ID); err == nil {
		t.Error("an old copy was used")
	}
	for name, c := range map[string]struct {
		status int
		body   string
	}{
		"redirect": {302, jwks(t, first)}, "no JSON": {200, "<html>"}, "no keys": {200, `{"keys":[]}`},
		"large": {200, `{"keys":[]` + strings.Repeat(" ", token.MaxSize) + "}"}, "nothing": {204, ""},
	} {
		p.set(c.status, c.body)
		clock = clock.Add(askPause)
		if keys, err := r.Keys(t.Context(), first.Public().ID); err == nil {
			t.Errorf("%s: %v", name, keys)
		}
	}
	p.set(200, jwks(t, second))
	clock = clock.Add(askPause)
	if keys, err := r.Keys(t.Context(), second.Public().ID); err != nil || len(keys) != 1 {
		t.Errorf("the issuer is back: %v, %v", keys, err)
	}
}

// TestRemoteFlood asks for unknown keys from many sides while the issuer is slow: those who look for a known key go on.
func TestRemoteFlood(t *testing.T) {
	t.Parallel()
	k := newKey(t, token.ES256)
	p := &publisher{status: 200, body: jwks(t, k)}
	server := httptest.NewServer(p)
	defer server.Close()
	var offset atomic.Int64
	r, err := NewRemote(RemoteOptions{URL: server.URL, Now: func() time.Time { return now.Add(time.Duration(offset.Load())) }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Keys(t.Context(), k.Public().ID); err != nil {
		t.Fatal(err)
	}
	gate := make(chan struct{})
	p.mu.Lock()
	p.gate = gate
	p.mu.Unlock()
	offset.Add(int64(askPause))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { _, _ = r.Keys(t.Context(), "unknown") })
	}
	for range 20 {
		if keys, err := r.Keys(t.Context(), k.Public().ID); err != nil || len(keys) != 1 {
			t.Errorf("%v, %v", keys, err)
		}
	}
	close(gate)
	wg.Wait()
	if n := p.asked.Load(); n != 2 {
		t.Errorf("the issuer was asked %d times", n)
	}
}

func TestNewRemoteRefuses(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "attest.example/certs", "http://attest.example/certs", "https://user:pw@attest.example", "file:///etc/keys", "http://localhost.evil.example"} {
		if _, err := NewRemote(RemoteOptions{URL: url}); err == nil {
			t.Errorf("%q was taken", url)
		}
	}
}

func TestReadFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, c := range map[string]struct {
		text string
		want int
	}{"good": {jwks(t, newKey(t, token.RS256), newKey(t, token.ES384)), 2}, "empty": {`{"keys":[]}`, 0}, "private": {`{"keys":[{"kty":"oct","kid":"a","k":"AAAA"}]}`, 0}, "text": {"x", 0}} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		keys, err := ReadFile(path)
		if len(keys) != c.want || (err == nil) != (c.want > 0) {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
	}
	if _, err := ReadFile(filepath.Join(dir, "gone")); err == nil {
		t.Error("a file that is not there was read")
	}
}

// TestMAAKeys reads the key set that Azure Attestation was recorded to publish.
func TestMAAKeys(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(testcap.Vectors(t, "maa"), "rest-2022-08-01", "Get_Certs.json"))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := token.ParseJWKS(recorded(t, b))
	if err != nil || len(keys) == 0 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	for _, k := range keys {
		if k.Algorithm != token.RS256 || k.ID == "" {
			t.Errorf("key %+v", k)
		}
	}
}

// recorded returns the body of a recorded answer.
func recorded(t testing.TB, b []byte) []byte {
	t.Helper()
	var r struct {
		Responses map[string]struct {
			Body json.RawMessage `json:"body"`
		} `json:"responses"`
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return r.Responses["200"].Body
}
