// SPDX-License-Identifier: Apache-2.0

package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// DefaultMaxSize is the size at which a log is rotated. One older file is kept, so a log takes at most twice this.
const DefaultMaxSize = 16 << 20

// Rotated is the suffix of the older file of a log.
const Rotated = ".1"

// Writer appends to a log. Its methods may be called at the same time.
type Writer struct {
	path    string
	maxSize int64
	now     func() time.Time

	mu      sync.Mutex
	f       *os.File
	size    int64
	dropped int64
	err     error
}

// Create opens the log at path for appending. maxSize 0 means DefaultMaxSize.
func Create(path string, maxSize int64) (*Writer, error) {
	if maxSize == 0 {
		maxSize = DefaultMaxSize
	}
	w := &Writer{path: path, maxSize: maxSize, now: time.Now}
	err := w.open()
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (w *Writer) open() error {
	f, err := os.OpenFile(w.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening the log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("opening the log: %w", err), f.Close())
	}
	w.f, w.size = f, info.Size()
	return nil
}

// Append stores output of stream. An error means that some of it was left out: the log stays usable, and the next
// call tries again.
func (w *Writer) Append(stream string, output []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var lines []byte
	var err error
	now := w.now()
	for len(output) > 0 {
		e := Entry{Time: now, Stream: stream}
		e.Data, output, e.Newline = piece(output)
		if len(lines) > 0 && len(lines)+len(e.Data) > maxPiece {
			err = errors.Join(err, w.write(lines))
			lines = lines[:0]
		}
		lines = appendEntry(lines, e)
	}
	return errors.Join(err, w.write(lines))
}

// piece cuts the next entry's data from output and says whether a newline ended it.
func piece(output []byte) (data, rest []byte, newline bool) {
	n := min(len(output), maxPiece)
	i := bytes.IndexByte(output[:n], '\n')
	if i >= 0 {
		return output[:i], output[i+1:], true
	}
	return output[:n], output[n:], false
}

// write appends whole lines. After a short write it cuts the file back, so that the next entry starts a line.
func (w *Writer) write(lines []byte) error {
	if w.f == nil {
		return os.ErrClosed
	}
	if w.size > 0 && w.size+int64(len(lines)) > w.maxSize {
		err := w.rotate()
		if err != nil {
			return w.drop(len(lines), err)
		}
	}
	n, err := w.f.Write(lines)
	if err != nil {
		if n > 0 {
			err = errors.Join(err, w.f.Truncate(w.size))
		}
		return w.drop(len(lines), err)
	}
	w.size += int64(n)
	return nil
}

func (w *Writer) drop(n int, err error) error {
	w.dropped += int64(n)
	w.err = fmt.Errorf("writing the log: %w", err)
	return w.err
}

// rotate makes the current file the older one and starts afresh.
func (w *Writer) rotate() error {
	err := os.Rename(w.path, w.path+Rotated)
	if err != nil {
		return err
	}
	old := w.f
	err = w.open()
	if err != nil {
		return err // the old file, renamed, goes on to be used
	}
	return old.Close()
}

// Dropped is how many bytes of log were left out, and the last reason.
func (w *Writer) Dropped() (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dropped, w.err
}

// Close ends the log.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return nil
	}
	err := w.f.Close()
	w.f = nil
	return err
}
