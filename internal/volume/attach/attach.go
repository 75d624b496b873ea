// SPDX-License-Identifier: Apache-2.0

// Package attach makes block devices of encrypted volumes: it holds a descriptor against a key, and the storage against both,
// and returns a device only when all of it fits together.
//
// It trusts the key and the anchor that it is given, and nothing that the storage or a descriptor says before the key has
// confirmed it. It never opens a volume for less than its descriptor asks for: a volume with an anchor is not opened without
// one, nor a pinned header without its pin, unless that is asked for by a name that says so, and then the device says so too.
package attach

import (
	"context"
	"errors"
	"fmt"

	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/blockcache"
	"cofferdam.dev/internal/volume/descriptor"
	"cofferdam.dev/internal/volume/luks2"
	"cofferdam.dev/internal/volume/sealed"
	"cofferdam.dev/internal/volume/shadow"
)

// Errors that callers tell apart.
var (
	// ErrMismatch says that the storage holds another volume than the descriptor's.
	ErrMismatch = errors.New("the storage holds another volume than the descriptor says")
	// ErrAnchorMissing says that the descriptor wants an anchor, and there is none.
	ErrAnchorMissing = errors.New("the descriptor wants an anchor")
	// ErrReadOnly says that the device was opened to be read.
	ErrReadOnly = errors.New("the volume is open for reading only")
)

// Device is a volume's data, decrypted. It is safe for concurrent use.
type Device interface {
	// Size is the size of the data in bytes.
	Size() int64
	// BlockSize is what offsets and lengths are multiples of.
	BlockSize() int
	// ReadAt fills p with the bytes at off, or fails.
	ReadAt(ctx context.Context, p []byte, off int64) error
	// WriteAt writes p at off, or fails.
	WriteAt(ctx context.Context, p []byte, off int64) error
	// Flush returns when everything that was written before is durable.
	Flush(ctx context.Context) error
}

// Facts are what is known of a device. They are for people and for status documents.
type Facts struct {
	Kind     descriptor.Kind `json:"kind"`
	ID       string          `json:"id"`
	Size     int64           `json:"size"`
	Writable bool            `json:"writable"`
	// Authenticated says that changes of the storage are found.
	Authenticated bool `json:"authenticated"`
	// Pinned says that the header was held against a pin of the owner.
	Pinned bool `json:"pinned"`
	// Anchored says that an older state would have been found.
	Anchored bool `json:"anchored"`
	// Generation is the number of a shadow volume's state when it was opened.
	Generation uint64 `json:"generation,omitempty"`
	// Storage names the version of the object that was opened.
	Storage string `json:"storage,omitempty"`
	// Warnings say what is not protected.
	Warnings []string `json:"warnings,omitempty"`
}

// Volume is an open volume. Closing it closes its storage.
type Volume struct {
	Device
	Facts Facts
	// Shadow and Sealed are the volume itself, when it is of that kind; else nil.
	Shadow *shadow.Volume
	Sealed *sealed.Device

	storage blob.Source
	kernel  *Kernel
}

// Close flushes a volume that was open for writing, and closes its storage. Other calls must have ended.
func (v *Volume) Close(ctx context.Context) error {
	var err error
	if v.Facts.Writable {
		err = v.Flush(ctx)
	}
	v.Kernel().Destroy()
	return errors.Join(err, v.storage.Close())
}

// Options say how a volume is opened. The zero value opens none.
type Options struct {
	// Descriptor is the volume's, and Key its volume key.
	Descriptor *descriptor.Descriptor
	Key        descriptor.Key
	// Write opens it to be written as well. The storage must have been opened so, too.
	Write bool
	// Anchor knows the last state of the volume, where the descriptor wants an anchor.
	Anchor shadow.Anchor
	// WithoutAnchor opens a volume whose descriptor wants an anchor without one, to be read: it may be an old state.
	WithoutAnchor bool
}

// Storage opens the object that a volume lies in. A remote one gets a cache.
func Storage(ctx context.Context, url string, o blob.Options, c blockcache.Options) (blob.Source, error) {
	src, err := blob.Open(ctx, url, o)
	if err != nil {
		return nil, err
	}
	if f, local := src.(*blob.File); local {
		return f, nil
	}
	cached, err := blockcache.Open(src, c)
	if err != nil {
		return nil, errors.Join(err, src.Close())
	}
	return cached, nil
}

// Open opens a volume. The storage belongs to it from then on; after an error it is still the caller's.
func Open(ctx context.Context, storage blob.Source, o Options) (*Volume, error) {
	v, err := open(ctx, storage, o)
	if err != nil {
		return nil, fmt.Errorf("opening a volume: %w", err)
	}
	return v, nil
}

func open(ctx context.Context, storage blob.Source, o Options) (*Volume, error) {
	d := o.Descriptor
	if d == nil {
		return nil, errors.New("there is no descriptor")
	}
	if err := d.Verify(o.Key); err != nil {
		return nil, err
	}
	v := &Volume{storage: storage, Facts: Facts{Kind: d.Kind, ID: d.UUID(), Size: d.Size, Writable: o.Write, Storage: storage.Identity()}}
	err := v.openKind(ctx, o)
	if err == nil {
		err = v.checkSize(d.Size)
	}
	if err != nil {
		v.Kernel().Destroy()
		return nil, err
	}
	return v, nil
}

func (v *Volume) openKind(ctx context.Context, o Options) error {
	switch o.Descriptor.Kind {
	case descriptor.LUKS2:
		return v.openLUKS2(ctx, o)
	case descriptor.Shadow:
		return v.openShadow(ctx, o)
	case descriptor.Sealed:
		return v.openSealed(ctx, o)
	}
	return fmt.Errorf("a volume of kind %.32q: %w", o.Descriptor.Kind, errors.ErrUnsupported)
}

// checkSize holds a volume's size against its descriptor's.
func (v *Volume) checkSize(want int64) error {
	switch {
	case v.Size() == want:
		return nil
	case v.Shadow == nil:
		return fmt.Errorf("%w: %d bytes, expected %d", ErrMismatch, v.Size(), want)
	}
	v.Facts.Size = v.Size()
	v.Facts.Warnings = append(v.Facts.Warnings, fmt.Sprintf("the volume has grown to %d bytes since its descriptor was written, which says %d", v.Size(), want))
	return nil
}

func (v *Volume) openShadow(ctx context.Context, o Options) error {
	var key shadow.Key
	if len(o.Key.Expose()) != len(key) {
		return fmt.Errorf("%w: the key has %d bytes, expected %d", ErrMismatch, len(o.Key.Expose()), len(key))
	}
	copy(key[:], o.Key.Expose())
	so := shadow.Options{ReadOnly: !o.Write}
	switch {
	case o.Descriptor.Anchor.Kind != descriptor.NoAnchor && o.WithoutAnchor && o.Write:
		// Its anchor would not know the state that this makes, and refuse the volume for ever.
		return fmt.Errorf("a volume with an anchor is written with it alone: %w", shadow.ErrAnchorNeeded)
	case o.Descriptor.Anchor.Kind == descriptor.NoAnchor, o.WithoutAnchor:
		so.Unanchored = true
		v.Facts.Warnings = append(v.Facts.Warnings, "unanchored: whoever keeps the storage can put an older state of the whole volume back")
	case o.Anchor == nil:
		return fmt.Errorf("%w of kind %s: %w", ErrAnchorMissing, o.Descriptor.Anchor.Kind, shadow.ErrAnchorNeeded)
	default:
		so.Anchor = &only{o.Anchor, o.Descriptor.ID}
	}
	blocks, err := newBlocks(v.storage, o.Write)
	if err != nil {
		return err
	}
	defer clear(key[:])
	if o.Write && so.Unanchored {
		// Opening for writing commits. An anchor is asked by the volume's ID before that; without one nobody is.
		s, err := shadow.Open(ctx, blocks, key, shadow.Options{ReadOnly: true, Unanchored: true})
		if err == nil {
			err = same(s, o.Descriptor)
		}
		if err != nil {
			return err
		}
	}
	s, err := shadow.Open(ctx, blocks, key, so)
	if err == nil {
		err = same(s, o.Descriptor)
	}
	if err != nil {
		return err
	}
	v.Device, v.Shadow = shadowDevice{s}, s
	v.Facts.Authenticated, v.Facts.Pinned, v.Facts.Anchored, v.Facts.Generation = true, true, s.Anchored(), s.Generation()
	return nil
}

// same says whether a volume is the descriptor's. It may have grown since: it says so itself, under the same key.
func same(s *shadow.Volume, d *descriptor.Descriptor) error {
	if s.ID() != d.ID {
		return fmt.Errorf("%w: ID %x, expected %x", ErrMismatch, s.ID(), d.ID)
	}
	if s.Size() < d.Size {
		return fmt.Errorf("%w: %d bytes, expected %d", ErrMismatch, s.Size(), d.Size)
	}
	return nil
}

func (v *Volume) openLUKS2(ctx context.Context, o Options) error {
	key, err := luks2.NewVolumeKey(o.Key.Expose())
	if err != nil {
		return err
	}
	defer key.Destroy()
	h, err := luks2.Open(blob.ReaderAt(ctx, v.storage), v.storage.Size())
	if err != nil {
		return err
	}
	b, err := below(v.storage, o.Write)
	if err != nil {
		return err
	}
	d, err := h.Device(b, *o.Descriptor.Pin, key)
	if err != nil {
		return err
	}
	v.kernel = luksKernel(*o.Descriptor.Pin, key, v.storage, o.Write)
	v.Device, v.Facts.Pinned = luksDevice{d}, true
	v.Facts.Warnings = append(v.Facts.Warnings, "unauthenticated: LUKS2 hides data, and does not find changes of them")
	return nil
}

// OpenLUKS2WithoutPin opens a LUKS2 volume by a passphrase or key file's content alone, as it is found: whoever keeps the
// storage decides what its header says. The storage belongs to the volume from then on; after an error it is still the
// caller's.
func OpenLUKS2WithoutPin(ctx context.Context, storage blob.Source, secret []byte, write bool) (*Volume, error) {
	v, err := openUnpinned(ctx, storage, secret, write)
	if err != nil {
		return nil, fmt.Errorf("opening a volume: %w", err)
	}
	return v, nil
}

func openUnpinned(ctx context.Context, storage blob.Source, secret []byte, write bool) (*Volume, error) {
	r := blob.ReaderAt(ctx, storage)
	h, err := luks2.Open(r, storage.Size())
	if err != nil {
		return nil, err
	}
	key, err := h.Unlock(r, secret)
	if err != nil {
		return nil, err
	}
	defer key.Destroy()
	b, err := below(storage, write)
	if err != nil {
		return nil, err
	}
	d, err := h.DeviceWithoutPin(b, key)
	if err != nil {
		return nil, err
	}
	found, err := h.Pin(key)
	if err != nil {
		return nil, err
	}
	info := h.Info()
	return &Volume{Device: luksDevice{d}, storage: storage, kernel: luksKernel(found, key, storage, write), Facts: Facts{
		Kind: descriptor.LUKS2, ID: info.UUID, Size: d.Size(), Writable: write, Storage: storage.Identity(),
		Warnings: []string{
			"unpinned: the header is believed as the storage gives it out",
			"unauthenticated: LUKS2 hides data, and does not find changes of them",
		},
	}}, nil
}

// only is the anchor of one volume: a storage that holds another one must not touch its record.
type only struct {
	shadow.Anchor
	id [16]byte
}

// Load returns the record of the volume.
func (a *only) Load(ctx context.Context, volume [16]byte) (shadow.Record, error) {
	if volume != a.id {
		return shadow.Record{}, fmt.Errorf("%w: ID %x, expected %x", ErrMismatch, volume, a.id)
	}
	return a.Anchor.Load(ctx, volume)
}
