// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/time/rate"
)

// oidcAlgorithms are those that tokens may be signed with: public-key ones alone.
var oidcAlgorithms = []string{"RS256", "ES256", "ES384", "PS256"}

// retryProvider is how long a provider that could not be asked for its configuration is left alone.
const retryProvider = 10 * time.Second

// fetchRate and fetchBurst bound how often a provider is asked per second: a token that names a key which nobody knows
// makes the keys be fetched, and anybody can send such tokens.
const (
	fetchRate  = 1
	fetchBurst = 5
)

// sparing asks no more often than its limiter allows.
type sparing struct {
	limiter *rate.Limiter
	next    http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (s *sparing) RoundTrip(r *http.Request) (*http.Response, error) {
	if !s.limiter.Allow() {
		return nil, errors.New("the provider was asked too often")
	}
	if s.next == nil {
		return http.DefaultTransport.RoundTrip(r)
	}
	return s.next.RoundTrip(r)
}

// OIDCRule gives roles to tokens in which a claim has a value. A claim that is a list has each of its values.
type OIDCRule struct {
	Claim string `json:"claim"`
	Value string `json:"value"`
	Roles []Role `json:"roles"`
}

// OIDCOptions say whose tokens are taken.
type OIDCOptions struct {
	// Issuer is the provider's URL, https except on loopback addresses.
	Issuer string `json:"issuer"`
	// Audience must be in the token.
	Audience string     `json:"audience"`
	Rules    []OIDCRule `json:"rules"`

	// Client asks the provider; nil is one with a time limit.
	Client *http.Client `json:"-"`
	// Now is the clock; nil is the machine's.
	Now func() time.Time `json:"-"`
}

// OIDC knows whoever has a token of an OpenID provider. The provider is asked for its keys when a token needs them, and
// they are kept until a token names another key.
type OIDC struct {
	opts OIDCOptions

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier
	failed   time.Time
}

// NewOIDC returns an authenticator. It does not need the provider to be up.
func NewOIDC(opts OIDCOptions) (*OIDC, error) {
	u, err := url.Parse(opts.Issuer)
	if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return nil, fmt.Errorf("OIDC issuer %q is no https URL", opts.Issuer)
	}
	if opts.Audience == "" {
		return nil, fmt.Errorf("OIDC issuer %q: no audience is given", opts.Issuer)
	}
	for i, r := range opts.Rules {
		if r.Claim == "" || r.Value == "" || len(r.Roles) == 0 {
			return nil, fmt.Errorf("OIDC issuer %q: rule %d lacks claim, value or roles", opts.Issuer, i)
		}
	}
	c := http.Client{Timeout: 10 * time.Second}
	if opts.Client != nil {
		c = *opts.Client
	}
	c.Transport = &sparing{rate.NewLimiter(fetchRate, fetchBurst), c.Transport}
	opts.Client = &c
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &OIDC{opts: opts}, nil
}

func isLoopback(host string) bool { return host == "127.0.0.1" || host == "::1" }

// Authenticate implements Authenticator.
func (o *OIDC) Authenticate(r *http.Request) (*Identity, error) {
	raw, err := Bearer(r)
	if err != nil {
		return nil, err
	}
	if !o.mine(raw) {
		return nil, ErrNoCredentials
	}
	verifier, err := o.provider(r.Context())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	token, err := verifier.Verify(oidc.ClientContext(r.Context(), o.opts.Client), raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrCredentials, strings.ReplaceAll(err.Error(), raw, "…"))
	}
	var claims map[string]json.RawMessage
	if err := token.Claims(&claims); err != nil {
		return nil, fmt.Errorf("%w: its claims are no object", ErrCredentials)
	}
	id := &Identity{Method: "oidc", Issuer: token.Issuer, Subject: token.Subject}
	for _, rule := range o.opts.Rules {
		if slices.Contains(texts(claims[rule.Claim]), rule.Value) {
			id.Roles = append(id.Roles, rule.Roles...)
		}
	}
	return id, nil
}

// mine reports whether a token says that it is of this issuer. It only chooses who judges it.
func (o *OIDC) mine(raw string) bool {
	var algs []jose.SignatureAlgorithm
	for _, a := range oidcAlgorithms {
		algs = append(algs, jose.SignatureAlgorithm(a))
	}
	token, err := jwt.ParseSigned(raw, algs)
	if err != nil {
		return false
	}
	var claims jwt.Claims
	return token.UnsafeClaimsWithoutVerification(&claims) == nil && claims.Issuer == o.opts.Issuer
}

// provider returns the verifier, which the provider's discovery document is needed for once.
func (o *OIDC) provider(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.verifier != nil {
		return o.verifier, nil
	}
	if since := o.opts.Now().Sub(o.failed); since >= 0 && since < retryProvider {
		return nil, errors.New("the provider did not answer a moment ago")
	}
	// The key set outlives the request, so it may not be made with the request's context.
	lasting := oidc.ClientContext(context.WithoutCancel(ctx), o.opts.Client)
	p, err := oidc.NewProvider(lasting, o.opts.Issuer)
	if err != nil {
		o.failed = o.opts.Now()
		return nil, fmt.Errorf("asking the provider for its configuration: %w", err)
	}
	o.verifier = p.VerifierContext(lasting, &oidc.Config{
		ClientID: o.opts.Audience, SupportedSigningAlgs: oidcAlgorithms, Now: o.opts.Now,
	})
	return o.verifier, nil
}

// texts returns a claim's text, or those in its list.
func texts(raw json.RawMessage) []string {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}
	}
	var list []string
	if json.Unmarshal(raw, &list) == nil {
		return list
	}
	return nil
}
