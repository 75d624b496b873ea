// SPDX-License-Identifier: Apache-2.0

package blockcache_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/blockcache"
)

// TestFlushWaits holds a write back, and with it the flush.
func TestFlushWaits(t *testing.T) {
	t.Parallel()
	m := &memory{data: make([]byte, 64<<10)}
	gate := make(chan struct{})
	m.onWrite = func(ctx context.Context, _ int64, _ int) error {
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c := open(t, m, small)
	if err := c.WriteAt(t.Context(), []byte("one"), 5000); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Flush(t.Context()) }()
	select {
	case err := <-done:
		t.Fatalf("the flush returned before the storage had acknowledged the write: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	// What is written meanwhile into the same block is not lost with the write that is under way.
	if err := c.WriteAt(t.Context(), []byte("two"), 5003); err != nil {
		t.Fatal(err)
	}
	close(gate)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if m.flushes != 1 || !bytes.Equal(m.content()[5000:5003], []byte("one")) {
		t.Errorf("after the flush: %d flushes, %q", m.flushes, m.content()[5000:5006])
	}
	if err := c.Flush(t.Context()); err != nil || string(m.content()[5000:5006]) != "onetwo" {
		t.Errorf("after the second flush: %v, %q", err, m.content()[5000:5006])
	}
}

// TestFlushForgetsNothing has writes fail for good, and then succeed.
func TestFlushForgetsNothing(t *testing.T) {
	t.Parallel()
	m := &memory{data: make([]byte, 64<<10)}
	var broken atomic.Bool
	broken.Store(true)
	m.onWrite = func(context.Context, int64, int) error {
		if broken.Load() {
			return errors.New("the disk is on fire")
		}
		return nil
	}
	c := open(t, m, small)
	for i := range 5 {
		if err := c.WriteAt(t.Context(), []byte{byte(i) + 1}, int64(i)*8192); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		err := c.Flush(t.Context())
		if !errors.Is(err, blockcache.ErrStorage) || !errors.Is(err, syscall.EIO) {
			t.Fatalf("flushing to a broken storage: %v", err)
		}
	}
	p := make([]byte, 1)
	if _, err := c.ReadAt(t.Context(), p, 8192); err != nil || p[0] != 2 {
		t.Errorf("what is not written reads as %d, %v", p[0], err)
	}
	broken.Store(false)
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, content := 0, m.content(); i < 5; i++ {
		if content[i*8192] != byte(i)+1 {
			t.Errorf("write %d was lost", i)
		}
	}
}

// TestFlushFails reports that the storage could not make durable what it took.
func TestFlushFails(t *testing.T) {
	t.Parallel()
	m := &memory{data: make([]byte, 64<<10), onFlush: func(context.Context) error { return errors.New("no") }}
	c := open(t, m, small)
	if err := c.WriteAt(t.Context(), []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(t.Context()); !errors.Is(err, blockcache.ErrStorage) {
		t.Errorf("flush: %v", err)
	}
	if err := c.Close(); !errors.Is(err, blockcache.ErrStorage) {
		t.Errorf("close: %v", err)
	}
}

// TestNothingHangs has the storage never answer.
func TestNothingHangs(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context, _ int64, _ int) error {
		<-ctx.Done()
		return &blob.Error{Temporary: true, Err: ctx.Err()}
	}
	m := &memory{data: make([]byte, 256<<10), onRead: hang, onWrite: hang}
	o := small
	o.Retry = quick(200 * time.Millisecond)
	c := open(t, m, o)
	begun := time.Now()
	p := make([]byte, 4096)
	if _, err := c.ReadAt(t.Context(), p, 0); !errors.Is(err, blockcache.ErrStorage) || !errors.Is(err, blob.ErrDeadline) {
		t.Errorf("reading: %v", err)
	}
	var err error
	for i := 0; i < 64 && err == nil; i++ { // more than may be waiting to be written
		err = c.WriteAt(t.Context(), p, int64(i)*4096)
	}
	if !errors.Is(err, blockcache.ErrStorage) {
		t.Errorf("writing: %v", err)
	}
	if err := c.Flush(t.Context()); !errors.Is(err, blockcache.ErrStorage) {
		t.Errorf("flushing: %v", err)
	}
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("it took %v to fail", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.ReadAt(ctx, p, 8192*20); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("reading with a deadline of one's own: %v", err)
	}
}

// TestFencedForEver loses the lease.
func TestFencedForEver(t *testing.T) {
	t.Parallel()
	m := &memory{data: pattern(64 << 10), lost: make(chan struct{})}
	var writes atomic.Int64
	m.onWrite = func(context.Context, int64, int) error { writes.Add(1); return nil }
	o := small
	o.Delay = time.Hour
	c := open(t, m, o)
	p := make([]byte, 100)
	if _, err := c.ReadAt(t.Context(), p, 0); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteAt(t.Context(), p, 8192); err != nil {
		t.Fatal(err)
	}
	close(m.lost)
	for c.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	_, readErr := c.ReadAt(t.Context(), p, 0) // although it is in memory
	for name, err := range map[string]error{"read": readErr, "write": c.WriteAt(t.Context(), p, 0), "flush": c.Flush(t.Context()), "close": c.Close()} {
		if !errors.Is(err, blob.ErrFenced) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if writes.Load() != 0 || !c.Stats().Fenced {
		t.Errorf("%d writes after the lease was lost; counts %+v", writes.Load(), c.Stats())
	}
}

// TestReadOnly refuses to write a file that was opened to be read.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, pattern(10000), 0o600); err != nil {
		t.Fatal(err)
	}
	src, err := blob.Open(t.Context(), path, blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := open(t, src, blockcache.Options{})
	if err := c.WriteAt(t.Context(), []byte("x"), 0); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("writing: %v", err)
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Errorf("flushing: %v", err)
	}
	for _, off := range []int64{-1, 9999, 1 << 62} {
		if _, err := c.ReadAt(t.Context(), make([]byte, 2), off); err == nil {
			t.Errorf("read at %d", off)
		}
	}
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]blockcache.Options{
		"odd block": {Block: 5000}, "small block": {Block: 512}, "big block": {Block: 8 << 20}, "no memory": {MaxBytes: 1 << 20},
		"all dirty": {MaxDirty: blockcache.DefaultMaxBytes}, "big request": {Request: 8 << 20}, "negative": {Parallel: -1},
	} {
		if c, err := blockcache.Open(&memory{data: make([]byte, 10)}, o); err == nil {
			t.Errorf("%s: opened", name)
			_ = c.Close()
		}
	}
}
