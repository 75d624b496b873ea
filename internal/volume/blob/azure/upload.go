// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"cofferdam.dev/internal/volume/blob/wire"
)

const (
	// maxBlocks is how many blocks a block blob may have.
	maxBlocks = 50_000
	// blockUnit is what the size of blocks is a multiple of, in bytes.
	blockUnit = 8 << 20
	// granule is the unit in which zeros are left out, in bytes: about what a request of its own costs.
	granule = 256 << 10
	// sessionMark is the metadata of a block blob that names the upload it came from.
	sessionMark = "X-Ms-Meta-Cofferdamsession"
)

// PageUpload fills a new page blob. Until Finish the blob is marked as incomplete, and Open refuses it.
type PageUpload struct{ b *PageBlob }

// NewPageUpload creates a page blob of a size, or goes on with one that an upload of the same name (session) has created.
func NewPageUpload(ctx context.Context, at wire.Location, a Access, size int64, session string, goOn, overwrite bool) (*PageUpload, error) {
	if size <= 0 || size%PageSize != 0 {
		return nil, fmt.Errorf("uploading to %s: %d bytes are not a multiple of %d, as a page blob's size must be", at, size, PageSize)
	}
	if !goOn {
		if err := createPageBlob(ctx, at, a, size, session, overwrite); err != nil {
			return nil, err
		}
	}
	b, err := openPageBlob(ctx, at, a)
	if err != nil {
		return nil, err
	}
	if b.header.Get(uploadMark) != session || b.size != size {
		_ = b.Close() // the other error says more
		return nil, fmt.Errorf("uploading to %s: the blob is not the one that this upload has begun: %w", at, wire.ErrExists)
	}
	return &PageUpload{b: b}, nil
}

func createPageBlob(ctx context.Context, at wire.Location, a Access, size int64, session string, overwrite bool) error {
	e, err := a.dial(at, true)
	if err != nil {
		return err
	}
	h := http.Header{
		"X-Ms-Blob-Type": {"PageBlob"}, "X-Ms-Blob-Content-Length": {strconv.FormatInt(size, 10)}, uploadMark: {session},
		"X-Ms-Blob-Content-Type": {"application/octet-stream"},
	}
	if !overwrite {
		h.Set("If-None-Match", "*")
	}
	err = e.doAgain(ctx, &wire.Request{Doing: "creation", Method: http.MethodPut, Header: h, Want: []int{http.StatusCreated}})
	return e.unlessOurs(ctx, err, uploadMark, session)
}

// unlessOurs says of an answer to a request that was for a new object only that there is one, unless it is ours: an earlier
// attempt may have made it without our learning of it.
func (e *endpoint) unlessOurs(ctx context.Context, err error, mark, session string) error {
	refusal, ok := errors.AsType[*wire.Error](err)
	switch {
	case !ok || refusal.Code != "BlobAlreadyExists" && refusal.Status != http.StatusPreconditionFailed:
		return err
	case strings.HasPrefix(refusal.Code, "Lease"):
		refusal.Err = wire.ErrBusy
		return err
	}
	refusal.Err = wire.ErrExists
	if p, probeErr := e.probe(ctx, nil); probeErr == nil && p.header.Get(mark) == session {
		return nil
	}
	return err
}

// Piece is how many bytes Put takes.
func (*PageUpload) Piece(int64) int64 { return maxPut }

// Put writes the parts of a piece that are not zero: a new page blob is zero everywhere.
func (u *PageUpload) Put(ctx context.Context, index int, p []byte) (string, error) {
	base := int64(index) * maxPut
	for from := 0; from < len(p); {
		to := min(from+granule, len(p))
		if zero(p[from:to]) {
			from = to
			continue
		}
		for to < len(p) && !zero(p[to:min(to+granule, len(p))]) {
			to = min(to+granule, len(p))
		}
		err := u.b.retry.Do(ctx, func(ctx context.Context) error { return u.b.WriteAt(ctx, p[from:to], base+int64(from)) })
		if err != nil {
			return "", err
		}
		from = to
	}
	return "", nil
}

func zero(p []byte) bool {
	var zeros [granule]byte
	return bytes.Equal(p, zeros[:len(p)])
}

// Finish marks the blob as complete.
func (u *PageUpload) Finish(ctx context.Context, _ []string) error {
	if err := u.b.retry.Do(ctx, u.b.Flush); err != nil {
		return err
	}
	err := u.b.doAgain(ctx, &wire.Request{
		Doing: "completion", Method: http.MethodPut, Query: url.Values{"comp": {"metadata"}}, Header: u.b.leased(), Want: []int{http.StatusOK},
	})
	return err
}

// Close gives the lease back.
func (u *PageUpload) Close() error { return u.b.Close() }

// BlockUpload makes a block blob of blocks, which nobody sees before Finish.
type BlockUpload struct {
	e         *endpoint
	session   string
	overwrite bool
}

// NewBlockUpload prepares an upload whose blocks have names that begin with the session's.
func NewBlockUpload(ctx context.Context, at wire.Location, a Access, session string, overwrite bool) (*BlockUpload, error) {
	e, err := a.dial(at, true)
	if err != nil {
		return nil, err
	}
	if !overwrite {
		_, err := e.probe(ctx, nil)
		switch {
		case err == nil || errors.Is(err, wire.ErrRefused):
			return nil, fmt.Errorf("uploading to %s: %w", at, wire.ErrExists)
		case !errors.Is(err, wire.ErrNotFound) && !errors.Is(err, wire.ErrDenied): // who may only write can not look
			return nil, err
		}
	}
	return &BlockUpload{e: e, session: session, overwrite: overwrite}, nil
}

// Piece is how many bytes Put takes, for an object of a size.
func (*BlockUpload) Piece(size int64) int64 { return pieceFor(size, maxBlocks) }

// pieceFor is the least multiple of 8 MiB of which no more than a number of pieces make up a size.
func pieceFor(size, pieces int64) int64 {
	return max(1, (size+pieces*blockUnit-1)/(pieces*blockUnit)) * blockUnit
}

// Put stores a block.
func (u *BlockUpload) Put(ctx context.Context, index int, p []byte) (string, error) {
	id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s-%06d", u.session, index)) // all of one length, as they must be
	err := u.e.doAgain(ctx, &wire.Request{
		Doing: fmt.Sprintf("writing block %d", index), Method: http.MethodPut, Query: url.Values{"comp": {"block"}, "blockid": {id}},
		Body: p, Want: []int{http.StatusCreated},
	})
	return id, err
}

// Finish makes the blob of the blocks.
func (u *BlockUpload) Finish(ctx context.Context, ids []string) error {
	list := struct {
		XMLName xml.Name `xml:"BlockList"`
		Latest  []string
	}{Latest: ids}
	body, err := xml.Marshal(list)
	if err != nil {
		return fmt.Errorf("writing the list of blocks: %w", err)
	}
	h := http.Header{"X-Ms-Blob-Content-Type": {"application/octet-stream"}, "Content-Type": {"application/xml"}, sessionMark: {u.session}}
	if !u.overwrite {
		h.Set("If-None-Match", "*")
	}
	err = u.e.doAgain(ctx, &wire.Request{
		Doing: "completion", Method: http.MethodPut, Query: url.Values{"comp": {"blocklist"}}, Header: h, Body: body, Want: []int{http.StatusCreated},
	})
	return u.e.unlessOurs(ctx, err, sessionMark, u.session)
}

// Close does nothing: nothing is held. The service forgets blocks of no blob after a week.
func (u *BlockUpload) Close() error { return nil }
