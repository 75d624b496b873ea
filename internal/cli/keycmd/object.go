// SPDX-License-Identifier: Apache-2.0

package keycmd

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/vault"
	"cofferdam.dev/internal/vault/client"
	"cofferdam.dev/internal/vault/releasepolicy"
)

// objectOptions are what a new version of a key or a secret can have.
type objectOptions struct {
	exportable, immutable, disabled bool
	policyFile, notBefore, expires  string
	tags                            map[string]string
	// policy is one that was made here instead of read from policyFile.
	policy *releasepolicy.Policy
}

func (o *objectOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&o.exportable, "exportable", false, "let it be released to guests that its release policy permits; this never changes")
	f.StringVar(&o.policyFile, "release-policy", "", "file with the release policy in JSON; all versions have one and the same")
	f.BoolVar(&o.immutable, "immutable", false, "let nobody ever replace the release policy")
	f.BoolVar(&o.disabled, "disabled", false, "keep it, but let nobody use it yet")
	f.StringVar(&o.notBefore, "not-before", "", "when its use begins: a time as 2030-01-02T15:04:05Z, or from now, as 24h")
	f.StringVar(&o.expires, "expires", "", "when its use ends, likewise")
	f.StringToStringVar(&o.tags, "tag", nil, "NAME=VALUE to put beside it, for all to see; may be given several times")
	f.Lookup("tag").DefValue = "" // the library would show "[]"
}

// attributes returns those of the request.
func (o *objectOptions) attributes(cmd *cobra.Command, now time.Time) (client.Attributes, error) {
	enabled := !o.disabled
	at := client.Attributes{Enabled: &enabled, Exportable: &o.exportable}
	for name, when := range map[string]struct {
		text string
		to   **int64
	}{"not-before": {o.notBefore, &at.NotBefore}, "expires": {o.expires, &at.Expires}} {
		if when.text == "" {
			continue
		}
		t, err := time.Parse(time.RFC3339, when.text)
		if d, wrong := time.ParseDuration(when.text); err != nil && wrong == nil {
			t, err = now.Add(d), nil
		}
		if err != nil {
			return at, console.Usage(cmd, fmt.Sprintf("--%s is %q; want a time as 2030-01-02T15:04:05Z, or a duration as 24h", name, when.text))
		}
		seconds := t.Unix()
		*when.to = &seconds
	}
	if !o.exportable {
		at.Exportable = nil
	}
	return at, nil
}

// releasePolicy returns that of the request, or nil.
func (o *objectOptions) releasePolicy(a *App, cmd *cobra.Command) (*client.Policy, error) {
	p := o.policy
	switch {
	case o.policyFile != "":
		var err error
		if p, err = a.readReleasePolicy(o.policyFile); err != nil {
			return nil, err
		}
	case p == nil && o.immutable:
		return nil, console.Usage(cmd, "--immutable is said of a release policy: give --release-policy, too")
	case p == nil:
		return nil, nil //nolint:nilnil // an object without one is no error
	}
	return sendPolicy(p, o.immutable)
}

// sendPolicy is a policy on its way to a vault.
func sendPolicy(p *releasepolicy.Policy, immutable bool) (*client.Policy, error) {
	b, err := p.Marshal(releasepolicy.VaultForm)
	if err != nil {
		return nil, err
	}
	return &client.Policy{ContentType: vault.PolicyContentType, Data: base64.RawURLEncoding.EncodeToString(b), Immutable: immutable}, nil
}

// readReleasePolicy reads a policy in its own text.
func (a *App) readReleasePolicy(name string) (*releasepolicy.Policy, error) {
	b, err := console.ReadLimited(name, a.In, releasepolicy.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("reading the release policy: %w", err)
	}
	p, err := releasepolicy.Parse(b)
	if err != nil {
		if text := strings.TrimSpace(string(b)); !strings.HasPrefix(text, "{") {
			return nil, console.Fixed(fmt.Errorf("%s: %w", name, err), "the policy's own JSON: base64 is made of it on the way")
		}
		return nil, console.Fixed(fmt.Errorf("%s: %w", name, err), "cofferdam key policy make --help")
	}
	return p, nil
}
