// SPDX-License-Identifier: Apache-2.0

// Package sealed is an encrypted volume that is made once and then only read, from storage that belongs to somebody else. Its
// format is docs/design/0008: an EROFS filesystem with a dm-verity tree behind it, all of it encrypted with AES-XTS, so that
// the kernel's own drivers open it as well.
//
// It trusts the volume key and the facts that the volume's descriptor holds, and nothing that the storage returns: each block
// that is read follows from the root, or the read is an error. It never trusts a header, of which an image has none, never
// returns a byte that was not verified, and keeps no more of the tree in memory than it was told to.
package sealed
