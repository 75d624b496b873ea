// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"net/http"
	"unicode/utf8"

	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/vault"
)

// secretBundle is a secret, deleted or not. It has its value where somebody asked for that, and said who they are.
type secretBundle struct {
	Value       *string           `json:"value,omitempty"`
	ContentType string            `json:"contentType,omitempty"`
	ID          string            `json:"id"`
	RecoveryID  string            `json:"recoveryId,omitempty"`
	Deleted     *int64            `json:"deletedDate,omitempty"`
	Purge       *int64            `json:"scheduledPurgeDate,omitempty"`
	Attributes  attributes        `json:"attributes"`
	Tags        map[string]string `json:"tags,omitempty"`
	// Policy is ours: Azure's secrets have none.
	Policy *policyBundle `json:"release_policy,omitempty"`
}

// secretValue answers with a secret and its value, which may be nil.
func (h *Handler) secretValue(c *call, s *vault.Secret, value *string, err error) error {
	if err != nil {
		return err
	}
	b := secretBundle{
		Value: value, ContentType: s.ContentType, ID: h.id("secrets", s.Name, s.Version), Attributes: h.attributes(s.Attributes), Tags: s.Tags,
		Policy: newPolicyBundle(s.Policy),
	}
	if d := s.Deleted; d != nil {
		b.RecoveryID, b.Deleted, b.Purge = h.id("deletedsecrets", s.Name, ""), unix(&d.At), unix(&d.Purge)
	}
	return h.respond(c, b)
}

func (h *Handler) bareSecret(c *call, s *vault.Secret, err error) error {
	return h.secretValue(c, s, nil, err)
}

// setSecret answers PUT /secrets/{name}.
func (h *Handler) setSecret(c *call) error {
	m, err := c.readBody()
	if err != nil {
		return err
	}
	value := m.text("value")
	r := vault.SecretRequest{
		Value: seal.NewSecret([]byte(value)), ContentType: m.text("contentType"), Attributes: m.attributes(), Tags: m.tags(), Policy: m.releasePolicy(),
	}
	defer r.Value.Destroy()
	if *m.err != nil {
		return *m.err
	}
	if err := c.releasable(r.Attributes, r.Policy); err != nil {
		return err
	}
	s, err := h.opts.Vault.SetSecret(c.r.Context(), c.name, r)
	return h.secretValue(c, s, &value, err) // whoever set it knows it
}

// secret answers GET /secrets/{name}[/{version}].
func (h *Handler) secret(c *call) error {
	s, value, err := h.opts.Vault.SecretValue(c.r.Context(), c.name, c.id)
	if err != nil {
		return err
	}
	defer value.Destroy()
	text := string(value.Expose())
	if !utf8.ValidString(text) {
		return refuse(http.StatusConflict, codeConflict, "The secret is not text, which this protocol can not carry: it was set by another.")
	}
	return h.secretValue(c, s, &text, nil)
}

// updateSecret answers PATCH /secrets/{name}[/{version}].
func (h *Handler) updateSecret(c *call) error {
	m, err := c.readBody()
	if err != nil {
		return err
	}
	u := vault.SecretUpdate{ContentType: m.optional("contentType"), Attributes: m.attributes(), Tags: m.tags(), Policy: m.releasePolicy()}
	if m.has("value") {
		return bad("The value of a secret can not be changed: set a new version.")
	}
	if *m.err != nil {
		return *m.err
	}
	s, err := h.opts.Vault.UpdateSecret(c.r.Context(), c.name, c.id, u)
	return h.bareSecret(c, s, err)
}

// deleteSecret answers DELETE /secrets/{name}.
func (h *Handler) deleteSecret(c *call) error {
	s, err := h.opts.Vault.DeleteSecret(c.r.Context(), c.name)
	return h.bareSecret(c, s, err)
}

// deletedSecret answers GET /deletedsecrets/{name}.
func (h *Handler) deletedSecret(c *call) error {
	s, err := h.opts.Vault.DeletedSecret(c.r.Context(), c.name)
	return h.bareSecret(c, s, err)
}

// recoverSecret answers POST /deletedsecrets/{name}/recover.
func (h *Handler) recoverSecret(c *call) error {
	s, err := h.opts.Vault.RecoverSecret(c.r.Context(), c.name)
	return h.bareSecret(c, s, err)
}

// purgeSecret answers DELETE /deletedsecrets/{name}.
func (h *Handler) purgeSecret(c *call) error {
	if err := h.opts.Vault.PurgeSecret(c.r.Context(), c.name); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// secrets answers GET /secrets.
func (h *Handler) secrets(c *call) error {
	return h.secretPage(c, "secrets", h.opts.Vault.Secrets, false)
}

// deletedSecrets answers GET /deletedsecrets.
func (h *Handler) deletedSecrets(c *call) error {
	return h.secretPage(c, "deletedsecrets", h.opts.Vault.DeletedSecrets, false)
}

// secretVersions answers GET /secrets/{name}/versions.
func (h *Handler) secretVersions(c *call) error {
	read := func(ctx context.Context, after string, limit int) ([]*vault.Secret, string, error) {
		return h.opts.Vault.SecretVersions(ctx, c.name, after, limit)
	}
	return h.secretPage(c, "secrets/"+c.name+"/versions", read, true)
}

type secretReader func(ctx context.Context, after string, limit int) ([]*vault.Secret, string, error)

func (h *Handler) secretPage(c *call, path string, read secretReader, versioned bool) error {
	after, limit, err := c.paging()
	if err != nil {
		return err
	}
	list, next, err := read(c.r.Context(), after, limit)
	if err != nil {
		return err
	}
	p := page{Value: []item{}, Next: h.nextLink(c, path, next)}
	for _, s := range list {
		version := ""
		if versioned {
			version = s.Version
		}
		i := item{ID: h.id("secrets", s.Name, version), ContentType: s.ContentType, Attributes: h.attributes(s.Attributes), Tags: s.Tags}
		if d := s.Deleted; d != nil {
			i.RecoveryID, i.Deleted, i.Purge = h.id("deletedsecrets", s.Name, ""), unix(&d.At), unix(&d.Purge)
		}
		p.Value = append(p.Value, i)
	}
	return h.respond(c, p)
}
