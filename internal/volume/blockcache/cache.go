// SPDX-License-Identifier: Apache-2.0

package blockcache

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"cofferdam.dev/internal/volume/blob"
)

// What a Cache does unless it is told otherwise.
const (
	// DefaultBlock is the size of a block, in bytes.
	DefaultBlock = 256 << 10
	// DefaultMaxBytes bounds the memory for blocks.
	DefaultMaxBytes = 256 << 20
	// DefaultAhead is how far is read ahead of a reader, at most, in bytes.
	DefaultAhead = 32 << 20
	// DefaultRequest is the most that one request reads ahead, or writes, in bytes.
	DefaultRequest = 2 << 20
	// DefaultParallel is how many requests read ahead, and how many others write, at a time.
	DefaultParallel = 8
	// DefaultDelay is how long a written block waits for more writes.
	DefaultDelay = time.Second
)

const (
	// defaultDeadline bounds all attempts of one request.
	defaultDeadline = 60 * time.Second
	// defaultAttempt bounds the time that one attempt waits for the next block.
	defaultAttempt = 15 * time.Second
)

// maxFree is how many blocks' memory is kept to be used again.
const maxFree = 16

// sector is what offsets of remote writes are multiples of, in bytes.
const sector = 512

// ErrStorage says that the storage did not do what it was asked to before the deadline, or refused. It is
// syscall.EIO to errors.Is.
var ErrStorage error = storageError{}

type storageError struct{}

// Error says so.
func (storageError) Error() string { return "the storage failed" }

// Is makes the error an input/output error for those who ask for one.
func (storageError) Is(target error) bool { return target == syscall.EIO }

// Options are a cache's. The zero value has the defaults.
type Options struct {
	// Block is the size of a block, in bytes: a power of two from 4 KiB to 4 MiB.
	Block int
	// MaxBytes bounds the memory for blocks: 16 blocks or more.
	MaxBytes int64
	// MaxDirty bounds the memory for blocks that are not written yet; zero is half of MaxBytes.
	MaxDirty int64
	// Ahead is how far is read ahead at most, in bytes; negative never reads ahead. It is no more than a quarter of MaxBytes.
	Ahead int64
	// Request is the most that one request reads ahead, or writes, in bytes: no more than 4 MiB.
	Request int
	// Parallel is how many requests read ahead, and how many others write, at a time.
	Parallel int
	// Delay is how long a written block waits for more writes.
	Delay time.Duration
	// Retry is how requests are made again that failed for now. Its Deadline bounds all waiting for one, and its Attempt
	// how long one attempt waits for the next block.
	Retry blob.Backoff
}

func (o Options) complete() (Options, error) {
	o.Block = orDefault(o.Block, DefaultBlock)
	o.MaxBytes = orDefault(o.MaxBytes, DefaultMaxBytes)
	o.MaxDirty = orDefault(o.MaxDirty, o.MaxBytes/2)
	o.Ahead = min(orDefault(o.Ahead, DefaultAhead), o.MaxBytes/4)
	o.Request = max(orDefault(o.Request, DefaultRequest), o.Block)
	o.Parallel = orDefault(o.Parallel, DefaultParallel)
	o.Delay = orDefault(o.Delay, DefaultDelay)
	o.Retry.Deadline = orDefault(o.Retry.Deadline, defaultDeadline)
	o.Retry.Attempt = min(orDefault(o.Retry.Attempt, defaultAttempt), o.Retry.Deadline)
	switch {
	case o.Block < 4096 || o.Block > 4<<20 || o.Block&(o.Block-1) != 0:
		return o, fmt.Errorf("blocks of %d bytes are not a power of two from 4 KiB to 4 MiB", o.Block)
	case o.MaxBytes < 16*int64(o.Block):
		return o, fmt.Errorf("%d bytes are less than 16 blocks of %d", o.MaxBytes, o.Block)
	case o.MaxDirty < 2*int64(o.Block) || o.MaxDirty > o.MaxBytes-4*int64(o.Block):
		return o, fmt.Errorf("%d bytes for what is not written are not from 2 blocks to 4 less than %d bytes", o.MaxDirty, o.MaxBytes)
	case o.Request > 4<<20 || o.Parallel < 1 || o.Delay < 0:
		return o, fmt.Errorf("requests of %d bytes, %d at a time, after %v, are out of bounds", o.Request, o.Parallel, o.Delay)
	}
	return o, nil
}

func orDefault[T int | int64 | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// Cache is an object with blocks of it in memory. It is a blob.Writable. Its methods are safe for concurrent use.
type Cache struct {
	src  blob.Source
	dst  blob.Writable // nil if the object is read only
	o    Options
	size int64

	life   context.Context // ends with Close, or when the object is fenced
	end    context.CancelCauseFunc
	work   sync.WaitGroup
	counts counters

	mu      sync.Mutex
	blocks  map[int64]*block
	recent  *list.List // of *block, the latest used first
	dirty   *list.List // of *block that is dirty and not being written, the oldest first
	used    int64      // bytes of all blocks
	unsaved int64      // bytes of blocks that are dirty or being written
	ahead   int        // requests that read ahead
	writing int        // requests that write
	streams [maxStreams]stream
	turn    uint64        // counts uses of streams
	urgent  time.Time     // blocks that wait since before are to be written
	free    [][]byte      // memory of blocks that were forgotten
	changed chan struct{} // closed and replaced when something ends that others may wait for
	closed  bool
}

// block is a part of the object in memory. Its fields belong to Cache.mu, but data, which has a lock of its own.
type block struct {
	index  int64
	ready  chan struct{} // closed when the block is loaded, or failed to
	err    error         // why it failed to
	loaded bool
	ahead  bool // was read ahead, and not used yet
	pins   int
	place  *list.Element // in recent

	access sync.RWMutex // of data's bytes
	data   []byte

	lo, hi   int // what is dirty; none if hi is 0
	queued   *list.Element
	since    time.Time // of the first write that is not written
	flying   bool      // a write of the block is under way
	made     uint64    // counts writes into the block
	saved    uint64    // how many of them the storage has
	failures int       // counts writes to the storage that failed
	failure  error     // of the last of them
}

func (b *block) evictable() bool { return b.loaded && b.pins == 0 && b.hi == 0 && !b.flying }

// Open puts a cache before a source, which then belongs to the cache. It can be written if the source can.
func Open(src blob.Source, o Options) (*Cache, error) {
	o, err := o.complete()
	if err != nil {
		return nil, fmt.Errorf("opening a block cache: %w", err)
	}
	c := &Cache{src: src, o: o, size: src.Size(), blocks: map[int64]*block{}, recent: list.New(), dirty: list.New(), changed: make(chan struct{})}
	c.dst, _ = src.(blob.Writable)
	if f, ok := src.(*blob.File); ok && !f.Writable() {
		c.dst = nil
	}
	c.life, c.end = context.WithCancelCause(context.Background())
	c.o.Retry.Retried = func(error) { c.counts.retries.Add(1) }
	c.work.Go(c.background)
	return c, nil
}

// Size is the object's, in bytes.
func (c *Cache) Size() int64 { return c.size }

// Identity names the version of the object that is pinned.
func (c *Cache) Identity() string { return c.src.Identity() }

// Err returns why the cache has ended, and nil while it has not.
func (c *Cache) Err() error { return context.Cause(c.life) }

// Close writes what is not written and closes the object. What could not be written by then is lost, and the error says so.
// Other calls must have ended.
func (c *Cache) Close() error {
	c.mu.Lock()
	again := c.closed
	c.closed = true
	c.mu.Unlock()
	if again {
		return nil
	}
	err := c.Flush(context.Background())
	c.end(errClosed)
	c.work.Wait()
	return errors.Join(err, c.src.Close())
}

var errClosed = errors.New("the block cache is closed")

// background writes what has waited long enough, and ends the cache when the source is fenced.
func (c *Cache) background() {
	var lost <-chan struct{}
	if f, ok := c.src.(blob.Fencer); ok {
		lost = f.Lost()
	}
	tick := time.NewTicker(max(c.o.Delay/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.mu.Lock()
			c.writeOut(time.Now().Add(-c.o.Delay))
			c.mu.Unlock()
		case <-lost:
			c.fence(blob.ErrFenced)
			return
		case <-c.life.Done():
			return
		}
	}
}

// fence ends the cache for ever.
func (c *Cache) fence(err error) {
	c.counts.fenced.Store(1)
	c.end(err)
	c.mu.Lock()
	c.wake()
	c.mu.Unlock()
}

// judge makes an error of the storage one of the cache's.
func (c *Cache) judge(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, blob.ErrFenced):
		c.fence(err)
		return err
	case c.life.Err() != nil:
		return context.Cause(c.life)
	}
	c.counts.failures.Add(1)
	return fmt.Errorf("%w: %w", ErrStorage, err)
}

// wake lets those look again who wait for a change. The caller has mu.
func (c *Cache) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// await waits until something has changed since the caller took the channel. It fails when the caller's context or the
// cache ends, or after the deadline.
func (c *Cache) await(ctx context.Context, change <-chan struct{}, deadline <-chan time.Time) error {
	select {
	case <-change:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.life.Done():
		return context.Cause(c.life)
	case <-deadline:
		return fmt.Errorf("%w: %w", ErrStorage, blob.ErrDeadline)
	}
}
