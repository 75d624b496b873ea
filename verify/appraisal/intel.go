// SPDX-License-Identifier: Apache-2.0

package appraisal

// Intel is what is asked of Intel's machines.
type Intel struct {
	Statuses                []TCBStatus    `json:"statuses,omitzero" doc:"The statuses of the TCB that are accepted; UpToDate alone by default"`
	Grace                   Duration       `json:"grace,omitzero" doc:"For how long after the date of its TCB level a part that is out of date counts as if it were not"`
	Advisories              Advisories     `json:"advisories,omitzero" doc:"The security advisories that may apply"`
	MinimumEvaluationNumber uint32         `json:"minimumEvaluationNumber,omitzero" doc:"The lowest tcbEvaluationDataNumber of TCB info and QE identity"`
	MaxCollateralAge        Duration       `json:"maxCollateralAge,omitzero" doc:"How long ago TCB info, QE identity and the machines' revocation list may have been issued"`
	Models                  ModelRules     `json:"models,omitzero" doc:"The platform models (FMSPC) that may be used"`
	Platforms               PlatformsRules `json:"platforms,omitzero" doc:"The machines that may be used, by PPID or platform instance ID"`
	AllowTrailingData       bool           `json:"allowTrailingData,omitzero" doc:"Accept quotes that are followed by other bytes than zeros"`
}

// Advisories says which security advisories may apply.
type Advisories struct {
	Allow []string `json:"allow,omitzero" doc:"The only advisories that may apply; all by default, none when the list is empty" empty:"true"`
	Deny  []string `json:"deny,omitzero" doc:"Advisories that may not apply, whatever the status is"`
}

// ModelRules says which platform models may be used.
type ModelRules struct {
	Allow []Model `json:"allow,omitzero" doc:"The only ones that may be used; every one by default"`
	Deny  []Model `json:"deny,omitzero" doc:"Those that may not be used"`
}

// PlatformsRules says which machines may be used.
type PlatformsRules struct {
	Allow []Identifier `json:"allow,omitzero" doc:"The only ones that may be used; every one by default"`
	Deny  []Identifier `json:"deny,omitzero" doc:"Those that may not be used"`
}

// Pins are trusted values of a register.
type Pins struct {
	Any    bool     `json:"any,omitzero" doc:"Trust every value"`
	Values []Digest `json:"values,omitzero" doc:"The trusted values"`
}

// TDX is what is asked of trust domains.
type TDX struct {
	MRTD               []Digest `json:"mrtd,omitzero" doc:"Trusted launch measurements"`
	MRTDFiles          []string `json:"mrtdFiles,omitzero" doc:"Files with trusted launch measurements: what cofferdam guest measure --tee tdx prints, as text or with -o json"`
	RTMR0              Pins     `json:"rtmr0,omitzero" doc:"The firmware's configuration; must be pinned or opened"`
	RTMR1              Pins     `json:"rtmr1,omitzero" doc:"The kernel; must be pinned or opened"`
	RTMR2              Pins     `json:"rtmr2,omitzero" doc:"Command line and initramfs; must be pinned or opened"`
	RTMR3              Pins     `json:"rtmr3,omitzero" doc:"What the guest extends itself; can be pinned only when the others are"`
	AllowDebug         bool     `json:"allowDebug,omitzero" doc:"Accept trust domains whose memory the host may read"`
	AllowMigration     bool     `json:"allowMigration,omitzero" doc:"Accept trust domains that may be migrated"`
	RequiredAttributes Word     `json:"requiredAttributes,omitzero" doc:"TD attributes that must be set; 0x10000000 is SEPT_VE_DISABLE"`
	AllowedAttributes  Word     `json:"allowedAttributes,omitzero" doc:"TD attributes that may be set besides; 0xc8010000 is PKS, KL, LASS and ICSSD"`
	AllowedXFAM        Word     `json:"allowedXFAM,omitzero" doc:"Processor features that may be enabled; 0xe5aff has those of today's guests, without tracing. 0 accepts no trust domain"`
	Modules            []Digest `json:"modules,omitzero" doc:"Trusted TDX modules (MRSEAM); every one of Intel's by default"`
	Owners             []Digest `json:"owners,omitzero" doc:"Trusted values of MROWNER; zero by default"`
	OwnerConfigs       []Digest `json:"ownerConfigs,omitzero" doc:"Trusted values of MROWNERCONFIG; zero by default"`
	ServiceTDs         []Digest `json:"serviceTDs,omitzero" doc:"Trusted values of MRSERVICETD; zero by default"`
	RequireEventLog    bool     `json:"requireEventLog,omitzero" doc:"Leave the verdict open without an event log"`
}

// SGX is what is asked of enclaves.
type SGX struct {
	MRENCLAVE         []Hash   `json:"mrenclave,omitzero" doc:"Trusted enclaves"`
	SigstructFiles    []string `json:"sigstructFiles,omitzero" doc:"SIGSTRUCT files of trusted enclaves; each counts as the MRENCLAVE in it, when its signature holds"`
	Signers           []Signer `json:"signers,omitzero" doc:"Trusted signers and products; without any, only mrenclave counts"`
	AllowDebug        bool     `json:"allowDebug,omitzero" doc:"Accept enclaves whose memory the host may read"`
	AllowedFlags      Word     `json:"allowedFlags,omitzero" doc:"Flags that may be set besides INIT and MODE64BIT; 0x4c0 is KSS, CET and AEX notify"`
	AllowedXFRM       Word     `json:"allowedXFRM,omitzero" doc:"Processor features that may be enabled; 0xe02ff has all named ones. 0 accepts no enclave"`
	AllowedMiscSelect uint32   `json:"allowedMiscSelect,omitzero" doc:"Extended save areas that may be asked for; 3 is EXINFO and CPINFO"`
	MinimumConfigSVN  uint16   `json:"minimumConfigSVN,omitzero" doc:"The lowest security version of the configuration that CONFIGID names"`
}

// Signer is a signer of enclaves, with one of its products.
type Signer struct {
	MRSIGNER   Hash   `json:"mrsigner" required:"true" doc:"SHA-256 of the signer's key"`
	Product    uint16 `json:"product" required:"true" doc:"ISVPRODID"`
	MinimumSVN uint16 `json:"minimumSVN" required:"true" doc:"The lowest ISVSVN"`
}
