// SPDX-License-Identifier: Apache-2.0

package keycmd

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/internal/vault/client"
)

func (a *App) keyPolicyShowCommand() *cobra.Command {
	var v VaultOptions
	c := &cobra.Command{
		Use:   "show NAME",
		Short: "Print the release policy of a key",
		Long: `Print the text of a key's release policy as the vault keeps it. With -o json it stands
beside all else that the vault says about the key.
` + aboutVault,
		Example: `  cofferdam key policy show db > release.json`,
		Args:    console.Arguments(1, 1, "the key's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := a.getKey(cmd, &v, args[0])
			if err != nil {
				return err
			}
			text, err := policyOf(k.Policy)
			if err == nil && text == nil {
				err = console.Fixed(errors.New("the key has no release policy: it is never released"), "cofferdam key create or key import, with --exportable and --release-policy")
			}
			if err != nil {
				return err
			}
			return a.Answer(vaultKey{vaultKeySchema, *k, text}, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, plain.Drawing(string(text)))
				return err
			})
		},
	}
	v.Flags(c)
	a.OutputFlag(c)
	return c
}

func (a *App) policySetCommand(k ObjectKind) *cobra.Command {
	var v VaultOptions
	var immutable bool
	c := &cobra.Command{
		Use:   "set NAME POLICY|-",
		Short: "Replace the release policy of a " + k.noun,
		Long: `Replace the release policy of an exportable ` + k.noun + `, for all of its versions, from the next
release on. What was released before stays where it is: make a new version, too, if guests
of the old policy must not have it any more. An immutable policy can not be replaced.
` + aboutVault,
		Example: "  cofferdam " + k.noun + " policy set db release.json\n  cofferdam " + k.noun + " policy set db release.json --immutable",
		Args:    console.Arguments(2, 2, "the "+k.noun+"'s name and a policy"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := ParseObject(cmd, k, args[0], false)
			if err != nil {
				return err
			}
			p, err := a.readReleasePolicy(args[1])
			if err != nil {
				return err
			}
			sent, err := sendPolicy(p, immutable)
			if err != nil {
				return err
			}
			ask := a.askKey
			if k == secretKind {
				ask = a.askSecret
			}
			// The empty version at the end is what Azure's clients send.
			return ask(cmd, &v, http.MethodPatch, "/"+k.path+"/"+name.Name+"/", name.Name, client.Update{Policy: sent}, args[1])
		},
	}
	c.Flags().BoolVar(&immutable, "immutable", false, "let nobody ever replace it again")
	v.Flags(c)
	a.OutputFlag(c)
	return c
}
