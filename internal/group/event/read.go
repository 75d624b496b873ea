// SPDX-License-Identifier: Apache-2.0

package event

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// pollInterval is how often followed events are looked at.
const pollInterval = 100 * time.Millisecond

// Options say what to read.
type Options struct {
	// Container leaves out the events of other containers and of the group.
	Container string
	// Since leaves out events that did not happen any more after it.
	Since time.Time
	// Follow goes on with what happens later, for as long as Alive says true. An event that happens again is passed on
	// again, with its new count.
	Follow bool
	Alive  func() bool
}

// Read calls fn for each event at path, in the order of their last occurrence. No file is no event.
func Read(ctx context.Context, path string, o Options, fn func(Event) error) error {
	r := &reader{path: path, o: o, fn: fn, passed: map[key]int{}}
	defer func() { _ = r.close() }() // opened for reading only
	for {
		alive := o.Follow && o.Alive != nil && o.Alive() // asked before the read, so that nothing is missed
		err := r.read()
		if err != nil || !alive {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollInterval):
		}
	}
}

// reader follows one file, and the one that takes its place.
type reader struct {
	path   string
	o      Options
	fn     func(Event) error
	f      *os.File
	part   []byte // the begin of a line that is not complete yet
	passed map[key]int
}

// read passes on what is new.
func (r *reader) read() error {
	err := r.drain()
	if err != nil {
		return err
	}
	f, err := os.Open(r.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the events: %w", err)
	}
	if r.f != nil {
		var same bool
		same, err = sameFile(r.f, f)
		if err != nil || same {
			return errors.Join(err, f.Close())
		}
	}
	_ = r.close() // opened for reading only
	r.f, r.part = f, nil
	return r.drain()
}

// drain reads the file to its present end.
func (r *reader) drain() error {
	if r.f == nil {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(r.f, maxFile))
	if err != nil {
		return fmt.Errorf("reading the events: %w", err)
	}
	data = append(r.part, data...)
	whole := bytes.LastIndexByte(data, '\n') + 1
	r.part = bytes.Clone(data[whole:])
	if len(r.part) > maxFile {
		r.part = nil
	}
	var fresh folded
	each(data[:whole], fresh.put)
	for _, e := range fresh.events {
		err = r.pass(e)
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) pass(e Event) error {
	if r.passed[e.key()] >= e.Count {
		return nil
	}
	r.passed[e.key()] = e.Count
	if r.o.Container != "" && r.o.Container != e.Container || e.Last.Before(r.o.Since) {
		return nil
	}
	return r.fn(e)
}

func (r *reader) close() error {
	if r.f == nil {
		return nil
	}
	err := r.f.Close()
	r.f = nil
	return err
}

func sameFile(a, b *os.File) (bool, error) {
	ia, errA := a.Stat()
	ib, errB := b.Stat()
	err := errors.Join(errA, errB)
	if err != nil {
		return false, fmt.Errorf("reading the events: %w", err)
	}
	return os.SameFile(ia, ib), nil
}
