// SPDX-License-Identifier: Apache-2.0

package amd

import "cofferdam.dev/evidence/snp"

// Policy is what a relying party asks of machine, firmware and launch. The zero value admits no product line.
type Policy struct {
	// MinimumTCB has the lowest TCB that a report may state and that the guest may have been launched with, per product
	// line. A line that is absent is refused.
	MinimumTCB map[snp.ProductLine]snp.TCBParts
	// AllowProvisionalTCB admits machines that run firmware which is not committed, and so could still go back.
	AllowProvisionalTCB bool
	// MaxVMPL is the least privileged level that may have asked for the report. Zero admits level 0 alone.
	MaxVMPL uint32
	// AllowDebug admits guests whose memory the host may decrypt.
	AllowDebug bool
	// AllowMigrationAgent admits guests that may be associated with a migration agent.
	AllowMigrationAgent bool
	// AllowVLEK admits reports that a cloud provider's key signed. Such a report need not name a chip.
	AllowVLEK bool
	// RequirePlatform and ForbidPlatform are bits that must and must not be set in the platform information.
	RequirePlatform, ForbidPlatform snp.PlatformInfo
}

// DefaultMinimumTCB returns floors that exclude firmware with publicly known ways to forge or bend reports: SNP firmware
// of AMD-SB-3019 or later on Milan and Genoa. Turin has no such bulletin yet.
func DefaultMinimumTCB() map[snp.ProductLine]snp.TCBParts {
	return map[snp.ProductLine]snp.TCBParts{
		snp.Milan: {SNP: 0x18},
		snp.Genoa: {SNP: 0x17},
		snp.Turin: {},
	}
}
