// SPDX-License-Identifier: Apache-2.0

package devmapper

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Sizes and limits of struct dm_ioctl and struct dm_target_spec.
const (
	headerSize  = 312 // sizeof(struct dm_ioctl), with its padding
	answerSize  = 305 // offsetof(struct dm_ioctl, data): what the kernel says when it has no data
	specSize    = 40  // sizeof(struct dm_target_spec)
	alignment   = 8   // of each spec
	maxName     = 64  // ours; the kernel's DM_NAME_LEN is 128 with the NUL
	maxType     = 15  // DM_MAX_TYPE_NAME is 16 with the NUL
	maxParams   = 4096
	maxTargets  = 16
	answerSpace = 16 << 10 // room for the status of maxTargets targets
)

// Offsets in struct dm_ioctl.
const (
	offVersion     = 0
	offDataSize    = 12
	offDataStart   = 16
	offTargetCount = 20
	offFlags       = 28
	offDev         = 40
	offName        = 48
	lenName        = 128
)

// command is the number of an ioctl of the device-mapper control device.
type command uint32

const (
	cmdDevCreate   command = 3
	cmdDevRemove   command = 4
	cmdDevSuspend  command = 6 // resumes: DM_SUSPEND_FLAG is never set
	cmdTableLoad   command = 9
	cmdTableStatus command = 12
)

// request is the number to pass to ioctl(2): _IOWR(0xfd, command, struct dm_ioctl).
func (c command) request() uintptr {
	return uintptr(3<<30 | headerSize<<16 | 0xfd<<8 | uint32(c))
}

// Flags of struct dm_ioctl.
const (
	flagReadOnly       = 1 << 0
	flagStatusTable    = 1 << 4
	flagActivePresent  = 1 << 5
	flagBufferFull     = 1 << 8
	flagSecureData     = 1 << 15
	flagDeferredRemove = 1 << 17
)

// errAnswer says that the kernel's answer has not the form that its header file defines.
var errAnswer = errors.New("the kernel's device-mapper answer is malformed")

// Target is one line of a device's table: a range of the device and what serves it.
type Target struct {
	// Start and Sectors are the range in units of 512 bytes.
	Start, Sectors uint64
	// Type is the name of the target's kind, such as "verity".
	Type string
	// Params are the target's parameters, in the kind's own syntax.
	Params []byte
}

// encode lays out a request. space is how many bytes the kernel may use for its answer; the targets' own size counts
// when that is larger.
func encode(name string, flags uint32, targets []Target, space int) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if len(targets) > maxTargets {
		return nil, fmt.Errorf("table has %d targets, at most %d are supported", len(targets), maxTargets)
	}
	size := headerSize
	for _, t := range targets {
		if err := t.check(); err != nil {
			return nil, err
		}
		size += t.encodedSize()
	}
	buf := make([]byte, max(size, headerSize+space))
	ne := binary.NativeEndian
	ne.PutUint32(buf[offVersion:], 4) // minor and patch level 0: the oldest interface that has all we use
	ne.PutUint32(buf[offDataSize:], uint32(len(buf)))
	ne.PutUint32(buf[offDataStart:], headerSize)
	ne.PutUint32(buf[offTargetCount:], uint32(len(targets)))
	ne.PutUint32(buf[offFlags:], flags)
	copy(buf[offName:offName+lenName-1], name)
	at := headerSize
	for _, t := range targets {
		n := t.encodedSize()
		t.put(buf[at:at+n], n)
		at += n
	}
	return buf, nil
}

func (t Target) check() error {
	if t.Sectors == 0 || t.Start+t.Sectors < t.Start {
		return fmt.Errorf("target %q has the range %d+%d", t.Type, t.Start, t.Sectors)
	}
	if t.Type == "" || len(t.Type) > maxType {
		return fmt.Errorf("target type %q is not 1 to %d bytes long", t.Type, maxType)
	}
	if len(t.Params) > maxParams || bytes.IndexByte(t.Params, 0) >= 0 {
		return fmt.Errorf("parameters of target %q are longer than %d bytes or hold a NUL", t.Type, maxParams)
	}
	return nil
}

// encodedSize is the size of the spec, the parameters and their NUL, rounded up to the alignment that the kernel asks.
func (t Target) encodedSize() int { return (specSize + len(t.Params) + alignment) &^ (alignment - 1) }

func (t Target) put(b []byte, next int) {
	ne := binary.NativeEndian
	ne.PutUint64(b[0:], t.Start)
	ne.PutUint64(b[8:], t.Sectors)
	ne.PutUint32(b[20:], uint32(next)) // on loading: bytes from this spec to the next
	copy(b[24:24+maxType], t.Type)
	copy(b[specSize:], t.Params)
}

// answer is what a request's header says after the kernel filled it in.
type answer struct {
	flags        uint32
	targetCount  uint32
	major, minor uint32
	data         []byte
}

func decode(buf []byte) (answer, error) {
	if len(buf) < headerSize {
		return answer{}, fmt.Errorf("%w: %d bytes, the header has %d", errAnswer, len(buf), headerSize)
	}
	ne := binary.NativeEndian
	if v := ne.Uint32(buf[offVersion:]); v != 4 {
		return answer{}, fmt.Errorf("%w: interface version %d, want 4", errAnswer, v)
	}
	start, size := uint64(ne.Uint32(buf[offDataStart:])), uint64(ne.Uint32(buf[offDataSize:]))
	if size > uint64(len(buf)) || size < answerSize {
		return answer{}, fmt.Errorf("%w: data size %d in a buffer of %d", errAnswer, size, len(buf))
	}
	a := answer{flags: ne.Uint32(buf[offFlags:]), targetCount: ne.Uint32(buf[offTargetCount:])}
	a.major, a.minor = splitDev(ne.Uint64(buf[offDev:]))
	if start >= headerSize && start <= size {
		a.data = buf[start:size]
	}
	return a, nil
}

// splitDev undoes the kernel's huge_encode_dev.
func splitDev(dev uint64) (major, minor uint32) {
	return uint32(dev>>8) & 0xfff, uint32(dev&0xff) | uint32(dev>>12)&^0xff
}

// decodeTargets reads the specs of a table status. There, unlike on loading, "next" counts from the start of the data.
func decodeTargets(a answer) ([]Target, error) {
	if a.flags&flagBufferFull != 0 {
		return nil, fmt.Errorf("%w: status does not fit into %d bytes", errAnswer, answerSpace)
	}
	if a.targetCount > maxTargets {
		return nil, fmt.Errorf("%w: %d targets, at most %d are supported", errAnswer, a.targetCount, maxTargets)
	}
	ne := binary.NativeEndian
	var targets []Target
	at := uint64(0)
	for i := range a.targetCount {
		if at+specSize > uint64(len(a.data)) {
			return nil, fmt.Errorf("%w: target %d begins at %d of %d", errAnswer, i, at, len(a.data))
		}
		b := a.data[at:]
		next := uint64(ne.Uint32(b[20:]))
		// The last "next" is rounded up to alignment, and may lie behind the data that the kernel counts.
		end := min(next, uint64(len(a.data)))
		if end < at+specSize || next-end >= alignment || next%alignment != 0 {
			return nil, fmt.Errorf("%w: target %d ends at %d of %d", errAnswer, i, next, len(a.data))
		}
		kind, _, _ := bytes.Cut(b[24:24+maxType+1], []byte{0})
		params, _, _ := bytes.Cut(a.data[at+specSize:end], []byte{0})
		targets = append(targets, Target{
			Start: ne.Uint64(b[0:]), Sectors: ne.Uint64(b[8:]), Type: string(kind), Params: bytes.Clone(params),
		})
		at = next
	}
	return targets, nil
}

// checkName allows names that need no escaping anywhere.
func checkName(name string) error {
	if name == "" || len(name) > maxName || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("device name %q is not 1 to %d characters of [a-z0-9-]", name, maxName)
	}
	return nil
}
