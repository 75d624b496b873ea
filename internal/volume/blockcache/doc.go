// SPDX-License-Identifier: Apache-2.0

// Package blockcache makes remote objects quick to read and safe to write: it keeps blocks of them in memory, reads ahead of
// those who read in order, writes behind, and tries again what failed for now.
//
// What it promises:
//
//   - Memory is bounded: blocks take no more than Options.MaxBytes, whatever is read or written, and writes that are under way
//     no more than Options.Parallel times Options.Request beside that.
//   - A read returns what was written last through the cache, or what the object holds in its pinned version. It never
//     returns something else, nor less than was asked for.
//   - Flush returns nil only when the storage has acknowledged every write that had returned before Flush was called, and
//     has been asked to keep them. After an error nothing is forgotten: the next Flush tries again.
//   - Writes of the same block reach the storage one after the other, the newest last. Those of different blocks between two
//     calls of Flush may reach it in any order, as with a disk that has a cache; a write that is made after Flush returned
//     reaches it after those before.
//   - Nothing waits longer for one request than Options.Retry.Deadline. What fails by then fails with ErrStorage, for which
//     errors.Is(err, syscall.EIO) holds; what is asked for later is tried anew.
//   - When the object was changed by someone else, or its lease is lost, everything fails with blob.ErrFenced from there on,
//     and nothing more is written.
//
// The package trusts its memory. It does not trust the storage, but can not tell what it stored from what it says it stored:
// the formats on top of it authenticate what they read.
package blockcache
