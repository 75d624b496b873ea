// SPDX-License-Identifier: Apache-2.0

package keycmd

import (
	"net/http"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/vault/client"
)

func (a *App) keyListCommand() *cobra.Command {
	return a.listCommand(KeyKind, `List the keys of a vault, the versions of one, or those that are deleted and can still be
recovered. No key itself is shown: a vault shows it to nobody.`)
}

// listCommand lists keys or secrets.
func (a *App) listCommand(k ObjectKind, long string) *cobra.Command {
	var v VaultOptions
	var deleted bool
	c := &cobra.Command{
		Use:   "list [NAME]",
		Short: "List " + k.path + ", or the versions of one",
		Long:  long + "\n" + aboutVault,
		Example: "  cofferdam " + k.noun + ` list
  cofferdam ` + k.noun + ` list db
  cofferdam ` + k.noun + ` list --deleted`,
		Args: console.Arguments(0, 1, "at most one name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, of := "/"+k.path, ""
			switch {
			case deleted && len(args) == 1:
				return console.Usage(cmd, "--deleted lists all that is deleted: give no name")
			case deleted:
				path = "/deleted" + k.path
			case len(args) == 1:
				name, err := ParseObject(cmd, k, args[0], false)
				if err != nil {
					return err
				}
				path, of = path+"/"+name.Name+"/versions", name.Name
			}
			vc, err := a.VaultClient(cmd, &v, "")
			if err != nil {
				return err
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			items, err := vc.List(ctx, path)
			if err != nil {
				return VaultFailure(&v, k, of, err)
			}
			return a.answerList(k, items, deleted)
		},
	}
	c.Flags().BoolVar(&deleted, "deleted", false, "list what is deleted")
	v.Flags(c)
	a.OutputFlag(c)
	return c
}

func (a *App) keyShowCommand() *cobra.Command {
	var v VaultOptions
	c := &cobra.Command{
		Use:   "show NAME[/VERSION]",
		Short: "Say what a vault tells about a key",
		Long: `Say what a vault tells about a key: its type, what can be done with it, from when until
when, and its release policy; with -o json the public part, too.
` + aboutVault,
		Example: `  cofferdam key show db
  cofferdam key show db/0123456789abcdef0123456789abcdef -o json`,
		Args: console.Arguments(1, 1, "the key's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := a.getKey(cmd, &v, args[0])
			if err != nil {
				return err
			}
			return a.answerKey(k)
		},
	}
	v.Flags(c)
	a.OutputFlag(c)
	return c
}

// getKey asks for what may be known of a key.
func (a *App) getKey(cmd *cobra.Command, o *VaultOptions, text string) (*client.Key, error) {
	name, err := ParseObject(cmd, KeyKind, text, true)
	if err != nil {
		return nil, err
	}
	c, err := a.VaultClient(cmd, o, "")
	if err != nil {
		return nil, err
	}
	ctx, stop := console.Interruptible(cmd.Context())
	defer stop()
	var k client.Key
	if _, err := c.Do(ctx, http.MethodGet, "/keys/"+name.String(), nil, &k); err != nil {
		return nil, VaultFailure(o, KeyKind, name.Name, err)
	}
	return &k, nil
}
