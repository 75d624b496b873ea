// SPDX-License-Identifier: Apache-2.0

package rest_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/store/boltstore"
	"cofferdam.dev/internal/token"
	"cofferdam.dev/internal/vault"
	"cofferdam.dev/internal/vault/authority"
	"cofferdam.dev/internal/vault/rest"
)

// vaultURL is the vault's URL in tests that do not listen.
const vaultURL = "https://test.vault.example"

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// tokens knows callers by words that stand for tokens.
type tokens map[string][]auth.Role

// Authenticate implements auth.Authenticator.
func (t tokens) Authenticate(r *http.Request) (*auth.Identity, error) {
	word, err := auth.Bearer(r)
	if err != nil {
		return nil, err
	}
	roles, ok := t[word]
	if !ok {
		return nil, auth.ErrCredentials
	}
	return &auth.Identity{Method: "oidc", Issuer: "test", Subject: word, Roles: roles}, nil
}

// world is a vault behind its handler.
type world struct {
	handler http.Handler
	vault   *vault.Vault
	auditIn string
	root    *x509.CertPool
	clock   *clock
	log     *bytes.Buffer
	tokens  tokens
	issuer  *token.Key // signs the tokens of the attestation service
}

// attestURL is the attestation service's.
const attestURL = "https://attest.example"

// sharedKeys are RSA keys that take their time, made once for all tests.
var sharedKeys = sync.OnceValues(func() (*testKeys, error) {
	k, now := &testKeys{}, time.Now()
	var err error
	if k.signer, k.ca, err = rest.DevelopmentSigner([]string{"test.vault.example"}, now); err != nil {
		return nil, err
	}
	if k.guest, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return nil, err
	}
	k.issuer, err = token.Generate(token.RS256, "attest", now, now.Add(24*time.Hour), now.Add(48*time.Hour))
	return k, err
})

type testKeys struct {
	signer *rest.Signer
	ca     []byte
	issuer *token.Key
	guest  *rsa.PrivateKey // was born in the guest
}

// setup says how a world differs from the usual one.
type setup struct {
	store   store.Store
	root    seal.Root
	managed bool
}

func newWorld(t testing.TB, s setup) *world {
	t.Helper()
	w := &world{
		auditIn: filepath.Join(t.TempDir(), "audit"), clock: &clock{now: time.Now().Truncate(time.Second)}, log: &bytes.Buffer{},
		tokens: tokens{"operator": rest.Operator(s.managed)},
	}
	if s.store == nil {
		st, err := boltstore.Open(filepath.Join(t.TempDir(), "vault.db"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = st.Close() })
		s.store = st
	}
	root := s.root
	if root == nil {
		root = newRoot(t)
	}
	keys, err := sharedKeys()
	if err != nil {
		t.Fatal(err)
	}
	w.issuer = keys.issuer
	set, err := authority.NewSet(authority.Authority{Issuer: attestURL, Keys: authority.Static{w.issuer.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	o := vault.Options{Name: "test", Authorities: set, Managed: s.managed, Store: s.store, Root: root, Audit: openAudit(t, w.auditIn), Now: w.clock.Now}
	if w.vault, err = vault.New(o); err != nil {
		t.Fatal(err)
	}
	w.root = x509.NewCertPool()
	w.root.AppendCertsFromPEM(keys.ca)
	opts := rest.Options{
		Vault: w.vault, Auth: w.tokens, Signer: keys.signer, URL: vaultURL, Authority: "https://login.example/tenant",
		Log: slog.New(slog.NewTextHandler(w.log, nil)),
	}
	h, err := rest.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	w.handler = h
	return w
}

func newRoot(t testing.TB) seal.Root {
	t.Helper()
	key := seal.NewRootKey()
	defer key.Destroy()
	root, err := seal.NewMemory(key, "memory")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func openAudit(t testing.TB, dir string) *audit.Log {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(dir, audit.Options{Instance: "test", Key: key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return log
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// code and inner are those of an error.
func (a answer) code() string  { return a.get("error.code") }
func (a answer) inner() string { return a.get("error.innererror.code") }

// get returns a member of the body as text, by its path.
func (a answer) get(path string) string {
	var v any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		return ""
	}
	for _, name := range strings.Split(path, ".") {
		o, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = o[name]
	}
	switch x := v.(type) {
	case nil:
		return ""
	case string:
		return x
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

// send sends a request with a word that stands for a token; "" sends none. A path without a query gets the newest version.
func (w *world) send(ctx context.Context, word, method, path string, body any) answer {
	if !strings.Contains(path, "?") {
		path += "?api-version=2025-07-01"
	}
	var in io.Reader = http.NoBody
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			panic(err) // a mistake of the test
		}
		in = bytes.NewReader(raw)
	}
	r := httptest.NewRequestWithContext(ctx, method, path, in)
	if word != "" {
		r.Header.Set("Authorization", "Bearer "+word)
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	return answer{rec.Code, rec.Header(), rec.Body.String()}
}

// must sends as the operator and requires 200.
func (w *world) must(t testing.TB, method, path string, body any) answer {
	t.Helper()
	a := w.send(t.Context(), "operator", method, path, body)
	if a.status != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
	}
	return a
}

type object = map[string]any

// b64 is base64url without padding.
func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// keyOrder returns the members of an object in the order in which they are written, those of inner objects after a dot.
func keyOrder(t testing.TB, text string) []string {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	var list []string
	var walk func(prefix string)
	walk = func(prefix string) {
		tok, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		switch tok {
		case json.Delim('{'):
			for dec.More() {
				name, err := dec.Token()
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, prefix+name.(string)) //nolint:forcetypeassert // names are strings
				walk(prefix + name.(string) + ".")
			}
		case json.Delim('['):
			for dec.More() {
				walk(prefix + "[].")
			}
		default:
			return
		}
		if _, err := dec.Token(); err != nil {
			t.Fatal(err)
		}
	}
	walk("")
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("more than one value: %v", err)
	}
	return list
}

// audited returns how often each kind of event with an outcome is in the audit log.
func (w *world) audited(t testing.TB) map[string]int {
	t.Helper()
	names, err := audit.Files(w.auditIn)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, line := range slices.Concat(readLines(t, names)...) {
		var e struct {
			Kind  string `json:"kind"`
			Event struct {
				Outcome string `json:"outcome"`
			} `json:"event"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if e.Event.Outcome != "" {
			count[e.Kind+" "+e.Event.Outcome]++
		}
	}
	return count
}

func readLines(t testing.TB, names []string) [][][]byte {
	t.Helper()
	var all [][][]byte
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		whole := b[:bytes.LastIndexByte(b, '\n')+1] // behind it a checkpoint may just be written
		all = append(all, bytes.Split(bytes.TrimSpace(whole), []byte("\n")))
	}
	return all
}

var _ serve.ErrorFunc = rest.Error
