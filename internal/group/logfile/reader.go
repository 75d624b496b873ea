// SPDX-License-Identifier: Apache-2.0

package logfile

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// pollInterval is how often a followed log is looked at.
const pollInterval = 100 * time.Millisecond

// maxLine is the longest line that a Writer makes, with room to spare.
const maxLine = maxPiece + 256

// Options say what to read of a log.
type Options struct {
	// Since leaves out what was written before.
	Since time.Time
	// Tail, if positive, leaves out all but the last Tail output lines that the log holds when it is opened.
	Tail int
	// Follow goes on with what is written later, for as long as Alive says true. A follower that is slower than two
	// rotations of the log misses what was rotated away.
	Follow bool
	Alive  func() bool
}

// Read calls fn for each entry of the log at path, oldest first. The entry's data is valid during the call only. A log
// that does not exist is an empty one.
func Read(ctx context.Context, path string, opts Options, fn func(Entry) error) error {
	r := &reader{path: path, opts: opts, fn: fn}
	defer func() { _ = r.close() }() // opened for reading only
	err := r.openAll()
	if err != nil {
		return err
	}
	for {
		alive := opts.Follow && opts.Alive != nil && opts.Alive() // asked before the read, so that nothing is missed
		err = r.drain(ctx)
		if err != nil {
			return err
		}
		if !alive && !opts.Follow {
			return nil
		}
		if !alive { // the log may have been rotated since it was looked at, and is not any more
			return errors.Join(r.advance(ctx), r.drain(ctx))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollInterval):
		}
		err = r.advance(ctx)
		if err != nil {
			return err
		}
	}
}

// Snapshot is what a log held at one moment.
type Snapshot struct {
	r reader
}

// Take opens the log at path as it is now. What is written or rotated later is not seen.
func Take(path string) (*Snapshot, error) {
	s := &Snapshot{r: reader{path: path}}
	err := s.r.openAll()
	if err != nil {
		return nil, err
	}
	if n := len(s.r.files); n > 0 {
		info, err := s.r.files[n-1].Stat()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("reading the log: %w", err), s.r.close())
		}
		s.r.limit, s.r.limited = info.Size(), true
	}
	return s, nil
}

// Close gives a snapshot up.
func (s *Snapshot) Close() error { return s.r.close() }

// Each calls fn for each entry, oldest first, and closes the snapshot. It may be called once.
func (s *Snapshot) Each(ctx context.Context, fn func(Entry) error) error {
	s.r.fn = fn
	return errors.Join(s.r.drain(ctx), s.r.close())
}

// reader reads the files of one log in turn. The last of files is the current one.
type reader struct {
	path  string
	opts  Options
	fn    func(Entry) error
	files []*os.File
	part  []byte // the begin of a line that is not complete yet
	skip  int    // output lines to leave out

	limited bool  // the current file is read up to limit only
	limit   int64 // bytes of it that are left to read
}

// openAll opens the older file and the current one. The current one comes first: when the log is rotated in between, it
// is found again as the older one, and nothing is missed.
func (r *reader) openAll() error {
	for _, p := range []string{r.path, r.path + Rotated} {
		f, err := os.Open(p)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading the log: %w", err)
		}
		if len(r.files) > 0 {
			same, err := sameFile(r.files[0], f)
			if err != nil {
				return errors.Join(err, f.Close())
			}
			if same {
				_ = f.Close() // opened for reading only
				break
			}
		}
		r.files = append([]*os.File{f}, r.files...)
	}
	if r.opts.Tail > 0 {
		return r.countTail()
	}
	return nil
}

// countTail finds how many output lines to leave out so that Tail are left.
func (r *reader) countTail() error {
	total := 0
	for _, f := range r.files {
		s := bufio.NewReaderSize(f, 64<<10)
		for {
			line, err := s.ReadSlice('\n')
			if err != nil {
				break // a line too long or incomplete is not counted; drain deals with it
			}
			e, err := parseEntry(bytes.TrimSuffix(line, []byte{'\n'}))
			if err == nil && e.Newline {
				total++
			}
		}
		_, err := f.Seek(0, io.SeekStart)
		if err != nil {
			return fmt.Errorf("reading the log: %w", err)
		}
	}
	r.skip = max(0, total-r.opts.Tail)
	return nil
}

// drain reads all files to their present end and keeps only the current one open.
func (r *reader) drain(ctx context.Context) error {
	buf := make([]byte, 64<<10)
	for i, f := range r.files {
		var from io.Reader = f
		if r.limited && i == len(r.files)-1 {
			from = io.LimitReader(f, r.limit)
		}
		for {
			n, err := from.Read(buf)
			if n > 0 {
				err = r.feed(ctx, buf[:n])
				if err != nil {
					return err
				}
				continue
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return fmt.Errorf("reading the log: %w", err)
			}
		}
		if i < len(r.files)-1 {
			r.part = nil
			_ = f.Close() // opened for reading only
		}
	}
	if n := len(r.files); n > 1 {
		r.files = r.files[n-1:]
	}
	return nil
}

// feed cuts data into lines and passes them on.
func (r *reader) feed(ctx context.Context, data []byte) error {
	for len(data) > 0 {
		line, rest, complete := bytes.Cut(data, []byte{'\n'})
		r.part = append(r.part, line...)
		data = rest
		if !complete {
			if len(r.part) > maxLine {
				return fmt.Errorf("reading the log: a line has more than %d bytes", maxLine)
			}
			return nil
		}
		e, err := parseEntry(r.part)
		r.part = r.part[:0]
		if err != nil {
			return err
		}
		err = r.pass(ctx, e)
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) pass(ctx context.Context, e Entry) error {
	if r.skip > 0 {
		if e.Newline {
			r.skip--
		}
		return nil
	}
	if e.Time.Before(r.opts.Since) {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return r.fn(e)
}

// advance moves on to a new current file after a rotation. The old one is read to its end first.
func (r *reader) advance(ctx context.Context) error {
	f, err := os.Open(r.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the log: %w", err)
	}
	if len(r.files) == 1 {
		same, err := sameFile(r.files[0], f)
		if err != nil || same {
			return errors.Join(err, f.Close())
		}
		err = r.drain(ctx)
		if err != nil {
			return errors.Join(err, f.Close())
		}
		r.part = nil
		_ = r.files[0].Close() // opened for reading only
	}
	r.files = []*os.File{f}
	return nil
}

func sameFile(a, b *os.File) (bool, error) {
	ia, err := a.Stat()
	if err != nil {
		return false, fmt.Errorf("reading the log: %w", err)
	}
	ib, err := b.Stat()
	if err != nil {
		return false, fmt.Errorf("reading the log: %w", err)
	}
	return os.SameFile(ia, ib), nil
}

func (r *reader) close() error {
	var errs []error
	for _, f := range r.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
