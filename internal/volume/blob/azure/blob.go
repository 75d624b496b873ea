// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"fmt"

	"cofferdam.dev/internal/volume/blob/wire"
)

// Blob is a blob that is read only, pinned to the version that was found when it was opened. Whoever changes it ends it.
type Blob struct {
	*endpoint
	properties
}

// Open opens a page or block blob to be read.
func Open(ctx context.Context, at wire.Location, a Access) (*Blob, error) {
	e, err := a.dial(at, false)
	if err != nil {
		return nil, err
	}
	p, err := e.probe(ctx, nil)
	if err != nil {
		return nil, err
	}
	if p.unfinished {
		return nil, fmt.Errorf("opening %s: an upload to it is not complete: %w", at, wire.ErrRefused)
	}
	return &Blob{endpoint: e, properties: p}, nil
}

// Size is the blob's, in bytes.
func (b *Blob) Size() int64 { return b.size }

// Identity names the pinned version.
func (b *Blob) Identity() string { return b.pin.String() }

func (b *Blob) all() wire.Range {
	return wire.Range{Location: b.at, Pin: b.pin, Size: b.size, Field: rangeField}
}

// ReadAt fills p, which must lie in the blob, or fails. It makes one request.
func (b *Blob) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := b.client.ReadAt(ctx, b.all(), p, off); err != nil {
		return 0, b.explain(err)
	}
	return len(p), nil
}

// ReadVectorAt fills buffers from off on by one request, and calls done for each.
func (b *Blob) ReadVectorAt(ctx context.Context, buffers [][]byte, off int64, done func(int)) error {
	return b.explain(b.client.ReadVectorAt(ctx, b.all(), buffers, off, done))
}

// Close does nothing: nothing is held.
func (b *Blob) Close() error { return nil }
