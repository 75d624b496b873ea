// SPDX-License-Identifier: Apache-2.0

// Package shadow is an authenticated, encrypted block device that can be written, on storage that belongs to somebody
// else. Its format is docs/design/0007: a tree of AEAD tags in which every block has two places, of which the committed
// state refers to one.
//
// It trusts the volume key, the anchor and the source of randomness, and nothing that the storage returns: what is read is
// what was written last, or an error. A crash at any moment leaves the state of a commit that is not older than the last
// acknowledged flush. It never writes a key or plain text to the storage, and never goes on after it could not tell which
// of two states is the durable one.
package shadow
