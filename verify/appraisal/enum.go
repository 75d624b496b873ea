// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/pcs"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/intel"
)

// enumeration is a text of which only some are known.
type enumeration interface{ values() []string }

type (
	// EvidenceType is a type of evidence documents.
	EvidenceType string
	// Domain is a trust domain.
	Domain string
	// Source says on whose behalf a report was made.
	Source string
	// ProductLine is a line of AMD's processors.
	ProductLine string
	// GuestFlag is a flag of the SNP guest policy.
	GuestFlag string
	// PlatformBit is a bit of the SNP platform information.
	PlatformBit string
	// TCBStatus is a status of Intel's TCB levels.
	TCBStatus string
)

func (EvidenceType) values() []string {
	return []string{evidence.TypeSEVSNP, evidence.TypeTDX, evidence.TypeSGX, evidence.TypeAzureVTPM}
}

func (Domain) values() []string {
	return []string{string(anchor.AMD), string(anchor.Intel), string(anchor.Simulated)}
}

func (Source) values() []string {
	return []string{string(evidence.SourceHost), string(evidence.SourceWorkload)}
}

func (ProductLine) values() []string {
	return []string{string(snp.Milan), string(snp.Genoa), string(snp.Turin)}
}

// values leaves out the flags for which there are keys of their own.
func (GuestFlag) values() []string {
	return []string{
		"smt", "single-socket", "cxl", "aes-256-xts", "rapl-disabled", "ciphertext-hiding", "page-swap-disabled",
	}
}

func (PlatformBit) values() []string {
	return []string{
		"smt", "tsme", "ecc", "rapl-disabled", "ciphertext-hiding", "alias-check-complete", "iommu-write-safe", "tio",
	}
}

// values leaves out Revoked, which is never accepted.
func (TCBStatus) values() []string {
	return []string{
		string(pcs.UpToDate), string(pcs.SWHardeningNeeded), string(pcs.ConfigurationNeeded),
		string(pcs.ConfigurationAndSWHardeningNeeded), string(pcs.OutOfDate), string(pcs.OutOfDateConfigurationNeeded),
		string(intel.TDRelaunchAdvised), string(intel.TDRelaunchAdvisedConfigurationNeeded),
	}
}
