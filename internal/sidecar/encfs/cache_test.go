// SPDX-License-Identifier: Apache-2.0

package encfs

import "testing"

// TestCache has volumes share what memory there is, within what is of use.
func TestCache(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		bytes       int64
		filesystems int
		want        int64
	}{{0, 3, 0}, {256 << 20, 2, 128 << 20}, {8 << 20, 1, leastCache}, {64 << 20, 64, leastCache}, {8 << 30, 2, DefaultCache}} {
		s := &Sidecar{opts: Options{Config: &Config{Filesystems: make([]Filesystem, c.filesystems)}, CacheBytes: c.bytes}}
		if got := s.cache(); got.MaxBytes != c.want || got.Ahead > got.MaxBytes/4 {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}
