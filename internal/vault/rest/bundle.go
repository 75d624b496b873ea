// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/big"
	"time"

	"cofferdam.dev/internal/vault"
)

// The documents below have their members in the order in which Azure's vaults write them. A managed HSM sorts them.

// jsonKey is the public part of a key.
type jsonKey struct {
	ID         string            `json:"kid"`
	Type       vault.KeyType     `json:"kty"`
	Operations []vault.Operation `json:"key_ops"`
	N          string            `json:"n,omitempty"`
	E          string            `json:"e,omitempty"`
	Curve      vault.Curve       `json:"crv,omitempty"`
	X          string            `json:"x,omitempty"`
	Y          string            `json:"y,omitempty"`
	// Wrapped is the key itself, in answers to releases alone.
	Wrapped string `json:"key_hsm,omitempty"`
}

// attributes are those of any object, with times in seconds since 1970.
type attributes struct {
	Enabled         bool   `json:"enabled"`
	NotBefore       *int64 `json:"nbf,omitempty"`
	Expires         *int64 `json:"exp,omitempty"`
	Created         int64  `json:"created"`
	Updated         int64  `json:"updated"`
	RecoveryLevel   string `json:"recoveryLevel"`
	RecoverableDays int    `json:"recoverableDays"`
	Exportable      bool   `json:"exportable,omitempty"`
}

// policyBundle is a release policy. Released keys have it without its content type.
type policyBundle struct {
	ContentType string `json:"contentType,omitempty"`
	Data        string `json:"data"`
	Immutable   bool   `json:"immutable,omitempty"`
}

// keyBundle is a key, deleted or not.
type keyBundle struct {
	RecoveryID string            `json:"recoveryId,omitempty"`
	Deleted    *int64            `json:"deletedDate,omitempty"`
	Purge      *int64            `json:"scheduledPurgeDate,omitempty"`
	Key        jsonKey           `json:"key"`
	Attributes attributes        `json:"attributes"`
	Tags       map[string]string `json:"tags,omitempty"`
	Policy     *policyBundle     `json:"release_policy,omitempty"`
}

// item is an object in a list. Keys are known by kid, secrets by id.
type item struct {
	RecoveryID  string            `json:"recoveryId,omitempty"`
	Deleted     *int64            `json:"deletedDate,omitempty"`
	Purge       *int64            `json:"scheduledPurgeDate,omitempty"`
	KeyID       string            `json:"kid,omitempty"`
	ID          string            `json:"id,omitempty"`
	ContentType string            `json:"contentType,omitempty"`
	Attributes  attributes        `json:"attributes"`
	Tags        map[string]string `json:"tags,omitempty"`
}

// page is one page of a list.
type page struct {
	Value []item  `json:"value"`
	Next  *string `json:"nextLink"`
}

func unix(t *time.Time) *int64 {
	if t == nil {
		return nil
	}
	s := t.Unix()
	return &s
}

// id is the identifier of an object, or of a version of it.
func (h *Handler) id(kind, name, version string) string {
	s := h.opts.URL + "/" + kind + "/" + name
	if version != "" {
		s += "/" + version
	}
	return s
}

func (h *Handler) attributes(a vault.Attributes) attributes {
	return attributes{
		Enabled: a.Enabled, NotBefore: unix(a.NotBefore), Expires: unix(a.Expires), Created: a.Created.Unix(), Updated: a.Updated.Unix(),
		RecoveryLevel: h.opts.Vault.RecoveryLevel(), RecoverableDays: h.opts.Vault.RecoverableDays(), Exportable: a.Exportable,
	}
}

// jsonKey returns the public part of a key. A vault writes RSA exponents in four bytes, a managed HSM in as many as they
// need.
func (h *Handler) jsonKey(k *vault.Key) (jsonKey, error) {
	j := jsonKey{ID: h.id("keys", k.Name, k.Version), Type: k.Type, Operations: k.Operations}
	switch p := k.Public.(type) {
	case nil:
	case *rsa.PublicKey:
		j.N, j.E = encode64(p.N.Bytes()), encode64(binary.BigEndian.AppendUint32(nil, uint32(p.E)))
		if h.opts.Vault.Managed() {
			j.E = encode64(big.NewInt(int64(p.E)).Bytes())
		}
	case *ecdsa.PublicKey:
		point, err := p.Bytes() // 4 ‖ X ‖ Y (SEC 1 §2.3.3)
		if err != nil {
			return j, fmt.Errorf("encoding the public part of key %s: %w", k.Name, err)
		}
		half := (len(point) - 1) / 2
		j.Curve, j.X, j.Y = k.Curve, encode64(point[1:1+half]), encode64(point[1+half:])
	default:
		return j, fmt.Errorf("encoding the public part of key %s: it is a %T", k.Name, k.Public)
	}
	return j, nil
}

func newPolicyBundle(p *vault.ReleasePolicy) *policyBundle {
	if p == nil {
		return nil
	}
	return &policyBundle{p.ContentType, encode64(p.Data), p.Immutable}
}

// bundle answers with a key.
func (h *Handler) bundle(c *call, k *vault.Key, err error) error {
	if err != nil {
		return err
	}
	j, err := h.jsonKey(k)
	if err != nil {
		return err
	}
	b := keyBundle{Key: j, Attributes: h.attributes(k.Attributes), Tags: k.Tags, Policy: newPolicyBundle(k.Policy)}
	if d := k.Deleted; d != nil {
		b.RecoveryID, b.Deleted, b.Purge = h.id("deletedkeys", k.Name, ""), unix(&d.At), unix(&d.Purge)
	}
	return h.respond(c, b)
}

// respond answers with a document in the order of members that the kind of vault has.
func (h *Handler) respond(c *call, v any) error {
	b, err := h.encode(v)
	if err != nil {
		return err
	}
	return c.respond(json.RawMessage(b))
}

// sortedJSON encodes a document with the members of all objects sorted by their names.
func sortedJSON(v any) (json.RawMessage, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding an answer: %w", err)
	}
	var tree any // numbers of these documents are exact in a float: none is above 2^53
	if err := json.Unmarshal(b, &tree); err != nil {
		return nil, fmt.Errorf("encoding an answer: %w", err)
	}
	if b, err = json.Marshal(tree); err != nil {
		return nil, fmt.Errorf("encoding an answer: %w", err)
	}
	return b, nil
}
