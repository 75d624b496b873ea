// SPDX-License-Identifier: Apache-2.0

package tour

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"cofferdam.dev/internal/volume/anchor"
	"cofferdam.dev/internal/volume/attach"
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/descriptor"
	"cofferdam.dev/internal/volume/shadow"
)

const (
	volumeSize = 4 << 20
	// The two states of the data set, and where in the volume it lies.
	firstEntry  = "balance: 1000 gold pieces"
	secondEntry = "balance: 3 gold pieces"
	entryOffset = 5 * shadow.BlockSize
)

// dataSet is a volume of the data owner's, on storage that somebody else keeps.
type dataSet struct {
	dir, image string
	secret     []byte
	d          *descriptor.Descriptor
	records    *anchor.Dir
	old        []byte // the storage as it was before the last change
}

// encryptData makes the volume, writes to it twice, and looks at what the storage sees of it.
func (t *tour) encryptData(ctx context.Context, s *Step) error {
	dir, err := os.MkdirTemp(t.cfg.Home, "tour-*")
	if err != nil {
		return fmt.Errorf("making a directory for the storage: %w", err)
	}
	t.data = &dataSet{dir: dir, image: filepath.Join(dir, "image"), secret: make([]byte, 32)}
	_, _ = rand.Read(t.data.secret) // never fails: crypto/rand aborts the program instead
	err = t.data.create(ctx, t)
	if err != nil {
		return err
	}
	err = t.data.write(ctx, firstEntry)
	if err != nil {
		return err
	}
	t.data.old, err = os.ReadFile(t.data.image)
	if err != nil {
		return err
	}
	err = t.data.write(ctx, secondEntry)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(t.data.image)
	if err != nil {
		return err
	}
	for _, seen := range [][]byte{raw, t.data.old} {
		if bytes.Contains(seen, []byte("balance")) || bytes.Contains(seen, []byte("gold pieces")) {
			return errors.New("the storage sees the data")
		}
	}
	got, err := t.data.read(ctx)
	if err != nil || got != secondEntry {
		return fmt.Errorf("the owner reads %q: %w", got, err)
	}
	s.add("storage", "%s, %d MiB of data in %d MiB", t.data.image, volumeSize>>20, len(raw)>>20)
	s.add("written", "%s", firstEntry)
	s.add("then", "%s", secondEntry)
	s.add("the storage sees", "neither: no word of it is in the image, now or before")
	s.add("the owner reads", "%s", got)
	return nil
}

func (d *dataSet) create(ctx context.Context, t *tour) error {
	var err error
	d.records, err = anchor.NewDir(filepath.Join(d.dir, "anchors"))
	if err != nil {
		return err
	}
	n := attach.New{
		Kind: descriptor.Shadow, Size: volumeSize, Anchor: descriptor.Anchor{Kind: descriptor.FileAnchor}, Records: d.records,
		Openers: []attach.Opener{{Slot: descriptor.Slot{Kind: descriptor.FileSlot}, Secret: d.secret}}, Now: t.cfg.Now(),
	}
	size, err := n.ImageSize()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(d.image, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(f.Truncate(size), f.Close())
	if err != nil {
		return err
	}
	made, key, err := attach.Create(ctx, d.image, n)
	key.Destroy()
	d.d = made
	return err
}

// open opens the volume as whoever has the secret and knows the anchor.
func (d *dataSet) open(ctx context.Context, write bool) (*attach.Volume, error) {
	key, err := d.d.Open(d.secret, func(*descriptor.Slot) bool { return true })
	if err != nil {
		return nil, err
	}
	defer key.Destroy()
	f, err := blob.OpenFile(d.image, write)
	if err != nil {
		return nil, err
	}
	v, err := attach.Open(ctx, f, attach.Options{Descriptor: d.d, Key: key, Write: write, Anchor: d.records})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return v, nil
}

func (d *dataSet) write(ctx context.Context, text string) error {
	v, err := d.open(ctx, true)
	if err != nil {
		return err
	}
	block := make([]byte, shadow.BlockSize)
	copy(block, text)
	return errors.Join(v.WriteAt(ctx, block, entryOffset), v.Close(ctx))
}

func (d *dataSet) read(ctx context.Context) (string, error) {
	v, err := d.open(ctx, false)
	if err != nil {
		return "", err
	}
	block := make([]byte, shadow.BlockSize)
	err = errors.Join(v.ReadAt(ctx, block, entryOffset), v.Close(ctx))
	text, _, _ := bytes.Cut(block, []byte{0})
	return string(text), err
}

// attackBlocks changes one bit of everything that the storage holds, a block at a time, and looks what the owner reads.
func (t *tour) attackBlocks(ctx context.Context, s *Step) error {
	raw, err := os.ReadFile(t.data.image)
	if err != nil {
		return err
	}
	tried, refused := 0, 0
	for off := 0; off < len(raw); off += shadow.BlockSize {
		block := raw[off : off+shadow.BlockSize]
		if !bytes.ContainsFunc(block, func(r rune) bool { return r != 0 }) {
			continue // a hole
		}
		tried++
		err = writeAt(t.data.image, []byte{block[100] ^ 1}, int64(off)+100)
		if err != nil {
			return err
		}
		got, readErr := t.data.read(ctx)
		err = writeAt(t.data.image, block[100:101], int64(off)+100)
		if err != nil {
			return err
		}
		switch {
		case readErr == nil && got != secondEntry:
			return fmt.Errorf("after a change at %d the owner reads %q", off, got)
		case errors.Is(readErr, shadow.ErrDamaged), errors.Is(readErr, shadow.ErrNoVolume), errors.Is(readErr, shadow.ErrRolledBack):
			refused++
		case readErr != nil:
			return fmt.Errorf("a change at %d was refused for another reason: %w", off, readErr)
		}
	}
	if refused == 0 {
		return errors.New("no change was refused")
	}
	s.add("attempts", "one bit in each of %d blocks that the storage holds", tried)
	s.add("refused", "%d: %v", refused, shadow.ErrDamaged)
	s.add("harmless", "%d: nothing refers to them any more, and the owner reads the truth", tried-refused)
	return nil
}

func writeAt(path string, b []byte, off int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, off)
	return errors.Join(err, f.Close())
}

// attackRollback puts the whole storage back to what it was before the last change, every byte of it genuine.
func (t *tour) attackRollback(ctx context.Context, s *Step) error {
	now, err := os.ReadFile(t.data.image)
	if err != nil {
		return err
	}
	err = writeAt(t.data.image, t.data.old, 0)
	if err != nil {
		return err
	}
	got, err := t.data.read(ctx)
	if err == nil {
		return fmt.Errorf("it was NOT refused: the owner reads %q", got)
	}
	if !errors.Is(err, shadow.ErrRolledBack) {
		return fmt.Errorf("it was refused for another reason: %w", err)
	}
	s.add("attempt", "the image as it was when it said %q", firstEntry)
	s.add("reason", "%v", err)
	err = writeAt(t.data.image, now, 0)
	if err != nil {
		return err
	}
	got, err = t.data.read(ctx)
	if err != nil || got != secondEntry {
		return fmt.Errorf("control: the owner reads %q: %w", got, err)
	}
	s.add("control", "the image as it should be: %s", got)
	return nil
}

// forgetData removes what the steps made.
func (t *tour) forgetData() {
	if t.data != nil {
		_ = os.RemoveAll(t.data.dir) // what is left lies below the state directory, and says nothing
		clear(t.data.secret)
		t.data = nil
	}
}
