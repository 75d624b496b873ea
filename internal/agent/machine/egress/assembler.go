// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"encoding/binary"
	"fmt"
	"math"
)

// insnSize is the size of an instruction (struct bpf_insn).
const insnSize = 8

// The instructions that are used: class, size or source, and operation in one byte (linux/bpf.h, RFC 9669).
const (
	opLoadByte  = 0x71 // dst = *(u8 *)(src + off), zero-extended; and so on
	opLoadHalf  = 0x69
	opLoadWord  = 0x61
	opLoadLong  = 0x79
	opStoreHalf = 0x6b
	opStoreWord = 0x63
	opStoreLong = 0x7b
	opSetWord   = 0x62 // *(u32 *)(dst + off) = imm
	opSetLong   = 0x7a
	opMove      = 0xbf // dst = src, 64 bits
	opMoveImm   = 0xb7
	opAddImm    = 0x07
	opSubtract  = 0x1f
	opShiftImm  = 0x77 // dst >>= imm, unsigned
	opAndImm    = 0x54 // 32 bits; clears the upper ones
	opIfEqual   = 0x16 // 32 bits
	opIfNot     = 0x56 // likewise
	opIfBits    = 0x46 // dst & imm, likewise
	opIfEqual64 = 0x15 // 64 bits
	opIfGreater = 0x25 // likewise, unsigned
	opJump      = 0x05
	opCall      = 0x85
	opExit      = 0x95
	opMap       = 0x18 // dst = the map of a descriptor; two instructions long
	sourceMap   = 1
)

// The registers: r0 has results, r1 to r5 are arguments and lost in a call, the rest is kept. r10 is the end of the stack.
const (
	r0 = iota
	r1
	r2
	r3
	r4
	r5
	r6
	r7
	r8
	r9
	stack
)

// assembler writes a program. Jumps name labels that are set before or after them.
type assembler struct {
	code   []byte
	labels map[string]int // instruction by label
	jumps  map[int]string // label by instruction
	fresh  int
}

func newAssembler() *assembler {
	return &assembler{labels: map[string]int{}, jumps: map[int]string{}}
}

func (a *assembler) emit(op byte, dst, src int, off int16, imm uint32) {
	a.code = append(a.code, op, byte(dst|src<<4)) // as little-endian machines have it
	a.code = binary.NativeEndian.AppendUint16(a.code, uint16(off))
	a.code = binary.NativeEndian.AppendUint32(a.code, imm)
}

func (a *assembler) next() int { return len(a.code) / insnSize }

// jump adds a jump to a label, under the condition of op.
func (a *assembler) jump(op byte, dst int, imm uint32, label string) {
	a.jumps[a.next()] = label
	a.emit(op, dst, 0, 0, imm)
}

// label names the next instruction.
func (a *assembler) label(name string) { a.labels[name] = a.next() }

// unique makes a label that is used once.
func (a *assembler) unique() string {
	a.fresh++
	return fmt.Sprintf("#%d", a.fresh)
}

// finish resolves the jumps.
func (a *assembler) finish() ([]byte, error) {
	for at, name := range a.jumps {
		to, ok := a.labels[name]
		off := to - at - 1
		if !ok || off < 0 || off > math.MaxInt16 {
			return nil, fmt.Errorf("jump at %d to %q is over %d instructions", at, name, off)
		}
		binary.NativeEndian.PutUint16(a.code[at*insnSize+2:], uint16(off))
	}
	return a.code, nil
}
