// SPDX-License-Identifier: Apache-2.0

// Package devissuer is a token issuer for development: clients of the vault that know Azure's sign-in get tokens from it
// as from there, by the OAuth 2.0 client credentials grant, without an identity provider having to be set up.
//
// It trusts whoever knows a client's secret, and keeps no secret itself but hashes of them. Its signing keys live and die
// with the process. It never stores a token, never issues one for another audience than those that it was configured
// with, and every token says that it is for development. With no client it issues nothing.
package devissuer

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/token"
)

// DefaultLife is how long a token is valid.
const DefaultLife = time.Hour

// keyLife is how long a signing key signs before the next one does.
const keyLife = 24 * time.Hour

// minSecret is the least length of a client's secret in bytes, that of 128 bits in base32.
const minSecret = 26

// Client is who may get tokens.
type Client struct {
	// ID names the client.
	ID string
	// Secret is what it proves itself with. New keeps its hash alone.
	Secret string
	// Roles are put into its tokens.
	Roles []auth.Role
}

// String names the client without its secret.
func (c Client) String() string { return fmt.Sprintf("client %q", c.ID) }

// GoString is String, so that no format prints the secret.
func (c Client) GoString() string { return c.String() }

// Options are what an issuer is made of.
type Options struct {
	// URL is where the issuer is reached, without the tenant: https://host[:port].
	URL string
	// Tenant is the first element of the issuer's paths, as a tenant's ID is there.
	Tenant string
	// Audiences are the resources for which tokens are issued.
	Audiences []string
	Clients   []Client
	// Life is how long a token is valid; zero is DefaultLife.
	Life time.Duration
	// Now is the clock; nil is the machine's.
	Now func() time.Time
}

// client is what is kept of a Client.
type client struct {
	secret [sha256.Size]byte
	roles  []auth.Role
}

// Issuer issues tokens and knows its own again. It is an http.Handler for the paths below its tenant's, and an
// auth.Authenticator.
type Issuer struct {
	opts    Options
	clients map[string]client
	ring    *token.Ring

	mu   sync.RWMutex
	keys []token.PublicKey
}

var _ auth.Authenticator = (*Issuer)(nil)

// New returns an issuer with a fresh signing key.
func New(ctx context.Context, opts Options) (*Issuer, error) {
	i, err := newIssuer(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("development token issuer: %w", err)
	}
	return i, nil
}

func newIssuer(ctx context.Context, opts Options) (*Issuer, error) {
	opts.URL = strings.TrimSuffix(opts.URL, "/")
	u, err := url.Parse(opts.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "" {
		return nil, fmt.Errorf("URL %q is not https://host", opts.URL)
	}
	if !tenantName(opts.Tenant) {
		return nil, fmt.Errorf("tenant %q is not letters, digits, dots and hyphens", opts.Tenant)
	}
	if len(opts.Audiences) == 0 || slices.Contains(opts.Audiences, "") {
		return nil, errors.New("there is no audience")
	}
	if opts.Life == 0 {
		opts.Life = DefaultLife
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	i := &Issuer{opts: opts, clients: map[string]client{}}
	for _, c := range opts.Clients {
		if _, twice := i.clients[c.ID]; twice || c.ID == "" || len(c.Secret) < minSecret || len(c.Roles) == 0 {
			return nil, fmt.Errorf("%v occurs twice, has no ID or role, or a secret of less than %d bytes", c, minSecret)
		}
		i.clients[c.ID] = client{sha256.Sum256([]byte(c.Secret)), slices.Clone(c.Roles)}
	}
	i.opts.Clients = nil // the secrets are not needed any more
	i.ring, err = token.NewRing(ctx, token.RingOptions{
		Algorithms: []token.Algorithm{token.ES256}, Name: "cofferdam development tokens", Signs: keyLife, TokenLife: opts.Life,
		Publish: i.publish, Now: opts.Now,
	})
	return i, err
}

// tenantName reports whether clients take the text for a tenant's ID.
func tenantName(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") == ""
}

// publish adds a key to those by which tokens are verified, and drops those whose last token has expired.
func (i *Issuer) publish(_ context.Context, k token.PublicKey) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.opts.Now()
	i.keys = slices.DeleteFunc(i.keys, func(k token.PublicKey) bool { return now.After(k.Expires.Add(token.Skew)) })
	i.keys = append(i.keys, k)
	return nil
}

func (i *Issuer) published() []token.PublicKey {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return slices.Clone(i.keys)
}

// Authority is the URL at which clients ask for tokens: what the vault names in its challenge.
func (i *Issuer) Authority() string { return i.opts.URL + "/" + i.opts.Tenant }

// Issuer is the issuer that tokens name.
func (i *Issuer) Issuer() string { return i.Authority() + "/v2.0" }

// Owns reports whether a path is one of the issuer's.
func (i *Issuer) Owns(path string) bool { return strings.HasPrefix(path, "/"+i.opts.Tenant+"/") }

// claims are those of a token.
type claims struct {
	Issuer    string      `json:"iss"`
	Subject   string      `json:"sub"`
	Audience  string      `json:"aud"`
	IssuedAt  int64       `json:"iat"`
	NotBefore int64       `json:"nbf"`
	Expires   int64       `json:"exp"`
	ID        string      `json:"jti"`
	Client    string      `json:"azp"`
	Tenant    string      `json:"tid"`
	Version   string      `json:"ver"`
	Roles     []auth.Role `json:"roles"`
	// Development says that nobody but the vault itself vouches for the subject.
	Development bool `json:"x-cofferdam-development"`
}

// Authenticate implements auth.Authenticator: it knows whoever has one of the issuer's tokens. What a client may do is
// what it is configured with now, not what its token says.
func (i *Issuer) Authenticate(r *http.Request) (*auth.Identity, error) {
	raw, err := auth.Bearer(r)
	if err != nil {
		return nil, err
	}
	if !i.mine(raw) {
		return nil, auth.ErrNoCredentials
	}
	var payload json.RawMessage
	for _, audience := range i.opts.Audiences {
		payload, err = token.Verify(raw, token.Expect{
			Keys: i.published(), Algorithms: []token.Algorithm{token.ES256}, Issuer: i.Issuer(), Audience: audience, Now: i.opts.Now(),
		})
		if !errors.Is(err, token.ErrAudience) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", auth.ErrCredentials, err)
	}
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil {
		return nil, fmt.Errorf("%w: its claims are malformed", auth.ErrCredentials)
	}
	known, ok := i.clients[c.Subject]
	if !ok {
		return nil, fmt.Errorf("%w: its client is not known", auth.ErrCredentials)
	}
	return &auth.Identity{Method: "oidc", Issuer: c.Issuer, Subject: c.Subject, Roles: known.roles}, nil
}
