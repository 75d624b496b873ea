// SPDX-License-Identifier: Apache-2.0

package bzimage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"

	"cofferdam.dev/internal/testcap"
)

// elfWithNote is a minimal ELF executable with one note segment.
func elfWithNote(note []byte) []byte {
	le := binary.LittleEndian
	b := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	b = le.AppendUint16(b, 2)        // ET_EXEC
	b = le.AppendUint16(b, 62)       // EM_X86_64
	b = le.AppendUint32(b, 1)        // EV_CURRENT
	b = le.AppendUint64(b, 0x100000) // entry
	b = le.AppendUint64(b, 64)       // program headers
	b = le.AppendUint64(b, 0)        // section headers
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 56, 1, 0, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, 4) // PT_NOTE
	b = le.AppendUint32(b, 4)
	for _, v := range []uint64{120, 0, 0, uint64(len(note)), uint64(len(note)), 4} {
		b = le.AppendUint64(b, v)
	}
	return append(b, note...)
}

// pvhNote is Xen's note of type 18 with a 64-bit entry.
var pvhNote = []byte("\x04\x00\x00\x00\x08\x00\x00\x00\x12\x00\x00\x00Xen\x00\x00\x00\x10\x00\x00\x00\x00\x00")

func image(t testing.TB, kernel []byte, size int) []byte {
	t.Helper()
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	payload := binary.LittleEndian.AppendUint32(encoder.EncodeAll(kernel, nil), uint32(size))
	b := make([]byte, 2*sector)
	le := binary.LittleEndian
	b[offSetupSects] = 1
	le.PutUint16(b[offBootFlag:], bootFlag)
	copy(b[offMagic:], "HdrS")
	le.PutUint16(b[offVersion:], 0x020f)
	le.PutUint32(b[offPayloadOffset:], 16)
	le.PutUint32(b[offPayloadLength:], uint32(len(payload)))
	return append(append(b, make([]byte, 16)...), payload...)
}

func TestELF(t *testing.T) {
	t.Parallel()
	kernel := elfWithNote(pvhNote)
	got, err := ELF(append(image(t, kernel, len(kernel)), "what the loader appends"...))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, kernel) {
		t.Errorf("unpacked %d bytes that are not the kernel's", len(got))
	}
}

func TestELFRefuses(t *testing.T) {
	t.Parallel()
	kernel := elfWithNote(pvhNote)
	good := image(t, kernel, len(kernel))
	le := binary.LittleEndian
	edit := func(f func(b []byte)) []byte { b := bytes.Clone(good); f(b); return b }
	other := bytes.Clone(kernel)
	other[18] = 183 // another machine
	for name, b := range map[string][]byte{
		"empty":                nil,
		"header cut":           good[:headerEnd-1],
		"payload cut":          good[:len(good)-1],
		"no boot flag":         edit(func(b []byte) { b[offBootFlag] = 0 }),
		"no magic":             edit(func(b []byte) { b[offMagic] = 'h' }),
		"old protocol":         edit(func(b []byte) { le.PutUint16(b[offVersion:], 0x0207) }),
		"payload past the end": edit(func(b []byte) { le.PutUint32(b[offPayloadOffset:], 1<<32-1) }),
		"length past the end":  edit(func(b []byte) { le.PutUint32(b[offPayloadLength:], 1<<32-1) }),
		"no length":            edit(func(b []byte) { le.PutUint32(b[offPayloadLength:], 4) }),
		"zero set-up sectors":  edit(func(b []byte) { b[offSetupSects] = 0 }),
		"not zstd":             edit(func(b []byte) { b[2*sector+16] = 0 }),
		"damaged stream":       edit(func(b []byte) { b[2*sector+30] ^= 0xff }),
		"false size":           image(t, kernel, len(kernel)+1),
		"immense size":         image(t, kernel, MaxKernel+1),
		"not ELF":              image(t, []byte("kernel"), 6),
		"other machine":        image(t, other, len(other)),
		"no PVH entry":         image(t, elfWithNote(pvhNote[:8]), len(kernel)-len(pvhNote)+8),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := ELF(b); !errors.Is(err, ErrFormat) {
				t.Errorf("got %v, want ErrFormat", err)
			}
		})
	}
}

// TestRealKernel unpacks the kernel of the built guest image, which boots.
func TestRealKernel(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.GuestImage)
	dir := filepath.Join(testcap.Dir(), "home", "guest", "current")
	packed, err := os.ReadFile(filepath.Join(dir, "vmlinuz"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(dir, "vmlinux"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := ELF(packed)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("unpacked kernel is not the image's")
	}
}

func FuzzELF(f *testing.F) {
	kernel := elfWithNote(pvhNote)
	good := image(f, kernel, len(kernel))
	f.Add(good)
	f.Add(good[:headerEnd])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ELF(b)
		if err == nil && !bytes.HasPrefix(got, []byte("\x7fELF")) {
			t.Error("accepted something that is not ELF")
		}
	})
}
