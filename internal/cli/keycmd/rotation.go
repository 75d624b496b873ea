// SPDX-License-Identifier: Apache-2.0

package keycmd

import (
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/internal/vault"
	"cofferdam.dev/internal/vault/client"
)

// rotationAnswer is the document behind `key rotation show -o json`.
type rotationAnswer struct {
	Schema string `json:"schema"`
	client.RotationPolicy
}

func (a *App) keyRotationShowCommand() *cobra.Command {
	var v VaultOptions
	c := &cobra.Command{
		Use:   "show NAME",
		Short: "Show when a key is rotated by itself",
		Long: `Show the rotation policy of a key: when the vault makes new versions of it by itself, how
long these are good, and when it says that one nears its end.
` + aboutVault,
		Example: `  cofferdam key rotation show db`,
		Args:    console.Arguments(1, 1, "the key's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.askRotation(cmd, &v, http.MethodGet, args[0], nil)
		},
	}
	v.Flags(c)
	a.OutputFlag(c)
	return c
}

// rotationOptions are the parts of a rotation policy, periods as ISO 8601 has them.
type rotationOptions struct{ after, before, notify, expiry string }

func (a *App) keyRotationSetCommand() *cobra.Command {
	var v VaultOptions
	var o rotationOptions
	c := &cobra.Command{
		Use:   "set NAME",
		Short: "Say when a key is rotated by itself",
		Long: `Replace the rotation policy of a key. The vault makes a new version some time after the
newest one was made, or some time before that expires; --expiry says how long versions are
good that are made by rotation. Without any flag the key is not rotated by itself.

Times are periods of years, months, weeks and days: P90D, P18M, P1Y6M. The release policy of
a key is that of all its versions, so guests get the newest one by it.
` + aboutVault,
		Example: `  cofferdam key rotation set db --after P90D
  cofferdam key rotation set db --before-expiry P30D --expiry P1Y
  cofferdam key rotation set db --expiry P1Y --notify P60D`,
		Args: console.Arguments(1, 1, "the key's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := o.policy(cmd)
			if err != nil {
				return err
			}
			return a.askRotation(cmd, &v, http.MethodPut, args[0], p)
		},
	}
	f := c.Flags()
	f.StringVar(&o.after, "after", "", "make a new version this long after the newest one was made")
	f.StringVar(&o.before, "before-expiry", "", "make a new version this long before the newest one expires")
	f.StringVar(&o.notify, "notify", "", "say this long before a version expires that it does")
	f.StringVar(&o.expiry, "expiry", "", "how long the new versions are good (default: for good)")
	v.Flags(c)
	a.OutputFlag(c)
	return c
}

func (o *rotationOptions) policy(cmd *cobra.Command) (*client.RotationPolicy, error) {
	if o.after != "" && o.before != "" {
		return nil, console.Usage(cmd, "--after and --before-expiry are two times for one thing: give one")
	}
	p := &client.RotationPolicy{Actions: []client.LifetimeAction{}}
	for _, part := range []struct {
		flag, text string
		kind       vault.ActionType
	}{{"after", o.after, vault.Rotate}, {"before-expiry", o.before, vault.Rotate}, {"notify", o.notify, vault.Notify}, {"expiry", o.expiry, ""}} {
		if part.text == "" {
			continue
		}
		if _, err := vault.ParsePeriod(part.text); err != nil {
			return nil, console.Usage(cmd, fmt.Sprintf("--%s is %q; want a period such as P90D or P1Y6M", part.flag, part.text))
		}
		var one client.LifetimeAction
		switch one.Action.Type = string(part.kind); part.flag {
		case "expiry":
			p.Attributes.Expiry = part.text
			continue
		case "after":
			one.Trigger.AfterCreate = part.text
		default:
			one.Trigger.BeforeExpiry = part.text
		}
		p.Actions = append(p.Actions, one)
	}
	return p, nil
}

// askRotation gets or sets a policy, and answers with it.
func (a *App) askRotation(cmd *cobra.Command, o *VaultOptions, method, key string, body *client.RotationPolicy) error {
	name, err := ParseObject(cmd, KeyKind, key, false)
	if err != nil {
		return err
	}
	vc, err := a.VaultClient(cmd, o, "")
	if err != nil {
		return err
	}
	ctx, stop := console.Interruptible(cmd.Context())
	defer stop()
	var in any
	if body != nil {
		in = body
	}
	var p client.RotationPolicy
	if _, err := vc.Do(ctx, method, "/keys/"+name.Name+"/rotationpolicy", in, &p); err != nil {
		return VaultFailure(o, KeyKind, name.Name, err)
	}
	return a.Answer(rotationAnswer{"cofferdam.dev/vault-rotation/v1", p}, func(w io.Writer) error { return showRotation(w, &p) })
}

func showRotation(w io.Writer, p *client.RotationPolicy) error {
	rotates, tells := "not by itself", "nobody"
	for _, one := range p.Actions {
		when := plain.Printable(one.Trigger.AfterCreate) + " after a version is made"
		if one.Trigger.BeforeExpiry != "" {
			when = plain.Printable(one.Trigger.BeforeExpiry) + " before a version expires"
		}
		if one.Action.Type == string(vault.Rotate) {
			rotates = when
		} else {
			tells = when
		}
	}
	expiry := plain.Printable(p.Attributes.Expiry)
	if expiry == "" {
		expiry = "never"
	}
	return console.Facts(w, [2]string{"rotates", rotates}, [2]string{"new versions expire", expiry}, [2]string{"notifies", tells})
}
