// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"cofferdam.dev/internal/verity"
)

// Report is what a look at every byte of an image found.
type Report struct {
	// Blocks are those of data that are what was sealed.
	Blocks uint64
	// Damaged are how many blocks are not, of data and of the tree. What lies below a damaged block of the tree could not be
	// looked at.
	Damaged uint64
	// First names the first of them.
	First []string
}

// maxNamed bounds how many damaged blocks a report names.
const maxNamed = 20

// Verify reads the whole image, whatever the device has in memory. The error is that of a storage that can not be read, or of a
// context that has ended; damage is in the report. Progress, if it is set, is told how many bytes of data were looked at;
// calls do not overlap.
func (d *Device) Verify(ctx context.Context, progress func(done, total int64)) (*Report, error) {
	fresh := &Device{src: d.src, sealer: d.sealer, geo: d.geo, facts: d.facts, cache: newCache(d.cache.limit)}
	w := &walk{d: fresh, progress: progress, leaves: d.geo.levels[0].Blocks}
	err := w.all(ctx)
	if err != nil {
		return nil, fmt.Errorf("verifying a sealed volume: %w", err)
	}
	return w.result(), nil
}

// walk is one look at an image. Its workers take leaves of the tree one after the other.
type walk struct {
	d        *Device
	progress func(done, total int64)
	leaves   uint64

	mu     sync.Mutex
	next   uint64
	done   int64
	report Report
	first  []damage // sorted
}

type damage struct {
	block uint64 // of the image
	name  string
}

func (w *walk) all(ctx context.Context) error {
	err := w.superblock(ctx)
	if err != nil {
		return err
	}
	top := position{w.d.geo.top(), 0}
	err = w.d.load(ctx, top, w.d.facts.Root[:], &w.d.top)
	if errors.Is(err, ErrDamaged) {
		w.damagedNode(top)
		return nil
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	for range min(uint64(runtime.GOMAXPROCS(0)), w.leaves) { // positive
		work.Go(func() {
			err := w.run(ctx)
			if err != nil {
				cancel(err)
			}
		})
	}
	work.Wait()
	return context.Cause(ctx)
}

// superblock looks at the block that no digest covers, and that only tools read.
func (w *walk) superblock(ctx context.Context) error {
	d := w.d
	b := make([]byte, BlockSize)
	err := d.fetch(ctx, b, d.geo.data)
	if err == nil {
		err = d.sealer.decrypt(b, d.geo.data)
	}
	if err == nil && !bytes.Equal(b, d.sealer.superblock(d.facts.ID, d.geo.data)) {
		w.damaged(d.geo.data, "the superblock before the tree")
	}
	return err
}

// run looks at leaves until there are none.
func (w *walk) run(ctx context.Context) error {
	p := make([]byte, fanOut*BlockSize)
	for {
		w.mu.Lock()
		leaf := w.next
		w.next++
		w.mu.Unlock()
		if leaf >= w.leaves {
			return nil
		}
		err := context.Cause(ctx)
		if err == nil {
			err = w.leaf(ctx, leaf, p)
		}
		if err != nil {
			return err
		}
	}
}

// leaf looks at a leaf, at what is above it, and at its blocks.
func (w *walk) leaf(ctx context.Context, leaf uint64, p []byte) error {
	d := w.d
	first := leaf * fanOut
	p = p[:min(fanOut, d.geo.data-first)*BlockSize]
	digests, err := w.path(ctx, leaf)
	if err != nil {
		return err
	}
	if digests == nil {
		w.advance(len(p), 0)
		return nil
	}
	err = d.fetch(ctx, p, first)
	if err == nil {
		err = d.sealer.decrypt(p, first)
	}
	if err != nil {
		return err
	}
	good := uint64(0)
	for i := range uint64(len(p) / BlockSize) {
		if _, ok := d.sealer.matches(p[i*BlockSize:][:BlockSize], digests[i*verity.DigestSize:]); !ok {
			w.damaged(first+i, fmt.Sprintf("block %d of the data", first+i))
			continue
		}
		good++
	}
	w.advance(len(p), good)
	return nil
}

// path loads what is above a leaf from the top down, and the leaf. It returns nothing if one of them is damaged, which is counted
// once: with the first leaf below it.
func (w *walk) path(ctx context.Context, leaf uint64) (*block, error) {
	var b *block
	for level := w.d.geo.top(); level >= 0; level-- {
		span := uint64(1)
		for range level {
			span *= fanOut
		}
		at := position{level, leaf / span}
		var err error
		b, err = w.d.node(ctx, at)
		if errors.Is(err, ErrDamaged) {
			if leaf%span == 0 {
				w.damagedNode(at)
			}
			return nil, nil // documented: damage is no error here
		}
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (w *walk) damagedNode(at position) {
	w.damaged(w.d.geo.block(at.level, at.index), fmt.Sprintf("block %d of level %d of the tree", at.index, at.level))
}

// damaged counts a block, and keeps its name if it is one of the first in the image.
func (w *walk) damaged(number uint64, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.report.Damaged++
	i, _ := slices.BinarySearchFunc(w.first, number, func(d damage, n uint64) int { return cmp.Compare(d.block, n) })
	if i < maxNamed {
		w.first = slices.Insert(w.first, i, damage{number, name})
		w.first = w.first[:min(len(w.first), maxNamed)]
	}
}

func (w *walk) advance(n int, good uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done += int64(n)
	w.report.Blocks += good
	if w.progress != nil {
		w.progress(w.done, w.d.facts.Size)
	}
}

func (w *walk) result() *Report {
	for _, d := range w.first {
		w.report.First = append(w.report.First, d.name)
	}
	return &w.report
}
