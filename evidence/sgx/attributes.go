// SPDX-License-Identifier: Apache-2.0

package sgx

import (
	"encoding/binary"

	"cofferdam.dev/evidence/internal/fixed"
)

// Attributes are the attributes of an enclave. SDM, section "ATTRIBUTES".
type Attributes struct {
	// Flags are the properties of the enclave.
	Flags Flags
	// XFRM are the extended processor states that the enclave may use.
	XFRM XFRM
}

func (a Attributes) appendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(a.Flags))
	return binary.LittleEndian.AppendUint64(b, uint64(a.XFRM))
}

// Marshal encodes the attributes as the 16 bytes that reports and QE identities hold.
func (a Attributes) Marshal() [16]byte { return [16]byte(a.appendTo(nil)) }

// String returns both words in hexadecimal with the names of their set bits.
func (a Attributes) String() string { return "flags " + a.Flags.String() + ", XFRM " + a.XFRM.String() }

// Flags are the first eight bytes of Attributes. SDM, table "Layout of ATTRIBUTES Structure".
type Flags uint64

// Bits of Flags.
const (
	// FlagInit is set once the enclave is initialised; a report without it can not exist.
	FlagInit Flags = 1 << 0
	// FlagDebug lets the host read and write the enclave's memory.
	FlagDebug Flags = 1 << 1
	// FlagMode64 says that the enclave runs in 64-bit mode.
	FlagMode64 Flags = 1 << 2
	// FlagProvisionKey gives the enclave the provisioning key, which follows the machine's owner around.
	FlagProvisionKey Flags = 1 << 4
	// FlagEINITTokenKey gives the enclave the key that makes launch tokens.
	FlagEINITTokenKey Flags = 1 << 5
	// FlagCET enables control-flow enforcement.
	FlagCET Flags = 1 << 6
	// FlagKSS enables key separation and sharing: the extended IDs and the configuration of a report.
	FlagKSS Flags = 1 << 7
	// FlagAEXNotify lets the enclave be told of interruptions.
	FlagAEXNotify Flags = 1 << 10

	flagsKnown = FlagInit | FlagDebug | FlagMode64 | FlagProvisionKey | FlagEINITTokenKey | FlagCET | FlagKSS |
		FlagAEXNotify
)

var flagNames = fixed.Bits{
	0: "init", 1: "debug", 2: "mode64", 4: "provision-key", 5: "einittoken-key", 6: "cet", 7: "kss",
	10: "aex-notify",
}

// Has reports whether all the given bits are set.
func (f Flags) Has(bits Flags) bool { return f&bits == bits }

// Unknown returns the bits that this package does not know.
func (f Flags) Unknown() Flags { return f &^ flagsKnown }

// String returns the word in hexadecimal and the names of the set bits.
func (f Flags) String() string { return flagNames.Word(uint64(f)) }

// XFRM are the second eight bytes of Attributes: the value of XCR0 while the enclave runs. SDM, volume 1, section
// "XSAVE-Supported Features and State-Component Bitmaps".
type XFRM uint64

// xfrmKnown are the state components that XCR0 can name.
const xfrmKnown XFRM = 0xe02ff

var xfrmNames = fixed.Bits{
	0: "x87", 1: "sse", 2: "avx", 3: "mpx-bndregs", 4: "mpx-bndcsr", 5: "avx512-opmask",
	6: "avx512-zmm-hi256", 7: "avx512-hi16-zmm", 9: "pku", 17: "amx-tilecfg", 18: "amx-tiledata", 19: "apx",
}

// Unknown returns the bits that this package does not know.
func (x XFRM) Unknown() XFRM { return x &^ xfrmKnown }

// String returns the word in hexadecimal and the names of the set bits.
func (x XFRM) String() string { return xfrmNames.Word(uint64(x)) }

// MiscSelect says which extra information the processor saves when an enclave is interrupted. SDM, section "MISCSELECT".
type MiscSelect uint32

// Bits of MiscSelect.
const (
	// MiscEXINFO saves information about page faults and general protection faults.
	MiscEXINFO MiscSelect = 1 << 0
	// MiscCPINFO saves information about control protection faults.
	MiscCPINFO MiscSelect = 1 << 1
)

var miscNames = fixed.Bits{0: "exinfo", 1: "cpinfo"}

// Unknown returns the bits that this package does not know.
func (m MiscSelect) Unknown() MiscSelect { return m &^ (MiscEXINFO | MiscCPINFO) }

// String returns the word in hexadecimal and the names of the set bits.
func (m MiscSelect) String() string { return miscNames.Word(uint64(m)) }
