// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/wholefile"
)

// extension is that of a log's files, whose names are numbers of eight digits.
const extension = ".jsonl"

// file is the file that is written to. Its size is that of the complete lines that are known to be on disk.
type file struct {
	dir    string
	number int
	f      *os.File
	lock   *os.File
	size   int64
	broken error
}

// lastLine is the last complete line of a log.
type lastLine struct {
	entry *Entry
	hash  string
}

// Files returns the files of a log in their order.
func Files(dir string) ([]string, error) {
	names, err := filepath.Glob(filepath.Join(dir, strings.Repeat("[0-9]", 8)+extension))
	if err != nil {
		return nil, fmt.Errorf("listing audit log: %w", err)
	}
	slices.Sort(names)
	return names, nil
}

// openLast locks the directory, opens its last file, and cuts off an incomplete line.
func openLast(dir string) (_ *file, _ *lastLine, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil { //nolint:gosec // the operator names the directory
		return nil, nil, err
	}
	f := &file{dir: dir, number: 1}
	defer func() {
		if err != nil {
			_ = f.close() // the first error says what happened
		}
	}()
	f.lock, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // see above
	if err != nil {
		return nil, nil, err
	}
	if err = unix.Flock(int(f.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, nil, fmt.Errorf("another process writes to it: %w", err)
	}
	names, err := Files(dir)
	if err != nil {
		return nil, nil, err
	}
	if len(names) > 0 {
		if _, err = fmt.Sscanf(filepath.Base(names[len(names)-1]), "%d"+extension, &f.number); err != nil {
			return nil, nil, err
		}
	}
	if err = f.open(); err != nil {
		return nil, nil, err
	}
	last, err := f.repair()
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", f.f.Name(), err)
	}
	if last == nil && len(names) > 1 { // a crash came between making the file and writing to it
		last, err = endOf(names[len(names)-2])
	}
	return f, last, err
}

func (f *file) open() error {
	name := filepath.Join(f.dir, fmt.Sprintf("%08d%s", f.number, extension))
	var err error
	f.f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return wholefile.SyncDir(f.dir)
}

// repair finds the last complete line and cuts off what follows it.
func (f *file) repair() (*lastLine, error) {
	last, size, err := tail(f.f)
	if err != nil {
		return nil, err
	}
	f.size = size
	if err := f.f.Truncate(size); err != nil {
		return nil, err
	}
	return last, f.f.Sync()
}

func endOf(name string) (*lastLine, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	last, _, err := tail(f)
	return last, err
}

// tail returns the last complete line of a file, and the size of the file up to its end.
func tail(f *os.File) (*lastLine, int64, error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, 0, err
	}
	const most = 2 * (MaxLineSize + 1) // a complete line and an incomplete one
	start := max(0, end-most)
	b := make([]byte, end-start)
	if _, err := f.ReadAt(b, start); err != nil {
		return nil, 0, err
	}
	stop := bytes.LastIndexByte(b, '\n')
	if stop < 0 {
		if start > 0 {
			return nil, 0, errors.New("its end is no line of an audit log")
		}
		return nil, 0, nil
	}
	line := b[bytes.LastIndexByte(b[:stop], '\n')+1 : stop]
	e, err := parseEntry(line)
	if err != nil {
		return nil, 0, fmt.Errorf("last line: %w", err)
	}
	return &lastLine{e, hashLine(line)}, start + int64(stop) + 1, nil
}

// append writes lines and syncs them. When writing fails, what was written is cut off again; when that or syncing fails,
// nobody knows what is on disk, and the file takes no more.
func (f *file) append(lines []byte) error {
	if f.broken != nil {
		return fmt.Errorf("%w: %w", ErrClosed, f.broken)
	}
	if _, err := f.f.WriteAt(lines, f.size); err != nil {
		f.broken = f.f.Truncate(f.size)
		return err
	}
	if err := f.f.Sync(); err != nil {
		f.broken = err
		return err
	}
	f.size += int64(len(lines))
	return nil
}

// next goes on to a new file.
func (f *file) next() error {
	if err := f.f.Close(); err != nil {
		f.broken = err
		return err
	}
	f.number++
	f.size = 0
	if err := f.open(); err != nil {
		f.broken = err
		return err
	}
	return nil
}

func (f *file) close() error {
	var errs []error
	if f.lock != nil {
		// Closing is not enough: a process that is just being started has a copy of the descriptor for a moment.
		_ = unix.Flock(int(f.lock.Fd()), unix.LOCK_UN) // closing follows
	}
	for _, o := range []*os.File{f.f, f.lock} {
		if o != nil {
			errs = append(errs, o.Close())
		}
	}
	return errors.Join(errs...)
}
