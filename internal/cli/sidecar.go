// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
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

// Ports of the release sidecar where none is said.
const (
	skrPort     = 8080
	skrGRPCPort = 50000
)

// skrDrain is how long running calls get when the sidecar ends.
const skrDrain = 10 * time.Second

// maxAuthorities bounds a file of certificate authorities, in bytes.
const maxAuthorities = 1 << 20

// skrOptions are the flags of the release sidecar.
type skrOptions struct {
	config, serverType        string
	port, grpcPort            int
	logLevel, logFile         string
	allowMismatched           bool
	inFile, keyPath, outFile  string
	provider, socket, caller  string
	authorities, keyDirectory string
	challenge                 bool
	pool, bits, uses          int
	life                      time.Duration
}

func (a *app) sidecarCommand() *cobra.Command {
	c := noun("sidecar", "Be a sidecar of a container group", a.sidecarSKRCommand())
	// Containers often have no HOME, and a sidecar keeps no state.
	c.PersistentPreRunE = func(*cobra.Command, []string) error { return nil }
	return c
}

func (a *app) sidecarSKRCommand() *cobra.Command {
	o := &skrOptions{}
	c := &cobra.Command{
		Use:   "skr [CONFIGURATION [PORT]]",
		Short: "Give the containers of a group evidence, tokens and released keys",
		Long: `Be the release sidecar of a container group: a small server on the loopback address, from
which the other containers of the group get evidence of the group (/attest/raw,
/attest/combined), an attestation service's token (/attest/maa), keys that a vault releases
to proven code alone (/key/release), and secrets that such a key wraps (/unwrap). The gRPC
server is a key provider for encrypted images. Protocols, environment and flags are those
of the sidecar that container groups on Azure use, so that applications run unchanged.

Configuration is its JSON, as it is or in base64. The environment variables SkrSideCarArgs,
Port, ServerType, LogLevel and LogFile say what flags and arguments do not. Access tokens
for the vault come from the request, or from the group's identity: AZURE_CLIENT_ID and
AZURE_TENANT_ID with AZURE_FEDERATED_TOKEN_FILE or AZURE_CLIENT_SECRET, IDENTITY_ENDPOINT,
or the machine's metadata service.

Reports come from the agent's socket or the processor's device. Where there is none the
sidecar ends with an error: nothing is ever made up.

With --infile a secret is wrapped for the key provider instead, and nothing is served.`,
		Example: `  cofferdam sidecar skr
  cofferdam sidecar skr --server-type both --port 8081 --authorities /run/ca.pem
  cofferdam sidecar skr --infile layer.key --keypath keys/db --outfile annotation.json`,
		Args: arguments(0, 2, "at most a configuration and a port"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.complete(cmd, args, a.LookupEnv); err != nil {
				return err
			}
			if o.inFile != "" {
				return o.wrap()
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return a.serveSKR(ctx, cmd, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.config, "base64", "", "configuration, JSON or that in base64 ($SkrSideCarArgs)")
	f.IntVar(&o.port, "port", 0, "port on the loopback address ($Port; default 8080, or 50000 for grpc alone)")
	f.IntVar(&o.grpcPort, "grpc-port", skrGRPCPort, "port of gRPC, when both are served")
	f.StringVar(&o.serverType, "server-type", "", "http, grpc or both ($ServerType; default http)")
	f.StringVar(&o.logLevel, "loglevel", "", "trace, debug, info, warning, error, fatal or panic ($LogLevel; default info)")
	f.StringVar(&o.logFile, "logfile", "", "file to log to ($LogFile; default: standard error)")
	f.BoolVar(&o.allowMismatched, "allow-testing-mismatched-tcb", false, "send certificates under another TCB, when there are no others; for tests")
	f.StringVar(&o.provider, "provider", autoProvider, "where reports come from: auto, socket, configfs, tdx, sev-guest or sev")
	f.StringVar(&o.socket, "socket", attest.SocketPath, "where the agent's socket is")
	f.StringVar(&o.authorities, "authorities", "", "authorities of the servers and of vaults' answers, in PEM (default: the system's)")
	f.StringVar(&o.caller, "identity", "auto", "whose access tokens a request without one gets: auto or none")
	f.BoolVar(&o.challenge, "challenge", false, "put a nonce of the attestation service into the evidence (cofferdam's has them)")
	f.DurationVar(&o.life, "session-life", release.DefaultSessionLife, "how long a wrapping key and the token over it are used; 0s makes new ones each time")
	f.IntVar(&o.uses, "session-uses", release.DefaultSessionUses, "for how many releases they are used")
	f.IntVar(&o.pool, "pool", 2, "how many wrapping keys are made before they are needed")
	f.IntVar(&o.bits, "wrapping-bits", release.DefaultWrappingBits, "size of wrapping keys: 2048, 3072 or 4096")
	f.StringVar(&o.keyDirectory, "key-directory", "", "directory of public keys that the key provider may wrap with (default: none)")
	f.StringVar(&o.inFile, "infile", "", "secret to wrap")
	f.StringVar(&o.keyPath, "keypath", "", "key to wrap it with: PATH of PATH-info.json")
	f.StringVar(&o.outFile, "outfile", "", "where the wrapped secret is written")
	return c
}

// complete takes over arguments and environment, and checks what came out.
func (o *skrOptions) complete(cmd *cobra.Command, args []string, lookup func(string) (string, bool)) error {
	port := ""
	if cmd.Flags().Changed("port") {
		port = strconv.Itoa(o.port)
	}
	for _, s := range []struct {
		to  *string
		env string
		arg int
	}{{&o.config, "SkrSideCarArgs", 0}, {&port, "Port", 1}, {&o.serverType, "ServerType", -1}, {&o.logLevel, "LogLevel", -1}, {&o.logFile, "LogFile", -1}} {
		if *s.to == "" {
			*s.to, _ = lookup(s.env)
		}
		if *s.to == "" && s.arg >= 0 && s.arg < len(args) {
			*s.to = args[s.arg]
		}
	}
	if o.serverType == "" {
		o.serverType = "http"
	}
	if !slices.Contains([]string{"http", "grpc", "both"}, o.serverType) {
		return usage(cmd, fmt.Sprintf("--server-type is %q; want http, grpc or both", o.serverType))
	}
	if o.port = skrPort; o.serverType == "grpc" {
		o.port = skrGRPCPort
	}
	if port != "" {
		n, err := strconv.Atoi(port)
		if err != nil || n < 0 || n > 65535 {
			return usage(cmd, fmt.Sprintf("the port is %q; want a number up to 65535", port))
		}
		o.port = n
	}
	if o.caller != "auto" && o.caller != "none" {
		return usage(cmd, fmt.Sprintf("--identity is %q; want auto or none", o.caller))
	}
	if _, ok := providers()[o.provider]; !ok || o.provider == "sgx" {
		return usage(cmd, fmt.Sprintf("--provider is %q; want auto, socket, configfs, tdx, sev-guest or sev", o.provider))
	}
	wrapping := 0
	for _, s := range []string{o.inFile, o.keyPath, o.outFile} {
		if s != "" {
			wrapping++
		}
	}
	if wrapping != 0 && wrapping != 3 {
		return usage(cmd, "--infile, --keypath and --outfile go together")
	}
	return nil
}

// wrap wraps a secret for the key provider.
func (o *skrOptions) wrap() error {
	secret, err := readLimited(o.inFile, nil, 1<<10)
	if err != nil {
		return fmt.Errorf("reading the secret: %w", err)
	}
	path, err := filepath.Abs(o.keyPath)
	if err != nil {
		return err
	}
	b, err := skr.WrapOffline("/", strings.TrimPrefix(path, "/"), secret)
	if err != nil {
		return err
	}
	if err := os.WriteFile(o.outFile, b, 0o600); err != nil {
		return fmt.Errorf("writing the wrapped secret: %w", err)
	}
	return nil
}

// log opens the log. Levels are those of the original.
func (o *skrOptions) log(cmd *cobra.Command, to io.Writer) (*slog.Logger, func() error, error) {
	levels := map[string]slog.Level{
		"": slog.LevelInfo, "trace": slog.LevelDebug, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warning": slog.LevelWarn,
		"warn": slog.LevelWarn, "error": slog.LevelError, "fatal": slog.LevelError, "panic": slog.LevelError,
	}
	level, ok := levels[strings.ToLower(o.logLevel)]
	if !ok {
		return nil, nil, usage(cmd, fmt.Sprintf("--loglevel is %q; want trace, debug, info, warning, error, fatal or panic", o.logLevel))
	}
	end := func() error { return nil }
	if o.logFile != "" {
		f, err := os.OpenFile(o.logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return nil, nil, fmt.Errorf("opening the log: %w", err)
		}
		to, end = f, f.Close
	}
	return slog.New(slog.NewJSONHandler(to, &slog.HandlerOptions{Level: level})), end, nil
}

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
