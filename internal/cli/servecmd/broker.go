// SPDX-License-Identifier: Apache-2.0

package servecmd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/attestsvc"
	attestrest "cofferdam.dev/internal/attestsvc/rest"
	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/kbs"
	"cofferdam.dev/internal/kbs/rcar"
	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/store/open"
	"cofferdam.dev/internal/vault"
	"cofferdam.dev/internal/vault/authority"
)

// brokerConfig is the configuration file of the key broker. Flags win over it.
type brokerConfig struct {
	Schema string       `json:"schema"`
	Listen listenConfig `json:"server"`
	Admin  adminConfig  `json:"administrators"`
	// URL is the broker's, as guests and relying parties see it: the issuer of its tokens.
	URL string `json:"url"`
	// Name is that of the vault that has the secrets.
	Name string `json:"name"`
	// Store is where secrets, rules and sessions are kept: bolt:PATH or etcd://….
	Store string `json:"store"`
	// Instance names this instance in the audit log.
	Instance string `json:"instance"`
	// RootKey is the file of the root key, and the others what opens it, as for the vault.
	RootKey    string   `json:"rootKey"`
	Passphrase string   `json:"passphraseFile"`
	Shares     []string `json:"shareFiles"`
	TEEDevice  string   `json:"teeDevice"`
	// Baseline is an appraisal policy that takes the place of the default rules for evidence.
	Baseline string `json:"baseline"`
	// SimulatedRoots are simulated roots that are accepted, by name or file.
	SimulatedRoots []string `json:"simulatedRoots"`
	// Collateral are directories with collateral, and Fetch lets the broker ask the vendors' servers.
	Collateral []string `json:"collateral"`
	Fetch      bool     `json:"fetch"`
	// Compliance gives names to launch measurements that somebody vouches for.
	Compliance []complianceConfig `json:"compliance"`
}

// brokerConfigSchema is the schema of the file.
const brokerConfigSchema = "cofferdam.dev/broker-config/v1"

func (a *App) serveBrokerCommand() *cobra.Command {
	var file, state string
	var flags brokerConfig
	var kept vaultConfig
	c := &cobra.Command{
		Use:     "broker",
		Aliases: []string{"kbs"},
		Short:   "Give secrets to guests of Confidential Containers that prove what they are",
		Long: `Be a key broker: guests of Confidential Containers ask for a challenge, answer it with
evidence that is bound to a key of their own, and get secrets encrypted to that key. The
protocol is that of trustee's KBS (0.4.0), so that their agents work unchanged. Evidence
is verified as by ` + "`serve attestation`" + `; secrets lie in a vault as ` + "`serve vault`" + ` has them, and
two of these that share a --store in etcd share the secrets, too.

An administrator sets secrets (POST /kbs/v0/resource/REPOSITORY/TYPE/TAG) and rules that
say to whom they go (POST /kbs/v0/resource-policy) with the token in the state directory
(admin-token). Without rules nobody gets any. A guest that is refused does not learn why:
the audit log says it (` + "`cofferdam audit verify`" + `).

Evidence of a simulated processor is refused unless --simulated-root names its root, and
satisfies only rules that name the issuer that ends in /simulated.

Without --passphrase-file the root key's passphrase lies in the state directory; without
--tls-certificate there is a certificate for development there (tls-certificate.pem),
which guests must be told to trust.`,
		Example: `  cofferdam serve broker --simulated-root local
  cofferdam serve broker --listen 0.0.0.0:443 --url https://broker.example --fetch \
    --tls-certificate cert.pem --tls-key key.pem --passphrase-file /run/passphrase`,
		Args: console.Arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			config := brokerConfig{}
			if file != "" {
				if err := readConfig(file, &config); err != nil {
					return err
				}
				if config.Schema != brokerConfigSchema {
					return fmt.Errorf("reading the configuration: %s: schema is %q, not %q", file, config.Schema, brokerConfigSchema)
				}
			}
			config.override(cmd, &flags, &kept)
			if state == "" {
				state = filepath.Join(a.Home, "broker")
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.serveBroker(ctx, cmd, &config, state)
		},
	}
	f := c.Flags()
	f.StringVar(&file, "config", "", "configuration file in YAML (docs/reference/key-broker.md); flags win over it")
	f.StringVar(&state, "state", "", "directory of the service's state (default: broker in the state directory)")
	flags.flags(c)
	kept.storeFlags(c)
	return c
}

// flags are those that stand for members of the file.
func (c *brokerConfig) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	c.Listen.flags(cmd, "127.0.0.1:8445")
	f.StringVar(&c.URL, "url", "", "the broker's URL, the issuer of its tokens (default: https:// and the address)")
	f.StringVar(&c.Baseline, "baseline", "", "appraisal policy that all evidence must satisfy (default: hardware without known holes, no debugging)")
	f.StringArrayVar(&c.SimulatedRoots, "simulated-root", nil, "accept this simulated root: local, a name that trust add knows, or a PEM file")
	f.StringArrayVar(&c.Collateral, "collateral", nil, "directory with collateral; may be given several times")
	f.BoolVar(&c.Fetch, "fetch", false, "get collateral from the vendors' servers when it is missing")
}

// override takes over what flags say. A flag that was not given says something only where the file does not.
func (c *brokerConfig) override(cmd *cobra.Command, flags *brokerConfig, kept *vaultConfig) {
	said := givenFlags{cmd}
	c.Listen.override(said, &flags.Listen)
	said.text(&c.URL, "url", flags.URL)
	said.text(&c.Baseline, "baseline", flags.Baseline)
	said.text(&c.Name, "name", kept.Name)
	said.text(&c.Store, "store", kept.Store)
	said.text(&c.RootKey, "root-key", kept.RootKey)
	said.text(&c.Passphrase, "passphrase-file", kept.Passphrase)
	said.text(&c.TEEDevice, "tee-device", kept.TEEDevice)
	c.Shares = append(c.Shares, kept.Shares...)
	said.yes(&c.Fetch, "fetch", flags.Fetch)
	c.SimulatedRoots = append(c.SimulatedRoots, flags.SimulatedRoots...)
	c.Collateral = append(c.Collateral, flags.Collateral...)
}

// checkURL fills in the broker's URL, which tokens and rules name and so must not change.
func (c *brokerConfig) checkURL(cmd *cobra.Command) error {
	if err := c.Listen.publicURL(cmd, &c.URL, "url", "rules"); err != nil {
		return err
	}
	c.URL = strings.TrimSuffix(c.URL, "/")
	return nil
}

// serveBroker runs the broker until ctx ends.
func (a *App) serveBroker(ctx context.Context, cmd *cobra.Command, c *brokerConfig, state string) (err error) {
	if err := c.checkURL(cmd); err != nil {
		return err
	}
	baseline, err := a.attestationBaseline(ctx, cmd, &attestationConfig{
		SimulatedRoots: c.SimulatedRoots, Collateral: c.Collateral, Fetch: c.Fetch, Compliance: c.Compliance, Baseline: c.Baseline,
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return fmt.Errorf("making the state directory: %w", err)
	}
	// The root key comes first: who waits for shares need not hold the store meanwhile.
	root, err := a.openRoot(ctx, &vaultConfig{RootKey: c.RootKey, Passphrase: c.Passphrase, Shares: c.Shares, TEEDevice: c.TEEDevice}, state)
	if err != nil {
		return err
	}
	if c.Store == "" {
		c.Store = "bolt:" + filepath.Join(state, "store.db")
	}
	st, err := open.URL(ctx, c.Store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	log, err := audit.OpenState(state, c.Instance)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	return a.runBroker(ctx, c, state, baseline, st, log, root)
}

// brokerParts are what the broker's requests are answered by.
type brokerParts struct {
	service *attestsvc.Service
	vault   *vault.Vault
	broker  *kbs.Broker
}

// brokerParts puts attestation service, vault and broker together: the vault believes the one attestation service.
func (a *App) brokerParts(ctx context.Context, c *brokerConfig, baseline attestsvc.Baseline, st store.Store, log *audit.Log, root seal.Root) (*brokerParts, error) {
	logger := a.serviceLog()
	own, err := kbs.OpenStore(ctx, st, root)
	if err != nil {
		return nil, err
	}
	var p brokerParts
	p.service, err = attestsvc.New(ctx, attestsvc.Options{Issuer: c.URL, Baseline: baseline, Store: own, Audit: log, Log: logger})
	if err != nil {
		return nil, err
	}
	keys := authority.Func(p.service.Keys)
	list := []authority.Authority{{Issuer: p.service.Issuer(attestsvc.DefaultTenant, false), Keys: keys}}
	if p.service.Simulated() {
		list = append(list, authority.Authority{Issuer: p.service.Issuer(attestsvc.DefaultTenant, true), Keys: keys, Simulated: true})
	}
	believed, err := authority.NewSet(list...)
	if err != nil {
		return nil, err
	}
	p.vault, err = vault.New(vault.Options{Name: c.Name, Store: st, Root: root, Audit: log, Authorities: believed, Log: logger})
	if err != nil {
		return nil, err
	}
	p.broker, err = kbs.New(ctx, kbs.Options{
		Service: p.service, Authorities: believed, Vault: p.vault, Store: own, Audit: log, Log: logger,
	})
	return &p, err
}

// runBroker serves with what was opened.
func (a *App) runBroker(ctx context.Context, c *brokerConfig, state string, baseline attestsvc.Baseline, st store.Store, log *audit.Log, root seal.Root) error {
	p, err := a.brokerParts(ctx, c, baseline, st, log, root)
	if err != nil {
		return err
	}
	token := filepath.Join(state, "admin-token")
	who, err := c.Admin.authenticator(token, kbs.RoleAdmin, attestrest.RoleAdmin)
	if err != nil {
		return err
	}
	handler, err := p.handler(who, a)
	if err != nil {
		return err
	}
	opts := serve.Options{
		Name: "broker", Handler: handler, Error: kbs.Error, Ready: storeReady(st), Log: a.serviceLog(),
		Limits: serve.Limits{Body: rcar.MaxAttestation},
	}
	if err := a.tlsOptions(&opts, &c.Listen, state, c.names()); err != nil {
		return err
	}
	srv, err := serve.New(ctx, opts)
	if err != nil {
		return err
	}
	if err := a.tellAddress(srv, state); err != nil {
		return err
	}
	a.Say("secrets and rules are set with the token in %s", token)
	if baseline.AllowSimulated {
		a.Say("SIMULATED roots are accepted: rules for %s/simulated give secrets to guests that nothing protects", c.URL)
	}
	return runServer(ctx, srv, p.service.Run, p.vault.Run, p.broker.Run)
}

// attestationPaths are the endpoints of the attestation service that the broker has beside its own: what relying parties
// need to verify tokens, and what administrators need to set attestation policies. Evidence comes by the broker's protocol
// alone.
var attestationPaths = []string{"/certs", "/.well-known/", "/simulated/certs", "/simulated/.well-known/", "/policies/", "/certificates"}

// handler puts the broker's protocol and what it has of the attestation service's together.
func (p *brokerParts) handler(who auth.Authenticator, a *App) (http.Handler, error) {
	attestation, err := attestrest.New(attestrest.Options{Service: p.service, Auth: who, Log: a.serviceLog()})
	if err != nil {
		return nil, err
	}
	broker := kbs.NewHandler(p.broker, who)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, prefix := range attestationPaths {
			if strings.HasPrefix(r.URL.Path, prefix) {
				attestation.ServeHTTP(w, r)
				return
			}
		}
		broker.ServeHTTP(w, r)
	}), nil
}

// names are those for which a certificate for development is made.
func (c *brokerConfig) names() []string { return append(c.Listen.names(), nameIn(c.URL)...) }
