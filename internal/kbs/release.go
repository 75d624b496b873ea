// SPDX-License-Identifier: Apache-2.0

package kbs

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/kbs/rcar"
	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/strictjson"
	"cofferdam.dev/internal/vault"
	"cofferdam.dev/internal/vault/authority"
)

// claimFresh says that the evidence of a token was bound to a challenge, which was then used up. Tokens without it could
// be over evidence of any time.
const claimFresh = "x-cofferdam-fresh"

// claimKey is the guest's key, which the evidence was bound to.
const claimKey = "tee-pubkey"

// caller is whoever has a good token.
type caller struct {
	token string
	*authority.Statement
	key *rcar.Key
}

// authenticate returns the guest of a session, or else of a bearer token.
func (b *Broker) authenticate(ctx context.Context, session, bearer string) (*caller, error) {
	compact, err := b.tokenOf(ctx, session)
	if err != nil {
		return nil, err
	}
	if compact == "" {
		compact = bearer
	}
	if compact == "" {
		return nil, refuse(TokenNotFound, "there is no attested session and no token: attest first")
	}
	return b.verify(ctx, compact)
}

// verify requires a token of an authority, over evidence that was bound to a challenge and to a key.
func (b *Broker) verify(ctx context.Context, compact string) (*caller, error) {
	st, err := b.opts.Authorities.Verify(ctx, compact, b.opts.Now())
	if errors.Is(err, authority.ErrUnavailable) {
		return nil, fmt.Errorf("verifying a token: %w", err)
	}
	if err != nil {
		return nil, refuse(TokenVerifierError, "the token is not good, or over: attest again")
	}
	g := &caller{token: compact, Statement: st}
	if fresh, ok := st.Claims[claimFresh].(bool); !ok || !fresh {
		return nil, refuse(TokenVerifierError, "the token is over evidence that was bound to no challenge")
	}
	o, err := strictjson.Parse(st.Payload)
	if err != nil || !o.Has(claimKey) {
		return nil, refuse(TokenVerifierError, "the token has no key of the guest")
	}
	if g.key, err = rcar.ParseKey(o[claimKey]); err != nil {
		return nil, refuse(TokenVerifierError, "%v", err)
	}
	return g, nil
}

// Release returns a resource for the guest of a session, or else of a bearer token, encrypted to the guest's key.
func (b *Broker) Release(ctx context.Context, session, bearer string, p Path) ([]byte, error) {
	g, err := b.authenticate(ctx, session, bearer)
	if err != nil {
		return nil, err
	}
	s, err := b.find(ctx, p)
	if err != nil {
		return nil, err
	}
	if s != nil && s.Policy != nil {
		return b.releaseByPolicy(ctx, g, p)
	}
	return b.releaseByRules(ctx, g, p, s != nil)
}

// errDenied is all that a guest gets to know, and the ID under which an operator finds the reasons.
func errDenied(id string) error {
	if id != "" {
		id = " (release " + id + ")"
	}
	return refuse(PolicyDeny, "access is denied by policy%s", id)
}

// releaseByPolicy has the vault decide by the secret's own policy; it records what it decides.
func (b *Broker) releaseByPolicy(ctx context.Context, g *caller, p Path) ([]byte, error) {
	out, err := b.opts.Vault.ReleaseSecret(ctx, vault.ReleaseRequest{
		Name: p.SecretName(), Target: g.token,
		Wrap: func(_ *authority.Statement, secret []byte) ([]byte, error) { return g.key.Encrypt(secret) },
	})
	var refusal *vault.Error
	switch {
	case isVault(err, vault.SecretNotFound):
		return nil, refuse(ResourceNotFound, "there is no resource %s", p)
	case errors.As(err, &refusal):
		return nil, errDenied(refusal.Release)
	case err != nil:
		return nil, err
	}
	return out.Wrapped, nil
}

// releaseByRules decides by the rules. Whether there is such a resource is for those to know whom the rules give it.
func (b *Broker) releaseByRules(ctx context.Context, g *caller, p Path, there bool) ([]byte, error) {
	rules, err := b.currentRules(ctx)
	if err != nil {
		return nil, err
	}
	d := &decision{
		Resource: p.String(), Outcome: "deny", Issuer: g.Issuer, Token: g.ID, Simulated: g.Simulated, Key: g.key.Thumbprint(),
		Rules: rules.digest, RequestID: serve.RequestID(ctx),
	}
	d.judge(rules, p, g)
	switch {
	case !d.allowed:
		return nil, b.deny(ctx, d, errDenied(""))
	case !there:
		d.Reason = "there is no such resource"
		return nil, b.deny(ctx, d, refuse(ResourceNotFound, "there is no resource %s", p))
	}
	s, value, err := b.opts.Vault.SecretValue(ctx, p.SecretName(), "")
	var refusal *vault.Error
	if errors.As(err, &refusal) {
		d.Reason = refusal.Message
		return nil, b.deny(ctx, d, errDenied(""))
	}
	if err != nil {
		return nil, err
	}
	defer value.Destroy()
	if s.Policy != nil { // since it was looked for
		d.Reason = "the secret has a release policy of its own"
		return nil, b.deny(ctx, d, errDenied(""))
	}
	answer, err := g.key.Encrypt(value.Expose())
	if err != nil {
		return nil, err
	}
	d.Outcome = "allow"
	if _, err := b.opts.Audit.Append(ctx, "kbs.release", d); err != nil {
		return nil, fmt.Errorf("recording the release: %w", err)
	}
	return answer, nil
}

func (b *Broker) deny(ctx context.Context, d *decision, refusal error) error {
	if _, err := b.opts.Audit.Append(ctx, "kbs.release", d); err != nil {
		return fmt.Errorf("recording the denial: %w", err)
	}
	return refusal
}

// decision is what the audit log gets of a request for a resource.
type decision struct {
	Resource string `json:"resource"`
	Outcome  string `json:"outcome"`
	// Reason says in words what decided, and Failures which claims were not as the policy wants them.
	Reason   string    `json:"reason"`
	Failures []failure `json:"failures,omitempty"`
	// Rules is the SHA-256 of the rules.
	Rules string `json:"rulesSHA256,omitempty"`
	// Issuer and Token are the token's, and Key names the guest's key.
	Issuer    string `json:"issuer"`
	Token     string `json:"jti"`
	Simulated bool   `json:"simulated"`
	Key       string `json:"key"`
	RequestID string `json:"requestID,omitempty"`

	allowed bool
}

// failure is a comparison that did not hold.
type failure struct {
	Path     string `json:"path"`
	Claim    string `json:"claim"`
	Operator string `json:"operator"`
	Expected string `json:"expected"`
	Actual   string `json:"actual,omitempty"`
	Problem  string `json:"problem,omitempty"`
}

// Limits of what the audit log gets of a decision, within those of a line.
const (
	maxFailures = 20
	maxShown    = 256
)

// judge applies the rules.
func (d *decision) judge(rules *Rules, p Path, g *caller) {
	i, policy := rules.find(p)
	if policy == nil {
		d.Reason = "no rule is for this resource"
		return
	}
	out := policy.Evaluate(g.Issuer, g.Claims)
	if out.Satisfied {
		d.allowed, d.Reason = true, fmt.Sprintf("rules[%d] is satisfied", i)
		return
	}
	failures := out.Failures()
	d.Reason = fmt.Sprintf("rules[%d] is not satisfied", i)
	if len(failures) == 0 {
		d.Reason = fmt.Sprintf("rules[%d] has no authority %s", i, g.Issuer)
	}
	for _, f := range failures[:min(len(failures), maxFailures)] {
		d.Failures = append(d.Failures, failure{
			shorten(f.Path), shorten(f.Claim), string(f.Operator), shorten(f.Expected), shorten(f.Actual), shorten(f.Problem),
		})
	}
}

func shorten(s string) string {
	if len(s) > maxShown {
		return strings.ToValidUTF8(s[:maxShown], "") + "…"
	}
	return s
}

// administration is what the audit log gets of new rules. Resources are the vault's to record.
type administration struct {
	Rules     string `json:"rulesSHA256"`
	By        string `json:"by"`
	RequestID string `json:"requestID,omitempty"`
}

// SetRules replaces the rules.
func (b *Broker) SetRules(ctx context.Context, text []byte) error {
	r, err := ParseRules(text)
	if err != nil {
		return refuse(ParsePolicyError, "%v", err)
	}
	event := administration{r.digest, auth.From(ctx).String(), serve.RequestID(ctx)}
	if _, err := b.opts.Audit.Append(ctx, "kbs.rules.set", event); err != nil {
		return fmt.Errorf("recording the rules: %w", err)
	}
	return b.opts.Store.Update(ctx, func(tx store.Tx) error { return tx.Put(rulesPath, text) })
}
