// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"fmt"

	"cofferdam.dev/evidence/internal/fixed"
)

// GuestPolicy is the policy word that the host gives at launch and that every report carries. SNP ABI, section "Guest
// Policy".
type GuestPolicy uint64

// Bits of GuestPolicy above the two ABI version bytes.
const (
	// PolicySMT allows the guest on a machine with simultaneous multithreading.
	PolicySMT GuestPolicy = 1 << 16
	// PolicyReservedOne must be set in every policy.
	PolicyReservedOne GuestPolicy = 1 << 17
	// PolicyMigrateMA allows a migration agent.
	PolicyMigrateMA GuestPolicy = 1 << 18
	// PolicyDebug allows the host to decrypt the guest's memory.
	PolicyDebug GuestPolicy = 1 << 19
	// PolicySingleSocket restricts the guest to one socket.
	PolicySingleSocket GuestPolicy = 1 << 20
	// PolicyCXL allows CXL devices and memory.
	PolicyCXL GuestPolicy = 1 << 21
	// PolicyAES256XTS requires AES-256-XTS memory encryption.
	PolicyAES256XTS GuestPolicy = 1 << 22
	// PolicyRAPLDisabled requires running average power limit readings to be off.
	PolicyRAPLDisabled GuestPolicy = 1 << 23
	// PolicyCiphertextHiding requires ciphertext hiding.
	PolicyCiphertextHiding GuestPolicy = 1 << 24
	// PolicyPageSwapDisabled refuses page swapping by the host.
	PolicyPageSwapDisabled GuestPolicy = 1 << 25

	policyKnown = PolicySMT | PolicyReservedOne | PolicyMigrateMA | PolicyDebug | PolicySingleSocket | PolicyCXL |
		PolicyAES256XTS | PolicyRAPLDisabled | PolicyCiphertextHiding | PolicyPageSwapDisabled | policyABI

	// policyABI are the bits of the ABI version.
	policyABI GuestPolicy = 0xffff
)

// DefaultGuestPolicy is ABI 0.31 at least, multithreading allowed, everything optional refused. It is the policy that
// Azure container groups use.
const DefaultGuestPolicy = PolicyReservedOne | PolicySMT | 0x1f

var policyNames = fixed.Bits{
	16: "smt", 17: "reserved-one", 18: "migrate-ma", 19: "debug", 20: "single-socket", 21: "cxl",
	22: "aes-256-xts", 23: "rapl-disabled", 24: "ciphertext-hiding", 25: "page-swap-disabled",
}

// ABIMajor is the major part of the lowest firmware ABI version that the guest accepts.
func (p GuestPolicy) ABIMajor() uint8 { return uint8(p >> 8 & 0xff) }

// ABIMinor is the minor part of the lowest firmware ABI version that the guest accepts.
func (p GuestPolicy) ABIMinor() uint8 { return uint8(p & 0xff) }

// Has reports whether all the given bits are set.
func (p GuestPolicy) Has(bits GuestPolicy) bool { return p&bits == bits }

// Unknown returns the bits that the ABI known to this package does not define.
func (p GuestPolicy) Unknown() GuestPolicy { return p &^ policyKnown }

// String returns the word in hexadecimal, the ABI version, and the names of the set bits.
func (p GuestPolicy) String() string {
	s := fmt.Sprintf("%#x (ABI %d.%d", uint64(p), p.ABIMajor(), p.ABIMinor())
	if p&^policyABI != 0 {
		s += ", " + p.Names()
	}
	return s + ")"
}

// Names lists the names of the set flags, without the ABI version.
func (p GuestPolicy) Names() string { return policyNames.Names(uint64(p &^ policyABI)) }

// ParseGuestPolicyFlag returns the flag of a guest policy that has the name, as Names spells it.
func ParseGuestPolicyFlag(name string) (GuestPolicy, error) {
	v, err := policyNames.Parse(name)
	if err != nil {
		return 0, fmt.Errorf("parsing guest policy flag: %w", err)
	}
	return GuestPolicy(v), nil
}

// PlatformInfo describes the machine that made a report. SNP ABI, table "PLATFORM_INFO".
type PlatformInfo uint64

// Bits of PlatformInfo.
const (
	// PlatformSMT says that simultaneous multithreading is on.
	PlatformSMT PlatformInfo = 1 << 0
	// PlatformTSME says that transparent memory encryption is on.
	PlatformTSME PlatformInfo = 1 << 1
	// PlatformECC says that the memory uses error correction.
	PlatformECC PlatformInfo = 1 << 2
	// PlatformRAPLDisabled says that power limit readings are off.
	PlatformRAPLDisabled PlatformInfo = 1 << 3
	// PlatformCiphertextHiding says that ciphertext hiding is on.
	PlatformCiphertextHiding PlatformInfo = 1 << 4
	// PlatformAliasCheckComplete says that memory aliasing was looked for since the last reset and not found.
	PlatformAliasCheckComplete PlatformInfo = 1 << 5
	// PlatformIOMMUWriteSafe is seen on Turin.
	PlatformIOMMUWriteSafe PlatformInfo = 1 << 6
	// PlatformTIO says that trusted I/O is on.
	PlatformTIO PlatformInfo = 1 << 7

	platformKnown PlatformInfo = 0xff
)

var platformNames = fixed.Bits{
	0: "smt", 1: "tsme", 2: "ecc", 3: "rapl-disabled", 4: "ciphertext-hiding", 5: "alias-check-complete",
	6: "iommu-write-safe", 7: "tio",
}

// Has reports whether all the given bits are set.
func (p PlatformInfo) Has(bits PlatformInfo) bool { return p&bits == bits }

// Unknown returns the bits that the ABI known to this package does not define.
func (p PlatformInfo) Unknown() PlatformInfo { return p &^ platformKnown }

// String returns the word in hexadecimal and the names of the set bits.
func (p PlatformInfo) String() string {
	return platformNames.Word(uint64(p))
}

// ParsePlatformBit returns the bit of the platform information that has the name, as String spells it.
func ParsePlatformBit(name string) (PlatformInfo, error) {
	v, err := platformNames.Parse(name)
	if err != nil {
		return 0, fmt.Errorf("parsing platform bit: %w", err)
	}
	return PlatformInfo(v), nil
}
