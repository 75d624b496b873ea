// SPDX-License-Identifier: Apache-2.0

package verify

// CheckName names a check. Names are stable.
type CheckName string

// The checks, in the order of the chain.
const (
	CheckTime            CheckName = "time"
	CheckFormat          CheckName = "format"
	CheckTrustAnchor     CheckName = "trust-anchor"
	CheckChain           CheckName = "chain"
	CheckProfile         CheckName = "certificate-profile"
	CheckValidity        CheckName = "certificate-validity"
	CheckChipCertificate CheckName = "chip-certificate"
	CheckSigner          CheckName = "signer"
	CheckChipTCB         CheckName = "chip-tcb"
	CheckChipID          CheckName = "chip-id"
	CheckProduct         CheckName = "product"
	CheckSignature       CheckName = "signature"
	CheckVMPL            CheckName = "vmpl"
	CheckGuestPolicy     CheckName = "guest-policy"
	CheckDebug           CheckName = "debug"
	CheckMigration       CheckName = "migration"
	CheckPlatform        CheckName = "platform"
	CheckTCBOrder        CheckName = "tcb-order"
	CheckTCBCommitted    CheckName = "tcb-committed"
	CheckTCBFloor        CheckName = "tcb-floor"
	CheckMeasurement     CheckName = "measurement"
	CheckHostData        CheckName = "host-data"
	CheckPolicyText      CheckName = "policy-text"
	CheckSource          CheckName = "source"
	CheckNonce           CheckName = "nonce"
	CheckRuntimeData     CheckName = "runtime-data"
	CheckReportData      CheckName = "report-data"
)

var checkTitles = map[CheckName]string{
	CheckTime:            "the time of appraisal is given",
	CheckFormat:          "the evidence has a known form",
	CheckTrustAnchor:     "the chain ends in a configured root",
	CheckChain:           "every certificate is signed by the one above it, and none is left over",
	CheckProfile:         "the certificates have the roles that they are used in",
	CheckValidity:        "every certificate is valid at the time of appraisal",
	CheckChipCertificate: "the certificate of the key that signed is at hand",
	CheckSigner:          "the report is signed by a kind of key that is allowed",
	CheckChipTCB:         "the chip key belongs to the TCB that the report states",
	CheckChipID:          "the chip key belongs to the chip that the report names",
	CheckProduct:         "certificate and report name the same product line",
	CheckSignature:       "the report is signed by the chip key",
	CheckVMPL:            "a privileged enough level asked for the report",
	CheckGuestPolicy:     "the guest policy is one that is understood",
	CheckDebug:           "the host can not decrypt the guest's memory",
	CheckMigration:       "no migration agent can move the guest",
	CheckPlatform:        "the machine has the properties that are asked for",
	CheckTCBOrder:        "reported, committed and current TCB are in order",
	CheckTCBCommitted:    "the running firmware is committed",
	CheckTCBFloor:        "the TCB is recent enough, now and at launch",
	CheckMeasurement:     "the launch measurement is a trusted one",
	CheckHostData:        "the host data name a trusted policy",
	CheckPolicyText:      "the policy text is the one that the host data name",
	CheckSource:          "the report was made on the expected behalf",
	CheckNonce:           "the evidence answers this nonce",
	CheckRuntimeData:     "the runtime data are the expected ones",
	CheckReportData:      "the report is bound to nonce and runtime data",
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
