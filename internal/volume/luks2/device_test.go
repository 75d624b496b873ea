// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"bytes"
	"crypto/aes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	oracle "golang.org/x/crypto/xts"
	"pgregory.net/rapid"
)

func device(t testing.TB, f *os.File, h *Header, key VolumeKey) *Device {
	t.Helper()
	p, err := h.Pin(key)
	if err != nil {
		t.Fatal(err)
	}
	d, err := h.Device(f, p, key)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// noise returns bytes that are the same in each run.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b) // never fails
	return b
}

// TestDeviceAgainstMemory writes and reads anywhere, and compares with plain memory.
func TestDeviceAgainstMemory(t *testing.T) {
	t.Parallel()
	for _, sector := range []int{512, 1024, 2048, 4096} {
		f, h, key := volume(t, func(o *FormatOptions) { o.SectorSize = sector })
		d := device(t, f, h, key)
		if d.Size() != testData || d.SectorSize() != sector {
			t.Fatalf("size is %d in sectors of %d", d.Size(), d.SectorSize())
		}
		model := noise(1, testData)
		if n, err := d.WriteAt(model, 0); n != testData || err != nil {
			t.Fatal(n, err)
		}
		rapid.Check(t, func(r *rapid.T) {
			off := rapid.IntRange(0, testData).Draw(r, "offset")
			n := rapid.OneOf(rapid.IntRange(0, 3*sector), rapid.IntRange(0, testData)).Draw(r, "length")
			n = min(n, testData-off)
			if rapid.Bool().Draw(r, "write") {
				b := noise(rapid.Uint64().Draw(r, "seed"), n)
				was := bytes.Clone(b)
				copy(model[off:], b)
				if done, err := d.WriteAt(b, int64(off)); done != n || err != nil || !bytes.Equal(b, was) {
					r.Fatal(done, err)
				}
			}
			got := make([]byte, n)
			if done, err := d.ReadAt(got, int64(off)); done != n || err != nil && !errors.Is(err, io.EOF) {
				r.Fatal(done, err)
			}
			if !bytes.Equal(got, model[off:off+n]) {
				r.Fatal("read something else")
			}
		})
	}
}

// TestDeviceCiphertext holds what lies on the storage to an independent AES-XTS, sector by sector.
func TestDeviceCiphertext(t *testing.T) {
	t.Parallel()
	for _, sector := range []int{512, 4096} {
		f, h, key := volume(t, func(o *FormatOptions) { o.SectorSize = sector })
		d := device(t, f, h, key)
		plain := noise(2, testData)
		if _, err := d.WriteAt(plain, 0); err != nil {
			t.Fatal(err)
		}
		o, err := oracle.NewCipher(aes.NewCipher, key.Expose())
		if err != nil {
			t.Fatal(err)
		}
		below := make([]byte, testData)
		if _, err := f.ReadAt(below, testOffset); err != nil {
			t.Fatal(err)
		}
		for at := 0; at < testData; at += sector {
			o.Decrypt(below[at:at+sector], below[at:at+sector], uint64(at/512))
		}
		if !bytes.Equal(below, plain) {
			t.Errorf("sectors of %d: not what dm-crypt would write", sector)
		}
	}
}

func TestDeviceBounds(t *testing.T) {
	t.Parallel()
	f, h, key := volume(t, func(o *FormatOptions) { o.DataSize = 8192 })
	d := device(t, f, h, key)
	if d.Size() != 8192 {
		t.Fatalf("size is %d", d.Size())
	}
	for _, c := range []struct {
		off  int64
		n    int
		want int
		err  error
	}{{0, 8192, 8192, nil}, {1, 8192, 8191, io.EOF}, {8191, 10, 1, io.EOF}, {8192, 1, 0, io.EOF}, {1 << 62, 1, 0, io.EOF}, {8192, 0, 0, nil}, {5, 0, 0, nil}} {
		if n, err := d.ReadAt(make([]byte, c.n), c.off); n != c.want || !errors.Is(err, c.err) {
			t.Errorf("reading %d at %d: got %d, %v", c.n, c.off, n, err)
		}
	}
	if _, err := d.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("read in front of the data")
	}
	before, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		off int64
		n   int
	}{{8191, 2}, {8192, 1}, {-1, 1}, {-4096, 4096}, {1<<63 - 1, 1}, {0, 8193}} {
		if n, err := d.WriteAt(make([]byte, c.n), c.off); n != 0 || err == nil {
			t.Errorf("writing %d at %d: got %d, %v", c.n, c.off, n, err)
		}
	}
	if after, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(before, after) {
		t.Errorf("something was written: %v", err)
	}
	readOnly, err := h.DeviceWithoutPin(bytes.NewReader(before), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readOnly.WriteAt(make([]byte, 512), 0); !errors.Is(err, ErrReadOnly) {
		t.Errorf("error is %v, want one that wraps %v", err, ErrReadOnly)
	}
	if err := errors.Join(readOnly.Sync(), d.Sync()); err != nil {
		t.Error(err)
	}
}

// failing is storage that loses everything from an offset on.
type failing struct {
	io.ReaderAt
	from int64
}

var errLost = errors.New("lost")

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if n := f.from - off; n < int64(len(p)) {
		n = max(n, 0)
		_, _ = f.ReaderAt.ReadAt(p[:n], off)
		return int(n), errLost
	}
	return f.ReaderAt.ReadAt(p, off)
}

func (f failing) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from {
		return 0, errLost
	}
	return len(p), nil
}

// TestDeviceLosesStorage reads and writes where the storage fails: what is said to be done is, and no ciphertext comes out.
func TestDeviceLosesStorage(t *testing.T) {
	t.Parallel()
	f, h, key := volume(t, nil)
	plain := noise(3, testData)
	if _, err := device(t, f, h, key).WriteAt(plain, 0); err != nil {
		t.Fatal(err)
	}
	for _, from := range []int64{0, 1, 4096, 5000, chunk, chunk + 1, 3*chunk + 4096, 7 * chunk} {
		d, err := h.DeviceWithoutPin(failing{f, testOffset + from}, key)
		if err != nil {
			t.Fatal(err)
		}
		for _, off := range []int64{0, 100, 4096} {
			got := make([]byte, testData-off)
			n, err := d.ReadAt(got, off)
			if !errors.Is(err, errLost) || int64(n) > max(from-off, 0) || !bytes.Equal(got[:n], plain[off:off+int64(n)]) {
				t.Errorf("from %d, reading at %d: got %d, %v", from, off, n, err)
			}
			for i, c := range got[n:] {
				if want := plain[int(off)+n+i]; c != 0 && c != want {
					t.Fatalf("from %d, reading at %d: something else came out at %d", from, off, n+i)
				}
			}
			if n, err := d.WriteAt(got, off); !errors.Is(err, errLost) || int64(n) > max(from-off, 0) {
				t.Errorf("from %d, writing at %d: got %d, %v", from, off, n, err)
			}
		}
	}
}

// TestDeviceTogether has many write their own bytes of the same sectors at a time: none undoes another's.
func TestDeviceTogether(t *testing.T) {
	t.Parallel()
	f, h, key := volume(t, nil)
	d := device(t, f, h, key)
	if _, err := d.WriteAt(make([]byte, testData), 0); err != nil {
		t.Fatal(err)
	}
	const writers, size = 8, 64 << 10
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for at := w * 100; at+100 <= size; at += writers * 100 {
				if _, err := d.WriteAt(bytes.Repeat([]byte{byte(w + 1)}, 100), int64(at)); err != nil {
					t.Error(err)
				}
				if _, err := d.WriteAt(bytes.Repeat([]byte{byte(w + 1)}, 4096), int64(size+4096*w)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got := make([]byte, size)
	if _, err := d.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	for at := range size / 100 * 100 {
		if want := byte(at/100%writers + 1); got[at] != want {
			t.Fatalf("byte %d is %d, want %d", at, got[at], want)
		}
	}
}

func TestDeviceDoesNotAllocate(t *testing.T) {
	f, h, key := volume(t, nil)
	below, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	d, err := h.DeviceWithoutPin(bytes.NewReader(below), key)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, chunk)
	// The pool of the cipher may give its content back at any garbage collection.
	if n := testing.AllocsPerRun(20, func() { _, _ = d.ReadAt(buf, 0) }); n > 4 {
		t.Errorf("%v allocations for %d sectors", n, chunk/d.SectorSize())
	}
}

// BenchmarkDevice is to be read against the copy of the same memory.
func BenchmarkDevice(b *testing.B) {
	f, h, key := volume(b, nil)
	below, err := os.ReadFile(f.Name())
	if err != nil {
		b.Fatal(err)
	}
	d, err := h.DeviceWithoutPin(bytes.NewReader(below), key)
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{4096, chunk, testData} {
		buf := make([]byte, size)
		for name, r := range map[string]io.ReaderAt{"decrypted": d, "copied": bytes.NewReader(below)} {
			b.Run(fmt.Sprintf("read/%s/%d", name, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				for b.Loop() {
					_, _ = r.ReadAt(buf, 0)
				}
			})
		}
	}
}
