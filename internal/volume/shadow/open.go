// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"context"
	"errors"
	"fmt"
)

// Errors of opening.
var (
	// ErrNoVolume says that the storage holds no superblock that the key authenticates: it is another volume, the key is
	// wrong, or both superblocks are damaged.
	ErrNoVolume = errors.New("the storage holds no volume of this key")
	// ErrRolledBack says that the storage holds an older state than the anchor knows of, or another history.
	ErrRolledBack = errors.New("the storage holds an older state, or another history")
	// ErrUsedUp says that a volume can only be read any more: all its keys have encrypted as much as they may.
	ErrUsedUp = errors.New("the volume has used up its epochs: copy it to a new one")
	// ErrForeignAnchor says that the storage holds a state that is newer than the anchor's record can explain.
	ErrForeignAnchor = errors.New("the anchor was put back, or is not this volume's")
)

// Create makes a volume of size bytes that can grow to capacity bytes, and opens it. Both are multiples of BlockSize; the
// capacity is rounded up to what the format can have. What the storage held before is not looked at, and not erased.
func Create(ctx context.Context, s Storage, key Key, size, capacity int64, o Options) (*Volume, error) {
	blocks, geo, err := room(size, capacity)
	if err != nil {
		return nil, fmt.Errorf("creating a volume: %w", err)
	}
	v, err := newVolume(s, o)
	if err != nil {
		return nil, fmt.Errorf("creating a volume: %w", err)
	}
	if o.ReadOnly {
		return nil, fmt.Errorf("creating a volume: %w", ErrReadOnly)
	}
	v.geo = geo
	sb := superblock{capacity: blocks, size: uint64(size) / BlockSize, epoch: 1}
	err = errors.Join(v.random(sb.id[:]), v.random(sb.session[:]))
	if err == nil {
		v.keys, err = newKeys(key, sb.id)
	}
	if err == nil {
		// A volume that was here before must not show through: its keys are others, but a torn creation must find nothing.
		err = s.WriteAt(ctx, make([]byte, 2*BlockSize), 0)
	}
	if err != nil {
		return nil, fmt.Errorf("creating a volume: %w", err)
	}
	v.sb, v.id, v.size, v.rootWas = sb, sb.id, sb.size, none
	sb.generation = 1
	v.unfinished = sb.marshal(v.keys.superblock)
	err = v.finish(ctx)
	if err != nil {
		return nil, fmt.Errorf("creating a volume: %w", err)
	}
	return v, nil
}

func newVolume(s Storage, o Options) (*Volume, error) {
	if (o.Anchor == nil) != o.Unanchored {
		return nil, ErrAnchorNeeded
	}
	if o.CacheNodes == 0 {
		o.CacheNodes = defaultCache
	}
	if o.DirtyNodes == 0 {
		o.DirtyNodes = defaultDirty
	}
	return &Volume{storage: s, opts: o, nodes: newNodes(o.CacheNodes)}, nil
}

// Open opens a volume in its last committed state, and holds it against the anchor before anything of it is read. For
// writing it commits at once, so that no other history can go on from that state.
func Open(ctx context.Context, s Storage, key Key, o Options) (*Volume, error) {
	v, err := newVolume(s, o)
	if err != nil {
		return nil, fmt.Errorf("opening the volume: %w", err)
	}
	newest, older, err := v.readSuperblocks(ctx, key)
	if err == nil {
		err = v.settle(ctx, newest, older)
	}
	if err == nil {
		v.geo, err = newGeometry(newest.capacity)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the volume: %w", err)
	}
	v.sb, v.id, v.size, v.rootWas = newest.superblock, newest.id, newest.size, none
	if !v.sb.root.empty() {
		v.rootWas = v.sb.root.place()
	}
	if o.ReadOnly {
		return v, nil
	}
	err = v.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("opening the volume for writing: %w", err)
	}
	return v, nil
}

// begin commits a new session and a new epoch.
func (v *Volume) begin(ctx context.Context) error {
	next := v.sb
	next.generation++
	next.epoch++
	if next.epoch > maxEpoch {
		return ErrUsedUp
	}
	err := v.random(next.session[:])
	if err != nil {
		return err
	}
	v.unfinished = next.marshal(v.keys.superblock)
	return v.finish(ctx)
}

// stored is a superblock as it was read.
type stored struct {
	superblock
	raw []byte
}

// readSuperblocks returns the newest valid superblock, and the one before it if it is valid.
func (v *Volume) readSuperblocks(ctx context.Context, key Key) (newest, older *stored, err error) {
	var found []*stored
	for place := range int64(2) {
		raw := make([]byte, BlockSize)
		err = v.storage.ReadAt(ctx, raw, place*BlockSize)
		if err != nil {
			return nil, nil, fmt.Errorf("reading from the storage: %w", err)
		}
		id, ok := peekID(raw)
		if !ok {
			continue
		}
		k, err := newKeys(key, id)
		if err != nil {
			return nil, nil, err
		}
		sb, err := parseSuperblock(raw, k.superblock)
		if err != nil || sb.generation%2 != uint64(place) {
			continue
		}
		found = append(found, &stored{*sb, raw})
		if len(found) == 1 || sb.generation > found[0].generation {
			v.keys = k
		}
	}
	switch {
	case len(found) == 0:
		return nil, nil, ErrNoVolume
	case len(found) == 1:
		return found[0], nil, nil
	case found[1].generation > found[0].generation:
		found[0], found[1] = found[1], found[0]
	}
	if found[0].id != found[1].id || found[0].generation != found[1].generation+1 {
		return found[0], nil, nil // the other one is of another time, and says nothing
	}
	return found[0], found[1], nil
}

// settle holds the state that was found against the anchor.
func (v *Volume) settle(ctx context.Context, newest, older *stored) error {
	if v.opts.Anchor == nil {
		return v.keep(ctx, newest)
	}
	a, err := v.opts.Anchor.Load(ctx, newest.id)
	if err != nil {
		return fmt.Errorf("asking the anchor: %w", err)
	}
	found := record(&newest.superblock, newest.raw)
	switch {
	case a.Volume != newest.id || found.Generation < a.Generation || found.Generation == a.Generation && found != a:
		return fmt.Errorf("the storage has generation %d, the anchor %d: %w", found.Generation, a.Generation, ErrRolledBack)
	case found == a:
		v.anchor = a
		return nil
	case found.Generation > a.Generation+1:
		return fmt.Errorf("the storage has generation %d, the anchor %d: %w", found.Generation, a.Generation, ErrForeignAnchor)
	case older != nil && record(&older.superblock, older.raw) != a:
		return fmt.Errorf("generation %d is not the anchor's: %w", a.Generation, ErrRolledBack)
	}
	// The writer died between its superblock and the anchor.
	v.anchor = a
	if v.opts.ReadOnly {
		return nil
	}
	err = v.keep(ctx, newest)
	if err != nil {
		return err
	}
	err = v.opts.Anchor.Move(ctx, a, found)
	if err != nil {
		return fmt.Errorf("moving the anchor: %w", err)
	}
	v.anchor = found
	return nil
}

// keep makes a superblock that was found durable: its writer may have died before it was, and only what is durable may be
// acknowledged or built upon. It is written again, since a flush that failed is not told of twice.
func (v *Volume) keep(ctx context.Context, found *stored) error {
	if v.opts.ReadOnly {
		return nil
	}
	err := v.storage.WriteAt(ctx, found.raw, int64(found.generation%2)*BlockSize)
	if err == nil {
		err = v.storage.Flush(ctx)
	}
	if err != nil {
		return fmt.Errorf("making the superblock durable: %w", err)
	}
	return nil
}
