// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

const (
	chunkSize   = 256 << 10 // of the read-ahead
	chunkCount  = 4
	eventPeriod = 1 << 20 // bytes between two reports of progress
)

// aheadReader reads a stream in a goroutine of its own, a few chunks ahead, hashing it on the way.
type aheadReader struct {
	ctx     context.Context // lives as long as one conversion
	full    chan []byte
	free    chan []byte
	current []byte // what is left of the chunk that is being read
	chunk   []byte // that chunk, whole
	err     error  // set before full is closed
	hash    hash.Hash
	done    chan struct{}
}

func readAhead(ctx context.Context, r io.Reader, limit int64, progress func(int64)) *aheadReader {
	a := &aheadReader{
		ctx: ctx, full: make(chan []byte, chunkCount), free: make(chan []byte, chunkCount), hash: sha256.New(), done: make(chan struct{}),
	}
	for range chunkCount {
		a.free <- make([]byte, chunkSize)
	}
	go func() {
		defer close(a.done)
		defer close(a.full)
		defer func() {
			p := recover()
			if p != nil { // decompressors read hostile input too
				a.err = fmt.Errorf("reading failed: %v", p)
			}
		}()
		a.err = a.fill(r, limit, progress)
	}()
	return a
}

func (a *aheadReader) fill(r io.Reader, limit int64, progress func(int64)) error {
	var total, reported int64
	for {
		var chunk []byte
		select {
		case <-a.ctx.Done():
			return context.Cause(a.ctx)
		case chunk = <-a.free:
		}
		n, err := readChunk(r, chunk[:chunkSize])
		total += int64(n)
		if total > limit {
			return fmt.Errorf("%w: it has more than %d bytes uncompressed", ErrTooLarge, limit)
		}
		_, _ = a.hash.Write(chunk[:n]) // a hash never fails
		if total-reported >= eventPeriod {
			reported = total
			progress(total)
		}
		select {
		case <-a.ctx.Done():
			return context.Cause(a.ctx)
		case a.full <- chunk[:n]:
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// readChunk fills p as far as the stream goes. Unlike io.ReadFull it returns the stream's own error, so that an end is
// never mistaken for a truncation or the other way round.
func readChunk(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var more int
		more, err = r.Read(p[n:])
		n += more
	}
	return n, err
}

func (a *aheadReader) Read(p []byte) (int, error) {
	for len(a.current) == 0 {
		if a.chunk != nil {
			a.free <- a.chunk[:chunkSize]
			a.chunk = nil
		}
		chunk, ok := <-a.full
		if !ok {
			if a.err != nil {
				return 0, a.err
			}
			return 0, io.EOF
		}
		a.chunk, a.current = chunk, chunk
	}
	n := copy(p, a.current)
	a.current = a.current[n:]
	return n, nil
}

// wait returns when nothing reads the stream any more.
func (a *aheadReader) wait() { <-a.done }
