// SPDX-License-Identifier: Apache-2.0

package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"cofferdam.dev/internal/wholefile"
)

// maxSize is the size in bytes beyond which the file is written anew with what is kept.
const maxSize = 4 << 20

// maxFile bounds what is read of a file that grew beyond all bounds.
const maxFile = 16 << 20

// Log appends to the events of a group. Its methods may be called at the same time.
type Log struct {
	path string
	now  func() time.Time

	mu    sync.Mutex
	f     *os.File
	size  int64
	lines int
	kept  folded
}

// Open opens the events at path for appending and makes the file if need be. A torn last line is cut off.
func Open(path string) (*Log, error) {
	l := &Log{path: path, now: time.Now}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the events: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading the events: %w", err), f.Close())
	}
	whole := bytes.LastIndexByte(data, '\n') + 1
	err = f.Truncate(int64(whole))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the events: %w", err), f.Close())
	}
	each(data[:whole], func(e Event) { l.kept.put(e) })
	l.f, l.size, l.lines = f, int64(whole), bytes.Count(data[:whole], []byte{'\n'})
	return l, nil
}

// each calls fn for every line that is an event.
func each(data []byte, fn func(Event)) {
	for line := range bytes.Lines(data) {
		e, err := parse(line)
		if err == nil {
			fn(e)
		}
	}
}

func parse(line []byte) (Event, error) {
	var e Event
	err := json.Unmarshal(line, &e)
	if err != nil {
		return Event{}, fmt.Errorf("reading an event: %w", err)
	}
	if e.Name == "" || e.Count < 1 {
		return Event{}, fmt.Errorf("event has name %q and count %d", e.Name, e.Count)
	}
	return e, nil
}

// Add notes that something happened to container, or to the group if that is empty. If it happened before it is counted.
// An error means that it was not noted.
func (l *Log) Add(container, name string, t Type, message string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now().UTC()
	e := Event{Name: name, Type: t, Message: Clean(message), Count: 1, First: now, Last: now, Container: container}
	if before, known := l.kept.get(e); known {
		e.Count, e.First = before.Count+1, before.First
	}
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("writing an event: %w", err) // not reached: it is strings, numbers and times
	}
	if l.f == nil {
		return fmt.Errorf("writing an event: %w", os.ErrClosed)
	}
	line = append(line, '\n')
	n, err := l.f.Write(line)
	if err != nil {
		if n > 0 {
			err = errors.Join(err, l.f.Truncate(l.size))
		}
		return fmt.Errorf("writing an event: %w", err)
	}
	l.size, l.lines = l.size+int64(n), l.lines+1
	l.kept.put(e)
	if l.lines > 4*MaxEvents || l.size > maxSize {
		return l.rewrite()
	}
	return nil
}

// rewrite replaces the file by one that holds each event once.
func (l *Log) rewrite() error {
	var all []byte
	for _, e := range l.kept.events {
		line, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("writing the events: %w", err)
		}
		all = append(append(all, line...), '\n')
	}
	err := wholefile.Replace(l.path, all, 0o600)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("opening the events: %w", err)
	}
	err = l.f.Close()
	l.f, l.size, l.lines = f, int64(len(all)), len(l.kept.events)
	return err
}

// Close ends the log.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return err
}
