// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"context"
	"errors"
	"fmt"
	"io"

	"cofferdam.dev/internal/volume/blob/azure"
	"cofferdam.dev/internal/volume/blob/s3"
	"cofferdam.dev/internal/volume/blob/wire"
)

// Source is an object that is read. Its methods are safe for concurrent use.
type Source interface {
	// Size is the object's, in bytes. It does not change.
	Size() int64
	// ReadAt fills p with the bytes at off, or fails: it never returns some of them. They must lie in the object.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	// Identity names the version that is pinned: what a reader can log, or compare with an earlier one.
	Identity() string
	// Close gives up what is held for the object. Other calls must have ended.
	Close() error
}

// VectorReader is a Source that can fill several buffers with one request.
type VectorReader interface {
	// ReadVectorAt fills buffers, one after the other, with the bytes from off on. It calls done with the number of each
	// that is filled for good, in order; after an error the later ones hold nothing of use.
	ReadVectorAt(ctx context.Context, buffers [][]byte, off int64, done func(int)) error
}

// Writable is an object that is read and written.
type Writable interface {
	Source
	// WriteAt writes all of p at off, within the object, or fails. After an error the bytes are old or new, each sector by
	// itself, until a later write of them succeeds; from then on the one that failed can not take effect any more. Remote
	// objects want off and len(p) to be multiples of 512.
	WriteAt(ctx context.Context, p []byte, off int64) error
	// Flush returns nil when every write that succeeded before it was called survives a loss of power, and none that
	// failed can still take effect.
	Flush(ctx context.Context) error
}

// Fencer is a Source that learns by itself that it is fenced, as one whose lease is lost.
type Fencer interface {
	// Lost is closed then. All calls fail with ErrFenced from there on.
	Lost() <-chan struct{}
}

// What callers decide by. Errors wrap one of them, or are failures of another kind.
var (
	// ErrFenced says that the object was changed by someone else, or that the lease on it is lost. It is for ever.
	ErrFenced = wire.ErrFenced
	// ErrBusy says that another writer has the object.
	ErrBusy = wire.ErrBusy
	// ErrDenied says that the server did not take the credentials, or that they may not be sent.
	ErrDenied = wire.ErrDenied
	// ErrNotFound says that there is no such object.
	ErrNotFound = wire.ErrNotFound
	// ErrExists says that there is such an object already.
	ErrExists = wire.ErrExists
	// ErrRefused says that the object or its server can not be used for a volume.
	ErrRefused = wire.ErrRefused
	// ErrDeadline says that there was no good answer before the deadline.
	ErrDeadline = wire.ErrDeadline
)

// Secret is a text that prints as nothing of use.
type Secret = wire.Secret

// NewSecret wraps a text.
func NewSecret(value string) Secret { return wire.NewSecret(value) }

// Error is a request that failed: what was asked for, and how the server answered.
type Error = wire.Error

// Backoff is how something is tried again that failed for now.
type Backoff = wire.Backoff

// Temporary reports whether another attempt may succeed.
func Temporary(err error) bool { return wire.Temporary(err) }

// NewHTTPClient returns a client for storage servers. See wire.NewHTTPClient.
var NewHTTPClient = wire.NewHTTPClient

var (
	_ Writable = (*File)(nil)
	_ Writable = (*azure.PageBlob)(nil)
	_ Fencer   = (*azure.PageBlob)(nil)
	_ Source   = (*azure.Blob)(nil)
	_ Source   = (*s3.Object)(nil)
	_ Source   = (*httpObject)(nil)

	_ VectorReader = (*azure.PageBlob)(nil)
	_ VectorReader = (*azure.Blob)(nil)
	_ VectorReader = (*s3.Object)(nil)
	_ VectorReader = (*httpObject)(nil)
)

// ReaderAt returns a Source as an io.ReaderAt whose calls end with ctx. It returns io.EOF as that interface wants.
func ReaderAt(ctx context.Context, s Source) io.ReaderAt { return readerAt{ctx, s} }

type readerAt struct {
	ctx context.Context // io.ReaderAt has no place for it
	s   Source
}

func (r readerAt) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("reading at %d: %w", off, errors.ErrUnsupported)
	}
	want := len(p)
	p = p[:max(0, min(int64(want), r.s.Size()-off))]
	n := 0
	if len(p) > 0 {
		var err error
		n, err = r.s.ReadAt(r.ctx, p, off)
		if err != nil {
			return n, err
		}
	}
	if n < want {
		return n, io.EOF
	}
	return n, nil
}
