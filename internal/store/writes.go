// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"slices"
)

// Writes are what a transaction of a driver holds back until it commits, by key; a nil value deletes.
type Writes map[string][]byte

// Get returns what the transaction itself wrote under a key. Written is false when it did not.
func (w Writes) Get(key string) (value []byte, written bool, err error) {
	v, ok := w[key]
	switch {
	case !ok:
		return nil, false, nil
	case v == nil:
		return nil, true, NotFound(key)
	}
	return bytes.Clone(v), true, nil
}

// Put holds back a value.
func (w Writes) Put(key string, value []byte) error {
	if err := CheckEntry(key, value); err != nil {
		return err
	}
	w[key] = append([]byte{}, value...) // never nil
	return nil
}

// Delete holds back a deletion.
func (w Writes) Delete(key string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	w[key] = nil
	return nil
}

// Sweep removes the entries below a prefix that are over, a few at a time: other writers must not wait.
func Sweep(ctx context.Context, s Store, prefix string, over func(Entry) bool) error {
	after := ""
	for {
		var list []Entry
		err := s.View(ctx, func(r Reader) error {
			var err error
			list, err = r.List(prefix, after, MaxTracked/2)
			return err
		})
		if err != nil || len(list) == 0 {
			return err
		}
		after = list[len(list)-1].Key
		list = slices.DeleteFunc(list, func(e Entry) bool { return !over(e) })
		if len(list) == 0 {
			continue
		}
		err = s.Update(ctx, func(tx Tx) error { return remove(tx, list, over) })
		if err != nil {
			return err
		}
	}
}

// remove deletes those of the entries that are still over: one may have been written again since it was listed.
func remove(tx Tx, list []Entry, over func(Entry) bool) error {
	for _, e := range list {
		v, err := tx.Get(e.Key)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if !over(Entry{e.Key, v}) {
			continue
		}
		if err := tx.Delete(e.Key); err != nil {
			return err
		}
	}
	return nil
}
