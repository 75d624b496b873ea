// SPDX-License-Identifier: Apache-2.0

// Package sealedstore keeps a store's values secret from whoever can read the store, and notices when somebody who can
// write to it but has not the key changed one or put it under another key. It seals each value on its own, bound to the
// key that it lies under.
//
// It trusts the key, and the process that holds it. It does not notice when a value is replaced by an older one of the
// same key, or removed; keys themselves are in the clear. Instances that share a store share the key.
package sealedstore

import (
	"context"
	"fmt"

	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/store"
)

const (
	// version begins every sealed value, and is bound to it.
	version = 1
	// overhead is what sealing adds: the version, a nonce of 12 bytes and a tag of 16.
	overhead = 1 + 12 + 16
	// MaxValueSize bounds a value in bytes.
	MaxValueSize = store.MaxValueSize - overhead
)

// Store is a store whose values are sealed.
type Store struct {
	inner store.Store
	box   *seal.Box
}

// New seals the values of a store under a key.
func New(inner store.Store, key *seal.Secret) (*Store, error) {
	box, err := seal.NewBox(key)
	if err != nil {
		return nil, fmt.Errorf("sealing a store: %w", err)
	}
	return &Store{inner, box}, nil
}

// View implements store.Store.
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	return s.inner.View(ctx, func(r store.Reader) error { return fn(&reader{r, s.box}) })
}

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	return s.inner.Update(ctx, func(tx store.Tx) error { return fn(&transaction{reader{tx, s.box}, tx}) })
}

// Close implements store.Store.
func (s *Store) Close() error { return s.inner.Close() }

type reader struct {
	inner store.Reader
	box   *seal.Box
}

// place is what a value is bound to.
func place(key string) []byte { return append([]byte{version}, key...) }

func (r *reader) open(key string, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != version {
		return nil, fmt.Errorf("value of %q is not sealed: it was written without the store's key", key)
	}
	b, err := r.box.Open(sealed[1:], place(key))
	if err != nil {
		return nil, fmt.Errorf("value of %q: %w", key, err)
	}
	return b, nil
}

// Get implements store.Reader.
func (r *reader) Get(key string) ([]byte, error) {
	sealed, err := r.inner.Get(key)
	if err != nil {
		return nil, err
	}
	return r.open(key, sealed)
}

// List implements store.Reader.
func (r *reader) List(prefix, after string, limit int) ([]store.Entry, error) {
	list, err := r.inner.List(prefix, after, limit)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].Value, err = r.open(list[i].Key, list[i].Value); err != nil {
			return nil, err
		}
	}
	return list, nil
}

type transaction struct {
	reader

	tx store.Tx
}

// Put implements store.Tx.
func (t *transaction) Put(key string, value []byte) error {
	if len(value) > MaxValueSize {
		return fmt.Errorf("value of %q has %d bytes, more than %d: %w", key, len(value), MaxValueSize, store.ErrTooLarge)
	}
	if err := store.CheckKey(key); err != nil {
		return err
	}
	return t.tx.Put(key, append([]byte{version}, t.box.Seal(value, place(key))...))
}

// Delete implements store.Tx.
func (t *transaction) Delete(key string) error { return t.tx.Delete(key) }
