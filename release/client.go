// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// What a client does unless it is told otherwise.
const (
	// DefaultSessionLife is how long a wrapping key and the token about it are used.
	DefaultSessionLife = 5 * time.Minute
	// DefaultSessionUses is for how many releases they are used.
	DefaultSessionUses = 256
	// maxSessions bounds the attestation services with which there is a session, and the vaults whose audience is known.
	maxSessions = 64
	// margin is how long before its end a token is not shown any more.
	margin = 30 * time.Second
	// stale is the age from which a refused token is replaced once: the services may have changed since.
	stale = 10 * time.Second
)

// Options are what a client is made of.
type Options struct {
	// Attester obtains the guest's evidence.
	Attester Attester
	// Pool has wrapping keys. Somebody should Run it.
	Pool *Pool
	// HTTP makes the connections to the servers; nil is NewHTTPClient(Roots).
	HTTP *http.Client
	// Roots are the authorities whose certificates may sign vaults' answers; nil are the system's.
	Roots *x509.CertPool
	// Credential gets access tokens for requests that bring none. Nil gets none.
	Credential Credential
	// SessionLife and SessionUses bound how long one wrapping key is used with one token of an attestation service; zero
	// is the default. A negative SessionLife has a key and a token made for each release.
	SessionLife time.Duration
	SessionUses int
	// Challenge puts a nonce of the attestation service into the evidence. The service of this module can require it;
	// Azure's has none.
	Challenge bool
	// UserAgent is sent with requests when it is not empty.
	UserAgent string
	// Now is the clock; nil is the machine's.
	Now func() time.Time
}

// Client has keys released. It is safe for concurrent use.
type Client struct {
	opts Options

	mu        sync.Mutex
	sessions  map[string]*slot
	audiences map[string]string

	beginning flights[*session]
}

// New returns a client.
func New(o Options) (*Client, error) {
	if o.Attester == nil || o.Pool == nil {
		return nil, malformed("a client needs a source of evidence and a pool of wrapping keys")
	}
	if o.HTTP == nil {
		o.HTTP = NewHTTPClient(o.Roots)
	}
	if o.SessionLife == 0 {
		o.SessionLife = DefaultSessionLife
	}
	if o.SessionUses == 0 {
		o.SessionUses = DefaultSessionUses
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Client{opts: o, sessions: map[string]*slot{}, audiences: map[string]string{}}, nil
}

// Request asks for a key.
type Request struct {
	// Attestation and Vault are endpoints: host names or https URLs.
	Attestation, Vault string
	// Key is the key's name, and a version of it if not the newest is wanted.
	Key KeyName
	// AccessToken says to the vault who asks. When it is empty the client's credential gets one.
	AccessToken string
	// Format is one of Formats; empty is DefaultFormat.
	Format string
}

// Release has a key released. It is asked for each time: nothing that a vault released is kept.
func (c *Client) Release(ctx context.Context, r *Request) (*Key, error) {
	return withSession(ctx, c, r, (*Vault).Release)
}

// ReleaseSecret has a secret released, whose name is in the request as a key's.
func (c *Client) ReleaseSecret(ctx context.Context, r *Request) (*Secret, error) {
	return withSession(ctx, c, r, (*Vault).ReleaseSecret)
}

// withSession has something released in the current session, and once more in a new one when it is refused in one that is
// not fresh.
func withSession[T any](ctx context.Context, c *Client, r *Request, ask func(*Vault, context.Context, KeyName, string, *WrappingKey, string, string) (T, error)) (T, error) {
	var none T
	format := r.Format
	if format == "" {
		format = DefaultFormat
	}
	if !slices.Contains(Formats(), format) {
		return none, malformed("the format %q is unknown; want one of %s", clean(format), strings.Join(Formats(), ", "))
	}
	if _, err := ParseEndpoint(r.Vault); err != nil {
		return none, err
	}
	var old *session
	for {
		s, err := c.session(ctx, r.Attestation, format, old)
		if err != nil {
			return none, err
		}
		v := c.vault(r.Vault)
		var out T
		err = c.authorized(ctx, v, r.AccessToken, func(accessToken string) error {
			var err error
			out, err = ask(v, ctx, r.Key, s.token, s.key, accessToken, format)
			return err
		})
		if err == nil || old != nil || c.opts.Now().Sub(s.begun) < stale || !refused(err) {
			return out, err
		}
		old = s
	}
}

// refused reports whether a vault did not like the token that it was shown.
func refused(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Server == KeyVault && (e.Status == http.StatusForbidden || e.Status == http.StatusBadRequest)
}

// Secret returns the value of a secret in a vault. It is not released: whoever has the access token gets it.
func (c *Client) Secret(ctx context.Context, vault string, name KeyName, accessToken string) (string, error) {
	v := c.vault(vault)
	var text string
	err := c.authorized(ctx, v, accessToken, func(accessToken string) error {
		var err error
		text, err = v.Secret(ctx, name, accessToken)
		return err
	})
	return text, err
}

// Authorized calls a function with an access token that says to a vault who asks: one of the client's credential, or an empty
// one where the vault does not want to know. When the function's error wraps ErrUnauthorized the token is replaced once. It is
// for requests of a vault that this package does not make.
func (c *Client) Authorized(ctx context.Context, vault string, f func(accessToken string) error) error {
	return c.authorized(ctx, c.vault(vault), "", f)
}

// Token has evidence for the caller's own runtime data appraised, and returns the attestation service's token.
func (c *Client) Token(ctx context.Context, attestation string, runtimeData []byte) (string, error) {
	if _, err := ParseEndpoint(attestation); err != nil {
		return "", err
	}
	e, err := evidenceFor(ctx, c.opts.Attester, runtimeData)
	if err != nil {
		return "", err
	}
	return c.attestation(attestation).Token(ctx, e, runtimeData, "")
}

func (c *Client) vault(endpoint string) *Vault {
	return &Vault{Endpoint: endpoint, HTTP: c.opts.HTTP, Roots: c.opts.Roots, UserAgent: c.opts.UserAgent, Now: c.opts.Now}
}

func (c *Client) attestation(endpoint string) *Attestation {
	return &Attestation{Endpoint: endpoint, HTTP: c.opts.HTTP, UserAgent: c.opts.UserAgent}
}

// authorized calls a function with an access token: the caller's own, or one of the credential, which is replaced once when
// the vault does not take it.
func (c *Client) authorized(ctx context.Context, v *Vault, accessToken string, f func(string) error) error {
	if accessToken != "" || c.opts.Credential == nil {
		return f(accessToken)
	}
	u, err := ParseEndpoint(v.Endpoint)
	if err != nil {
		return err
	}
	for again := false; ; again = true {
		resource, err := c.audience(ctx, v, u)
		if err != nil {
			return err
		}
		if resource == "" {
			return f("")
		}
		t, err := c.opts.Credential.AccessToken(ctx, resource)
		if err != nil {
			return err
		}
		err = f(t.Value)
		cache, ok := c.opts.Credential.(*cachedCredential)
		if again || !ok || !errors.Is(err, ErrUnauthorized) {
			return err
		}
		cache.forget(resource)
	}
}

func (c *Client) audience(ctx context.Context, v *Vault, u *url.URL) (string, error) {
	c.mu.Lock()
	resource, ok := c.audiences[u.Host]
	c.mu.Unlock()
	if ok {
		return resource, nil
	}
	resource, err := v.audience(ctx, u)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.audiences) >= maxSessions {
		clear(c.audiences)
	}
	c.audiences[u.Host] = resource
	return resource, nil
}
