// SPDX-License-Identifier: Apache-2.0

package servecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/evidencecmd"
	"cofferdam.dev/internal/cli/keycmd"
	"cofferdam.dev/internal/devdomain"
	"cofferdam.dev/internal/simsp"
)

// domainOptions are the flags of the development domain.
type domainOptions struct {
	development bool
	state       string
	listen      devdomain.Addresses
	names       []string
	roots       []string
	clients     []string
	noBroker    bool
	noSimulated bool
}

func (a *App) serveAllCommand() *cobra.Command {
	o := &domainOptions{}
	c := &cobra.Command{
		Use:   "all --development",
		Short: "Be a whole trust domain for development: attestation, vault and key broker",
		Long: `Be an attestation service, a vault that believes it, and a key broker over the same keys, in
one process and below one directory, with TLS certificates of one authority of their own.
It is for trying releases on this machine, and says so: it starts only with --development,
and whoever has the directory has everything in it.

Evidence of this installation's simulated processor is accepted; --simulated-root names
others, --no-simulated none. Tokens over it come from an issuer of their own, which ends in
/simulated, and satisfy only release policies that name that issuer. A policy for hardware
is never satisfied by them.

On standard output are the services' URLs; -o json has the whole document, which also lies
in the directory while the services run (domain.json). There are, too:

  ca.pem              the authority that clients must be told to trust, for TLS and releases
  admin-token         the operator's token for all of the services; mode 0600
  clients/ID.secret   the secret of a client that may have keys released (--client)

The commands for keys and secrets find the vault, its authority and the token by themselves.
A group reaches the services as ` + devdomain.HostName + `, once it was given their ports.`,
		Example: `  cofferdam serve all --development
  cofferdam serve all --development --state ./domain -o json
  cofferdam serve all --development --vault 127.0.0.1:9444 --no-broker`,
		Args: console.Arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !o.development {
				return console.Usage(cmd, "--development is missing: this domain is for development, and says nothing to anybody else. Services that others rely on are started one by one (cofferdam serve --help)")
			}
			if err := o.check(cmd); err != nil {
				return err
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.serveAll(ctx, o)
		},
	}
	f := c.Flags()
	f.BoolVar(&o.development, "development", false, "say that this is for development")
	f.StringVar(&o.state, "state", "", "directory of everything (default: domain in the state directory)")
	f.StringVar(&o.listen.Attestation, "attestation", "127.0.0.1:8443", "address of the attestation service")
	f.StringVar(&o.listen.Vault, "vault", "127.0.0.1:8444", "address of the vault")
	f.StringVar(&o.listen.Broker, "broker", "127.0.0.1:8445", "address of the key broker")
	f.BoolVar(&o.noBroker, "no-broker", false, "do not serve a key broker")
	f.StringArrayVar(&o.names, "name", nil, "host name that the services have, too; may be given several times")
	f.StringArrayVar(&o.roots, "simulated-root", nil, "accept this simulated root, instead of this installation's: a name that trust add knows, or a PEM file")
	f.BoolVar(&o.noSimulated, "no-simulated", false, "accept no simulated evidence")
	f.StringArrayVar(&o.clients, "client", []string{"app=" + string(devdomain.DefaultRole)}, "ID=ROLE: let this client get tokens at the vault; may be given several times")
	a.OutputFlag(c)
	return c
}

func (o *domainOptions) check(cmd *cobra.Command) error {
	if o.noSimulated && len(o.roots) > 0 {
		return console.Usage(cmd, "--no-simulated and --simulated-root do not go together")
	}
	if o.noBroker {
		o.listen.Broker = ""
	}
	for flag, address := range map[string]string{"attestation": o.listen.Attestation, "vault": o.listen.Vault, "broker": o.listen.Broker} {
		if flag == "broker" && o.noBroker {
			continue
		}
		if _, _, err := net.SplitHostPort(address); err != nil {
			return console.Usage(cmd, fmt.Sprintf("--%s is %q; want HOST:PORT", flag, address))
		}
	}
	return nil
}

// serveAll runs the domain until ctx ends.
func (a *App) serveAll(ctx context.Context, o *domainOptions) error {
	opts := devdomain.Options{State: o.state, Listen: o.listen, Names: o.names, Log: a.serviceLog(), Now: a.Now}
	if opts.State == "" {
		opts.State = filepath.Join(a.Home, keycmd.DomainState)
	}
	var err error
	if opts.State, err = filepath.Abs(opts.State); err != nil {
		return err
	}
	if opts.Clients, err = domainClients(o.clients); err != nil {
		return err
	}
	if err := a.domainRoots(&opts, o); err != nil {
		return err
	}
	d, err := devdomain.Open(ctx, opts)
	if err != nil {
		return err
	}
	doc := d.Document()
	if err := a.Answer(doc, func(w io.Writer) error { return domainTable(w, &doc) }); err != nil {
		return errors.Join(err, d.Close())
	}
	a.Say("DEVELOPMENT: whoever has %s has everything in it", doc.State)
	a.Say("clients must be told to trust the authority in %s", doc.CA)
	a.Say("the operator's token is in %s", doc.AdminToken)
	if doc.Simulated {
		a.Say("SIMULATED evidence is accepted, by the roots %s: tokens of %s say nothing about hardware", strings.Join(doc.SimulatedRoots, ", "), doc.Attestation.SimulatedIssuer)
	}
	return errors.Join(d.Run(ctx), d.Close())
}

// domainRoots reads the simulated roots. This installation's is made if it is not there yet: nothing else depends on when.
func (a *App) domainRoots(opts *devdomain.Options, o *domainOptions) error {
	names := o.roots
	if len(names) == 0 && !o.noSimulated {
		if _, err := simsp.Open(filepath.Join(a.Home, "simsp")); err != nil {
			return err
		}
		names = []string{evidencecmd.LocalRoot}
	}
	for _, n := range names {
		root, err := a.evidence.ReadSimulatedRoot(n)
		if err != nil {
			return err
		}
		opts.Roots = append(opts.Roots, root)
	}
	return nil
}

func domainClients(flags []string) ([]devdomain.Client, error) {
	c := &vaultConfig{}
	if err := c.addClients(&cobra.Command{}, flags); err != nil {
		return nil, err
	}
	if err := c.checkRoles(); err != nil {
		return nil, err
	}
	var list []devdomain.Client
	for _, one := range c.Clients {
		list = append(list, devdomain.Client{ID: one.ID, Roles: one.Roles})
	}
	return list, nil
}

func domainTable(w io.Writer, d *devdomain.Document) error {
	lines := [][2]string{{"attestation", d.Attestation.URL}, {"vault", d.Vault.URL}}
	if d.Broker != nil {
		lines = append(lines, [2]string{"broker", d.Broker.URL})
	}
	return console.Facts(w, lines...)
}
