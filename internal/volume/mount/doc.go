// SPDX-License-Identifier: Apache-2.0

// Package mount mounts the filesystem in a volume: it shows the volume as a file (package fusefile), puts a loop device on it,
// and mounts that; and it undoes the three in order, so that what was written is durable when Close has returned. Where it is
// told to, and the kernel has the drivers (package mapped), it is the storage that is shown, and the kernel that decrypts.
//
// It needs root, and trusts the kernel, whose drivers for filesystems read what is in the volume. The content of an
// authenticated volume is its owner's; that of a LUKS2 volume can have been changed by whoever keeps the storage, and the
// drivers are then what stands against them. Programs and devices in a volume do not become the system's: nothing is mounted
// without nosuid and nodev.
package mount
