// SPDX-License-Identifier: Apache-2.0

package client

import (
	"encoding/json"
	"net/url"
	"strings"
)

// Attributes are those of any object. Times are seconds since 1970.
type Attributes struct {
	Enabled         *bool  `json:"enabled,omitempty"`
	NotBefore       *int64 `json:"nbf,omitempty"`
	Expires         *int64 `json:"exp,omitempty"`
	Created         int64  `json:"created,omitempty"`
	Updated         int64  `json:"updated,omitempty"`
	RecoveryLevel   string `json:"recoveryLevel,omitempty"`
	RecoverableDays int    `json:"recoverableDays,omitempty"`
	Exportable      *bool  `json:"exportable,omitempty"`
}

// Policy is a release policy on its way: its text is in base64url, without padding where we write it.
type Policy struct {
	ContentType string `json:"contentType,omitempty"`
	Data        string `json:"data"`
	Immutable   bool   `json:"immutable,omitempty"`
}

// PublicKey is the part of a key that vaults show to everybody who may read keys.
type PublicKey struct {
	ID         string   `json:"kid"`
	Type       string   `json:"kty"`
	Operations []string `json:"key_ops,omitempty"`
	N          string   `json:"n,omitempty"`
	E          string   `json:"e,omitempty"`
	Curve      string   `json:"crv,omitempty"`
	X          string   `json:"x,omitempty"`
	Y          string   `json:"y,omitempty"`
}

// Deletion is what deleted objects have beside all else.
type Deletion struct {
	RecoveryID string `json:"recoveryId,omitempty"`
	Deleted    *int64 `json:"deletedDate,omitempty"`
	Purge      *int64 `json:"scheduledPurgeDate,omitempty"`
}

// Key is a key, deleted or not.
type Key struct {
	Key        PublicKey         `json:"key"`
	Attributes Attributes        `json:"attributes"`
	Tags       map[string]string `json:"tags,omitempty"`
	Policy     *Policy           `json:"release_policy,omitempty"`
	Deletion
}

// Secret is a secret, deleted or not. Value is there when it was asked for.
type Secret struct {
	Value       string            `json:"value,omitempty"`
	ContentType string            `json:"contentType,omitempty"`
	ID          string            `json:"id"`
	Attributes  Attributes        `json:"attributes"`
	Tags        map[string]string `json:"tags,omitempty"`
	Policy      *Policy           `json:"release_policy,omitempty"`
	Deletion
}

// Item is an object in a list. Keys are known by KeyID, secrets by ID.
type Item struct {
	KeyID       string            `json:"kid,omitempty"`
	ID          string            `json:"id,omitempty"`
	ContentType string            `json:"contentType,omitempty"`
	Attributes  Attributes        `json:"attributes"`
	Tags        map[string]string `json:"tags,omitempty"`
	Deletion
}

// page is one page of a list.
type page struct {
	Value []Item  `json:"value"`
	Next  *string `json:"nextLink"`
}

// Create asks for a key that the vault makes.
type Create struct {
	Type       string            `json:"kty"`
	Bits       int               `json:"key_size,omitempty"`
	Curve      string            `json:"crv,omitempty"`
	Operations []string          `json:"key_ops,omitempty"`
	Attributes Attributes        `json:"attributes"`
	Tags       map[string]string `json:"tags,omitempty"`
	Policy     *Policy           `json:"release_policy,omitempty"`
}

// Import brings a key to the vault.
type Import struct {
	// Key is the private key as a JWK.
	Key        json.RawMessage   `json:"key"`
	HSM        bool              `json:"hsm,omitempty"`
	Attributes Attributes        `json:"attributes"`
	Tags       map[string]string `json:"tags,omitempty"`
	Policy     *Policy           `json:"release_policy,omitempty"`
}

// SetSecret brings a secret to the vault.
type SetSecret struct {
	Value       string            `json:"value"`
	ContentType string            `json:"contentType,omitempty"`
	Attributes  Attributes        `json:"attributes"`
	Tags        map[string]string `json:"tags,omitempty"`
	Policy      *Policy           `json:"release_policy,omitempty"`
}

// Update changes a key.
type Update struct {
	Policy *Policy `json:"release_policy,omitempty"`
}

// Backup is an object that a vault has sealed for itself, in base64url.
type Backup struct {
	Value string `json:"value"`
}

// RotationPolicy says when a vault makes new versions of a key. Times are periods as ISO 8601 has them.
type RotationPolicy struct {
	ID         string           `json:"id,omitempty"`
	Actions    []LifetimeAction `json:"lifetimeActions"`
	Attributes struct {
		Expiry  string `json:"expiryTime,omitempty"`
		Created *int64 `json:"created,omitempty"`
		Updated *int64 `json:"updated,omitempty"`
	} `json:"attributes"`
}

// LifetimeAction is a rule of a rotation policy; one of its times is set.
type LifetimeAction struct {
	Trigger struct {
		AfterCreate  string `json:"timeAfterCreate,omitempty"`
		BeforeExpiry string `json:"timeBeforeExpiry,omitempty"`
	} `json:"trigger"`
	Action struct {
		Type string `json:"type"`
	} `json:"action"`
}

// Release asks for an object on behalf of the guest that an attestation service's token speaks about.
type Release struct {
	Target string `json:"target"`
	Enc    string `json:"enc,omitempty"`
	Nonce  string `json:"nonce,omitempty"`
}

// NameOf takes the name and the version, which may be missing, out of the URL of an object.
func NameOf(id string) (name, version string) {
	u, err := url.Parse(id)
	if err != nil {
		return "", ""
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(parts) > 1 {
		name = parts[1]
	}
	if len(parts) > 2 {
		version = parts[2]
	}
	return name, version
}
