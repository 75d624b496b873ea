// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"cofferdam.dev/internal/vault"
)

// createKey answers POST /keys/{name}/create.
func (h *Handler) createKey(c *call) error {
	m, err := c.readBody()
	if err != nil {
		return err
	}
	r := vault.KeyRequest{
		Type: vault.KeyType(m.text("kty")), Bits: m.number("key_size"), Curve: vault.Curve(m.text("crv")), Operations: m.operations(),
		Attributes: m.attributes(), Tags: m.tags(), Policy: m.releasePolicy(),
	}
	const exponent = 65537
	if e := m.number("public_exponent"); e != 0 && e != exponent {
		return bad("The public exponent of an RSA key is %d.", exponent)
	}
	if *m.err != nil {
		return *m.err
	}
	if h.opts.Vault.Managed() && !r.Type.HSM() {
		r.Type += "-HSM" // a managed HSM has no other keys
	}
	if err := c.releasable(r.Attributes, r.Policy); err != nil {
		return err
	}
	k, err := h.opts.Vault.CreateKey(c.r.Context(), c.name, r)
	return h.bundle(c, k, err)
}

// releasable refuses what versions before secure key release did not know.
func (c *call) releasable(a vault.AttributeChange, p *vault.ReleasePolicy) error {
	if slices.Contains(withoutRelease, c.version) && (p != nil || a.Exportable != nil && *a.Exportable) {
		return vault.ErrExportableUnsupported
	}
	return nil
}

// importKey answers PUT /keys/{name}.
func (h *Handler) importKey(c *call) error {
	m, err := c.readBody()
	if err != nil {
		return err
	}
	hsm := m.boolean("hsm")
	r := vault.KeyRequest{Operations: m.object("key").operations(), Attributes: m.attributes(), Tags: m.tags(), Policy: m.releasePolicy()}
	kty := m.object("key").text("kty")
	if *m.err != nil {
		return *m.err
	}
	if !m.has("key") {
		return bad("The body has no member key.")
	}
	if m.object("key").has("key_hsm") {
		return bad("Keys that are wrapped for another HSM (key_hsm) can not be imported.")
	}
	r.HSM = h.opts.Vault.Managed() || hsm != nil && *hsm || vault.KeyType(kty).HSM()
	if err := c.releasable(r.Attributes, r.Policy); err != nil {
		return err
	}
	raw, err := plainBase64(m.raw("key"))
	if err != nil {
		return err
	}
	material, err := vault.ParseMaterial(raw)
	clear(raw)
	clear(m.raw("key"))
	if err != nil {
		return err
	}
	defer material.Destroy()
	k, err := h.opts.Vault.ImportKey(c.r.Context(), c.name, material, r)
	return h.bundle(c, k, err)
}

// plainBase64 returns a JWK with its values in base64url without padding: clients send both alphabets, padded or not.
func plainBase64(jwk json.RawMessage) ([]byte, error) {
	var o map[string]json.RawMessage
	if err := json.Unmarshal(jwk, &o); err != nil {
		return nil, bad("The key is no JWK.")
	}
	for _, name := range []string{"n", "e", "d", "p", "q", "x", "y", "k"} {
		var s string
		if err := json.Unmarshal(o[name], &s); err != nil {
			continue // missing, or the parser says what is wrong
		}
		b, err := decode64(s)
		if err != nil {
			return nil, bad("The member %s of the key is not base64url.", name)
		}
		o[name] = json.RawMessage(`"` + encode64(b) + `"`)
		clear(b)
	}
	return json.Marshal(o)
}

// key answers GET /keys/{name}[/{version}].
func (h *Handler) key(c *call) error {
	k, err := h.opts.Vault.Key(c.r.Context(), c.name, c.id)
	return h.bundle(c, k, err)
}

// updateKey answers PATCH /keys/{name}[/{version}].
func (h *Handler) updateKey(c *call) error {
	m, err := c.readBody()
	if err != nil {
		return err
	}
	u := vault.KeyUpdate{Operations: m.operations(), Attributes: m.attributes(), Tags: m.tags(), Policy: m.releasePolicy()}
	if *m.err != nil {
		return *m.err
	}
	if err := c.releasable(vault.AttributeChange{}, u.Policy); err != nil {
		return err
	}
	k, err := h.opts.Vault.UpdateKey(c.r.Context(), c.name, c.id, u)
	return h.bundle(c, k, err)
}

// rotateKey answers POST /keys/{name}/rotate.
func (h *Handler) rotateKey(c *call) error {
	k, err := h.opts.Vault.RotateKey(c.r.Context(), c.name)
	return h.bundle(c, k, err)
}

// deleteKey answers DELETE /keys/{name}.
func (h *Handler) deleteKey(c *call) error {
	k, err := h.opts.Vault.DeleteKey(c.r.Context(), c.name)
	return h.bundle(c, k, err)
}

// deletedKey answers GET /deletedkeys/{name}.
func (h *Handler) deletedKey(c *call) error {
	k, err := h.opts.Vault.DeletedKey(c.r.Context(), c.name)
	return h.bundle(c, k, err)
}

// recoverKey answers POST /deletedkeys/{name}/recover.
func (h *Handler) recoverKey(c *call) error {
	k, err := h.opts.Vault.RecoverKey(c.r.Context(), c.name)
	return h.bundle(c, k, err)
}

// purgeKey answers DELETE /deletedkeys/{name}.
func (h *Handler) purgeKey(c *call) error {
	if err := h.opts.Vault.PurgeKey(c.r.Context(), c.name); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// keys answers GET /keys.
func (h *Handler) keys(c *call) error { return h.keyPage(c, "keys", h.opts.Vault.Keys, false) }

// deletedKeys answers GET /deletedkeys.
func (h *Handler) deletedKeys(c *call) error {
	return h.keyPage(c, "deletedkeys", h.opts.Vault.DeletedKeys, false)
}

// keyVersions answers GET /keys/{name}/versions.
func (h *Handler) keyVersions(c *call) error {
	read := func(ctx context.Context, after string, limit int) ([]*vault.Key, string, error) {
		return h.opts.Vault.KeyVersions(ctx, c.name, after, limit)
	}
	return h.keyPage(c, "keys/"+c.name+"/versions", read, true)
}

type keyReader func(ctx context.Context, after string, limit int) ([]*vault.Key, string, error)

func (h *Handler) keyPage(c *call, path string, read keyReader, versioned bool) error {
	after, limit, err := c.paging()
	if err != nil {
		return err
	}
	list, next, err := read(c.r.Context(), after, limit)
	if err != nil {
		return err
	}
	p := page{Value: []item{}, Next: h.nextLink(c, path, next)}
	for _, k := range list {
		version := ""
		if versioned {
			version = k.Version
		}
		i := item{KeyID: h.id("keys", k.Name, version), Attributes: h.attributes(k.Attributes), Tags: k.Tags}
		if d := k.Deleted; d != nil {
			i.RecoveryID, i.Deleted, i.Purge = h.id("deletedkeys", k.Name, ""), unix(&d.At), unix(&d.Purge)
		}
		p.Value = append(p.Value, i)
	}
	return h.respond(c, p)
}

// paging says where a page begins, and how many entries it has.
func (c *call) paging() (after string, limit int, err error) {
	limit = vault.MaxPage
	if s := c.query.Get("maxresults"); s != "" {
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 || limit > vault.MaxPage {
			return "", 0, bad("The parameter maxresults is not 1 to %d.", vault.MaxPage)
		}
	}
	if s := c.query.Get("$skiptoken"); s != "" {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil || !objectName.Match(b) {
			return "", 0, bad("The parameter $skiptoken is none that was given out.")
		}
		after = string(b)
	}
	return after, limit, nil
}

// nextLink is the URL of the next page, or nil.
func (h *Handler) nextLink(c *call, path, next string) *string {
	if next == "" {
		return nil
	}
	q := url.Values{"api-version": {c.version}, "$skiptoken": {encode64([]byte(next))}}
	if s := c.query.Get("maxresults"); s != "" {
		q.Set("maxresults", s)
	}
	// The dollar sign stands as it is, as clients know it.
	link := h.opts.URL + "/" + path + "?" + strings.Replace(q.Encode(), "%24skiptoken", "$skiptoken", 1)
	return &link
}

// random answers POST /rng.
func (h *Handler) random(c *call) error {
	m, err := c.readBody()
	if err != nil {
		return err
	}
	const most = 128
	n := m.number("count")
	if *m.err != nil {
		return *m.err
	}
	if n < 1 || n > most {
		return bad("The count of random bytes is not 1 to %d.", most)
	}
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return c.respond(map[string]string{"value": encode64(b)})
}
