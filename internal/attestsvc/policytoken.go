// SPDX-License-Identifier: Apache-2.0

package attestsvc

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// PolicySigner signs changes of policies, for who administers a service.
type PolicySigner struct {
	signer jose.Signer
	der    []byte
}

// NewPolicySigner returns a signer with a key and its certificate.
func NewPolicySigner(key *rsa.PrivateKey, cert *x509.Certificate) (*PolicySigner, error) {
	if _, err := parseSigner(cert.Raw); err != nil {
		return nil, fmt.Errorf("signing policies: %w", err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("signing policies: the certificate is for another key")
	}
	opts := (&jose.SignerOptions{}).WithHeader("x5c", []string{base64.StdEncoding.EncodeToString(cert.Raw)})
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, opts)
	if err != nil {
		return nil, fmt.Errorf("signing policies: %w", err)
	}
	return &PolicySigner{s, cert.Raw}, nil
}

// PolicyToken returns the token with which a policy is set; unsigned when the signer is nil.
func (s *PolicySigner) PolicyToken(text []byte) (string, error) {
	if s == nil {
		return unsignedToken(string(text)), nil
	}
	return s.sign(map[string]string{"AttestationPolicy": base64.RawURLEncoding.EncodeToString(text)})
}

// ResetToken returns the token with which a policy is reset; none is needed when the signer is nil.
func (s *PolicySigner) ResetToken() (string, error) {
	if s == nil {
		return "", nil
	}
	return s.sign(struct{}{})
}

// CertificateToken returns the token with which a certificate is added to those that sign policies, or removed.
func (s *PolicySigner) CertificateToken(cert *x509.Certificate) (string, error) {
	if s == nil {
		return "", errors.New("signing policies: there is no signer")
	}
	return s.sign(map[string]any{"policyCertificate": signerClaim(cert.Raw)})
}

func (s *PolicySigner) sign(body any) (string, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return "", fmt.Errorf("signing policies: %w", err)
	}
	o, err := s.signer.Sign(b)
	if err != nil {
		return "", fmt.Errorf("signing policies: %w", err)
	}
	return o.CompactSerialize()
}

// PolicyFact is what a service says about a tenant's policy. Nothing of it is verified: who asked trusts the connection.
type PolicyFact struct {
	Text   string `json:"text"`
	Hash   string `json:"hash"`
	Signed bool   `json:"signed"`
}

// ReadPolicyStatement reads the token with which a service says what a policy is.
func ReadPolicyStatement(compact string) (*PolicyFact, error) {
	var says struct {
		Policy string `json:"x-ms-policy"`
	}
	if err := StatementClaims(compact, &says); err != nil {
		return nil, err
	}
	text, signer, err := parsePolicyToken(says.Policy)
	if err != nil {
		return nil, fmt.Errorf("reading a policy: %w", err)
	}
	return &PolicyFact{string(text), PolicyHash(string(text)), signer != nil}, nil
}

// StatementClaims reads the claims of a token into v, unverified.
func StatementClaims(compact string, v any) error {
	parts := bytes.Split([]byte(compact), []byte("."))
	if len(parts) != 3 {
		return errors.New("reading a statement: it is no token")
	}
	b, err := base64.RawURLEncoding.AppendDecode(nil, parts[1])
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return fmt.Errorf("reading a statement: %w", err)
	}
	return nil
}
