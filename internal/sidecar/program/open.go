// SPDX-License-Identifier: Apache-2.0

package program

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"cofferdam.dev/attest"
	servers "cofferdam.dev/collateral/remote"
	"cofferdam.dev/internal/sidecar/skr"
	"cofferdam.dev/release"
)

// EnvAuthorities has certificate authorities in PEM, as they are or in base64. A group's policy pins its environment, and
// not the files of a volume: whom a sidecar trusts belongs here, or into its image.
const EnvAuthorities = "COFFERDAM_AUTHORITIES"

// maxAuthorities bounds a file of certificate authorities, in bytes.
const maxAuthorities = 1 << 20

// autoProvider stands for the first source of reports that is there.
const autoProvider = "auto"

// providers are the kinds of sources of reports, by the names that flags have for them.
var providers = map[string][]string{
	autoProvider: {attest.KindSocket, attest.KindConfigfs, attest.KindTDX, attest.KindSEVGuest, attest.KindSEV},
	"socket":     {attest.KindSocket}, "configfs": {attest.KindConfigfs}, "tdx": {attest.KindTDX},
	"sev-guest": {attest.KindSEVGuest}, "sev": {attest.KindSEV},
}

// open opens what the sidecar stands on.
func (o *SKR) open(ctx context.Context, p Process, log *slog.Logger) (*skr.Server, *release.Pool, error) {
	config, err := skr.ParseAzureInformation(o.config)
	if err != nil {
		return nil, nil, err
	}
	c, err := o.connect(ctx, p, config, log)
	if err != nil {
		return nil, nil, err
	}
	s, err := skr.New(skr.Options{Evidence: c.evidence, Client: c.client, KeyDirectory: o.keyDirectory, Log: log})
	return s, c.pool, err
}

// connection is what has keys released.
type connection struct {
	evidence   *skr.Evidence
	client     *release.Client
	pool       *release.Pool
	roots      *x509.CertPool
	credential release.Credential
}

// connect opens what has keys released.
func (o *SKR) connect(ctx context.Context, p Process, config *skr.AzureInformation, log *slog.Logger) (*connection, error) {
	roots, err := o.roots(p.LookupEnv)
	if err != nil {
		return nil, err
	}
	c := &connection{roots: roots, credential: o.credential(p.LookupEnv, config, roots)}
	if c.evidence, err = o.evidence(ctx, p, config, roots, log); err != nil {
		return nil, err
	}
	if c.pool, err = release.NewPool(o.pool, o.bits); err != nil {
		return nil, err
	}
	life := o.life
	if life == 0 {
		life = -1
	}
	c.client, err = release.New(release.Options{
		Attester: c.evidence, Pool: c.pool, Roots: roots, Credential: c.credential, SessionLife: life, SessionUses: o.uses,
		Challenge: o.challenge, UserAgent: strings.TrimSpace("cofferdam " + config.MAA.UserAgent),
	})
	return c, err
}

// roots reads the authorities of servers; nil are the system's.
func (o *SKR) roots(lookup func(string) (string, bool)) (*x509.CertPool, error) {
	where, text := o.authorities, []byte(nil)
	if where != "" {
		b, err := readFile(where, maxAuthorities)
		if err != nil {
			return nil, fmt.Errorf("reading the authorities: %w", err)
		}
		text = b
	} else {
		v, _ := lookup(EnvAuthorities)
		if strings.TrimSpace(v) == "" {
			return nil, nil //nolint:nilnil // the system's
		}
		where, text = EnvAuthorities, []byte(v)
		if !strings.Contains(v, "-----BEGIN") {
			b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(v), ""))
			if err != nil {
				return nil, fmt.Errorf("reading the authorities: %s is neither PEM nor that in base64", EnvAuthorities)
			}
			text = b
		}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("reading the authorities: %s has no certificate in PEM", where)
	}
	return pool, nil
}

// evidence opens the source of reports and of what belongs to them, and tries it.
func (o *SKR) evidence(ctx context.Context, p Process, c *skr.AzureInformation, roots *x509.CertPool, log *slog.Logger) (*skr.Evidence, error) {
	source, err := o.openProvider(ctx)
	if err != nil {
		return nil, err
	}
	e := &skr.Evidence{Provider: source, AllowMismatchedTCB: o.allowMismatched}
	if e.Context, err = skr.ReadContext(p.LookupEnv, ""); err != nil {
		return nil, err
	}
	if e.Certs, err = skr.OpenCerts(&c.CertCache, release.NewHTTPClient(roots), servers.NewLinkLocalHTTPClient()); err != nil {
		return nil, err
	}
	if _, err := e.Raw(ctx, [64]byte{}); err != nil {
		return nil, err
	}
	log.Info("reports have a source", slog.String("kind", source.Kind()))
	return e, nil
}

func (o *SKR) openProvider(ctx context.Context) (attest.Provider, error) {
	kinds := providers[o.provider]
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
	if err != nil {
		return nil, fmt.Errorf("this container has no source of attestation reports: in a group it would be %s: %w", attest.SocketPath, err)
	}
	return p, nil
}

// credential says whose access tokens are got, by the environment.
func (o *SKR) credential(lookup func(string) (string, bool), c *skr.AzureInformation, roots *x509.CertPool) release.Credential {
	if o.caller == "none" {
		return nil
	}
	env := func(name string) string {
		v, _ := lookup(name)
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
