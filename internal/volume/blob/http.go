// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"context"
	"fmt"
	"net/http"

	"cofferdam.dev/internal/volume/blob/wire"
)

// httpObject is an object of a server that gives out ranges, pinned to its version.
type httpObject struct {
	client *wire.Client
	object wire.Range
}

func openHTTP(ctx context.Context, at wire.Location, o Options) (*httpObject, error) {
	if at.HasQuery() && !at.Encrypted() && !at.Nearby() && !o.InsecurePlainHTTP {
		return nil, fmt.Errorf("the URL of %s has parameters, which may be a signature and would go over plain HTTP: %w", at, ErrDenied)
	}
	h := &httpObject{client: &wire.Client{HTTP: o.HTTP}, object: wire.Range{Location: at, Field: "Range"}}
	var header http.Header
	err := o.Retry.Do(ctx, func(ctx context.Context) (err error) {
		header, h.object.Size, err = h.client.Probe(ctx, h.object)
		return err
	})
	if err == nil {
		h.object.Pin, err = wire.NewPin(header)
	}
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", at, err)
	}
	return h, nil
}

// Size is the object's, in bytes.
func (h *httpObject) Size() int64 { return h.object.Size }

// Identity names the pinned version.
func (h *httpObject) Identity() string { return h.object.Pin.String() }

// ReadAt fills p, which must lie in the object, or fails. It makes one request.
func (h *httpObject) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := h.client.ReadAt(ctx, h.object, p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// ReadVectorAt fills buffers from off on by one request. See VectorReader.
func (h *httpObject) ReadVectorAt(ctx context.Context, buffers [][]byte, off int64, done func(int)) error {
	return h.client.ReadVectorAt(ctx, h.object, buffers, off, done)
}

// Close does nothing: nothing is held.
func (h *httpObject) Close() error { return nil }
