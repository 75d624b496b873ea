// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lockPoll is how often a lock that another process holds is tried again.
const lockPoll = 50 * time.Millisecond

// Directories of the cache.
const (
	lockDir = "locks"
	tmpDir  = "tmp"
)

// lock takes the lock of a key and waits for it as long as the context allows. Locks are of the kernel, so a process
// that dies lets go of them.
func (c *Cache) lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		unlock, err = c.tryLock(key)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return unlock, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for another process that converts the layer: %w", context.Cause(ctx))
		case <-time.After(lockPoll):
		}
	}
}

func (c *Cache) tryLock(key string) (unlock func(), err error) {
	f, err := c.root.OpenFile(path.Join(lockDir, key), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		_ = f.Close() // not locked
		return nil, fmt.Errorf("locking: %w", err)
	}
	return func() { _ = f.Close() }, nil // closing unlocks
}

// temporary makes a file that is worth nothing until it is renamed. The caller holds the lock of the key.
func (c *Cache) temporary(key, kind string) (f *os.File, name string, err error) {
	name = path.Join(tmpDir, key+"-"+kind+"-"+rand.Text())
	f, err = c.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, "", fmt.Errorf("making a temporary file: %w", explain(err))
	}
	return f, name, nil
}

// temporaries returns the names of the temporary files of a key, or of all keys if it is empty.
func (c *Cache) temporaries(key string) ([]string, error) {
	return fs.Glob(c.root.FS(), path.Join(tmpDir, key+"*-*"))
}

// removeStale removes the temporary files whose makers are dead, which is when their lock is free.
func (c *Cache) removeStale() error {
	names, err := c.temporaries("")
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, name := range names {
		key, _, _ := strings.Cut(path.Base(name), "-")
		_, err = keyOf("sha256:" + key)
		if err != nil || seen[key] {
			continue
		}
		seen[key] = true
		unlock, err := c.tryLock(key)
		if err != nil {
			continue // somebody works on it
		}
		err = c.removeTemporary(key)
		unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// removeTemporary removes the temporary files of a key. The caller holds its lock.
func (c *Cache) removeTemporary(key string) error {
	names, err := c.temporaries(key)
	if err != nil {
		return err
	}
	for _, name := range names {
		err = c.root.Remove(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
