// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"sync"

	"cofferdam.dev/internal/verity"
	"cofferdam.dev/internal/volume/erofs"
)

// pieceSize is how much is encrypted and hashed at a time, in bytes.
const pieceSize = 256 << 10

// Options say how a volume is made. The zero value keeps all that the tree says of its files.
type Options struct {
	// Files say what of the tree is kept. The UUID of the filesystem is the volume's ID.
	Files erofs.Options
	// ID is the volume's; zero is a random one. Two contents under one key and one ID show where they are equal: give one only to
	// make the same image again.
	ID [16]byte
	// Progress, if it is set, is told how many bytes of the image are written. Calls do not overlap.
	Progress func(done, total int64)
}

// Build seals a tree: it writes the volume's image to w, in no order and each block once, and returns what its descriptor must
// hold. Of the tree, which erofs.OpenDir makes of a directory, every file is read once. The image is ImageSize(facts.Size) bytes
// long. After an error what was written is of no use.
func Build(ctx context.Context, tree fs.FS, w io.WriterAt, key Key, o Options) (Facts, error) {
	f, err := buildTree(ctx, tree, w, key, o)
	if err != nil {
		return Facts{}, fmt.Errorf("sealing a volume: %w", err)
	}
	return f, nil
}

func buildTree(ctx context.Context, tree fs.FS, w io.WriterAt, key Key, o Options) (Facts, error) {
	if o.ID == [16]byte{} {
		_, _ = rand.Read(o.ID[:]) // never fails
	}
	o.Files.UUID = o.ID
	plan, err := erofs.NewPlan(ctx, tree, o.Files)
	if err != nil {
		return Facts{}, err
	}
	b, err := newBuilder(ctx, w, key, o, plan.Size())
	if err != nil {
		return Facts{}, err
	}
	err = plan.Write(ctx, b)
	return b.finish(err)
}

// builder is where the data are written to: it hashes, encrypts and hands on.
type builder struct {
	ctx     context.Context // lives as long as one call of Build, and io.WriterAt has no place for it
	w       io.WriterAt
	sealer  *sealer
	geo     geometry
	facts   Facts
	opts    Options
	buffers chan []byte // as many as pieces are worked on at a time
	work    sync.WaitGroup

	mu     sync.Mutex
	tree   tree
	done   int64
	failed error
}

func newBuilder(ctx context.Context, w io.WriterAt, key Key, o Options, size int64) (*builder, error) {
	b := &builder{ctx: ctx, w: w, opts: o, facts: Facts{ID: o.ID, Size: size}}
	var err error
	b.geo, err = newGeometry(size)
	if err != nil {
		return nil, err
	}
	b.sealer, err = newSealer(key, o.ID)
	if err != nil {
		return nil, err
	}
	b.tree = tree{geo: &b.geo, open: map[position]*branch{}, digest: b.digest, emit: b.emit}
	pieces := runtime.GOMAXPROCS(0) + 1 // one is filled meanwhile
	b.buffers = make(chan []byte, pieces)
	for range pieces {
		b.buffers <- make([]byte, pieceSize)
	}
	return b, nil
}

// WriteAt takes whole blocks of data, each once.
func (b *builder) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off%BlockSize != 0 || len(p)%BlockSize != 0 || off > b.facts.Size-int64(len(p)) {
		return 0, fmt.Errorf("%d bytes at %d are not blocks of the volume", len(p), off)
	}
	for done := 0; done < len(p); {
		var buf []byte
		select {
		case buf = <-b.buffers:
		case <-b.ctx.Done():
			return done, context.Cause(b.ctx)
		}
		err := b.failure()
		if err != nil {
			return done, err
		}
		n := copy(buf, p[done:])
		block := uint64(off+int64(done)) / BlockSize // not negative
		b.work.Go(func() {
			b.fail(b.piece(buf[:n], block))
			b.buffers <- buf
		})
		done += n
	}
	return len(p), nil
}

// piece seals some blocks of data.
func (b *builder) piece(p []byte, block uint64) error {
	digests := b.sealer.appendDigests(make([]byte, 0, len(p)/BlockSize*verity.DigestSize), p)
	err := b.put(p, block)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	err = b.tree.put(0, block, digests)
	b.progress(len(p))
	return err
}

// put encrypts blocks, and writes them.
func (b *builder) put(p []byte, block uint64) error {
	err := b.sealer.encrypt(p, block)
	if err != nil {
		return err
	}
	_, err = b.w.WriteAt(p, int64(block)*BlockSize) // below 2^45
	return err
}

// digest is the tree's.
func (b *builder) digest(block []byte) (d [verity.DigestSize]byte) {
	b.sealer.appendDigests(d[:0], block)
	return d
}

// emit is the tree's. The caller has mu.
func (b *builder) emit(level int, index uint64, block []byte) error {
	b.progress(len(block))
	return b.put(block, b.geo.block(level, index))
}

// progress tells the caller. Whoever calls it has mu.
func (b *builder) progress(n int) {
	b.done += int64(n)
	if b.opts.Progress != nil {
		b.opts.Progress(b.done, b.geo.size())
	}
}

func (b *builder) fail(err error) {
	if err == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed == nil {
		b.failed = err
	}
}

func (b *builder) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed
}

// finish waits for everything, and writes the rest.
func (b *builder) finish(err error) (Facts, error) {
	b.work.Wait()
	if err == nil {
		err = b.failure()
	}
	if err == nil {
		err = context.Cause(b.ctx) // every piece may have been under way when it ended
	}
	if err != nil {
		return Facts{}, err
	}
	b.facts.Root, err = b.tree.finish()
	if err != nil {
		return Facts{}, err
	}
	err = b.put(b.sealer.superblock(b.facts.ID, b.geo.data), b.geo.data)
	if err != nil {
		return Facts{}, err
	}
	b.progress(BlockSize)
	return b.facts, nil
}
