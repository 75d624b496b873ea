// SPDX-License-Identifier: Apache-2.0

package attestsvc

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"strconv"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence/hcl"
	"cofferdam.dev/evidence/sgx"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/evidence/tdx"
	"cofferdam.dev/verify/intel"
)

// Names of claims that more than one place needs.
const (
	claimType       = "x-ms-attestation-type"
	claimCompliance = "x-ms-compliance-status"
	claimRuntime    = "x-ms-runtime"
	claimInitTime   = "x-ms-inittime"
	claimPolicyHash = "x-ms-policy-hash"
	claimSigner     = "x-ms-policy-signer"
	claimSimulated  = "x-cofferdam-simulated"
	claimFresh      = "x-cofferdam-fresh"
	claimKey        = "tee-pubkey"
)

// snpClaims are the claims of an SNP report. Versions of firmware are those that the report states, by product line.
func snpClaims(claims map[string]any, r *snp.Report, chip *snp.ChipCertificate) {
	const p = "x-ms-sevsnpvm-"
	line := snp.Milan
	if chip != nil {
		line = chip.Line
	} else if l, err := r.CPUID.ProductLine(); err == nil {
		line = l
	}
	tcb, err := r.ReportedTCB.Parts(line)
	if err != nil {
		tcb = snp.TCBParts{} // the appraisal has refused it
	}
	for name, v := range map[string]any{
		"authorkeydigest":   hex.EncodeToString(r.AuthorKeyDigest[:]),
		"bootloader-svn":    int64(tcb.Bootloader),
		"familyId":          hex.EncodeToString(r.FamilyID[:]),
		"guestsvn":          int64(r.GuestSVN),
		"hostdata":          hex.EncodeToString(r.HostData[:]),
		"idkeydigest":       hex.EncodeToString(r.IDKeyDigest[:]),
		"imageId":           hex.EncodeToString(r.ImageID[:]),
		"is-debuggable":     r.Policy.Has(snp.PolicyDebug),
		"launchmeasurement": hex.EncodeToString(r.Measurement[:]),
		"microcode-svn":     int64(tcb.Microcode),
		"migration-allowed": r.Policy.Has(snp.PolicyMigrateMA),
		"reportdata":        hex.EncodeToString(r.ReportData[:]),
		"reportid":          hex.EncodeToString(r.ReportID[:]),
		"smt-allowed":       r.Policy.Has(snp.PolicySMT),
		"snpfw-svn":         int64(tcb.SNP),
		"tee-svn":           int64(tcb.TEE),
		"vmpl":              int64(r.VMPL),
	} {
		claims[p+name] = v
	}
}

// tdxClaims are the claims of a trust domain, in Azure Attestation's EAT profile. Numbers that are bit masks are the bytes
// of the quote in hexadecimal.
func tdxClaims(claims map[string]any, b *tdx.Body, tcb intel.TCB) {
	le := func(v uint64) string { return hex.EncodeToString(binary.LittleEndian.AppendUint64(nil, v)) }
	debug := b.TDAttributes&tdx.AttributesUnderDebug != 0
	for name, v := range map[string]any{
		"attester_tcb_status":               string(tcb.Status),
		"dbgstat":                           map[bool]string{false: "disabled", true: "enabled"}[debug],
		"eat_profile":                       "https://aka.ms/maa-eat-profile-tdxvm",
		"intuse":                            "generic",
		"tdx_mrconfigid":                    hex.EncodeToString(b.MRConfigID[:]),
		"tdx_mrowner":                       hex.EncodeToString(b.MROwner[:]),
		"tdx_mrownerconfig":                 hex.EncodeToString(b.MROwnerConfig[:]),
		"tdx_mrseam":                        hex.EncodeToString(b.MRSEAM[:]),
		"tdx_mrsignerseam":                  hex.EncodeToString(b.MRSignerSEAM[:]),
		"tdx_mrtd":                          hex.EncodeToString(b.MRTD[:]),
		"tdx_report_data":                   hex.EncodeToString(b.ReportData[:]),
		"tdx_seam_attributes":               le(b.SEAMAttributes),
		"tdx_seamsvn":                       int64(b.TEETCBSVN[0]),
		"tdx_td_attributes":                 le(uint64(b.TDAttributes)),
		"tdx_td_attributes_debug":           debug,
		"tdx_td_attributes_key_locker":      b.TDAttributes&tdx.AttributeKL != 0,
		"tdx_td_attributes_perfmon":         b.TDAttributes&tdx.AttributePERFMON != 0,
		"tdx_td_attributes_protection_keys": b.TDAttributes&tdx.AttributePKS != 0,
		"tdx_td_attributes_septve_disable":  b.TDAttributes&tdx.AttributeSEPTVEDisable != 0,
		"tdx_tee_tcb_svn":                   hex.EncodeToString(b.TEETCBSVN[:]),
		"tdx_xfam":                          le(uint64(b.XFAM)),
	} {
		claims[name] = v
	}
	for i, r := range b.RTMR {
		claims["tdx_rtmr"+strconv.Itoa(i)] = hex.EncodeToString(r[:])
	}
	if len(tcb.Advisories) > 0 {
		claims["x-cofferdam-advisories"] = tcb.Advisories
	}
}

// sgxClaims are the claims of an enclave, with the older names that clients still read.
func sgxClaims(claims map[string]any, b *sgx.ReportBody, r *Request, quote []byte, used collateral.Embedded) {
	debug := b.Attributes.Flags&sgx.FlagDebug != 0
	signer, enclave := hex.EncodeToString(b.MRSigner[:]), hex.EncodeToString(b.MREnclave[:])
	hashes := sgxCollateral(quote, used)
	for name, v := range map[string]any{
		"x-ms-sgx-is-debuggable":           debug,
		"x-ms-sgx-mrsigner":                signer,
		"x-ms-sgx-mrenclave":               enclave,
		"x-ms-sgx-product-id":              int64(b.ISVProdID),
		"x-ms-sgx-svn":                     int64(b.ISVSVN),
		"x-ms-sgx-config-id":               hex.EncodeToString(b.ConfigID[:]),
		"x-ms-sgx-config-svn":              int64(b.ConfigSVN),
		"x-ms-sgx-isv-extended-product-id": hex.EncodeToString(b.ISVExtProdID[:]),
		"x-ms-sgx-isv-family-id":           hex.EncodeToString(b.ISVFamilyID[:]),
		"x-ms-sgx-collateral":              hashes,
		"is-debuggable":                    debug,
		"sgx-mrsigner":                     signer,
		"sgx-mrenclave":                    enclave,
		"product-id":                       int64(b.ISVProdID),
		"svn":                              int64(b.ISVSVN),
		"tee":                              "sgx",
		"maa-attestationcollateral":        hashes,
	} {
		claims[name] = v
	}
	if d := r.Runtime; d != nil && len(d.Bytes) > 0 && !d.JSON {
		held := base64.RawURLEncoding.EncodeToString(d.Bytes)
		claims["x-ms-sgx-ehd"], claims["aas-ehd"], claims["maa-ehd"] = held, held, held
	}
}

// sgxCollateral are the digests of what the quote was judged by.
func sgxCollateral(quote []byte, used collateral.Embedded) map[string]any {
	sum := func(b []byte) string {
		s := sha256.Sum256(b)
		return hex.EncodeToString(s[:])
	}
	hashes := map[string]any{"quotehash": sum(quote)}
	for name, item := range used {
		req, err := collateral.ParseName(name)
		if err != nil {
			continue
		}
		switch req.Kind {
		case collateral.IntelTCBInfo:
			hashes["tcbinfohash"], hashes["tcbinfocertshash"] = sum(item.Body), sum(item.IssuerChain)
		case collateral.IntelQEIdentity:
			hashes["qeidhash"], hashes["qeidcertshash"] = sum(item.Body), sum(item.IssuerChain)
		case collateral.IntelPCKCRL:
			hashes["tcbinfocrlhash"], hashes["qeidcrlhash"] = sum(item.Body), sum(item.Body)
		case collateral.AMDVCEK, collateral.AMDChain, collateral.AMDCRL, collateral.IntelRootCRL:
		}
	}
	return hashes
}

// vmClaims are the claims of a VM with a paravisor: what the hardware says is nested, what the paravisor says is beside it.
func vmClaims(claims, tee map[string]any, c *hcl.Claims, pcrs [hcl.PCRCount][32]byte) {
	if len(tee) > 0 {
		tee[claimCompliance] = "unknown"
		claims["x-ms-isolation-tee"] = tee
	}
	if c == nil {
		return
	}
	registers := map[string]any{}
	for i, v := range pcrs {
		registers[strconv.Itoa(i)] = hex.EncodeToString(v[:])
	}
	claims["x-cofferdam-pcrs"] = registers
	claims["x-ms-azurevm-vmid"] = c.VM.UniqueID
	claims["secureboot"] = c.VM.SecureBoot
}

// rawJSON is what a nested claim is to a policy: its text.
func rawJSON(v any) (string, bool) {
	switch v.(type) {
	case map[string]any, []any, []string, json.RawMessage:
		b, err := json.Marshal(v)
		return string(b), err == nil
	}
	return "", false
}
