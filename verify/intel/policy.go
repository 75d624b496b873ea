// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"bytes"
	"slices"
	"time"

	"cofferdam.dev/evidence/pcs"
	"cofferdam.dev/evidence/sgx"
	"cofferdam.dev/evidence/tdx"
	"cofferdam.dev/verify/check"
)

// The statuses that this package derives for a guest that was launched under an older TDX module than the one that runs
// now: what is running is up to date, but the guest should be launched again.
const (
	TDRelaunchAdvised                    pcs.Status = "TDRelaunchAdvised"
	TDRelaunchAdvisedConfigurationNeeded pcs.Status = "TDRelaunchAdvisedConfigurationNeeded"
)

// Policy is what a relying party asks of machine, firmware and launch. The zero value admits no kind of guest.
type Policy struct {
	// TDX are the rules for trust domains. Nil refuses them.
	TDX *TDX
	// SGX are the rules for enclaves. Nil refuses them.
	SGX *SGX

	// AcceptedStatuses are the statuses of the TCB that are accepted. Empty accepts UpToDate alone. Revoked is never
	// accepted.
	AcceptedStatuses []pcs.Status
	// Grace is for how long after the date of its TCB level a part that is out of date counts as if it were not, so that
	// machines can be updated one after the other. Zero gives none.
	Grace time.Duration
	// AcceptedAdvisories, when not nil, are the only security advisories that may apply.
	AcceptedAdvisories []string
	// DeniedAdvisories are security advisories that may not apply, whatever the status is.
	DeniedAdvisories []string
	// MinimumEvaluationNumber is the lowest tcbEvaluationDataNumber of TCB info and QE identity.
	MinimumEvaluationNumber uint32
	// MaxCollateralAge is how long ago TCB info, QE identity and the machines' revocation list may have been issued,
	// whatever they say of their next update. Zero leaves that to them. The root's revocation list is made once a year and
	// not asked.
	MaxCollateralAge time.Duration

	// AllowedModels, when not empty, are the only platform models (FMSPC) that may be used; DeniedModels may not.
	AllowedModels, DeniedModels [][6]byte
	// AllowedPlatforms, when not empty, are the only machines that may be used, each by its PPID or its platform instance
	// ID; DeniedPlatforms may not. Keys that were taken out of a machine can only be met with such lists.
	AllowedPlatforms, DeniedPlatforms [][16]byte

	// AllowTrailingData admits quotes that are followed by other bytes than zeros. Those are ignored.
	AllowTrailingData bool
}

// TDX are the rules for trust domains.
type TDX struct {
	// AllowDebug admits domains whose memory the host may read, or which it may profile.
	AllowDebug bool
	// AllowMigration admits domains that a service domain may migrate.
	AllowMigration bool
	// AllowedAttributes are the attributes that may be set besides RequiredAttributes, which must be.
	AllowedAttributes, RequiredAttributes tdx.Attributes
	// AllowedXFAM are the processor features that may be enabled. Zero admits none, and so no domain.
	AllowedXFAM tdx.XFAM

	// Modules are the measurements (MRSEAM, 48 bytes) of TDX modules that are trusted. Empty leaves the choice to Intel,
	// whose identity the module must have in any case.
	Modules [][]byte
	// RTMR are the trusted values of the registers that the guest extends. RTMR0 to RTMR2 must be pinned or opened; the
	// last can be pinned only when the others are, because what was booted decides about it.
	RTMR [tdx.RTMRCount]Pins
	// ConfigID, Owner and OwnerConfig are trusted values of MRCONFIGID, MROWNER and MROWNERCONFIG. Without any, the field
	// must be zero.
	ConfigID, Owner, OwnerConfig Pins
	// ServiceTD are trusted values of MRSERVICETD, which TDX 1.5 reports. Without any, it must be zero.
	ServiceTD Pins
	// RequireEventLog leaves the verdict open when no event log comes with the quote.
	RequireEventLog bool
}

// SGX are the rules for enclaves.
type SGX struct {
	// AllowDebug admits enclaves whose memory the host may read.
	AllowDebug bool
	// AllowedFlags are the flags that may be set besides those that every enclave has (initialised, 64-bit mode).
	AllowedFlags sgx.Flags
	// AllowedXFRM are the processor features that may be enabled. Zero admits none, and so no enclave.
	AllowedXFRM sgx.XFRM
	// AllowedMiscSelect are the extended save areas that may be asked for.
	AllowedMiscSelect sgx.MiscSelect
	// Signers are the signers and products that are trusted. Empty leaves it to the measurement.
	Signers []Signer
	// ConfigID are trusted values of CONFIGID. Without any, it must be zero.
	ConfigID Pins
	// MinimumConfigSVN is the lowest security version of that configuration.
	MinimumConfigSVN uint16
}

// Signer is a signer of enclaves, with one of its products.
type Signer struct {
	// MRSigner is the SHA-256 of the signer's key.
	MRSigner [32]byte
	// ISVProdID is the product.
	ISVProdID uint16
	// MinimumISVSVN is the lowest security version of the product.
	MinimumISVSVN uint16
}

// Pins are the trusted values of one field. The zero value trusts none.
type Pins struct {
	// Any opens the field: every value is trusted.
	Any bool
	// Values are the values that are trusted, each with all bytes of the field.
	Values [][]byte
}

// has reports whether a value is trusted.
func (p Pins) has(v []byte) bool {
	return p.Any || slices.ContainsFunc(p.Values, func(t []byte) bool { return bytes.Equal(t, v) })
}

// hasOrZero is has for fields that are zero when nobody uses them.
func (p Pins) hasOrZero(v []byte) bool {
	return p.has(v) || len(p.Values) == 0 && len(bytes.Trim(v, "\x00")) == 0
}

// String shows the trusted values, or how many there are when there are many.
func (p Pins) String() string {
	switch {
	case p.Any:
		return "any"
	case len(p.Values) == 0:
		return "zero"
	}
	return check.Hex(p.Values)
}

// DefaultTDX returns rules that fit trust domains of today's Linux guests: the state of vector and matrix extensions,
// protection keys and control-flow enforcement, and no exception for memory that the host takes away, by which a host
// could make a guest read other data than it wrote. The registers are still to be pinned.
func DefaultTDX() TDX {
	return TDX{
		RequiredAttributes: tdx.AttributeSEPTVEDisable,
		AllowedAttributes:  tdx.AttributePKS | tdx.AttributeKL | tdx.AttributeLASS | tdx.AttributeICSSD,
		AllowedXFAM:        0xe5aff, // x87, SSE, AVX, MPX, AVX-512, PKU, CET, user interrupts, AMX, APX; no tracing
	}
}

// DefaultSGX returns rules that fit enclaves of today's runtimes: all named processor features, key separation,
// control-flow enforcement and notification of interruptions. An enclave with the provisioning key is refused.
func DefaultSGX() SGX {
	return SGX{
		AllowedFlags:      sgx.FlagKSS | sgx.FlagCET | sgx.FlagAEXNotify,
		AllowedXFRM:       0xe02ff, // x87, SSE, AVX, MPX, AVX-512, PKU, AMX, APX
		AllowedMiscSelect: sgx.MiscEXINFO | sgx.MiscCPINFO,
	}
}

// accepted are the statuses that are accepted; the default is the strictest.
func (p *Policy) accepted() []pcs.Status {
	if len(p.AcceptedStatuses) == 0 {
		return []pcs.Status{pcs.UpToDate}
	}
	return slices.DeleteFunc(slices.Clone(p.AcceptedStatuses), func(s pcs.Status) bool { return s == pcs.Revoked })
}
