// SPDX-License-Identifier: Apache-2.0

// Package boltstore keeps a store in one file, which one process at a time may open. It trusts the file to be one that it
// wrote: damage is found by bbolt's own checks, forgery is not. It never leaves a half-written transaction behind: each
// commit is synced before it counts.
package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/wholefile"
)

// lockWait is how long Open waits for another process to give up the file.
const lockWait = 2 * time.Second

// bucket holds all entries.
var bucket = []byte("cofferdam.dev/store/v1")

// Store is a store in one file.
type Store struct{ db *bbolt.DB }

// Open opens or makes the file, readable by its owner alone. The directory must exist.
func Open(path string) (*Store, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("opening store %s: another process has it open: %w", path, store.ErrUnavailable)
	}
	if err != nil {
		return nil, fmt.Errorf("opening store %s: %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucket)
		return err
	})
	if err == nil {
		err = wholefile.SyncDir(filepath.Dir(path)) // or a crash could take away the new file's name
	}
	if err != nil {
		_ = db.Close() // the first error says what happened
		return nil, fmt.Errorf("opening store %s: %w", path, err)
	}
	return &Store{db}, nil
}

// View implements store.Store.
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return closed(s.db.View(func(tx *bbolt.Tx) error { return fn(reader{tx.Bucket(bucket)}) }))
}

// Update implements store.Store. Writers of the file take turns, so fn runs once.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var own error // the caller's, or one about limits
	err := s.db.Update(func(tx *bbolt.Tx) error {
		t := &transaction{reader: reader{tx.Bucket(bucket)}, writes: store.Writes{}}
		if own = fn(t); own != nil {
			return own
		}
		if own = ctx.Err(); own != nil {
			return own
		}
		if own = t.limits(); own != nil {
			return own
		}
		return t.apply()
	})
	if err != nil && own == nil && !errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return fmt.Errorf("writing the store: %w: %w", store.ErrUnavailable, err) // such as a disk that is full
	}
	return closed(err)
}

// Close implements store.Store.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("closing store: %w", err)
	}
	return nil
}

func closed(err error) error {
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return fmt.Errorf("the store is closed: %w", store.ErrUnavailable)
	}
	return err
}

type reader struct{ b *bbolt.Bucket }

// Get implements store.Reader.
func (r reader) Get(key string) ([]byte, error) {
	if err := store.CheckKey(key); err != nil {
		return nil, err
	}
	v := r.b.Get([]byte(key))
	if v == nil {
		return nil, store.NotFound(key)
	}
	return bytes.Clone(v), nil
}

// List implements store.Reader.
func (r reader) List(prefix, after string, limit int) ([]store.Entry, error) {
	if err := store.CheckList(prefix, limit); err != nil {
		return nil, err
	}
	start := max(prefix, after)
	var list []store.Entry
	c := r.b.Cursor()
	for k, v := c.Seek([]byte(start)); k != nil && bytes.HasPrefix(k, []byte(prefix)) && len(list) < limit; k, v = c.Next() {
		if string(k) == after {
			continue
		}
		list = append(list, store.Entry{Key: string(k), Value: bytes.Clone(v)})
	}
	return list, nil
}

// transaction holds its writes back until fn is done: List must not see them, and the limits must hold as they do in etcd.
type transaction struct {
	reader

	writes store.Writes
}

// Get implements store.Reader and sees the transaction's own writes.
func (t *transaction) Get(key string) ([]byte, error) {
	if v, written, err := t.writes.Get(key); written {
		return v, err
	}
	return t.reader.Get(key)
}

// Put implements store.Tx.
func (t *transaction) Put(key string, value []byte) error { return t.writes.Put(key, value) }

// Delete implements store.Tx.
func (t *transaction) Delete(key string) error { return t.writes.Delete(key) }

func (t *transaction) limits() error {
	if len(t.writes) > store.MaxTracked {
		return fmt.Errorf("transaction writes %d keys, more than %d: %w", len(t.writes), store.MaxTracked, store.ErrTooLarge)
	}
	return nil
}

func (t *transaction) apply() error {
	for k, v := range t.writes {
		var err error
		if v == nil {
			err = t.b.Delete([]byte(k))
		} else {
			err = t.b.Put([]byte(k), v)
		}
		if err != nil {
			return fmt.Errorf("writing %q: %w", k, err)
		}
	}
	return nil
}
