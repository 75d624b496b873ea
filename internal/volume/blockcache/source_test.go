// SPDX-License-Identifier: Apache-2.0

package blockcache_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/blockcache"
)

func TestMain(m *testing.M) { os.Exit(testcap.NoLeaks(m)) }

// memory is a writable object in memory, which calls hooks before it acts.
type memory struct {
	mu      sync.Mutex
	data    []byte
	flushes int
	lost    chan struct{}

	onRead  func(ctx context.Context, off int64, n int) error
	onWrite func(ctx context.Context, off int64, n int) error
	onFlush func(ctx context.Context) error
}

func (m *memory) Size() int64           { return int64(len(m.data)) }
func (m *memory) Identity() string      { return "memory" }
func (m *memory) Close() error          { return nil }
func (m *memory) Lost() <-chan struct{} { return m.lost }

func (m *memory) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if m.onRead != nil {
		if err := m.onRead(ctx, off, len(p)); err != nil {
			return 0, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return copy(p, m.data[off:]), nil
}

func (m *memory) WriteAt(ctx context.Context, p []byte, off int64) error {
	if m.onWrite != nil {
		if err := m.onWrite(ctx, off, len(p)); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	copy(m.data[off:], p)
	return nil
}

func (m *memory) Flush(ctx context.Context) error {
	if m.onFlush != nil {
		if err := m.onFlush(ctx); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flushes++
	return nil
}

func (m *memory) content() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.Clone(m.data)
}

var errNow = &blob.Error{Doing: "writing", Where: "a test", Temporary: true, Err: errors.New("not now")}

// quick is how tests try again.
func quick(deadline time.Duration) blob.Backoff {
	return blob.Backoff{Deadline: deadline, FirstPause: time.Millisecond, MaxPause: 5 * time.Millisecond}
}

func open(t testing.TB, src blob.Source, o blockcache.Options) *blockcache.Cache {
	t.Helper()
	if o.Retry.FirstPause == 0 {
		o.Retry = quick(time.Minute)
	}
	c, err := blockcache.Open(src, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // closed before where it matters
	return c
}

// small are options with little memory, so that blocks are forgotten all the time.
var small = blockcache.Options{Block: 4096, MaxBytes: 16 * 4096, MaxDirty: 6 * 4096, Request: 16384, Parallel: 2, Ahead: 16384}

func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i>>12) ^ byte(i*7)
	}
	return p
}
