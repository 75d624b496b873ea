// SPDX-License-Identifier: Apache-2.0

// Package wholefile replaces files so that at every moment, also after a crash, there is either the old file or the new
// one, whole. It trusts the directory that it writes in, and decides nothing.
package wholefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace writes a file as a whole: beside its place, synced, and renamed. The file has exactly the mode. When an error is
// returned before the rename, nothing has changed; one after it says that the change may not survive a crash.
func Replace(path string, b []byte, mode fs.FileMode) error {
	return write(path, b, mode, os.Rename)
}

// Create is Replace for a file that is not there. One that is there stays, and the error is fs.ErrExist, also when several
// are at it at a time.
func Create(path string, b []byte, mode fs.FileMode) error {
	return write(path, b, mode, func(from, to string) error {
		return errors.Join(os.Link(from, to), os.Remove(from))
	})
}

// write writes a file beside its place, and has it put there.
func write(path string, b []byte, mode fs.FileMode, place func(from, to string) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = place(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error says more
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := SyncDir(dir); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// SyncDir makes the names in a directory survive a crash.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
