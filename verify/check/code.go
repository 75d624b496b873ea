// SPDX-License-Identifier: Apache-2.0

package check

// Name names a check. Names are stable.
type Name string

// The checks, in the order of the chain.
const (
	Time            Name = "time"
	Format          Name = "format"
	TrustAnchor     Name = "trust-anchor"
	Chain           Name = "chain"
	Profile         Name = "certificate-profile"
	Validity        Name = "certificate-validity"
	ChipCertificate Name = "chip-certificate"
	Signer          Name = "signer"
	ChipTCB         Name = "chip-tcb"
	ChipID          Name = "chip-id"
	Product         Name = "product"
	Signature       Name = "signature"
	VMPL            Name = "vmpl"
	GuestPolicy     Name = "guest-policy"
	Debug           Name = "debug"
	Migration       Name = "migration"
	Platform        Name = "platform"
	TCBOrder        Name = "tcb-order"
	TCBCommitted    Name = "tcb-committed"
	TCBFloor        Name = "tcb-floor"
	Measurement     Name = "measurement"
	HostData        Name = "host-data"
	PolicyText      Name = "policy-text"
	Source          Name = "source"
	Nonce           Name = "nonce"
	RuntimeData     Name = "runtime-data"
	ReportData      Name = "report-data"
	AppraisalPolicy Name = "appraisal-policy"
	ChipList        Name = "chip-list"
	IDBlock         Name = "id-block"
	AuthorKey       Name = "author-key"
	GuestSVN        Name = "guest-svn"
	GuestIdentity   Name = "guest-identity"
	Mitigations     Name = "mitigations"

	// Intel: quotes, collateral, trust domains and enclaves.
	Certification        Name = "certification-data"
	QEReport             Name = "qe-report"
	AttestationKey       Name = "attestation-key"
	RootCRL              Name = "root-crl"
	PCKCRL               Name = "pck-crl"
	Revocation           Name = "revocation"
	TCBInfo              Name = "tcb-info"
	QEIdentity           Name = "qe-identity"
	CollateralAge        Name = "collateral-age"
	TCBEvaluation        Name = "tcb-evaluation"
	PlatformModel        Name = "platform-model"
	PlatformID           Name = "platform-id"
	QuotingEnclave       Name = "quoting-enclave"
	TDXModule            Name = "tdx-module"
	TCBLevel             Name = "tcb-level"
	TCBStatus            Name = "tcb-status"
	Advisories           Name = "advisories"
	TEE                  Name = "tee"
	TDAttributes         Name = "td-attributes"
	XFAM                 Name = "xfam"
	TDConfiguration      Name = "td-configuration"
	ServiceTD            Name = "service-td"
	RuntimeRegisters     Name = "runtime-registers"
	EventLog             Name = "event-log"
	EnclaveAttributes    Name = "enclave-attributes"
	EnclaveSigner        Name = "enclave-signer"
	EnclaveConfiguration Name = "enclave-configuration"

	// Azure: endorsements of utility VMs.
	Endorsement          Name = "endorsement"
	EndorsementChain     Name = "endorsement-chain"
	EndorsementTime      Name = "endorsement-time"
	EndorsementSignature Name = "endorsement-signature"
	EndorsementIssuer    Name = "endorsement-issuer"
	EndorsementFeed      Name = "endorsement-feed"
	EndorsementSVN       Name = "endorsement-svn"
	EndorsementReceipt   Name = "endorsement-receipt"

	// Azure: confidential VMs with a paravisor and its TPM.
	AzureEvidence   Name = "azure-evidence"
	Paravisor       Name = "paravisor-claims"
	TDReport        Name = "td-report"
	VMConfiguration Name = "vm-configuration"
	TPMQuote        Name = "tpm-quote"
	TPMSignature    Name = "tpm-signature"
	PCRDigest       Name = "pcr-digest"
	PCRs            Name = "pcr-values"

	// The appraisal policy as a file.
	EvidenceType Name = "evidence-type"
	Rules        Name = "rules"
)

var titles = map[Name]string{
	Time:            "the time of appraisal is given",
	Format:          "the evidence has a known form",
	TrustAnchor:     "the chain ends in a configured root",
	Chain:           "every certificate is signed by the one above it, and none is left over",
	Profile:         "the certificates have the roles that they are used in",
	Validity:        "every certificate is valid at the time of appraisal",
	ChipCertificate: "the certificate of the key that signed is at hand",
	Signer:          "the report is signed by a kind of key that is allowed",
	ChipTCB:         "the chip key belongs to the TCB that the report states",
	ChipID:          "the chip key belongs to the chip that the report names",
	Product:         "certificate and report name the same product line",
	Signature:       "the report is signed by the chip key",
	VMPL:            "a privileged enough level asked for the report",
	GuestPolicy:     "the guest policy is one that is understood",
	Debug:           "the host can not decrypt the guest's memory",
	Migration:       "no migration agent can move the guest",
	Platform:        "the machine has the properties that are asked for",
	TCBOrder:        "reported, committed and current TCB are in order",
	TCBCommitted:    "the running firmware is committed",
	TCBFloor:        "the TCB is recent enough, now and at launch",
	Measurement:     "the launch measurement is a trusted one",
	HostData:        "the host data name a trusted policy",
	PolicyText:      "the policy text is the one that the host data name",
	Source:          "the report was made on the expected behalf",
	Nonce:           "the evidence answers this nonce",
	RuntimeData:     "the runtime data are the expected ones",
	ReportData:      "the report is bound to nonce and runtime data",
	AppraisalPolicy: "what is asked for can be checked",
	ChipList:        "the chip is a trusted one and no denied one",
	IDBlock:         "the guest was launched with an ID block whose signer is trusted",
	AuthorKey:       "an author whose key is trusted vouched for the ID block's signer",
	GuestSVN:        "the ID block gave the guest a high enough security version",
	GuestIdentity:   "the ID block gave the guest a trusted family and image",
	Mitigations:     "firmware and microcode have the mitigations that are asked for",

	Certification:        "the evidence carries the certificates of the key that certified the quoting enclave",
	QEReport:             "the quoting enclave's report is signed by the machine's certified key",
	AttestationKey:       "the quoting enclave vouches for the key that signed",
	RootCRL:              "the root's list of revoked certificates is at hand, signed and current",
	PCKCRL:               "the list of revoked machine certificates is at hand, signed and current",
	Revocation:           "no certificate of the chain is revoked",
	TCBInfo:              "the vendor's statement about the machine's TCB is at hand, signed and current",
	QEIdentity:           "the vendor's statement about its quoting enclave is at hand, signed and current",
	CollateralAge:        "the vendor's statements are no older than is asked for",
	TCBEvaluation:        "the vendor's statements know of the vulnerabilities that matter",
	PlatformModel:        "the machine's model is allowed, and the TCB statement is about it",
	PlatformID:           "the machine is one of those that are allowed",
	QuotingEnclave:       "the quoting enclave is the vendor's own",
	TDXModule:            "the TDX module is the vendor's own and allowed",
	TCBLevel:             "the machine reaches a TCB level that the vendor knows",
	TCBStatus:            "the status of the TCB is one that is accepted",
	Advisories:           "no security advisory applies that is not accepted",
	TEE:                  "this kind of guest is allowed",
	TDAttributes:         "the trust domain's attributes are allowed",
	XFAM:                 "the trust domain's processor features are allowed",
	TDConfiguration:      "the values that the host gave the trust domain are trusted",
	ServiceTD:            "the service domains bound to the trust domain are trusted",
	RuntimeRegisters:     "the registers that the guest extended have trusted values",
	EventLog:             "the event log leads to the registers that were signed",
	EnclaveAttributes:    "the enclave's attributes are allowed",
	EnclaveSigner:        "the enclave's signer, product and version are trusted",
	EnclaveConfiguration: "the configuration that the host gave the enclave is trusted",

	Endorsement:          "the endorsement has a known form",
	EndorsementChain:     "the endorsement's issuer is who its certificates say",
	EndorsementTime:      "the endorsement was signed while its signer's certificates were valid",
	EndorsementSignature: "the endorsement is signed by its issuer",
	EndorsementIssuer:    "the endorsement's issuer is a trusted one",
	EndorsementFeed:      "the endorsement belongs to the trusted series",
	EndorsementSVN:       "what is endorsed is recent enough",
	EndorsementReceipt:   "a trusted ledger has recorded the endorsement",

	AzureEvidence:   "the evidence has a known form and holds one hardware report",
	Paravisor:       "the hardware report binds the paravisor's claims",
	TDReport:        "the quote was made of the report that the paravisor got",
	VMConfiguration: "the VM starts only signed software",
	TPMQuote:        "the TPM's quote has a known form",
	TPMSignature:    "the TPM's quote is signed by the key in the claims",
	PCRDigest:       "the register values are those of the quote",
	PCRs:            "the registers have trusted values",

	EvidenceType: "evidence of this type is accepted",
	Rules:        "the rules of the appraisal policy deny nothing",
}

// Code says why a check did not pass. Codes are stable.
type Code string

// The codes.
const (
	CodeOK                  Code = "OK"
	CodeCancelled           Code = "CANCELLED"
	CodeTimeNotSet          Code = "TIME_NOT_SET"
	CodeEvidenceMissing     Code = "EVIDENCE_MISSING"
	CodeEvidenceMalformed   Code = "EVIDENCE_MALFORMED"
	CodeTypeUnsupported     Code = "EVIDENCE_TYPE_UNSUPPORTED"
	CodeReportMalformed     Code = "REPORT_MALFORMED"
	CodeVersionUnsupported  Code = "REPORT_VERSION_UNSUPPORTED"
	CodeCertificateMissing  Code = "CERTIFICATE_MISSING"
	CodeCertificateBad      Code = "CERTIFICATE_MALFORMED"
	CodeTrustAnchorUnknown  Code = "TRUST_ANCHOR_UNKNOWN"
	CodeTrustAnchorDenied   Code = "TRUST_ANCHOR_DENIED"
	CodeTrustAnchorBad      Code = "TRUST_ANCHOR_INVALID"
	CodeChainSignature      Code = "CHAIN_SIGNATURE_INVALID"
	CodeCertificateUnused   Code = "CERTIFICATE_UNUSED"
	CodeChainProfile        Code = "CHAIN_PROFILE_INVALID"
	CodeCertificateExpired  Code = "CERTIFICATE_EXPIRED"
	CodeCertificateNotYet   Code = "CERTIFICATE_NOT_YET_VALID"
	CodeSignerMismatch      Code = "SIGNER_MISMATCH"
	CodeSignerNotAllowed    Code = "SIGNER_NOT_ALLOWED"
	CodeChipTCBMismatch     Code = "CHIP_TCB_MISMATCH"
	CodeChipIDMismatch      Code = "CHIP_ID_MISMATCH"
	CodeProductMismatch     Code = "PRODUCT_MISMATCH"
	CodeProductUnknown      Code = "PRODUCT_UNKNOWN"
	CodeSignatureInvalid    Code = "SIGNATURE_INVALID"
	CodeSignatureNotChecked Code = "SIGNATURE_NOT_CHECKED"
	CodeVMPL                Code = "VMPL_NOT_ALLOWED"
	CodeGuestPolicy         Code = "GUEST_POLICY_INVALID"
	CodeDebug               Code = "DEBUG_ALLOWED"
	CodeMigration           Code = "MIGRATION_ALLOWED"
	CodePlatform            Code = "PLATFORM_NOT_ALLOWED"
	CodeTCBMalformed        Code = "TCB_MALFORMED"
	CodeTCBOrder            Code = "TCB_ORDER_INVALID"
	CodeTCBProvisional      Code = "TCB_PROVISIONAL"
	CodeTCBFloor            Code = "TCB_BELOW_FLOOR"
	CodeTCBFloorMissing     Code = "TCB_FLOOR_MISSING"
	CodeMeasurementNotSet   Code = "MEASUREMENT_NOT_PINNED"
	CodeMeasurement         Code = "MEASUREMENT_NOT_TRUSTED"
	CodeHostDataNotSet      Code = "HOST_DATA_NOT_PINNED"
	CodeHostData            Code = "HOST_DATA_MISMATCH"
	CodePolicyText          Code = "POLICY_TEXT_MISMATCH"
	CodeSourceNotSet        Code = "SOURCE_NOT_SET"
	CodeSource              Code = "SOURCE_MISMATCH"
	CodeNonceNotSet         Code = "NONCE_NOT_SET"
	CodeNonce               Code = "NONCE_MISMATCH"
	CodeRuntimeData         Code = "RUNTIME_DATA_MISMATCH"
	CodeReportData          Code = "REPORT_DATA_MISMATCH"

	// AMD: keys, lists, firmware and launch.
	CodeAppraisalPolicy       Code = "APPRAISAL_POLICY_INVALID"
	CodeKeyInfo               Code = "KEY_INFO_BIT_UNKNOWN"
	CodeProvider              Code = "PROVIDER_NOT_ALLOWED"
	CodeProductNotAllowed     Code = "PRODUCT_NOT_ALLOWED"
	CodeChipDenied            Code = "CHIP_DENIED"
	CodeChipNotAllowed        Code = "CHIP_NOT_ALLOWED"
	CodeChipMasked            Code = "CHIP_MASKED"
	CodeGuestPolicyFlags      Code = "GUEST_POLICY_NOT_ALLOWED"
	CodeGuestABI              Code = "GUEST_ABI_BELOW_FLOOR"
	CodePlatformUnknown       Code = "PLATFORM_BIT_UNKNOWN"
	CodeIDBlockMissing        Code = "ID_BLOCK_MISSING"
	CodeIDKey                 Code = "ID_KEY_NOT_TRUSTED"
	CodeAuthorKeyFlag         Code = "AUTHOR_KEY_INCONSISTENT"
	CodeAuthorKeyMissing      Code = "AUTHOR_KEY_MISSING"
	CodeAuthorKey             Code = "AUTHOR_KEY_NOT_TRUSTED"
	CodeGuestSVN              Code = "GUEST_SVN_BELOW_FLOOR"
	CodeFamilyID              Code = "FAMILY_ID_NOT_TRUSTED"
	CodeImageID               Code = "IMAGE_ID_NOT_TRUSTED"
	CodeTCBLaunchFloor        Code = "LAUNCH_TCB_BELOW_FLOOR"
	CodeMitigations           Code = "MITIGATION_MISSING"
	CodeMitigationsUnreported Code = "MITIGATIONS_NOT_REPORTED"

	CodeTrailingData             Code = "TRAILING_DATA"
	CodeCertificationUnsupported Code = "CERTIFICATION_UNSUPPORTED"
	CodeQEReportSignature        Code = "QE_REPORT_SIGNATURE_INVALID"
	CodeAttestationKey           Code = "ATTESTATION_KEY_NOT_BOUND"
	CodeCollateralMissing        Code = "COLLATERAL_MISSING"
	CodeCollateralMalformed      Code = "COLLATERAL_MALFORMED"
	CodeCollateralSigner         Code = "COLLATERAL_SIGNER_INVALID"
	CodeCollateralSignature      Code = "COLLATERAL_SIGNATURE_INVALID"
	CodeCollateralExpired        Code = "COLLATERAL_EXPIRED"
	CodeCollateralNotYet         Code = "COLLATERAL_NOT_YET_VALID"
	CodeCollateralTooOld         Code = "COLLATERAL_TOO_OLD"
	CodeCertificateRevoked       Code = "CERTIFICATE_REVOKED"
	CodeEvaluationNumber         Code = "TCB_EVALUATION_TOO_LOW"
	CodePlatformModel            Code = "PLATFORM_MODEL_MISMATCH"
	CodePlatformModelNotAllowed  Code = "PLATFORM_MODEL_NOT_ALLOWED"
	CodePlatformID               Code = "PLATFORM_ID_NOT_ALLOWED"
	CodeQuotingEnclave           Code = "QUOTING_ENCLAVE_UNKNOWN"
	CodeTDXModule                Code = "TDX_MODULE_UNKNOWN"
	CodeTDXModuleNotAllowed      Code = "TDX_MODULE_NOT_ALLOWED"
	CodeTCBLevel                 Code = "TCB_LEVEL_NOT_FOUND"
	CodeTCBStatus                Code = "TCB_STATUS_NOT_ACCEPTED"
	CodeAdvisory                 Code = "ADVISORY_NOT_ACCEPTED"
	CodeTEE                      Code = "TEE_NOT_ALLOWED"
	CodeTDAttributes             Code = "TD_ATTRIBUTES_NOT_ALLOWED"
	CodeXFAM                     Code = "XFAM_NOT_ALLOWED"
	CodeTDConfiguration          Code = "TD_CONFIGURATION_NOT_TRUSTED"
	CodeServiceTD                Code = "SERVICE_TD_NOT_TRUSTED"
	CodeRegisterNotPinned        Code = "RTMR_NOT_PINNED"
	CodeRegister                 Code = "RTMR_NOT_TRUSTED"
	CodeEventLogMissing          Code = "EVENT_LOG_MISSING"
	CodeEventLogMalformed        Code = "EVENT_LOG_MALFORMED"
	CodeEventLog                 Code = "EVENT_LOG_MISMATCH"
	CodeEnclaveAttributes        Code = "ENCLAVE_ATTRIBUTES_NOT_ALLOWED"
	CodeEnclaveSigner            Code = "ENCLAVE_SIGNER_NOT_TRUSTED"
	CodeEnclaveConfiguration     Code = "ENCLAVE_CONFIGURATION_NOT_TRUSTED"

	CodeEndorsementMissing      Code = "ENDORSEMENT_MISSING"
	CodeEndorsementMalformed    Code = "ENDORSEMENT_MALFORMED"
	CodeEndorsementUnresolved   Code = "ENDORSEMENT_ISSUER_UNRESOLVED"
	CodeEndorsementTime         Code = "ENDORSEMENT_TIME_INVALID"
	CodeEndorsementNotYet       Code = "ENDORSEMENT_NOT_YET_VALID"
	CodeEndorsementSignature    Code = "ENDORSEMENT_SIGNATURE_INVALID"
	CodeEndorsementIssuerNotSet Code = "ENDORSEMENT_ISSUER_NOT_PINNED"
	CodeEndorsementIssuer       Code = "ENDORSEMENT_ISSUER_NOT_TRUSTED"
	CodeEndorsementFeedNotSet   Code = "ENDORSEMENT_FEED_NOT_PINNED"
	CodeEndorsementFeed         Code = "ENDORSEMENT_FEED_MISMATCH"
	CodeEndorsementSVNNotSet    Code = "ENDORSEMENT_SVN_NOT_PINNED"
	CodeEndorsementSVN          Code = "ENDORSEMENT_SVN_BELOW_FLOOR"
	CodeEndorsementEmpty        Code = "ENDORSEMENT_WITHOUT_MEASUREMENT"
	CodeReceiptMissing          Code = "RECEIPT_MISSING"
	CodeReceiptMalformed        Code = "RECEIPT_MALFORMED"
	CodeReceiptInvalid          Code = "RECEIPT_INVALID"
	CodeLedgerNotTrusted        Code = "LEDGER_NOT_TRUSTED"

	CodeAzureMalformed    Code = "AZURE_EVIDENCE_MALFORMED"
	CodeAzureInconsistent Code = "AZURE_EVIDENCE_INCONSISTENT"
	CodeClaimsMalformed   Code = "CLAIMS_MALFORMED"
	CodeClaimsNotBound    Code = "CLAIMS_NOT_BOUND"
	CodeTDReport          Code = "TD_REPORT_MISMATCH"
	CodeSecureBoot        Code = "SECURE_BOOT_OFF"
	CodeTPMQuoteMalformed Code = "TPM_QUOTE_MALFORMED"
	CodeTPMSignature      Code = "TPM_SIGNATURE_INVALID"
	CodePCRSelection      Code = "PCR_SELECTION_INVALID"
	CodePCRDigest         Code = "PCR_DIGEST_MISMATCH"
	CodePCRNotPinned      Code = "PCR_NOT_PINNED"
	CodePCR               Code = "PCR_NOT_TRUSTED"

	// The appraisal policy as a file. Its rules may have codes of their own, which begin with RULE_.
	CodeEvidenceType Code = "EVIDENCE_TYPE_NOT_ACCEPTED"
	CodeRule         Code = "RULE_DENIED"
	CodeRulesBroken  Code = "RULES_FAILED"
)

// fixes say what to change, for codes where the values alone do not.
var fixes = map[Code]string{
	CodeTimeNotSet:         "give the time at which the evidence is to be judged",
	CodeCertificateMissing: "put the certificate into the evidence: the chip's from AMD's key server, the others from AMD's site",
	CodeTrustAnchorUnknown: "configure the root that the evidence chains to, if you trust it; a simulated one needs an explicit opt-in besides",
	CodeTrustAnchorDenied:  "use a root of your own: the private key of this one is published",
	CodeTrustAnchorBad:     "configure a self-signed root certificate under its own trust domain",
	CodeChainSignature:     "get the certificates from AMD's key server: these are not what they claim to be",
	CodeCertificateUnused:  "leave out certificates that do not lead from the chip key to the root",
	CodeCertificateExpired: "get a current certificate, or judge the evidence at the time at which it was made",
	CodeCertificateNotYet:  "check the clock",
	CodeChipTCBMismatch:    "get the chip certificate for the TCB that the report states",
	CodeChipIDMismatch:     "get the certificate of the chip that the report names",
	CodeDebug:              "launch the guest with a policy that forbids debugging",
	CodeTCBProvisional:     "commit the machine's firmware, or allow provisional firmware",
	CodeTCBFloor:           "update the machine's firmware and microcode, then launch the guest again",
	CodeTCBFloorMissing:    "give a TCB floor for each product line that is to be trusted",
	CodeMeasurementNotSet:  "give the launch digests that are to be trusted",
	CodeMeasurement:        "compare what was booted with the guest image whose digest is trusted, and the number of processors",
	CodeHostDataNotSet:     "give the SHA-256 of each policy that is to be trusted",
	CodeHostData:           "compare the group's policy with the one whose digest is trusted",
	CodePolicyText:         "send the policy that the guest was launched with, byte for byte",
	CodeSourceNotSet:       "say whether the host or a workload must have asked for the report",
	CodeNonceNotSet:        "send a fresh nonce of at least 8 bytes and give it here",
	CodeNonce:              "get new evidence for this nonce",
	CodeAppraisalPolicy:    "mend the policy: as it stands it would not ask for what it seems to",
	CodeProvider:           "add the cloud provider to those whose keys may sign, if you trust it",
	CodeChipDenied:         "do not use this machine",
	CodeChipMasked:         "have the host name its chip in reports, or allow masked chips and rely on no list",
	CodePlatformUnknown:    "find out what the bit means, and then allow it by name",
	CodeIDBlockMissing:     "launch the guest with a signed ID block",
	CodeTCBLaunchFloor:     "launch the guest again: its machine ran older firmware when it was launched",
	CodeReportData:         "get new evidence: nonce or runtime data are not those that the report was made for",

	CodeCertificationUnsupported: "make quotes with the certificate chain of the machine in them (certification data of type 5)",
	CodeQEReportSignature:        "the quote was changed, or its certificates are another machine's",
	CodeAttestationKey:           "the key that signed is not the quoting enclave's: get a new quote",
	CodeCollateralMissing:        "get it from the vendor's service or a cache of it, or embed it in the evidence",
	CodeCollateralMalformed:      "get it again from the vendor's service: this is not what the service serves",
	CodeCollateralSigner:         "get it with its issuer chain from the vendor's service: another key is to sign it",
	CodeCollateralSignature:      "get it again from the vendor's service: it was changed",
	CodeCollateralExpired:        "get a current one, or judge the evidence at the time at which it was made",
	CodeCollateralNotYet:         "check the clock",
	CodeCollateralTooOld:         "get a newer one, or allow a greater age",
	CodeCertificateRevoked:       "do not use this machine: the vendor says that its key is not to be trusted",
	CodeEvaluationNumber:         "get collateral with a higher tcbEvaluationDataNumber",
	CodePlatformModel:            "get the TCB info of the machine's FMSPC, for the kind of guest that it runs",
	CodeQuotingEnclave:           "the quote was made by an enclave that is not the vendor's: install the vendor's quoting enclave",
	CodeTDXModule:                "update the machine's TDX module, and get the TCB info of today",
	CodeTDXModuleNotAllowed:      "compare MRSEAM with the modules that are trusted",
	CodeTCBLevel:                 "update the machine's firmware: it is older than all that the vendor knows a status of",
	CodeTCBStatus:                "update the machine's firmware, or accept this status after reading the advisories",
	CodeAdvisory:                 "apply the mitigations of the advisory, or accept it",
	CodeTEE:                      "give the rules for this kind of guest",
	CodeTDAttributes:             "launch the trust domain with other attributes",
	CodeXFAM:                     "launch the trust domain with fewer processor features",
	CodeTDConfiguration:          "compare MRCONFIGID, MROWNER and MROWNERCONFIG with the trusted ones",
	CodeServiceTD:                "compare MRSERVICETD with the trusted ones",
	CodeRegisterNotPinned:        "give trusted values for RTMR0 to RTMR2, or open a register by name; RTMR3 alone proves nothing, because whatever was booted can extend it",
	CodeRegister:                 "compare kernel, command line and firmware settings with those whose values are trusted",
	CodeEventLogMissing:          "send the event log with the evidence",
	CodeEventLogMalformed:        "send the event log as the firmware made it",
	CodeEventLog:                 "send the log of the guest that was quoted, taken at the same time",
	CodeEnclaveAttributes:        "sign and launch the enclave with other attributes",
	CodeEnclaveSigner:            "compare MRSIGNER, ISVPRODID and ISVSVN with the trusted ones",
	CodeEnclaveConfiguration:     "compare CONFIGID and CONFIGSVN with the trusted ones",

	CodeEndorsementMissing:      "send the publisher's endorsement of the measurement with the evidence",
	CodeEndorsementMalformed:    "send the endorsement as its publisher made it",
	CodeEndorsementUnresolved:   "send the endorsement as its publisher made it: its certificates are not those of its issuer",
	CodeEndorsementTime:         "get an endorsement that was signed while its signer's certificates were valid",
	CodeEndorsementNotYet:       "check the clock",
	CodeEndorsementSignature:    "send the endorsement as its publisher made it: it was changed",
	CodeEndorsementIssuerNotSet: "give the did:x509 of each issuer that is to be trusted, in full",
	CodeEndorsementFeedNotSet:   "give the name of the series that the endorsement must belong to",
	CodeEndorsementSVNNotSet:    "give the lowest security version that is to be trusted, at least 1",
	CodeEndorsementSVN:          "launch a newer utility VM, or lower the floor if you trust the older one",
	CodeEndorsementEmpty:        "send the endorsement of a launch measurement",
	CodeReceiptMissing:          "send the endorsement with the receipts of the ledger that recorded it",
	CodeReceiptInvalid:          "send the receipt that belongs to this endorsement",
	CodeLedgerNotTrusted:        "give the ledger's keys under the name that its receipts state",

	CodeAzureMalformed:    "send the evidence as the guest made it",
	CodeAzureInconsistent: "send the certificate or the quote that belongs to the hardware report",
	CodeClaimsMalformed:   "send the report as the paravisor made it",
	CodeClaimsNotBound:    "send the report as the paravisor made it: its claims are not those that the hardware report binds",
	CodeTDReport:          "get a quote of the report that the evidence holds",
	CodeSecureBoot:        "create the VM with secure boot, or allow VMs without it and trust the registers alone",
	CodeTPMQuoteMalformed: "send the quote as the TPM made it",
	CodeTPMSignature:      "send a quote of this VM's TPM: it was changed, or another key signed it",
	CodePCRSelection:      "quote all registers of the SHA-256 bank",
	CodePCRDigest:         "send the register values of the time of the quote",
	CodePCRNotPinned:      "give trusted values for PCR 4 or PCR 7, and for others as needed: without them anything may have been booted",
	CodePCR:               "compare firmware, boot loader, kernel and secure boot settings with those whose values are trusted",

	CodeEvidenceType: "send evidence of an accepted type, or accept this one in the appraisal policy",
	CodeRule:         "see the rule's own words",
	CodeRulesBroken:  "mend the rules of the appraisal policy",
}
