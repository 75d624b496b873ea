// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"cofferdam.dev/attest"
	servers "cofferdam.dev/collateral/remote"
	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/sidecar/skr"
	"cofferdam.dev/release"
)

// skrDrain is how long running calls get when the sidecar ends.
const skrDrain = 10 * time.Second

// maxAuthorities bounds a file of certificate authorities, in bytes.
const maxAuthorities = 1 << 20

// serveSKR serves until ctx ends.
func (a *app) serveSKR(ctx context.Context, cmd *cobra.Command, o *skrOptions) (err error) {
	log, end, err := o.log(cmd, a.Err)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	config, err := skr.ParseAzureInformation(o.config)
	if err != nil {
		return err
	}
	roots, err := o.roots()
	if err != nil {
		return err
	}
	e, err := a.skrEvidence(ctx, o, config, roots)
	if err != nil {
		return err
	}
	pool, err := release.NewPool(o.pool, o.bits)
	if err != nil {
		return err
	}
	if o.life == 0 {
		o.life = -1
	}
	client, err := release.New(release.Options{
		Attester: e, Pool: pool, Roots: roots, Credential: a.skrIdentity(o, config, roots), SessionLife: o.life, SessionUses: o.uses,
		Challenge: o.challenge, UserAgent: strings.TrimSpace("cofferdam " + config.MAA.UserAgent),
	})
	if err != nil {
		return err
	}
	s, err := skr.New(skr.Options{Evidence: e, Client: client, KeyDirectory: o.keyDirectory, Log: log})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return pool.Run(ctx) })
	if err := a.listenSKR(ctx, g, o, s, poolReady(pool), log); err != nil {
		return err
	}
	return g.Wait()
}

// poolReady is ready once there was a wrapping key.
func poolReady(p *release.Pool) func(context.Context) error {
	var was atomic.Bool
	return func(context.Context) error {
		if p.Len() > 0 {
			was.Store(true)
		}
		if !was.Load() {
			return errors.New("no wrapping key is made yet")
		}
		return nil
	}
}

// listenSKR opens the listeners, and serves in g.
func (a *app) listenSKR(ctx context.Context, g *errgroup.Group, o *skrOptions, s *skr.Server, ready func(context.Context) error, log *slog.Logger) error {
	if o.serverType != "grpc" {
		srv, err := serve.New(ctx, serve.Options{
			Name: "skr", Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(o.port)), Handler: s, Error: skr.Error, Ready: ready, Log: log,
			Limits: serve.Limits{Request: time.Minute},
		})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(a.Out, "http://"+srv.Addr()); err != nil {
			return fmt.Errorf("writing the answer: %w", err)
		}
		g.Go(func() error { return srv.Run(ctx) })
	}
	if o.serverType == "http" {
		return nil
	}
	port := o.grpcPort
	if o.serverType == "grpc" {
		port = o.port
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(a.Out, "grpc://"+l.Addr().String()); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	server := skr.NewGRPC(s)
	g.Go(func() error {
		if err := server.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("serving gRPC: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		late := time.AfterFunc(skrDrain, server.Stop) // a stream can last
		server.GracefulStop()
		late.Stop()
		return nil
	})
	return nil
}

// roots reads the authorities of servers; nil are the system's.
func (o *skrOptions) roots() (*x509.CertPool, error) {
	if o.authorities == "" {
		return nil, nil //nolint:nilnil // the system's
	}
	b, err := readLimited(o.authorities, nil, maxAuthorities)
	if err != nil {
		return nil, fmt.Errorf("reading the authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("reading the authorities: %s has no certificate in PEM", o.authorities)
	}
	return pool, nil
}

// skrEvidence opens the source of reports and of what belongs to them, and tries it.
func (a *app) skrEvidence(ctx context.Context, o *skrOptions, c *skr.AzureInformation, roots *x509.CertPool) (*skr.Evidence, error) {
	p, err := o.openProvider(ctx)
	if err != nil {
		return nil, err
	}
	e := &skr.Evidence{Provider: p, AllowMismatchedTCB: o.allowMismatched}
	if e.Context, err = skr.ReadContext(a.LookupEnv, ""); err != nil {
		return nil, err
	}
	if e.Certs, err = skr.OpenCerts(&c.CertCache, release.NewHTTPClient(roots), servers.NewLinkLocalHTTPClient()); err != nil {
		return nil, err
	}
	if _, err := e.Raw(ctx, [64]byte{}); err != nil {
		return nil, err
	}
	a.say("source of reports: %s", p.Kind())
	return e, nil
}

func (o *skrOptions) openProvider(ctx context.Context) (attest.Provider, error) {
	kinds := slices.DeleteFunc(slices.Clone(providers()[o.provider]), func(k string) bool { return k == attest.KindSGX })
	if kinds[0] == attest.KindSocket {
		p, err := attest.OpenSocket(o.socket)
		if err == nil {
			return p, nil
		}
		if kinds = kinds[1:]; len(kinds) == 0 {
			return nil, err
		}
	}
	p, err := attest.Open(ctx, kinds...)
	if unavailable, ok := errors.AsType[*attest.UnavailableError](err); ok {
		f := &failure{code: exitError, err: errors.New("this container has no source of attestation reports"),
			fix: "run it in a container of a group, which has " + attest.SocketPath + ", or in a confidential VM as a user who may open the device"}
		for _, t := range unavailable.Attempts {
			f.details = append(f.details, fmt.Sprintf("%s: %v", t.Kind, t.Err))
		}
		return nil, f
	}
	return p, err
}

// skrIdentity says whose access tokens are got, by the environment.
func (a *app) skrIdentity(o *skrOptions, c *skr.AzureInformation, roots *x509.CertPool) release.Credential {
	if o.caller == "none" {
		return nil
	}
	env := func(name string) string {
		v, _ := a.LookupEnv(name)
		return v
	}
	tenant, client := env("AZURE_TENANT_ID"), env("AZURE_CLIENT_ID")
	file, secret := env("AZURE_FEDERATED_TOKEN_FILE"), env("AZURE_CLIENT_SECRET")
	if tenant != "" && client != "" && (file != "" || secret != "") {
		return release.Cached(&release.WorkloadIdentity{
			TenantID: tenant, ClientID: client, TokenFile: file, Secret: secret, Login: env("AZURE_AUTHORITY_HOST"), HTTP: release.NewHTTPClient(roots),
		})
	}
	local := &http.Client{Transport: servers.NewLinkLocalHTTPClient().Transport}
	m := &release.ManagedIdentity{ClientID: c.Identity.ClientID, PrincipalID: c.Identity.PrincipalID, HTTP: local}
	if endpoint, header := env("IDENTITY_ENDPOINT"), env("IDENTITY_HEADER"); endpoint != "" && header != "" {
		m.URL, m.Secret = endpoint, header
	}
	return release.Cached(m)
}
