// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"encoding/hex"
	"time"

	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/verify/azure"
	"cofferdam.dev/verify/intel"
	"cofferdam.dev/verify/uvm"
)

// BindingClaims are what a document says its report data were made of.
type BindingClaims struct {
	Source      string `json:"source,omitempty"`
	Nonce       string `json:"nonce,omitempty"`
	RuntimeData []byte `json:"runtimeData,omitempty"`
}

// ReportClaims are the fields of an SNP report that a relying party may want to show or store, byte strings in
// hexadecimal. Those that are zero where nobody used them are left out.
type ReportClaims struct {
	Version            uint32 `json:"version"`
	Product            string `json:"product,omitempty"`
	Provider           string `json:"provider,omitempty"`
	ChipID             string `json:"chipID"`
	SigningKey         string `json:"signingKey"`
	VMPL               uint32 `json:"vmpl"`
	GuestSVN           uint32 `json:"guestSVN"`
	FamilyID           string `json:"familyID,omitempty"`
	ImageID            string `json:"imageID,omitempty"`
	IDKeyDigest        string `json:"idKeyDigest,omitempty"`
	AuthorKeyDigest    string `json:"authorKeyDigest,omitempty"`
	Policy             string `json:"policy"`
	PlatformInfo       string `json:"platformInfo"`
	ReportedTCB        string `json:"reportedTCB"`
	CommittedTCB       string `json:"committedTCB"`
	CurrentTCB         string `json:"currentTCB"`
	LaunchTCB          string `json:"launchTCB"`
	LaunchMitigations  uint64 `json:"launchMitigations,omitempty"`
	CurrentMitigations uint64 `json:"currentMitigations,omitempty"`
	Measurement        string `json:"measurement"`
	HostData           string `json:"hostData"`
	ReportData         string `json:"reportData"`
	ReportID           string `json:"reportID"`
	BindingClaims
}

// QuoteClaims are the fields of a TDX or SGX quote, and what Intel says about its machine, that a relying party may want
// to show or store, byte strings in hexadecimal.
type QuoteClaims struct {
	Version uint16 `json:"version"`
	TEE     string `json:"tee"`
	// FMSPC is the model of the machine, and PPID its ID.
	FMSPC string `json:"fmspc,omitempty"`
	PPID  string `json:"ppid,omitempty"`
	// TCBStatus is the status of machine, quoting enclave and module together, and Advisories are those that apply.
	TCBStatus        string   `json:"tcbStatus,omitempty"`
	Advisories       []string `json:"advisories,omitempty"`
	EvaluationNumber uint32   `json:"tcbEvaluationDataNumber,omitempty"`
	// Measurement is MRTD or MRENCLAVE, and HostData MRCONFIGID or CONFIGID.
	Measurement string `json:"measurement"`
	HostData    string `json:"hostData"`
	ReportData  string `json:"reportData"`
	// Attributes are those of the trust domain or of the enclave.
	Attributes string `json:"attributes"`
	// XFAM, MRSEAM and RTMR are a trust domain's.
	XFAM   string   `json:"xfam,omitempty"`
	MRSEAM string   `json:"mrseam,omitempty"`
	RTMR   []string `json:"rtmr,omitempty"`
	// MRSigner, ISVProdID and ISVSVN are an enclave's.
	MRSigner  string `json:"mrsigner,omitempty"`
	ISVProdID uint16 `json:"isvProdID,omitempty"`
	ISVSVN    uint16 `json:"isvSVN,omitempty"`
	BindingClaims
}

// VMClaims are what the paravisor of an Azure VM and its TPM say.
type VMClaims struct {
	UniqueID   string `json:"uniqueID,omitempty"`
	SecureBoot bool   `json:"secureBoot"`
	// ConsoleEnabled says that the host serves a serial console, TPMPersisted that the TPM's state survives a restart, and
	// RootCertThumbprint names a certificate that the host provisioned. Nothing is asked of them unless a rule does.
	ConsoleEnabled     bool   `json:"consoleEnabled"`
	TPMPersisted       bool   `json:"tpmPersisted"`
	RootCertThumbprint string `json:"rootCertThumbprint,omitempty"`
	// UserData is what the guest last asked to have in the paravisor's report, in hexadecimal; absent when it is zeros.
	UserData string `json:"userData,omitempty"`
	// PCRs are the 24 registers of the SHA-256 bank.
	PCRs []string `json:"pcrs"`
	// ExtraData is what the TPM was asked to sign.
	ExtraData string `json:"extraData"`
}

// EndorsementClaims are what a publisher says about a launch measurement.
type EndorsementClaims struct {
	Issuer   string    `json:"issuer"`
	Feed     string    `json:"feed"`
	SVN      uint64    `json:"svn,omitempty"`
	IssuedAt time.Time `json:"issuedAt,omitzero"`
	Ledger   string    `json:"ledger,omitempty"`
}

func bindingClaims(doc *evidence.Document) BindingClaims {
	return BindingClaims{Source: string(doc.Source), Nonce: hex.EncodeToString(doc.Nonce), RuntimeData: doc.RuntimeData}
}

func reportClaims(r *snp.Report, chip *snp.ChipCertificate, doc *evidence.Document) *ReportClaims {
	c := &ReportClaims{
		Version: r.Version, ChipID: hex.EncodeToString(r.ChipID[:]), SigningKey: r.KeyInfo.SigningKey().String(),
		VMPL: r.VMPL, GuestSVN: r.GuestSVN, FamilyID: set(r.FamilyID[:]), ImageID: set(r.ImageID[:]),
		IDKeyDigest: set(r.IDKeyDigest[:]), AuthorKeyDigest: set(r.AuthorKeyDigest[:]), Policy: r.Policy.String(),
		PlatformInfo: r.PlatformInfo.String(), ReportedTCB: r.ReportedTCB.String(), CommittedTCB: r.CommittedTCB.String(),
		CurrentTCB: r.CurrentTCB.String(), LaunchTCB: r.LaunchTCB.String(), LaunchMitigations: r.LaunchMitigations,
		CurrentMitigations: r.CurrentMitigations, Measurement: hex.EncodeToString(r.Measurement[:]),
		HostData: hex.EncodeToString(r.HostData[:]), ReportData: hex.EncodeToString(r.ReportData[:]),
		ReportID: hex.EncodeToString(r.ReportID[:]), BindingClaims: bindingClaims(doc),
	}
	if chip != nil {
		c.Product, c.Provider = chip.ProductName, chip.CSPID
	}
	return c
}

func quoteClaims(res *intel.Result, doc *evidence.Document) *QuoteClaims {
	q := res.Quote
	c := &QuoteClaims{
		Version: q.Header.Version, TEE: q.Header.TEE.String(), TCBStatus: string(res.TCB.Status), Advisories: res.TCB.Advisories,
		EvaluationNumber: res.TCB.EvaluationNumber, Measurement: hex.EncodeToString(res.Measurement),
		HostData: hex.EncodeToString(res.HostData), ReportData: hex.EncodeToString(res.ReportData[:]), BindingClaims: bindingClaims(doc),
	}
	if res.PCK != nil {
		c.FMSPC, c.PPID = hex.EncodeToString(res.PCK.FMSPC[:]), hex.EncodeToString(res.PCK.PPID[:])
	}
	if td := q.TD; td != nil {
		c.Attributes, c.XFAM, c.MRSEAM = td.TDAttributes.String(), td.XFAM.String(), hex.EncodeToString(td.MRSEAM[:])
		for _, r := range td.RTMR {
			c.RTMR = append(c.RTMR, hex.EncodeToString(r[:]))
		}
	}
	if e := q.Enclave; e != nil {
		c.Attributes, c.MRSigner = e.Attributes.String(), hex.EncodeToString(e.MRSigner[:])
		c.ISVProdID, c.ISVSVN = e.ISVProdID, e.ISVSVN
	}
	return c
}

func vmClaims(res *azure.Result) *VMClaims {
	c := &VMClaims{ExtraData: hex.EncodeToString(res.ExtraData)}
	if res.Claims != nil {
		vm := res.Claims.VM
		c.UniqueID, c.SecureBoot, c.ConsoleEnabled, c.TPMPersisted = vm.UniqueID, vm.SecureBoot, vm.ConsoleEnabled, vm.TPMPersisted
		c.RootCertThumbprint, c.UserData = vm.RootCertThumbprint, set(res.Claims.UserData[:])
	}
	for _, p := range res.PCRs {
		c.PCRs = append(c.PCRs, hex.EncodeToString(p[:]))
	}
	return c
}

func endorsementClaims(res *uvm.Result) *EndorsementClaims {
	e := res.Endorsement
	if e == nil {
		return nil
	}
	c := &EndorsementClaims{Issuer: e.Issuer, Feed: e.Feed, IssuedAt: e.IssuedAt.UTC(), Ledger: res.Ledger}
	if e.SVN != nil {
		c.SVN = *e.SVN
	}
	return c
}

// set shows bytes that somebody set, and nothing for zeros.
func set(b []byte) string {
	for _, v := range b {
		if v != 0 {
			return hex.EncodeToString(b)
		}
	}
	return ""
}
