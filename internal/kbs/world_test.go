// SPDX-License-Identifier: Apache-2.0

package kbs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cofferdam.dev/attest"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/simsp"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/store/boltstore"
	"cofferdam.dev/internal/vault"
	"cofferdam.dev/internal/vault/authority"
	"cofferdam.dev/verify/anchor"
)

// machine is a simulated machine with one guest. Its keys take seconds, so that the tests share it.
type machine struct {
	root     anchor.Root
	guest    attest.Provider
	hostData [32]byte
}

var shared struct {
	once sync.Once
	dir  string
	m    *machine
	err  error
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "kbs")
	if err != nil {
		panic(err)
	}
	shared.dir = dir
	code := m.Run()
	_ = os.RemoveAll(dir) // of no use any more
	os.Exit(code)
}

// initData is what the guest was launched with.
const initData = "version = \"0.1.0\"\nalgorithm = \"sha256\"\n\n[data]\n\"aa.toml\" = ''\n"

func theMachine(t testing.TB) *machine {
	t.Helper()
	shared.once.Do(func() { shared.m, shared.err = newMachine(shared.dir) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.m
}

func newMachine(dir string) (*machine, error) {
	p, err := simsp.Open(filepath.Join(dir, "simsp"))
	if err != nil {
		return nil, err
	}
	kernel, initrd := filepath.Join(dir, "kernel"), filepath.Join(dir, "initrd")
	for _, f := range []string{kernel, initrd} {
		if err := os.WriteFile(f, []byte("\x7fELF"), 0o600); err != nil {
			return nil, err
		}
	}
	m := &machine{hostData: sha256.Sum256([]byte(initData))}
	g, err := p.Launch(simsp.Launch{
		KernelPath: kernel, InitrdPath: initrd, VCPUs: 1, HostData: m.hostData, Policy: snp.PolicyReservedOne | snp.PolicySMT,
	})
	if err != nil {
		return nil, err
	}
	ark, _ := p.Chain()
	if m.root, err = anchor.NewRoot(anchor.Simulated, "test", ark); err != nil {
		return nil, err
	}
	ours, theirs := net.Pipe()
	go func() { _ = g.Serve(context.Background(), theirs) }() // ends with the process
	m.guest = attest.OpenSimulated(ours)
	return m, nil
}

// clock is a clock that a test turns.
type clock struct {
	mu sync.Mutex
	by time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.by)
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by += d
}

// world is a broker with what it stands on.
type world struct {
	*Broker

	*clock

	t         testing.TB
	server    *httptest.Server
	store     store.Store
	root      seal.Root
	auditDir  string
	auditKey  *ecdsa.PrivateKey
	log       *audit.Log
	attestsvc *attestsvc.Service
	vault     *vault.Vault
}

const (
	brokerURL  = "https://broker.example"
	simulated  = brokerURL + "/simulated"
	adminToken = "admin-token-admin-token-admin-token"
	repoToken  = "repo-token-repo-token-repo-token-repo"
)

// who knows the callers of tests by their bearer tokens.
type who map[string]auth.Role

// Authenticate implements auth.Authenticator.
func (w who) Authenticate(r *http.Request) (*auth.Identity, error) {
	token, err := auth.Bearer(r)
	if err != nil {
		return nil, err
	}
	role, ok := w[token]
	if !ok {
		return nil, auth.ErrCredentials
	}
	return &auth.Identity{Method: "file", Issuer: "test", Subject: string(role), Roles: []auth.Role{role}}, nil
}

// newWorld starts a broker that takes simulated evidence. Change may alter what the attestation service is made of.
func newWorld(t testing.TB, change func(*attestsvc.Options)) *world {
	t.Helper()
	st, err := boltstore.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return newWorldOn(t, st, newRoot(t), change)
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

func newWorldOn(t testing.TB, st store.Store, root seal.Root, change func(*attestsvc.Options)) *world {
	t.Helper()
	w := &world{t: t, clock: &clock{}, store: st, root: root, auditDir: filepath.Join(t.TempDir(), "audit")}
	var err error
	if w.auditKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if w.log, err = audit.Open(w.auditDir, audit.Options{Instance: "test", Key: w.auditKey}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.log.Close() })
	sealed, err := OpenStore(t.Context(), st, root)
	if err != nil {
		t.Fatal(err)
	}
	opts := attestsvc.Options{Issuer: brokerURL, Baseline: attestsvc.DefaultBaseline(), Store: sealed, Audit: w.log, Now: w.Now}
	opts.Baseline.Roots = append(opts.Baseline.Roots, theMachine(t).root)
	opts.Baseline.AllowSimulated = true
	if change != nil {
		change(&opts)
	}
	if w.attestsvc, err = attestsvc.New(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	believed, err := authority.NewSet(
		authority.Authority{Issuer: brokerURL, Keys: authority.Func(w.attestsvc.Keys)},
		authority.Authority{Issuer: simulated, Keys: authority.Func(w.attestsvc.Keys), Simulated: true},
	)
	if err != nil {
		t.Fatal(err)
	}
	w.vault, err = vault.New(vault.Options{Name: "broker", Store: st, Root: root, Audit: w.log, Authorities: believed, Now: w.Now})
	if err != nil {
		t.Fatal(err)
	}
	w.Broker, err = New(t.Context(), Options{
		Service: w.attestsvc, Authorities: believed, Vault: w.vault, Store: sealed, Audit: w.log, Now: w.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.server = httptest.NewServer(NewHandler(w.Broker, who{adminToken: RoleAdmin, repoToken: RoleAdmin + "/mine"}))
	t.Cleanup(w.server.Close)
	return w
}

// administer sends a request with a bearer token.
func (w *world) administer(method, path, bearer, body string) answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.server.URL+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	return send(w.t, http.DefaultClient, req)
}

// put sets a resource.
func (w *world) put(path, value string) {
	w.t.Helper()
	if a := w.administer("POST", "/kbs/v0/resource/"+path, adminToken, value); a.status != http.StatusOK {
		w.t.Fatalf("setting %s: %d %s", path, a.status, a.body)
	}
}

// setRules sets the rules as clients of the protocol do.
func (w *world) setRules(rules string) answer {
	w.t.Helper()
	return w.administer("POST", "/kbs/v0/resource-policy", adminToken, `{"policy":"`+base64.RawURLEncoding.EncodeToString([]byte(rules))+`"}`)
}

// allow lets guests with the machine's host data have resources.
func (w *world) allow(patterns ...string) {
	w.t.Helper()
	if a := w.setRules(rulesFor(simulated, theMachine(w.t).hostData, patterns...)); a.status != http.StatusOK {
		w.t.Fatalf("setting rules: %d %s", a.status, a.body)
	}
}
