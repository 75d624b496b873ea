// SPDX-License-Identifier: Apache-2.0

// Package machine does the guest's kernel work: layers through dm-verity, encrypted scratch disks, overlays, power.
//
// It is called only after the policy allowed a request. It still treats everything that the host controls as hostile:
// which disks exist, how large they are, what their serial numbers say, and every byte on them. What goes into the
// kernel's tables comes from the caller (whose values the policy pinned) or from this package's constants, never from
// a disk.
//
// It never mounts a layer without dm-verity, never writes to a disk in clear, and never keeps a key after the kernel
// has it. What was half done when a step fails is undone; an error that wraps ErrNotUndone says that it was not, and the
// caller must then count the machine as broken.
package machine
