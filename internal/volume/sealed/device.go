// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"cofferdam.dev/internal/verity"
)

const (
	// DefaultCacheBlocks is how many blocks of the tree are kept unless Options say otherwise: 8 MiB, the leaves of 1 GiB.
	DefaultCacheBlocks = 2048
	// stepBlocks is how many blocks are read at a time, and maxLeaves how many leaves have their digests.
	stepBlocks = 1024
	maxLeaves  = stepBlocks/fanOut + 1
	// minShare is how many blocks are worth a goroutine of their own.
	minShare = 32
)

// ErrRange says that a read is not within the device.
var ErrRange = errors.New("not within the device")

// Source is an object that holds an image, such as a blob.Source or a cache before one. It is safe for concurrent use, and its
// calls end in finite time.
type Source interface {
	Size() int64
	// ReadAt fills p with the bytes at off, or fails.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}

// OpenOptions say how a volume is read. The zero value is good.
type OpenOptions struct {
	// CacheBlocks is how many blocks of the tree are kept in memory, of 4096 bytes each; zero is DefaultCacheBlocks.
	CacheBlocks int
}

// Device is an open volume: its data, decrypted and verified. It is safe for concurrent use.
type Device struct {
	src    Source
	sealer *sealer
	geo    geometry
	facts  Facts
	top    block
	cache  *cache
	// running is how many reads are being verified.
	running atomic.Int32
}

var _ io.ReaderAt = (*Device)(nil)

// Open opens a volume by its facts, and verifies the top of its tree. An error that wraps ErrDamaged says that the storage has
// another image, or that the key is another one: nothing tells the two apart.
func Open(ctx context.Context, src Source, key Key, f Facts, o OpenOptions) (*Device, error) {
	d, err := open(ctx, src, key, f, o)
	if err != nil {
		return nil, fmt.Errorf("opening a sealed volume: %w", err)
	}
	return d, nil
}

func open(ctx context.Context, src Source, key Key, f Facts, o OpenOptions) (*Device, error) {
	err := f.validate()
	if err != nil {
		return nil, err
	}
	if o.CacheBlocks == 0 {
		o.CacheBlocks = DefaultCacheBlocks
	}
	if o.CacheBlocks < 0 {
		return nil, fmt.Errorf("a cache of %d blocks", o.CacheBlocks)
	}
	d := &Device{src: src, facts: f, cache: newCache(o.CacheBlocks)}
	d.geo, err = newGeometry(f.Size)
	if err != nil {
		return nil, err
	}
	if want := d.geo.size(); src.Size() != want {
		return nil, fmt.Errorf("%w: expected an image of %d bytes, got %d", ErrDamaged, want, src.Size())
	}
	d.sealer, err = newSealer(key, f.ID)
	if err != nil {
		return nil, err
	}
	err = d.load(ctx, position{d.geo.top(), 0}, f.Root[:], &d.top)
	if err != nil {
		return nil, fmt.Errorf("%w (or the key is not this volume's)", err)
	}
	return d, nil
}

// Size is the size of the data in bytes, a multiple of BlockSize.
func (d *Device) Size() int64 { return d.facts.Size }

// Facts returns what the device was opened by.
func (d *Device) Facts() Facts { return d.facts }

// ReadAt reads as io.ReaderAt has it. It ends when the source does; see ReadContext.
func (d *Device) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("reading at %d: %w", off, ErrRange)
	}
	want := len(p)
	p = p[:max(0, min(int64(want), d.facts.Size-off))]
	if len(p) > 0 {
		err := d.ReadContext(context.Background(), p, off)
		if err != nil {
			return 0, err
		}
	}
	if len(p) < want {
		return len(p), io.EOF
	}
	return len(p), nil
}

// ReadContext fills p with the data at off, or fails: with an error that wraps ErrDamaged if the storage returned anything else
// than was sealed, with the source's own if it returned nothing. After an error p holds zeros.
func (d *Device) ReadContext(ctx context.Context, p []byte, off int64) error {
	if off < 0 || off > d.facts.Size-int64(len(p)) {
		return fmt.Errorf("reading %d bytes at %d of %d: %w", len(p), off, d.facts.Size, ErrRange)
	}
	err := d.read(ctx, p, off)
	if err != nil {
		clear(p) // what could not be verified
		return fmt.Errorf("reading %d bytes at %d: %w", len(p), off, err)
	}
	return nil
}

// partial are buffers for blocks of which only a part is wanted.
var partial = sync.Pool{New: func() any { return new(block) }}

func (d *Device) read(ctx context.Context, p []byte, off int64) error {
	for len(p) > 0 {
		number, skip := uint64(off)/BlockSize, int(off%BlockSize) // not negative
		n := min(len(p)&^(BlockSize-1), stepBlocks*BlockSize)
		var err error
		if skip == 0 && n > 0 {
			err = d.blocks(ctx, p[:n], number)
		} else {
			b := partial.Get().(*block) // nothing else is put there
			err = d.blocks(ctx, b[:], number)
			n = copy(p, b[skip:])
			partial.Put(b)
		}
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// blocks reads whole blocks, at most stepBlocks. What is missing of the tree is loaded while the data are on their way.
func (d *Device) blocks(ctx context.Context, p []byte, first uint64) error {
	var leaves [maxLeaves]*block
	count := uint64(len(p) / BlockSize)
	from, n := first/fanOut, (first+count-1)/fanOut-first/fanOut+1
	missing := false
	for i := range n {
		leaves[i] = d.cache.get(position{0, from + i})
		missing = missing || leaves[i] == nil && d.geo.top() > 0
	}
	var err error
	if missing {
		err = d.readWithLeaves(ctx, p, first, leaves[:n])
	} else {
		err = d.fetch(ctx, p, first)
	}
	if err != nil {
		return err
	}
	for i, l := range leaves[:n] {
		if l == nil {
			leaves[i] = &d.top
		}
	}
	return d.verify(p, first, leaves[:n])
}

// readWithLeaves reads data and those leaves that are not there.
func (d *Device) readWithLeaves(ctx context.Context, p []byte, first uint64, leaves []*block) error {
	loaded := make([]*block, len(leaves))
	copy(loaded, leaves)
	result := make(chan error, 1)
	go func() {
		var err error
		for i := range loaded {
			if loaded[i] == nil && err == nil {
				loaded[i], err = d.node(ctx, position{0, first/fanOut + uint64(i)})
			}
		}
		result <- err
	}()
	err := d.fetch(ctx, p, first)
	err = errors.Join(<-result, err)
	copy(leaves, loaded)
	return err
}

// verify decrypts blocks of data and compares them with their digests, on as many processors as there are for each of the reads
// that are under way: what is not handed from one to another is still in its cache when it is needed next.
func (d *Device) verify(p []byte, first uint64, leaves []*block) error {
	count := uint64(len(p) / BlockSize)
	processors := runtime.GOMAXPROCS(0) / int(d.running.Add(1))
	defer d.running.Add(-1)
	shares := min(uint64(max(processors, 1)), max(count/minShare, 1)) // positive
	if shares == 1 {
		return d.verifyShare(p, first, first/fanOut, leaves)
	}
	var work sync.WaitGroup
	errs := make([]error, shares)
	for i := range shares {
		begin, end := count*i/shares, count*(i+1)/shares
		work.Go(func() {
			errs[i] = d.verifyShare(p[begin*BlockSize:end*BlockSize], first+begin, first/fanOut, leaves)
		})
	}
	work.Wait()
	return errors.Join(errs...)
}

// verifyShare does so on one. The first of the leaves is the one of the given index.
func (d *Device) verifyShare(p []byte, first, leaf uint64, leaves []*block) error {
	for len(p) > 0 {
		at := first % fanOut
		n := min(uint64(len(p)/BlockSize), fanOut-at)
		part := p[:n*BlockSize]
		err := d.sealer.decrypt(part, first)
		if err != nil {
			return err
		}
		bad, ok := d.sealer.matches(part, leaves[first/fanOut-leaf][at*verity.DigestSize:])
		if !ok {
			return fmt.Errorf("block %d: %w", first+uint64(bad), ErrDamaged) // an index
		}
		p, first = p[n*BlockSize:], first+n
	}
	return nil
}

// node returns a block of the tree that follows from the root.
func (d *Device) node(ctx context.Context, at position) (*block, error) {
	if at.level == d.geo.top() {
		return &d.top, nil
	}
	b := d.cache.get(at)
	if b != nil {
		return b, nil
	}
	parent, err := d.node(ctx, position{at.level + 1, at.index / fanOut})
	if err != nil {
		return nil, err
	}
	b = new(block)
	err = d.load(ctx, at, parent[at.index%fanOut*verity.DigestSize:][:verity.DigestSize], b)
	if err != nil {
		return nil, err
	}
	d.cache.add(at, b)
	return b, nil
}

// load reads a block of the tree that has a digest.
func (d *Device) load(ctx context.Context, at position, digest []byte, b *block) error {
	number := d.geo.block(at.level, at.index)
	err := d.fetch(ctx, b[:], number)
	if err != nil {
		return err
	}
	err = d.sealer.decrypt(b[:], number)
	if err != nil {
		return err
	}
	if _, ok := d.sealer.matches(b[:], digest); !ok {
		return fmt.Errorf("block %d of level %d of the tree: %w", at.index, at.level, ErrDamaged)
	}
	return nil
}

// fetch reads blocks as the storage has them.
func (d *Device) fetch(ctx context.Context, p []byte, first uint64) error {
	n, err := d.src.ReadAt(ctx, p, int64(first)*BlockSize) // below 2^45
	if err == nil && n != len(p) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("reading from the storage: %w", err)
	}
	return nil
}
