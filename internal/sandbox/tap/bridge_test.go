// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

func addBridge(s int, name *byte) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCBRADDBR, uintptr(unsafe.Pointer(name)))
	if errno != 0 {
		return errno
	}
	return nil
}
