// SPDX-License-Identifier: Apache-2.0

// Package authority verifies the tokens by which guests show what they are: those of the attestation services that a vault
// was configured to believe.
//
// It trusts the configured issuers, and for their keys a pinned key set, or a URL of the configuration over TLS. The token
// chooses nothing: neither its algorithm, nor where its keys come from (jku, x5u, jwk and x5c in its header are not
// looked at), nor whether it stands for simulated hardware. Without authorities nothing is verified.
package authority

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cofferdam.dev/internal/strictjson"
	"cofferdam.dev/internal/token"
	"cofferdam.dev/internal/vault/releasepolicy"
)

// claimSimulated is true in tokens over the evidence of a simulated secure processor.
const claimSimulated = "x-cofferdam-simulated"

// Errors that callers tell apart, besides those of package token.
var (
	// ErrUnknownIssuer says that the token is of nobody who is believed.
	ErrUnknownIssuer = errors.New("the token's issuer is none of the configured authorities")
	// ErrSimulated says that the token is over simulated evidence, and its issuer is not believed for that.
	ErrSimulated = errors.New("the token is over simulated evidence")
	// ErrOld says that the token was issued too long ago.
	ErrOld = errors.New("the token was issued too long ago")
	// ErrUnavailable says that the issuer's keys are not at hand: nothing is known to be wrong with the token.
	ErrUnavailable = errors.New("the keys of the token's issuer are not available")
)

// Keys gives the keys of an issuer.
type Keys interface {
	// Keys returns the issuer's keys. The key ID is the one that is looked for, so that a source which keeps a copy knows
	// when to look again; the answer need not have it.
	Keys(ctx context.Context, keyID string) ([]token.PublicKey, error)
}

// Static is keys that do not change.
type Static []token.PublicKey

// Keys implements Keys.
func (s Static) Keys(context.Context, string) ([]token.PublicKey, error) { return s, nil }

// Func is a function that gives keys, for issuers in the same process.
type Func func(ctx context.Context) ([]token.PublicKey, error)

// Keys implements Keys.
func (f Func) Keys(ctx context.Context, _ string) ([]token.PublicKey, error) { return f(ctx) }

// Authority is an issuer that is believed.
type Authority struct {
	// Issuer is exactly what its tokens have in iss.
	Issuer string
	Keys   Keys
	// Algorithms are those that its tokens may be signed with; none are RS256, ES256 and ES384.
	Algorithms []token.Algorithm
	// Audience must be in its tokens. When it is empty, tokens that have one are refused.
	Audience string
	// MaxAge bounds how long ago a token may have been issued, whatever it says of its expiry; zero is no bound.
	MaxAge time.Duration
	// Simulated believes the issuer's tokens over simulated evidence, and no others of it: an issuer for both would make
	// it easy to take one for the other.
	Simulated bool
}

// Set is the authorities of a vault. The zero value believes nobody. It is safe for concurrent use.
type Set struct{ list []Authority }

// NewSet returns the set of these authorities.
func NewSet(list ...Authority) (*Set, error) {
	s := &Set{}
	for _, a := range list {
		if a.Issuer == "" || a.Keys == nil || a.MaxAge < 0 {
			return nil, fmt.Errorf("authority %q: issuer and keys must be given", a.Issuer)
		}
		// Policies name issuers in more than one way. Two that a policy can not tell apart would have each other's keys, and
		// one of them may be for simulated evidence.
		same := func(o Authority) bool {
			return releasepolicy.NormalIssuer(o.Issuer) == releasepolicy.NormalIssuer(a.Issuer)
		}
		if slices.ContainsFunc(s.list, same) {
			return nil, fmt.Errorf("authority %q is there twice, or a release policy takes it for another", a.Issuer)
		}
		if len(a.Algorithms) == 0 {
			a.Algorithms = []token.Algorithm{token.RS256, token.ES256, token.ES384}
		}
		s.list = append(s.list, a)
	}
	return s, nil
}

func (s *Set) find(issuer string) (Authority, bool) {
	if s == nil {
		return Authority{}, false
	}
	i := slices.IndexFunc(s.list, func(a Authority) bool { return a.Issuer == issuer })
	if i < 0 {
		return Authority{}, false
	}
	return s.list[i], true
}

// Issuers names the authorities.
func (s *Set) Issuers() []string {
	var out []string
	if s != nil {
		for _, a := range s.list {
			out = append(out, a.Issuer)
		}
	}
	return out
}

// Statement is what a token that was verified says.
type Statement struct {
	Issuer string
	// ID is the token's jti, or empty.
	ID        string
	Issued    time.Time
	Expires   time.Time
	Simulated bool
	Claims    releasepolicy.Claims
	// Payload is the bytes that the issuer signed.
	Payload json.RawMessage
}

// header and claims are what is read of a token before it is verified, to find whose keys to verify it with.
type header struct {
	KeyID string `json:"kid"`
}

type claims struct {
	Issuer string `json:"iss"`
}

// Verify returns what the token says, or why it is not believed. Errors quote the token's issuer and key ID at most.
func (s *Set) Verify(ctx context.Context, compact string, now time.Time) (*Statement, error) {
	h, c, err := peek(compact)
	if err != nil {
		return nil, err
	}
	a, ok := s.find(c.Issuer)
	if !ok {
		return nil, fmt.Errorf("%w: %.200q", ErrUnknownIssuer, c.Issuer)
	}
	keys, err := a.Keys.Keys(ctx, h.KeyID)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: %q has none", ErrUnavailable, a.Issuer)
	}
	payload, err := token.Verify(compact, token.Expect{Keys: keys, Algorithms: a.Algorithms, Issuer: a.Issuer, Audience: a.Audience, Now: now})
	if err != nil {
		return nil, err
	}
	return a.read(payload, now)
}

// peek reads header and claims of a token that nobody has verified.
func peek(compact string) (*header, *claims, error) {
	parts := strings.Split(compact, ".")
	if len(compact) > token.MaxSize || len(parts) != 3 {
		return nil, nil, fmt.Errorf("%w: it is not three parts of together at most %d bytes", token.ErrMalformed, token.MaxSize)
	}
	var h header
	var c claims
	for i, into := range []any{&h, &c} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return nil, nil, fmt.Errorf("%w: part %d is not in base64url", token.ErrMalformed, i+1)
		}
		if err := json.Unmarshal(b, into); err != nil {
			return nil, nil, fmt.Errorf("%w: part %d is no object of its kind", token.ErrMalformed, i+1)
		}
	}
	return &h, &c, nil
}

func (a *Authority) read(payload json.RawMessage, now time.Time) (*Statement, error) {
	parsed, err := releasepolicy.ParseClaims(payload)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", token.ErrMalformed, err)
	}
	// Names count as they are spelt: encoding/json would take a claim IAT, which a policy may have issued, for iat.
	st := &Statement{Issuer: a.Issuer, Claims: parsed, Payload: payload}
	st.ID, _ = parsed["jti"].(string) // empty when there is none
	expires, ok := date(parsed, "exp")
	if iss, isText := parsed["iss"].(string); !ok || !isText || iss != a.Issuer {
		return nil, fmt.Errorf("%w: it has no iss or no exp of its own", token.ErrMalformed)
	}
	st.Expires = expires
	if now.After(expires.Add(token.Skew)) {
		return nil, fmt.Errorf("%w: it expired at %s", token.ErrTime, expires.Format(time.RFC3339))
	}
	begins, begun := date(parsed, "nbf")
	if begun && now.Add(token.Skew).Before(begins) {
		return nil, fmt.Errorf("%w: it begins at %s", token.ErrTime, begins.Format(time.RFC3339))
	}
	if st.Issued, ok = date(parsed, "iat"); !ok {
		st.Issued, ok = begins, begun
	}
	if !ok && a.MaxAge > 0 {
		return nil, fmt.Errorf("%w: it does not say when", ErrOld)
	}
	if a.MaxAge > 0 && now.After(st.Issued.Add(a.MaxAge+token.Skew)) {
		return nil, fmt.Errorf("%w: at %s, more than %s ago", ErrOld, st.Issued.Format(time.RFC3339), a.MaxAge)
	}
	simulated, there := parsed[claimSimulated]
	st.Simulated = there && simulated != false // anything but a plain false counts
	switch {
	case st.Simulated && !a.Simulated:
		return nil, fmt.Errorf("%w: %q is not configured for it", ErrSimulated, a.Issuer)
	case !st.Simulated && a.Simulated:
		return nil, fmt.Errorf("the token is not over simulated evidence, and %q is believed for that alone", a.Issuer)
	}
	return st, nil
}

// date reads a NumericDate, within the years of four digits.
func date(c releasepolicy.Claims, name string) (t time.Time, ok bool) {
	n, ok := c[name].(json.Number)
	if !ok {
		return t, false
	}
	seconds, err := n.Float64()
	if err != nil {
		return t, false
	}
	const most = 253402300799 // the end of 9999
	return time.Unix(int64(max(0, min(most, seconds))), 0).UTC(), true
}

// WrappingKeys returns the keys in the guest's runtime data, which the issuer bound to the evidence: the list keys of the
// claim x-ms-runtime, each as JSON.
func (st *Statement) WrappingKeys() []json.RawMessage {
	o, err := strictjson.Parse(st.Payload)
	if err != nil {
		return nil
	}
	runtime, err := o.Object("x-ms-runtime")
	if err != nil {
		return nil
	}
	keys, err := runtime.List("keys", maxWrappingKeys)
	if err != nil {
		return nil
	}
	return keys
}

// maxWrappingKeys bounds the keys in runtime data.
const maxWrappingKeys = 64
