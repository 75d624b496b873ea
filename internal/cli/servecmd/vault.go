// SPDX-License-Identifier: Apache-2.0

package servecmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/vault"
	"cofferdam.dev/internal/vault/devissuer"
	"cofferdam.dev/internal/vault/rest"
	"cofferdam.dev/internal/wholefile"
)

// developmentTenant is the tenant of the vault's own token issuer.
const developmentTenant = "development"

func (a *App) serveVaultCommand() *cobra.Command {
	var file, state string
	var clients, authorities, simulated []string
	var ca string
	var flags vaultConfig
	c := &cobra.Command{
		Use:   "vault",
		Short: "Keep keys and secrets, and release them to proven code alone",
		Long: `Be a vault: keep keys and secrets under a root key, and release an exportable one only to
a guest whose attestation token satisfies the key's release policy, wrapped to a key that
was born in that guest. The protocol is that of Azure Key Vault or, with --managed-hsm, of
Azure Managed HSM, so that their clients work unchanged. What was allowed and what was
refused, and why, is in the audit log (` + "`cofferdam audit verify`" + `).

Tokens count only from the attestation services that --authority names.

Who may call the vault: the operator with the token in the state directory (admin-token),
client certificates and tokens of OpenID providers by the rules of the configuration file,
and, for development, clients that --client names: each gets a secret in the state
directory (clients/ID.secret), and exchanges it at the vault itself for tokens, as Azure's
libraries do at Azure. Roles are Azure's, by name or ID.

Without --passphrase-file the root key's passphrase lies in the state directory; without
--tls-certificate and --release-certificate there are certificates for development there,
which clients must be told to trust (tls-certificate.pem, release-root.pem).`,
		Example: `  cofferdam serve vault --authority https://attest.example=https://attest.example/certs \
    --client app="Key Vault Crypto Service Release User"
  cofferdam serve vault --listen 0.0.0.0:443 --url https://keys.vault.example \
    --tls-certificate cert.pem --tls-key key.pem --config config.yaml \
    --release-certificate cert.pem --release-key key.pem --passphrase-file /run/passphrase`,
		Args: console.Arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			config := vaultConfig{}
			if file != "" {
				if err := readConfig(file, &config); err != nil {
					return err
				}
				if config.Schema != vaultConfigSchema {
					return fmt.Errorf("reading the configuration: %s: schema is %q, not %q", file, config.Schema, vaultConfigSchema)
				}
			}
			config.override(cmd, &flags)
			if err := errors.Join(config.addClients(cmd, clients), config.addAuthorities(cmd, "authority", authorities, ca, false),
				config.addAuthorities(cmd, "simulated-authority", simulated, ca, true)); err != nil {
				return err
			}
			if state == "" {
				state = filepath.Join(a.Home, "vault")
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.serveVault(ctx, cmd, &config, state)
		},
	}
	f := c.Flags()
	f.StringVar(&file, "config", "", "configuration file in YAML (docs/reference/vault.md); flags win over it")
	f.StringVar(&state, "state", "", "directory of the service's state (default: vault in the state directory)")
	f.StringArrayVar(&authorities, "authority", nil, "ISSUER=KEYS: believe this attestation service, whose key set is at this URL or in this file; may be given several times")
	f.StringArrayVar(&simulated, "simulated-authority", nil, "the same for a service whose tokens are over simulated evidence, which is worth nothing outside of development")
	f.StringVar(&ca, "authority-ca", "", "authorities of the certificates of these services in PEM (default: the system's)")
	f.StringArrayVar(&clients, "client", nil, "ID=ROLE: let this client get tokens here, for development; may be given several times")
	flags.flags(c)
	return c
}

// serveVault runs the vault until ctx ends.
func (a *App) serveVault(ctx context.Context, cmd *cobra.Command, c *vaultConfig, state string) error {
	if _, _, err := net.SplitHostPort(c.Listen.Listen); err != nil {
		return console.Usage(cmd, fmt.Sprintf("--listen is %q; want HOST:PORT", c.Listen.Listen))
	}
	if err := c.checkRoles(); err != nil {
		return err
	}
	v, err := a.openVault(ctx, c, state)
	if err != nil {
		return err
	}
	return errors.Join(a.runVault(ctx, c, state, v), v.Close())
}

// runVault serves a vault.
func (a *App) runVault(ctx context.Context, c *vaultConfig, state string, v *openedVault) error {
	logger := a.serviceLog()
	// The address is part of what the handler says, and only known once the service listens.
	var handler http.Handler
	opts := serve.Options{
		Name: "vault", Error: rest.Error, Ready: storeReady(v.store), Log: logger,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }),
	}
	err := a.tlsOptions(&opts, &c.Listen, state, c.names())
	if err != nil {
		return err
	}
	srv, err := serve.New(ctx, opts)
	if err != nil {
		return err
	}
	if c.URL == "" {
		c.URL = "https://" + srv.Addr()
	}
	if handler, err = a.vaultHandler(ctx, c, state, v.Vault, logger); err != nil {
		return err
	}
	if err := a.tellAddress(srv, state); err != nil {
		return err
	}
	a.Say("the operator's token is in %s", filepath.Join(state, "admin-token"))
	c.warn(a)
	return runServer(ctx, srv, v.Run)
}

// warn says what of the configuration is not for production.
func (c *vaultConfig) warn(a *App) {
	if len(c.Authorities) == 0 {
		a.Say("there is no --authority: nothing can be released")
	}
	for _, one := range c.Authorities {
		if one.Simulated {
			a.Say("SIMULATED evidence is believed of %s: keys may go to guests that nothing protects", one.Issuer)
		}
	}
}

// vaultHandler puts the vault's protocol and the development issuer's together.
func (a *App) vaultHandler(ctx context.Context, c *vaultConfig, state string, v *vault.Vault, logger *slog.Logger) (http.Handler, error) {
	clients, err := c.issuerClients(state)
	if err != nil {
		return nil, err
	}
	resource := rest.DefaultResource(c.URL)
	issuer, err := devissuer.New(ctx, devissuer.Options{URL: c.URL, Tenant: developmentTenant, Audiences: []string{resource}, Clients: clients})
	if err != nil {
		return nil, err
	}
	rules, err := c.Callers.authenticator(filepath.Join(state, "admin-token"), rest.Operator(c.ManagedHSM)...)
	if err != nil {
		return nil, err
	}
	signer, err := a.releaseSigner(c, state)
	if err != nil {
		return nil, err
	}
	authority := issuer.Authority()
	if len(clients) == 0 && len(c.Callers.OIDC) > 0 {
		authority = c.Callers.OIDC[0].Issuer
	}
	h, err := rest.New(rest.Options{
		Vault: v, Auth: auth.All{issuer, rules}, Signer: signer, URL: c.URL, Authority: authority, Resource: resource, Log: logger,
	})
	if err != nil {
		return nil, err
	}
	if len(clients) == 0 {
		return h, nil
	}
	a.Say("clients get tokens from %s, which is for development", issuer.Authority())
	tokens := serve.Route("token", issuer)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if issuer.Owns(r.URL.Path) {
			tokens.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	}), nil
}

// releaseSigner returns what signs releases. Without files it is made for development, and its root's file told.
func (a *App) releaseSigner(c *vaultConfig, state string) (*rest.Signer, error) {
	switch {
	case (c.ReleaseCertificate == "") != (c.ReleaseKey == ""):
		return nil, errors.New("a certificate that signs releases and its key go together")
	case c.ReleaseCertificate != "":
		return rest.LoadSigner(c.ReleaseCertificate, c.ReleaseKey)
	}
	signer, root, err := rest.DevelopmentSigner(c.names(), time.Now())
	if err != nil {
		return nil, err
	}
	file := filepath.Join(state, "release-root.pem")
	if err := wholefile.Replace(file, root, 0o644); err != nil {
		return nil, err
	}
	a.Say("releases are signed by a certificate for development, whose root clients must be told to trust: %s", file)
	return signer, nil
}

// names are those for which certificates for development are made.
func (c *vaultConfig) names() []string { return append(nameIn(c.URL), c.Listen.names()...) }
