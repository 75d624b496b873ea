// SPDX-License-Identifier: Apache-2.0

package servecmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/vault"
	"cofferdam.dev/internal/wholefile"
)

// VaultCommand returns `vault` with all that is below it.
func (a *App) VaultCommand() *cobra.Command {
	return console.Noun("vault", "Look after a vault: its root key, backups", a.vaultBackupCommand(), a.vaultRestoreCommand(),
		console.Noun("root", "Make root keys, and change what opens them", a.rootCreateCommand(), a.rootPassphraseCommand()))
}

// vaultState adds the flags that name a vault, and returns what they say.
func (a *App) vaultState(cmd *cobra.Command) func() (*vaultConfig, string, error) {
	var file, state string
	flags := &vaultConfig{}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "the vault's configuration file; flags win over it")
	f.StringVar(&state, "state", "", "directory of the vault's state (default: vault in the state directory)")
	flags.storeFlags(cmd)
	return func() (*vaultConfig, string, error) {
		config := &vaultConfig{}
		if file != "" {
			if err := readConfig(file, config); err != nil {
				return nil, "", err
			}
		}
		config.override(cmd, flags)
		config.Authorities = nil // nothing is released here
		if state == "" {
			state = filepath.Join(a.Home, "vault")
		}
		return config, state, nil
	}
}

// backupAnswer is the document behind `vault backup -o json` and `vault restore -o json`.
type backupAnswer struct {
	Schema string `json:"schema"`
	vault.BackupSummary
}

func (a *App) answerBackup(s *vault.BackupSummary) error {
	return a.Answer(backupAnswer{"cofferdam.dev/vault-backup-summary/v1", *s}, func(w io.Writer) error {
		return console.Facts(w, [2]string{"vault", s.Vault}, [2]string{"time", s.Time.UTC().Format(time.RFC3339)}, [2]string{"entries", fmt.Sprint(s.Entries)})
	})
}

func (a *App) vaultBackupCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write everything that a vault has into a file",
		Long: `Write all keys and secrets of a vault into a file, as encrypted as they are in its store.
With the root key alone the file can be read again: keep the two apart, and both.

A store in a file belongs to one process: end the service first. With a store in etcd a
backup can be made beside it, with a state directory of its own and the same root key.`,
		Example: `  cofferdam vault backup vault-2026-11-26.backup
  cofferdam vault backup nightly.backup --config config.yaml --state /var/lib/backup`,
		Args: console.Arguments(1, 1, "the file to write"),
	}
	which := a.vaultState(c)
	a.OutputFlag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		config, state, err := which()
		if err != nil {
			return err
		}
		return a.withVault(cmd.Context(), config, state, func(v *openedVault) error {
			if _, err := os.Stat(args[0]); err == nil {
				return fmt.Errorf("%s is there already", args[0])
			}
			var b bytes.Buffer
			s, err := v.Backup(cmd.Context(), &b)
			if err != nil {
				return err
			}
			if err := wholefile.Replace(args[0], b.Bytes(), 0o600); err != nil {
				return err
			}
			return a.answerBackup(s)
		})
	}
	return c
}

func (a *App) vaultRestoreCommand() *cobra.Command {
	var check bool
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Read a backup into an empty vault, or check it",
		Long: `Read a backup into a vault that has nothing, with the name and the root key that the
backup's vault had. The whole backup is checked before anything is written: whether it
was changed, and whether its end is there. --check does that alone.`,
		Example: `  cofferdam vault restore vault-2026-11-26.backup --check
  cofferdam vault restore vault-2026-11-26.backup --state new --root-key root-key.sealed`,
		Args: console.Arguments(1, 1, "the file to read"),
	}
	which := a.vaultState(c)
	c.Flags().BoolVar(&check, "check", false, "only say whether the backup is whole, and what it has")
	a.OutputFlag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		config, state, err := which()
		if err != nil {
			return err
		}
		f, err := os.Open(args[0])
		if err != nil {
			return fmt.Errorf("reading the backup: %w", err)
		}
		defer func() { _ = f.Close() }() // read only
		return a.withVault(cmd.Context(), config, state, func(v *openedVault) error {
			read := v.Restore
			if check {
				read = v.CheckBackup
			}
			s, err := read(cmd.Context(), f)
			if err != nil {
				return err
			}
			return a.answerBackup(s)
		})
	}
	return c
}

// withVault does something with a vault that is opened for it alone.
func (a *App) withVault(ctx context.Context, c *vaultConfig, state string, do func(*openedVault) error) error {
	v, err := a.openVault(ctx, c, state)
	if err != nil {
		return err
	}
	return errors.Join(do(v), v.Close())
}

// rootOptions say how a root key is kept.
type rootOptions struct {
	passphrase        string
	shares, threshold int
	out               string
	device            string
	hsm               hsmConfig
	token, key        string
}

// complete reports whether exactly one way is chosen, with all that it needs.
func (o *rootOptions) complete() bool {
	ways := 0
	for _, set := range []bool{o.passphrase != "", o.shares != 0, o.device != "", o.hsm.Module != ""} {
		if set {
			ways++
		}
	}
	return ways == 1 && (o.shares != 0) == (o.out != "" && o.threshold != 0) && (o.hsm.Module != "") == (o.hsm.PIN != "" && o.token != "")
}

func (a *App) rootCreateCommand() *cobra.Command {
	var o rootOptions
	c := &cobra.Command{
		Use:   "create FILE",
		Short: "Make a root key",
		Long: `Make a random root key and keep it in a file: under a passphrase; split among people, so
that any K of N shares open it; sealed to the guest and the chip that this command runs
on; or under a new key of a hardware security module.
` + "`cofferdam serve vault --root-key FILE`" + ` opens it again by what the file says.

Shares are written into files of their own below --out. Give each to one person and
remove it: together they are the root key.`,
		Example: `  cofferdam vault root create root-key.sealed --passphrase-file passphrase
  cofferdam vault root create root-key.sealed --shares 5 --threshold 3 --out shares
  cofferdam vault root create root-key.sealed --tee-device sev-guest
  cofferdam vault root create root-key.sealed --pkcs11-module /usr/lib/module.so \
    --pkcs11-token vault --pin-file pin`,
		Args: console.Arguments(1, 1, "the file to write"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !o.complete() {
				return console.Usage(cmd, "give one of --passphrase-file; --shares, --threshold and --out; --tee-device; --pkcs11-module, --pkcs11-token and --pin-file")
			}
			return a.createRoot(cmd.Context(), args[0], &o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.passphrase, "passphrase-file", "", "file with the passphrase, that only its owner may read")
	f.IntVar(&o.shares, "shares", 0, "number of shares")
	f.IntVar(&o.threshold, "threshold", 0, "number of shares that open the root key")
	f.StringVar(&o.out, "out", "", "directory for the files with the shares")
	f.StringVar(&o.device, "tee-device", "", "kind of this machine's device, such as sev-guest")
	o.hsm.flags(c)
	f.StringVar(&o.token, "pkcs11-token", "", "label of the module's token")
	f.StringVar(&o.key, "pkcs11-key", "cofferdam-vault", "label of the key that is made in the token")
	return c
}

func (a *App) createRoot(ctx context.Context, file string, o *rootOptions) error {
	switch {
	case o.shares != 0:
		return a.createShares(file, o.shares, o.threshold, o.out)
	case o.device != "":
		tee, err := openDeriver(ctx, o.device)
		if err != nil {
			return err
		}
		_, err = seal.CreateTEE(ctx, file, tee, seal.TEEOptions{})
		return err
	case o.hsm.Module != "":
		hsm, err := o.hsm.open()
		if err != nil {
			return err
		}
		defer hsm.PIN.Destroy()
		hsm.Token, hsm.Key = o.token, o.key
		_, err = seal.CreatePKCS11(ctx, file, hsm)
		return err
	}
	secret, err := console.ReadSecretFile("the passphrase", o.passphrase)
	if err != nil {
		return err
	}
	defer secret.Destroy()
	_, err = seal.CreatePassphrase(file, secret)
	return err
}

// createShares makes a root key that is split, and a file for each share.
func (a *App) createShares(file string, n, k int, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("writing shares: %w", err)
	}
	names := make([]string, n)
	for i := range names {
		names[i] = filepath.Join(dir, fmt.Sprintf("share-%d", i+1))
		if _, err := os.Stat(names[i]); err == nil {
			return fmt.Errorf("writing shares: %s is there already", names[i])
		}
	}
	_, shares, err := seal.CreateShares(file, n, k)
	if err != nil {
		return err
	}
	for i, s := range shares {
		line := append(bytes.Clone(s.Expose()), '\n')
		s.Destroy()
		err := wholefile.Replace(names[i], line, 0o600)
		clear(line)
		if err != nil {
			return fmt.Errorf("writing shares: %w", err)
		}
	}
	a.Say("%d of the %d shares in %s open %s: give each to one person, and remove it here", k, n, dir, file)
	return nil
}

func (a *App) rootPassphraseCommand() *cobra.Command {
	var was, is string
	c := &cobra.Command{
		Use:   "passphrase FILE --passphrase-file FILE --new-passphrase-file FILE",
		Short: "Put a root key under another passphrase",
		Long: `Put a root key under another passphrase. The root key stays the same, and so does
everything that is encrypted under it: whoever has an old copy of the file, and the old
passphrase, still has the key.`,
		Example: `  cofferdam vault root passphrase root-key.sealed \
    --passphrase-file old --new-passphrase-file new`,
		Args: console.Arguments(1, 1, "the file of the root key"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if was == "" || is == "" {
				return console.Usage(cmd, "--passphrase-file or --new-passphrase-file is missing")
			}
			old, err := console.ReadSecretFile("the passphrase", was)
			if err != nil {
				return err
			}
			defer old.Destroy()
			next, err := console.ReadSecretFile("the new passphrase", is)
			if err != nil {
				return err
			}
			defer next.Destroy()
			return seal.ChangePassphrase(args[0], old, next)
		},
	}
	c.Flags().StringVar(&was, "passphrase-file", "", "file with the passphrase")
	c.Flags().StringVar(&is, "new-passphrase-file", "", "file with the new one")
	return c
}
