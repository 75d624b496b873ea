// SPDX-License-Identifier: Apache-2.0

package kbs

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/store/sealedstore"
)

// The broker's part of a store is below storePrefix, sealed under a key that lies beside it, wrapped by the root. So others
// may be in the same store, and whoever can write to it but has not the root can set no rules, and publish no key that
// tokens are believed by.
const (
	storePrefix  = "kbs/"
	storeKeyPath = "kbs-store-key"
)

// storeKeyBinding is what the wrapped key is bound to.
var storeKeyBinding = []byte("cofferdam.dev/kbs/v1\x00" + storeKeyPath)

// OpenStore returns the broker's part of a store, for the broker and its attestation service. Closing it closes the store.
func OpenStore(ctx context.Context, st store.Store, root seal.Root) (*sealedstore.Store, error) {
	fresh := seal.NewRootKey()
	defer fresh.Destroy()
	wrapped, err := root.Wrap(ctx, fresh.Expose(), storeKeyBinding)
	if err != nil {
		return nil, fmt.Errorf("wrapping the key of the broker's store: %w", err)
	}
	err = st.Update(ctx, func(tx store.Tx) error {
		there, err := tx.Get(storeKeyPath)
		if errors.Is(err, store.ErrNotFound) {
			return tx.Put(storeKeyPath, wrapped)
		}
		if err == nil {
			wrapped = there
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the key of the broker's store: %w", err)
	}
	b, err := root.Unwrap(ctx, wrapped, storeKeyBinding)
	if err != nil {
		return nil, fmt.Errorf("the key of the broker's store: %w", err)
	}
	key := seal.NewSecret(b)
	defer key.Destroy()
	return sealedstore.New(&part{st}, key)
}

// part is the part of a store that is below storePrefix.
type part struct{ inner store.Store }

// View implements store.Store.
func (p *part) View(ctx context.Context, fn func(store.Reader) error) error {
	return p.inner.View(ctx, func(r store.Reader) error { return fn(partReader{r}) })
}

// Update implements store.Store.
func (p *part) Update(ctx context.Context, fn func(store.Tx) error) error {
	return p.inner.Update(ctx, func(tx store.Tx) error { return fn(partTx{partReader{tx}, tx}) })
}

// Close implements store.Store.
func (p *part) Close() error { return p.inner.Close() }

type partReader struct{ inner store.Reader }

// Get implements store.Reader.
func (r partReader) Get(key string) ([]byte, error) { return r.inner.Get(storePrefix + key) }

// List implements store.Reader.
func (r partReader) List(prefix, after string, limit int) ([]store.Entry, error) {
	if after != "" {
		after = storePrefix + after
	}
	list, err := r.inner.List(storePrefix+prefix, after, limit)
	for i := range list {
		list[i].Key = strings.TrimPrefix(list[i].Key, storePrefix)
	}
	return list, err
}

type partTx struct {
	partReader

	tx store.Tx
}

// Put implements store.Tx.
func (t partTx) Put(key string, value []byte) error { return t.tx.Put(storePrefix+key, value) }

// Delete implements store.Tx.
func (t partTx) Delete(key string) error { return t.tx.Delete(storePrefix + key) }
