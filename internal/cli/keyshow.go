// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"net/http"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/vault/client"
)

func (a *app) keyListCommand() *cobra.Command {
	return a.listCommand(keyKind, `List the keys of a vault, the versions of one, or those that are deleted and can still be
recovered. No key itself is shown: a vault shows it to nobody.`)
}

// listCommand lists keys or secrets.
func (a *app) listCommand(k objectKind, long string) *cobra.Command {
	var v vaultOptions
	var deleted bool
	c := &cobra.Command{
		Use:   "list [NAME]",
		Short: "List " + k.path + ", or the versions of one",
		Long:  long + "\n" + aboutVault,
		Example: "  cofferdam " + k.noun + ` list
  cofferdam ` + k.noun + ` list db
  cofferdam ` + k.noun + ` list --deleted`,
		Args: arguments(0, 1, "at most one name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, of := "/"+k.path, ""
			switch {
			case deleted && len(args) == 1:
				return usage(cmd, "--deleted lists all that is deleted: give no name")
			case deleted:
				path = "/deleted" + k.path
			case len(args) == 1:
				name, err := parseObject(cmd, k, args[0], false)
				if err != nil {
					return err
				}
				path, of = path+"/"+name.Name+"/versions", name.Name
			}
			vc, err := a.vaultClient(cmd, &v, "")
			if err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			items, err := vc.List(ctx, path)
			if err != nil {
				return vaultFailure(&v, k, of, err)
			}
			return a.answerList(k, items, deleted)
		},
	}
	c.Flags().BoolVar(&deleted, "deleted", false, "list what is deleted")
	v.flags(c)
	a.outputFlag(c)
	return c
}

func (a *app) keyShowCommand() *cobra.Command {
	var v vaultOptions
	c := &cobra.Command{
		Use:   "show NAME[/VERSION]",
		Short: "Say what a vault tells about a key",
		Long: `Say what a vault tells about a key: its type, what can be done with it, from when until
when, and its release policy; with -o json the public part, too.
` + aboutVault,
		Example: `  cofferdam key show db
  cofferdam key show db/0123456789abcdef0123456789abcdef -o json`,
		Args: arguments(1, 1, "the key's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := a.getKey(cmd, &v, args[0])
			if err != nil {
				return err
			}
			return a.answerKey(k)
		},
	}
	v.flags(c)
	a.outputFlag(c)
	return c
}

// getKey asks for what may be known of a key.
func (a *app) getKey(cmd *cobra.Command, o *vaultOptions, text string) (*client.Key, error) {
	name, err := parseObject(cmd, keyKind, text, true)
	if err != nil {
		return nil, err
	}
	c, err := a.vaultClient(cmd, o, "")
	if err != nil {
		return nil, err
	}
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	var k client.Key
	if _, err := c.Do(ctx, http.MethodGet, "/keys/"+name.String(), nil, &k); err != nil {
		return nil, vaultFailure(o, keyKind, name.Name, err)
	}
	return &k, nil
}
