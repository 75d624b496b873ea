// SPDX-License-Identifier: Apache-2.0

package lockfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"cofferdam.dev/internal/wholefile"
)

// Open reads the lock file at path. One that does not exist locks nothing.
func Open(path string) (*File, error) {
	data, err := readLimited(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &File{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading lock file: %w", err)
	}
	f, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// OpenFacts reads the file of image facts at path.
func OpenFacts(path string) (Facts, error) {
	data, err := readLimited(path)
	if err != nil {
		return nil, fmt.Errorf("reading image facts: %w", err)
	}
	f, err := ParseFacts(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	return io.ReadAll(io.LimitReader(f, MaxSize+1))
}

// Update changes the lock file at path: it reads what is there now, lets change work on it, and replaces the file in one
// step. Others who update at the same time wait; others who read see the old file or the new one.
func Update(path string, change func(*File) error) error {
	err := update(path, change)
	if err != nil {
		return fmt.Errorf("updating %s: %w", path, err)
	}
	return nil
}

func update(path string, change func(*File) error) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }() // and with it the lock
	// The directory is locked, for the file itself is replaced.
	err = syscall.Flock(int(dir.Fd()), syscall.LOCK_EX)
	if err != nil {
		return fmt.Errorf("locking %s: %w", dir.Name(), err)
	}
	f, err := Open(path)
	if err != nil {
		return err
	}
	before, err := f.Bytes()
	if err != nil {
		return err
	}
	if err = change(f); err != nil {
		return err
	}
	after, err := f.Bytes()
	if err != nil {
		return err
	}
	if _, err = os.Stat(path); err == nil && bytes.Equal(before, after) {
		return nil
	}
	return WriteFile(path, after)
}

// WriteFile replaces a file in one step: a reader sees the old content or the new one, whatever happens in between. A
// link is followed, and the mode of a file that is there stays.
func WriteFile(path string, data []byte) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	mode := fs.FileMode(0o644)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	return wholefile.Replace(path, data, mode)
}
