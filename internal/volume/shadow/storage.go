// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"context"
	"crypto/sha256"
	"errors"
)

// Storage holds an image. Nothing that it returns is trusted, and neither is what it says of itself. All offsets and
// lengths are multiples of BlockSize.
type Storage interface {
	// ReadAt fills p. What lies beyond the end of the storage, or was never written, is zeros.
	ReadAt(ctx context.Context, p []byte, off int64) error
	// WriteAt writes p. It need not be durable before Flush has returned, nor in order.
	WriteAt(ctx context.Context, p []byte, off int64) error
	// Flush returns when everything that was written before is durable.
	Flush(ctx context.Context) error
}

// Record is what an anchor keeps: the last state of a volume that was acknowledged.
type Record struct {
	Volume     [16]byte
	Generation uint64
	Digest     [32]byte // SHA-256 of the superblock
}

// Errors of anchors.
var (
	// ErrNoRecord says that an anchor knows nothing of a volume.
	ErrNoRecord = errors.New("the anchor has no record of the volume")
	// ErrMoved says that an anchor's record is not the one that was to be replaced: another writer was there.
	ErrMoved = errors.New("the anchor was moved by somebody else")
)

// Anchor keeps the records of volumes where the owner of the storage can not put them back.
type Anchor interface {
	// Load returns the record of a volume, or ErrNoRecord.
	Load(ctx context.Context, volume [16]byte) (Record, error)
	// Move replaces the record was by next, durably; it returns ErrMoved if the anchor holds another one. A zero was stands
	// for no record.
	Move(ctx context.Context, was, next Record) error
}

func record(s *superblock, raw []byte) Record {
	return Record{Volume: s.id, Generation: s.generation, Digest: sha256.Sum256(raw)}
}
