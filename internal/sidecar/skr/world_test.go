// SPDX-License-Identifier: Apache-2.0

package skr

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"cofferdam.dev/attest"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/attestsvc"
	attestrest "cofferdam.dev/internal/attestsvc/rest"
	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/simsp"
	"cofferdam.dev/internal/store/boltstore"
	"cofferdam.dev/internal/vault"
	"cofferdam.dev/internal/vault/authority"
	vaultrest "cofferdam.dev/internal/vault/rest"
	"cofferdam.dev/release"
	"cofferdam.dev/verify/anchor"
)

// world is a simulated machine with one guest, an attestation service that knows its root, and a vault that believes the
// service: the real ones, over TLS. Keys take seconds, so that the tests share it.
type world struct {
	guest    attest.Provider
	hostData [32]byte
	measured [48]byte

	roots        *x509.CertPool
	attestation  *httptest.Server
	strict       *httptest.Server // the same service, which requires nonces
	vaultServer  *httptest.Server
	vault        *vault.Vault
	attested     atomic.Int32
	rsaKey       *rsa.PrivateKey
	oct          []byte
	releaseCA    []byte
	evidencePool *release.Pool
}

var shared struct {
	once sync.Once
	dir  string
	w    *world
	err  error
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(serversEnv); dir != "" {
		os.Exit(serveOthers(dir))
	}
	dir, err := os.MkdirTemp("", "skr")
	if err != nil {
		panic(err)
	}
	shared.dir = dir
	code := m.Run()
	_ = os.RemoveAll(dir) // of no use any more
	os.Exit(code)
}

func theWorld(t testing.TB) *world {
	t.Helper()
	shared.once.Do(func() { shared.w, shared.err = newWorld(shared.dir, shared.dir) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.w
}

// newWorld makes a world of the machine in one directory, with the state of the servers in another.
func newWorld(machine, dir string) (*world, error) {
	w, root, err := newMachine(machine)
	if err != nil {
		return nil, err
	}
	if err := w.startAttestation(dir, root); err != nil {
		return nil, err
	}
	if err := w.startVault(dir); err != nil {
		return nil, err
	}
	if w.evidencePool, err = release.NewPool(4, 0); err != nil {
		return nil, err
	}
	return w, w.fill(context.Background())
}

// newMachine makes a world without servers.
func newMachine(dir string) (*world, anchor.Root, error) {
	w := &world{roots: x509.NewCertPool(), hostData: sha256.Sum256([]byte("the policy of the group"))}
	root, err := w.launch(dir)
	return w, root, err
}

// launch starts the simulated guest.
func (w *world) launch(dir string) (anchor.Root, error) {
	p, err := simsp.Open(filepath.Join(dir, "simsp"))
	if err != nil {
		return anchor.Root{}, err
	}
	kernel, initrd := filepath.Join(dir, "kernel"), filepath.Join(dir, "initrd")
	for _, f := range []string{kernel, initrd} {
		if err := os.WriteFile(f, []byte("\x7fELF"), 0o600); err != nil {
			return anchor.Root{}, err
		}
	}
	g, err := p.Launch(simsp.Launch{
		KernelPath: kernel, InitrdPath: initrd, VCPUs: 1, HostData: w.hostData, Policy: snp.PolicyReservedOne | snp.PolicySMT,
	})
	if err != nil {
		return anchor.Root{}, err
	}
	w.measured = g.Measurement()
	ours, theirs := net.Pipe()
	go func() { _ = g.Serve(context.Background(), theirs) }() // ends with the process
	w.guest = attest.OpenSimulated(ours)
	ark, _ := p.Chain()
	return anchor.NewRoot(anchor.Simulated, "test", ark)
}

const attestIssuer = "https://attest.example"

func (w *world) startAttestation(dir string, root anchor.Root) error {
	st, err := boltstore.Open(filepath.Join(dir, "attest.db"))
	if err != nil {
		return err
	}
	log, err := openAudit(filepath.Join(dir, "attest-audit"))
	if err != nil {
		return err
	}
	o := attestsvc.Options{Issuer: attestIssuer, Baseline: attestsvc.DefaultBaseline(), Store: st, Audit: log}
	o.Baseline.Roots, o.Baseline.AllowSimulated = append(o.Baseline.Roots, root), true
	for _, to := range []**httptest.Server{&w.attestation, &w.strict} {
		o.RequireNonce = to == &w.strict
		svc, err := attestsvc.New(context.Background(), o)
		if err != nil {
			return err
		}
		h, err := attestrest.New(attestrest.Options{Service: svc})
		if err != nil {
			return err
		}
		*to = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/attest/") {
				w.attested.Add(1)
			}
			h.ServeHTTP(rw, r)
		}))
		w.roots.AddCert((*to).Certificate())
	}
	return nil
}

// callers are those of the vault, by the tokens that they show.
type callers map[string][]auth.Role

// Authenticate implements auth.Authenticator.
func (c callers) Authenticate(r *http.Request) (*auth.Identity, error) {
	word, err := auth.Bearer(r)
	if err != nil {
		return nil, err
	}
	roles, ok := c[word]
	if !ok {
		return nil, auth.ErrCredentials
	}
	return &auth.Identity{Method: "oidc", Issuer: "test", Subject: word, Roles: roles}, nil
}

func (w *world) startVault(dir string) error {
	st, err := boltstore.Open(filepath.Join(dir, "vault.db"))
	if err != nil {
		return err
	}
	log, err := openAudit(filepath.Join(dir, "vault-audit"))
	if err != nil {
		return err
	}
	root, err := seal.NewMemory(seal.NewRootKey(), "memory")
	if err != nil {
		return err
	}
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.attestation.Certificate().Raw}), 0o600); err != nil {
		return err
	}
	keys, err := authority.NewRemote(authority.RemoteOptions{URL: w.attestation.URL + "/certs", CA: ca})
	if err != nil {
		return err
	}
	set, err := authority.NewSet(authority.Authority{Issuer: attestIssuer + "/simulated", Keys: keys, Simulated: true})
	if err != nil {
		return err
	}
	if w.vault, err = vault.New(vault.Options{Name: "test", Store: st, Root: root, Audit: log, Authorities: set}); err != nil {
		return err
	}
	var handler http.Handler
	w.vaultServer = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { handler.ServeHTTP(rw, r) }))
	signer, caPEM, err := developmentSigner()
	if err != nil {
		return err
	}
	w.roots.AddCert(w.vaultServer.Certificate())
	w.roots.AppendCertsFromPEM(caPEM)
	w.releaseCA = caPEM
	handler, err = vaultrest.New(vaultrest.Options{
		Vault: w.vault, Signer: signer, URL: w.vaultServer.URL, Authority: "https://login.example/tenant",
		Auth: callers{
			"releaser": {"Key Vault Crypto Service Release User", "Key Vault Secrets User"}, "reader": {"Key Vault Reader"},
		},
	})
	return err
}

func openAudit(dir string) (*audit.Log, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return audit.Open(dir, audit.Options{Instance: "test", Key: key})
}

// policy releases to the guest of this host data.
func policy(hostData [32]byte) *vault.ReleasePolicy {
	return &vault.ReleasePolicy{Data: fmt.Appendf(nil, `{"version":"1.0.0","anyOf":[{"authority":"%s/simulated","allOf":[
		{"claim":"x-ms-sevsnpvm-hostdata","equals":"%s"},{"claim":"x-ms-sevsnpvm-is-debuggable","equals":"false"}]}]}`, attestIssuer, hex.EncodeToString(hostData[:]))}
}

// fill puts keys and secrets into the vault: rsa, ec, oct and secret for our guest, foreign for another, fixed for none,
// and the secret wrapped, which rsa opens.
func (w *world) fill(ctx context.Context) error {
	var err error
	if w.rsaKey, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return err
	}
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return err
	}
	w.oct = []byte("0123456789abcdef0123456789abcdef")
	yes := true
	for _, k := range []struct {
		name  string
		key   any
		guest [32]byte
	}{{"rsa", w.rsaKey, w.hostData}, {"ec", ec, w.hostData}, {"oct", append([]byte(nil), w.oct...), w.hostData}, {"foreign", append([]byte(nil), w.oct...), [32]byte{1}}} {
		m, err := vault.NewMaterial(k.key)
		if err != nil {
			return err
		}
		if _, err = w.vault.ImportKey(ctx, k.name, m, vault.KeyRequest{HSM: true, Attributes: vault.AttributeChange{Exportable: &yes}, Policy: policy(k.guest)}); err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
	}
	if _, err = w.vault.CreateKey(ctx, "fixed", vault.KeyRequest{Type: vault.RSA}); err != nil {
		return err
	}
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &w.rsaKey.PublicKey, []byte("a wrapped secret"), nil)
	if err != nil {
		return err
	}
	_, err = w.vault.SetSecret(ctx, "wrapped", vault.SecretRequest{Value: seal.NewSecret([]byte(b64(wrapped)))})
	if err != nil {
		return err
	}
	_, err = w.vault.SetSecret(ctx, "secret", vault.SecretRequest{
		Value: seal.NewSecret([]byte("a released secret")), Attributes: vault.AttributeChange{Exportable: &yes}, Policy: policy(w.hostData),
	})
	return err
}

// sidecar returns a server of the guest. Change may alter what it is made of.
func (w *world) sidecar(t testing.TB, change func(*Options, *release.Options)) *Server {
	t.Helper()
	e := &Evidence{Provider: w.guest}
	o := Options{Evidence: e, Log: slog.New(slog.DiscardHandler)}
	c := release.Options{Attester: e, Pool: w.evidencePool, Roots: w.roots}
	if change != nil {
		change(&o, &c)
	}
	var err error
	if o.Client, err = release.New(c); err != nil {
		t.Fatal(err)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// answer is what a request came to: exactly one JSON object.
type answer struct {
	status int
	body   map[string]any
}

// text returns a member.
func (a answer) text(name string) string {
	s, _ := a.body[name].(string)
	return s
}

// call sends a request. Body is sent as it is when it is text, and else as JSON; nil gets.
func call(t testing.TB, h http.Handler, path string, body any) answer {
	t.Helper()
	method, text := http.MethodPost, ""
	switch b := body.(type) {
	case nil:
		method = http.MethodGet
	case string:
		text = b
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		text = string(raw)
	}
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(text))
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	a := answer{status: rec.Code}
	dec := json.NewDecoder(rec.Body)
	if err := dec.Decode(&a.body); err != nil || dec.More() {
		t.Fatalf("%s: not one JSON object: %v", path, err)
	}
	return a
}

// asks is a request for a key of the world.
func (w *world) asks(kid string, more ...string) map[string]any {
	m := map[string]any{"maa_endpoint": w.attestation.URL, "akv_endpoint": w.vaultServer.URL, "kid": kid, "access_token": "releaser"}
	for i := 0; i < len(more); i += 2 {
		if m[more[i]] = more[i+1]; more[i+1] == "" {
			delete(m, more[i])
		}
	}
	return m
}
