// SPDX-License-Identifier: Apache-2.0

package volumecmd

import (
	"context"
	"errors"
	"fmt"
	"io"

	"cofferdam.dev/internal/volume/attach"
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/blockcache"
	"cofferdam.dev/internal/volume/descriptor"
	"cofferdam.dev/internal/volume/luks2"
)

// luksHeader is the header of a LUKS2 volume that is open to be changed: what the descriptor pins of it is so.
type luksHeader struct {
	*luks2.Header
	key luks2.VolumeKey
	src blob.Source
	f   luks2.File
}

// headerFile is the storage of a volume as luks2 writes it.
type headerFile struct {
	io.ReaderAt
	ctx context.Context //nolint:containedctx // lives as long as one change of a header
	w   blob.Writable
}

// WriteAt writes p.
func (f *headerFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.w.WriteAt(f.ctx, p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Sync makes what was written durable.
func (f *headerFile) Sync() error { return f.w.Flush(f.ctx) }

// openHeader opens the header of a LUKS2 volume, keeps others from writing it, and holds it against the descriptor.
func (a *App) openHeader(ctx context.Context, image string, o *volumeOptions, d *descriptor.Descriptor, key descriptor.Key) (*luksHeader, error) {
	bo, err := o.storage(a, image)
	if err != nil {
		return nil, err
	}
	bo.Write = true
	src, err := attach.Storage(ctx, image, bo, blockcache.Options{})
	if err != nil {
		return nil, err
	}
	h, err := newLUKSHeader(ctx, src, d, key, (*luks2.Header).Verify)
	if err != nil {
		return nil, errors.Join(err, src.Close())
	}
	return h, nil
}

func newLUKSHeader(ctx context.Context, src blob.Source, d *descriptor.Descriptor, key descriptor.Key, verify func(*luks2.Header, luks2.Pin, luks2.VolumeKey) error) (*luksHeader, error) {
	w, ok := src.(blob.Writable)
	if !ok {
		return nil, fmt.Errorf("the header of the volume: %w", attach.ErrReadOnly)
	}
	h := &luksHeader{src: src, f: &headerFile{blob.ReaderAt(ctx, src), ctx, w}}
	var err error
	if h.key, err = luks2.NewVolumeKey(key.Expose()); err != nil {
		return nil, err
	}
	if h.Header, err = luks2.Open(h.f, src.Size()); err == nil {
		err = verify(h.Header, *d.Pin, h.key)
	}
	if err != nil {
		h.key.Destroy()
		return nil, err
	}
	return h, nil
}

func (h *luksHeader) close() error {
	h.key.Destroy()
	return h.src.Close()
}

// strangeSlots are the key slots of a header that no key of a descriptor names.
func strangeSlots(d *descriptor.Descriptor, info *luks2.Info) []int {
	var list []int
	for _, s := range info.Slots {
		if !namesSlot(d, s.ID) {
			list = append(list, s.ID)
		}
	}
	return list
}

func namesSlot(d *descriptor.Descriptor, id int) bool {
	for _, s := range d.Slots {
		if s.KeySlot != nil && *s.KeySlot == id {
			return true
		}
	}
	return false
}

func (h *luksHeader) has(id int) bool {
	for _, s := range h.Info().Slots {
		if s.ID == id {
			return true
		}
	}
	return false
}

// add makes a key slot for a new key. One that no key names and that opens by it is that of an interrupted command, or of
// cryptsetup.
func (h *luksHeader) add(d *descriptor.Descriptor, n attach.Opener) (*int, error) {
	info := h.Info()
	for _, id := range strangeSlots(d, &info) {
		key, err := h.UnlockSlot(h.f, id, n.Secret)
		key.Destroy()
		if err == nil {
			return &id, nil
		}
		if !errors.Is(err, luks2.ErrKey) {
			return nil, err
		}
	}
	id, err := h.AddKey(h.f, h.key, n.KeySlot())
	return &id, err
}

// replace gives the key slot of a key to another one; at is nil when it has none.
func (h *luksHeader) replace(d *descriptor.Descriptor, at *int, n attach.Opener) (*int, error) {
	switch {
	case at == nil && !n.HasKeySlot():
		return nil, nil //nolint:nilnil // it has none
	case !n.HasKeySlot():
		return nil, h.remove(*at)
	case at == nil || !h.has(*at):
		return h.add(d, n)
	}
	return at, h.ChangeKey(h.f, *at, h.key, n.KeySlot())
}

// remove destroys a key slot, unless an interrupted command did.
func (h *luksHeader) remove(id int) error {
	if !h.has(id) {
		return nil
	}
	return h.RemoveKey(h.f, id)
}
