// SPDX-License-Identifier: Apache-2.0

package azureclients

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/store/boltstore"
	"cofferdam.dev/internal/token"
	"cofferdam.dev/internal/vault"
	"cofferdam.dev/internal/vault/authority"
	"cofferdam.dev/internal/vault/devissuer"
	"cofferdam.dev/internal/vault/rest"
)

const (
	vaultURL = "https://contoso.vault.example"
	secret   = "a-secret-of-the-client-for-tests"
)

// world is a vault that listens, with its token issuer.
type world struct {
	client  *http.Client
	root    *x509.CertPool // of releases
	managed bool
	issuer  *token.Key // of the attestation service's tokens
}

// attestURL is the attestation service's.
const attestURL = "https://attest.example"

func newWorld(t *testing.T, managed bool) *world {
	t.Helper()
	dir := t.TempDir()
	st, err := boltstore.Open(filepath.Join(dir, "vault.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	root := seal.NewRootKey()
	defer root.Destroy()
	memory, err := seal.NewMemory(root, "memory")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(filepath.Join(dir, "audit"), audit.Options{Instance: "test", Key: key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	w := &world{root: x509.NewCertPool(), managed: managed}
	now := time.Now()
	if w.issuer, err = token.Generate(token.RS256, "attest", now, now.Add(time.Hour), now.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	set, err := authority.NewSet(authority.Authority{Issuer: attestURL, Keys: authority.Static{w.issuer.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	v, err := vault.New(vault.Options{Name: "test", Managed: managed, Store: st, Root: memory, Audit: log, Authorities: set})
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := devissuer.New(t.Context(), devissuer.Options{
		URL: vaultURL, Tenant: "development", Audiences: []string{rest.DefaultResource(vaultURL)},
		Clients: []devissuer.Client{{ID: "app", Secret: secret, Roles: rest.Operator(managed)}, {ID: "reader", Secret: secret, Roles: []auth.Role{"Key Vault Reader"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	signer, ca, err := rest.DevelopmentSigner([]string{"contoso.vault.example"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	h, err := rest.New(rest.Options{Vault: v, Auth: issuer, Signer: signer, URL: vaultURL, Authority: issuer.Authority()})
	if err != nil {
		t.Fatal(err)
	}
	w.root.AppendCertsFromPEM(ca)
	w.listen(t, dir, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if issuer.Owns(r.URL.Path) {
			issuer.ServeHTTP(rw, r)
			return
		}
		h.ServeHTTP(rw, r)
	}))
	return w
}

// listen serves under the name of the vault, which the client of w finds.
func (w *world) listen(t *testing.T, dir string, h http.Handler) {
	t.Helper()
	file := filepath.Join(dir, "tls.pem")
	config, err := serve.DevelopmentTLS(file, []string{"contoso.vault.example"})
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = config
	srv.StartTLS()
	t.Cleanup(srv.Close)
	address := srv.Listener.Addr().String()
	w.client = &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}}
	t.Cleanup(w.client.CloseIdleConnections)
}

func (w *world) options() azcore.ClientOptions {
	return azcore.ClientOptions{
		Transport: w.client, Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: vaultURL + "/"}, Retry: policy.RetryOptions{MaxRetries: -1},
	}
}

func (w *world) credential(t *testing.T, id, secret string) azcore.TokenCredential {
	t.Helper()
	c, err := azidentity.NewClientSecretCredential("development", id, secret, &azidentity.ClientSecretCredentialOptions{
		ClientOptions: w.options(), DisableInstanceDiscovery: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (w *world) keys(t *testing.T, id, secret string) *azkeys.Client {
	t.Helper()
	c, err := azkeys.NewClient(vaultURL, w.credential(t, id, secret), &azkeys.ClientOptions{ClientOptions: w.options()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (w *world) secrets(t *testing.T) *azsecrets.Client {
	t.Helper()
	c, err := azsecrets.NewClient(vaultURL, w.credential(t, "app", secret), &azsecrets.ClientOptions{ClientOptions: w.options()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ptr is for the many pointers of the clients' models.
func ptr[T any](v T) *T { return &v }
