// SPDX-License-Identifier: Apache-2.0

package assemble

import (
	"fmt"

	"cofferdam.dev/internal/guestimage/scratchfmt"
)

// ScratchDisk returns the size of the disk that gives a container at least size MiB: the guest makes filesystems of a
// few sizes only, and integrity tags take room besides.
func ScratchDisk(size int) (int, error) {
	const mib = 1 << 20
	var largest int64
	for _, c := range scratchfmt.Classes() { // smallest first
		if c.Bytes >= int64(size)*mib {
			return int((c.DiskBytes() + mib - 1) / mib), nil
		}
		largest = c.Bytes
	}
	return 0, fmt.Errorf("%d MiB are more than the largest scratch disk, %d MiB", size, largest/mib)
}
