// SPDX-License-Identifier: Apache-2.0

package measure

import "encoding/binary"

// VMM is the virtual machine monitor that sets up the virtual processors; each differs in what it leaves in registers.
type VMM string

// The monitors.
const (
	QEMU VMM = "qemu"
	EC2  VMM = "ec2"
	GCE  VMM = "gce"
)

const (
	// resetVector is where the first processor starts.
	resetVector = 0xfffffff0
	// patAfterReset is the reset value of the page attribute table. AMD64 manual volume 2, section 7.8.
	patAfterReset = 0x0007040600070406
)

// registers are what differs between monitors in a virtual processor's initial state.
type registers struct {
	csAttr, ssAttr, trAttr uint16
	rdx                    uint64
	mxcsr                  uint32
	fcw                    uint16
	pat                    uint64
}

func (v VMM) registers(eip, signature uint32) (registers, bool) {
	switch v {
	case QEMU:
		return registers{csAttr: 0x9b, ssAttr: 0x93, trAttr: 0x8b, rdx: uint64(signature), mxcsr: 0x1f80, fcw: 0x37f,
			pat: patAfterReset}, true
	case EC2:
		r := registers{csAttr: 0x9b, ssAttr: 0x92, trAttr: 0x83, rdx: 0x600, pat: patAfterReset}
		if eip == resetVector {
			r.csAttr = 0x9a
		}
		return r, true
	case GCE:
		return registers{csAttr: 0x9b, ssAttr: 0x93, trAttr: 0x8b, rdx: 0x600, pat: 0x00070106}, true
	}
	return registers{}, false
}

// vmsa builds the save area of a virtual processor after reset. AMD64 manual volume 2, appendix B, table "VMSA layout,
// state save area for SEV-ES".
func (r registers) vmsa(eip uint32, features uint64) []byte {
	le := binary.LittleEndian
	b := make([]byte, pageSize)
	segment := func(off int, selector, attr uint16, base uint64) {
		le.PutUint16(b[off:], selector)
		le.PutUint16(b[off+2:], attr)
		le.PutUint32(b[off+4:], 0xffff)
		le.PutUint64(b[off+8:], base)
	}
	segment(0x00, 0, 0x93, 0)                            // ES
	segment(0x10, 0xf000, r.csAttr, uint64(eip&^0xffff)) // CS
	segment(0x20, 0, r.ssAttr, 0)                        // SS
	segment(0x30, 0, 0x93, 0)                            // DS
	segment(0x40, 0, 0x93, 0)                            // FS
	segment(0x50, 0, 0x93, 0)                            // GS
	segment(0x60, 0, 0, 0)                               // GDTR
	segment(0x70, 0, 0x82, 0)                            // LDTR
	segment(0x80, 0, 0, 0)                               // IDTR
	segment(0x90, 0, r.trAttr, 0)                        // TR
	le.PutUint64(b[0xd0:], 0x1000)                       // EFER: SVME
	le.PutUint64(b[0x148:], 0x40)                        // CR4: MCE
	le.PutUint64(b[0x158:], 0x10)                        // CR0: ET
	le.PutUint64(b[0x160:], 0x400)                       // DR7
	le.PutUint64(b[0x168:], 0xffff0ff0)                  // DR6
	le.PutUint64(b[0x170:], 0x2)                         // RFLAGS
	le.PutUint64(b[0x178:], uint64(eip&0xffff))          // RIP
	le.PutUint64(b[0x268:], r.pat)                       // G_PAT
	le.PutUint64(b[0x310:], r.rdx)                       // RDX
	le.PutUint64(b[0x3b0:], features)                    // SEV_FEATURES
	le.PutUint64(b[0x3e8:], 0x1)                         // XCR0
	le.PutUint32(b[0x408:], r.mxcsr)                     // MXCSR
	le.PutUint16(b[0x410:], r.fcw)                       // x87 control word
	return b
}
