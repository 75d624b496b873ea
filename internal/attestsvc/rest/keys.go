// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"

	"cofferdam.dev/internal/attestsvc"
)

// keysAge is how long the key set may be kept. It must be well below attestsvc.KeysAhead, so that nobody meets a token by a
// key that a kept set lacks.
const keysAge = attestsvc.KeysAhead / 12

// metadataAge is how long the metadata may be kept, which change with the service's configuration alone.
const metadataAge = time.Hour

// keys answers GET /certs with the key set.
func (h *Handler) keys(c *call) error {
	b, err := h.opts.Service.JWKS(c.r.Context())
	if err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
	header := c.w.Header()
	header.Set("Etag", tag)
	keep(header, keysAge)
	for _, seen := range strings.Split(c.r.Header.Get("If-None-Match"), ",") {
		if seen = strings.TrimSpace(seen); seen == "*" || strings.TrimPrefix(seen, "W/") == tag {
			c.w.WriteHeader(http.StatusNotModified)
			return nil
		}
	}
	header.Set("Content-Type", "application/json; charset=utf-8") // clients exist that take no other kind for JSON
	_, _ = c.w.Write(b)                                           // the client may be gone
	return nil
}

func keep(h http.Header, age time.Duration) {
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(age.Seconds())))
}

// metadata answers GET /.well-known/openid-configuration. There is no revocation endpoint: tokens are short-lived, and a
// key that must not be trusted any more disappears from the key set.
func (h *Handler) metadata(c *call) error {
	issuer := h.opts.Service.Issuer(c.tenant, c.simulated)
	keep(c.w.Header(), metadataAge)
	return respond(c, map[string]any{
		"issuer": issuer, "jwks_uri": issuer + "/certs", "response_types_supported": []string{"token", "none"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256", "ES256"},
		"claims_supported":                      claimsSupported,
	})
}

// claimsSupported are claims that tokens have, whatever was attested, and those that older clients look for.
var claimsSupported = []string{
	"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "nonce", "x-ms-ver", "x-ms-attestation-type", "x-ms-policy-hash", "x-ms-policy-signer",
	"x-ms-runtime", "x-ms-inittime", "x-ms-compliance-status", "is-debuggable", "sgx-mrsigner", "sgx-mrenclave", "product-id", "svn", "tee",
}

// challenge answers /challenge with a nonce that can be used once.
func (h *Handler) challenge(c *call) error {
	nonce, until, err := h.opts.Service.Challenge(c.tenant)
	if err != nil {
		return err
	}
	return respond(c, map[string]string{"nonce": nonce, "expires": until.Format(time.RFC3339)})
}
