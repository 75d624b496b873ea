// SPDX-License-Identifier: Apache-2.0

package appraisal

// SNP is what is asked of SEV-SNP machines and guests.
type SNP struct {
	Measurements        []Digest                    `json:"measurements,omitzero" doc:"Trusted launch measurements"`
	MeasurementFiles    []string                    `json:"measurementFiles,omitzero" doc:"Files with trusted launch measurements: what cofferdam guest measure prints, as text or with -o json"`
	Endorsements        *Endorsements               `json:"endorsements,omitzero" doc:"Publishers whose endorsements count for measurements that are not listed"`
	TCB                 map[ProductLine]ProductRule `json:"tcb,omitzero" doc:"The product lines that are accepted, each with its floors; a line that is absent is refused"`
	AllowProvisionalTCB bool                        `json:"allowProvisionalTCB,omitzero" doc:"Accept firmware that is not committed and could be taken back"`
	VMPL                Levels                      `json:"vmpl,omitzero" doc:"The privilege levels that may have asked for the report; level 0 alone by default"`
	GuestPolicy         GuestPolicy                 `json:"guestPolicy,omitzero" doc:"What the guest may have been launched with"`
	Platform            Platform                    `json:"platform,omitzero" doc:"What the machine must be like"`
	IDBlock             IDBlock                     `json:"idBlock,omitzero" doc:"Who must have signed the guest's ID block, and what it must say"`
	Providers           []string                    `json:"providers,omitzero" doc:"Cloud providers whose VLEKs may sign, as their certificates name them; without any, chips' own keys (VCEK) alone"`
	Chips               Chips                       `json:"chips,omitzero" doc:"The chips that may be used"`
	RequireRevocation   bool                        `json:"requireRevocation,omitzero" doc:"Leave the verdict open without a current revocation list of AMD"`
}

// ProductRule has the floors of one product line.
type ProductRule struct {
	Reported    TCB         `json:"reported" required:"true" doc:"The lowest TCB that a report may state; {} asks for none"`
	Launch      *TCB        `json:"launch,omitzero" doc:"The lowest TCB that the guest may have been launched under; that of reported by default"`
	Mitigations Mitigations `json:"mitigations,omitzero" doc:"Bits that must be set in the mitigation vectors (reports of version 5)"`
}

// TCB are the parts of a TCB version.
type TCB struct {
	FMC        uint8 `json:"fmc,omitzero" doc:"First mutable code; Turin only"`
	Bootloader uint8 `json:"bootloader,omitzero" doc:"Boot loader of the secure processor"`
	TEE        uint8 `json:"tee,omitzero" doc:"Operating system of the secure processor"`
	SNP        uint8 `json:"snp,omitzero" doc:"SNP firmware"`
	Microcode  uint8 `json:"microcode,omitzero" doc:"Microcode"`
}

// Mitigations are bits of the mitigation vectors.
type Mitigations struct {
	Launch  Word `json:"launch,omitzero" doc:"When the guest was launched"`
	Current Word `json:"current,omitzero" doc:"When the report was made"`
}

// Levels are a range of VM privilege levels.
type Levels struct {
	Minimum uint8 `json:"minimum,omitzero" doc:"The most privileged level" max:"3"`
	Maximum uint8 `json:"maximum,omitzero" doc:"The least privileged level" max:"3"`
}

// GuestPolicy is what a guest may have been launched with.
type GuestPolicy struct {
	AllowDebug          bool        `json:"allowDebug,omitzero" doc:"Accept guests whose memory the host may decrypt"`
	AllowMigrationAgent bool        `json:"allowMigrationAgent,omitzero" doc:"Accept guests that a migration agent may move"`
	Require             []GuestFlag `json:"require,omitzero" doc:"Flags that must be set"`
	Forbid              []GuestFlag `json:"forbid,omitzero" doc:"Flags that must not be set"`
	MinimumABI          ABI         `json:"minimumABI,omitzero" doc:"The lowest firmware ABI that the guest may have asked for"`
}

// Platform is what a machine must be like.
type Platform struct {
	Require      []PlatformBit `json:"require,omitzero" doc:"Properties that the machine must have"`
	Forbid       []PlatformBit `json:"forbid,omitzero" doc:"Properties that the machine must not have"`
	AllowUnknown Word          `json:"allowUnknown,omitzero" doc:"Bits without a name that may be set"`
}

// IDBlock says who must have signed an ID block, and what it must say.
type IDBlock struct {
	Required          bool         `json:"required,omitzero" doc:"Refuse guests that were launched without one"`
	AuthorKeyRequired bool         `json:"authorKeyRequired,omitzero" doc:"Refuse guests without an author's key for it"`
	IDKeys            []Digest     `json:"idKeys,omitzero" doc:"SHA-384 of the keys of which one must have signed it"`
	AuthorKeys        []Digest     `json:"authorKeys,omitzero" doc:"SHA-384 of the keys of which one must have signed the ID key"`
	MinimumGuestSVN   uint32       `json:"minimumGuestSVN,omitzero" doc:"The lowest security version of the guest; needs pinned keys"`
	FamilyIDs         []Identifier `json:"familyIDs,omitzero" doc:"Trusted families; needs pinned keys"`
	ImageIDs          []Identifier `json:"imageIDs,omitzero" doc:"Trusted images; needs pinned keys"`
}

// Chips are the chips that may be used.
type Chips struct {
	Allow       []Chip `json:"allow,omitzero" doc:"The only chips that are trusted; every chip by default"`
	Deny        []Chip `json:"deny,omitzero" doc:"Chips that are not trusted"`
	AllowMasked bool   `json:"allowMasked,omitzero" doc:"Accept reports whose chip ID the host masks"`
}

// Endorsements says whose endorsements of launch measurements count.
type Endorsements struct {
	Issuers        []string          `json:"issuers" required:"true" doc:"Trusted publishers, each by its whole did:x509"`
	Feed           string            `json:"feed" required:"true" doc:"The series that an endorsement must belong to"`
	MinimumSVN     uint64            `json:"minimumSVN" required:"true" doc:"The lowest security version that is trusted, at least 1"`
	RequireReceipt bool              `json:"requireReceipt,omitzero" doc:"Ask for a receipt of one of the ledgers"`
	Ledgers        map[string]Ledger `json:"ledgers,omitzero" doc:"Trusted ledgers, by the name that their receipts state"`
	Documents      []Blob            `json:"documents,omitzero" doc:"Endorsements that are looked at besides those that come with the evidence"`
	Files          []string          `json:"files,omitzero" doc:"Files with such endorsements (COSE)"`
}

// Ledger has the keys of a ledger.
type Ledger struct {
	Keys string `json:"keys,omitzero" doc:"The ledger's keys: a JSON Web Key set, or certificates in PEM, as text"`
	File string `json:"file,omitzero" doc:"A file with the keys"`
}
