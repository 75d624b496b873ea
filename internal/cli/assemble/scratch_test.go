// SPDX-License-Identifier: Apache-2.0

package assemble

import (
	"testing"

	"cofferdam.dev/internal/guestimage/scratchfmt"
)

func TestScratchDiskHoldsWhatWasAsked(t *testing.T) {
	t.Parallel()
	classes := scratchfmt.Classes()
	for _, size := range []int{1, 255, 256, 257, 1024, 1025, int(classes[len(classes)-1].Bytes >> 20)} {
		disk, err := ScratchDisk(size)
		if err != nil {
			t.Errorf("%d MiB: %v", size, err)
			continue
		}
		if disk <= size {
			t.Errorf("%d MiB: a disk of %d MiB leaves no room for tags", size, disk)
		}
	}
	_, err := ScratchDisk(int(classes[len(classes)-1].Bytes>>20) + 1)
	if err == nil {
		t.Error("more than the largest disk was granted")
	}
}
