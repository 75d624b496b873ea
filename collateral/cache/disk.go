// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lockPoll is how often a lock is tried that another process holds.
const lockPoll = 20 * time.Millisecond

// touchAfter is how old a file's time of last use gets before it is renewed: often enough to know what is used, seldom
// enough to cost nothing.
const touchAfter = time.Hour

// lock takes the lock that a name shares with every 256th other name. The kernel releases it when the process dies. The
// files stay: to remove one that others may have open would give two of them the lock.
func (c *Cache) lock(ctx context.Context, name string) (unlock func(), err error) {
	stripe := strconv.Itoa(int(sha256.Sum256([]byte(name))[0]))
	for {
		unlock, err := c.tryLock(stripe)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return unlock, err
		}
		timer := time.NewTimer(lockPoll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		}
	}
}

func (c *Cache) tryLock(name string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(c.opts.Dir, lockDir, name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		_ = f.Close() // the lock's error says more
		return nil, err
	}
	return func() { _ = f.Close() }, nil // closing unlocks, and nothing was written
}

// touch renews an entry's time of last use.
func (c *Cache) touch(name string) {
	path := filepath.Join(c.opts.Dir, entryPath(name))
	info, err := os.Lstat(path)
	if err != nil || c.opts.Now().Sub(info.ModTime()) < touchAfter {
		return
	}
	_ = os.Chtimes(path, time.Time{}, c.opts.Now()) // at worst the entry is evicted too early
}

// blockSize is what file systems allot; many small files take more room than their bytes.
const blockSize = 4096

// file is a file of the cache.
type file struct {
	path string
	size int64 // as allotted
	used time.Time
}

// evict removes the entries that were not used for the longest time until nine tenths of the bound are left, and what
// dead processes left unfinished. One process at a time does it; others need not wait for it.
func (c *Cache) evict() error {
	unlock, err := c.tryLock("evict")
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	files, err := c.files()
	if err != nil {
		return err
	}
	var total int64
	for _, f := range files {
		total += f.size
	}
	if total <= c.opts.MaxBytes {
		return nil
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Or(a.used.Compare(b.used), strings.Compare(a.path, b.path)) })
	for _, f := range files {
		if total <= c.opts.MaxBytes/10*9 {
			break
		}
		if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		total -= f.size
		for dir := filepath.Dir(f.path); dir != c.opts.Dir && os.Remove(dir) == nil; { // removes empty ones
			dir = filepath.Dir(dir)
		}
	}
	return nil
}

// files lists the entries and refusals, and removes temporary files that nobody can be writing any more.
func (c *Cache) files() ([]file, error) {
	var files []file
	err := filepath.WalkDir(c.opts.Dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == lockDir {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if filepath.Base(filepath.Dir(path)) == tempDir {
			if c.opts.Now().Sub(info.ModTime()) > touchAfter {
				_ = os.Remove(path) //nolint:gosec // a name in our own directory; the next eviction tries again
			}
			return nil
		}
		size := (info.Size() + blockSize - 1) / blockSize * blockSize
		files = append(files, file{path, size, info.ModTime()})
		return nil
	})
	return files, err
}
