// SPDX-License-Identifier: Apache-2.0

package devdomain_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/devdomain"
	"cofferdam.dev/internal/sidecar/skr"
	"cofferdam.dev/internal/testguest"
	"cofferdam.dev/internal/vault/client"
	"cofferdam.dev/release"
	"cofferdam.dev/verify/anchor"
)

func TestMain(m *testing.M) { os.Exit(testguest.Main(m)) }

// start runs a domain until the test ends, or until the function is called.
func start(t *testing.T, state string, roots ...anchor.Root) (*devdomain.Document, func()) {
	t.Helper()
	d, err := devdomain.Open(t.Context(), devdomain.Options{
		State: state, Listen: devdomain.Addresses{Attestation: "127.0.0.1:0", Vault: "127.0.0.1:0", Broker: "127.0.0.1:0"}, Roots: roots,
		Clients: []devdomain.Client{{ID: "app", Roles: []auth.Role{devdomain.DefaultRole}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	end := sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("running: %v", err)
		}
		if err := d.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	t.Cleanup(end)
	doc := d.Document()
	return &doc, end
}

// web trusts the domain alone, and finds the host's name as a group does.
func web(t *testing.T, doc *devdomain.Document) (*http.Client, *x509.CertPool) {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(read(t, doc.CA))) {
		t.Fatal("the authority is not in PEM")
	}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
	}
	return &http.Client{Transport: &http.Transport{
		DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}, DisableKeepAlives: true,
	}}, pool
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// group is a client in a guest, with what a template would give it.
func group(t *testing.T, doc *devdomain.Document, policy string) *release.Client {
	t.Helper()
	c, pool := web(t, doc)
	keys, err := release.NewPool(1, 0)
	if err != nil {
		t.Fatal(err)
	}
	who := &release.WorkloadIdentity{
		TenantID: doc.Vault.Tenant, ClientID: "app", Secret: read(t, doc.Clients[0].Secret), Login: doc.Vault.GuestURL, HTTP: c,
	}
	r, err := release.New(release.Options{
		Attester: &skr.Evidence{Provider: testguest.Shared(t).Guest(t, policy)}, Pool: keys, HTTP: c, Roots: pool, Credential: who,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// keep imports a key that goes to groups of a policy, by an issuer's word.
func keep(t *testing.T, doc *devdomain.Document, name, issuer string, hostData [32]byte) {
	t.Helper()
	text := fmt.Sprintf(`{"version":"1.0.0","anyOf":[{"authority":%q,"allOf":[{"claim":"x-ms-sevsnpvm-hostdata","equals":%q}]}]}`, issuer, hex.EncodeToString(hostData[:]))
	exportable := true
	_, err := operator(t, doc).Do(t.Context(), http.MethodPut, "/keys/"+name, client.Import{
		Key: json.RawMessage(`{"kty":"oct-HSM","k":"MTIzNDU2Nzg5MGFiY2RlZjEyMzQ1Njc4OTBhYmNkZWY"}`), Attributes: client.Attributes{Exportable: &exportable},
		Policy: &client.Policy{Data: base64.RawURLEncoding.EncodeToString([]byte(text))},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
}

func operator(t *testing.T, doc *devdomain.Document) *client.Client {
	t.Helper()
	c, _ := web(t, doc)
	return &client.Client{URL: doc.Vault.URL, HTTP: c, Token: read(t, doc.AdminToken)}
}

func ask(t *testing.T, c *release.Client, doc *devdomain.Document, key string) error {
	t.Helper()
	k, err := c.Release(t.Context(), &release.Request{Attestation: doc.Attestation.GuestURL, Vault: doc.Vault.GuestURL, Key: release.KeyName{Name: key}})
	if err != nil {
		return err
	}
	if got := string(k.Symmetric()); got != "1234567890abcdef1234567890abcdef" {
		t.Errorf("the key that was released has %d bytes and is another one", len(got))
	}
	return nil
}

// TestRelease has a key go to the group that it is for, by the name that a group knows the host by; to no other group; and to
// nobody by a policy for hardware, since all of this is simulated.
func TestRelease(t *testing.T) {
	t.Parallel()
	m := testguest.Shared(t)
	state := filepath.Join(t.TempDir(), "domain")
	doc, end := start(t, state, m.Root)
	mine := m.Guest(t, "package mine").HostData
	keep(t, doc, "simulated", doc.Attestation.SimulatedIssuer, mine)
	keep(t, doc, "hardware", doc.Attestation.Issuer, mine)
	if err := ask(t, group(t, doc, "package mine"), doc, "simulated"); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"another group":         ask(t, group(t, doc, "package other"), doc, "simulated"),
		"a policy for hardware": ask(t, group(t, doc, "package mine"), doc, "hardware"),
	} {
		if err == nil || !strings.Contains(err.Error(), "403") {
			t.Errorf("%s: error is %v, want the vault's refusal", name, err)
		}
	}
	if got, err := devdomain.Running(state); err != nil || got.Vault.URL != doc.Vault.URL || !got.Simulated {
		t.Errorf("the document is %+v, %v", got, err)
	}
	ca := read(t, doc.CA)
	end()
	if _, err := devdomain.Running(state); err == nil {
		t.Error("a domain that has ended says that it runs")
	}

	// It is the same domain when it is started again.
	again, _ := start(t, state, m.Root)
	if read(t, again.CA) != ca {
		t.Error("the authority changed")
	}
	if _, err := operator(t, again).Do(t.Context(), http.MethodGet, "/keys/simulated", nil, nil); err != nil {
		t.Errorf("the key is not there any more: %v", err)
	}
}

// TestNoSimulatedRoots takes no simulated evidence.
func TestNoSimulatedRoots(t *testing.T) {
	t.Parallel()
	doc, _ := start(t, t.TempDir())
	if doc.Simulated || doc.Attestation.SimulatedIssuer != "" {
		t.Errorf("the document is %+v", doc)
	}
	keep(t, doc, "k", doc.Attestation.Issuer, testguest.Shared(t).Guest(t, "package mine").HostData)
	if err := ask(t, group(t, doc, "package mine"), doc, "k"); err == nil {
		t.Error("a simulated group got a key")
	}
}

// TestStateIsGuarded refuses secrets that others may read, and addresses that are missing.
func TestStateIsGuarded(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	o := devdomain.Options{State: state, Listen: devdomain.Addresses{Attestation: "127.0.0.1:0", Vault: "127.0.0.1:0"}, Clients: []devdomain.Client{{ID: "app", Roles: []auth.Role{devdomain.DefaultRole}}}}
	d, err := devdomain.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"admin-token", "ca-key.secret", "root-key.passphrase", "audit-key.secret", "clients/app.secret"} {
		file := filepath.Join(state, name)
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
			continue
		}
		if err := os.Chmod(file, 0o640); err != nil {
			t.Fatal(err)
		}
		if _, err := devdomain.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "want 0600") {
			t.Errorf("%s can be read by others: error is %v", name, err)
		}
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o.Listen.Vault = ""
	if _, err := devdomain.Open(t.Context(), o); err == nil {
		t.Error("a domain without a vault was opened")
	}
	o.Listen.Vault, o.Clients = "127.0.0.1:0", []devdomain.Client{{ID: "../app", Roles: []auth.Role{devdomain.DefaultRole}}}
	if _, err := devdomain.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "no file name") {
		t.Errorf("a client outside of the directory: error is %v", err)
	}
}
