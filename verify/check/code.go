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
	CodeReportData:         "get new evidence: nonce or runtime data are not those that the report was made for",
}
