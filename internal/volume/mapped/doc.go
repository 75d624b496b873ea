// SPDX-License-Identifier: Apache-2.0

// Package mapped opens LUKS2 and sealed volumes by the kernel's own drivers: dm-crypt, and dm-verity over it. A plan is what
// they are told; it is made of what was verified already, a pinned header or a descriptor's root, and never of what the
// storage says. In a guest that is twice as quick as decrypting in a process of ours (docs/design/0009).
//
// It needs root and the device-mapper, and trusts the kernel. The keys are in a plan until it is destroyed, and in the kernel
// until the device is gone: never in a file, a log or an argument. A device that was released is gone when its last user is,
// also when the process that made it was killed.
package mapped
