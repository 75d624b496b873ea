// SPDX-License-Identifier: Apache-2.0

package amd

import (
	"encoding/hex"
	"errors"
	"fmt"

	"cofferdam.dev/evidence/snp"
)

// Policy is what a relying party asks of machine, firmware and launch. The zero value admits no product line. Where a list
// is a pin (IDKeys, Chips and the like), an empty one asks for nothing in particular; what may grant something (MinimumTCB,
// Providers) must be given.
type Policy struct {
	// MinimumTCB has the lowest TCB that a report may state, per product line. A line that is absent is refused. The
	// committed and the current TCB are never lower than the reported one, which a check of its own requires.
	MinimumTCB map[snp.ProductLine]snp.TCBParts
	// MinimumLaunchTCB has the lowest TCB that the guest may have been launched under. For a line that is absent it is
	// that of MinimumTCB: firmware with a known hole may have forged a launch that later firmware reports in good faith.
	MinimumLaunchTCB map[snp.ProductLine]snp.TCBParts
	// Lines narrows the product lines further. Empty admits all of MinimumTCB.
	Lines []snp.ProductLine
	// AllowProvisionalTCB admits machines that run firmware which is not committed, and so could still go back.
	AllowProvisionalTCB bool
	// Mitigations are bits that must be set in the mitigation vectors, per product line. Reports before version 5 have no
	// such vectors and are refused when any bit is asked for.
	Mitigations map[snp.ProductLine]Mitigations

	// MinVMPL and MaxVMPL bound the level that may have asked for the report; a lower number has more rights. The zero
	// values admit level 0 alone.
	MinVMPL, MaxVMPL uint32
	// AllowDebug admits guests whose memory the host may decrypt.
	AllowDebug bool
	// AllowMigrationAgent admits guests that may be associated with a migration agent.
	AllowMigrationAgent bool
	// RequirePolicy and ForbidPolicy are flags that must and must not be set in the guest policy, besides those for which
	// there are fields of their own. The bytes of the ABI version are no flags.
	RequirePolicy, ForbidPolicy snp.GuestPolicy
	// MinimumABI is the lowest firmware ABI that the guest policy may have asked for.
	MinimumABI ABI

	// RequirePlatform and ForbidPlatform are bits that must and must not be set in the platform information.
	RequirePlatform, ForbidPlatform snp.PlatformInfo
	// AllowUnknownPlatform are bits without a name that may be set. All others are refused: nobody knows what they mean.
	AllowUnknownPlatform snp.PlatformInfo

	// RequireIDBlock and RequireAuthorKey refuse guests that were launched without an ID block, and without an author's
	// key for it.
	RequireIDBlock, RequireAuthorKey bool
	// IDKeys and AuthorKeys are the SHA-384 digests of the keys of which one must have signed the ID block, and the ID
	// block's key.
	IDKeys, AuthorKeys [][48]byte
	// MinimumGuestSVN, FamilyIDs and ImageIDs are asked of the ID block. They need IDKeys or AuthorKeys: the host chooses
	// the ID block, so one that anybody may sign says nothing.
	MinimumGuestSVN     uint32
	FamilyIDs, ImageIDs [][16]byte

	// Providers are the cloud providers whose VLEKs may sign, as their certificates name them. Empty admits VCEKs alone.
	Providers []string
	// Chips are the only chips that are trusted. A report must then name its chip. Empty admits every chip.
	Chips []ChipID
	// DeniedChips are chips that are not trusted. A report that does not name its chip could come from one of them.
	DeniedChips []ChipID
	// AllowMaskedChip admits reports whose chip ID the host masks: with a VCEK the certificate names the chip instead;
	// with a VLEK nothing does, and DeniedChips can not be held against it.
	AllowMaskedChip bool

	// RequireRevocation leaves the verdict open when there is no current list of revoked intermediates. A list that is at
	// hand is always honoured. No list names a chip: that is what DeniedChips is for.
	RequireRevocation bool
}

// Mitigations are bits of the mitigation vectors of a version 5 report: of the firmware when the guest was launched, and
// now.
type Mitigations struct {
	Launch, Current uint64
}

// ABI is a version of the firmware ABI.
type ABI struct {
	Major, Minor uint8
}

// String returns the version as MAJOR.MINOR.
func (v ABI) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

func (v ABI) atLeast(floor ABI) bool {
	return v.Major > floor.Major || v.Major == floor.Major && v.Minor >= floor.Minor
}

// ChipID is the unique ID of a chip as reports state it: 64 bytes, or eight bytes and zeros on Turin.
type ChipID [64]byte

// ParseChipID reads a chip ID of 64 or eight bytes in hexadecimal. Zeros name no chip.
func ParseChipID(s string) (ChipID, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return ChipID{}, fmt.Errorf("parsing chip ID: %w", err)
	}
	id, err := newChipID(b)
	if err != nil {
		return ChipID{}, fmt.Errorf("parsing chip ID: %w", err)
	}
	return id, nil
}

func newChipID(b []byte) (ChipID, error) {
	var id ChipID
	if len(b) != len(id) && len(b) != turinChipID {
		return ChipID{}, fmt.Errorf("it has %d bytes, not %d or %d", len(b), len(id), turinChipID)
	}
	copy(id[:], b)
	if id == (ChipID{}) {
		return ChipID{}, errors.New("it is all zeros, which is how a masked chip looks")
	}
	return id, nil
}

// turinChipID is the length of a chip ID on Turin.
const turinChipID = 8

// String returns the ID in hexadecimal.
func (id ChipID) String() string { return hex.EncodeToString(id[:]) }

// Validate returns what makes a policy meaningless: it would not ask for what it seems to.
func (p *Policy) Validate() error {
	var errs []error
	flag := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	flag(p.MinVMPL > p.MaxVMPL, "the lowest VMPL is %d, above the highest, %d", p.MinVMPL, p.MaxVMPL)
	flag((p.RequirePolicy|p.ForbidPolicy)&abiBytes != 0, "flags of the guest policy include its ABI version: use the minimum")
	flag(p.RequirePolicy&p.ForbidPolicy != 0, "guest policy flags %s are both required and forbidden", p.RequirePolicy&p.ForbidPolicy)
	flag(p.RequirePlatform&p.ForbidPlatform != 0, "platform bits %s are both required and forbidden", p.RequirePlatform&p.ForbidPlatform)
	pinned := len(p.IDKeys) > 0 || len(p.AuthorKeys) > 0
	flag(!pinned && (p.MinimumGuestSVN > 0 || len(p.FamilyIDs) > 0 || len(p.ImageIDs) > 0),
		"guest SVN, family or image IDs are asked for, but no ID key or author key is pinned: the host could have chosen them")
	for _, id := range append(p.Chips[:len(p.Chips):len(p.Chips)], p.DeniedChips...) {
		flag(id == ChipID{}, "a chip ID is all zeros")
	}
	for _, k := range append(p.IDKeys[:len(p.IDKeys):len(p.IDKeys)], p.AuthorKeys...) {
		flag(k == [48]byte{}, "a key digest is all zeros")
	}
	return errors.Join(errs...)
}

// abiBytes are the bytes of a guest policy that are its ABI version.
const abiBytes = snp.GuestPolicy(0xffff)

// DefaultMinimumTCB returns floors that exclude firmware with publicly known ways to forge or bend reports: SNP firmware
// of AMD-SB-3019 or later on Milan and Genoa. Turin has no such bulletin yet.
func DefaultMinimumTCB() map[snp.ProductLine]snp.TCBParts {
	return map[snp.ProductLine]snp.TCBParts{
		snp.Milan: {SNP: 0x18},
		snp.Genoa: {SNP: 0x17},
		snp.Turin: {},
	}
}
