// SPDX-License-Identifier: Apache-2.0

// Package etcdstore keeps a store in etcd under one prefix, so that several instances of a service share their state. A
// transaction reads one revision and commits only if nothing that it read was changed since; otherwise it runs again.
//
// It trusts the etcd cluster that it was given, whose identity the caller fixes through TLS. It never writes outside of
// its prefix, and never reports a write as done before a majority has it.
package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"cofferdam.dev/internal/store"
)

const (
	// requestWait bounds one request, so that an instance without a majority fails and does not hang. A server that waits for
	// its disk or for a majority gives up by itself, after seven seconds if nobody has changed that, and says why.
	requestWait = 10 * time.Second
	// firstPause and maxPause bound the pause before a transaction runs again.
	firstPause = 2 * time.Millisecond
	maxPause   = 250 * time.Millisecond
)

// Store is a store in etcd.
type Store struct {
	client *clientv3.Client
	prefix string
}

// New returns a store that uses the client and keeps its keys under prefix, which must end in a slash. The client is
// closed with the store.
func New(client *clientv3.Client, prefix string) (*Store, error) {
	if !strings.HasSuffix(prefix, "/") || prefix == "/" {
		return nil, fmt.Errorf("opening store in etcd: prefix %q is not a name that ends in a slash", prefix)
	}
	return &Store{client, prefix}, nil
}

// View implements store.Store.
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	return fn(&snapshot{ctx: ctx, s: s})
}

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	pause := firstPause
	for {
		t := newTransaction(ctx, s)
		if err := fn(t); err != nil {
			return err
		}
		done, err := t.commit(ctx)
		if done || err != nil {
			return err
		}
		timer := time.NewTimer(pause/2 + rand.N(pause)) //nolint:gosec // spreads retries, guards nothing
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w: %w", store.ErrConflict, ctx.Err())
		case <-timer.C:
		}
		pause = min(2*pause, maxPause)
	}
}

// Close implements store.Store.
func (s *Store) Close() error {
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("closing store in etcd: %w", err)
	}
	return nil
}

// snapshot reads one revision: that of its first answer.
type snapshot struct {
	ctx      context.Context //nolint:containedctx // lives as long as the transaction's call
	s        *Store
	revision int64
}

func (r *snapshot) get(key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(r.ctx, requestWait)
	defer cancel()
	if r.revision != 0 {
		opts = append(opts, clientv3.WithRev(r.revision))
	}
	resp, err := r.s.client.Get(ctx, key, opts...)
	if err != nil {
		return nil, unavailable("reading", err)
	}
	if r.revision == 0 {
		r.revision = resp.Header.Revision
	}
	return resp, nil
}

// Get implements store.Reader.
func (r *snapshot) Get(key string) ([]byte, error) {
	v, _, err := r.value(key)
	return v, err
}

func (r *snapshot) value(key string) (value []byte, modified int64, err error) {
	if err := store.CheckKey(key); err != nil {
		return nil, 0, err
	}
	resp, err := r.get(r.s.prefix + key)
	if err != nil {
		return nil, 0, err
	}
	if len(resp.Kvs) == 0 {
		return nil, 0, store.NotFound(key)
	}
	return resp.Kvs[0].Value, resp.Kvs[0].ModRevision, nil
}

// List implements store.Reader.
func (r *snapshot) List(prefix, after string, limit int) ([]store.Entry, error) {
	list, _, err := r.list(prefix, after, limit)
	return list, err
}

// span is a range of keys that was read: those from start, before end, with the revision of each.
type span struct {
	start, end string
	modified   map[string]int64
}

func (r *snapshot) list(prefix, after string, limit int) ([]store.Entry, span, error) {
	if err := store.CheckList(prefix, limit); err != nil {
		return nil, span{}, err
	}
	sp := span{start: r.s.prefix + prefix, end: clientv3.GetPrefixRangeEnd(r.s.prefix + prefix), modified: map[string]int64{}}
	if after >= prefix && after != "" {
		sp.start = r.s.prefix + after + "\x00"
	}
	if sp.start >= sp.end {
		return nil, sp, nil
	}
	resp, err := r.get(sp.start, clientv3.WithRange(sp.end), clientv3.WithLimit(int64(limit)))
	if err != nil {
		return nil, span{}, err
	}
	var list []store.Entry
	for _, kv := range resp.Kvs {
		list = append(list, store.Entry{Key: strings.TrimPrefix(string(kv.Key), r.s.prefix), Value: kv.Value})
		sp.modified[string(kv.Key)] = kv.ModRevision
	}
	if resp.More {
		sp.end = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
	return list, sp, nil
}

// unavailable marks errors that say nothing about the request but that the servers did not answer it.
func unavailable(doing string, err error) error {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Unknown, codes.Canceled, codes.OutOfRange: // the last: compacted
		return fmt.Errorf("%s etcd: %w: %w", doing, store.ErrUnavailable, err)
	case codes.InvalidArgument, codes.ResourceExhausted:
		return fmt.Errorf("%s etcd: %w: %w", doing, store.ErrTooLarge, err)
	}
	return fmt.Errorf("%s etcd: %w", doing, err)
}
