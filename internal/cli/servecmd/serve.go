// SPDX-License-Identifier: Apache-2.0

package servecmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"sync"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/wholefile"
)

// ServeCommand returns `serve` with all that is below it.
func (a *App) ServeCommand() *cobra.Command {
	return console.Noun("serve", "Be one of the services", a.serveAttestationCommand(), a.serveVaultCommand(), a.serveBrokerCommand(),
		a.serveGroupsCommand(), a.serveAllCommand())
}

// listenConfig is how a service listens. It is part of every service's configuration file.
type listenConfig struct {
	// Listen is the address, host:port.
	Listen string `json:"listen"`
	// Metrics is the address of /metrics; empty serves none.
	Metrics string `json:"metrics"`
	// Certificate and Key are PEM files; without them the service makes a certificate for development.
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
	// ClientCA is a PEM file of the authorities of client certificates.
	ClientCA string `json:"clientCA"`
	// ClientRate is how many requests one address may send per second; zero is no bound.
	ClientRate float64 `json:"clientRate"`
	// Concurrent is how many requests are served at a time.
	Concurrent int `json:"concurrent"`
}

// flags defines the flags that stand for members of the file.
func (c *listenConfig) flags(cmd *cobra.Command, address string) {
	f := cmd.Flags()
	f.StringVar(&c.Listen, "listen", address, "address to listen on")
	f.StringVar(&c.Metrics, "metrics", "", "address of /metrics, without TLS (default: none)")
	f.StringVar(&c.Certificate, "tls-certificate", "", "certificate chain in PEM (default: one for development)")
	f.StringVar(&c.Key, "tls-key", "", "its private key in PEM")
	f.StringVar(&c.ClientCA, "client-ca", "", "authorities of client certificates in PEM")
}

func (c *listenConfig) override(said givenFlags, flags *listenConfig) {
	said.text(&c.Listen, "listen", flags.Listen)
	said.text(&c.Metrics, "metrics", flags.Metrics)
	said.text(&c.Certificate, "tls-certificate", flags.Certificate)
	said.text(&c.Key, "tls-key", flags.Key)
	said.text(&c.ClientCA, "client-ca", flags.ClientCA)
}

// givenFlags lays flags over a configuration file: those that were given win, and others say something only where the
// file does not.
type givenFlags struct{ cmd *cobra.Command }

func (g givenFlags) text(to *string, name, value string) {
	if g.cmd.Flags().Changed(name) || *to == "" {
		*to = value
	}
}

func (g givenFlags) yes(to *bool, name string, value bool) {
	if g.cmd.Flags().Changed(name) {
		*to = value
	}
}

// publicURL fills in the URL that others know the service by: that of the address, if it is one that does not change. Flag
// is the one that would say it, and who are those that need it.
func (c *listenConfig) publicURL(cmd *cobra.Command, public *string, flag, who string) error {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return console.Usage(cmd, fmt.Sprintf("--listen is %q; want HOST:PORT", c.Listen))
	}
	if *public != "" {
		return nil
	}
	if port == "0" || host == "" || net.ParseIP(host).IsUnspecified() {
		return console.Usage(cmd, fmt.Sprintf("--%s is missing: %s need a URL that does not change", flag, who))
	}
	*public = "https://" + c.Listen
	return nil
}

// names are those of the address for which a certificate for development is made.
func (c *listenConfig) names() []string {
	names := []string{"localhost", "127.0.0.1"}
	if host, _, err := net.SplitHostPort(c.Listen); err == nil && host != "" && host != "127.0.0.1" {
		names = append(names, host)
	}
	return names
}

// nameIn is the name in a service's URL, for such a certificate, unless it is one that the certificate has anyway.
func nameIn(service string) []string {
	u, err := url.Parse(service)
	if err != nil || u.Hostname() == "" || u.Hostname() == "127.0.0.1" || u.Hostname() == "localhost" {
		return nil
	}
	return []string{u.Hostname()}
}

// tellAddress says where a service listens: on standard output, and in a file of its state.
func (a *App) tellAddress(srv *serve.Server, state string) error {
	address := "https://" + srv.Addr()
	if err := wholefile.Replace(filepath.Join(state, "address"), []byte(address+"\n"), 0o644); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(a.Out, address); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

// runServer serves until ctx ends, beside work that ends before it returns: what that work uses is closed next.
func runServer(ctx context.Context, srv *serve.Server, background ...func(context.Context)) error {
	ctx, stop := context.WithCancel(ctx)
	var working sync.WaitGroup
	for _, run := range background {
		working.Go(func() { run(ctx) })
	}
	err := srv.Run(ctx)
	stop()
	working.Wait()
	return err
}

// adminConfig is who may administer a service.
type adminConfig struct {
	Certificates []auth.CertificateRule `json:"certificates"`
	OIDC         []auth.OIDCOptions     `json:"oidc"`
}

// authenticator returns who may administer: by the rules, and by the token file of the operator.
func (c *adminConfig) authenticator(tokenFile string, roles ...auth.Role) (auth.Authenticator, error) {
	var all auth.All
	certs, err := auth.NewCertificates(c.Certificates)
	if err != nil {
		return nil, err
	}
	all = append(all, certs)
	for _, o := range c.OIDC {
		one, err := auth.NewOIDC(o)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	file, err := auth.OpenFileToken(tokenFile, roles...)
	if err != nil {
		return nil, err
	}
	return append(all, file), nil
}

// maxConfig bounds a configuration file.
const maxConfig = 1 << 20

// readConfig reads a configuration file in YAML or JSON strictly into v.
func readConfig(name string, v any) error {
	b, err := console.ReadLimited(name, nil, maxConfig)
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	text, err := yaml.YAMLToJSONStrict(b)
	if err == nil {
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.DisallowUnknownFields()
		err = dec.Decode(v)
	}
	if err != nil {
		return fmt.Errorf("reading the configuration: %s: %w", name, err)
	}
	return nil
}

// apply fills in where the service listens, and its limits.
func (c *listenConfig) apply(o *serve.Options) {
	o.Address, o.MetricsAddress = c.Listen, c.Metrics
	o.Limits.ClientRate, o.Limits.Concurrent = c.ClientRate, c.Concurrent
}

// tlsOptions fills in how the service is reached. Without files a certificate for development is made, and its file told.
func (a *App) tlsOptions(o *serve.Options, c *listenConfig, dir string, names []string) error {
	c.apply(o)
	var err error
	switch {
	case (c.Certificate == "") != (c.Key == ""):
		return errors.New("a certificate and its key go together")
	case c.Certificate != "":
		o.TLS, err = serve.TLSFiles(c.Certificate, c.Key, c.ClientCA)
		return err
	case c.ClientCA != "":
		return errors.New("client certificates need a server certificate that is not for development")
	}
	file := filepath.Join(dir, "tls-certificate.pem")
	if o.TLS, err = serve.DevelopmentTLS(file, names); err != nil {
		return err
	}
	a.Say("TLS: a certificate for development, which clients must be told to trust: %s", file)
	return nil
}

// serviceLog is the log of a service, on standard error.
func (a *App) serviceLog() *slog.Logger {
	level := slog.LevelInfo
	if a.Verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewJSONHandler(a.Err, &slog.HandlerOptions{Level: level}))
}
