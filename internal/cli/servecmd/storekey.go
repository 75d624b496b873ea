// SPDX-License-Identifier: Apache-2.0

package servecmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/store/open"
	"cofferdam.dev/internal/store/sealedstore"
	"cofferdam.dev/internal/wholefile"
)

// openSealed opens a service's store, whose values are sealed under a key in a file: whoever can reach the store can then
// neither read them nor put others in their place. A store of this instance alone has its key in the state directory;
// instances that share one are given the same file.
func (a *App) openSealed(ctx context.Context, url, keyFile, state string) (store.Store, error) {
	if keyFile == "" {
		if strings.HasPrefix(url, "etcd:") {
			return nil, console.Fixed(errors.New("instances that share a store must share the key under which it is sealed, and none is named"),
				"--store-key FILE: made by the first instance, copied to the others")
		}
		keyFile = filepath.Join(state, "store-key.secret")
	}
	key, err := a.storeKey(keyFile)
	if err != nil {
		return nil, fmt.Errorf("key of the store: %w", err)
	}
	defer key.Destroy()
	st, err := open.URL(ctx, url)
	if err != nil {
		return nil, err
	}
	sealed, err := sealedstore.New(st, key)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return sealed, nil
}

// storeKey reads a key file of seal.RootKeySize bytes, and makes it when it is not there.
func (a *App) storeKey(name string) (*seal.Secret, error) {
	fresh := seal.NewRootKey()
	defer fresh.Destroy()
	switch err := wholefile.Create(name, fresh.Expose(), 0o600); {
	case err == nil:
		a.Say("store: sealed under a new key, %s", name)
	case !errors.Is(err, fs.ErrExist):
		return nil, err
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %v; want 0600", name, info.Mode().Perm())
	}
	b, err := console.ReadLimited(name, nil, seal.RootKeySize)
	if err != nil {
		return nil, err
	}
	if len(b) != seal.RootKeySize {
		return nil, fmt.Errorf("%s holds %d bytes, not %d", name, len(b), seal.RootKeySize)
	}
	return seal.NewSecret(b), nil
}
