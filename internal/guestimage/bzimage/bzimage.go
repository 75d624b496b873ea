// SPDX-License-Identifier: Apache-2.0

// Package bzimage takes the uncompressed kernel out of a compressed one.
//
// A bzImage is the x86 boot sector and set-up code followed by a loader that unpacks the kernel proper. With an
// emulated processor the unpacking is a third of the boot time, so the simulated platform boots the unpacked ELF file
// through its PVH entry instead. Hardware platforms boot the bzImage as it is, because their firmware measures that.
//
// The layout is "The Linux/x86 Boot Protocol" (Documentation/arch/x86/boot.rst in the kernel's sources), version 2.08
// and later. The input comes from a package whose hash was checked; the parser bounds everything regardless and never
// reads outside the file or writes more than MaxKernel bytes.
package bzimage

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// MaxKernel bounds the size of the unpacked kernel.
const MaxKernel = 256 << 20

// ErrFormat is wrapped by every error about a kernel's form.
var ErrFormat = errors.New("kernel image is malformed")

// Offsets of the set-up header's fields.
const (
	offSetupSects    = 0x1f1
	offBootFlag      = 0x1fe
	offMagic         = 0x202
	offVersion       = 0x206
	offPayloadOffset = 0x248
	offPayloadLength = 0x24c
	headerEnd        = 0x268

	sector         = 512
	bootFlag       = 0xaa55
	minVersion     = 0x0208
	zstdMagic      = 0xfd2fb528
	sizeTrailerLen = 4 // the build appends the unpacked size, little-endian, to the compressed stream
)

// Payload returns the compressed kernel inside a bzImage, without the size that follows it, and that size.
func Payload(image []byte) (stream []byte, size uint32, err error) {
	if len(image) < headerEnd {
		return nil, 0, fmt.Errorf("%w: %d bytes are less than the header of %d", ErrFormat, len(image), headerEnd)
	}
	le := binary.LittleEndian
	if le.Uint16(image[offBootFlag:]) != bootFlag || string(image[offMagic:offMagic+4]) != "HdrS" {
		return nil, 0, fmt.Errorf("%w: no boot flag or header magic", ErrFormat)
	}
	if v := le.Uint16(image[offVersion:]); v < minVersion {
		return nil, 0, fmt.Errorf("%w: boot protocol %#04x, want %#04x or later", ErrFormat, v, minVersion)
	}
	sects := uint64(image[offSetupSects])
	if sects == 0 {
		sects = 4 // the protocol's rule for images that do not say
	}
	start := (sects+1)*sector + uint64(le.Uint32(image[offPayloadOffset:]))
	length := uint64(le.Uint32(image[offPayloadLength:]))
	if length <= sizeTrailerLen || start+length > uint64(len(image)) {
		return nil, 0, fmt.Errorf("%w: payload of %d bytes at %d in a file of %d", ErrFormat, length, start, len(image))
	}
	payload := image[start : start+length]
	stream, tail := payload[:length-sizeTrailerLen], payload[length-sizeTrailerLen:]
	return stream, le.Uint32(tail), nil
}

// ELF returns the kernel inside a bzImage that is compressed with zstd, as Debian's are, and checks that it is an
// ELF file for this architecture.
func ELF(image []byte) ([]byte, error) {
	stream, size, err := Payload(image)
	if err != nil {
		return nil, err
	}
	if len(stream) < 4 || binary.LittleEndian.Uint32(stream) != zstdMagic {
		return nil, fmt.Errorf("%w: payload is not compressed with zstd", ErrFormat)
	}
	if size > MaxKernel {
		return nil, fmt.Errorf("%w: unpacked size is %d, at most %d allowed", ErrFormat, size, MaxKernel)
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(MaxKernel), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("starting zstd decoder: %w", err)
	}
	defer decoder.Close()
	kernel, err := decoder.DecodeAll(stream, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: unpacking payload: %w", ErrFormat, err)
	}
	if uint64(len(kernel)) != uint64(size) {
		return nil, fmt.Errorf("%w: payload unpacks to %d bytes, its trailer says %d", ErrFormat, len(kernel), size)
	}
	if err := checkELF(kernel); err != nil {
		return nil, err
	}
	return kernel, nil
}

// checkELF also looks for the note that tells the loader the PVH entry point (Xen's type 18), without which QEMU
// can not boot the file.
func checkELF(kernel []byte) error {
	f, err := elf.NewFile(bytes.NewReader(kernel))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if f.Machine != elf.EM_X86_64 || f.Type != elf.ET_EXEC {
		return fmt.Errorf("%w: ELF file is %v for %v", ErrFormat, f.Type, f.Machine)
	}
	note := []byte("\x04\x00\x00\x00\x08\x00\x00\x00\x12\x00\x00\x00Xen\x00")
	short := []byte("\x04\x00\x00\x00\x04\x00\x00\x00\x12\x00\x00\x00Xen\x00")
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE || p.Off+p.Filesz > uint64(len(kernel)) || p.Off+p.Filesz < p.Off {
			continue
		}
		notes := kernel[p.Off : p.Off+p.Filesz]
		if bytes.Contains(notes, note) || bytes.Contains(notes, short) {
			return nil
		}
	}
	return fmt.Errorf("%w: ELF file has no PVH entry", ErrFormat)
}
