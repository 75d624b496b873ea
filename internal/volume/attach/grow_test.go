// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"bytes"
	"context"
	"errors"
	"os"
	"syscall"
	"testing"

	"cofferdam.dev/internal/volume/descriptor"
	"cofferdam.dev/internal/volume/shadow"
)

// TestGrow grows volumes: what was there is there, also for whoever has the descriptor from before.
func TestGrow(t *testing.T) {
	t.Parallel()
	for name, anchored := range map[string]bool{"anchored": true, "unanchored": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOwner(t, descriptor.Shadow, anchored)
			o.write(t, 9)
			text, err := o.d.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			was := o.d.Size
			for _, size := range []int64{was + 4096, 8 * was} {
				if err := Grow(t.Context(), o.path, size, o.options()); err != nil {
					t.Fatal(err)
				}
				v, err := o.open(t, true, nil)
				if err != nil {
					t.Fatal(err)
				}
				if v.Size() != size || v.Facts.Size != size || o.d.Size != size {
					t.Errorf("%d bytes, facts %+v, want %d", v.Size(), v.Facts, size)
				}
				end := bytes.Repeat([]byte{5}, 4096)
				if err := errors.Join(v.WriteAt(t.Context(), end, size-4096), v.Close(t.Context())); err != nil {
					t.Fatal(err)
				}
				if got := o.read(t); got != 9 {
					t.Errorf("read %d", got)
				}
			}
			now := o.d
			if o.d, err = descriptor.Parse(text); err != nil {
				t.Fatal(err)
			}
			v, err := o.open(t, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			if v.Size() != 8*was || len(v.Facts.Warnings) == 0 {
				t.Errorf("with the old descriptor: %d bytes, facts %+v", v.Size(), v.Facts)
			}
			if err := v.Close(t.Context()); err != nil {
				t.Error(err)
			}
			o.d = now
			if err := Grow(t.Context(), o.path, was, o.options()); !errors.Is(err, shadow.ErrRange) {
				t.Errorf("it shrinks: %v", err)
			}
			bad := o.options()
			if bad.Key, err = descriptor.GenerateKey(32); err != nil {
				t.Fatal(err)
			}
			if err := Grow(t.Context(), o.path, 9*was, bad); !errors.Is(err, descriptor.ErrChanged) {
				t.Errorf("with another key: %v", err)
			}
		})
	}
	o := newOwner(t, descriptor.LUKS2, false)
	if err := Grow(t.Context(), o.path, 2*o.d.Size, o.options()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a LUKS2 volume: %v", err)
	}
}

func (o *owner) options() Options {
	opts := Options{Descriptor: o.d, Key: o.key}
	if o.records != nil {
		opts.Anchor = o.records
	}
	return opts
}

// TestDiscardGivesRoomBack looks at the room that the file takes.
func TestDiscardGivesRoomBack(t *testing.T) {
	t.Parallel()
	o := newOwner(t, descriptor.Shadow, false)
	room := func() int64 {
		t.Helper()
		info, err := os.Stat(o.path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Blocks * 512
	}
	v, err := o.open(t, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := bytes.Repeat([]byte{1}, int(v.Size()))
	if err := errors.Join(v.WriteAt(t.Context(), all, 0), v.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
	full := room()
	d, ok := v.Device.(discarder)
	if !ok {
		t.Fatal("the device discards nothing")
	}
	if err := errors.Join(d.Discard(t.Context(), v.Size(), 0), v.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	if got := room(); got > full/2 {
		// Some filesystems have no holes.
		f, err := os.OpenFile(o.path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		err = errors.Join(syscall.Fallocate(int(f.Fd()), 3, 0, 4096), f.Close())
		if !errors.Is(err, syscall.EOPNOTSUPP) {
			t.Errorf("it takes %d bytes, %d when it was full (%v)", got, full, err)
		}
	}
}

type discarder interface {
	Discard(ctx context.Context, length, off int64) error
}
