// SPDX-License-Identifier: Apache-2.0

package attestationcmd

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/collateral"
	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/ratls"
	"cofferdam.dev/verify/appraisal"
)

// serviceOptions say which attestation service is meant, how it is trusted, and who asks.
type serviceOptions struct {
	service, ca, policy          string
	collateral                   []string
	tokenFile                    string
	clientCertificate, clientKey string
	signKey, signCertificate     string
	administers, signs, mustSign bool
}

func (o *serviceOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.service, "service", "", "the service's URL, with its tenant's path if it has one")
	f.StringVar(&o.ca, "ca", "", "PEM file of the authority, or of the certificate itself, that the service's TLS is trusted by")
	f.StringVar(&o.policy, "service-policy", "", "trust the service by its attested TLS, as this appraisal policy says, instead of by an authority")
	f.StringArrayVar(&o.collateral, "service-collateral", nil, "directory with collateral about the service's machine; may be given several times")
	if o.administers {
		f.StringVar(&o.tokenFile, "token-file", "", "file of the bearer token of who administers, such as the service's admin-token")
		f.StringVar(&o.clientCertificate, "client-certificate", "", "client certificate of who administers, in PEM")
		f.StringVar(&o.clientKey, "client-key", "", "its private key in PEM")
	}
	if o.signs {
		f.StringVar(&o.signKey, "sign-key", "", "RSA key that signs the change, in PEM")
		f.StringVar(&o.signCertificate, "sign-certificate", "", "its certificate in PEM, one of the tenant's policy certificates")
	}
}

// check refuses flags that can not be meant.
func (o *serviceOptions) check(cmd *cobra.Command) error {
	u, err := url.Parse(o.service)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "":
		return console.Usage(cmd, fmt.Sprintf("--service is %q; want an https URL", o.service))
	case o.ca != "" && o.policy != "":
		return console.Usage(cmd, "--ca and --service-policy are two ways to trust the service: give one")
	case (o.signKey == "") != (o.signCertificate == ""):
		return console.Usage(cmd, "--sign-key and --sign-certificate go together")
	case (o.clientCertificate == "") != (o.clientKey == ""):
		return console.Usage(cmd, "--client-certificate and --client-key go together")
	case o.mustSign && o.signKey == "":
		return console.Usage(cmd, "--sign-key and --sign-certificate are missing: certificates vouch for each other, and the first one for itself")
	}
	return nil
}

// client returns what speaks to the service.
func (a *App) client(ctx context.Context, o *serviceOptions) (*http.Client, error) {
	c, err := ServiceClient(o.ca)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if t, ok := c.Transport.(*http.Transport); ok {
		config = t.TLSClientConfig
	}
	if o.policy != "" {
		if config, err = a.attestedClient(ctx, o.policy, o.collateral); err != nil {
			return nil, err
		}
	}
	if o.clientCertificate != "" {
		cert, err := tls.LoadX509KeyPair(o.clientCertificate, o.clientKey)
		if err != nil {
			return nil, fmt.Errorf("reading the client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	c.Transport = &http.Transport{TLSClientConfig: config, Proxy: http.ProxyFromEnvironment}
	return c, nil
}

// attestedClient trusts a service whose TLS key lives where an appraisal policy wants it to.
func (a *App) attestedClient(ctx context.Context, file string, dirs []string) (*tls.Config, error) {
	appraiser, err := a.evidence.ReadAppraisalPolicy(ctx, file)
	if err != nil {
		return nil, err
	}
	p := appraiser.Policy()
	if len(p.Evidence) != 1 || len(p.Rules.Modules) > 0 {
		return nil, fmt.Errorf("%s: a policy for a service's TLS accepts one type of evidence, and has no rules", file)
	}
	roots, err := a.evidence.SimulatedRoots("")
	if err != nil {
		return nil, err
	}
	var known []collateral.Source
	for _, d := range dirs {
		known = append(known, collateral.Directory(d))
	}
	o := p.Options(string(p.Evidence[0]), appraisal.Request{SimulatedRoots: roots, Collateral: collateral.Join(known...)})
	return ratls.NewPeers(ratls.PeersOptions{Verify: o}).Client(), nil
}

// signer returns who signs the change; nil when nobody does.
func (o *serviceOptions) signer() (*attestsvc.PolicySigner, error) {
	if o.signKey == "" {
		return nil, nil //nolint:nilnil // not all changes are signed
	}
	cert, err := readCertificateFile(o.signCertificate)
	if err != nil {
		return nil, err
	}
	key, err := readRSAKey(o.signKey)
	if err != nil {
		return nil, err
	}
	return attestsvc.NewPolicySigner(key, cert)
}

func readCertificateFile(name string) (*x509.Certificate, error) {
	b, err := console.ReadLimited(name, nil, console.MaxPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("reading the certificate: %s holds none in PEM", name)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate: %s: %w", name, err)
	}
	return cert, nil
}

func readRSAKey(name string) (*rsa.PrivateKey, error) {
	b, err := console.ReadLimited(name, nil, console.MaxPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("reading the key: %s holds none in PEM", name)
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading the key: %s holds no private key", name)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("reading the key: %s holds a %T; policies are signed with RSA keys", name, parsed)
	}
	return key, nil
}

// ask sends a request and returns the token in the answer.
func (a *App) ask(ctx context.Context, o *serviceOptions, method, path, body string) (string, error) {
	client, err := a.client(ctx, o)
	if err != nil {
		return "", err
	}
	to := strings.TrimSuffix(o.service, "/") + path + "?api-version=" + attestationVersion
	req, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader([]byte(body)))
	if err != nil {
		return "", err
	}
	if body != "" {
		req.Header.Set("Content-Type", "text/plain")
	}
	if o.tokenFile != "" {
		token, err := console.ReadLimited(o.tokenFile, nil, console.MaxPEM)
		if err != nil {
			return "", fmt.Errorf("reading the token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	answer, err := send(client, req)
	if err != nil {
		return "", err
	}
	var t struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(answer, &t); err != nil || strings.Count(t.Token, ".") != 2 {
		return "", errors.New("the service answers something that holds no token")
	}
	return t.Token, nil
}

// send sends a request; a refusal is an error with the service's own words.
func send(client *http.Client, req *http.Request) ([]byte, error) {
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the attestation service: %w", err)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswer))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("asking the attestation service: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return answer, nil
	}
	var e struct {
		Error struct{ Code, Message string }
	}
	if json.Unmarshal(answer, &e) != nil || e.Error.Code == "" {
		return nil, fmt.Errorf("the attestation service answers %s", resp.Status)
	}
	err = fmt.Errorf("the attestation service refuses: %s: %s", e.Error.Code, e.Error.Message)
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
		return nil, &console.Failure{Code: console.ExitRefused, Err: err}
	}
	return nil, err
}
