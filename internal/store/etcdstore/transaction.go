// SPDX-License-Identifier: Apache-2.0

package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"maps"

	clientv3 "go.etcd.io/etcd/client/v3"

	"cofferdam.dev/internal/store"
)

// transaction remembers what it read, and holds its writes back until it commits.
type transaction struct {
	snapshot

	read   map[string]int64 // key in etcd → revision at which it was last changed, 0 when it was not there
	spans  []span
	writes store.Writes
}

func newTransaction(ctx context.Context, s *Store) *transaction {
	return &transaction{snapshot: snapshot{ctx: ctx, s: s}, read: map[string]int64{}, writes: store.Writes{}}
}

// Get implements store.Reader and sees the transaction's own writes.
func (t *transaction) Get(key string) ([]byte, error) {
	if v, written, err := t.writes.Get(key); written {
		return v, err
	}
	v, modified, err := t.value(key)
	if err == nil || errors.Is(err, store.ErrNotFound) {
		t.read[t.s.prefix+key] = modified
	}
	return v, err
}

// List implements store.Reader.
func (t *transaction) List(prefix, after string, limit int) ([]store.Entry, error) {
	list, sp, err := t.list(prefix, after, limit)
	if err == nil && sp.start < sp.end {
		t.spans = append(t.spans, sp)
	}
	return list, err
}

// Put implements store.Tx.
func (t *transaction) Put(key string, value []byte) error { return t.writes.Put(key, value) }

// Delete implements store.Tx.
func (t *transaction) Delete(key string) error { return t.writes.Delete(key) }

// commit makes the writes if nothing that was read has changed. It returns false when something has.
func (t *transaction) commit(ctx context.Context) (bool, error) {
	if len(t.writes) == 0 {
		return true, nil
	}
	conditions := t.conditions()
	if n := max(len(conditions), len(t.writes)); n > store.MaxTracked {
		return false, fmt.Errorf("transaction touches %d keys, more than %d: %w", n, store.MaxTracked, store.ErrTooLarge)
	}
	var ops []clientv3.Op
	for k, v := range t.writes {
		if v == nil {
			ops = append(ops, clientv3.OpDelete(t.s.prefix+k))
		} else {
			ops = append(ops, clientv3.OpPut(t.s.prefix+k, string(v)))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	resp, err := t.s.client.Txn(ctx).If(conditions...).Then(ops...).Commit()
	if err != nil {
		return false, unavailable("writing to", err)
	}
	return resp.Succeeded, nil
}

// conditions say that what was read still is: each key has its revision, and no range has a key that is newer than the
// snapshot. A key that vanished from a range fails the first kind, one that appeared the second.
func (t *transaction) conditions() []clientv3.Cmp {
	var list []clientv3.Cmp
	keys := maps.Clone(t.read)
	ranges := map[[2]string]bool{}
	for _, sp := range t.spans {
		maps.Copy(keys, sp.modified) // of the same revision, so that they say the same
		ranges[[2]string{sp.start, sp.end}] = true
	}
	for k, modified := range keys {
		list = append(list, clientv3.Compare(clientv3.ModRevision(k), "=", modified))
	}
	for sp := range ranges {
		list = append(list, clientv3.Compare(clientv3.ModRevision(sp[0]).WithRange(sp[1]), "<", t.revision+1))
	}
	return list
}
