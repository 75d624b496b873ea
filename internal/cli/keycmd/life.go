// SPDX-License-Identifier: Apache-2.0

package keycmd

import (
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/vault/client"
)

func (a *App) keyRotateCommand() *cobra.Command {
	var v VaultOptions
	c := &cobra.Command{
		Use:   "rotate NAME",
		Short: "Make a new version of a key, under the same policy",
		Long: `Have the vault make a new version of a key, of the same kind. It is the one that guests get
from then on, under the key's release policy. The versions before stay, for those who name
them, until the key is deleted.
` + aboutVault,
		Example: `  cofferdam key rotate db`,
		Args:    console.Arguments(1, 1, "the key's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := ParseObject(cmd, KeyKind, args[0], false)
			if err != nil {
				return err
			}
			return a.askKey(cmd, &v, http.MethodPost, "/keys/"+name.Name+"/rotate", name.Name, nil, "")
		},
	}
	v.Flags(c)
	a.OutputFlag(c)
	return c
}

// lifeVerb is a step in the life of a key or a secret with all its versions.
type lifeVerb struct {
	use, short, long, method, path string
	// final steps can not be undone, and have to be confirmed.
	final bool
	done  func(k ObjectKind, name string, d *client.Deletion) string
}

func (a *App) removeCommand(k ObjectKind) *cobra.Command {
	return a.lifeCommand(k, &lifeVerb{
		use: "delete NAME", short: "Delete a " + k.noun + " with all its versions", method: http.MethodDelete, path: "/" + k.path + "/%s",
		long: "Delete a " + k.noun + ` with all its versions. Nobody gets it any more, but it can be recovered
for as long as the vault keeps deleted things, and until then its name is taken.`,
		done: func(k ObjectKind, name string, d *client.Deletion) string {
			s := fmt.Sprintf("%s %s is deleted", k.noun, name)
			if d.Purge != nil {
				s += "; it can be recovered until " + time.Unix(*d.Purge, 0).UTC().Format(time.RFC3339)
			}
			return s
		},
	})
}

func (a *App) recoverCommand(k ObjectKind) *cobra.Command {
	return a.lifeCommand(k, &lifeVerb{
		use: "recover NAME", short: "Bring a deleted " + k.noun + " back", method: http.MethodPost, path: "/deleted" + k.path + "/%s/recover",
		long: "Bring a deleted " + k.noun + ` back as it was, with all its versions and its policy.`,
		done: func(k ObjectKind, name string, _ *client.Deletion) string {
			return fmt.Sprintf("%s %s is back", k.noun, name)
		},
	})
}

func (a *App) purgeCommand(k ObjectKind) *cobra.Command {
	return a.lifeCommand(k, &lifeVerb{
		use: "purge NAME --yes", short: "Remove a deleted " + k.noun + " for good", method: http.MethodDelete, path: "/deleted" + k.path + "/%s", final: true,
		long: "Remove a deleted " + k.noun + ` for good. Whatever is encrypted with it is lost, so --yes has to
say that it is meant. A vault with purge protection refuses until its time is over.`,
		done: func(k ObjectKind, name string, _ *client.Deletion) string {
			return fmt.Sprintf("%s %s is gone", k.noun, name)
		},
	})
}

func (a *App) lifeCommand(k ObjectKind, verb *lifeVerb) *cobra.Command {
	var v VaultOptions
	var yes bool
	c := &cobra.Command{
		Use: verb.use, Short: verb.short, Long: verb.long + "\n" + aboutVault, Args: console.Arguments(1, 1, "the "+k.noun+"'s name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := ParseObject(cmd, k, args[0], false)
			if err != nil {
				return err
			}
			if verb.final && !yes {
				return console.Usage(cmd, fmt.Sprintf("this can not be undone: say --yes to remove the %s %s for good", k.noun, name.Name))
			}
			vc, err := a.VaultClient(cmd, &v, "")
			if err != nil {
				return err
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			var d client.Deletion
			into := any(&d)
			if verb.final {
				into = nil // there is nothing to tell
			}
			if _, err := vc.Do(ctx, verb.method, fmt.Sprintf(verb.path, name.Name), nil, into); err != nil {
				return VaultFailure(&v, k, name.Name, err)
			}
			_, err = fmt.Fprintln(a.Out, verb.done(k, name.Name, &d))
			return err
		},
	}
	c.Example = "  cofferdam " + k.noun + " " + c.Name() + " db"
	if verb.final {
		c.Example += " --yes"
		c.Flags().BoolVar(&yes, "yes", false, "it is meant")
	}
	v.Flags(c)
	return c
}
