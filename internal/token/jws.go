// SPDX-License-Identifier: Apache-2.0

package token

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"cofferdam.dev/internal/strictjson"
)

const (
	// Skew is how far clocks may differ.
	Skew = time.Minute
	// MaxSize bounds a token in bytes.
	MaxSize = 256 << 10
	// MaxKeys bounds the keys of a set. A service whose instances restart often has many:
	// the keys of each start are good for as long as tokens by them may be.
	MaxKeys = 1000
	// MaxSetSize bounds a set in bytes.
	MaxSetSize = 4 << 20
)

// signer returns what signs with the key. Header are members of the protected header besides alg, kid and typ.
func (k *Key) newSigner(header map[string]any) (jose.Signer, error) {
	opts := (&jose.SignerOptions{}).WithType("JWT")
	for name, value := range header {
		opts = opts.WithHeader(jose.HeaderKey(name), value)
	}
	s, err := jose.NewSigner(jose.SigningKey{
		Algorithm: jose.SignatureAlgorithm(k.public.Algorithm), Key: jose.JSONWebKey{Key: k.signer, KeyID: k.public.ID},
	}, opts)
	if err != nil {
		return nil, fmt.Errorf("signing with %s: %w", k, err)
	}
	return s, nil
}

// Sign returns a token with these claims. Header are members of the protected header besides alg, kid and typ.
func (k *Key) Sign(claims any, header map[string]any) (string, error) {
	s, err := k.newSigner(header)
	if err != nil {
		return "", err
	}
	return sign(s, claims)
}

func sign(s jose.Signer, claims any) (string, error) {
	b, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encoding claims: %w", err)
	}
	object, err := s.Sign(b)
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	compact, err := object.CompactSerialize()
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	return compact, nil
}

// Draft returns an unsigned token, which shows what a draft of a policy would come to. No verifier of this package takes
// it, and no other may.
func Draft(claims any) (string, error) {
	b, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encoding claims: %w", err)
	}
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + enc(b) + ".", nil
}

// JWKS returns the JWK set of the keys that have not expired, each with its certificate.
func JWKS(keys []PublicKey, now time.Time) ([]byte, error) {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for i := range keys {
		if now.After(keys[i].Expires) {
			continue
		}
		k, err := keys[i].jwk()
		if err != nil {
			return nil, fmt.Errorf("making the key set: %w", err)
		}
		set.Keys = append(set.Keys, *k)
	}
	b, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("making the key set: %w", err)
	}
	return b, nil
}

// Errors of Verify that callers tell apart.
var (
	ErrMalformed  = errors.New("the token is malformed")
	ErrUnknownKey = errors.New("the token names a key that is not trusted")
	ErrSignature  = errors.New("the token's signature does not verify")
	ErrTime       = errors.New("the token is not valid at this time")
	ErrIssuer     = errors.New("the token is of another issuer")
	ErrAudience   = errors.New("the token is for another audience")
)

// Expect says which tokens are taken. Keys, Algorithms, Issuer and Now must be set: the zero value takes none.
type Expect struct {
	Keys       []PublicKey
	Algorithms []Algorithm
	Issuer     string
	// Audience must be among the token's when it is not empty. A token that has an audience is refused when it is empty.
	Audience string
	Now      time.Time
}

// registered are the claims that Verify looks at itself.
type registered struct {
	Issuer                       string
	Audience                     audience
	Expires, NotBefore, IssuedAt *float64
}

// read takes the claims by their exact names: who can have claims added to a token must not overrule "exp" with "eXP".
func (r *registered) read(payload []byte) error {
	claims, err := strictjson.Parse(payload)
	if err != nil {
		return err
	}
	for name, to := range map[string]any{
		"iss": &r.Issuer, "aud": &r.Audience, "exp": &r.Expires, "nbf": &r.NotBefore, "iat": &r.IssuedAt,
	} {
		raw, ok := claims[name]
		if !ok {
			continue
		}
		if err := json.Unmarshal(raw, to); err != nil {
			return fmt.Errorf("claim %q: %w", name, err)
		}
	}
	return nil
}

// audience is one string or a list.
type audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// Verify returns the claims of a token, as the bytes that were signed.
func Verify(compact string, e Expect) (json.RawMessage, error) {
	if len(e.Keys) == 0 || len(e.Keys) > MaxKeys || len(e.Algorithms) == 0 || e.Issuer == "" || e.Now.IsZero() {
		return nil, errors.New("verifying a token: keys, algorithms, issuer and time must be given")
	}
	payload, err := verifySignature(compact, e)
	if err != nil {
		return nil, err
	}
	var t registered
	if err := t.read(payload); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	switch now, skew := e.Now, Skew; {
	case t.Issuer != e.Issuer:
		return nil, fmt.Errorf("%w: %q, not %q", ErrIssuer, t.Issuer, e.Issuer)
	case e.Audience == "" && len(t.Audience) > 0 || e.Audience != "" && !slices.Contains(t.Audience, e.Audience):
		return nil, fmt.Errorf("%w: %q, not %q", ErrAudience, t.Audience, e.Audience)
	case t.Expires == nil:
		return nil, fmt.Errorf("%w: it has no exp", ErrTime)
	case now.After(date(*t.Expires).Add(skew)):
		return nil, fmt.Errorf("%w: it expired at %s", ErrTime, date(*t.Expires).Format(time.RFC3339))
	case t.NotBefore != nil && now.Add(skew).Before(date(*t.NotBefore)):
		return nil, fmt.Errorf("%w: it begins at %s", ErrTime, date(*t.NotBefore).Format(time.RFC3339))
	case t.IssuedAt != nil && now.Add(skew).Before(date(*t.IssuedAt)):
		return nil, fmt.Errorf("%w: it was issued at %s", ErrTime, date(*t.IssuedAt).Format(time.RFC3339))
	}
	return payload, nil
}

// date converts a NumericDate of RFC 7519, seconds since 1970. What is out of range of a time is far away in its direction.
func date(seconds float64) time.Time {
	const most = 1 << 40
	return time.Unix(int64(max(-most, min(most, seconds))), 0).UTC()
}

func verifySignature(compact string, e Expect) ([]byte, error) {
	if len(compact) > MaxSize || strings.Count(compact, ".") != 2 {
		return nil, fmt.Errorf("%w: it is not three parts of together at most %d bytes", ErrMalformed, MaxSize)
	}
	var algs []jose.SignatureAlgorithm
	for _, a := range e.Algorithms {
		algs = append(algs, jose.SignatureAlgorithm(a))
	}
	object, err := jose.ParseSignedCompact(compact, algs)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	header := object.Signatures[0].Protected
	i := slices.IndexFunc(e.Keys, func(k PublicKey) bool { return k.ID == header.KeyID && header.KeyID != "" })
	if i < 0 || string(e.Keys[i].Algorithm) != header.Algorithm || e.Now.After(e.Keys[i].Expires.Add(Skew)) {
		return nil, fmt.Errorf("%w: kid %q, alg %q", ErrUnknownKey, header.KeyID, header.Algorithm)
	}
	key, err := e.Keys[i].jwk()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknownKey, err)
	}
	payload, err := object.Verify(key.Key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return payload, nil
}
