// SPDX-License-Identifier: Apache-2.0

package release

import (
	"encoding/json"
	"log/slog"
)

// Secret is a secret that a vault released. It prints as its ID alone, also in logs and in JSON; Value hands it out.
type Secret struct {
	id, contentType string
	value           []byte
}

// describedSecret is a secret as the vault's answer describes it.
type describedSecret struct {
	ID          string `json:"id"`
	ContentType string `json:"contentType"`
	Value       string `json:"value_hsm"`
}

// ID returns the secret's URL in the vault, with its version.
func (s *Secret) ID() string { return s.id }

// ContentType returns what its owner says that it is, or "".
func (s *Secret) ContentType() string { return s.contentType }

// Value returns the secret's bytes, which the caller must not change.
func (s *Secret) Value() []byte { return s.value }

// String names the secret without its value.
func (s *Secret) String() string { return "secret " + s.id }

// GoString is String, so that no format prints the value.
func (s *Secret) GoString() string { return s.String() }

// LogValue is String, so that no log has the value.
func (s *Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON returns the secret's name, not its value.
func (s *Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }
