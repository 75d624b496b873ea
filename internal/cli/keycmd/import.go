// SPDX-License-Identifier: Apache-2.0

package keycmd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/vault"
	"cofferdam.dev/internal/vault/client"
	"cofferdam.dev/release"
)

// importOptions say what is imported.
type importOptions struct {
	VaultOptions
	objectOptions
	keyKindOptions
	derivation
	name, file, format, config, keyOut string
	generate, hsm                      bool
	operations                         []string
	// kindSaid is set when the type of the key was said, and not only taken for granted.
	kindSaid bool
	// kept are the files with secrets that were written.
	kept []string
}

func (a *App) keyImportCommand() *cobra.Command {
	var o importOptions
	c := &cobra.Command{
		Use:   "import NAME FILE|-",
		Short: "Bring a key to the vault",
		Long: `Bring a private key to the vault, out of a file or standard input: PEM (PKCS #8, PKCS #1,
SEC 1), a JWK, or with --format raw or hex the bytes of a symmetric key. Keys are never
taken from the command line, which others can see.

With --generate the key is made here, for whoever needs it here, too: to encrypt what only
guests shall decrypt. --out keeps it, as a JWK in a new file for its owner alone, and
--derived-out keeps the 32 bytes that follow from an RSA key, --salt and --label
(HKDF-SHA256), as for the encrypted filesystems of Azure's container groups.

-c reads a configuration of Azure's importkey tool: name and type of the key, vault, API
version and access token, attestation service, claims, derivation. The claims become the
release policy. Flags win over it; NAME is then left out.
` + aboutVault,
		Example: `  cofferdam key import db key.jwk --exportable --release-policy release.json
  head -c 32 /dev/urandom | cofferdam key import disk - --format raw --exportable \
    --release-policy release.json
  cofferdam key import db --generate --out db.jwk --exportable --release-policy release.json
  cofferdam key import -c importkeyconfig.json --generate --derived-out disk.key`,
		Args: console.Arguments(0, 2, "a name and a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.complete(cmd, args); err != nil {
				return err
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.importKey(ctx, cmd, &o)
		},
	}
	f := c.Flags()
	f.StringVarP(&o.config, "config", "c", "", "configuration of Azure's importkey tool")
	f.StringVar(&o.format, "format", "auto", "format of the file: "+strings.Join(keyFormats, ", "))
	f.BoolVar(&o.generate, "generate", false, "make the key here, instead of reading it")
	f.StringVar(&o.keyOut, "out", "", "new file in which the key is kept, too")
	f.StringVar(&o.derivedOut, "derived-out", "", "new file for the bytes that are derived from the key")
	f.StringVar(&o.salt, "salt", "", "salt of the derivation in hexadecimal")
	f.StringVar(&o.label, "label", "", "label of the derivation (default \""+release.DerivationLabel+"\")")
	f.BoolVar(&o.hsm, "hsm", false, "make it an HSM key, which exportable ones are in any case")
	f.StringSliceVar(&o.operations, "ops", nil, "what can be done with it: encrypt, decrypt, sign, verify, wrapKey, unwrapKey (default: all that its type can)")
	o.keyKindOptions.flags(c, "type of a key that is made, and what one that is read has to be")
	o.objectOptions.flags(c)
	o.Flags(c)
	a.OutputFlag(c)
	return c
}

// complete takes arguments and configuration apart, and refuses what can not be meant.
func (o *importOptions) complete(cmd *cobra.Command, args []string) error {
	if o.config != "" {
		if err := o.readImportConfig(cmd); err != nil {
			return err
		}
	} else {
		if len(args) == 0 {
			return console.Usage(cmd, "the key's name is missing")
		}
		o.name, args = args[0], args[1:]
	}
	o.kindSaid = o.kindSaid || cmd.Flags().Changed("type")
	if !slices.Contains(keyFormats, o.format) {
		return console.Usage(cmd, fmt.Sprintf("--format is %q; want one of %s", o.format, strings.Join(keyFormats, ", ")))
	}
	name, err := ParseObject(cmd, KeyKind, o.name, false)
	if err != nil {
		return err
	}
	o.name = name.Name
	switch {
	case len(args) > 1:
		return console.Usage(cmd, "-c has the key's name: give the file alone")
	case len(args) == 1 && o.generate:
		return console.Usage(cmd, "--generate makes the key: give no file")
	case len(args) == 0 && !o.generate:
		return console.Usage(cmd, "the file with the key is missing (- is standard input), or --generate")
	case o.derivedOut != "" && o.salt == "":
		return console.Usage(cmd, "--derived-out needs --salt, or the salt of -c")
	case o.generate && !o.exportable && o.keyOut == "" && o.derivedOut == "":
		return console.Usage(cmd, "a key that is made here and not kept is better made by the vault: cofferdam key create")
	case len(args) == 1:
		o.file = args[0]
	}
	for _, out := range []string{o.keyOut, o.derivedOut} {
		if _, err := os.Lstat(out); out != "" && err == nil {
			return console.Usage(cmd, fmt.Sprintf("%s is there already, and may hold the only copy of a key: name a new file", out))
		}
	}
	return nil
}

// material reads or makes the key.
func (o *importOptions) material(a *App) (*vault.Material, error) {
	if o.generate {
		return vault.Generate(vault.KeyType(o.kind), o.bits, vault.Curve(o.curve))
	}
	b, err := console.ReadLimited(o.file, a.In, maxPrivateKey)
	if err != nil {
		return nil, fmt.Errorf("reading the key: %w", err)
	}
	defer clear(b)
	m, err := readKeyMaterial(b, o.format)
	if err != nil {
		return nil, fmt.Errorf("reading the key: %s: %w", o.file, err)
	}
	if want := vault.KeyType(o.kind); o.kindSaid && want.Base() != m.Type() {
		m.Destroy()
		return nil, fmt.Errorf("reading the key: %s: it is of type %s, not %s", o.file, m.Type(), want)
	}
	return m, nil
}

func (a *App) importKey(ctx context.Context, cmd *cobra.Command, o *importOptions) error {
	if o.file == "-" && o.policyFile == "-" {
		return console.Usage(cmd, "standard input can not be the key and the policy")
	}
	input := o.file
	if o.policyFile == "-" {
		input = "-"
	}
	c, err := a.VaultClient(cmd, &o.VaultOptions, input)
	if err != nil {
		return err
	}
	r := client.Import{HSM: o.hsm || o.exportable || vault.KeyType(o.kind).HSM() && (o.kindSaid || o.generate), Tags: o.tags}
	if r.Attributes, err = o.attributes(cmd, a.Now()); err != nil {
		return err
	}
	if r.Policy, err = o.releasePolicy(a, cmd); err != nil {
		return err
	}
	m, err := o.material(a)
	if err != nil {
		return err
	}
	defer m.Destroy()
	if r.Key, err = materialJWK(m, r.HSM, o.operations); err != nil {
		return err
	}
	defer clear(r.Key)
	// The files come first: a key that only the vault has is no help to who has to encrypt with it.
	if err := o.keep(m); err != nil {
		return errors.Join(err, o.unkeep())
	}
	var k client.Key
	if _, err := c.Do(ctx, http.MethodPut, "/keys/"+o.name, r, &k); err != nil {
		if e, ok := errors.AsType[*client.Error](err); ok && e.Status < http.StatusInternalServerError {
			return errors.Join(VaultFailure(&o.VaultOptions, KeyKind, o.name, err), o.unkeep())
		}
		if len(o.kept) > 0 {
			a.Say("the vault may have the key: %s is kept", strings.Join(o.kept, ", "))
		}
		return VaultFailure(&o.VaultOptions, KeyKind, o.name, err)
	}
	return a.answerKey(&k)
}

// keep writes the files with secrets that were asked for.
func (o *importOptions) keep(m *vault.Material) error {
	if o.derivedOut != "" {
		if err := o.derive(m); err != nil {
			return err
		}
		o.kept = append(o.kept, o.derivedOut)
	}
	if o.keyOut == "" {
		return nil
	}
	b, err := materialJWK(m, false, nil)
	if err != nil {
		return err
	}
	defer clear(b)
	if err := writeSecret(o.keyOut, append(b, '\n')); err != nil {
		return err
	}
	o.kept = append(o.kept, o.keyOut)
	return nil
}

// unkeep removes the files of a key that the vault did not take.
func (o *importOptions) unkeep() error {
	var err error
	for _, name := range o.kept {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}
