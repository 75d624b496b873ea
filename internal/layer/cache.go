// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"bytes"
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
	dir    string // of the scheme
	limits Limits
}

// record is what is kept beside a disk.
type record struct {
	Scheme     string `json:"scheme"`
	DiffID     string `json:"diffID"`
	Root       string `json:"root"` // hex
	DataBlocks uint64 `json:"dataBlocks"`
	Size       int64  `json:"size"`
}

// OpenCache opens or makes the cache in dir.
func OpenCache(dir string) (*Cache, error) { return OpenCacheLimited(dir, Limits{}) }

// OpenCacheLimited opens or makes the cache in dir and sets limits on the layers that it converts.
func OpenCacheLimited(dir string, limits Limits) (*Cache, error) {
	c := &Cache{dir: filepath.Join(dir, Scheme), limits: limits.orDefault()}
	for _, d := range []string{"locks", "tmp"} {
		err := os.MkdirAll(filepath.Join(c.dir, d), 0o700)
		if err != nil {
			return nil, fmt.Errorf("opening the layer cache: %w", err)
		}
	}
	err := c.removeStale()
	if err != nil {
		return nil, fmt.Errorf("opening the layer cache: %w", err)
	}
	return c, nil
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

// Verify re-hashes the whole disk of an entry and compares it with the entry's root hash. The error wraps
// verity.ErrMismatch if the disk was changed.
func (c *Cache) Verify(ctx context.Context, e Entry) error {
	f, err := os.Open(e.Path)
	if err != nil {
		return fmt.Errorf("verifying layer %s: %w", e.DiffID, err)
	}
	defer func() { _ = f.Close() }() // only read
	end := int64(e.DataBlocks) * verity.BlockSize
	block := make([]byte, verity.BlockSize)
	_, err = f.ReadAt(block, end)
	if err != nil {
		return fmt.Errorf("verifying layer %s: reading the superblock: %w", e.DiffID, err)
	}
	super, err := verity.ParseSuperblock(block)
	if err != nil {
		return fmt.Errorf("verifying layer %s: %w: %w", e.DiffID, verity.ErrMismatch, err)
	}
	if super.DataBlocks != e.DataBlocks {
		return fmt.Errorf("verifying layer %s: %w: expected %d data blocks, got %d", e.DiffID, verity.ErrMismatch, e.DataBlocks, super.DataBlocks)
	}
	err = verity.Verify(ctx, f, e.DataBlocks, f, end+verity.BlockSize, e.RootHash)
	if err != nil {
		return fmt.Errorf("verifying layer %s: %w", e.DiffID, err)
	}
	return nil
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

// lookUp returns the entry of a disk that is there. A record that does not fit its file counts as absent.
func (c *Cache) lookUp(key string) (Entry, error) {
	b, err := os.ReadFile(c.recordPath(key))
	if err != nil {
		return Entry{}, err
	}
	var r record
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err = d.Decode(&r)
	if err != nil {
		return Entry{}, fmt.Errorf("reading the record: %w", err)
	}
	root, err := hex.DecodeString(r.Root)
	if err != nil || len(root) != verity.DigestSize || r.Scheme != Scheme || r.DiffID != "sha256:"+key {
		return Entry{}, errors.New("reading the record: it does not belong to this disk")
	}
	info, err := os.Stat(c.diskPath(key))
	if err != nil {
		return Entry{}, err
	}
	size, err := diskBytes(r.DataBlocks)
	if err != nil || info.Size() != r.Size || size != r.Size {
		return Entry{}, fmt.Errorf("expected a disk of %d bytes, got %d", r.Size, info.Size())
	}
	return Entry{
		Path: c.diskPath(key), Scheme: r.Scheme, DiffID: r.DiffID, RootHash: verity.Digest(root), DataBlocks: r.DataBlocks, Size: r.Size,
	}, nil
}

// diskBytes is the size of the file with that many data blocks.
func diskBytes(dataBlocks uint64) (int64, error) {
	tree, err := verity.TreeBlocks(dataBlocks)
	if err != nil {
		return 0, err
	}
	return int64(dataBlocks+1+tree) * verity.BlockSize, nil
}

// create converts a layer. The caller holds the lock and cleans up.
func (c *Cache) create(ctx context.Context, key string, s Source, progress func(int64)) (Entry, error) {
	in, err := s.Uncompressed(ctx)
	if err != nil {
		return Entry{}, err
	}
	defer func() { _ = in.Close() }() // only read
	disk, err := os.CreateTemp(c.tmp(), key+"-disk-")
	if err != nil {
		return Entry{}, explain(err)
	}
	defer func() { _ = disk.Close() }() // closed below when it matters
	leaves, err := os.CreateTemp(c.tmp(), key+"-leaves-")
	if err != nil {
		return Entry{}, explain(err)
	}
	defer func() { _, _ = leaves.Close(), os.Remove(leaves.Name()) }() // of no further use
	root, blocks, diffID, err := convert(ctx, in, disk, leaves, c.limits, progress)
	if err != nil {
		return Entry{}, err
	}
	if diffID != "sha256:"+key {
		return Entry{}, fmt.Errorf("%w: expected sha256:%s, got %s", ErrDigest, key, diffID)
	}
	size, err := diskBytes(blocks)
	if err != nil {
		return Entry{}, err
	}
	r := record{Scheme: Scheme, DiffID: diffID, Root: hex.EncodeToString(root[:]), DataBlocks: blocks, Size: size}
	err = c.publish(key, disk, r)
	if err != nil {
		return Entry{}, fmt.Errorf("storing the disk: %w", explain(err))
	}
	return c.lookUp(key)
}

// publish makes a finished disk and its record visible.
func (c *Cache) publish(key string, disk *os.File, r record) error {
	err := errors.Join(disk.Sync(), disk.Close())
	if err != nil {
		return err
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	note, err := os.CreateTemp(c.tmp(), key+"-record-")
	if err != nil {
		return err
	}
	_, err = note.Write(append(b, '\n'))
	err = errors.Join(err, note.Sync(), note.Close())
	if err != nil {
		return err
	}
	err = os.Rename(disk.Name(), c.diskPath(key))
	if err != nil {
		return err
	}
	err = os.Rename(note.Name(), c.recordPath(key))
	if err != nil {
		return err
	}
	d, err := os.Open(c.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (c *Cache) tmp() string                  { return filepath.Join(c.dir, "tmp") }
func (c *Cache) diskPath(key string) string   { return filepath.Join(c.dir, key+".img") }
func (c *Cache) recordPath(key string) string { return filepath.Join(c.dir, key+".json") }

// keyOf returns the hex digits of a DiffID, which name its files.
func keyOf(diffID string) (string, error) {
	key, ok := strings.CutPrefix(diffID, "sha256:")
	_, err := hex.DecodeString(key)
	if !ok || err != nil || len(key) != 2*verity.DigestSize || strings.ToLower(key) != key {
		return "", fmt.Errorf("layer %q: expected a DiffID of sha256 and 64 hex digits", diffID)
	}
	return key, nil
}
