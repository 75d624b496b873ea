// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	loopMajor = 7 // of Documentation/admin-guide/devices.txt
	// sector is the block size of the loop devices, in bytes, as package mount has it.
	sector = 512
)

// loop puts a loop device on a file, for as long as the process lives. It returns its path and its number.
func loop(path string) (device, number string, err error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = control.Close() }() // nothing was written
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return "", "", fmt.Errorf("finding a free loop device: %w", err)
	}
	device = "/dev/loop" + strconv.Itoa(n)
	err = node(device, unix.S_IFBLK, loopMajor, uint32(n))
	if err != nil {
		return "", "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", "", err
	}
	d, err := os.Open(device)
	if err != nil {
		return "", "", err
	}
	err = unix.IoctlLoopConfigure(int(d.Fd()), &unix.LoopConfig{Fd: uint32(f.Fd()), Size: sector, Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_READ_ONLY}})
	if err != nil {
		return "", "", fmt.Errorf("setting up %s: %w", device, err)
	}
	return device, fmt.Sprintf("%d:%d", loopMajor, n), nil
}

// node makes a device node, if it is missing.
func node(path string, kind, major, minor uint32) error {
	err := unix.Mknod(path, kind|0o600, int(unix.Mkdev(major, minor)))
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}
