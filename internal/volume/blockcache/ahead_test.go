// SPDX-License-Identifier: Apache-2.0

package blockcache_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

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

// TestMetrics gathers what a service would show.
func TestMetrics(t *testing.T) {
	t.Parallel()
	m := &memory{data: pattern(64 << 10)}
	c := open(t, m, small)
	if _, err := c.ReadAt(t.Context(), make([]byte, 100), 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.WriteAt(t.Context(), make([]byte, 10), 0), c.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c.Collectors("data")...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		v := f.GetMetric()[0]
		if l := v.GetLabel(); len(l) != 1 || l[0].GetValue() != "data" {
			t.Errorf("%s has labels %v", f.GetName(), l)
		}
		got[f.GetName()] = v.GetCounter().GetValue() + v.GetGauge().GetValue()
	}
	want := map[string]float64{
		"cofferdam_volume_read_bytes_total": 100, "cofferdam_volume_written_bytes_total": 10, "cofferdam_volume_fetched_bytes_total": 4096,
		"cofferdam_volume_stored_bytes_total": 512, "cofferdam_volume_fetches_total": 1, "cofferdam_volume_writes_total": 1,
		"cofferdam_volume_flushes_total": 1, "cofferdam_volume_retries_total": 0, "cofferdam_volume_failures_total": 0,
		"cofferdam_volume_evictions_total": 0, "cofferdam_volume_ahead_used_total": 0, "cofferdam_volume_ahead_wasted_total": 0,
		"cofferdam_volume_cached_bytes": 4096, "cofferdam_volume_unsaved_bytes": 0, "cofferdam_volume_fenced": 0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics differ (-want +got):\n%s", diff)
	}
}
