// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"cofferdam.dev/internal/volume/attach"
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/descriptor"
	"cofferdam.dev/internal/volume/fusefile"
	"cofferdam.dev/internal/volume/mapped"
	"cofferdam.dev/internal/volume/mount"
)

// dataSize is the size of the data in bytes: little, for an emulated machine.
const dataSize = 16 << 20

// place is a directory in memory.
const place = "/data"

// secret opens the volumes.
var secret = bytes.Repeat([]byte("not a secret ..."), 2)

// open makes the data, brings it into each format, and opens it in each way.
func open(ctx context.Context) (map[string]*way, error) {
	b := &builder{ways: map[string]*way{}}
	data := make([]byte, dataSize)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data) // never fails
	plain := filepath.Join(place, "plain")
	err := errors.Join(mount.Nodes(), os.WriteFile(plain, data, 0o600))
	if err != nil {
		return nil, err
	}
	src, err := blob.OpenFile(plain, false)
	if err != nil {
		return nil, err
	}
	_, err = b.device("plain", passed{src})
	for _, kind := range []descriptor.Kind{descriptor.Shadow, descriptor.LUKS2} {
		if err == nil {
			err = b.written(ctx, kind, data)
		}
	}
	if err == nil {
		err = b.sealed(ctx, data)
	}
	if err != nil {
		return nil, err
	}
	return b.ways, nil
}

type builder struct{ ways map[string]*way }

// device shows a device through FUSE, puts a loop device on it, and makes a way of that. It returns the number of the loop device.
func (b *builder) device(name string, d fusefile.Device) (string, error) {
	dir, err := os.MkdirTemp(place, "shown-")
	if err != nil {
		return "", err
	}
	m, err := fusefile.Serve(dir, d, fusefile.Options{})
	if err != nil {
		return "", err
	}
	device, number, err := loop(m.Path())
	b.ways[name] = &way{device, m.Path()}
	return number, err
}

// passed is a file as it is.
type passed struct{ f *blob.File }

func (p passed) Size() int64  { return p.f.Size() }
func (passed) BlockSize() int { return 4096 }
func (p passed) ReadAt(ctx context.Context, b []byte, off int64) error {
	_, err := p.f.ReadAt(ctx, b, off)
	return err
}
func (passed) WriteAt(context.Context, []byte, int64) error { return attach.ErrReadOnly }
func (passed) Flush(context.Context) error                  { return nil }

// written has the data in a volume that can be written.
func (b *builder) written(ctx context.Context, kind descriptor.Kind, data []byte) error {
	file := filepath.Join(place, string(kind))
	n := attach.New{
		Kind: kind, Size: dataSize, Anchor: descriptor.Anchor{Kind: descriptor.NoAnchor}, Now: time.Now(),
		Openers: []attach.Opener{{Slot: descriptor.Slot{Kind: descriptor.FileSlot}, Secret: secret}},
	}
	size, err := n.ImageSize()
	if err == nil {
		err = errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, size))
	}
	if err != nil {
		return err
	}
	d, key, err := attach.Create(ctx, file, n)
	if err != nil {
		return err
	}
	v, err := attached(ctx, file, attach.Options{Descriptor: d, Key: key, Write: true})
	if err != nil {
		return err
	}
	err = v.WriteAt(ctx, data, 0)
	err = errors.Join(err, v.Close(ctx))
	if err != nil {
		return err
	}
	return b.both(ctx, file, attach.Options{Descriptor: d, Key: key})
}

// both are the ways through our own code and, if it can open the volume, through the kernel's.
func (b *builder) both(ctx context.Context, file string, o attach.Options) error {
	v, err := attached(ctx, file, o)
	if err != nil {
		return err
	}
	name := string(o.Descriptor.Kind)
	_, err = b.device(name+"-ours", v)
	k := v.Kernel()
	if err != nil || k == nil {
		return err
	}
	defer k.Destroy()
	number, err := b.device(name+"-kernel", k.Below)
	if err != nil {
		return err
	}
	d, err := mapped.Open(ctx, k.Plan, number, false)
	if err != nil {
		return err
	}
	b.ways[name+"-kernel"].device = d.Path()
	return nil
}

func attached(ctx context.Context, file string, o attach.Options) (*attach.Volume, error) {
	src, err := blob.OpenFile(file, o.Write)
	if err != nil {
		return nil, err
	}
	return attach.Open(ctx, src, o)
}

// sealed has the data in a sealed volume. What is read of it is the data's file and some blocks of its filesystem.
func (b *builder) sealed(ctx context.Context, data []byte) error {
	dir, file := filepath.Join(place, "tree"), filepath.Join(place, "sealed")
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "data"), data, 0o600)
	}
	if err != nil {
		return err
	}
	openers := []attach.Opener{{Slot: descriptor.Slot{Kind: descriptor.FileSlot}, Secret: secret}}
	d, err := attach.Seal(ctx, dir, file, openers, time.Now(), nil)
	if err != nil {
		return err
	}
	key, err := d.Open(secret, func(*descriptor.Slot) bool { return true })
	if err != nil {
		return err
	}
	return b.both(ctx, file, attach.Options{Descriptor: d, Key: key})
}
