// SPDX-License-Identifier: Apache-2.0

package guestimage

import (
	"context"
	"os/exec"
	"testing"

	"cofferdam.dev/internal/guestimage/scratchfmt"
)

// TestScratchKeepsZeroBitmaps is about the last group of a filesystem: its block bitmap is initialised and all zero,
// and the kernel reads it when it makes the first directory there.
func TestScratchKeepsZeroBitmaps(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath(mke2fsPath()); err != nil {
		t.Fatalf("the build needs mke2fs: %v", err)
	}
	const group = 8 * scratchfmt.BlockSize * scratchfmt.BlockSize
	sizes := []int64{2 * group, 8 * group, 64 * group, 512 * group} // an incomplete last group has bits set
	for _, c := range scratchfmt.Classes() {
		sizes = append(sizes, c.Bytes)
	}
	for _, size := range sizes {
		tmpl, err := makeScratch(context.Background(), t.TempDir(), size)
		if err != nil {
			t.Fatal(err)
		}
		groups := (size + group - 1) / group
		// In the first flexible group the block bitmaps of its 16 groups follow the descriptors.
		flex := (groups - 1) / 16 * 16
		block := flex * 8 * scratchfmt.BlockSize
		if flex == 0 {
			block = 1 + (groups*64+scratchfmt.BlockSize-1)/scratchfmt.BlockSize
		}
		block += groups - 1 - flex
		if !holds(tmpl, block) {
			t.Errorf("%d bytes: block %d, the last group's bitmap, is not in the template", size, block)
		}
	}
}

func holds(t *scratchfmt.Template, block int64) bool {
	at := block * scratchfmt.BlockSize
	for _, e := range t.Extents {
		if at >= e.Offset && at < e.Offset+int64(len(e.Data)) {
			return true
		}
	}
	return false
}
