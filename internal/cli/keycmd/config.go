// SPDX-License-Identifier: Apache-2.0

package keycmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/vault/releasepolicy"
	"cofferdam.dev/release"
)

// importConfig is a configuration of Azure's importkey tool, with the members that its versions know.
type importConfig struct {
	Key struct {
		ID         string   `json:"kid"`
		Type       string   `json:"kty"`
		Operations []string `json:"key_ops"`
		Authority  struct {
			Endpoint   string `json:"endpoint"`
			TEE        string `json:"tee_type"`
			APIVersion string `json:"api_version"`
		} `json:"authority"`
		Vault struct {
			Endpoint   string `json:"endpoint"`
			APIVersion string `json:"api_version"`
			Token      string `json:"bearer_token"`
		} `json:"akv"`
	} `json:"key"`
	Derivation struct {
		Salt  string `json:"salt"`
		Label string `json:"label"`
	} `json:"key_derivation"`
	// Claims are alternatives, each a list of conditions that all must hold.
	Claims [][]importClaim `json:"claims"`
}

type importClaim struct {
	Claim  string          `json:"claim"`
	Equals json.RawMessage `json:"equals"`
}

// maxImportConfig bounds a configuration file in bytes.
const maxImportConfig = 256 << 10

// readImportConfig fills in what the configuration file says and no flag does.
func (o *importOptions) readImportConfig(cmd *cobra.Command) error {
	b, err := console.ReadLimited(o.config, nil, maxImportConfig)
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	defer clear(b) // it may hold a token
	var c importConfig
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return fmt.Errorf("reading the configuration: %s: %w", o.config, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the configuration: %s: something follows the JSON object", o.config)
	}
	if err := o.apply(cmd, &c); err != nil {
		return fmt.Errorf("reading the configuration: %s: %w", o.config, err)
	}
	return nil
}

// apply takes over the members of a configuration.
func (o *importOptions) apply(cmd *cobra.Command, c *importConfig) error {
	o.name, o.token = c.Key.ID, c.Key.Vault.Token
	if o.name == "" {
		return errors.New("key.kid is missing: the key's name")
	}
	if strings.HasPrefix(o.token, "<") || cmd.Flags().Changed("vault") {
		o.token = "" // the sample's, or for another vault; --token-file brings one
	}
	o.version = strings.TrimPrefix(c.Key.Vault.APIVersion, "api-version=")
	for _, m := range []struct {
		flag, member, value string
		to                  *string
	}{
		{"vault", "key.akv.endpoint", c.Key.Vault.Endpoint, &o.Vault}, {"type", "key.kty", c.Key.Type, &o.kind},
		{"salt", "key_derivation.salt", c.Derivation.Salt, &o.salt}, {"label", "key_derivation.label", c.Derivation.Label, &o.label},
	} {
		if cmd.Flags().Changed(m.flag) || m.value == "" {
			continue
		}
		if err := filledIn(m.member, m.value); err != nil {
			return err
		}
		*m.to = m.value
		o.kindSaid = o.kindSaid || m.to == &o.kind
	}
	if !cmd.Flags().Changed("vault") && o.Vault != "" {
		u, err := release.ParseEndpoint(o.Vault)
		if err != nil {
			return fmt.Errorf("key.akv.endpoint: %w", err)
		}
		o.Vault = u.String()
	}
	if len(o.operations) == 0 {
		o.operations = c.Key.Operations
	}
	if o.policyFile != "" || len(c.Claims) == 0 {
		return nil
	}
	var err error
	o.exportable = true
	o.policy, err = c.policy()
	return err
}

// filledIn refuses what a sample has where one's own values belong.
func filledIn(member, value string) error {
	if strings.HasPrefix(value, "<") && strings.HasSuffix(value, ">") {
		return fmt.Errorf("%s is still %s: put your own value there", member, value)
	}
	return nil
}

// policy makes the release policy of the claims. Values are written as strings, as the original tool does: a condition
// compares a boolean and a number with their texts.
func (c *importConfig) policy() (*releasepolicy.Policy, error) {
	if err := filledIn("key.authority.endpoint", c.Key.Authority.Endpoint); err != nil {
		return nil, err
	}
	authority, err := release.ParseEndpoint(c.Key.Authority.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("key.authority.endpoint: %w", err)
	}
	p := &releasepolicy.Policy{Version: policyVersion}
	for i, alternative := range c.Claims {
		all := releasepolicy.Condition{Combine: releasepolicy.AllOf}
		for j, one := range alternative {
			text, err := one.text()
			if err == nil {
				err = filledIn("equals", text)
			}
			if err != nil {
				return nil, fmt.Errorf("claims[%d][%d]: %w", i, j, err)
			}
			all.List = append(all.List, equals(one.Claim, text))
		}
		p.Authorities = append(p.Authorities, releasepolicy.Authority{Issuer: authority.String(), Condition: all})
	}
	return checkedPolicy(p)
}

// text is the value as text, whether it is written as a string, a number or a boolean.
func (c *importClaim) text() (string, error) {
	text := string(bytes.TrimSpace(c.Equals))
	if text == "" || text == "null" || strings.ContainsAny(text[:1], "{[") {
		return "", fmt.Errorf("claim %q: equals is no string, number or boolean", c.Claim)
	}
	var s string
	if json.Unmarshal(c.Equals, &s) == nil {
		return s, nil
	}
	return text, nil
}
