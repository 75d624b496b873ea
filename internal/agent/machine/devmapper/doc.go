// SPDX-License-Identifier: Apache-2.0

// Package devmapper creates and removes device-mapper devices through the kernel's ioctl interface, version 4.
//
// It exists because the guest holds no dmsetup, udev or libdevmapper. It covers what the guest needs: create, load one
// table, resume, status, remove. The structures are those of the kernel's include/uapi/linux/dm-ioctl.h.
//
// It trusts the kernel, and still decodes the kernel's answers with every length checked. It never invents table
// parameters: a table is what the caller says, byte for byte. A request that carries a key is marked secret, so that
// the kernel wipes its copy, and the package wipes its own.
package devmapper
