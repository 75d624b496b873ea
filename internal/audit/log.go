// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Limits and rhythm of a log.
const (
	// maxPending bounds the appends that wait for the disk.
	maxPending = 1024
	// maxBatch bounds the appends that one sync of the disk covers.
	maxBatch = 256
	// DefaultCheckpointEvery is the number of entries after which a checkpoint follows.
	DefaultCheckpointEvery = 1000
	// signAfter is how long an entry waits for a checkpoint at most, when the log is open.
	signAfter = 10 * time.Second
	// DefaultMaxFileSize is the size in bytes from which on a new file is begun.
	DefaultMaxFileSize = 64 << 20
)

// ErrClosed says that the log was closed, or that it broke and takes no more entries.
var ErrClosed = errors.New("the audit log is closed")

// ErrUnavailable says that an entry could not be written, as on a full disk, and that a later try may succeed.
var ErrUnavailable = errors.New("the audit log can not be written")

// Options say how a log is written.
type Options struct {
	// Instance names the writer, 1 to 64 bytes; it never changes for a directory. When it is empty and
	// NewInstance is not, a log that is there keeps its name, and a new one gets NewInstance.
	Instance    string
	NewInstance string
	// Key signs the checkpoints: ECDSA over P-256.
	Key *ecdsa.PrivateKey
	// Now is the clock; nil is the machine's.
	Now func() time.Time
	// CheckpointEvery and MaxFileSize replace the defaults of those names when they are not zero.
	CheckpointEvery int
	MaxFileSize     int64
}

// Log is a log that is open for appending. It is safe for concurrent use.
type Log struct {
	opts  Options
	keyID string
	queue chan request
	done  chan struct{} // closed when the writer has ended

	mu      sync.RWMutex // guards closed against sends on queue
	closed  bool
	failing atomic.Bool // the last batch is not on disk

	// what the writer alone touches
	signAfter  time.Duration
	file       *file
	sequence   uint64
	previous   string
	unsigned   int
	closeError error
}

type request struct {
	kind   string
	event  json.RawMessage
	answer chan answer
}

type answer struct {
	receipt Receipt
	err     error
}

// Open opens the log in a directory, which it makes when needed, and continues its chain. An incomplete last line, which
// a crash may leave and nobody was told of, is removed. One process at a time may have a directory open.
func Open(dir string, opts Options) (*Log, error) {
	l, err := open(dir, opts, signAfter)
	if err != nil {
		return nil, fmt.Errorf("opening audit log %s: %w", dir, err)
	}
	return l, nil
}

func open(dir string, opts Options, signAfter time.Duration) (*Log, error) {
	kid, err := KeyID(opts.Key)
	if err != nil {
		return nil, err
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.CheckpointEvery == 0 {
		opts.CheckpointEvery = DefaultCheckpointEvery
	}
	if opts.MaxFileSize == 0 {
		opts.MaxFileSize = DefaultMaxFileSize
	}
	f, last, err := openLast(dir)
	if err != nil {
		return nil, err
	}
	if opts.Instance == "" && opts.NewInstance != "" {
		opts.Instance = opts.NewInstance
		if last != nil {
			opts.Instance = last.entry.Instance
		}
	}
	if opts.Instance == "" || len(opts.Instance) > 64 {
		_ = f.close() // nothing was written
		return nil, fmt.Errorf("instance %q is not 1 to 64 bytes", opts.Instance)
	}
	l := &Log{
		opts: opts, keyID: kid, queue: make(chan request, maxPending), done: make(chan struct{}), file: f,
		signAfter: signAfter, previous: zeroHash, unsigned: 1, // an old end is signed at the next opportunity
	}
	if last != nil {
		if last.entry.Instance != opts.Instance {
			_ = f.close() // nothing was written
			return nil, fmt.Errorf("it was written by instance %q, not %q", last.entry.Instance, opts.Instance)
		}
		l.sequence, l.previous = last.entry.Sequence, last.hash
	}
	go l.write()
	return l, nil
}

// Append adds an event and returns once it is on disk. The event must encode to JSON, and the kind must not begin with
// "audit.". When ctx ends first, the entry may be written or not.
func (l *Log) Append(ctx context.Context, kind string, event any) (Receipt, error) {
	if strings.HasPrefix(kind, reserved) {
		return Receipt{}, fmt.Errorf("audit event of kind %q: kinds that begin with %q are the log's own", kind, reserved)
	}
	raw, err := json.Marshal(event)
	if err != nil {
		return Receipt{}, fmt.Errorf("encoding audit event of kind %q: %w", kind, err)
	}
	return l.send(ctx, request{kind, raw, make(chan answer, 1)})
}

// send has the writer do something and waits for its answer.
func (l *Log) send(ctx context.Context, r request) (Receipt, error) {
	if err := l.enqueue(ctx, r); err != nil {
		return Receipt{}, err
	}
	select {
	case a := <-r.answer:
		return a.receipt, a.err
	case <-ctx.Done():
		return Receipt{}, fmt.Errorf("waiting for the audit log: %w", ctx.Err())
	}
}

func (l *Log) enqueue(ctx context.Context, r request) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return ErrClosed
	}
	select {
	case l.queue <- r:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the audit log: %w", ctx.Err())
	}
}

// Ready returns an error unless the log takes entries. After a failure it tries to write a checkpoint, so that a log is
// ready again once its disk is.
func (l *Log) Ready(ctx context.Context) error {
	l.mu.RLock()
	closed := l.closed
	l.mu.RUnlock()
	if closed {
		return ErrClosed
	}
	if !l.failing.Load() {
		return nil
	}
	_, err := l.send(ctx, request{kind: kindCheckpoint, answer: make(chan answer, 1)})
	return err
}

// Close writes what is pending, signs the end, and closes the log.
func (l *Log) Close() error {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	l.mu.Unlock()
	if first {
		close(l.queue)
	}
	<-l.done
	return l.closeError
}
