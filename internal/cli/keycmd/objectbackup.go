// SPDX-License-Identifier: Apache-2.0

package keycmd

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/vault"
	"cofferdam.dev/internal/vault/client"
)

func (a *App) backupCommand(k ObjectKind) *cobra.Command {
	var v VaultOptions
	c := &cobra.Command{
		Use:   "backup NAME FILE",
		Short: "Write a " + k.noun + " with all its versions into a file, for its vault alone",
		Long: `Have the vault hand out a ` + k.noun + ` with all its versions, and write that into a new file for
its owner alone. It is encrypted, and its vault alone can restore it: one with the same root
key and name. ` + "`cofferdam vault backup`" + ` is for everything that a vault has.
` + aboutVault,
		Example: "  cofferdam " + k.noun + " backup db db.backup",
		Args:    console.Arguments(2, 2, "the "+k.noun+"'s name and the file to write"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := ParseObject(cmd, k, args[0], false)
			if err != nil {
				return err
			}
			vc, err := a.VaultClient(cmd, &v, "")
			if err != nil {
				return err
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			var b client.Backup
			if _, err := vc.Do(ctx, http.MethodPost, "/"+k.path+"/"+name.Name+"/backup", nil, &b); err != nil {
				return VaultFailure(&v, k, name.Name, err)
			}
			blob, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(b.Value, "="))
			if err != nil || len(blob) == 0 {
				return errors.New("the vault's answer has no backup in it")
			}
			if err := writeSecret(args[1], blob); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.Out, "%s %s is in %s\n", k.noun, name.Name, args[1])
			return err
		},
	}
	v.Flags(c)
	return c
}

func (a *App) restoreCommand(k ObjectKind) *cobra.Command {
	var v VaultOptions
	c := &cobra.Command{
		Use:   "restore FILE|-",
		Short: "Bring back a " + k.noun + " that was backed up",
		Long: `Bring back a ` + k.noun + ` as it was when it was backed up, with all its versions and its policy,
into the vault that made the backup. It replaces nothing: a ` + k.noun + ` that is there, or
deleted and not purged, keeps its name.
` + aboutVault,
		Example: "  cofferdam " + k.noun + " restore db.backup",
		Args:    console.Arguments(1, 1, "the file to read"),
		RunE: func(cmd *cobra.Command, args []string) error {
			blob, err := console.ReadLimited(args[0], a.In, vault.MaxObjectBackup)
			if err != nil {
				return fmt.Errorf("reading the backup: %w", err)
			}
			body := client.Backup{Value: base64.RawURLEncoding.EncodeToString(blob)}
			if k == KeyKind {
				return a.askKey(cmd, &v, http.MethodPost, "/keys/restore", "", body, args[0])
			}
			return a.askSecret(cmd, &v, http.MethodPost, "/secrets/restore", "", body, args[0])
		},
	}
	v.Flags(c)
	a.OutputFlag(c)
	return c
}

// askSecret sends a request that is answered with a secret, and answers with that.
func (a *App) askSecret(cmd *cobra.Command, o *VaultOptions, method, path, name string, body any, input string) error {
	c, err := a.VaultClient(cmd, o, input)
	if err != nil {
		return err
	}
	ctx, stop := console.Interruptible(cmd.Context())
	defer stop()
	var s client.Secret
	if _, err := c.Do(ctx, method, path, body, &s); err != nil {
		return VaultFailure(o, secretKind, name, err)
	}
	s.Value = "" // nobody asked for it
	return a.answerSecret(&s)
}
