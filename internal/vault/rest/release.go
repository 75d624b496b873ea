// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"encoding/json"
	"fmt"
	"slices"

	"cofferdam.dev/internal/vault"
	"cofferdam.dev/internal/vault/wrap"
)

// maxNonce bounds the nonce of a request in bytes.
const maxNonce = 1024

// released is the payload of a signed answer.
type released struct {
	Request  releaseRequest `json:"request"`
	Response any            `json:"response"`
}

// releaseRequest repeats the request, so that the answer can not be taken for that to another. The ID has a version when the
// request had one.
type releaseRequest struct {
	Version string   `json:"api-version"`
	Enc     wrap.Enc `json:"enc"`
	KeyID   string   `json:"kid"`
	Nonce   string   `json:"nonce,omitempty"`
}

// releasedKey is a key as it is released.
type releasedKey struct {
	Key struct {
		Key        jsonKey       `json:"key"`
		Attributes attributes    `json:"attributes"`
		Policy     *policyBundle `json:"release_policy,omitempty"`
	} `json:"key"`
}

// releasedSecret is a secret as it is released, in the same form. Azure's vaults release none.
type releasedSecret struct {
	Secret struct {
		Secret struct {
			ID          string `json:"id"`
			ContentType string `json:"contentType,omitempty"`
			Wrapped     string `json:"value_hsm"`
		} `json:"secret"`
		Attributes attributes    `json:"attributes"`
		Policy     *policyBundle `json:"release_policy,omitempty"`
	} `json:"secret"`
}

// wrapped is the content of key_hsm.
type wrapped struct {
	Version string        `json:"schema_version"`
	Header  wrappedHeader `json:"header"`
	Cipher  string        `json:"ciphertext"`
}

type wrappedHeader struct {
	KeyID string   `json:"kid"`
	Alg   string   `json:"alg"`
	Enc   wrap.Enc `json:"enc"`
}

// readRelease takes a request for a release apart.
func (c *call) readRelease() (r vault.ReleaseRequest, nonce string, err error) {
	if slices.Contains(withoutRelease, c.version) {
		return r, "", bad("The api-version %s has no releases: they came with 7.3.", c.version)
	}
	m, err := c.readBody()
	if err != nil {
		return r, "", err
	}
	r = vault.ReleaseRequest{Name: c.name, Version: c.id, Target: m.text("target"), Enc: wrap.Enc(m.text("enc"))}
	nonce = m.text("nonce")
	switch {
	case *m.err != nil:
		return r, "", *m.err
	case r.Target == "":
		return r, "", bad("The body has no member target: the token that says what the target environment is.")
	case len(nonce) > maxNonce:
		return r, "", bad("The member nonce of the body has more than %d bytes.", maxNonce)
	}
	return r, nonce, nil
}

// releaseKey answers POST /keys/{name}[/{version}]/release.
func (h *Handler) releaseKey(c *call) error {
	r, nonce, err := c.readRelease()
	if err != nil {
		return err
	}
	rel, err := h.opts.Vault.Release(c.r.Context(), r)
	if err != nil {
		return err
	}
	k := rel.Key
	body := releasedKey{}
	if body.Key.Key, err = h.jsonKey(k); err != nil {
		return err
	}
	if body.Key.Key.Wrapped, err = h.wrapped(rel); err != nil {
		return err
	}
	body.Key.Attributes, body.Key.Policy = h.attributes(k.Attributes), h.releasedPolicy(k.Policy)
	if h.opts.Vault.Managed() {
		body.Key.Key.Type = k.Type.Base() // of what comes out, which is no HSM's any more
	}
	return h.answerRelease(c, rel, releaseRequest{c.version, rel.Enc, h.id("keys", k.Name, c.id), nonce}, body)
}

// releaseSecret answers POST /secrets/{name}[/{version}]/release.
func (h *Handler) releaseSecret(c *call) error {
	r, nonce, err := c.readRelease()
	if err != nil {
		return err
	}
	rel, err := h.opts.Vault.ReleaseSecret(c.r.Context(), r)
	if err != nil {
		return err
	}
	s := rel.Secret
	body := releasedSecret{}
	body.Secret.Secret.ID, body.Secret.Secret.ContentType = h.id("secrets", s.Name, s.Version), s.ContentType
	if body.Secret.Secret.Wrapped, err = h.wrapped(rel); err != nil {
		return err
	}
	body.Secret.Attributes, body.Secret.Policy = h.attributes(s.Attributes), h.releasedPolicy(s.Policy)
	return h.answerRelease(c, rel, releaseRequest{c.version, rel.Enc, h.id("secrets", s.Name, c.id), nonce}, body)
}

// releasedPolicy is a policy in a release, which a vault writes without its content type.
func (h *Handler) releasedPolicy(p *vault.ReleasePolicy) *policyBundle {
	b := newPolicyBundle(p)
	if b != nil && !h.opts.Vault.Managed() {
		b.ContentType = ""
	}
	return b
}

// wrapped returns key_hsm.
func (h *Handler) wrapped(rel *vault.Released) (string, error) {
	b, err := h.encode(wrapped{"1.0", wrappedHeader{rel.Recipient, "dir", rel.Enc}, encode64(rel.Wrapped)})
	return encode64(b), err
}

// encode encodes a document in the order of members that the kind of vault has.
func (h *Handler) encode(v any) ([]byte, error) {
	if h.opts.Vault.Managed() {
		return sortedJSON(v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding an answer: %w", err)
	}
	return b, nil
}

func (h *Handler) answerRelease(c *call, rel *vault.Released, request releaseRequest, response any) error {
	payload, err := h.encode(released{request, response})
	if err != nil {
		return err
	}
	jws, err := h.opts.Signer.sign(h.header, payload)
	if err != nil {
		return err
	}
	c.w.Header().Set(ReleaseHeader, rel.ID)
	return c.respond(map[string]string{"value": jws})
}

// explain answers GET /releases/{id}, which is ours: why a release was allowed or denied.
func (h *Handler) explain(c *call) error {
	d, err := h.opts.Vault.Explain(c.r.Context(), c.name)
	if err != nil {
		return err
	}
	return c.respond(d)
}
