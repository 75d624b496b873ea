// SPDX-License-Identifier: Apache-2.0

package servecmd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/term"

	"cofferdam.dev/attest"
	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/store/open"
	"cofferdam.dev/internal/vault"
)

// openedVault is a vault with what it stands on.
type openedVault struct {
	*vault.Vault

	store store.Store
	log   *audit.Log
}

// Close closes what the vault stands on.
func (v *openedVault) Close() error { return errors.Join(v.log.Close(), v.store.Close()) }

// openVault opens a vault with its store, its audit log and its root key.
func (a *App) openVault(ctx context.Context, c *vaultConfig, state string) (*openedVault, error) {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, fmt.Errorf("making the state directory: %w", err)
	}
	authorities, err := c.authoritySet()
	if err != nil {
		return nil, err
	}
	// The root key comes first: who waits for shares need not hold the store meanwhile.
	root, err := a.openRoot(ctx, c, state)
	if err != nil {
		return nil, err
	}
	if c.Store == "" {
		c.Store = "bolt:" + filepath.Join(state, "store.db")
	}
	st, err := open.URL(ctx, c.Store)
	if err != nil {
		return nil, err
	}
	log, err := audit.OpenState(state, c.Instance)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	v := &openedVault{store: st, log: log}
	v.Vault, err = vault.New(vault.Options{
		Name: c.Name, Managed: c.ManagedHSM, Store: st, Root: root, Audit: log, Authorities: authorities, RecoverableDays: c.RecoverableDays,
		PurgeProtected: c.PurgeProtection, Log: a.serviceLog(),
	})
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

// openRoot opens the root key by whatever its file says that opens it. When there is no file, it makes a root key under a
// passphrase.
func (a *App) openRoot(ctx context.Context, c *vaultConfig, state string) (seal.Root, error) {
	if c.RootKey == "" {
		c.RootKey = filepath.Join(state, "root-key.sealed")
	}
	if _, err := os.Stat(c.RootKey); errors.Is(err, fs.ErrNotExist) {
		passphrase, err := a.rootPassphrase(c, state)
		if err != nil {
			return nil, err
		}
		defer passphrase.Destroy()
		a.Say("a new root key: %s; without it and its passphrase nothing in the store can be read", c.RootKey)
		return seal.CreatePassphrase(c.RootKey, passphrase)
	}
	kind, err := seal.FileKind(c.RootKey)
	if err != nil {
		return nil, err
	}
	switch kind {
	case seal.KindPassphrase:
		passphrase, err := a.rootPassphrase(c, state)
		if err != nil {
			return nil, err
		}
		defer passphrase.Destroy()
		return seal.OpenPassphrase(c.RootKey, passphrase)
	case seal.KindShares:
		return a.collectShares(c)
	case seal.KindTEE:
		tee, err := openDeriver(ctx, c.TEEDevice)
		if err != nil {
			return nil, err
		}
		return seal.OpenTEE(ctx, c.RootKey, tee)
	case seal.KindPKCS11:
		hsm, err := c.HSM.open()
		if err != nil {
			return nil, err
		}
		defer hsm.PIN.Destroy()
		return seal.OpenPKCS11(ctx, c.RootKey, hsm)
	}
	return nil, fmt.Errorf("opening root %s: kind %q is unknown", c.RootKey, kind)
}

// rootPassphrase reads the passphrase. Without a file it lies in the state directory, which is said: whoever has the directory then has
// everything.
func (a *App) rootPassphrase(c *vaultConfig, state string) (*seal.Secret, error) {
	file := c.Passphrase
	if file == "" {
		file = filepath.Join(state, "root-key.passphrase")
		if _, err := auth.OpenFileToken(file, "passphrase"); err != nil { // makes one that is random
			return nil, err
		}
		a.Say("the root key's passphrase lies in the state directory, which is for development: %s", file)
	}
	return console.ReadSecretFile("the passphrase", file)
}

// collectShares opens a root key that is split: by the shares in files, and by those that people give until there are enough.
func (a *App) collectShares(c *vaultConfig) (seal.Root, error) {
	u, err := seal.OpenShares(c.RootKey)
	if err != nil {
		return nil, err
	}
	missing, needed := u.Progress()
	for _, name := range c.Shares {
		share, err := console.ReadSecretFile("a share", name)
		if err != nil {
			return nil, err
		}
		missing, err = u.Add(share)
		share.Destroy()
		if err != nil {
			return nil, fmt.Errorf("share in %s: %w", name, err)
		}
	}
	lines := bufio.NewScanner(a.In)
	for missing > 0 {
		a.Say("the root key is sealed: %d of %d shares are missing; give one on standard input", missing, needed)
		share, err := a.readShare(lines)
		if err != nil {
			return nil, fmt.Errorf("reading a share: %w", err)
		}
		missing, err = u.Add(share)
		share.Destroy()
		if err != nil {
			a.Say("that was no share: %v", err)
		}
	}
	return u.Root()
}

// readShare reads a line, which a terminal does not show.
func (a *App) readShare(lines *bufio.Scanner) (*seal.Secret, error) {
	if fd := int(a.In.Fd()); term.IsTerminal(fd) {
		b, err := term.ReadPassword(fd)
		return seal.NewSecret(b), err
	}
	if !lines.Scan() {
		return nil, errors.Join(lines.Err(), errors.New("standard input has ended"))
	}
	return seal.NewSecret(bytes.Clone(lines.Bytes())), nil
}

// openDeriver opens the device of this machine that derives keys.
func openDeriver(ctx context.Context, kind string) (seal.Deriver, error) {
	if kind == "" {
		return nil, errors.New("--tee-device is missing: a root key that is sealed to a machine needs the kind of its device, such as sev-guest")
	}
	p, err := attest.Open(ctx, kind)
	if err != nil {
		return nil, err
	}
	tee, ok := p.(seal.Deriver)
	if !ok {
		return nil, fmt.Errorf("the device %s derives no keys", kind)
	}
	return tee, nil
}
