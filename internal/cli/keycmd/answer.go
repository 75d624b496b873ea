// SPDX-License-Identifier: Apache-2.0

package keycmd

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/internal/vault/client"
)

// vaultKey is the document behind what commands say about a key with -o json: what the vault says, and the policy as text.
type vaultKey struct {
	Schema string `json:"schema"`
	client.Key
	// ReleasePolicy is the text of release_policy.
	ReleasePolicy json.RawMessage `json:"releasePolicy,omitempty"`
}

// vaultSecret is the same for a secret. Its value is there only when it was asked for.
type vaultSecret struct {
	Schema string `json:"schema"`
	client.Secret
	ReleasePolicy json.RawMessage `json:"releasePolicy,omitempty"`
}

const (
	vaultKeySchema    = "cofferdam.dev/vault-key/v1"
	vaultSecretSchema = "cofferdam.dev/vault-secret/v1" //nolint:gosec // the name of a schema
)

// policyOf returns the text of a policy in an answer, or nil.
func policyOf(p *client.Policy) (json.RawMessage, error) {
	if p == nil {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(p.Data, "="))
	if err != nil || !json.Valid(b) {
		return nil, fmt.Errorf("the vault's answer has a release policy that is no JSON in base64url")
	}
	return b, nil
}

// answerKey says what a key is.
func (a *App) answerKey(k *client.Key) error {
	text, err := policyOf(k.Policy)
	if err != nil {
		return err
	}
	return a.Answer(vaultKey{vaultKeySchema, *k, text}, func(w io.Writer) error {
		pairs := [][2]string{{"key", plain.Printable(k.Key.ID)}, {"type", keyTypeText(&k.Key)}, {"operations", plain.Printable(strings.Join(k.Key.Operations, ", "))}}
		pairs = append(pairs, attributeFacts(&k.Attributes, k.Tags, &k.Deletion)...)
		return factsWithPolicy(w, pairs, k.Policy, text)
	})
}

// answerSecret says what a secret is.
func (a *App) answerSecret(s *client.Secret) error {
	text, err := policyOf(s.Policy)
	if err != nil {
		return err
	}
	return a.Answer(vaultSecret{vaultSecretSchema, *s, text}, func(w io.Writer) error {
		pairs := [][2]string{{"secret", plain.Printable(s.ID)}}
		if s.ContentType != "" {
			pairs = append(pairs, [2]string{"content type", plain.Printable(s.ContentType)})
		}
		pairs = append(pairs, attributeFacts(&s.Attributes, s.Tags, &s.Deletion)...)
		return factsWithPolicy(w, pairs, s.Policy, text)
	})
}

func keyTypeText(k *client.PublicKey) string {
	switch n, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(k.N, "=")); {
	case k.Curve != "":
		return plain.Printable(k.Type + " " + k.Curve)
	case k.N != "" && err == nil:
		return plain.Printable(fmt.Sprintf("%s %d", k.Type, 8*len(bytes.TrimLeft(n, "\x00"))))
	}
	return plain.Printable(k.Type)
}

func moment(seconds *int64) string {
	if seconds == nil {
		return "-"
	}
	return time.Unix(*seconds, 0).UTC().Format(time.RFC3339)
}

func isTrue(b *bool) bool { return b != nil && *b }

// attributeFacts are what all objects have.
func attributeFacts(at *client.Attributes, tags map[string]string, d *client.Deletion) [][2]string {
	pairs := [][2]string{{"enabled", strconv.FormatBool(isTrue(at.Enabled))}, {"exportable", strconv.FormatBool(isTrue(at.Exportable))}, {"created", moment(&at.Created)}}
	if at.NotBefore != nil {
		pairs = append(pairs, [2]string{"not before", moment(at.NotBefore)})
	}
	if at.Expires != nil {
		pairs = append(pairs, [2]string{"expires", moment(at.Expires)})
	}
	for _, name := range slices.Sorted(maps.Keys(tags)) {
		pairs = append(pairs, [2]string{"tag " + plain.Printable(name), plain.Printable(tags[name])})
	}
	if d.Deleted != nil {
		pairs = append(pairs, [2]string{"deleted", moment(d.Deleted)}, [2]string{"purged", moment(d.Purge)})
	}
	return pairs
}

func factsWithPolicy(w io.Writer, pairs [][2]string, p *client.Policy, text json.RawMessage) error {
	if p == nil {
		return console.Facts(w, append(pairs, [2]string{"policy", "none: it is never released"})...)
	}
	may := "it can be replaced"
	if p.Immutable {
		may = "immutable"
	}
	if err := console.Facts(w, append(pairs, [2]string{"policy", may})...); err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "  ", "  "); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n  %s\n", plain.Drawing(b.String()))
	return err
}

// vaultList is the document behind `key list -o json` and `secret list -o json`.
type vaultList struct {
	Schema string        `json:"schema"`
	Items  []client.Item `json:"items"`
}

// answerList shows a list; schema is "keys" or "secrets".
func (a *App) answerList(k ObjectKind, items []client.Item, deleted bool) error {
	v := vaultList{"cofferdam.dev/vault-" + k.path + "/v1", items}
	return a.Answer(v, func(w io.Writer) error {
		head := []string{strings.ToUpper(k.noun), "VERSION", "ENABLED", "EXPORTABLE", "CREATED", "EXPIRES"}
		if deleted {
			head = append(head, "PURGED")
		}
		rows := [][]string{head}
		for _, i := range items {
			name, version := client.NameOf(i.KeyID + i.ID)
			if version == "" {
				version = "-"
			}
			row := []string{
				plain.Printable(name), plain.Printable(version), strconv.FormatBool(isTrue(i.Attributes.Enabled)),
				strconv.FormatBool(isTrue(i.Attributes.Exportable)), moment(&i.Attributes.Created), moment(i.Attributes.Expires),
			}
			if deleted {
				row = append(row, moment(i.Purge))
			}
			rows = append(rows, row)
		}
		return console.Table(w, rows)
	})
}
