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

	"cofferdam.dev/internal/verity"
)

// record is what is kept beside a disk.
type record struct {
	Scheme     string `json:"scheme"`
	DiffID     string `json:"diffID"`
	Root       string `json:"root"` // hex
	DataBlocks uint64 `json:"dataBlocks"`
	Size       int64  `json:"size"`

	Orphans *Orphans `json:"orphans,omitempty"` // records of older versions do not tell
}

func diskName(key string) string   { return key + ".img" }
func recordName(key string) string { return key + ".json" }

// lookUp returns the entry of a disk that is there. A record that does not fit its file counts as absent.
func (c *Cache) lookUp(key string) (Entry, error) {
	b, err := c.root.ReadFile(recordName(key))
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
	info, err := c.root.Stat(diskName(key))
	if err != nil {
		return Entry{}, err
	}
	size, err := diskBytes(r.DataBlocks)
	if err != nil || info.Size() != r.Size || size != r.Size {
		return Entry{}, fmt.Errorf("expected a disk of %d bytes, got %d", r.Size, info.Size())
	}
	e := Entry{
		Path: filepath.Join(c.dir, diskName(key)), Scheme: r.Scheme, DiffID: r.DiffID, RootHash: verity.Digest(root), DataBlocks: r.DataBlocks, Size: r.Size,
	}
	if r.Orphans != nil {
		e.Orphans = *r.Orphans
	}
	return e, nil
}

// diskBytes is the size of the file with that many data blocks.
func diskBytes(dataBlocks uint64) (int64, error) {
	tree, err := verity.TreeBlocks(dataBlocks)
	if err != nil {
		return 0, err
	}
	return int64(dataBlocks+1+tree) * verity.BlockSize, nil
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
