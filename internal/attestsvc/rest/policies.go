// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"crypto/sha1" //nolint:gosec // the protocol names certificates by it; nothing is decided by it
	"encoding/base64"
	"encoding/hex"
	"strings"

	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/auth"
)

// state answers with what the service says about its own state: a token, as everything that it says.
func (h *Handler) state(c *call, claims map[string]any) error {
	t, err := h.opts.Service.Statement(c.tenant, c.simulated, claims)
	if err != nil {
		return err
	}
	return respond(c, map[string]string{"token": t})
}

// policy answers GET /policies/{type}.
func (h *Handler) policy(c *call) error {
	token, _, _, err := h.opts.Service.Policy(c.r.Context(), c.tenant, c.kind)
	if err != nil {
		return err
	}
	return h.state(c, map[string]any{"x-ms-policy": token})
}

// setPolicy answers PUT /policies/{type}.
func (h *Handler) setPolicy(c *call) error { return h.changePolicy(c, h.opts.Service.SetPolicy) }

// resetPolicy answers POST /policies/{type}:reset.
func (h *Handler) resetPolicy(c *call) error { return h.changePolicy(c, h.opts.Service.ResetPolicy) }

type policyChanger func(ctx context.Context, tenant string, k attestsvc.Kind, text, by string) (*attestsvc.PolicyChange, error)

func (h *Handler) changePolicy(c *call, change policyChanger) error {
	text, err := readToken(c.r, "")
	if err != nil {
		return err
	}
	done, err := change(c.r.Context(), c.tenant, c.kind, text, auth.From(c.r.Context()).String())
	if err != nil {
		return err
	}
	claims := map[string]any{"x-ms-policy-result": done.Result, "x-ms-policy-token-hash": done.TokenHash}
	if done.Signer != nil {
		claims["x-ms-policy-signer"] = certificateKey(done.Signer)
	}
	return h.state(c, claims)
}

// certificateKey is a certificate as a JWK. Only those of RSA keys sign policies.
func certificateKey(der []byte) map[string]any {
	return map[string]any{"kty": "RSA", "use": "sig", "alg": "RS256", "x5c": []string{base64.StdEncoding.EncodeToString(der)}}
}

// signers answers GET /certificates.
func (h *Handler) signers(c *call) error {
	list, err := h.opts.Service.Signers(c.r.Context(), c.tenant)
	if err != nil {
		return err
	}
	keys := []map[string]any{}
	for _, der := range list {
		keys = append(keys, certificateKey(der))
	}
	return h.state(c, map[string]any{"x-ms-policy-certificates": map[string]any{"keys": keys}})
}

// addSigner answers POST /certificates:add.
func (h *Handler) addSigner(c *call) error {
	return h.changeSigner(c, "policyCertificateToAdd", "IsPresent", h.opts.Service.AddSigner)
}

// removeSigner answers POST /certificates:remove.
func (h *Handler) removeSigner(c *call) error {
	return h.changeSigner(c, "policyCertificateToRemove", "IsAbsent", h.opts.Service.RemoveSigner)
}

type signerChanger func(ctx context.Context, tenant, text, by string) (certificate []byte, err error)

func (h *Handler) changeSigner(c *call, member, result string, change signerChanger) error {
	text, err := readToken(c.r, member)
	if err != nil {
		return err
	}
	der, err := change(c.r.Context(), c.tenant, text, auth.From(c.r.Context()).String())
	if err != nil {
		return err
	}
	sum := sha1.Sum(der) //nolint:gosec // see above
	return h.state(c, map[string]any{
		"x-ms-certificate-thumbprint": strings.ToUpper(hex.EncodeToString(sum[:])),
		// The protocol has had two names for the result, and clients of each are about.
		"x-ms-policycertificates-result": result, "x-ms-certificate-result": result,
	})
}
