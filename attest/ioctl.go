// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

// Directions of an ioctl number (include/uapi/asm-generic/ioctl.h).
const (
	iocWrite = 1
	iocRead  = 2
)

// iowr is the kernel's _IOWR: what a call that passes and returns a structure of size bytes is numbered.
func iowr(group byte, number uint8, size uintptr) uintptr {
	return (iocWrite|iocRead)<<30 | size<<16 | uintptr(group)<<8 | uintptr(number)
}

// device is a character device with ioctls; tests put their own in its place.
type device interface {
	// Ioctl passes a structure to the driver. What the structure points to must be held by pointers of Go's, so that the
	// memory stays where it is.
	Ioctl(request uintptr, argument unsafe.Pointer) error
	Close() error
}

// file is a real device.
type file struct{ f *os.File }

// openDevice opens a character device for its ioctls. Anything else of that name is refused, so that no file can stand for
// the processor.
func openDevice(path string) (device, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Mode()&os.ModeCharDevice == 0 {
		err = fmt.Errorf("%s is no character device", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return file{f}, nil
}

// Ioctl repeats a call that a signal interrupted.
func (d file) Ioctl(request uintptr, argument unsafe.Pointer) error {
	for {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, d.f.Fd(), request, uintptr(argument))
		switch errno {
		case 0:
			return nil
		case syscall.EINTR:
		default:
			return errno
		}
	}
}

func (d file) Close() error { return d.f.Close() }
