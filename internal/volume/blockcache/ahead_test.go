// SPDX-License-Identifier: Apache-2.0

package blockcache_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/volume/blockcache"
)

// TestReadsAhead counts requests of a reader in order, and of one who is not.
func TestReadsAhead(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	m := &memory{data: pattern(size)}
	c := open(t, m, blockcache.Options{Block: 4096, MaxBytes: 4 << 20, Request: 64 << 10, Ahead: 512 << 10})
	p := make([]byte, 16<<10)
	for off := 0; off < size; off += len(p) {
		if _, err := c.ReadAt(t.Context(), p, int64(off)); err != nil || !bytes.Equal(p, m.data[off:off+len(p)]) {
			t.Fatalf("reading at %d: %v", off, err)
		}
	}
	s := c.Stats()
	if s.FetchedBytes != size || s.AheadUsed < size/4096*9/10 || s.AheadWasted != 0 {
		t.Errorf("a reader in order: %+v", s)
	}
	if s.Fetches > size/(16<<10) {
		t.Errorf("%d requests for %d bytes", s.Fetches, size)
	}
	for i := range 20 {
		off := int64(i*7919%20) * (256 << 10)
		if _, err := c.ReadAt(t.Context(), p[:100], off); err != nil {
			t.Fatal(err)
		}
	}
	if more := c.Stats().FetchedBytes - s.FetchedBytes; more > 20*4096 {
		t.Errorf("20 reads out of order fetched %d bytes", more)
	}
}

// TestHopping reads small pieces here and there in one part of an object: the rest of it is left alone.
func TestHopping(t *testing.T) {
	t.Parallel()
	const area = 1 << 20
	m := &memory{data: pattern(8 * area)}
	c := open(t, m, blockcache.Options{Block: 4096, MaxBytes: 4 << 20, Request: 64 << 10})
	r := rand.New(rand.NewPCG(9, 10))
	p := make([]byte, 512)
	for range 1000 {
		off := r.IntN(area - len(p))
		if _, err := c.ReadAt(t.Context(), p, int64(off)); err != nil || !bytes.Equal(p, m.data[off:off+len(p)]) {
			t.Fatalf("reading at %d: %v", off, err)
		}
	}
	if s := c.Stats(); s.FetchedBytes > area+area/4 {
		t.Errorf("reads of a part of %d bytes fetched %d", area, s.FetchedBytes)
	}
}

// TestStats looks at all counts after a read, a write and a flush.
func TestStats(t *testing.T) {
	t.Parallel()
	m := &memory{data: pattern(64 << 10)}
	c := open(t, m, small)
	if _, err := c.ReadAt(t.Context(), make([]byte, 100), 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.WriteAt(t.Context(), make([]byte, 10), 0), c.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
	want := blockcache.Stats{
		ReadBytes: 100, WrittenBytes: 10, FetchedBytes: 4096, StoredBytes: 512, Fetches: 1, Writes: 1, Flushes: 1, CachedBytes: 4096,
	}
	if diff := cmp.Diff(want, c.Stats()); diff != "" {
		t.Errorf("counts differ (-want +got):\n%s", diff)
	}
}
