// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"errors"

	"cofferdam.dev/internal/verity"
)

// tree is made of digests that come in any order. It has in memory only the blocks that some of theirs are missing of.
type tree struct {
	geo  *geometry
	open map[position]*branch
	root [verity.DigestSize]byte
	// digest returns the digest of a block.
	digest func(block []byte) [verity.DigestSize]byte
	// emit is given each block when it is complete. It may change it.
	emit func(level int, index uint64, block []byte) error
}

type position struct {
	level int
	index uint64
}

type branch struct {
	block   [BlockSize]byte
	missing uint64
}

// put adds the digests of what a level describes, from an item on. Every item comes once.
func (t *tree) put(level int, first uint64, digests []byte) error {
	for len(digests) > 0 {
		at := position{level, first / fanOut}
		b := t.open[at]
		if b == nil {
			b = &branch{missing: min(fanOut, t.geo.items(level)-at.index*fanOut)}
			t.open[at] = b
		}
		n := copy(b.block[first%fanOut*verity.DigestSize:], digests)
		count := uint64(n) / verity.DigestSize
		if count > b.missing {
			return errors.New("a block was written twice")
		}
		b.missing -= count
		digests, first = digests[n:], first+count
		if b.missing > 0 {
			continue
		}
		delete(t.open, at)
		err := t.complete(at, b)
		if err != nil {
			return err
		}
	}
	return nil
}

// complete hands on a block that is complete, and puts its digest into the level above.
func (t *tree) complete(at position, b *branch) error {
	sum := t.digest(b.block[:])
	err := t.emit(at.level, at.index, b.block[:])
	if err != nil {
		return err
	}
	if at.level == t.geo.top() {
		t.root = sum
		return nil
	}
	return t.put(at.level+1, at.index, sum[:])
}

// finish returns the root.
func (t *tree) finish() ([verity.DigestSize]byte, error) {
	if len(t.open) > 0 || t.root == [verity.DigestSize]byte{} {
		return t.root, errors.New("not every block was written")
	}
	return t.root, nil
}
