// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence/dcap"
	"cofferdam.dev/evidence/pcs"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

func load(t testing.TB, name string) []byte {
	t.Helper()
	dir, file := filepath.Split(name)
	b, err := os.ReadFile(filepath.Join(testcap.Vectors(t, filepath.Clean(dir)), file))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// parts reads a file that keeps the parts of one platform's collateral as text.
func parts(t testing.TB, name string, tcbInfo collateral.Request, ca string) collateral.Embedded {
	t.Helper()
	var p map[string]string
	if err := json.Unmarshal(load(t, name), &p); err != nil {
		t.Fatal(err)
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	return collateral.Embedded{
		tcbInfo.Name(): {Body: fmt.Appendf(nil, `{"tcbInfo":%s,"signature":"%s"}`, p["tcb_info"], p["tcb_info_signature"]),
			IssuerChain: []byte(p["tcb_info_issuer_chain"])},
		collateral.QEIdentity(tcbInfo.TEE).Name(): {
			Body:        fmt.Appendf(nil, `{"enclaveIdentity":%s,"signature":"%s"}`, p["qe_identity"], p["qe_identity_signature"]),
			IssuerChain: []byte(p["qe_identity_issuer_chain"])},
		collateral.PCKCRL(ca).Name(): {Body: unhex(p["pck_crl"])},
		collateral.RootCRL().Name():  {Body: unhex(p["root_ca_crl"])},
	}
}

// files makes collateral of one file per document. An empty name leaves the document out.
func files(t testing.TB, fmspc, tee, info, identity, chain, pckCRL, rootCRL string) collateral.Embedded {
	t.Helper()
	model, err := hex.DecodeString(fmspc)
	if err != nil {
		t.Fatal(err)
	}
	e := collateral.Embedded{}
	for _, f := range []struct {
		r    collateral.Request
		name string
	}{
		{collateral.TCBInfo(tee, [6]byte(model)), info}, {collateral.QEIdentity(tee), identity},
		{collateral.PCKCRL(collateral.PlatformCA), pckCRL}, {collateral.RootCRL(), rootCRL},
	} {
		if f.name == "" {
			continue
		}
		item := collateral.Item{Body: load(t, f.name)}
		if strings.HasSuffix(f.name, ".json") {
			item.IssuerChain = load(t, chain)
		}
		e[f.r.Name()] = item
	}
	return e
}

const t3 = "tdx/t3-v4-debug-50806f/"

func t1Collateral(t testing.TB) collateral.Embedded {
	return parts(t, "tdx/t1-v4-b0c06f/collateral.json", collateral.TCBInfo(collateral.TDX, [6]byte{0xb0, 0xc0, 0x6f}), collateral.PlatformCA)
}

func g1Collateral(t testing.TB) collateral.Embedded {
	return parts(t, "sgx/g1-v3-00a067/collateral.json", collateral.TCBInfo(collateral.SGX, [6]byte{0, 0xa0, 0x67, 0x11}), collateral.ProcessorCA)
}

func t3Collateral(t testing.TB) collateral.Embedded {
	const dir = t3 + "collateral/"
	return files(t, "50806f000000", collateral.TDX, dir+"tcb_info_50806f000000.json", dir+"td_qe_identity.json", dir+"tcb_signing_chain.pem",
		dir+"pck_crl_platform.der", dir+"root_ca_crl.der")
}

// lenient are rules that admit what no other vector is about: the values that a relying party would pin are opened.
func lenient() Policy {
	td, enclave := DefaultTDX(), DefaultSGX()
	for i := range td.RTMR {
		td.RTMR[i].Any = true
	}
	td.ConfigID.Any, td.Owner.Any, td.OwnerConfig.Any, td.ServiceTD.Any = true, true, true, true
	enclave.ConfigID.Any = true
	return Policy{TDX: &td, SGX: &enclave}
}

// judge appraises and returns the codes of the checks that did not pass, as "check=CODE", and the outcome of all.
func judge(t testing.TB, in Input, p Policy) (Result, string, []string) {
	t.Helper()
	var rec check.Record
	res := Appraise(t.Context(), &rec, in, p)
	var codes []string
	passed := map[check.Name]bool{}
	outcome := "accepted"
	for _, c := range rec.Checks() {
		switch c.Result {
		case check.Pass:
			passed[c.Name] = true
			continue
		case check.NotDecided:
			if outcome == "accepted" {
				outcome = "undecided"
			}
		default:
			outcome = "refused"
		}
		codes = append(codes, string(c.Name)+"="+string(c.Code))
	}
	if outcome == "accepted" {
		for _, name := range Mandatory(in.TEE) {
			if !passed[name] {
				t.Errorf("the mandatory check %s was not made", name)
			}
		}
	}
	slices.Sort(codes)
	return res, outcome, slices.Compact(codes)
}

func at(t testing.TB, s string) time.Time {
	t.Helper()
	when, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

// vector is a quote of the vectors with its collateral and what is documented about it.
type vector struct {
	name       string
	quote      string
	offset     int // where the quote begins in its file
	tee        dcap.TEEType
	collateral func(testing.TB) collateral.Embedded
	log        string
	at         string
	outcome    string
	codes      []string
	status     pcs.Status
	advisories []string
}

const (
	g3 = "sgx/g3-oasis/"
	t5 = "tdx/t5-google/"
	t7 = "tdx/t7-ccel-mismatch/"

	goodChain = g3 + "tcb_info_v3_fmspc_00606A000000_certs.pem"
	badChain  = g3 + "tcb_info_v3_fmspc_00606A000000_certs_bad.pem"
)

func g3Collateral(t testing.TB) collateral.Embedded {
	return files(t, "00606a000000", collateral.SGX, g3+"tcb_info_v3_fmspc_00606A000000.json", g3+"qe_identity_v2.json", goodChain, "", "")
}

// g3TDX2023 has revocation lists of another collection, which are of the same authorities and time.
func g3TDX2023(t testing.TB) collateral.Embedded {
	return files(t, "50806f000000", collateral.TDX, g3+"tcb_info_v3_tdx_fmspc_50806F000000.json", g3+"qe_identity_v2_tdx.json", goodChain,
		t5+"pckcrl.der", t5+"rootcrl.der")
}

func g3TDX2024(t testing.TB) collateral.Embedded {
	return files(t, "c0806f000000", collateral.TDX, g3+"tcb_info_v3_tdx_fmspc_C0806F000000.json", g3+"qe_identity_v2_tdx2.json", goodChain, "", "")
}

func t5Collateral(t testing.TB) collateral.Embedded {
	return files(t, "50806f000000", collateral.TDX, t5+"sample_tcbInfo_response.json", t5+"sample_qeIdentity_response.json", goodChain,
		t5+"pckcrl.der", t5+"rootcrl.der")
}

func t5Version5(t testing.TB) collateral.Embedded {
	e := files(t, "90c06f000000", collateral.TDX, "", "", "", "", "")
	e[collateral.TCBInfo(collateral.TDX, [6]byte{0x90, 0xc0, 0x6f}).Name()] = collateral.Item{
		Body: load(t, t5+"sample_tcbinfo_response_v5.json"), IssuerChain: load(t, t3+"collateral/tcb_signing_chain.pem"),
	}
	return e
}

// g4Collateral takes the documents out of Open Enclave's file, whose framing is no business of ours.
func g4Collateral(t testing.TB) collateral.Embedded {
	find := func(member string) collateral.Item {
		b := load(t, "sgx/g4-openenclave/endorsements")
		doc := regexp.MustCompile(`(?s)\{"` + member + `".*?"signature":"[0-9a-f]*"\}`).Find(b)
		return collateral.Item{Body: doc, IssuerChain: load(t, goodChain)}
	}
	return collateral.Embedded{
		collateral.TCBInfo(collateral.SGX, [6]byte{0, 0x90, 0x6e, 0xd5}).Name(): find("tcbInfo"),
		collateral.QEIdentity(collateral.SGX).Name():                            find("enclaveIdentity"),
	}
}

func noCollateral(testing.TB) collateral.Embedded { return nil }

// missing are the codes of checks that could not be made without the named collateral.
func missing(lists, documents bool, more ...string) []string {
	if lists {
		more = append(more, "pck-crl=COLLATERAL_MISSING", "revocation=COLLATERAL_MISSING", "root-crl=COLLATERAL_MISSING")
	}
	if documents {
		more = append(more, "platform-model=COLLATERAL_MISSING", "qe-identity=COLLATERAL_MISSING", "quoting-enclave=COLLATERAL_MISSING",
			"tcb-evaluation=COLLATERAL_MISSING", "tcb-info=COLLATERAL_MISSING", "tcb-level=COLLATERAL_MISSING",
			"tcb-status=COLLATERAL_MISSING", "tdx-module=COLLATERAL_MISSING")
	}
	slices.Sort(more)
	return more
}

var vectors = []vector{
	{
		name: "t1", quote: "tdx/t1-v4-b0c06f/tdx_quote.bin", tee: dcap.TEETDX, collateral: t1Collateral, at: "2025-06-21T00:00:00Z",
		outcome: "accepted", status: pcs.UpToDate,
	},
	{
		name: "t3 is a debug domain on a machine out of date", quote: t3 + "tdx_quote_4.dat", tee: dcap.TEETDX, collateral: t3Collateral,
		at: "2026-03-18T00:00:00Z", outcome: "refused", codes: []string{"debug=DEBUG_ALLOWED", "tcb-status=TCB_STATUS_NOT_ACCEPTED"},
		status: pcs.OutOfDate,
		advisories: []string{
			"INTEL-SA-00837", "INTEL-SA-00960", "INTEL-SA-00982", "INTEL-SA-00986", "INTEL-SA-01010", "INTEL-SA-01036",
			"INTEL-SA-01076", "INTEL-SA-01079", "INTEL-SA-01099", "INTEL-SA-01103", "INTEL-SA-01111",
		},
	},
	{
		name: "t5 ends with text and reaches no level", quote: t5 + "tdx_prod_quote_SPR_E4.dat", tee: dcap.TEETDX, collateral: t5Collateral,
		at: "2023-07-01T00:00:00Z", outcome: "refused",
		codes: []string{"format=TRAILING_DATA", "tcb-level=TCB_LEVEL_NOT_FOUND", "tcb-status=COLLATERAL_MISSING", "td-attributes=TD_ATTRIBUTES_NOT_ALLOWED"},
	},
	{
		name: "t5 of version 5, without QE identity and lists", quote: t5 + "quote_v5_sample.dat", tee: dcap.TEETDX, collateral: t5Version5,
		at: "2026-02-10T00:00:00Z", outcome: "undecided",
		codes: missing(true, false, "qe-identity=COLLATERAL_MISSING", "quoting-enclave=COLLATERAL_MISSING", "tcb-evaluation=COLLATERAL_MISSING",
			"tcb-level=COLLATERAL_MISSING", "tcb-status=COLLATERAL_MISSING"),
	},
	{
		name: "t6, log and quote belong together", quote: "tdx/t6-ccel-google/cos-113-tdx-quote.dat", tee: dcap.TEETDX, collateral: noCollateral,
		log: "tdx/t6-ccel-google/ccel_data.dat", at: "2025-01-01T00:00:00Z", outcome: "undecided", codes: missing(true, true),
	},
	{
		name: "t7 pair a, the log is another's", quote: t7 + "pair-a/tdx_quote_live.dat", tee: dcap.TEETDX, collateral: noCollateral,
		log: t7 + "pair-a/tdx_ccel_live.bin", at: "2026-06-01T00:00:00Z", outcome: "refused", codes: missing(true, true, "event-log=EVENT_LOG_MISMATCH"),
	},
	{
		name: "t7 pair b, the log is another's", quote: t3 + "tdx_quote_4.dat", tee: dcap.TEETDX, collateral: noCollateral,
		log: t7 + "pair-b/CCEL_data", at: "2026-03-18T00:00:00Z", outcome: "refused",
		codes: missing(true, true, "debug=DEBUG_ALLOWED", "event-log=EVENT_LOG_MISMATCH"),
	},
	{
		name: "g1", quote: "sgx/g1-v3-00a067/sgx_quote.bin", tee: dcap.TEESGX, collateral: g1Collateral, at: "2025-06-21T00:00:00Z",
		outcome: "refused", codes: []string{"tcb-status=TCB_STATUS_NOT_ACCEPTED"}, status: pcs.ConfigurationAndSWHardeningNeeded,
		advisories: []string{"INTEL-SA-00289", "INTEL-SA-00615"},
	},
	{
		name: "g3", quote: g3 + "quote_v3_ecdsa_p256_pck_chain.bin", tee: dcap.TEESGX, collateral: g3Collateral, at: "2022-12-20T00:00:00Z",
		outcome: "refused", codes: missing(true, false, "tcb-status=TCB_STATUS_NOT_ACCEPTED"), status: pcs.SWHardeningNeeded,
		advisories: []string{"INTEL-SA-00615", "INTEL-SA-00657"},
	},
	{
		name: "g3 without a certificate chain", quote: g3 + "quote_v3_ecdsa_p256_eppid.bin", tee: dcap.TEESGX, collateral: g3Collateral,
		at: "2022-12-20T00:00:00Z", outcome: "refused",
		codes: []string{
			"certification-data=CERTIFICATION_UNSUPPORTED", "pck-crl=COLLATERAL_MISSING", "qe-identity=COLLATERAL_MISSING",
			"qe-report=SIGNATURE_NOT_CHECKED", "quoting-enclave=COLLATERAL_MISSING", "revocation=COLLATERAL_MISSING",
			"root-crl=COLLATERAL_MISSING", "tcb-evaluation=COLLATERAL_MISSING", "tcb-info=COLLATERAL_MISSING",
			"tcb-level=COLLATERAL_MISSING", "tcb-status=COLLATERAL_MISSING",
		},
	},
	{
		name: "g3 TDX", quote: g3 + "quote_v4_tdx_ecdsa_p256.bin", tee: dcap.TEETDX, collateral: g3TDX2024, at: "2024-09-10T00:00:00Z",
		outcome: "undecided", codes: missing(true, false), status: pcs.UpToDate,
	},
	{
		name: "g3 TDX with zeros behind it", quote: g3 + "quote_v4_tdx_ecdsa_p256_trailing.bin", tee: dcap.TEETDX, collateral: g3TDX2024,
		at: "2024-09-10T00:00:00Z", outcome: "undecided", codes: missing(true, false, "certificate-validity=CERTIFICATE_NOT_YET_VALID"), status: pcs.UpToDate,
	},
	{
		name: "g3 TDX below all levels", quote: g3 + "quote_v4_tdx_ecdsa_p256_out_of_date.bin", tee: dcap.TEETDX, collateral: g3TDX2023,
		at: "2023-06-20T00:00:00Z", outcome: "refused",
		codes: []string{"tcb-level=TCB_LEVEL_NOT_FOUND", "tcb-status=COLLATERAL_MISSING", "td-attributes=TD_ATTRIBUTES_NOT_ALLOWED"},
	},
	{
		name: "g3 Occlum, debug and out of date", quote: "sgx/g3-occlum-debug/occlum_quote.dat", tee: dcap.TEESGX, collateral: g3Collateral,
		at: "2022-12-20T00:00:00Z", outcome: "refused",
		codes:      missing(true, false, "certificate-validity=CERTIFICATE_NOT_YET_VALID", "debug=DEBUG_ALLOWED", "tcb-status=TCB_STATUS_NOT_ACCEPTED"),
		status:     pcs.OutOfDate,
		advisories: []string{"INTEL-SA-00586", "INTEL-SA-00614", "INTEL-SA-00615", "INTEL-SA-00657"},
	},
	{
		name: "g4 Open Enclave, debug", quote: "sgx/g4-openenclave/evidence", offset: 81, tee: dcap.TEESGX, collateral: g4Collateral,
		at: "2022-05-01T00:00:00Z", outcome: "refused", codes: missing(true, false, "debug=DEBUG_ALLOWED", "tcb-status=TCB_STATUS_NOT_ACCEPTED"),
		status: pcs.SWHardeningNeeded,
	},
}

func (v *vector) input(t testing.TB) Input {
	t.Helper()
	in := Input{
		TEE: v.tee, Quote: load(t, v.quote)[v.offset:], Now: at(t, v.at), Roots: []anchor.Root{anchor.IntelRoot()},
		Collateral: v.collateral(t),
	}
	if v.log != "" {
		in.EventLog = load(t, v.log)
	}
	return in
}

func TestVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			in := v.input(t)
			res, outcome, codes := judge(t, in, lenient())
			if outcome != v.outcome {
				t.Errorf("outcome is %s, not %s", outcome, v.outcome)
			}
			if d := cmp.Diff(v.codes, codes); d != "" {
				t.Errorf("codes differ (-want +got):\n%s", d)
			}
			if d := cmp.Diff(v.advisories, res.TCB.Advisories); d != "" {
				t.Errorf("advisories differ (-want +got):\n%s", d)
			}
			if res.TCB.Status != v.status {
				t.Errorf("status is %q, not %q", res.TCB.Status, v.status)
			}
			in.Now = at(t, today)
			if _, outcome, codes = judge(t, in, lenient()); outcome == "accepted" {
				t.Errorf("accepted today: %v", codes)
			}
			for _, c := range codes {
				if strings.HasPrefix(c, "tcb-") && !strings.HasSuffix(c, "COLLATERAL_EXPIRED") && !strings.HasSuffix(c, "COLLATERAL_MISSING") {
					t.Errorf("%s is decided by documents that are out of date", c)
				}
			}
		})
	}
}

// today is a time after that of all collateral.
const today = "2026-11-26T00:00:00Z"
