// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/vault"
	"cofferdam.dev/internal/vault/client"
)

func (a *app) backupCommand(k objectKind) *cobra.Command {
	var v vaultOptions
	c := &cobra.Command{
		Use:   "backup NAME FILE",
		Short: "Write a " + k.noun + " with all its versions into a file, for its vault alone",
		Long: `Have the vault hand out a ` + k.noun + ` with all its versions, and write that into a new file for
its owner alone. It is encrypted, and its vault alone can restore it: one with the same root
key and name. ` + "`cofferdam vault backup`" + ` is for everything that a vault has.
` + aboutVault,
		Example: "  cofferdam " + k.noun + " backup db db.backup",
		Args:    arguments(2, 2, "the "+k.noun+"'s name and the file to write"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := parseObject(cmd, k, args[0], false)
			if err != nil {
				return err
			}
			vc, err := a.vaultClient(cmd, &v, "")
			if err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			var b client.Backup
			if _, err := vc.Do(ctx, http.MethodPost, "/"+k.path+"/"+name.Name+"/backup", nil, &b); err != nil {
				return vaultFailure(&v, k, name.Name, err)
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
	v.flags(c)
	return c
}

func (a *app) restoreCommand(k objectKind) *cobra.Command {
	var v vaultOptions
	c := &cobra.Command{
		Use:   "restore FILE|-",
		Short: "Bring back a " + k.noun + " that was backed up",
		Long: `Bring back a ` + k.noun + ` as it was when it was backed up, with all its versions and its policy,
into the vault that made the backup. It replaces nothing: a ` + k.noun + ` that is there, or
deleted and not purged, keeps its name.
` + aboutVault,
		Example: "  cofferdam " + k.noun + " restore db.backup",
		Args:    arguments(1, 1, "the file to read"),
		RunE: func(cmd *cobra.Command, args []string) error {
			blob, err := readLimited(args[0], a.In, vault.MaxObjectBackup)
			if err != nil {
				return fmt.Errorf("reading the backup: %w", err)
			}
			body := client.Backup{Value: base64.RawURLEncoding.EncodeToString(blob)}
			if k == keyKind {
				return a.askKey(cmd, &v, http.MethodPost, "/keys/restore", "", body, args[0])
			}
			return a.askSecret(cmd, &v, http.MethodPost, "/secrets/restore", "", body, args[0])
		},
	}
	v.flags(c)
	a.outputFlag(c)
	return c
}

// askSecret sends a request that is answered with a secret, and answers with that.
func (a *app) askSecret(cmd *cobra.Command, o *vaultOptions, method, path, name string, body any, input string) error {
	c, err := a.vaultClient(cmd, o, input)
	if err != nil {
		return err
	}
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	var s client.Secret
	if _, err := c.Do(ctx, method, path, body, &s); err != nil {
		return vaultFailure(o, secretKind, name, err)
	}
	s.Value = "" // nobody asked for it
	return a.answerSecret(&s)
}
