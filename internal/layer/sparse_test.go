// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

// sparseTar is a tar with one sparse file in the old GNU format, which no Go package writes: size bytes, of which the
// content lies at an offset and the rest is a hole.
func sparseTar(size, offset int64, content []byte) []byte {
	h := make([]byte, 512)
	copy(h, "sparse")
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:], fmt.Sprintf("%011o\x00%011o\x00", len(content), 0))
	copy(h[148:], "        S")
	copy(h[257:], "ustar  \x00")
	copy(h[386:], fmt.Sprintf("%011o\x00%011o\x00", offset, len(content)))
	copy(h[410:], fmt.Sprintf("%011o\x00%011o\x00", size, 0))
	copy(h[483:], fmt.Sprintf("%011o\x00", size))
	var sum int
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	h = append(h, content...)
	h = append(h, make([]byte, (512-len(content)%512)%512)...)
	return append(h, make([]byte, 1024)...)
}

func TestSparse(t *testing.T) {
	t.Parallel()
	b := sparseTar(1<<20, 8192, bytes.Repeat([]byte("content "), 1000))
	_, err := reference(b)
	if err != nil {
		t.Fatalf("the test's tar is broken: %v", err)
	}
	checkAgainstReference(t, b)
}

// TestSparseBombs has kilobytes that would become many gigabytes.
func TestSparseBombs(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		size    int64
		wrapped error
	}{
		{"beyond the limit", 2 << 20, ErrTooLarge},
		{"beyond what the converter places", 8<<30 - 1, ErrTooLarge},
	}
	for _, tt := range tests {
		c, err := OpenCacheLimited(t.TempDir(), Limits{Size: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Get(t.Context(), layerOf(sparseTar(tt.size, 0, []byte("x"))), nil)
		if !errors.Is(err, tt.wrapped) {
			t.Errorf("%s: error is %v, want one that wraps %v", tt.name, err, tt.wrapped)
		}
		checkNothingLeft(t, c)
	}
}
