// SPDX-License-Identifier: Apache-2.0

package assemble

import (
	"fmt"

	"cofferdam.dev/internal/guestimage/scratchfmt"
)

// ScratchDisk returns the size of the disk that gives a container room for at least size MiB of files: the guest makes
// filesystems of a few sizes only, and they and their integrity tags take room besides. All sizes are in MiB.
func ScratchDisk(size int) (int, error) {
	const mib = 1 << 20
	c, ok := scratchfmt.Smallest(int64(size) * mib)
	if !ok {
		classes := scratchfmt.Classes()
		largest := classes[len(classes)-1]
		return 0, fmt.Errorf("%d MiB are more than the largest scratch disk has room for, which is %d MiB (%s)",
			size, largest.Room/mib, largest.Name)
	}
	return int((c.DiskBytes() + mib - 1) / mib), nil
}
