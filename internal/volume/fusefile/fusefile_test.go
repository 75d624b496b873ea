// SPDX-License-Identifier: Apache-2.0

package fusefile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/testcap"
)

const testBlock = 4096

// memory is a device in memory that fails when it is told to.
type memory struct {
	mu       sync.RWMutex
	b        []byte
	fail     error // of all requests
	hang     bool  // until the request's time is over
	flushes  atomic.Int64
	discards atomic.Int64
	wrong    atomic.Int64 // requests that are not of whole blocks
}

func (m *memory) Size() int64    { return int64(len(m.b)) }
func (m *memory) BlockSize() int { return testBlock }

func (m *memory) check(ctx context.Context, length, off int64) error {
	if (length|off)%testBlock != 0 || off+length > m.Size() {
		m.wrong.Add(1)
	}
	m.mu.RLock()
	fail, hang := m.fail, m.hang
	m.mu.RUnlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return fail
}

func (m *memory) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := m.check(ctx, int64(len(p)), off); err != nil {
		return err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	copy(p, m.b[off:])
	return nil
}

func (m *memory) WriteAt(ctx context.Context, p []byte, off int64) error {
	if err := m.check(ctx, int64(len(p)), off); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	copy(m.b[off:], p)
	return nil
}

func (m *memory) Flush(ctx context.Context) error {
	m.flushes.Add(1)
	return m.check(ctx, 0, 0)
}

func (m *memory) Discard(ctx context.Context, length, off int64) error {
	m.discards.Add(1)
	if err := m.check(ctx, length, off); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.b[off : off+length])
	return nil
}

func (m *memory) set(fail error, hang bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail, m.hang = fail, hang
}

func newMemory(blocks int) *memory {
	m := &memory{b: make([]byte, blocks*testBlock)}
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(m.b) // never fails
	return m
}

// show mounts a device for the test.
func show(t testing.TB, d Device, o Options) *Mount {
	t.Helper()
	testcap.Require(t, testcap.Root, testcap.FUSE)
	m, err := Serve(t.TempDir(), d, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func open(t testing.TB, m *Mount, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(m.Path(), flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestModel(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{"write-back": {Write: true}, "write-through": {Write: true, WriteThrough: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newMemory(700)
			model := bytes.Clone(d.b)
			m := show(t, d, o)
			f := open(t, m, os.O_RDWR)
			r := rand.New(rand.NewPCG(1, 2))
			for range 300 {
				off := r.IntN(len(model))
				n := min(r.IntN(1<<(1+r.IntN(21))), len(model)-off)
				switch r.IntN(4) {
				case 0, 1:
					p := bytes.Repeat([]byte{byte(r.Uint32())}, n)
					if _, err := f.WriteAt(p, int64(off)); err != nil {
						t.Fatal(err)
					}
					copy(model[off:], p)
				case 2:
					if n == 0 {
						continue
					}
					if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE|unix.FALLOC_FL_PUNCH_HOLE, int64(off), int64(n)); err != nil {
						t.Fatal(err)
					}
					clear(model[off : off+n])
				default:
					p := make([]byte, n)
					if _, err := f.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p, model[off:off+n]) {
						t.Fatalf("%d bytes at %d are not what was written (%v)", n, off, err)
					}
				}
			}
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
			d.mu.RLock()
			same := bytes.Equal(d.b, model)
			d.mu.RUnlock()
			if !same {
				t.Error("the device holds something else")
			}
			if d.flushes.Load() == 0 || d.wrong.Load() != 0 || d.discards.Load() == 0 {
				t.Errorf("%d flushes, %d discards, %d requests that are not of whole blocks", d.flushes.Load(), d.discards.Load(), d.wrong.Load())
			}
		})
	}
}

// What the device refuses is an error of whoever asked, and an fsync that failed says so.
func TestErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fail error
		want error
	}{
		"damage":           {errors.New("a tag does not fit"), syscall.EIO},
		"full":             {syscall.ENOSPC, syscall.ENOSPC},
		"another number":   {syscall.EACCES, syscall.EIO},
		"a storage's loss": {context.DeadlineExceeded, syscall.EIO},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newMemory(64)
			var told atomic.Int64
			m := show(t, d, Options{Write: true, Failed: func(string, error) { told.Add(1) }})
			f := open(t, m, os.O_RDWR)
			d.set(c.fail, false)
			if _, err := f.ReadAt(make([]byte, 10), 0); !errors.Is(err, c.want) {
				t.Errorf("reading: %v, want %v", err, c.want)
			}
			if _, err := f.WriteAt(make([]byte, testBlock), 8*testBlock); err != nil {
				t.Errorf("writing what is collected: %v", err)
			}
			if err := f.Sync(); !errors.Is(err, c.want) {
				t.Errorf("fsync: %v, want %v", err, c.want)
			}
			if told.Load() == 0 {
				t.Error("nobody was told")
			}
			d.set(nil, false)
			if _, err := f.ReadAt(make([]byte, 10), 0); err != nil {
				t.Errorf("reading again: %v", err)
			}
		})
	}
}

// A device that does not answer ends in an error, not in a hang.
func TestDeadline(t *testing.T) {
	t.Parallel()
	d := newMemory(64)
	m := show(t, d, Options{Write: true, Deadline: 200 * time.Millisecond})
	f := open(t, m, os.O_RDWR)
	d.set(nil, true)
	if _, err := f.ReadAt(make([]byte, 10), 0); !errors.Is(err, syscall.EIO) {
		t.Errorf("reading: %v", err)
	}
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("fsync: %v", err)
	}
	d.set(nil, false)
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	d := newMemory(64)
	m := show(t, d, Options{})
	if _, err := os.OpenFile(m.Path(), os.O_RDWR, 0); !errors.Is(err, syscall.EROFS) {
		t.Errorf("opening it to write: %v", err)
	}
	f := open(t, m, os.O_RDONLY)
	all, err := io.ReadAll(f)
	if err != nil || !bytes.Equal(all, d.b) {
		t.Errorf("%d bytes (%v)", len(all), err)
	}
	entries, err := os.ReadDir(filepath.Dir(m.Path()))
	if err != nil || len(entries) != 1 || entries[0].Name() != Name {
		t.Errorf("%v (%v)", entries, err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(m.Path()), "other")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("another name: %v", err)
	}
}

// Nothing but the content of the file changes.
func TestFixed(t *testing.T) {
	t.Parallel()
	// With write-back the kernel believes in a longer file until writing it fails.
	m := show(t, newMemory(64), Options{Write: true, WriteThrough: true})
	f := open(t, m, os.O_RDWR)
	for what, err := range map[string]error{
		"a new file": os.WriteFile(filepath.Join(filepath.Dir(m.Path()), "x"), nil, 0o600), "removal": os.Remove(m.Path()),
		"a shorter one": f.Truncate(testBlock), "a longer one": f.Truncate(1 << 30), "another mode": f.Chmod(0o777), "another owner": f.Chown(1, 1),
	} {
		if err == nil {
			t.Errorf("%s is possible", what)
		}
	}
	if _, err := f.WriteAt(make([]byte, 10), 64*testBlock-5); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("writing over the end: %v", err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != 64*testBlock {
		t.Errorf("%v (%v)", info, err)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.Root, testcap.FUSE)
	m, err := Serve(t.TempDir(), newMemory(64), Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(m.Path())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err == nil {
		t.Error("it is unmounted under an open file")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-m.Done():
	case <-time.After(time.Minute):
		t.Error("it does not end")
	}
	if _, err := os.Stat(m.Path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
}

func TestBadDevices(t *testing.T) {
	t.Parallel()
	for _, d := range []odd{{0, 4096}, {4096, 0}, {4096, 3}, {4097, 4096}, {1 << 20, 1 << 20}} {
		if m, err := Serve(t.TempDir(), d, Options{}); err == nil {
			t.Errorf("%+v is shown", d)
			_ = m.Close()
		}
	}
}

type odd struct{ size, block int }

func (o odd) Size() int64                                { return int64(o.size) }
func (o odd) BlockSize() int                             { return o.block }
func (odd) ReadAt(context.Context, []byte, int64) error  { return nil }
func (odd) WriteAt(context.Context, []byte, int64) error { return nil }
func (odd) Flush(context.Context) error                  { return nil }
