// SPDX-License-Identifier: Apache-2.0

package keycmd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/attestationcmd"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/vault/client"
	"cofferdam.dev/release"
)

// VaultOptions say which vault is meant, how it is trusted, and who asks.
type VaultOptions struct {
	Vault, ca, tokenFile, clientCertificate, clientKey string
	// version is the API version, token an access token that a configuration file brought.
	version, token string
}

// aboutVault is what the help of each of these commands says about the vault.
const aboutVault = `
The vault is --vault, else $COFFERDAM_VAULT, else the one that ` + "`cofferdam serve all`" + ` or
` + "`cofferdam serve vault`" + ` runs with this state directory, whose operator's token is then used.`

// Flags gives a command the flags that say which vault is asked, and as whom.
func (o *VaultOptions) Flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.Vault, "vault", "", "the vault's URL: ours, an Azure key vault or managed HSM (default $COFFERDAM_VAULT)")
	f.StringVar(&o.ca, "ca", "", "PEM file of the authority that the vault's TLS is trusted by (default $COFFERDAM_VAULT_CA)")
	f.StringVar(&o.tokenFile, "token-file", "", "file of the access token, - for standard input (default $COFFERDAM_VAULT_TOKEN_FILE)")
	f.StringVar(&o.clientCertificate, "client-certificate", "", "client certificate of who asks, in PEM, instead of a token")
	f.StringVar(&o.clientKey, "client-key", "", "its private key in PEM")
}

// Complete fills in what the flags leave open, from the environment and then from the vault of this state directory.
func (o *VaultOptions) Complete(a *App) {
	for name, at := range map[string]*string{"COFFERDAM_VAULT": &o.Vault, "COFFERDAM_VAULT_CA": &o.ca, "COFFERDAM_VAULT_TOKEN_FILE": &o.tokenFile} {
		if *at == "" && (at != &o.tokenFile || o.token == "") {
			*at, _ = a.LookupEnv(name)
		}
	}
	if o.Vault != "" || o.domainVault(a.Home) {
		return
	}
	state := filepath.Join(a.Home, "vault")
	address, err := os.ReadFile(filepath.Join(state, "address"))
	if err != nil {
		return // then there is none, which check says
	}
	o.Vault = strings.TrimSpace(string(address))
	if o.ca == "" {
		o.ca = filepath.Join(state, "tls-certificate.pem")
	}
	if o.tokenFile == "" && o.clientCertificate == "" && o.token == "" {
		o.tokenFile = filepath.Join(state, "admin-token")
	}
}

// check refuses flags that can not be meant.
func (o *VaultOptions) check(cmd *cobra.Command) error {
	if o.Vault == "" {
		return console.Usage(cmd, "--vault is missing, and no vault runs with this state directory")
	}
	u, err := url.Parse(o.Vault)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil:
		return console.Usage(cmd, fmt.Sprintf("--vault is %q; want an https URL", o.Vault))
	case (o.clientCertificate == "") != (o.clientKey == ""):
		return console.Usage(cmd, "--client-certificate and --client-key go together")
	}
	return nil
}

// VaultClient returns what speaks to the vault. Standard input can be read for one thing alone; input is what else it is
// wanted for, or empty.
func (a *App) VaultClient(cmd *cobra.Command, o *VaultOptions, input string) (*client.Client, error) {
	o.Complete(a)
	if err := o.check(cmd); err != nil {
		return nil, err
	}
	if o.tokenFile == "-" && input == "-" {
		return nil, console.Usage(cmd, "standard input can not be the token and something else")
	}
	c, err := attestationcmd.ServiceClient(o.ca)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if t, ok := c.Transport.(*http.Transport); ok {
		config = t.TLSClientConfig
	}
	if o.clientCertificate != "" {
		cert, err := tls.LoadX509KeyPair(o.clientCertificate, o.clientKey)
		if err != nil {
			return nil, fmt.Errorf("reading the client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	c.Transport = &http.Transport{TLSClientConfig: config, Proxy: http.ProxyFromEnvironment}
	token := o.token
	if o.tokenFile != "" {
		b, err := console.ReadLimited(o.tokenFile, a.In, MaxToken)
		if err != nil {
			return nil, fmt.Errorf("reading the access token: %w", err)
		}
		token = strings.TrimSpace(string(b))
		if token == "" || strings.ContainsAny(token, " \r\n\t") {
			return nil, fmt.Errorf("reading the access token: %s holds none", o.tokenFile)
		}
	}
	return &client.Client{URL: o.Vault, HTTP: c, Token: token, Version: o.version}, nil
}

// MaxToken bounds a file with a token in bytes.
const MaxToken = 64 << 10

// ParseObject reads "name" or "name/version".
func ParseObject(cmd *cobra.Command, k ObjectKind, text string, versioned bool) (release.KeyName, error) {
	n, err := release.ParseKeyName(text)
	switch {
	case err != nil:
		return n, console.Usage(cmd, fmt.Sprintf("%q is no %s's name: letters, digits and hyphens, and perhaps /VERSION", text, k.noun))
	case n.Version != "" && !versioned:
		return n, console.Usage(cmd, fmt.Sprintf("%q has a version; want the name of the %s, of which all versions are meant", text, k.noun))
	}
	return n, nil
}

// skrFixes are what to do about errors of secure key release, by their numbers.
var skrFixes = map[string]string{
	"AKV.SKR.1001": "a premium vault, or a managed HSM",
	"AKV.SKR.1003": "a key of another name: whether a key is exportable never changes",
	"AKV.SKR.1004": "--release-policy FILE; cofferdam key policy make writes one",
	"AKV.SKR.1005": "--exportable, if the key is to be released",
	"AKV.SKR.1006": "a type that ends with -HSM",
	"AKV.SKR.1016": "the name without a version",
	"AKV.SKR.1020": "a key of another name: this policy was made immutable",
}

// VaultFailure says what to do about an error of a vault.
func VaultFailure(o *VaultOptions, k ObjectKind, name string, err error) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*client.Error](err)
	if !ok {
		if unknown, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
			return console.Fixed(fmt.Errorf("asking the vault: %w", unknown), "--ca FILE with the authority of the vault's certificate (ours for development: tls-certificate.pem)")
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			return console.Fixed(err, "cofferdam serve vault, or the URL of a vault that runs: --vault URL")
		}
		return err
	}
	f := &console.Failure{Code: console.ExitError, Err: err}
	switch {
	case e.Status == http.StatusUnauthorized:
		f.Code, f.Fix = console.ExitRefused, "--token-file FILE with an access token"
		if e.Resource != "" {
			f.Fix += fmt.Sprintf(" for %s of %s", e.Resource, e.Authorization)
		}
	case e.Status == http.StatusForbidden && e.Release != "":
		f.Code, f.Fix = console.ExitRefused, fmt.Sprintf("cofferdam key explain %s --vault %s (with the operator's token)", e.Release, o.Vault)
		f.Details = []string{"release: " + e.Release}
	case e.Status == http.StatusForbidden:
		f.Code = console.ExitRefused
	case e.Status == http.StatusNotFound && name != "":
		f.Fix = fmt.Sprintf("cofferdam %s list, or with --deleted", k.noun)
	case e.Status == http.StatusConflict:
		f.Fix = fmt.Sprintf("cofferdam %s recover %s, or cofferdam %s purge %s", k.noun, name, k.noun, name)
	}
	for number, fix := range skrFixes {
		if strings.Contains(e.Message, number) {
			f.Fix = fix
		}
	}
	return f
}
