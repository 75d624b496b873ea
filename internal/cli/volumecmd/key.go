// SPDX-License-Identifier: Apache-2.0

package volumecmd

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/keycmd"
	"cofferdam.dev/internal/volume/attach"
	"cofferdam.dev/internal/volume/descriptor"
	"cofferdam.dev/release"
)

// volumeKeyOptions say how the key of a volume is come by.
type volumeKeyOptions struct {
	passphraseFile, keyFile string
	// unwrap has the vault that asked names unwrap a secret.
	unwrap bool
	// Of new keys alone: the key of a vault that has what the key file has.
	kid, vault, authority, kty, salt, label string
	// wrapKid is the key of the vault that asked names, which wraps a new secret.
	wrapKid string
	asked   *keycmd.VaultOptions
}

// aboutVolumeKey is what the help of commands that make keys says about them.
const aboutVolumeKey = `
The volume key is random. What opens it is a passphrase (--passphrase-file, or asked for
on a terminal), the content of a file of 32 random bytes or more (--key-file), or both.
With --kid the key file is also a key of a vault: the same bytes, or with --salt the private
RSA key in PEM. A group to which the vault releases the key opens the volume; import the
key into the vault with ` + "`cofferdam key import`" + `. LUKS2 volumes get the same secrets as
key slots, so that cryptsetup opens them, too. With --wrap-kid a key of --vault wraps a
secret that nobody sees: whoever the vault lets unwrap opens the volume with --unwrap.`

func (o *volumeKeyOptions) fileFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.passphraseFile, "passphrase-file", "", "file with the passphrase, that only its owner may read")
	f.StringVar(&o.keyFile, "key-file", "", "file with the key: random bytes, or a private RSA key in PEM, that only its owner may read")
}

// openFlags are those that open a volume. The vault is asked that other flags name.
func (o *volumeKeyOptions) openFlags(c *cobra.Command, asked *keycmd.VaultOptions) {
	o.fileFlags(c)
	o.asked = asked
	c.Flags().BoolVar(&o.unwrap, "unwrap", false, "have --vault unwrap the secret, of a key that --wrap-kid made")
}

func (o *volumeKeyOptions) makeFlags(c *cobra.Command, asked *keycmd.VaultOptions) {
	o.fileFlags(c)
	o.vaultFlags(c, "", asked)
}

// newFlags are those of the key of a second volume, or of a second key.
func (o *volumeKeyOptions) newFlags(c *cobra.Command, asked *keycmd.VaultOptions) {
	f := c.Flags()
	f.StringVar(&o.passphraseFile, "new-passphrase-file", "", "file with the new passphrase")
	f.StringVar(&o.keyFile, "new-key-file", "", "file with the new key")
	o.vaultFlags(c, "new-", asked)
}

func (o *volumeKeyOptions) vaultFlags(c *cobra.Command, prefix string, asked *keycmd.VaultOptions) {
	o.asked = asked
	f := c.Flags()
	f.StringVar(&o.wrapKid, prefix+"wrap-kid", "", "NAME or NAME/VERSION of a key of --vault that wraps a secret, which --unwrap gets back")
	f.StringVar(&o.kid, prefix+"kid", "", "NAME or NAME/VERSION of the vault's key that --"+prefix+"key-file is")
	f.StringVar(&o.vault, prefix+"key-vault", "", "host name or URL of the vault that releases the key")
	f.StringVar(&o.authority, prefix+"authority", "", "host name or URL of the attestation service that the group asks")
	f.StringVar(&o.kty, prefix+"kty", "", "type of the vault's key: oct-HSM or RSA-HSM (default: as the key file)")
	f.StringVar(&o.salt, prefix+"salt", "", "hexadecimal salt that the secret is derived with, of an RSA key")
	f.StringVar(&o.label, prefix+"label", "", "label of the derivation (default: "+release.DerivationLabel+")")
}

// openers are the ways to the key of a new volume. The caller overwrites their secrets.
func (o *volumeKeyOptions) openers(ctx context.Context, a *App, cmd *cobra.Command) ([]attach.Opener, error) {
	if o.kid != "" && o.keyFile == "" {
		return nil, console.Usage(cmd, "--kid needs --key-file: the bytes that the vault's key has; for a key that stays in its vault there is --wrap-kid")
	}
	var list []attach.Opener
	if o.passphraseFile != "" || o.keyFile != "" || o.wrapKid == "" {
		var err error
		if list, err = o.said(a, cmd, true); err != nil {
			return nil, err
		}
	}
	if o.wrapKid != "" {
		opener, err := o.wrap(ctx, a, cmd)
		if err != nil {
			return nil, err
		}
		list = append(list, opener)
	}
	return list, nil
}

// said are the ways that the key file and the passphrase are, or the passphrase that a person types: a new one twice.
func (o *volumeKeyOptions) said(a *App, cmd *cobra.Command, fresh bool) ([]attach.Opener, error) {
	var list []attach.Opener
	if o.keyFile != "" {
		opener, err := o.fileOpener(cmd)
		if err != nil {
			return nil, err
		}
		list = append(list, opener)
	}
	if o.passphraseFile != "" || o.keyFile == "" {
		passphrase, err := o.passphrase(a, cmd, fresh)
		if err != nil {
			return nil, err
		}
		list = append(list, attach.Opener{Slot: descriptor.Slot{Kind: descriptor.PassphraseSlot, Costs: descriptor.DefaultCosts()}, Secret: passphrase})
	}
	return list, nil
}

// forget overwrites the secrets of openers.
func forget(openers []attach.Opener) {
	for _, o := range openers {
		clear(o.Secret)
	}
}

func (o *volumeKeyOptions) fileOpener(cmd *cobra.Command) (attach.Opener, error) {
	k, err := readKeyFile(o.keyFile)
	if err != nil {
		return attach.Opener{}, err
	}
	slot := descriptor.Slot{Kind: descriptor.FileSlot}
	if o.kid != "" {
		if o.vault == "" {
			return attach.Opener{}, console.Usage(cmd, "--kid needs --key-vault")
		}
		kty := o.kty
		if kty == "" {
			kty = map[bool]string{true: "RSA-HSM", false: "oct-HSM"}[k.rsa != nil]
		}
		slot = descriptor.Slot{Kind: descriptor.VaultSlot, Vault: &descriptor.VaultKey{
			Vault: o.vault, Authority: o.authority, Kid: o.kid, Type: kty, Salt: o.salt, Label: o.label,
		}}
	}
	secret, err := k.secret(&slot)
	return attach.Opener{Slot: slot, Secret: secret}, err
}

// open returns the volume key of a descriptor, and the number of the key that opened it.
func (o *volumeKeyOptions) open(ctx context.Context, a *App, cmd *cobra.Command, d *descriptor.Descriptor) (descriptor.Key, int, error) {
	if o.unwrap {
		return o.openUnwrapped(ctx, a, cmd, d)
	}
	if o.keyFile != "" {
		k, err := readKeyFile(o.keyFile)
		if err != nil {
			return descriptor.Key{}, 0, err
		}
		for i := range d.Slots {
			secret, err := k.secret(&d.Slots[i])
			if err != nil || d.Slots[i].Kind != descriptor.FileSlot && d.Slots[i].Kind != descriptor.VaultSlot {
				continue // another kind of key
			}
			key, err := d.OpenSlot(i, secret)
			if !errors.Is(err, descriptor.ErrKey) {
				return key, i, err
			}
		}
		if o.passphraseFile == "" {
			return descriptor.Key{}, 0, fmt.Errorf("the key in %s: %w", o.keyFile, descriptor.ErrKey)
		}
	}
	passphrase, err := o.passphrase(a, cmd, false)
	if err != nil {
		return descriptor.Key{}, 0, err
	}
	defer clear(passphrase)
	for i := range d.Slots {
		if d.Slots[i].Kind != descriptor.PassphraseSlot {
			continue
		}
		key, err := d.OpenSlot(i, passphrase)
		if !errors.Is(err, descriptor.ErrKey) {
			return key, i, err
		}
	}
	return descriptor.Key{}, 0, fmt.Errorf("the passphrase: %w", descriptor.ErrKey)
}

// secret is the passphrase, or the content of the key file, as it is.
func (o *volumeKeyOptions) secret(a *App, cmd *cobra.Command) ([]byte, error) {
	if o.keyFile == "" {
		return o.passphrase(a, cmd, false)
	}
	k, err := readKeyFile(o.keyFile)
	if err != nil {
		return nil, err
	}
	return k.secret(&descriptor.Slot{Kind: descriptor.FileSlot})
}

// passphrase reads the passphrase from its file, or asks for it, twice when it is a new one.
func (o *volumeKeyOptions) passphrase(a *App, cmd *cobra.Command, fresh bool) ([]byte, error) {
	if o.passphraseFile != "" {
		s, err := console.ReadSecretFile("the passphrase", o.passphraseFile)
		if err != nil {
			return nil, err
		}
		defer s.Destroy()
		return bytes.Clone(s.Expose()), nil
	}
	fd := int(a.In.Fd())
	if !term.IsTerminal(fd) {
		return nil, console.Usage(cmd, "say what opens the volume: --passphrase-file, --key-file, a key of a vault, or a passphrase on a terminal")
	}
	first, err := a.askPassphrase(fd, "Passphrase: ")
	if err != nil || !fresh {
		return first, err
	}
	again, err := a.askPassphrase(fd, "The same again: ")
	if err != nil {
		return nil, err
	}
	defer clear(again)
	if !bytes.Equal(first, again) {
		return nil, errors.New("the two passphrases differ")
	}
	return first, nil
}

func (a *App) askPassphrase(fd int, prompt string) ([]byte, error) {
	_, _ = fmt.Fprint(a.Err, prompt) // nobody to tell
	b, err := term.ReadPassword(fd)
	_, _ = fmt.Fprintln(a.Err)
	if err != nil {
		return nil, fmt.Errorf("reading the passphrase: %w", err)
	}
	return b, nil
}

// volumeKeyFile is the content of a key file: bytes, or a private RSA key.
type volumeKeyFile struct {
	raw []byte
	rsa *rsa.PrivateKey
}

func readKeyFile(name string) (*volumeKeyFile, error) {
	b, err := console.ReadPrivate("the key", name, descriptor.MaxSecret)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(b, []byte("-----BEGIN ")) {
		return &volumeKeyFile{raw: b}, nil
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("reading the key: %s is neither a key in PEM nor random bytes", name)
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err == nil {
		return &volumeKeyFile{rsa: key}, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("reading the key: %s holds no private RSA key", name)
	}
	return &volumeKeyFile{rsa: key}, nil
}

// secret is what opens a slot: the bytes as they are, or what follows from an RSA key as the filesystem sidecar derives it.
func (k *volumeKeyFile) secret(s *descriptor.Slot) ([]byte, error) {
	salted := s.Vault != nil && s.Vault.Salt != ""
	switch {
	case k.rsa == nil && !salted:
		return k.raw, nil
	case k.rsa == nil:
		return nil, errors.New("a salt is for a private RSA key, and the key file has none")
	case !salted:
		return nil, errors.New("a private RSA key needs --kid and --salt: the secret is derived of it")
	}
	salt, err := hex.DecodeString(s.Vault.Salt)
	if err != nil {
		return nil, fmt.Errorf("the salt %q is not hexadecimal", s.Vault.Salt)
	}
	label := s.Vault.Label
	if label == "" {
		label = release.DerivationLabel
	}
	return hkdf.Key(sha256.New, k.rsa.D.Bytes(), salt, label, 32)
}
