// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"cofferdam.dev/internal/volume/blob/azure"
	"cofferdam.dev/internal/volume/blob/s3"
)

// DefaultParallel is how many requests an upload makes at a time.
const DefaultParallel = 8

// An upload's requests are large, and run several at a time over lines that may be slow, so they have more time than others.
const (
	uploadAttempt  = 5 * time.Minute
	uploadDeadline = 20 * time.Minute
)

// saveEvery is how often the state of an upload is written while it goes on.
const saveEvery = time.Second

// UploadOptions say how a file is uploaded.
type UploadOptions struct {
	Options
	// PageBlob makes a page blob, which can be written in place, of what goes to Azure. Otherwise it is a block blob.
	PageBlob bool
	// Overwrite replaces an object that exists.
	Overwrite bool
	// State is a file that remembers what has been uploaded: when it is there, for the same file and URL, the upload goes
	// on where it ended. It is removed at the end. It has no secrets. Empty remembers nothing.
	State string
	// Parallel is how many requests are made at a time; zero is DefaultParallel.
	Parallel int
	// Progress, if it is set, is told how many bytes of how many are stored. It is called by one goroutine at a time.
	Progress func(done, total int64)
}

// target is where pieces of a file go. It tries again what fails for now.
type target interface {
	// Piece is how many bytes a piece has, but for the last, of a file of a size.
	Piece(size int64) int64
	// Put stores a piece; it may be called again for the same. The receipt is for Finish.
	Put(ctx context.Context, index int, p []byte) (receipt string, err error)
	// Finish makes the object of the pieces.
	Finish(ctx context.Context, receipts []string) error
	// Close gives up what is held.
	Close() error
}

// Upload brings a file to Azure or S3-compatible storage. The object appears there whole or not at all; a page blob, which
// appears at once, is marked and refused by Open until it is whole.
func Upload(ctx context.Context, path, rawURL string, o UploadOptions) error {
	p, err := parse(rawURL, o.S3.Region)
	if err != nil {
		return err
	}
	o.Options = o.complete()
	if o.Parallel <= 0 {
		o.Parallel = DefaultParallel
	}
	if o.Retry.Attempt == 0 {
		o.Retry.Attempt = uploadAttempt
	}
	if o.Retry.Deadline == 0 {
		o.Retry.Deadline = uploadDeadline
	}
	f, err := OpenFile(path, false)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it is only read
	u := &upload{file: f, options: o, state: newState(o, p, f)}
	if u.target, err = u.open(ctx, p); err != nil {
		return err
	}
	err = u.run(ctx)
	return errors.Join(err, u.target.Close())
}

// upload is a file on its way.
type upload struct {
	file    *File
	options UploadOptions
	target  target

	mu    sync.Mutex
	state *state
	saved time.Time
	done  int64
}

// open begins at the server, or goes on there.
func (u *upload) open(ctx context.Context, p place) (target, error) {
	goOn, o := u.state.load(u.options.State), u.options
	switch {
	case p.kind == kindAzure && o.PageBlob:
		t, err := azure.NewPageUpload(ctx, p.at, o.azure(), u.file.size, u.state.Session, goOn, o.Overwrite)
		if goOn && errors.Is(err, ErrNotFound) { // what was begun has been removed
			clear(u.state.Receipts)
			t, err = azure.NewPageUpload(ctx, p.at, o.azure(), u.file.size, u.state.Session, false, o.Overwrite)
		}
		if err != nil {
			return nil, err
		}
		return t, nil
	case p.kind == kindAzure:
		t, err := azure.NewBlockUpload(ctx, p.at, o.azure(), u.state.Session, o.Overwrite)
		if err != nil {
			return nil, err
		}
		return t, nil
	case p.kind == kindS3:
		t, err := s3.NewUpload(ctx, p.at, o.s3(), u.state.Session, u.state.Remote, o.Overwrite)
		if err != nil {
			return nil, err
		}
		u.state.Remote = t.ID()
		return t, nil
	default:
		return nil, fmt.Errorf("uploading to %s%s: only Azure and S3-compatible storage take uploads: %w", p.path, p.at, ErrRefused)
	}
}

// run stores what is missing, and completes the object.
func (u *upload) run(ctx context.Context) error {
	piece := u.target.Piece(u.file.size)
	count := int((u.file.size + piece - 1) / piece)
	if err := u.save(true); err != nil {
		return err
	}
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(u.options.Parallel)
	buffers := sync.Pool{New: func() any { b := make([]byte, piece); return &b }}
	for i := range count {
		size := min(piece, u.file.size-int64(i)*piece)
		if u.has(i, size) {
			continue
		}
		group.Go(func() error {
			b := buffers.Get().(*[]byte) // nothing else is put there
			defer buffers.Put(b)
			return u.put(inner, i, (*b)[:size], int64(i)*piece)
		})
	}
	if err := group.Wait(); err != nil {
		return errors.Join(err, u.save(true))
	}
	if err := u.unchanged(); err != nil {
		return err
	}
	receipts := make([]string, count)
	for i := range receipts {
		receipts[i] = u.state.Receipts[i]
	}
	if err := u.target.Finish(ctx, receipts); err != nil {
		return err
	}
	return u.state.remove(u.options.State)
}

// put stores one piece.
func (u *upload) put(ctx context.Context, index int, p []byte, off int64) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if _, err := u.file.ReadAt(ctx, p, off); err != nil {
		return err
	}
	receipt, err := u.target.Put(ctx, index, p)
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.state.Receipts[index] = receipt
	u.progress(int64(len(p)))
	return u.saveLocked(false)
}

// has reports whether a piece is stored already, and counts it if it is.
func (u *upload) has(index int, size int64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, ok := u.state.Receipts[index]
	if ok {
		u.progress(size)
	}
	return ok
}

func (u *upload) progress(n int64) {
	u.done += n
	if u.options.Progress != nil {
		u.options.Progress(u.done, u.file.size)
	}
}

func (u *upload) save(now bool) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.saveLocked(now)
}

func (u *upload) saveLocked(now bool) error {
	if u.options.State == "" || !now && time.Since(u.saved) < saveEvery {
		return nil
	}
	u.saved = time.Now()
	return u.state.store(u.options.State)
}

// unchanged fails if the file is not what it was when the upload began.
func (u *upload) unchanged() error {
	again, err := os.Stat(u.file.f.Name())
	if err != nil {
		return err
	}
	size, err := u.file.f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if !again.ModTime().Equal(u.state.Modified) || size != u.file.size {
		return fmt.Errorf("uploading %s: it was changed meanwhile", u.file.f.Name())
	}
	return nil
}
