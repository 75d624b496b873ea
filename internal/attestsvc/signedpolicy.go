// SPDX-License-Identifier: Apache-2.0

package attestsvc

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"cofferdam.dev/internal/maapolicy"
	"cofferdam.dev/internal/store"
)

const (
	// maxPolicyToken bounds an uploaded token in bytes.
	maxPolicyToken = 512 << 10
	// maxSigners bounds the certificates of a tenant that may sign policies.
	maxSigners = 50
)

// parsePolicyToken returns the policy in an uploaded token, and the certificate that signed it; nil when nobody did.
func parsePolicyToken(text string) (policy []byte, signer *x509.Certificate, err error) {
	payload, signer, err := openToken(text)
	if err != nil {
		return nil, nil, err
	}
	var body struct {
		AttestationPolicy *string `json:"AttestationPolicy"`
	}
	if err := json.Unmarshal(payload, &body); err != nil || body.AttestationPolicy == nil {
		return nil, nil, badRequest("the token has no claim AttestationPolicy")
	}
	policy, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(*body.AttestationPolicy, "="))
	if err != nil {
		return nil, nil, badRequest("the claim AttestationPolicy is no base64url")
	}
	return policy, signer, nil
}

// openToken verifies a token by the first certificate in its own x5c header, and returns that certificate: whether it is
// one that may sign is for the caller to say. A token with alg "none" has none.
func openToken(text string) (payload []byte, signer *x509.Certificate, err error) {
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(text) > maxPolicyToken || len(parts) != 3 {
		return nil, nil, badRequest("want a token of three parts and at most %d bytes", maxPolicyToken)
	}
	header, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[0], "="))
	if err != nil {
		return nil, nil, badRequest("the token's header is no base64url")
	}
	var h struct {
		Alg string   `json:"alg"`
		X5C []string `json:"x5c"`
	}
	if err := json.Unmarshal(header, &h); err != nil {
		return nil, nil, badRequest("the token's header is no JSON object")
	}
	switch h.Alg {
	case "none":
		if parts[2] != "" {
			return nil, nil, badRequest("the token says that it is not signed, and has a signature")
		}
		payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
		if err != nil {
			return nil, nil, badRequest("the token's body is no base64url")
		}
		return payload, nil, nil
	case string(jose.RS256):
	default:
		return nil, nil, badRequest("the token's algorithm is %q; want RS256, or none", h.Alg)
	}
	if len(h.X5C) == 0 {
		return nil, nil, badRequest("the token is signed, and has no certificate (x5c)")
	}
	der, err := base64.StdEncoding.DecodeString(h.X5C[0])
	if err != nil {
		return nil, nil, badRequest("the token's certificate is no base64")
	}
	if signer, err = parseSigner(der); err != nil {
		return nil, nil, err
	}
	object, err := jose.ParseSignedCompact(strings.Join(parts, "."), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return nil, nil, badRequest("the token is malformed: %v", err)
	}
	if payload, err = object.Verify(signer.PublicKey); err != nil {
		return nil, nil, badRequest("the token's signature does not verify by its own certificate")
	}
	return payload, signer, nil
}

func parseSigner(der []byte) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, badRequest("the certificate is malformed: %v", err)
	}
	if key, ok := cert.PublicKey.(*rsa.PublicKey); !ok || key.N.BitLen() < 2048 {
		return nil, badRequest("the certificate has no RSA key of 2048 bits or more")
	}
	return cert, nil
}

// OpenPolicy returns the policy in a text that is one, or a token with one.
func OpenPolicy(text string) ([]byte, error) {
	if strings.ContainsAny(text, " ;{\n") {
		return []byte(text), nil
	}
	policy, _, err := parsePolicyToken(text)
	return policy, err
}

// PolicyChange is what became of a policy.
type PolicyChange struct {
	// Result is "Updated" or "Removed".
	Result string
	// TokenHash is the SHA-256 of the uploaded token, in base64url.
	TokenHash string
	// Signer is the certificate that signed, in DER, or nil.
	Signer []byte
}

// SetPolicy replaces a tenant's policy by the one in a token. Once a tenant has certificates, the token must be signed by
// one of them. By is who does it, for the audit.
func (s *Service) SetPolicy(ctx context.Context, tenant string, k Kind, text, by string) (*PolicyChange, error) {
	policy, signer, err := parsePolicyToken(text)
	if err != nil {
		return nil, err
	}
	if _, err := maapolicy.Parse(policy); err != nil {
		return nil, &PolicyError{err}
	}
	rec := policyRecord{Text: string(policy), Token: strings.TrimSpace(text)}
	if signer != nil {
		rec.Signer = signer.Raw
	}
	b, err := json.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("storing the policy: %w", err)
	}
	return s.change(ctx, tenant, k, text, by, signer, "Updated", func(tx store.Tx) error { return tx.Put(policyKey(tenant, k), b) })
}

// ResetPolicy goes back to the default policy. The token is as for SetPolicy, without a policy.
func (s *Service) ResetPolicy(ctx context.Context, tenant string, k Kind, text, by string) (*PolicyChange, error) {
	var signer *x509.Certificate
	if strings.TrimSpace(text) != "" {
		var payload []byte
		var err error
		if payload, signer, err = openToken(text); err != nil {
			return nil, err
		}
		if err := emptyBody(payload); err != nil {
			return nil, err
		}
	}
	return s.change(ctx, tenant, k, text, by, signer, "Removed", func(tx store.Tx) error { return tx.Delete(policyKey(tenant, k)) })
}

// emptyBody requires a token to say nothing: what was signed to set a policy, or to add a certificate, must not serve
// whoever got hold of it to take a policy away.
func emptyBody(payload []byte) error {
	body := bytes.TrimSpace(payload)
	if len(body) == 0 || bytes.Equal(body, []byte("null")) || bytes.Equal(body, []byte(`""`)) {
		return nil
	}
	var o map[string]json.RawMessage
	if err := json.Unmarshal(body, &o); err != nil {
		return badRequest("the token's body is neither empty nor a JSON object")
	}
	for name := range o {
		for _, other := range []string{"AttestationPolicy", "policyCertificate", "maa-policyCertificate", "aas-policyCertificate"} {
			if strings.EqualFold(name, other) {
				return badRequest("the token was signed for something else: it has the claim %s", other)
			}
		}
	}
	return nil
}

func (s *Service) change(ctx context.Context, tenant string, k Kind, text, by string, signer *x509.Certificate, result string, write func(store.Tx) error) (*PolicyChange, error) {
	if err := CheckTenant(tenant); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(text)))
	c := &PolicyChange{Result: result, TokenHash: base64.RawURLEncoding.EncodeToString(sum[:])}
	if signer != nil {
		c.Signer = signer.Raw
	}
	// The record comes first: a change that nobody could record is not made.
	_, err := s.opts.Audit.Append(ctx, "policy.change", map[string]any{
		"tenant": tenant, "type": k, "result": result, "by": by, "tokenSHA256": c.TokenHash,
	})
	if err != nil {
		return nil, fmt.Errorf("recording the change: %w", err)
	}
	err = s.opts.Store.Update(ctx, func(tx store.Tx) error {
		if err := maySign(tx, tenant, signer); err != nil {
			return err
		}
		return write(tx)
	})
	return c, err
}

func signerPrefix(tenant string) string { return "tenants/" + tenant + "/signers/" }

func signerKey(tenant string, der []byte) string {
	sum := sha256.Sum256(der)
	return signerPrefix(tenant) + hex.EncodeToString(sum[:])
}

// ErrSigner says that a change is not signed by whom it must be.
var ErrSigner = errors.New("the change must be signed by one of the tenant's policy certificates")

// maySign requires a signer of the tenant when the tenant has any.
func maySign(r store.Reader, tenant string, signer *x509.Certificate) error {
	list, err := r.List(signerPrefix(tenant), "", maxSigners)
	if err != nil || len(list) == 0 {
		return err
	}
	if signer == nil {
		return ErrSigner
	}
	for _, e := range list {
		if bytes.Equal(e.Value, signer.Raw) {
			return nil
		}
	}
	return ErrSigner
}

// Signers returns the certificates that may sign a tenant's policies, in DER.
func (s *Service) Signers(ctx context.Context, tenant string) ([][]byte, error) {
	var ders [][]byte
	err := s.opts.Store.View(ctx, func(r store.Reader) error {
		ders = nil
		list, err := r.List(signerPrefix(tenant), "", maxSigners)
		for _, e := range list {
			ders = append(ders, e.Value)
		}
		return err
	})
	return ders, err
}

// AddSigner and RemoveSigner change who may sign a tenant's policies. The token has the certificate as a JWK with x5c in
// its claim policyCertificate, and is signed by one of those that may. The first certificate of a tenant is added by a
// token that it signed itself. Both return the certificate in DER.
func (s *Service) AddSigner(ctx context.Context, tenant, text, by string) (certificate []byte, err error) {
	return s.changeSigner(ctx, tenant, text, by, "policy.signer.add", func(tx store.Tx, der []byte, n int) error {
		if n >= maxSigners {
			return badRequest("the tenant has %d certificates, which is the most", maxSigners)
		}
		return tx.Put(signerKey(tenant, der), der)
	})
}

// RemoveSigner takes a certificate away. The last one can not be taken: then anybody who administers could set policies.
func (s *Service) RemoveSigner(ctx context.Context, tenant, text, by string) (certificate []byte, err error) {
	return s.changeSigner(ctx, tenant, text, by, "policy.signer.remove", func(tx store.Tx, der []byte, n int) error {
		if _, err := tx.Get(signerKey(tenant, der)); err != nil {
			return badRequest("the certificate is not one of the tenant's")
		}
		if n == 1 {
			return badRequest("it is the last certificate: without it, policies would need no signature any more")
		}
		return tx.Delete(signerKey(tenant, der))
	})
}

func (s *Service) changeSigner(ctx context.Context, tenant, text, by, kind string, write func(tx store.Tx, der []byte, n int) error) ([]byte, error) {
	if err := CheckTenant(tenant); err != nil {
		return nil, err
	}
	payload, signer, err := openToken(text)
	if err != nil {
		return nil, err
	}
	der, err := certificateClaim(payload)
	if err != nil {
		return nil, err
	}
	if signer == nil {
		return nil, ErrSigner
	}
	if _, err := s.opts.Audit.Append(ctx, kind, map[string]any{"tenant": tenant, "certificateSHA256": digest(der), "by": by}); err != nil {
		return nil, fmt.Errorf("recording the change: %w", err)
	}
	err = s.opts.Store.Update(ctx, func(tx store.Tx) error {
		list, err := tx.List(signerPrefix(tenant), "", maxSigners)
		if err != nil {
			return err
		}
		if len(list) == 0 && !bytes.Equal(der, signer.Raw) {
			return fmt.Errorf("%w: the first one signs itself in", ErrSigner)
		}
		if err := maySign(tx, tenant, signer); err != nil {
			return err
		}
		return write(tx, der, len(list))
	})
	return der, err
}

// certificateClaim returns the certificate in the claim policyCertificate, or in the two other names that it has had.
func certificateClaim(payload []byte) ([]byte, error) {
	type jwk struct {
		X5C []string `json:"x5c"`
	}
	var body struct {
		Now    *jwk `json:"policyCertificate"`
		Before *jwk `json:"maa-policyCertificate"`
		First  *jwk `json:"aas-policyCertificate"`
	}
	if err := json.Unmarshal(payload, &body); err != nil {
		return nil, badRequest("the token's body is no JSON object")
	}
	for _, k := range []*jwk{body.Now, body.Before, body.First} {
		if k == nil || len(k.X5C) == 0 {
			continue
		}
		der, err := base64.StdEncoding.DecodeString(k.X5C[0])
		if err != nil {
			return nil, badRequest("the certificate is no base64")
		}
		_, err = parseSigner(der)
		return der, err
	}
	return nil, badRequest("the token has no claim policyCertificate with x5c")
}

// signerClaim is the claim x-ms-policy-signer.
func signerClaim(der []byte) map[string]any {
	return map[string]any{"kty": "RSA", "x5c": []string{base64.StdEncoding.EncodeToString(der)}}
}
