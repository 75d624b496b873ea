// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"context"
	"fmt"
)

// GrownSize is how many bytes the storage of a volume must have that can grow to capacity bytes now, and is to have size bytes.
func GrownSize(capacity, size int64) (int64, error) {
	old, err := newGeometry(uint64(max(capacity, 0)) / BlockSize)
	if err != nil {
		return 0, fmt.Errorf("growing a volume: %w", err)
	}
	next, err := old.grown(size)
	if err != nil {
		return 0, fmt.Errorf("growing a volume: %w", err)
	}
	return int64(next.blocks) * BlockSize, nil // below 2^54
}

// grown is a geometry in which a volume of size bytes has room: this one, or the least one whose nodes all lie behind the end of
// this one. So the nodes of both can be there at a time, and the data are where they were.
func (g *geometry) grown(size int64) (geometry, error) {
	_, next, err := room(size, 0)
	switch {
	case err != nil:
		return geometry{}, err
	case next.capacity <= g.capacity:
		return *g, nil
	}
	behind := (g.blocks - dataStart + 2*fanOut - 1) / (2 * fanOut) * fanOut
	return newGeometry(max(next.capacity, behind))
}

// Capacity is what the volume can grow to without its nodes being moved, in bytes.
func (v *Volume) Capacity() int64 { return int64(v.geo.capacity) * BlockSize } // at most 2^52

// Grow makes a volume that nobody has open larger: it has size bytes then, and what is new is zeros. Where its capacity does not
// suffice its nodes are moved behind what the image had before, so that the storage must have the bytes that GrownSize says.
// What ends it leaves the volume as it was, or as it shall be: to grow again completes it.
func Grow(ctx context.Context, s Storage, key Key, size int64, o Options) error {
	v, err := Open(ctx, s, key, o)
	if err == nil {
		err = v.grow(ctx, size)
	}
	if err != nil {
		return fmt.Errorf("growing a volume: %w", err)
	}
	return nil
}

func (v *Volume) grow(ctx context.Context, size int64) error {
	switch {
	case v.opts.ReadOnly:
		return ErrReadOnly
	case size < v.Size() || size%BlockSize != 0:
		return fmt.Errorf("a volume of %d bytes can not have %d: %w", v.Size(), size, ErrRange)
	case size == v.Size():
		return nil
	}
	geo, err := v.geo.grown(size)
	if err != nil {
		return err
	}
	next, was := v.sb, v.geo
	if geo.capacity != was.capacity {
		if next.root, err = v.moveNodes(ctx, &geo); err == nil {
			err = v.storage.Flush(ctx)
		}
		if err != nil {
			return err
		}
	}
	next.generation++
	next.capacity, next.size = geo.capacity, uint64(size)/BlockSize
	v.unfinished = next.marshal(v.keys.superblock)
	if err := v.finish(ctx); err != nil {
		return err
	}
	if geo.capacity != was.capacity { // where the nodes were is free now
		v.punch(ctx, []hole{{int64(was.start[1]) * BlockSize, int64(was.blocks-was.start[1]) * BlockSize}})
	}
	return nil
}

// moveNodes copies all nodes, as they are encrypted, to where they are in another geometry, and returns the entry of its root:
// the old one, or that of nodes above it.
func (v *Volume) moveNodes(ctx context.Context, to *geometry) (entry, error) {
	root := v.sb.root
	if root.empty() {
		return root, nil
	}
	buf := make([]byte, BlockSize+tagSize)
	if err := v.moveNode(ctx, to, &root, v.geo.levels, 0, buf); err != nil {
		return entry{}, err
	}
	for level := v.geo.levels + 1; level <= to.levels; level++ {
		plain := make([]byte, BlockSize)
		copy(plain, root[:])
		var e entry
		if err := v.encrypt(&e, 0, level, 0, buf, plain); err != nil {
			return entry{}, err
		}
		if err := v.storage.WriteAt(ctx, buf[:BlockSize], to.offset(level, 0, 0)); err != nil {
			return entry{}, fmt.Errorf("writing to the storage: %w", err)
		}
		root = e
	}
	return root, nil
}

func (v *Volume) moveNode(ctx context.Context, to *geometry, e *entry, level int, index uint64, buf []byte) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := v.storage.ReadAt(ctx, buf[:BlockSize], v.geo.offset(level, index, e.place())); err != nil {
		return fmt.Errorf("reading from the storage: %w", err)
	}
	if err := v.storage.WriteAt(ctx, buf[:BlockSize], to.offset(level, index, e.place())); err != nil {
		return fmt.Errorf("writing to the storage: %w", err)
	}
	// What was copied is what is looked at: the storage may give out another thing each time.
	if err := v.unlock(e, level, index, buf); err != nil || level == 1 {
		return err
	}
	var below [fanOut]entry
	for j := range below {
		below[j] = entry(buf[j*entrySize:])
	}
	for j := range below {
		if below[j].empty() {
			continue
		}
		if err := v.moveNode(ctx, to, &below[j], level-1, index*fanOut+uint64(j), buf); err != nil {
			return err
		}
	}
	return nil
}
