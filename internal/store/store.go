// SPDX-License-Identifier: Apache-2.0

// Package store is where services keep their state: a small transactional key-value interface. Its drivers are below it:
// boltstore keeps everything in one file of one process, etcdstore lets several instances share it.
//
// Transactions are serialisable: whatever one of them read is still so when its writes are made, or it runs again.
// Committed writes survive a crash of the process and of the machine.
//
// The package trusts the driver's file or servers to hold what was written, not to keep it secret: who stores a secret
// encrypts it first. It never interprets values.
package store

import (
	"context"
	"errors"
	"fmt"
)

// Limits of keys and values. They keep a transaction within what etcd takes in one request (1.5 MiB).
const (
	// MaxKeySize bounds a key in bytes.
	MaxKeySize = 512
	// MaxValueSize bounds a value in bytes.
	MaxValueSize = 512 << 10
	// MaxList bounds the entries that one List returns.
	MaxList = 1000
	// MaxTracked bounds the keys that one Update reads and writes together; etcd takes 128 operations in a transaction.
	MaxTracked = 100
)

// Errors that callers tell apart.
var (
	// ErrNotFound says that there is no such key.
	ErrNotFound = errors.New("no such key")
	// ErrConflict says that other writers kept getting in between until the context ended.
	ErrConflict = errors.New("other writers got in between")
	// ErrTooLarge says that a key, a value or a transaction is beyond its limit.
	ErrTooLarge = errors.New("beyond the store's limits")
	// ErrUnavailable says that the store could not be asked, and that a later try may succeed. When Update returns it, the
	// writes may have been made or not.
	ErrUnavailable = errors.New("the store is not available")
)

// Store is a transactional key-value store. It is safe for concurrent use.
type Store interface {
	// View runs fn on a consistent state of the store.
	View(ctx context.Context, fn func(Reader) error) error
	// Update runs fn and makes its writes in one step, or none of them if fn returns an error. When another writer
	// changed what fn read, fn runs again: it must have no effect but through its Tx, which is not valid after fn returned.
	Update(ctx context.Context, fn func(Tx) error) error
	// Close releases the store. Transactions that are running end first.
	Close() error
}

// Entry is a key with its value.
type Entry struct {
	Key   string
	Value []byte
}

// Reader reads one state of a store. Values that it returns belong to the caller.
type Reader interface {
	// Get returns the value of a key, or an error that wraps ErrNotFound.
	Get(key string) ([]byte, error)
	// List returns the entries whose keys begin with prefix and sort after the key after, in byte order: at most limit of
	// them, 1 to MaxList. An empty after begins at the start.
	List(prefix, after string, limit int) ([]Entry, error)
}

// Tx reads and writes. It sees its own writes through Get; List shows the state before them.
type Tx interface {
	Reader
	// Put sets a key.
	Put(key string, value []byte) error
	// Delete removes a key. A key that is not there is no error.
	Delete(key string) error
}

// CheckKey returns an error unless the key is 1 to MaxKeySize bytes.
func CheckKey(key string) error {
	if len(key) == 0 || len(key) > MaxKeySize {
		return fmt.Errorf("key of %d bytes, not 1 to %d: %w", len(key), MaxKeySize, ErrTooLarge)
	}
	return nil
}

// CheckEntry returns an error unless key and value are within their limits.
func CheckEntry(key string, value []byte) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if len(value) > MaxValueSize {
		return fmt.Errorf("value of %q has %d bytes, more than %d: %w", key, len(value), MaxValueSize, ErrTooLarge)
	}
	return nil
}

// CheckList returns an error unless the limit of a List is 1 to MaxList.
func CheckList(prefix string, limit int) error {
	if limit < 1 || limit > MaxList {
		return fmt.Errorf("listing %q: limit is %d, not 1 to %d: %w", prefix, limit, MaxList, ErrTooLarge)
	}
	return nil
}

// NotFound returns the error for a key that is not there.
func NotFound(key string) error { return fmt.Errorf("key %q: %w", key, ErrNotFound) }
