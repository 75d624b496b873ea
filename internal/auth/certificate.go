// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
)

// CertificateRule gives roles to a client certificate that the server's TLS has verified. Exactly one of the fields that
// name the certificate must be set.
type CertificateRule struct {
	// URI is a URI name of the certificate, such as a SPIFFE ID; Email an e-mail name; DNS a DNS name.
	URI   string `json:"uri,omitempty"`
	Email string `json:"email,omitempty"`
	DNS   string `json:"dns,omitempty"`
	// SPKI is the SHA-256 of the certificate's public key in hexadecimal.
	SPKI  string `json:"spki,omitempty"`
	Roles []Role `json:"roles"`
}

// Certificates knows clients by the certificates of their TLS connections.
type Certificates struct{ rules []CertificateRule }

// NewCertificates returns an authenticator with these rules.
func NewCertificates(rules []CertificateRule) (*Certificates, error) {
	for i, r := range rules {
		set := 0
		for _, s := range []string{r.URI, r.Email, r.DNS, r.SPKI} {
			if s != "" {
				set++
			}
		}
		if set != 1 || len(r.Roles) == 0 {
			return nil, fmt.Errorf("certificate rule %d: want exactly one of uri, email, dns and spki, and roles", i)
		}
	}
	return &Certificates{slices.Clone(rules)}, nil
}

// Authenticate implements Authenticator.
func (c *Certificates) Authenticate(r *http.Request) (*Identity, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
		return nil, ErrNoCredentials
	}
	leaf := r.TLS.VerifiedChains[0][0]
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	spki := hex.EncodeToString(sum[:])
	id := &Identity{Method: "certificate", Issuer: leaf.Issuer.String(), Subject: spki}
	for _, rule := range c.rules {
		uri := slices.ContainsFunc(leaf.URIs, func(u *url.URL) bool { return u.String() == rule.URI })
		if rule.URI != "" && uri || rule.Email != "" && slices.Contains(leaf.EmailAddresses, rule.Email) ||
			rule.DNS != "" && slices.Contains(leaf.DNSNames, rule.DNS) || rule.SPKI != "" && rule.SPKI == spki {
			id.Roles = append(id.Roles, rule.Roles...)
			id.Subject = rule.URI + rule.Email + rule.DNS + rule.SPKI
		}
	}
	if len(id.Roles) == 0 && r.Header.Get("Authorization") != "" {
		return nil, ErrNoCredentials // a certificate that no rule knows, as meshes give to everybody, does not stand in the way of a token
	}
	return id, nil
}
