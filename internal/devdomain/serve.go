// SPDX-License-Identifier: Apache-2.0

package devdomain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"

	attestrest "cofferdam.dev/internal/attestsvc/rest"
	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/kbs"
	"cofferdam.dev/internal/kbs/rcar"
	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/vault/devissuer"
	"cofferdam.dev/internal/vault/rest"
	"cofferdam.dev/internal/wholefile"
)

// operatorRoles are those of who has the token in the state directory: all that there is to administer.
func operatorRoles() []auth.Role {
	return append(rest.Operator(false), attestrest.RoleAdmin, kbs.RoleAdmin)
}

// served is a service and its address.
type served struct {
	*serve.Server

	doc     *ServiceDocument
	handler http.Handler
}

// close gives the address back of a service that never ran.
func (s *served) close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return s.Run(ctx)
}

// listening is a service that is to be given an address.
type listening struct {
	address string
	doc     *ServiceDocument
	opts    serve.Options
}

// listen opens the addresses: what the services say about themselves contains them.
func (d *Domain) listen(ctx context.Context) error {
	d.doc = Document{Schema: Schema, State: d.opts.State, CA: d.file(fileCA), AdminToken: d.file(fileAdmin), Clients: []ClientDocument{}, SimulatedRoots: []string{}}
	for _, r := range d.opts.Roots {
		d.doc.Simulated, d.doc.SimulatedRoots = true, append(d.doc.SimulatedRoots, r.Name)
	}
	for _, c := range d.clients {
		d.doc.Clients = append(d.doc.Clients, ClientDocument{ID: c.ID, Secret: d.clientFile(c.ID)})
	}
	d.doc.Vault.Tenant = Tenant
	ready := func(ctx context.Context) error { return d.store.View(ctx, func(store.Reader) error { return nil }) }
	list := []listening{
		{d.opts.Listen.Attestation, &d.doc.Attestation.ServiceDocument, serve.Options{Name: "attestation", Error: attestrest.Error, Ready: d.log.Ready}},
		{d.opts.Listen.Vault, &d.doc.Vault.ServiceDocument, serve.Options{Name: "vault", Error: rest.Error, Ready: ready}},
	}
	if d.opts.Listen.Broker != "" {
		d.doc.Broker = &ServiceDocument{}
		list = append(list, listening{d.opts.Listen.Broker, d.doc.Broker, serve.Options{
			Name: "broker", Error: kbs.Error, Ready: ready, Limits: serve.Limits{Body: rcar.MaxAttestation},
		}})
	}
	for _, one := range list {
		if err := d.listenOne(ctx, one); err != nil {
			return err
		}
	}
	return nil
}

func (d *Domain) listenOne(ctx context.Context, one listening) error {
	o := one.opts
	host, _, err := net.SplitHostPort(one.address)
	if err != nil {
		return fmt.Errorf("%s: address %q is not host:port", o.Name, one.address)
	}
	if o.TLS, err = d.ca.tls(d.names(host), d.opts.Now()); err != nil {
		return err
	}
	s := &served{doc: one.doc}
	o.Address, o.Log = one.address, d.opts.Log
	o.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) })
	if s.Server, err = serve.New(ctx, o); err != nil {
		return err
	}
	d.servers = append(d.servers, s)
	_, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		return err
	}
	one.doc.URL, one.doc.GuestURL = "https://"+net.JoinHostPort(d.names(host)[0], port), "https://"+net.JoinHostPort(HostName, port)
	return nil
}

// names are those of a service that listens at a host, the one by which it calls itself first.
func (d *Domain) names(host string) []string {
	var list []string
	add := func(names ...string) {
		for _, n := range names {
			if !slices.Contains(list, n) {
				list = append(list, n)
			}
		}
	}
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		add(host)
	}
	add(d.opts.Names...)
	add("127.0.0.1", "localhost", HostName)
	return list
}

// handlers fills in what answers at the addresses.
func (d *Domain) handlers(ctx context.Context) error {
	for _, s := range d.servers {
		var err error
		switch s.doc {
		case &d.doc.Attestation.ServiceDocument:
			s.handler, err = attestrest.New(attestrest.Options{Service: d.service, Auth: d.who, Log: d.opts.Log})
		case &d.doc.Vault.ServiceDocument:
			s.handler, err = d.vaultHandler(ctx, s)
		default:
			s.handler = kbs.NewHandler(d.broker, d.who)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// vaultHandler answers for the vault under each of its names as if it were the only one: what a vault says about itself, and
// what access tokens are for, begins with the name by which a client knows it.
func (d *Domain) vaultHandler(ctx context.Context, s *served) (http.Handler, error) {
	host, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		return nil, err
	}
	names := d.names(host)
	urls := map[string]string{}
	var audiences []string
	for _, n := range names {
		at := net.JoinHostPort(n, port)
		urls[at] = "https://" + at
		audiences = append(audiences, rest.DefaultResource(urls[at]))
	}
	issuer, err := devissuer.New(ctx, devissuer.Options{URL: s.doc.URL, Tenant: Tenant, Audiences: audiences, Clients: d.clients, Now: d.opts.Now})
	if err != nil {
		return nil, err
	}
	signer, err := d.ca.signer(names, d.opts.Now())
	if err != nil {
		return nil, err
	}
	faces := map[string]http.Handler{}
	for at, url := range urls {
		faces[at], err = rest.New(rest.Options{
			Vault: d.vault, Auth: auth.All{issuer, d.who}, Signer: signer, URL: url, Authority: url + "/" + Tenant, Log: d.opts.Log,
		})
		if err != nil {
			return nil, err
		}
	}
	own := faces[net.JoinHostPort(names[0], port)]
	tokens := serve.Route("token", issuer)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		face, ok := faces[r.Host]
		switch {
		case issuer.Owns(r.URL.Path):
			tokens.ServeHTTP(w, r)
		case ok:
			face.ServeHTTP(w, r)
		default:
			own.ServeHTTP(w, r)
		}
	}), nil
}

// Run serves until ctx ends. The document lies in the state directory for as long.
func (d *Domain) Run(ctx context.Context) error {
	servers := d.servers
	d.servers = nil // they give their addresses back themselves
	text, err := json.MarshalIndent(d.doc, "", "  ")
	if err == nil {
		err = wholefile.Replace(d.file(fileDocument), append(text, '\n'), 0o644)
	}
	if err != nil {
		d.servers = servers
		return fmt.Errorf("saying where the development domain is: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range servers {
		g.Go(func() error { return s.Run(ctx) })
	}
	background := []func(context.Context){d.service.Run, d.vault.Run}
	if d.broker != nil {
		background = append(background, d.broker.Run)
	}
	for _, run := range background {
		g.Go(func() error {
			run(ctx)
			return nil
		})
	}
	return errors.Join(g.Wait(), os.Remove(d.file(fileDocument)))
}
