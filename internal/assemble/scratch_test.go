// SPDX-License-Identifier: Apache-2.0

package assemble

import (
	"slices"
	"strings"
	"testing"

	"cofferdam.dev/internal/guestimage/scratchfmt"
)

func TestScratchDiskHoldsWhatWasAsked(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	classes := scratchfmt.Classes()
	most := int(classes[len(classes)-1].Room / mib)
	for size, name := range map[int]string{
		1: "256m", 256: "256m", 257: "512m", 512: "512m", 513: "1g", 1024: "1g", 10 << 10: "16g", most: "128g",
	} {
		disk, err := ScratchDisk(size)
		if err != nil {
			t.Errorf("%d MiB: %v", size, err)
			continue
		}
		i := slices.IndexFunc(classes, func(c scratchfmt.Class) bool { return c.Name == name })
		c := classes[i]
		if c.Room < int64(size)*mib || int64(disk)*mib < c.DiskBytes() {
			t.Errorf("%d MiB: a disk of %d MiB has no room for class %+v", size, disk, c)
		}
		if i+1 < len(classes) && int64(disk)*mib >= classes[i+1].Bytes {
			t.Errorf("%d MiB: a disk of %d MiB makes the guest take class %+v, want %s", size, disk, classes[i+1], name)
		}
	}
	_, err := ScratchDisk(most + 1)
	if err == nil || !strings.Contains(err.Error(), "131072 MiB (128g)") {
		t.Errorf("more than the largest disk: error is %v", err)
	}
}
