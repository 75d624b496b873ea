// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/collateral"
	"cofferdam.dev/internal/testcollateral"
)

var (
	start = time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)

	vcek = collateral.VCEK("Milan", bytes.Repeat([]byte{7}, 64), [8]byte{4, 0, 0, 0, 0, 0, 0x18, 0xdb})
	crl  = collateral.CRL("Milan", false)
	info = collateral.TCBInfo(collateral.TDX, [6]byte{0xb0, 0xc0, 0x6f})
)

// server is a source that counts.
type server struct {
	t     *testing.T
	calls atomic.Int32

	mu    sync.Mutex
	maker *testcollateral.Maker
	err   error
	block chan struct{} // when not nil, an answer waits for it
}

// newServer has items that are valid for a week from start.
func newServer(t *testing.T) *server {
	return &server{t: t, maker: testcollateral.New(t, start.Add(-time.Hour), start.Add(7*24*time.Hour))}
}

func (s *server) Get(ctx context.Context, r collateral.Request) (collateral.Item, error) {
	s.calls.Add(1)
	s.mu.Lock()
	maker, err, block := s.maker, s.err, s.block
	s.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return collateral.Item{}, ctx.Err()
		}
	}
	if err != nil {
		return collateral.Item{}, err
	}
	return maker.Item(s.t, r), nil
}

func (s *server) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// clock is a clock that a test moves.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return start.Add(time.Duration(c.offset.Load())) }
func (c *clock) forward(d time.Duration) { c.offset.Add(int64(d)) }

func open(t *testing.T, o Options) *Cache {
	t.Helper()
	c, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func get(t *testing.T, c *Cache, r collateral.Request) collateral.Item {
	t.Helper()
	it, err := c.Get(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return it
}

func TestLifetimes(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for _, c := range []struct {
		name   string
		r      collateral.Request
		maxAge time.Duration
		step   time.Duration
		calls  int32 // after the step
		fails  bool
	}{
		{"chip certificate, years later", vcek, 0, 3000 * day, 1, false},
		{"chain, years later", collateral.Chain("Milan", false), 0, 3000 * day, 1, false},
		{"list within its maximum age", crl, 0, day - time.Second, 1, false},
		{"list at its maximum age", crl, 0, day, 2, false},
		{"list at its next update", crl, 30 * day, 7 * day, 1, false},
		{"list past its next update", crl, 30 * day, 7*day + time.Second, 2, true},
		{"TCB information within its maximum age", info, time.Hour, 59 * time.Minute, 1, false},
		{"TCB information past its next update", info, 30 * day, 8 * day, 2, true},
		{"clock set back a little", crl, 0, -time.Minute, 1, false},
		{"clock set back a lot", crl, 0, -time.Hour, 2, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, clk := newServer(t), &clock{}
			cache := open(t, Options{Dir: t.TempDir(), Source: s, MaxAge: c.maxAge, Now: clk.now})
			first := get(t, cache, c.r)
			clk.forward(c.step)
			again, err := cache.Get(t.Context(), c.r)
			if got := s.calls.Load(); got != c.calls {
				t.Errorf("the source was asked %d times, want %d", got, c.calls)
			}
			if c.fails {
				if !errors.Is(err, collateral.ErrUnavailable) || !strings.Contains(err.Error(), "2026-01-17T12:00:00Z") {
					t.Errorf("error is %v, want one with the time of the update", err)
				}
				return
			}
			if err != nil || c.calls == 1 && !cmp.Equal(first, again) {
				t.Errorf("error %v, same item %v", err, cmp.Equal(first, again))
			}
		})
	}
}

// TestStaleIsNotServed takes the source away: what is past its next update is not returned in its stead.
func TestStaleIsNotServed(t *testing.T) {
	t.Parallel()
	dir, clk := t.TempDir(), &clock{}
	get(t, open(t, Options{Dir: dir, Source: newServer(t), Now: clk.now}), crl)
	offline := open(t, Options{Dir: dir, Now: clk.now})
	get(t, offline, crl)
	clk.forward(8 * 24 * time.Hour)
	if _, err := offline.Get(t.Context(), crl); !errors.Is(err, collateral.ErrUnavailable) {
		t.Errorf("past the next update: %v", err)
	}
	if _, err := offline.Get(t.Context(), collateral.Request{}); err == nil || errors.Is(err, collateral.ErrUnavailable) {
		t.Errorf("empty request: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		err  error
		step time.Duration
		want int32
	}{
		{"404 within a minute", &collateral.Refusal{URL: "u", Status: 404}, 59 * time.Second, 1},
		{"404 after a minute", &collateral.Refusal{URL: "u", Status: 404}, time.Minute, 2},
		{"429 with a longer wait", &collateral.Refusal{URL: "u", Status: 429, Wait: 5 * time.Minute}, 299 * time.Second, 1},
		{"429 with an absurd wait", &collateral.Refusal{URL: "u", Status: 429, Wait: 1000 * time.Hour}, MaxRefusalAge, 2},
		{"clock set back", &collateral.Refusal{URL: "u", Status: 429}, -time.Hour, 2},
		{"unreachable", collateral.ErrUnavailable, 0, 2},
		{"one of several", errors.Join(collateral.ErrUnavailable, &collateral.Refusal{URL: "u", Status: 404}), 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, clk, dir := newServer(t), &clock{}, t.TempDir()
			s.fail(c.err)
			// The second cache stands for another process: it learns of the refusal from disk.
			first, second := open(t, Options{Dir: dir, Source: s, Now: clk.now}), open(t, Options{Dir: dir, Source: s, Now: clk.now})
			if _, err := first.Get(t.Context(), vcek); !errors.Is(err, collateral.ErrUnavailable) {
				t.Fatal(err)
			}
			clk.forward(c.step)
			_, err := second.Get(t.Context(), vcek)
			if got := s.calls.Load(); got != c.want || !errors.Is(err, collateral.ErrUnavailable) {
				t.Errorf("asked %d times, want %d; error %v", got, c.want, err)
			}
			s.fail(nil)
			clk.forward(time.Hour)
			get(t, first, vcek)
			if _, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(vcek.Name())+refusalSuffix)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the refusal is still there: %v", err)
			}
		})
	}
}

func TestWrongContentIsNotStored(t *testing.T) {
	t.Parallel()
	s, dir := newServer(t), t.TempDir()
	wrong := sourceFunc(func(context.Context, collateral.Request) (collateral.Item, error) {
		return collateral.Item{Body: []byte("<html>")}, nil
	})
	if _, err := open(t, Options{Dir: dir, Source: wrong}).Get(t.Context(), vcek); !errors.Is(err, collateral.ErrUnavailable) {
		t.Errorf("error is %v", err)
	}
	get(t, open(t, Options{Dir: dir, Source: s}), vcek)
	if s.calls.Load() != 1 {
		t.Error("the wrong item was stored")
	}
}

type sourceFunc func(context.Context, collateral.Request) (collateral.Item, error)

func (f sourceFunc) Get(ctx context.Context, r collateral.Request) (collateral.Item, error) {
	return f(ctx, r)
}

func TestDamage(t *testing.T) {
	t.Parallel()
	other := collateral.CRL("Genoa", false)
	for name, damage := range map[string]func(t *testing.T, dir, path string){
		"empty":     func(t *testing.T, _, path string) { write(t, path, nil) },
		"no JSON":   func(t *testing.T, _, path string) { write(t, path, []byte("\x00\x01")) },
		"truncated": func(t *testing.T, _, path string) { b := read(t, path); write(t, path, b[:len(b)/2]) },
		"extended":  func(t *testing.T, _, path string) { write(t, path, append(read(t, path), "{}"...)) },
		"one bit of the body": func(t *testing.T, _, path string) {
			b := read(t, path)
			i := bytes.Index(b, []byte(`"body":"`)) + 200
			b[i] ^= 1
			write(t, path, b)
		},
		"other schema": func(t *testing.T, _, path string) {
			write(t, path, bytes.Replace(read(t, path), []byte("entry/v1"), []byte("entry/v2"), 1))
		},
		"unknown key": func(t *testing.T, _, path string) {
			write(t, path, bytes.Replace(read(t, path), []byte(`"digest"`), []byte(`"Digests"`), 1))
		},
		"another item's entry": func(t *testing.T, dir, path string) {
			write(t, path, read(t, filepath.Join(dir, entryPath(other.Name()))))
		},
		"link": func(t *testing.T, dir, path string) {
			if err := errors.Join(os.Remove(path), os.Symlink(filepath.Join(dir, entryPath(other.Name())), path)); err != nil {
				t.Fatal(err)
			}
		},
		"huge": func(t *testing.T, _, path string) { write(t, path, make([]byte, maxFile+1)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, clk := t.TempDir(), &clock{}
			s := newServer(t)
			cache := open(t, Options{Dir: dir, Source: s, Now: clk.now})
			get(t, cache, other)
			get(t, cache, crl)
			damage(t, dir, filepath.Join(dir, entryPath(crl.Name())))
			s.fail(&collateral.Refusal{URL: "u", Status: 503})
			if _, err := cache.Get(t.Context(), crl); !errors.Is(err, collateral.ErrUnavailable) {
				t.Fatalf("a damaged entry was returned: %v", err)
			}
			if _, err := os.Lstat(filepath.Join(dir, entryPath(crl.Name()))); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the damaged entry is still there: %v", err)
			}
			s.fail(nil)
			clk.forward(time.Hour)
			get(t, cache, crl)
			get(t, cache, crl)
			if got := s.calls.Load(); got != 4 {
				t.Errorf("the source was asked %d times, want 4", got)
			}
		})
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkHit is what an item costs that is cached.
func BenchmarkHit(b *testing.B) {
	maker := testcollateral.New(b, start.Add(-time.Hour), start.Add(7*24*time.Hour))
	source := sourceFunc(func(_ context.Context, r collateral.Request) (collateral.Item, error) { return maker.Item(b, r), nil })
	cache, err := Open(Options{Dir: b.TempDir(), Source: source, Now: (&clock{}).now})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := cache.Get(b.Context(), vcek); err != nil {
			b.Fatal(err)
		}
	}
}

func TestUnwritable(t *testing.T) {
	t.Parallel()
	if _, err := Open(Options{}); err == nil {
		t.Error("a cache without a directory was opened")
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), nil)
	if _, err := Open(Options{Dir: filepath.Join(dir, "file", "cache")}); err == nil {
		t.Error("a cache below a file was opened")
	}
	s := newServer(t)
	cache := open(t, Options{Dir: dir, Source: s, Now: (&clock{}).now})
	write(t, filepath.Join(dir, "amd"), nil) // in the way of the entry's directory
	get(t, cache, crl)
	get(t, cache, crl)
	if s.calls.Load() != 2 {
		t.Errorf("asked %d times, want 2", s.calls.Load())
	}
}
