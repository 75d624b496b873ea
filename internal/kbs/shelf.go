// SPDX-License-Identifier: Apache-2.0

package kbs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/store"
)

// shelf keeps values in a store: each encrypted under a key of its own, which the root wraps, and bound to where it lies.
type shelf struct {
	store store.Store
	root  seal.Root
}

// shelved is a value in the store.
type shelved struct {
	Key  []byte `json:"key"`
	Data []byte `json:"data"`
}

func binding(what, path string) []byte {
	return []byte("cofferdam.dev/kbs/v1\x00" + what + "\x00" + path)
}

func (s *shelf) seal(ctx context.Context, path string, value []byte) ([]byte, error) {
	key := seal.NewRootKey()
	defer key.Destroy()
	wrapped, err := s.root.Wrap(ctx, key.Expose(), binding("key", path))
	if err != nil {
		return nil, err
	}
	box, err := seal.NewBox(key)
	if err != nil {
		return nil, err
	}
	return json.Marshal(shelved{wrapped, box.Seal(value, binding("data", path))})
}

func (s *shelf) open(ctx context.Context, path string, raw []byte) (*seal.Secret, error) {
	var v shelved
	if err := json.Unmarshal(raw, &v); err != nil {
		return nil, err
	}
	key, err := s.root.Unwrap(ctx, v.Key, binding("key", path))
	if err != nil {
		return nil, err
	}
	secret := seal.NewSecret(key)
	defer secret.Destroy()
	box, err := seal.NewBox(secret)
	if err != nil {
		return nil, err
	}
	b, err := box.Open(v.Data, binding("data", path))
	if err != nil {
		return nil, err
	}
	return seal.NewSecret(b), nil
}

// get returns what lies at a path. The error wraps store.ErrNotFound when nothing does.
func (s *shelf) get(ctx context.Context, path string) (*seal.Secret, error) {
	var raw []byte
	err := s.store.View(ctx, func(r store.Reader) error {
		var err error
		raw, err = r.Get(path)
		return err
	})
	if err != nil {
		return nil, err
	}
	v, err := s.open(ctx, path, raw)
	if err != nil {
		return nil, fmt.Errorf("opening %s in the store: %w", path, err)
	}
	return v, nil
}

func (s *shelf) put(ctx context.Context, path string, value []byte) error {
	raw, err := s.seal(ctx, path, value)
	if err != nil {
		return fmt.Errorf("sealing %s: %w", path, err)
	}
	return s.store.Update(ctx, func(tx store.Tx) error { return tx.Put(path, raw) })
}

// once returns what lies at a path, where it puts fresh when there is nothing.
func (s *shelf) once(ctx context.Context, path string, fresh *seal.Secret) (*seal.Secret, error) {
	raw, err := s.seal(ctx, path, fresh.Expose())
	if err != nil {
		return nil, err
	}
	err = s.store.Update(ctx, func(tx store.Tx) error {
		there, err := tx.Get(path)
		if errors.Is(err, store.ErrNotFound) {
			return tx.Put(path, raw)
		}
		if err == nil {
			raw = there
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.open(ctx, path, raw)
}
