// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/descriptor"
	"cofferdam.dev/internal/volume/luks2"
	"cofferdam.dev/internal/volume/shadow"
)

// DataOffset is where the data of new LUKS2 volumes begin, in bytes, as cryptsetup has it.
const DataOffset = 16 << 20

// Opener is one way to the key of a new volume: how it is described, and the secret.
type Opener struct {
	Slot   descriptor.Slot
	Secret []byte
}

// New says how a volume is made.
type New struct {
	Kind descriptor.Kind
	// Size is the size of the data in bytes, a multiple of 4096.
	Size int64
	// Capacity is what a shadow volume can grow to, in bytes; zero is its size.
	Capacity int64
	// Openers are the ways to its key, at least one.
	Openers []Opener
	// Anchor is what the descriptor says of the anchor; Records is the anchor itself, unless there is none.
	Anchor  descriptor.Anchor
	Records shadow.Anchor
	// Label is a LUKS2 volume's.
	Label string
	// Now is the time of its making.
	Now time.Time
}

// ImageSize is how many bytes of storage the volume needs.
func (n *New) ImageSize() (int64, error) {
	if n.Size <= 0 || n.Size%shadow.BlockSize != 0 {
		return 0, fmt.Errorf("a volume of %d bytes: want a multiple of %d", n.Size, shadow.BlockSize)
	}
	switch n.Kind {
	case descriptor.LUKS2:
		return DataOffset + n.Size, nil
	case descriptor.Shadow:
		return shadow.ImageSize(n.Size, n.Capacity)
	}
	return 0, fmt.Errorf("volumes of kind %.32q can not be made so: %w", n.Kind, errors.ErrUnsupported)
}

// Create makes a volume in a file of the right size and returns its descriptor, and the volume key, which the caller
// destroys. Nothing is written but what a new volume needs: what the file held before is not erased.
func Create(ctx context.Context, path string, n New) (*descriptor.Descriptor, descriptor.Key, error) {
	d, key, err := create(ctx, path, n)
	if err != nil {
		key.Destroy()
		return nil, descriptor.Key{}, fmt.Errorf("making a volume: %w", err)
	}
	return d, key, nil
}

func create(ctx context.Context, path string, n New) (d *descriptor.Descriptor, key descriptor.Key, err error) {
	size, err := n.ImageSize()
	if err != nil {
		return nil, key, err
	}
	if (n.Anchor.Kind == descriptor.NoAnchor) != (n.Records == nil) {
		return nil, key, fmt.Errorf("an anchor of kind %q: %w", n.Anchor.Kind, ErrAnchorMissing)
	}
	f, err := blob.OpenFile(path, true)
	if err != nil {
		return nil, key, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if f.Size() < size {
		return nil, key, fmt.Errorf("%s has %d bytes, the volume needs %d", path, f.Size(), size)
	}
	d = &descriptor.Descriptor{Kind: n.Kind, Size: n.Size, Anchor: n.Anchor, Created: n.Now}
	if n.Kind == descriptor.LUKS2 {
		n.Openers = Numbered(n.Openers)
		key, err = n.createLUKS2(d, path)
	} else {
		key, err = n.createShadow(ctx, d, f)
	}
	if err == nil {
		err = addOpeners(d, key, n.Openers)
	}
	if err == nil {
		err = d.Sign(key)
	}
	return d, key, err
}

func (n *New) createShadow(ctx context.Context, d *descriptor.Descriptor, f *blob.File) (descriptor.Key, error) {
	key, err := descriptor.GenerateKey(shadow.KeySize)
	if err != nil {
		return key, err
	}
	b, err := newBlocks(f, true)
	if err != nil {
		return key, err
	}
	v, err := shadow.Create(ctx, b, shadow.Key(key.Expose()), n.Size, n.Capacity, shadow.Options{Anchor: n.Records, Unanchored: n.Records == nil})
	if err != nil {
		return key, err
	}
	d.ID = v.ID()
	return key, nil
}

func (n *New) createLUKS2(d *descriptor.Descriptor, path string) (descriptor.Key, error) {
	key, err := descriptor.GenerateKey(64)
	if err != nil {
		return key, err
	}
	volume, err := luks2.NewVolumeKey(key.Expose())
	if err != nil {
		return key, err
	}
	defer volume.Destroy()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return key, err
	}
	defer func() { _ = f.Close() }() // Format synced it
	h, err := luks2.Format(f, DataOffset+n.Size, volume, luks2.FormatOptions{Label: n.Label, Offset: DataOffset, DataSize: n.Size, Slots: LUKSSlots(n.Openers)})
	if err != nil {
		return key, err
	}
	pin, err := h.Pin(volume)
	if err != nil {
		return key, err
	}
	d.Pin = &pin
	d.ID, err = parseUUID(pin.UUID)
	return key, err
}

// LUKSSlots are the key slots by which cryptsetup opens a volume with the same secrets: those of a new header, in the order of
// their numbers.
func LUKSSlots(openers []Opener) []luks2.Slot {
	var list []luks2.Slot
	for _, o := range openers {
		if o.HasKeySlot() {
			list = append(list, o.KeySlot())
		}
	}
	return list
}

// HasKeySlot says whether cryptsetup can be given the secret: nobody knows the one that a vault unwraps.
func (o *Opener) HasKeySlot() bool { return o.Slot.Kind != descriptor.UnwrapSlot }

// KeySlot is the key slot by which cryptsetup opens a volume with the secret.
func (o *Opener) KeySlot() luks2.Slot {
	if o.Slot.Kind == descriptor.PassphraseSlot {
		return luks2.Slot{Passphrase: o.Secret, KDF: luks2.DefaultKDF()}
	}
	return luks2.Slot{Passphrase: o.Secret, KDF: luks2.EncfsKDF()}
}

// Numbered is the same openers, which say which of LUKSSlots has their secret.
func Numbered(openers []Opener) []Opener {
	list := slices.Clone(openers)
	next := 0
	for i := range list {
		if list[i].HasKeySlot() {
			n := next
			list[i].Slot.KeySlot, next = &n, next+1
		}
	}
	return list
}

func addOpeners(d *descriptor.Descriptor, key descriptor.Key, openers []Opener) error {
	for _, o := range openers {
		if err := d.AddSlot(key, o.Slot, o.Secret); err != nil {
			return err
		}
	}
	return nil
}

func parseUUID(s string) (id [16]byte, err error) {
	var a, b, c, d, e []byte
	_, err = fmt.Sscanf(s, "%8x-%4x-%4x-%4x-%12x", &a, &b, &c, &d, &e)
	if err != nil || copy(id[:], append(append(append(append(a, b...), c...), d...), e...)) != len(id) {
		return id, fmt.Errorf("%.40q is no UUID", s)
	}
	return id, nil
}

// Describe makes the descriptor of a LUKS2 volume that exists and that nobody has pinned yet. Each opener has the secret of one
// of its key slots. The header is believed as it is found: this is for whoever has the volume from its owner.
func Describe(ctx context.Context, storage blob.Source, openers []Opener, now time.Time) (*descriptor.Descriptor, error) {
	d, err := describe(ctx, storage, openers, now)
	if err != nil {
		return nil, fmt.Errorf("describing a volume: %w", err)
	}
	return d, nil
}

func describe(ctx context.Context, storage blob.Source, openers []Opener, now time.Time) (*descriptor.Descriptor, error) {
	r := blob.ReaderAt(ctx, storage)
	h, err := luks2.Open(r, storage.Size())
	if err != nil {
		return nil, err
	}
	openers = slices.Clone(openers)
	var volume luks2.VolumeKey
	defer func() { volume.Destroy() }()
	for i := range openers {
		volume.Destroy() // the header has one, whatever opened it
		id := 0
		if volume, id, err = h.Find(r, openers[i].Secret); err != nil {
			return nil, err
		}
		openers[i].Slot.KeySlot = &id
	}
	return DescribeHeader(h, volume, openers, now)
}

// DescribeHeader makes the descriptor of a LUKS2 volume whose header is known, and its key.
func DescribeHeader(h *luks2.Header, volume luks2.VolumeKey, openers []Opener, now time.Time) (*descriptor.Descriptor, error) {
	pin, err := h.Pin(volume)
	if err != nil {
		return nil, err
	}
	key, err := descriptor.NewKey(volume.Expose())
	if err != nil {
		return nil, err
	}
	defer key.Destroy()
	d := &descriptor.Descriptor{Kind: descriptor.LUKS2, Size: pin.Size, Pin: &pin, Created: now, Anchor: descriptor.Anchor{Kind: descriptor.NoAnchor}}
	if d.ID, err = parseUUID(pin.UUID); err != nil {
		return nil, err
	}
	if err := addOpeners(d, key, openers); err != nil {
		return nil, err
	}
	return d, d.Sign(key)
}
