// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"

	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/vault"
)

// result is the answer of an operation with a key.
type result struct {
	KeyID string `json:"kid"`
	Value string `json:"value"`
	IV    string `json:"iv,omitempty"`
	Tag   string `json:"tag,omitempty"`
	AAD   string `json:"aad,omitempty"`
}

// maxAlgorithm bounds the name of an algorithm in bytes: it is recorded, known or not.
const maxAlgorithm = 64

// operands are what the body of an operation has.
type operands struct {
	algorithm           vault.Algorithm
	value, digest       []byte
	iv, tag, aad        []byte
	hasValue, hasDigest bool
}

func (c *call) readOperands() (*operands, error) {
	m, err := c.readBody()
	if err != nil {
		return nil, err
	}
	o := &operands{
		algorithm: vault.Algorithm(m.text("alg")), value: m.binary("value"), digest: m.binary("digest"), iv: m.binary("iv"), tag: m.binary("tag"),
		aad: m.binary("aad"), hasValue: m.has("value"), hasDigest: m.has("digest"),
	}
	switch {
	case *m.err != nil:
		return nil, *m.err
	case o.algorithm == "" || len(o.algorithm) > maxAlgorithm:
		return nil, bad("The body has no member alg, or it is no algorithm.")
	case !o.hasValue:
		return nil, bad("The body has no member value.")
	}
	return o, nil
}

// encrypt answers POST /keys/{name}[/{version}]/encrypt.
func (h *Handler) encrypt(c *call) error {
	o, err := c.readOperands()
	if err != nil {
		return err
	}
	if o.iv != nil {
		return bad("The body has a member iv: the vault makes its own, which never occur twice.")
	}
	k, sealed, err := h.opts.Vault.Encrypt(c.r.Context(), c.name, c.id, o.algorithm, o.value, o.aad)
	return h.sealed(c, k, sealed, err)
}

// wrapKey answers POST /keys/{name}[/{version}]/wrapkey.
func (h *Handler) wrapKey(c *call) error {
	o, err := c.readOperands()
	if err != nil {
		return err
	}
	k, sealed, err := h.opts.Vault.WrapKey(c.r.Context(), c.name, c.id, o.algorithm, o.value)
	return h.sealed(c, k, sealed, err)
}

func (h *Handler) sealed(c *call, k *vault.Key, s *vault.Ciphertext, err error) error {
	if err != nil {
		return err
	}
	return h.respond(c, result{h.id("keys", k.Name, k.Version), encode64(s.Value), encode64(s.IV), encode64(s.Tag), encode64(s.AAD)})
}

// decrypt answers POST /keys/{name}[/{version}]/decrypt.
func (h *Handler) decrypt(c *call) error { return h.disclose(c, h.opts.Vault.Decrypt) }

// unwrapKey answers POST /keys/{name}[/{version}]/unwrapkey.
func (h *Handler) unwrapKey(c *call) error { return h.disclose(c, h.opts.Vault.UnwrapKey) }

type discloser func(ctx context.Context, name, version string, sealed vault.Ciphertext) (*vault.Key, *seal.Secret, error)

func (h *Handler) disclose(c *call, by discloser) error {
	o, err := c.readOperands()
	if err != nil {
		return err
	}
	k, plain, err := by(c.r.Context(), c.name, c.id, vault.Ciphertext{Algorithm: o.algorithm, Value: o.value, IV: o.iv, Tag: o.tag, AAD: o.aad})
	if err != nil {
		return err
	}
	defer plain.Destroy()
	return h.respond(c, result{KeyID: h.id("keys", k.Name, k.Version), Value: encode64(plain.Expose())})
}

// sign answers POST /keys/{name}[/{version}]/sign. What is signed is a digest, which the member is not named for.
func (h *Handler) sign(c *call) error {
	o, err := c.readOperands()
	if err != nil {
		return err
	}
	k, signature, err := h.opts.Vault.Sign(c.r.Context(), c.name, c.id, o.algorithm, o.value)
	if err != nil {
		return err
	}
	return h.respond(c, result{KeyID: h.id("keys", k.Name, k.Version), Value: encode64(signature)})
}

// verify answers POST /keys/{name}[/{version}]/verify.
func (h *Handler) verify(c *call) error {
	o, err := c.readOperands()
	if err != nil {
		return err
	}
	if !o.hasDigest {
		return bad("The body has no member digest.")
	}
	_, ok, err := h.opts.Vault.Verify(c.r.Context(), c.name, c.id, o.algorithm, o.digest, o.value)
	if err != nil {
		return err
	}
	return c.respond(map[string]bool{"value": ok})
}
