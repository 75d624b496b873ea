// SPDX-License-Identifier: Apache-2.0

// Package snp holds the byte formats of AMD SEV-SNP: the attestation report, the guest policy and platform words, TCB
// versions, the extensions of chip certificates, the certificate table of an extended report, and the messages between a
// guest and the secure processor. The formats are those of the SEV-SNP firmware ABI (AMD publication 56860), the VCEK
// certificate specification (57230) and the GHCB specification (56421).
//
// The package trusts nothing: every parser takes hostile bytes, checks every length, and either returns a value that
// marshals to exactly the bytes that were read or an error. It never verifies a signature, never judges a value and never
// opens a device; package verify and package attest do that.
//
// Reserved bytes and reserved bits are treated differently, on purpose. Reserved byte ranges of a report must be zero: no
// genuine report violates that, and a range that gets a meaning comes with a new report version. The flag words (guest
// policy, platform information, key information) are kept whole instead, because firmware defines new bits in them
// without a new version; Unknown names those bits so that a verifier can decide.
package snp

import (
	"cmp"
	"encoding/binary"
	"fmt"

	"cofferdam.dev/evidence/internal/fixed"
)

// Sizes and offsets of the report, SNP ABI table "ATTESTATION_REPORT structure".
const (
	// ReportSize is the size of every attestation report in bytes.
	ReportSize = 1184
	// SignedSize is the length of the leading part of a report that its signature covers.
	SignedSize = 0x2A0

	// MinReportVersion and MaxReportVersion bound the report versions that this package knows.
	MinReportVersion = 1
	MaxReportVersion = 5

	signatureComponentSize = 72
	p384Size               = 48
)

// SignatureECDSAP384SHA384 is the only signature algorithm that the ABI defines for reports.
const SignatureECDSAP384SHA384 = 1

// Report is an attestation report with every field of the ABI. Fields that a report's version lacks are zero.
type Report struct {
	// Version is the version of the report's layout, 1 to 5.
	Version uint32
	// GuestSVN is the security version that the ID block gave the guest, or 0.
	GuestSVN uint32
	// Policy is the guest policy fixed at launch.
	Policy GuestPolicy
	// FamilyID and ImageID come from the ID block, or are zero.
	FamilyID, ImageID [16]byte
	// VMPL is the privilege level that asked for the report.
	VMPL uint32
	// SignatureAlgorithm is 1 for ECDSA P-384 with SHA-384.
	SignatureAlgorithm uint32
	// CurrentTCB is the TCB that is running, which may be provisional.
	CurrentTCB TCB
	// PlatformInfo describes the machine.
	PlatformInfo PlatformInfo
	// KeyInfo says which key signed and whether an author key and a masked chip key were used.
	KeyInfo KeyInfo
	// ReportData is what the guest asked to have signed.
	ReportData [64]byte
	// Measurement is the launch digest.
	Measurement [48]byte
	// HostData is what the host fixed at launch.
	HostData [32]byte
	// IDKeyDigest and AuthorKeyDigest are SHA-384 digests of the keys that signed the ID block, or zero.
	IDKeyDigest, AuthorKeyDigest [48]byte
	// ReportID names this guest instance; ReportIDMA its migration agent, all ones where there is none.
	ReportID, ReportIDMA [32]byte
	// ReportedTCB is the TCB that the host chose to report; the chip key belongs to it.
	ReportedTCB TCB
	// CPUID names the processor in reports of version 3 and later.
	CPUID CPUID
	// ChipID is the unique ID of the chip (eight bytes and zeros on Turin), or zero when masked.
	ChipID [64]byte
	// CommittedTCB is the TCB below which the firmware can no longer go.
	CommittedTCB TCB
	// CurrentVersion and CommittedVersion are the firmware's running and committed versions.
	CurrentVersion, CommittedVersion FirmwareVersion
	// LaunchTCB is the current TCB at the time the guest was launched or imported.
	LaunchTCB TCB
	// LaunchMitigations and CurrentMitigations are the mitigation vectors of version 5 and later.
	LaunchMitigations, CurrentMitigations uint64
	// R and S are the signature's components in the report's own form: little-endian.
	R, S [p384Size]byte
}

// FirmwareVersion is a version of the secure processor's firmware.
type FirmwareVersion struct {
	Build, Minor, Major uint8
}

// String returns the version as MAJOR.MINOR build BUILD.
func (v FirmwareVersion) String() string {
	return fmt.Sprintf("%d.%d build %d", v.Major, v.Minor, v.Build)
}

// Before reports whether the version is older than another.
func (v FirmwareVersion) Before(o FirmwareVersion) bool {
	return cmp.Or(cmp.Compare(v.Major, o.Major), cmp.Compare(v.Minor, o.Minor), cmp.Compare(v.Build, o.Build)) < 0
}

// KeyInfo is the word at offset 48h of a report.
type KeyInfo uint32

// Bits of KeyInfo.
const (
	// KeyInfoAuthorKey is set when AuthorKeyDigest is filled.
	KeyInfoAuthorKey KeyInfo = 1 << 0
	// KeyInfoMaskChipKey is set when the host masks the chip key; then the report is not signed.
	KeyInfoMaskChipKey KeyInfo = 1 << 1
)

// SigningKey is the kind of key that signed a report.
type SigningKey uint8

// The signing keys of the ABI.
const (
	// SigningKeyVCEK is the versioned chip endorsement key, unique to the chip and its TCB.
	SigningKeyVCEK SigningKey = 0
	// SigningKeyVLEK is the versioned loaded endorsement key, issued to a cloud provider.
	SigningKeyVLEK SigningKey = 1
	// SigningKeyNone means that the report is not signed.
	SigningKeyNone SigningKey = 7
)

// String returns the key's short name.
func (k SigningKey) String() string {
	switch k {
	case SigningKeyVCEK:
		return "VCEK"
	case SigningKeyVLEK:
		return "VLEK"
	case SigningKeyNone:
		return "none"
	}
	return fmt.Sprintf("reserved(%d)", uint8(k))
}

// SigningKey returns the kind of key that signed the report.
func (k KeyInfo) SigningKey() SigningKey { return SigningKey(k >> 2 & 7) }

// Unknown returns the bits that the ABI known to this package does not define.
func (k KeyInfo) Unknown() KeyInfo { return k &^ 0x1f }

// ParseReport decodes a report of exactly ReportSize bytes.
func ParseReport(b []byte) (*Report, error) {
	if len(b) != ReportSize {
		return nil, fmt.Errorf("parsing SNP report: size is %d bytes, not %d", len(b), ReportSize)
	}
	r := &Report{}
	d := newDecoder(b)
	d.header(r)
	d.identity(r)
	d.platform(r)
	d.signature(r)
	if d.Err != nil {
		return nil, fmt.Errorf("parsing SNP report: %w", d.Err)
	}
	return r, nil
}

// decoder reads the structures of this package.
type decoder struct{ fixed.Decoder }

func newDecoder(b []byte) decoder { return decoder{fixed.Decoder{Bytes: b}} }

func (d *decoder) tcb() TCB { return TCB(d.Next(8)) }

func (d *decoder) header(r *Report) {
	r.Version = d.U32()
	if r.Version < MinReportVersion || r.Version > MaxReportVersion {
		d.Err = fmt.Errorf("version is %d, not %d to %d", r.Version, MinReportVersion, MaxReportVersion)
	}
	r.GuestSVN = d.U32()
	r.Policy = GuestPolicy(d.U64())
	r.FamilyID, r.ImageID = [16]byte(d.Next(16)), [16]byte(d.Next(16))
	r.VMPL = d.U32()
	r.SignatureAlgorithm = d.U32()
	r.CurrentTCB = d.tcb()
	r.PlatformInfo = PlatformInfo(d.U64())
	r.KeyInfo = KeyInfo(d.U32())
	d.Zero(0x50)
}

func (d *decoder) identity(r *Report) {
	r.ReportData = [64]byte(d.Next(64))
	r.Measurement = [48]byte(d.Next(48))
	r.HostData = [32]byte(d.Next(32))
	r.IDKeyDigest, r.AuthorKeyDigest = [48]byte(d.Next(48)), [48]byte(d.Next(48))
	r.ReportID, r.ReportIDMA = [32]byte(d.Next(32)), [32]byte(d.Next(32))
}

func (d *decoder) platform(r *Report) {
	r.ReportedTCB = d.tcb()
	if r.Version >= 3 {
		r.CPUID = CPUID{Family: d.U8(), Model: d.U8(), Stepping: d.U8()}
	}
	d.Zero(0x1A0)
	r.ChipID = [64]byte(d.Next(64))
	r.CommittedTCB = d.tcb()
	r.CurrentVersion = d.firmware()
	r.CommittedVersion = d.firmware()
	r.LaunchTCB = d.tcb()
	if r.Version >= 5 {
		r.LaunchMitigations, r.CurrentMitigations = d.U64(), d.U64()
	}
	d.Zero(SignedSize)
}

func (d *decoder) firmware() FirmwareVersion {
	v := FirmwareVersion{Build: d.U8(), Minor: d.U8(), Major: d.U8()}
	d.Zero(d.Off + 1)
	return v
}

func (d *decoder) signature(r *Report) {
	r.R = [p384Size]byte(d.Next(p384Size))
	d.Zero(SignedSize + signatureComponentSize)
	r.S = [p384Size]byte(d.Next(p384Size))
	d.Zero(ReportSize)
}

// Marshal encodes the report. For a parsed report it returns exactly the bytes that were read. Fields that the report's
// version lacks are not written.
func (r *Report) Marshal() []byte {
	le := binary.LittleEndian
	b := make([]byte, 0, ReportSize)
	b = le.AppendUint32(b, r.Version)
	b = le.AppendUint32(b, r.GuestSVN)
	b = le.AppendUint64(b, uint64(r.Policy))
	b = append(append(b, r.FamilyID[:]...), r.ImageID[:]...)
	b = le.AppendUint32(b, r.VMPL)
	b = le.AppendUint32(b, r.SignatureAlgorithm)
	b = append(b, r.CurrentTCB[:]...)
	b = le.AppendUint64(b, uint64(r.PlatformInfo))
	b = le.AppendUint32(b, uint32(r.KeyInfo))
	b = fixed.Pad(b, 0x50)
	b = append(b, r.ReportData[:]...)
	b = append(b, r.Measurement[:]...)
	b = append(b, r.HostData[:]...)
	b = append(append(b, r.IDKeyDigest[:]...), r.AuthorKeyDigest[:]...)
	b = append(append(b, r.ReportID[:]...), r.ReportIDMA[:]...)
	b = append(b, r.ReportedTCB[:]...)
	if r.Version >= 3 {
		b = append(b, r.CPUID.Family, r.CPUID.Model, r.CPUID.Stepping)
	}
	b = fixed.Pad(b, 0x1A0)
	b = append(b, r.ChipID[:]...)
	b = append(b, r.CommittedTCB[:]...)
	b = append(b, r.CurrentVersion.Build, r.CurrentVersion.Minor, r.CurrentVersion.Major, 0)
	b = append(b, r.CommittedVersion.Build, r.CommittedVersion.Minor, r.CommittedVersion.Major, 0)
	b = append(b, r.LaunchTCB[:]...)
	if r.Version >= 5 {
		b = le.AppendUint64(b, r.LaunchMitigations)
		b = le.AppendUint64(b, r.CurrentMitigations)
	}
	b = append(fixed.Pad(b, SignedSize), r.R[:]...)
	b = append(fixed.Pad(b, SignedSize+signatureComponentSize), r.S[:]...)
	return fixed.Pad(b, ReportSize)
}

// SignedBytes returns the part of the report that the signature covers.
func (r *Report) SignedBytes() []byte { return r.Marshal()[:SignedSize:SignedSize] }
