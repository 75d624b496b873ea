// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"maps"
	"regexp"
	"slices"
	"time"
)

// class tells keys and secrets apart; it is the first part of their paths in the store.
type class string

const (
	keys    class = "key"
	secrets class = "secret"
)

// Attributes are what all objects have.
type Attributes struct {
	Enabled bool `json:"enabled"`
	// NotBefore and Expires bound the time in which the object can be used; nil is no bound.
	NotBefore *time.Time `json:"nbf,omitempty"`
	Expires   *time.Time `json:"exp,omitempty"`
	// Exportable objects can be released. It never changes.
	Exportable bool      `json:"exportable,omitempty"`
	Created    time.Time `json:"created"`
	Updated    time.Time `json:"updated"`
}

// AttributeChange is what a request says of attributes. Nil leaves a value as it is; of a new object, it is the default:
// enabled, without bounds, not exportable.
type AttributeChange struct {
	Enabled    *bool
	NotBefore  *time.Time
	Expires    *time.Time
	Exportable *bool
}

// ReleasePolicy says to whom an object may be released.
type ReleasePolicy struct {
	ContentType string `json:"contentType"`
	// Data is the policy's text, normalised when it was set.
	Data []byte `json:"data"`
	// Immutable policies can never be replaced.
	Immutable bool `json:"immutable,omitempty"`
}

// PolicyContentType is the only content type of release policies.
const PolicyContentType = "application/json; charset=utf-8"

// record is what is known of a version besides its material.
type record struct {
	Version string `json:"version"`
	// Type, Curve, Bits, Operations and Public describe keys; Public is a SubjectPublicKeyInfo in DER.
	Type       KeyType     `json:"type,omitempty"`
	Curve      Curve       `json:"curve,omitempty"`
	Bits       int         `json:"bits,omitempty"`
	Operations []Operation `json:"operations,omitempty"`
	Public     []byte      `json:"public,omitempty"`
	// ContentType describes secrets.
	ContentType string            `json:"contentType,omitempty"`
	Attributes  Attributes        `json:"attributes"`
	Tags        map[string]string `json:"tags,omitempty"`
}

// head is what is known of an object as a whole.
type head struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	// Current is the newest version, and Versions how many there are.
	Current  record `json:"current"`
	Versions int    `json:"versions"`
	// Policy is that of all versions.
	Policy *ReleasePolicy `json:"policy,omitempty"`
	// Rotation is the policy by which a key is rotated; nil is the default.
	Rotation *rotation `json:"rotation,omitempty"`
	Deleted  *deletion `json:"deleted,omitempty"`
}

type deletion struct {
	At    time.Time `json:"at"`
	Purge time.Time `json:"purge"`
}

var (
	objectName    = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)
	objectVersion = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

func checkName(name string) error {
	if !objectName.MatchString(name) {
		return bad("The name of an object is 1 to 127 letters, digits and hyphens.")
	}
	return nil
}

// apply returns the attributes after a change.
func (c AttributeChange) apply(a Attributes, now time.Time) (Attributes, error) {
	if c.Enabled != nil {
		a.Enabled = *c.Enabled
	}
	if c.NotBefore != nil {
		a.NotBefore = seconds(*c.NotBefore)
	}
	if c.Expires != nil {
		a.Expires = seconds(*c.Expires)
	}
	if a.NotBefore != nil && a.Expires != nil && !a.NotBefore.Before(*a.Expires) {
		return a, bad("The object would expire before it becomes valid.")
	}
	a.Updated = *seconds(now)
	return a, nil
}

func newAttributes(c AttributeChange, now time.Time) (Attributes, error) {
	a := Attributes{Enabled: true, Created: *seconds(now)}
	if c.Exportable != nil {
		a.Exportable = *c.Exportable
	}
	return c.apply(a, now)
}

// seconds rounds down as the protocol does.
func seconds(t time.Time) *time.Time {
	t = t.UTC().Truncate(time.Second)
	return &t
}

func checkTags(tags map[string]string) error {
	if len(tags) > MaxTags {
		return bad("An object has at most %d tags.", MaxTags)
	}
	for name, value := range tags {
		if len(name) > MaxTagSize || len(value) > MaxTagSize {
			return bad("Names and values of tags have at most %d bytes.", MaxTagSize)
		}
	}
	return nil
}

// usable returns an error unless the object may be used now.
func (r *record) usable(c class, name string, now time.Time) error {
	a := r.Attributes
	switch {
	case !a.Enabled:
		return &Error{Code: Disabled, Message: "Operation is not allowed on a disabled " + string(c) + "."}
	case a.NotBefore != nil && now.Before(*a.NotBefore):
		return &Error{Code: Disabled, Message: "The " + string(c) + " " + name + " is not yet valid."}
	case a.Expires != nil && !now.Before(*a.Expires):
		return &Error{Code: Disabled, Message: "The " + string(c) + " " + name + " has expired."}
	}
	return nil
}

// clone returns a record that shares nothing with r.
func (r record) clone() record {
	r.Operations = slices.Clone(r.Operations)
	r.Public = slices.Clone(r.Public)
	r.Tags = maps.Clone(r.Tags)
	return r
}
