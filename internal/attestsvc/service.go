// SPDX-License-Identifier: Apache-2.0

package attestsvc

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/maapolicy"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/token"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/anchor"
	rules "cofferdam.dev/verify/appraisal"
	"cofferdam.dev/verify/check"
	"cofferdam.dev/verify/intel"
)

// DefaultTenant is the tenant of requests that name none.
const DefaultTenant = "default"

const (
	// TokenLife is how long a token is valid when the policy says nothing.
	TokenLife = 8 * time.Hour
	// KeysAhead is how long before its first use a signing key is among the published ones, but for the first keys of an
	// instance. Whoever keeps a copy of the key set must ask again within less.
	KeysAhead = time.Hour
	// maxTokenLife bounds what a policy may say.
	maxTokenLife = 24 * time.Hour
	// maxDrafts bounds the drafts of policies that are tried at a time.
	maxDrafts = 2
	// cacheSize is the number of verified signatures that are remembered.
	cacheSize = 4096
)

// Options are what a service is made of.
type Options struct {
	// Issuer is the service's URL without a final slash; tenants other than the default one have theirs below it.
	Issuer string
	// Baseline is what is asked of all evidence.
	Baseline Baseline
	// Store has policies, public keys and used nonces. It may be shared with other instances.
	Store store.Store
	// Audit is written before anything is signed.
	Audit *audit.Log
	// RequireNonce refuses requests without a nonce of the challenge endpoint, and evidence that is not bound to it.
	RequireNonce bool
	// RefuseReplays refuses evidence that was accepted before, for as long as its token lives.
	RefuseReplays bool
	// CacheSize is the number of verified signatures that are remembered: zero is a few thousand, less is none.
	CacheSize int
	// Log gets what operators need to know, and nothing of tenants or evidence.
	Log *slog.Logger
	// Now is the clock; nil is the machine's.
	Now func() time.Time
}

// Service is the attestation service. It is safe for concurrent use.
type Service struct {
	opts      Options
	ring      *token.Ring
	facts     *anchor.Cache
	quotes    *intel.Cache
	appraiser *rules.Appraiser
	policies  parsedPolicies
	nonceKey  []byte
	// drafts holds a place for each draft that is tried: what a policy of anybody's may use, only a few may at a time.
	drafts chan struct{}
}

// New starts a service: it makes signing keys and publishes them in the store.
func New(ctx context.Context, opts Options) (*Service, error) {
	if opts.Issuer == "" || strings.HasSuffix(opts.Issuer, "/") || opts.Store == nil || opts.Audit == nil {
		return nil, errors.New("attestation service: issuer (without a final slash), store and audit log must be given")
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.CacheSize == 0 {
		opts.CacheSize = cacheSize
	}
	s := &Service{opts: opts, drafts: make(chan struct{}, maxDrafts)}
	if opts.CacheSize > 0 {
		s.facts = anchor.NewCache(opts.CacheSize)
	}
	s.quotes = intel.NewCache(s.facts)
	var err error
	if s.appraiser, err = opts.Baseline.newAppraiser(ctx, opts.CacheSize); err != nil {
		return nil, err
	}
	if s.nonceKey, err = s.loadNonceKey(ctx); err != nil {
		return nil, err
	}
	if err := s.keysLeft(ctx); err != nil {
		return nil, err
	}
	s.ring, err = token.NewRing(ctx, token.RingOptions{
		Algorithms: []token.Algorithm{token.RS256, token.ES256}, Name: opts.Issuer, Signs: 24 * time.Hour, TokenLife: maxTokenLife,
		Ahead: KeysAhead, Publish: s.publish, Now: opts.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("attestation service: %w", err)
	}
	return s, nil
}

// Run rotates keys and forgets what has expired, until ctx ends.
func (s *Service) Run(ctx context.Context) {
	go s.sweep(ctx)
	s.ring.Run(ctx, s.opts.Log)
}

var tenantName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// CheckTenant returns an error unless the name is one of a tenant: up to 63 lower-case letters, digits and hyphens.
func CheckTenant(name string) error {
	if !tenantName.MatchString(name) {
		return badRequest("%q is no name of a tenant", name)
	}
	return nil
}

// Issuer returns the issuer of a tenant's tokens. Those over simulated evidence have one of their own, so that nobody
// takes them who did not ask for them.
func (s *Service) Issuer(tenant string, simulated bool) string {
	url := s.opts.Issuer
	if tenant != DefaultTenant {
		url += "/tenants/" + tenant
	}
	if simulated {
		url += "/simulated"
	}
	return url
}

// Answer is what a request came to.
type Answer struct {
	// Token is the signed token; of a draft, an unsigned one.
	Token string
	// Verdict is what became of the evidence.
	Verdict Verdict
}

// Verdict is what the service tells a client, and the audit, about an appraisal.
type Verdict struct {
	Outcome   verify.Outcome `json:"outcome"`
	Simulated bool           `json:"simulated"`
	// Codes are those of the checks that did not pass.
	Codes []string `json:"codes,omitempty"`
	// Detail says in words what the first of them expected and found.
	Detail string `json:"detail,omitempty"`
	// Rule says what the policy decided, and by which rule.
	Rule string `json:"rule,omitempty"`
}

// RefusedError says that evidence was not accepted.
type RefusedError struct {
	Verdict Verdict
	// Failures are the checks that did not pass; none when it is the policy that refuses.
	Failures []check.Check
}

// Error implements error.
func (e *RefusedError) Error() string {
	if len(e.Verdict.Codes) > 0 {
		return fmt.Sprintf("the evidence is %s: %s: %s", e.Verdict.Outcome, strings.Join(e.Verdict.Codes, ", "), e.Verdict.Detail)
	}
	return "the policy does not permit it: " + e.Verdict.Rule
}

// PolicyError says that the policy could not be evaluated on the claims.
type PolicyError struct{ Err error }

// Error implements error.
func (e *PolicyError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *PolicyError) Unwrap() error { return e.Err }

// Syntax reports whether the policy is no text of the language at all.
func (e *PolicyError) Syntax() bool {
	var syntax *maapolicy.SyntaxError
	return errors.As(e.Err, &syntax)
}

// Attest appraises evidence for a tenant. The error is a *RequestError, *RefusedError or *PolicyError when the request is
// to blame.
func (s *Service) Attest(ctx context.Context, tenant string, r *Request) (*Answer, error) {
	if err := CheckTenant(tenant); err != nil {
		return nil, err
	}
	if err := r.validate(); err != nil {
		return nil, err
	}
	now := s.opts.Now()
	f, err := s.fresh(tenant, r, now)
	if err != nil {
		return nil, err
	}
	a := s.appraise(ctx, r, now)
	outcome, failures := a.conclude()
	v := Verdict{Outcome: outcome, Simulated: a.simulated}
	for _, c := range failures {
		if v.Codes = append(v.Codes, string(c.Code)); v.Detail == "" {
			v.Detail = fmt.Sprintf("%s: expected %s, found %s", c.Title, c.Expected, c.Actual)
		}
	}
	e := s.event(tenant, r, a)
	if v.Outcome != verify.Accepted {
		return nil, s.refuse(ctx, e, v, failures)
	}
	if err := s.unseen(ctx, tenant, r, a); err != nil {
		return nil, err
	}
	if f != nil {
		a.claims[claimFresh] = true
		if err := s.use(ctx, r, f); err != nil {
			return nil, err
		}
	}
	return s.decide(ctx, tenant, r, a, e, v, now)
}

// decide has the policy decide about evidence that passed the baseline.
func (s *Service) decide(ctx context.Context, tenant string, r *Request, a *appraisal, e *event, v Verdict, now time.Time) (*Answer, error) {
	rec, err := s.policyRecord(ctx, tenant, r.Kind)
	if err != nil {
		return nil, err
	}
	parse := s.policies.parse
	if r.Draft != nil {
		rec = &policyRecord{Text: string(r.Draft)}
		parse = func(text string) (*maapolicy.Policy, error) { return maapolicy.Parse([]byte(text)) } // anybody's, so not kept
		select {
		case s.drafts <- struct{}{}:
			defer func() { <-s.drafts }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err := s.addContext(a, r, rec); err != nil {
		return nil, err
	}
	p, err := parse(rec.Text)
	if err != nil {
		return nil, &PolicyError{err}
	}
	known, err := maapolicy.ClaimsOf(a.claims)
	if err != nil {
		return nil, &PolicyError{err}
	}
	out, err := p.Evaluate(ctx, known)
	if err != nil {
		v.Rule = err.Error()
		_ = s.refuse(ctx, e, v, nil) // the error below is more precise
		return nil, &PolicyError{err}
	}
	v.Rule = out.Reason()
	if !out.Permitted {
		v.Outcome = verify.Refused
		return nil, s.refuse(ctx, e, v, nil)
	}
	return s.issue(ctx, tenant, r, a, out, e, v, now)
}

// addContext adds the claims that are not of the evidence alone.
func (s *Service) addContext(a *appraisal, r *Request, rec *policyRecord) error {
	for name, d := range map[string]*Data{claimRuntime: r.Runtime, claimInitTime: r.InitTime} {
		if err := dataClaim(a.claims, name, d); err != nil {
			return err
		}
	}
	a.claims[claimType] = r.Kind.attestationType()
	a.claims["x-ms-ver"] = "1.0"
	a.claims[claimPolicyHash] = PolicyHash(rec.Text)
	if a.simulated {
		a.claims[claimSimulated] = true
	}
	if rec.Signer != nil {
		a.claims[claimSigner] = signerClaim(rec.Signer)
	}
	return nil
}

// event is what the audit log keeps of a request: digests, never the data.
type event struct {
	Tenant    string   `json:"tenant"`
	Kind      Kind     `json:"type"`
	Evidence  string   `json:"evidenceSHA256"`
	Runtime   string   `json:"runtimeSHA256,omitempty"`
	Draft     bool     `json:"draft,omitempty"`
	Chain     []string `json:"chain,omitempty"`
	Policy    string   `json:"policyHash,omitempty"`
	Verdict   Verdict  `json:"verdict"`
	Token     string   `json:"jti,omitempty"`
	Expires   string   `json:"expires,omitempty"`
	RequestID string   `json:"requestID,omitempty"`
}

func (s *Service) event(tenant string, r *Request, a *appraisal) *event {
	e := &event{Tenant: tenant, Kind: r.Kind, Evidence: digest(r.Report), Draft: r.Draft != nil, RequestID: r.ID}
	if r.Runtime != nil {
		e.Runtime = digest(r.Runtime.Bytes)
	}
	for _, l := range a.chain {
		e.Chain = append(e.Chain, l.SPKI)
	}
	return e
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// refuse records a refusal and returns it as an error.
func (s *Service) refuse(ctx context.Context, e *event, v Verdict, failures []check.Check) error {
	e.Verdict = v
	if _, err := s.opts.Audit.Append(ctx, "attestation.refused", e); err != nil {
		return fmt.Errorf("recording the refusal: %w", err)
	}
	return &RefusedError{v, failures}
}

// issue records what is to be signed, and signs it.
func (s *Service) issue(ctx context.Context, tenant string, r *Request, a *appraisal, out *maapolicy.Outcome, e *event, v Verdict, now time.Time) (*Answer, error) {
	jti := rand.Text()
	life := lifetime(out, a, now)
	if r.Life > 0 {
		life = min(life, r.Life)
	}
	claims, err := s.render(tenant, r, a, out, now, now.Add(life), jti)
	if err != nil {
		return nil, err
	}
	e.Verdict, e.Token, e.Expires = v, jti, now.Add(life).UTC().Format(time.RFC3339)
	e.Policy, _ = a.claims[claimPolicyHash].(string) // set in addContext
	if r.Draft != nil {
		if _, err := s.opts.Audit.Append(ctx, "attestation.draft", e); err != nil {
			return nil, fmt.Errorf("recording the appraisal: %w", err)
		}
		t, err := token.Draft(claims)
		return &Answer{t, v}, err
	}
	if err := s.remember(ctx, tenant, a, now.Add(life)); err != nil {
		return nil, err
	}
	if _, err := s.opts.Audit.Append(ctx, "attestation.accepted", e); err != nil {
		return nil, fmt.Errorf("recording the appraisal: %w", err)
	}
	t, err := s.ring.Sign(r.Form.algorithm(), claims, s.Issuer(tenant, a.simulated)+"/certs")
	if err != nil {
		return nil, err
	}
	return &Answer{t, v}, nil
}

// lifetime is what the policy says, and never more than the evidence's certificates and lists are known to hold.
func lifetime(out *maapolicy.Outcome, a *appraisal, now time.Time) time.Duration {
	life := TokenLife
	if v, ok := out.Property("report_validity_in_minutes"); ok {
		if n, isInt := v.JSON().(int64); isInt && n > 0 {
			life = time.Duration(min(n, int64(maxTokenLife/time.Minute))) * time.Minute
		}
	}
	if rest := a.until.Sub(now); !a.until.IsZero() && rest < life {
		life = rest
	}
	return life
}
