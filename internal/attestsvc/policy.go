// SPDX-License-Identifier: Apache-2.0

package attestsvc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"cofferdam.dev/internal/maapolicy"
	"cofferdam.dev/internal/store"
)

// defaultPolicies permit whatever passes the baseline, as those of Azure Attestation do, and issue the names that older
// clients read.
var defaultPolicies = map[Kind]string{
	SevSnpVM:    "version=1.0;\nauthorizationrules{\n\t=> permit();\n};\nissuancerules{\n};\n",
	TdxVM:       "version=1.0;\nauthorizationrules{\n\t=> permit();\n};\nissuancerules{\n};\n",
	AzureGuest:  "version=1.0;\nauthorizationrules{\n\t=> permit();\n};\nissuancerules{\n};\n",
	SgxEnclave:  sgxDefault,
	OpenEnclave: sgxDefault,
}

const sgxDefault = "version=1.0;\nauthorizationrules{\n\t=> permit();\n};\nissuancerules{\n};\n"

// policyRecord is a tenant's policy for a kind of evidence, as it is stored.
type policyRecord struct {
	// Text is the policy.
	Text string `json:"text"`
	// Token is the JWS in which it was uploaded.
	Token string `json:"token"`
	// Signer is the certificate that signed the token, in DER; nil when it was not signed.
	Signer []byte `json:"signer,omitempty"`
}

func policyKey(tenant string, k Kind) string { return "tenants/" + tenant + "/policies/" + string(k) }

// unsignedToken returns the form in which an unsigned policy travels.
func unsignedToken(text string) string {
	enc := base64.RawURLEncoding.EncodeToString
	body, err := json.Marshal(map[string]string{"AttestationPolicy": enc([]byte(text))})
	if err != nil {
		return "" // two strings always encode
	}
	return enc([]byte(`{"alg":"none"}`)) + "." + enc(body) + "."
}

// Policy returns the tenant's policy for a kind of evidence as the token in which it was uploaded, its text, and its hash.
func (s *Service) Policy(ctx context.Context, tenant string, k Kind) (token, text, hash string, err error) {
	rec, err := s.policyRecord(ctx, tenant, k)
	if err != nil {
		return "", "", "", err
	}
	return rec.Token, rec.Text, PolicyHash(rec.Text), nil
}

func (s *Service) policyRecord(ctx context.Context, tenant string, k Kind) (*policyRecord, error) {
	var rec policyRecord
	err := s.opts.Store.View(ctx, func(r store.Reader) error {
		b, err := r.Get(policyKey(tenant, k))
		if err != nil {
			return err
		}
		return json.Unmarshal(b, &rec)
	})
	if errors.Is(err, store.ErrNotFound) {
		text := defaultPolicies[k]
		return &policyRecord{Text: text, Token: unsignedToken(text)}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the policy for %s: %w", k, err)
	}
	return &rec, nil
}

// PolicyHash is the value of the claim x-ms-policy-hash: the SHA-256, in base64url, of the text of the policy in base64url.
func PolicyHash(text string) string {
	sum := sha256.Sum256([]byte(base64.RawURLEncoding.EncodeToString([]byte(text))))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// maxParsed bounds the parsed policies that are kept.
const maxParsed = 256

// parsedPolicies keeps what was parsed, by the text: a policy is parsed once, and a change needs no notice.
type parsedPolicies struct {
	mu   sync.Mutex
	list map[string]*maapolicy.Policy
}

func (c *parsedPolicies) parse(text string) (*maapolicy.Policy, error) {
	c.mu.Lock()
	p := c.list[text]
	c.mu.Unlock()
	if p != nil {
		return p, nil
	}
	p, err := maapolicy.Parse([]byte(text))
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.list == nil || len(c.list) >= maxParsed {
		c.list = map[string]*maapolicy.Policy{}
	}
	c.list[text] = p
	return p, nil
}
