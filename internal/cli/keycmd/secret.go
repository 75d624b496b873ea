// SPDX-License-Identifier: Apache-2.0

package keycmd

import (
	"errors"
	"fmt"
	"net/http"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/vault"
	"cofferdam.dev/internal/vault/client"
)

// SecretCommand returns `secret` with all that is below it.
func (a *App) SecretCommand() *cobra.Command {
	list := a.listCommand(secretKind, `List the secrets of a vault, the versions of one, or those that are deleted and can still
be recovered. Values are not shown.`)
	return console.Noun("secret", "Keep secrets in a vault",
		a.secretSetCommand(), a.secretGetCommand(), list, a.releaseCommand(secretKind),
		a.removeCommand(secretKind), a.recoverCommand(secretKind), a.purgeCommand(secretKind),
		a.backupCommand(secretKind), a.restoreCommand(secretKind),
		console.Noun("policy", "Set the release policies of secrets", a.policySetCommand(secretKind)))
}

func (a *App) secretSetCommand() *cobra.Command {
	var v VaultOptions
	var o objectOptions
	var contentType string
	c := &cobra.Command{
		Use:   "set NAME FILE|-",
		Short: "Set a secret, or a new version of one",
		Long: `Set a secret, or a new version of one, to the content of a file or of standard input: text
of at most 25 KiB, each byte of it, also the last newline. It is never taken from the
command line, which others can see.

With --exportable and --release-policy our vault releases it to guests as it does keys, and
gives it to nobody else. Azure's vaults do not: there, wrap it by a key that is released.
` + aboutVault,
		Example: `  cofferdam secret set database-password password.txt
  printf %s "$PASSWORD" | cofferdam secret set database-password - --expires 8760h
  cofferdam secret set config config.json --content-type application/json --exportable \
    --release-policy release.json`,
		Args: console.Arguments(2, 2, "the secret's name and a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := ParseObject(cmd, secretKind, args[0], false)
			if err != nil {
				return err
			}
			if args[1] == "-" && o.policyFile == "-" {
				return console.Usage(cmd, "standard input can not be the secret and the policy")
			}
			r := client.SetSecret{ContentType: contentType, Tags: o.tags}
			if r.Attributes, err = o.attributes(cmd, a.Now()); err != nil {
				return err
			}
			if r.Policy, err = o.releasePolicy(a, cmd); err != nil {
				return err
			}
			input := args[1]
			if o.policyFile == "-" {
				input = "-"
			}
			vc, err := a.VaultClient(cmd, &v, input)
			if err != nil {
				return err
			}
			if r.Value, err = a.readSecret(args[1]); err != nil {
				return err
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			var s client.Secret
			if _, err := vc.Do(ctx, http.MethodPut, "/secrets/"+name.Name, r, &s); err != nil {
				return VaultFailure(&v, secretKind, name.Name, err)
			}
			s.Value = "" // whoever set it knows it
			return a.answerSecret(&s)
		},
	}
	c.Flags().StringVar(&contentType, "content-type", "", "what kind of text it is, for its readers")
	o.flags(c)
	v.Flags(c)
	a.OutputFlag(c)
	return c
}

func (a *App) readSecret(name string) (string, error) {
	b, err := console.ReadLimited(name, a.In, vault.MaxSecretSize)
	switch {
	case err != nil:
		return "", fmt.Errorf("reading the secret: %w", err)
	case len(b) == 0:
		return "", fmt.Errorf("reading the secret: %s is empty", name)
	case !utf8.Valid(b):
		return "", console.Fixed(fmt.Errorf("reading the secret: %s is no text, and the protocol carries nothing else", name), "base64 %s | cofferdam secret set NAME -", name)
	}
	return string(b), nil
}

func (a *App) secretGetCommand() *cobra.Command {
	var v VaultOptions
	var show bool
	var out string
	c := &cobra.Command{
		Use:   "get NAME[/VERSION] --out FILE",
		Short: "Get a secret's value",
		Long: `Get a secret's value into a new file for its owner alone, or with --show-secret onto
standard output: the bytes themselves, without a newline, or with -o json beside all else
that the vault says. Without either nothing is asked for: the vault records who reads
which secret. One with a release policy can not be got so, but is released to guests.
` + aboutVault,
		Example: `  cofferdam secret get database-password --out password.txt
  cofferdam secret get database-password --show-secret | psql-login`,
		Args: console.Arguments(1, 1, "the secret's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := ParseObject(cmd, secretKind, args[0], true)
			switch {
			case err != nil:
				return err
			case !show && out == "":
				return console.Usage(cmd, "say where the value goes: --out FILE, or --show-secret for standard output")
			case show && out != "":
				return console.Usage(cmd, "--out and --show-secret are two places for the value: give one")
			}
			vc, err := a.VaultClient(cmd, &v, "")
			if err != nil {
				return err
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			var s client.Secret
			if _, err := vc.Do(ctx, http.MethodGet, "/secrets/"+name.String(), nil, &s); err != nil {
				return VaultFailure(&v, secretKind, name.Name, err)
			}
			return a.answerValue(&s, out)
		},
	}
	c.Flags().StringVar(&out, "out", "", "new file for the value")
	c.Flags().BoolVar(&show, "show-secret", false, "print the value")
	v.Flags(c)
	a.OutputFlag(c)
	return c
}

// answerValue puts a secret's value where it was asked for: into a file, or onto standard output when there is none.
func (a *App) answerValue(s *client.Secret, out string) error {
	switch {
	case s.Value == "":
		return errors.New("the vault's answer has no value in it")
	case out != "":
		if err := writeSecret(out, []byte(s.Value)); err != nil {
			return err
		}
		s.Value = ""
		return a.answerSecret(s)
	case a.Output == "table":
		_, err := a.Out.WriteString(s.Value)
		return err
	}
	return a.answerSecret(s)
}
