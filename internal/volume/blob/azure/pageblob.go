// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"cofferdam.dev/internal/volume/blob/wire"
)

const (
	// PageSize is what writes to a page blob are aligned to, in bytes.
	PageSize = 512
	// maxPut is the most that one request may write to a page blob, in bytes.
	maxPut = 4 << 20
	// codeSequence says that a page blob's sequence number is not the one that a write was conditional on.
	codeSequence = "SequenceNumberConditionNotMet"
	// closing bounds giving the lease back.
	closing = 20 * time.Second
)

// PageBlob is a page blob that is read and written under a lease.
type PageBlob struct {
	*endpoint
	properties
	lease *lease

	turn     chan struct{} // guards what follows, and is held while the sequence number is raised
	sequence int64
	suspect  bool // a write was given up that may still be under way
}

// OpenPageBlob opens a page blob to be read and written, and holds its lease until Close.
func OpenPageBlob(ctx context.Context, at wire.Location, a Access) (*PageBlob, error) {
	b, err := openPageBlob(ctx, at, a)
	if err != nil {
		return nil, err
	}
	if b.unfinished {
		_ = b.Close() // the other error says more
		return nil, fmt.Errorf("opening %s: an upload to it is not complete: %w", at, wire.ErrRefused)
	}
	return b, nil
}

func openPageBlob(ctx context.Context, at wire.Location, a Access) (*PageBlob, error) {
	e, err := a.dial(at, true)
	if err != nil {
		return nil, err
	}
	p, err := e.probe(ctx, nil) // before anybody is kept out
	if err != nil {
		return nil, err
	}
	if p.kind != "PageBlob" || p.size%PageSize != 0 {
		return nil, fmt.Errorf("opening %s: it is a %.16s of %d bytes, and only page blobs can be written: %w", at, p.kind, p.size, wire.ErrRefused)
	}
	l, err := a.acquire(ctx, e)
	if err != nil {
		return nil, fmt.Errorf("opening %s to write: %w", at, err)
	}
	b := &PageBlob{endpoint: e, lease: l, turn: make(chan struct{}, 1)}
	b.properties, err = e.probe(ctx, b.leased()) // what it is now that nobody else can change it
	if err == nil {
		b.sequence, err = sequenceOf(b.header)
	}
	if err != nil {
		_ = b.Close() // the other error says more
		return nil, err
	}
	return b, nil
}

// sequenceOf reads a page blob's sequence number.
func sequenceOf(h http.Header) (int64, error) {
	text := h.Get("X-Ms-Blob-Sequence-Number")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("the answer's sequence number is %.32q: %w", text, wire.ErrRefused)
	}
	return n, nil
}

func (b *PageBlob) leased() http.Header { return http.Header{"X-Ms-Lease-Id": {b.lease.id}} }

// Size is the blob's, in bytes: a multiple of PageSize.
func (b *PageBlob) Size() int64 { return b.size }

// Identity names the version that was found when the blob was opened. The lease has kept others from it since.
func (b *PageBlob) Identity() string { return b.pin.String() + ", leased" }

// Lost is closed when the lease is lost. From then on everything fails with an error that wraps wire.ErrFenced.
func (b *PageBlob) Lost() <-chan struct{} { return b.lease.lost }

// ReadAt fills p, which must lie in the blob, or fails. It makes one request, which the service refuses without the lease.
func (b *PageBlob) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := b.ReadVectorAt(ctx, [][]byte{p}, off, func(int) {}); err != nil {
		return 0, err
	}
	return len(p), nil
}

// ReadVectorAt fills buffers from off on by one request, and calls done for each.
func (b *PageBlob) ReadVectorAt(ctx context.Context, buffers [][]byte, off int64, done func(int)) error {
	if err := b.lease.check(); err != nil {
		return err
	}
	err := b.client.ReadVectorAt(ctx, wire.Range{Location: b.at, Header: b.leased(), Size: b.size, Field: rangeField}, buffers, off, done)
	if err != nil {
		return b.lease.judge(ctx, b.explain(err))
	}
	return nil
}

// WriteAt writes p, which must lie in the blob and be whole pages. When it returns nil, the storage has it for good. After
// an error the pages may have the old content, the new one, or some of each, until a later write of them succeeds.
func (b *PageBlob) WriteAt(ctx context.Context, p []byte, off int64) error {
	if off < 0 || off%PageSize != 0 || len(p)%PageSize != 0 || off > b.size-int64(len(p)) {
		return fmt.Errorf("writing %d bytes at %d of %s: they are not whole pages of %d bytes within %d", len(p), off, b.at, PageSize, b.size)
	}
	for len(p) > 0 {
		n := min(len(p), maxPut)
		if err := b.put(ctx, p[:n], off); err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// put makes one write, conditional on the lease and on the sequence number.
func (b *PageBlob) put(ctx context.Context, p []byte, off int64) error {
	if err := b.lease.check(); err != nil {
		return err
	}
	sequence, err := b.settle(ctx)
	if err != nil {
		return err
	}
	h := b.leased()
	h.Set("X-Ms-Page-Write", "update")
	h.Set(rangeField, fmt.Sprintf("bytes=%d-%d", off, off+int64(len(p))-1))
	h.Set("X-Ms-If-Sequence-Number-Eq", strconv.FormatInt(sequence, 10))
	_, err = b.do(ctx, &wire.Request{
		Doing: fmt.Sprintf("writing %d bytes at %d", len(p), off), Method: http.MethodPut, Query: url.Values{"comp": {"page"}},
		Header: h, Body: p, Want: []int{http.StatusCreated},
	})
	refusal, ok := errors.AsType[*wire.Error](err)
	if !ok {
		return err
	}
	if refusal.Code == codeSequence {
		// Nothing was written. Another write of ours had the number raised meanwhile, or it is to be raised above what it is.
		refusal.Temporary, refusal.Err = true, errors.New("the blob's sequence number was raised")
	}
	if refusal.Applied || refusal.Code == codeSequence {
		b.doubt(sequence)
	}
	return b.lease.judge(ctx, err)
}

// doubt has the sequence number raised before the next write, unless that has been done since.
func (b *PageBlob) doubt(sequence int64) {
	b.turn <- struct{}{} // held only for requests that have a deadline
	defer func() { <-b.turn }()
	if b.sequence == sequence {
		b.suspect = true
	}
}

// settle returns the sequence number to write with. If a write was given up, it first raises the number: from then on the
// service refuses that write, should it still arrive.
func (b *PageBlob) settle(ctx context.Context) (int64, error) {
	select {
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return 0, &wire.Error{Doing: "writing", Where: b.at.String(), Temporary: true, Err: context.Cause(ctx)}
	}
	defer func() { <-b.turn }()
	if !b.suspect {
		return b.sequence, nil
	}
	h := b.leased()
	h.Set("X-Ms-Sequence-Number-Action", "max") // may be applied twice
	h.Set("X-Ms-Blob-Sequence-Number", strconv.FormatInt(b.sequence+1, 10))
	answer, err := b.do(ctx, &wire.Request{
		Doing: "raising the sequence number", Method: http.MethodPut, Query: url.Values{"comp": {"properties"}}, Header: h, Want: []int{http.StatusOK},
	})
	if err != nil {
		return 0, b.lease.judge(ctx, err)
	}
	raised, err := sequenceOf(answer.Header)
	if err != nil || raised <= b.sequence {
		return 0, &wire.Error{Doing: "raising the sequence number", Where: b.at.String(), Temporary: true,
			Err: fmt.Errorf("it is %d after it was to be raised above %d", raised, b.sequence)}
	}
	b.sequence, b.suspect = raised, false
	return raised, nil
}

// Flush returns nil when the storage has every write that succeeded, which it has, and none that failed can still arrive.
func (b *PageBlob) Flush(ctx context.Context) error {
	if err := b.lease.check(); err != nil {
		return err
	}
	_, err := b.settle(ctx)
	return err
}

// Close gives the lease back. Writes must have ended.
func (b *PageBlob) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closing)
	defer cancel()
	if err := b.lease.release(ctx); err != nil {
		return fmt.Errorf("closing %s: %w", b.at, err)
	}
	return nil
}
