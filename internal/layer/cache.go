// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"cofferdam.dev/internal/verity"
)

// Cache is a directory of disks, one for each layer and scheme.
//
// A disk and the record beside it are complete or absent: both are written to temporary files, synced and renamed, the
// record last. Whoever makes a disk holds a lock on its key; others wait and use the result. What a killed process
// leaves is removed by the next one that gets the lock.
type Cache struct {
	dir    string   // of the scheme
	root   *os.Root // the same; no name leads out of it
	limits Limits
}

// OpenCache opens or makes the cache in dir.
func OpenCache(dir string) (*Cache, error) { return OpenCacheLimited(dir, Limits{}) }

// OpenCacheLimited opens or makes the cache in dir and sets limits on the layers that it converts.
func OpenCacheLimited(dir string, limits Limits) (*Cache, error) {
	c := &Cache{dir: filepath.Join(dir, Scheme), limits: limits.orDefault()}
	err := c.open()
	if err != nil {
		return nil, fmt.Errorf("opening the layer cache: %w", explain(err))
	}
	return c, nil
}

// Close lets go of the directory. Entries stay valid. A cache must not be used after it.
func (c *Cache) Close() error { return c.root.Close() }

func (c *Cache) open() error {
	err := os.MkdirAll(c.dir, 0o700)
	if err != nil {
		return err
	}
	c.root, err = os.OpenRoot(c.dir)
	if err != nil {
		return err
	}
	for _, d := range []string{lockDir, tmpDir} {
		err = c.root.MkdirAll(d, 0o700)
		if err != nil {
			return err
		}
	}
	return c.removeStale()
}

// Get returns the disk of a layer and makes it if it is not there. Progress may be nil.
func (c *Cache) Get(ctx context.Context, s Source, progress Progress) (Entry, error) {
	diffID := s.DiffID()
	key, err := keyOf(diffID)
	if err != nil {
		return Entry{}, err
	}
	if progress == nil {
		progress = func(Event) {}
	}
	e, err := c.get(ctx, key, s, func(e Event) {
		e.DiffID = diffID
		progress(e)
	})
	if err != nil {
		return Entry{}, fmt.Errorf("layer %s: %w", diffID, err)
	}
	return e, nil
}

// GetAll returns the disks of layers in their order, and makes those that are not there, as many at a time as there
// are processors. Progress may be nil.
func (c *Cache) GetAll(ctx context.Context, layers []Source, progress Progress) ([]Entry, error) {
	if progress != nil {
		inner, mu := progress, sync.Mutex{}
		progress = func(e Event) {
			mu.Lock()
			defer mu.Unlock()
			inner(e)
		}
	}
	entries := make([]Entry, len(layers))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, s := range layers {
		g.Go(func() error {
			e, err := c.Get(ctx, s, progress)
			entries[i] = e
			return err
		})
	}
	err := g.Wait()
	if err != nil {
		return nil, err
	}
	return entries, nil
}

func (c *Cache) get(ctx context.Context, key string, s Source, progress Progress) (Entry, error) {
	e, err := c.lookUp(key)
	if err == nil {
		progress(Event{Cached: true, Done: true})
		return e, nil
	}
	unlock, err := c.lock(ctx, key)
	if err != nil {
		return Entry{}, err
	}
	defer unlock()
	// Whoever held the lock before may have made the disk.
	e, err = c.lookUp(key)
	if err == nil {
		progress(Event{Cached: true, Done: true})
		return e, nil
	}
	err = c.removeTemporary(key)
	if err != nil {
		return Entry{}, err
	}
	var read int64
	e, err = c.create(ctx, key, s, func(n int64) {
		read = n
		progress(Event{Read: n})
	})
	if err != nil {
		return Entry{}, errors.Join(err, c.removeTemporary(key))
	}
	progress(Event{Read: read, Done: true})
	return e, nil
}

// create converts a layer. The caller holds the lock and cleans up.
func (c *Cache) create(ctx context.Context, key string, s Source, progress func(int64)) (Entry, error) {
	in, err := s.Uncompressed(ctx)
	if err != nil {
		return Entry{}, err
	}
	defer func() { _ = in.Close() }() // only read
	disk, diskTmp, err := c.temporary(key, "disk")
	if err != nil {
		return Entry{}, err
	}
	defer func() { _ = disk.Close() }() // closed below when it matters
	leaves, leavesTmp, err := c.temporary(key, "leaves")
	if err != nil {
		return Entry{}, err
	}
	defer func() {
		_ = leaves.Close()           // of no further use
		_ = c.root.Remove(leavesTmp) // the next one to get the lock tries again
	}()
	made, err := convert(ctx, in, disk, leaves, c.limits, progress)
	if err != nil {
		return Entry{}, err
	}
	if made.digest != "sha256:"+key {
		return Entry{}, fmt.Errorf("%w: expected sha256:%s, got %s", ErrDigest, key, made.digest)
	}
	size, err := diskBytes(made.blocks)
	if err != nil {
		return Entry{}, err
	}
	r := record{Scheme: Scheme, DiffID: made.digest, Root: hex.EncodeToString(made.root[:]), DataBlocks: made.blocks, Size: size}
	if made.orphans.Count > 0 {
		r.Orphans = &made.orphans
	}
	err = errors.Join(disk.Sync(), disk.Close())
	if err == nil {
		err = c.publish(key, diskTmp, r)
	}
	if err != nil {
		return Entry{}, fmt.Errorf("storing the disk: %w", explain(err))
	}
	return c.lookUp(key)
}

// publish makes a finished disk and its record visible.
func (c *Cache) publish(key, disk string, r record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	note, noteTmp, err := c.temporary(key, "record")
	if err != nil {
		return err
	}
	_, err = note.Write(append(b, '\n'))
	err = errors.Join(err, note.Sync(), note.Close())
	if err != nil {
		return err
	}
	err = c.root.Rename(disk, diskName(key))
	if err != nil {
		return err
	}
	err = c.root.Rename(noteTmp, recordName(key))
	if err != nil {
		return err
	}
	d, err := c.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// keyOf returns the hex digits of a DiffID, which name its files.
func keyOf(diffID string) (string, error) {
	key, ok := strings.CutPrefix(diffID, "sha256:")
	_, err := hex.DecodeString(key)
	if !ok || err != nil || len(key) != 2*verity.DigestSize || strings.ToLower(key) != key {
		return "", fmt.Errorf("layer %q: expected a DiffID of sha256 and 64 hex digits", diffID)
	}
	return key, nil
}
