// SPDX-License-Identifier: Apache-2.0

package servecmd

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	servers "cofferdam.dev/collateral/remote"
	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/attestsvc/rest"
	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/evidencecmd"
	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/uvm"
)

// attestationConfig is the configuration file of the attestation service. Flags win over it.
type attestationConfig struct {
	Schema string       `json:"schema"`
	Listen listenConfig `json:"server"`
	Admin  adminConfig  `json:"administrators"`
	// Issuer is the service's URL, as relying parties see it.
	Issuer string `json:"issuer"`
	// Store is where policies, public keys and used nonces are kept: bolt:PATH or etcd://….
	Store string `json:"store"`
	// StoreKey is the file of the key under which the store's values are sealed.
	StoreKey string `json:"storeKey"`
	// Instance names this instance in the audit log.
	Instance string `json:"instance"`
	// Tenants are the tenants besides the default one.
	Tenants []string `json:"tenants"`
	// SimulatedRoots are simulated roots that are accepted, by name or file.
	SimulatedRoots []string `json:"simulatedRoots"`
	// AllowDebug accepts guests that the host can look into; the tenants' policies then have to refuse them.
	AllowDebug bool `json:"allowDebug"`
	// Collateral are directories with collateral, and Fetch lets the service ask the vendors' servers.
	Collateral []string `json:"collateral"`
	Fetch      bool     `json:"fetch"`
	// Compliance gives names to launch measurements that somebody vouches for.
	Compliance []complianceConfig `json:"compliance"`
	// RequireNonce and RefuseReplays say how fresh evidence must be.
	RequireNonce  bool `json:"requireNonce"`
	RefuseReplays bool `json:"refuseReplays"`
	// AttestSelf lets relying parties ask for evidence of the service itself, and AttestedTLS makes its TLS key and
	// certificate from such evidence: the kind of the machine's device, or the path of an evidence socket.
	AttestSelf  string `json:"attestSelf"`
	AttestedTLS string `json:"attestedTLS"`
	// Baseline is an appraisal policy that takes the place of the default rules for evidence.
	Baseline string `json:"baseline"`
}

// attestationConfigSchema is the schema of the file.
const attestationConfigSchema = "cofferdam.dev/attestation-config/v1"

// complianceConfig is one rule about launch measurements.
type complianceConfig struct {
	// Status becomes the claim x-ms-compliance-status.
	Status string `json:"status"`
	// Type is the type of evidence that the rule is about.
	Type string `json:"type"`
	// Measurements are launch measurements in hexadecimal.
	Measurements []string `json:"measurements"`
	// Issuers, Feed and MinimumSVN say whose endorsements count.
	Issuers    []string `json:"issuers"`
	Feed       string   `json:"feed"`
	MinimumSVN uint64   `json:"minimumSVN"`
}

func (c *complianceConfig) rule() (attestsvc.Compliance, error) {
	kind, err := attestsvc.ParseKind(c.Type)
	if err != nil {
		return attestsvc.Compliance{}, err
	}
	r := attestsvc.Compliance{Status: c.Status, Kind: kind}
	for _, m := range c.Measurements {
		b, err := hex.DecodeString(m)
		if err != nil || len(b) != 48 && len(b) != 32 {
			return r, fmt.Errorf("measurement %q is not 96 or 64 hexadecimal digits", m)
		}
		r.Measurements = append(r.Measurements, b)
	}
	if len(c.Issuers) > 0 {
		r.UVM = uvm.Policy{Issuers: c.Issuers, Feed: c.Feed, MinimumSVN: c.MinimumSVN}
	}
	if r.Status == "" || len(r.Measurements) == 0 && r.UVM.IsZero() {
		return r, errors.New("it lacks a status, or measurements and issuers")
	}
	return r, nil
}

func (a *App) serveAttestationCommand() *cobra.Command {
	var file, state string
	var flags attestationConfig
	c := &cobra.Command{
		Use:   "attestation",
		Short: "Appraise evidence for others and sign the result",
		Long: `Be an attestation service: appraise the evidence of guests, have the tenant's policy
decide, and sign a token that relying parties can check without knowing anything about
processors. The protocol, the claims and the policy language are those of Azure
Attestation, so that its clients work unchanged; tokens come as EAR and for OIDC
federations, too. What the service decided, and by which rule, is in its answers and in
its audit log (` + "`cofferdam audit verify`" + `).

Everything lies below the state directory: policies, the audit log, the operator's token
(admin-token) with which policies are set, and, without --tls-certificate, a certificate
for development. Signing keys are made when the service starts and never written
anywhere; several instances share one --store in etcd.

Evidence of a simulated processor is refused unless --simulated-root names its root;
tokens over it have an issuer of their own, and say that they are simulated.`,
		Example: `  cofferdam serve attestation --simulated-root local
  cofferdam serve attestation --listen 0.0.0.0:443 --issuer https://attest.example \
    --tls-certificate cert.pem --tls-key key.pem --fetch
  cofferdam serve attestation --config c.yaml --store etcd://127.0.0.1:2379/a --store-key k`,
		Args: console.Arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			config := attestationConfig{}
			if file != "" {
				if err := readConfig(file, &config); err != nil {
					return err
				}
				if config.Schema != attestationConfigSchema {
					return fmt.Errorf("reading the configuration: %s: schema is %q, not %q", file, config.Schema, attestationConfigSchema)
				}
			}
			config.override(cmd, &flags)
			if state == "" {
				state = filepath.Join(a.Home, "attestation")
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.serveAttestation(ctx, cmd, &config, state)
		},
	}
	f := c.Flags()
	f.StringVar(&file, "config", "", "configuration file in YAML (docs/reference/attestation-service.md); flags win over it")
	f.StringVar(&state, "state", "", "directory of the service's state (default: attestation in the state directory)")
	flags.Listen.flags(c, "127.0.0.1:8443")
	f.StringVar(&flags.Issuer, "issuer", "", "the service's URL as relying parties see it (default: https:// and the address)")
	f.StringVar(&flags.Store, "store", "", "bolt:PATH, or etcd://HOST:PORT/PREFIX?ca=…&cert=…&key=… (default: a file in the state directory)")
	f.StringVar(&flags.StoreKey, "store-key", "", "file of the key that seals what is stored, made when it is missing (default: in the state directory)")
	f.StringArrayVar(&flags.Tenants, "tenant", nil, "serve this tenant, too, under /tenants/NAME; may be given several times")
	f.StringArrayVar(&flags.SimulatedRoots, "simulated-root", nil, "accept this simulated root: local, a name that trust add knows, or a PEM file")
	f.StringVar(&flags.Baseline, "baseline", "", "appraisal policy that all evidence must satisfy (default: hardware without known holes, no debugging)")
	f.BoolVar(&flags.AllowDebug, "allow-debug", false, "leave guests that can be debugged to the tenants' policies")
	f.StringArrayVar(&flags.Collateral, "collateral", nil, "directory with collateral; may be given several times")
	f.BoolVar(&flags.Fetch, "fetch", false, "get collateral from the vendors' servers when it is missing")
	f.BoolVar(&flags.RequireNonce, "require-nonce", false, "refuse requests without a nonce of /challenge")
	f.BoolVar(&flags.RefuseReplays, "refuse-replays", false, "refuse evidence that was accepted before")
	f.StringVar(&flags.AttestSelf, "attest-self", "", "answer /attest/self with evidence of this machine's device: its kind, such as configfs-tsm or socket, or the path of an evidence socket")
	f.StringVar(&flags.AttestedTLS, "attested-tls", "", "serve by attested TLS, with evidence of this device, named as for attest-self")
	return c
}

// override takes over what flags say. A flag that was not given says something only where the file does not.
func (c *attestationConfig) override(cmd *cobra.Command, flags *attestationConfig) {
	said := givenFlags{cmd}
	c.Listen.override(said, &flags.Listen)
	said.text(&c.Issuer, "issuer", flags.Issuer)
	said.text(&c.Store, "store", flags.Store)
	said.text(&c.StoreKey, "store-key", flags.StoreKey)
	said.text(&c.AttestSelf, "attest-self", flags.AttestSelf)
	said.text(&c.AttestedTLS, "attested-tls", flags.AttestedTLS)
	said.text(&c.Baseline, "baseline", flags.Baseline)
	said.yes(&c.AllowDebug, "allow-debug", flags.AllowDebug)
	said.yes(&c.Fetch, "fetch", flags.Fetch)
	said.yes(&c.RequireNonce, "require-nonce", flags.RequireNonce)
	said.yes(&c.RefuseReplays, "refuse-replays", flags.RefuseReplays)
	c.Tenants = append(c.Tenants, flags.Tenants...)
	c.SimulatedRoots = append(c.SimulatedRoots, flags.SimulatedRoots...)
	c.Collateral = append(c.Collateral, flags.Collateral...)
}

// check refuses what would only be found out later, or by relying parties.
func (c *attestationConfig) check() error {
	u, err := url.Parse(c.Issuer)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("issuer %q is no https URL", c.Issuer)
	}
	for _, t := range c.Tenants {
		if err := attestsvc.CheckTenant(t); err != nil {
			return err
		}
	}
	return nil
}

// serveAttestation runs the service until ctx ends.
func (a *App) serveAttestation(ctx context.Context, cmd *cobra.Command, c *attestationConfig, state string) (err error) {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return fmt.Errorf("making the state directory: %w", err)
	}
	if err := c.Listen.publicURL(cmd, &c.Issuer, "issuer", "relying parties"); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	baseline, err := a.attestationBaseline(ctx, cmd, c)
	if err != nil {
		return err
	}
	if c.Store == "" {
		c.Store = "bolt:" + filepath.Join(state, "store.db")
	}
	st, err := a.openSealed(ctx, c.Store, c.StoreKey, state)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	log, err := audit.OpenState(state, c.Instance)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	return a.runAttestation(ctx, c, state, baseline, st, log)
}

func (a *App) attestationBaseline(ctx context.Context, cmd *cobra.Command, c *attestationConfig) (attestsvc.Baseline, error) {
	var roots []anchor.Root
	for _, name := range c.SimulatedRoots {
		root, err := a.evidence.ReadSimulatedRoot(name)
		if err != nil {
			return attestsvc.Baseline{}, err
		}
		roots = append(roots, root)
	}
	b, err := a.attestationRules(ctx, cmd, c, roots)
	if err != nil {
		return b, err
	}
	for i := range c.Compliance {
		r, err := c.Compliance[i].rule()
		if err != nil {
			return b, fmt.Errorf("compliance[%d] of the configuration: %w", i, err)
		}
		b.Compliance = append(b.Compliance, r)
	}
	b.Collateral, err = a.evidence.CollateralSource(cmd, &evidencecmd.CollateralOptions{Dirs: c.Collateral, Fetch: c.Fetch, KDS: servers.KDSBaseURL, PCS: servers.PCSBaseURL})
	return b, err
}

// attestationRules are the default ones, or those of the operator's policy.
func (a *App) attestationRules(ctx context.Context, cmd *cobra.Command, c *attestationConfig, roots []anchor.Root) (attestsvc.Baseline, error) {
	if c.Baseline == "" {
		b := attestsvc.DefaultBaseline()
		b.Roots, b.AllowSimulated = append(b.Roots, roots...), len(roots) > 0
		b.SNP.AllowDebug, b.Intel.SGX.AllowDebug, b.Intel.TDX.AllowDebug = c.AllowDebug, c.AllowDebug, c.AllowDebug
		return b, nil
	}
	if c.AllowDebug {
		return attestsvc.Baseline{}, console.Usage(cmd, "--allow-debug and --baseline do not go together: the policy says who may be debugged")
	}
	appraiser, err := a.evidence.ReadAppraisalPolicy(ctx, c.Baseline)
	if err != nil {
		return attestsvc.Baseline{}, err
	}
	b, err := attestsvc.PolicyBaseline(appraiser.Policy(), roots)
	if err != nil {
		return b, fmt.Errorf("baseline %s: %w", c.Baseline, err)
	}
	if len(roots) > 0 && !b.AllowSimulated {
		return b, console.Usage(cmd, "--simulated-root names a root that the baseline does not admit")
	}
	return b, nil
}

// runAttestation serves with what was opened.
func (a *App) runAttestation(ctx context.Context, c *attestationConfig, state string, baseline attestsvc.Baseline, st store.Store, log *audit.Log) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(rest.GCPercent)
	}
	logger := a.serviceLog()
	token := filepath.Join(state, "admin-token")
	who, err := c.Admin.authenticator(token, rest.RoleAdmin)
	if err != nil {
		return err
	}
	o := rest.Options{Auth: who, Tenants: c.Tenants, Log: logger}
	if c.AttestSelf != "" {
		if o.Self, err = openAttester(ctx, c.AttestSelf); err != nil {
			return err
		}
	}
	var handler http.Handler
	opts := serve.Options{
		Name: "attestation", Error: rest.Error, Ready: attestationReady(st, log), Log: logger,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }),
	}
	if o.ChallengeTLS, err = a.attestationTLS(ctx, &opts, c, state); err != nil {
		return err
	}
	srv, err := serve.New(ctx, opts)
	if err != nil {
		return err
	}
	// Keys come last: each start that gets here publishes some, which stay for as long as tokens by them could be valid.
	if o.Service, err = attestsvc.New(ctx, attestsvc.Options{
		Issuer: strings.TrimSuffix(c.Issuer, "/"), Baseline: baseline, Store: st, Audit: log, RequireNonce: c.RequireNonce,
		RefuseReplays: c.RefuseReplays, Log: logger,
	}); err != nil {
		return err
	}
	if handler, err = rest.New(o); err != nil {
		return err
	}
	if err := a.tellAddress(srv, state); err != nil {
		return err
	}
	a.Say("policies are set with the token in %s", token)
	if baseline.AllowSimulated {
		a.Say("SIMULATED roots are accepted: tokens over such evidence say nothing about hardware")
	}
	return runServer(ctx, srv, o.Service.Run)
}

// attestationTLS fills in how the service is reached, and returns what answers challenges about attested TLS, or nil.
func (a *App) attestationTLS(ctx context.Context, opts *serve.Options, c *attestationConfig, state string) (http.Handler, error) {
	if c.AttestedTLS == "" {
		return nil, a.tlsOptions(opts, &c.Listen, state, c.Listen.names())
	}
	c.Listen.apply(opts)
	id, err := attestedTLS(ctx, opts, &c.Listen, c.AttestedTLS)
	if err != nil {
		return nil, err
	}
	a.Say("TLS is attested: clients trust it by --service-policy")
	return id.Handler(), nil
}

// attestationReady says whether the store answers and the audit log takes entries.
func attestationReady(st store.Store, log *audit.Log) func(context.Context) error {
	ready := storeReady(st)
	return func(ctx context.Context) error { return errors.Join(ready(ctx), log.Ready(ctx)) }
}

// storeReady says whether the store answers.
func storeReady(st store.Store) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return st.View(ctx, func(r store.Reader) error {
			_, err := r.List("keys/", "", 1)
			return err
		})
	}
}
