// SPDX-License-Identifier: Apache-2.0

package keycmd

import (
	"net/http"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/vault/client"
)

// keyKindOptions say of what kind a key is that is made.
type keyKindOptions struct {
	kind, curve string
	bits        int
}

func (o *keyKindOptions) flags(c *cobra.Command, what string) {
	f := c.Flags()
	f.StringVar(&o.kind, "type", "oct-HSM", what+": oct, RSA or EC, each with -HSM if it is to be exportable")
	f.IntVar(&o.bits, "bits", 0, "size of an RSA (2048) or oct key (256)")
	f.StringVar(&o.curve, "curve", "", "curve of an EC key: P-256, P-384 or P-521 (default P-256)")
}

func (a *App) keyCreateCommand() *cobra.Command {
	var v VaultOptions
	var kind keyKindOptions
	var o objectOptions
	var operations []string
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Have the vault make a key, or a new version of one",
		Long: `Have the vault make a key, or a new version of one. Nobody ever sees it outside of the
vault, but guests to which it is released: it has to be --exportable, and its policy
(` + "`cofferdam key policy make`" + `) says which guests these are.

Azure's key vaults make RSA and EC keys alone, its managed HSMs also oct keys.
` + aboutVault,
		Example: `  cofferdam key create db --exportable --release-policy release.json
  cofferdam key create signer --type EC-HSM --curve P-384 --expires 8760h
  cofferdam key create kek --type RSA-HSM --bits 3072 --vault https://keys.vault.example \
    --token-file token`,
		Args: console.Arguments(1, 1, "the key's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := ParseObject(cmd, KeyKind, args[0], false)
			if err != nil {
				return err
			}
			r := client.Create{Type: kind.kind, Bits: kind.bits, Curve: kind.curve, Operations: operations, Tags: o.tags}
			if r.Attributes, err = o.attributes(cmd, a.Now()); err != nil {
				return err
			}
			if r.Policy, err = o.releasePolicy(a, cmd); err != nil {
				return err
			}
			return a.askKey(cmd, &v, http.MethodPost, "/keys/"+name.Name+"/create", name.Name, r, o.policyFile)
		},
	}
	v.Flags(c)
	kind.flags(c, "type of the key")
	c.Flags().StringSliceVar(&operations, "ops", nil, "what can be done with it: encrypt, decrypt, sign, verify, wrapKey, unwrapKey (default: all that its type can)")
	o.flags(c)
	a.OutputFlag(c)
	return c
}

// askKey sends a request whose answer is a key, and says what the key is.
func (a *App) askKey(cmd *cobra.Command, o *VaultOptions, method, path, name string, body any, input string) error {
	c, err := a.VaultClient(cmd, o, input)
	if err != nil {
		return err
	}
	ctx, stop := console.Interruptible(cmd.Context())
	defer stop()
	var k client.Key
	if _, err := c.Do(ctx, method, path, body, &k); err != nil {
		return VaultFailure(o, KeyKind, name, err)
	}
	return a.answerKey(&k)
}
