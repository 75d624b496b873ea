// SPDX-License-Identifier: Apache-2.0

package etcdstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/store/etcdstore"
	"cofferdam.dev/internal/store/storetest"
)

func TestConformance(t *testing.T) {
	server := storetest.StartEtcd(t)
	var n atomic.Int64
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, server, fmt.Sprintf("test/%d/", n.Add(1))) })
}

func open(t *testing.T, server *storetest.Server, prefix string) store.Store {
	t.Helper()
	s, err := etcdstore.New(server.Client(t), prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestServerGone has the server end and come back: errors say so, and nothing that was written is lost.
func TestServerGone(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	t.Parallel()
	server := storetest.StartEtcd(t)
	s := open(t, server, "test/")
	write := func(ctx context.Context, value string) error {
		return s.Update(ctx, func(tx store.Tx) error { return tx.Put("a", []byte(value)) })
	}
	if err := write(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	server.Kill(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := write(ctx, "2"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("writing to a server that is gone: %v", err)
	}
	server.Start(t)
	var value []byte
	read := func(r store.Reader) (err error) {
		value, err = r.Get("a")
		return err
	}
	// The longer a server was away, the longer its clients pause before they try it again.
	err := s.View(t.Context(), read)
	for limit := time.Now().Add(5 * time.Minute); errors.Is(err, store.ErrUnavailable) && time.Now().Before(limit); {
		time.Sleep(100 * time.Millisecond)
		err = s.View(t.Context(), read)
	}
	if err != nil || string(value) != "1" && string(value) != "2" {
		t.Errorf("after the server came back the value is %q, %v", value, err)
	}
}

func TestPrefix(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"", "/", "a"} {
		if _, err := etcdstore.New(nil, p); err == nil {
			t.Errorf("prefix %q was taken", p)
		}
	}
}
