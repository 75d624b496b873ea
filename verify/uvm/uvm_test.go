// SPDX-License-Identifier: Apache-2.0

package uvm

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/evidence/receipt"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/verify/check"
)

const (
	u1   = "uvm/u1-esrp.test.cose"
	u2   = "uvm/u2-esrp_transparent_hash_envelop.cose"
	s1   = "snp/s1-aci-milan-v2/body.uvm_reference_info.bin"
	s1b  = "snp/s1b-security-context/reference-info-base64"
	scan = "ledger/scitt/uvm_0.2.10.cose"

	kens = "did:x509:0:sha256:T3wuOi7RTvgBsJ9df38hYzZTcuj-AECHzLeS-882ops::subject:CN:Gen%20Purpose%20NoCS%20P384%20384%20Test%201%20%28DO%20NOT%20TRUST%29"

	s1Measurement = "51068107cdc7ee3d89c7821b05bca6147eb77b2005ae759050fc049b65a1b0beabc65a9d857acecf23225f5ec76849f5"
)

// later is a time after all vectors were signed and after the certificates of most have expired.
var later = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(testcap.Vectors(t, name))
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(name, "base64") {
		if b, err = base64.StdEncoding.DecodeString(string(b)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func ledger(t testing.TB, file string) map[string]receipt.KeySet {
	t.Helper()
	keys, err := receipt.ParseKeys(read(t, file))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]receipt.KeySet{ledgerName(t): keys}
}

// ledgerName is the name that the ledger of the vectors states.
func ledgerName(t testing.TB) string {
	t.Helper()
	list, err := receipt.FromStatement(read(t, u2))
	if err != nil || len(list) != 1 {
		t.Fatalf("%d receipts, %v", len(list), err)
	}
	return list[0].Ledger
}

// judge returns the codes of the checks that did not pass, and fails the test when a mandatory check was left out.
func judge(t testing.TB, in Input, p Policy) []check.Code {
	t.Helper()
	rec := &check.Record{}
	res := Appraise(context.Background(), rec, in, p)
	var codes []check.Code
	made := map[check.Name]bool{}
	for _, c := range rec.Checks() {
		made[c.Name] = true
		if c.Result != check.Pass {
			codes = append(codes, c.Code)
		}
	}
	for _, n := range Mandatory() {
		if !made[n] && res.Endorsement != nil {
			t.Errorf("check %s was not made", n)
		}
	}
	return codes
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestVectors(t *testing.T) {
	t.Parallel()
	receipts := AzureContainerPlat(104)
	receipts.RequireReceipt, receipts.Ledgers = true, ledger(t, "uvm/esrp_db_ledger_pub_keys.json")
	scitt := receipts
	scitt.Ledgers = ledger(t, "ledger/scitt/esrp-cts-db.json")
	wrongKeys, wrongName, noLedger := receipts, receipts, receipts
	wrongKeys.Ledgers = ledger(t, "uvm/esrp_cp_ledger_pub_keys.json")
	wrongName.Ledgers = map[string]receipt.KeySet{"another": receipts.Ledgers[ledgerName(t)]}
	noLedger.Ledgers = nil
	feed, floor, issuer := AzureContainerPlat(104), AzureContainerPlat(105), AzureContainerPlat(104)
	feed.Feed, issuer.Issuers = "KensHouseOfUVMImages", []string{kens}
	needsReceipt := AzureContainerPlat(22)
	needsReceipt.RequireReceipt, needsReceipt.Ledgers = true, receipts.Ledgers
	flipped := bytes.Clone(read(t, u2))
	flipped[len(flipped)-1] ^= 1
	m2, mScan := "dc3f5a93448923", "4904167aa9102a75"
	for name, c := range map[string]struct {
		file, measurement string
		p                 Policy
		want              []check.Code
	}{
		"s1":           {s1, s1Measurement, AzureContainerPlat(22), nil},
		"s1b":          {s1b, "03fea02823189b25", AzureContainerPlat(100), nil},
		"s1b for s1":   {s1b, s1Measurement, AzureContainerPlat(100), []check.Code{check.CodeMeasurement}},
		"u2":           {u2, m2, AzureContainerPlat(104), nil},
		"u2 for s1":    {u2, s1Measurement, AzureContainerPlat(104), []check.Code{check.CodeMeasurement}},
		"scitt":        {scan, mScan, scitt, nil},
		"receipt":      {u2, m2, receipts, nil},
		"other ledger": {u2, m2, wrongKeys, []check.Code{check.CodeReceiptInvalid}},
		"other name":   {u2, m2, wrongName, []check.Code{check.CodeLedgerNotTrusted}},
		"no ledger":    {u2, m2, noLedger, []check.Code{check.CodeLedgerNotTrusted}},
		"no receipt":   {s1, s1Measurement, needsReceipt, []check.Code{check.CodeReceiptMissing}},
		"feed":         {u2, m2, feed, []check.Code{check.CodeEndorsementFeed}},
		"floor":        {u2, m2, floor, []check.Code{check.CodeEndorsementSVN}},
		"issuer":       {u2, m2, issuer, []check.Code{check.CodeEndorsementIssuer}},
		"no floor":     {u2, m2, AzureContainerPlat(0), []check.Code{check.CodeEndorsementSVNNotSet}},
		"u1": {
			u1, s1Measurement, Policy{Issuers: []string{kens}, Feed: "KensHouseOfUVMImages", MinimumSVN: 1},
			[]check.Code{check.CodeEndorsementSVN, check.CodeEndorsementEmpty}, // the payload is about something else
		},
		"u1 unpinned": {
			u1, s1Measurement, AzureContainerPlat(1),
			[]check.Code{check.CodeEndorsementIssuer, check.CodeEndorsementFeed, check.CodeEndorsementSVN, check.CodeEndorsementEmpty},
		},
		"nothing pinned": {
			u2, m2, Policy{},
			[]check.Code{check.CodeEndorsementIssuerNotSet, check.CodeEndorsementFeedNotSet, check.CodeEndorsementSVNNotSet},
		},
	} {
		in := Input{Endorsement: read(t, c.file), Now: later}
		in.Measurement = unhex(t, c.measurement)
		if e, err := parsed(in.Endorsement); err == nil && len(c.measurement) < 96 && strings.HasPrefix(hex.EncodeToString(e), c.measurement) {
			in.Measurement = e
		}
		if diff := cmp.Diff(c.want, judge(t, in, c.p)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	codes := judge(t, Input{Endorsement: flipped, Measurement: make([]byte, 48), Now: later}, AzureContainerPlat(104))
	if !slices.Contains(codes, check.CodeEndorsementSignature) {
		t.Errorf("a flipped bit of the signature: %v", codes)
	}
}

func TestTime(t *testing.T) {
	t.Parallel()
	signed := time.Date(2023, 2, 8, 5, 42, 23, 0, time.UTC)
	for name, c := range map[string]struct {
		now  time.Time
		want []check.Code
	}{
		"at the time of signing": {signed, nil},
		"long after":             {signed.AddDate(30, 0, 0), nil},
		"before":                 {signed.Add(-time.Second), []check.Code{check.CodeEndorsementNotYet}},
		"never":                  {time.Time{}, []check.Code{check.CodeTimeNotSet}},
	} {
		in := Input{Endorsement: read(t, s1), Measurement: unhex(t, s1Measurement), Now: c.now}
		if diff := cmp.Diff(c.want, judge(t, in, AzureContainerPlat(22))); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	in := Input{Endorsement: []byte("nothing"), Measurement: make([]byte, 48), Now: later}
	if diff := cmp.Diff([]check.Code{check.CodeEndorsementMalformed}, judge(t, in, AzureContainerPlat(1))); diff != "" {
		t.Error(diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	rec := &check.Record{}
	Appraise(ctx, rec, in, AzureContainerPlat(1))
	if c := rec.Checks(); len(c) != 1 || c[0].Result != check.NotDecided || c[0].Code != check.CodeCancelled {
		t.Errorf("after the end: %+v", c)
	}
	if p := (Policy{}); !p.IsZero() {
		t.Error("the zero policy is not zero")
	}
	if p := AzureContainerPlat(0); p.IsZero() {
		t.Error("a policy that names an issuer is zero")
	}
}

// TestSweep cuts, extends and changes endorsements. Nothing of it may be accepted, but for the unprotected header, which the
// signer did not sign and nobody reads: s1 carries a time stamp there. Of u2 a receipt is asked for, so nothing is left out.
func TestSweep(t *testing.T) {
	t.Parallel()
	step := 3
	if testing.Short() {
		step = 101
	}
	receipts := AzureContainerPlat(104)
	receipts.RequireReceipt, receipts.Ledgers = true, ledger(t, "uvm/esrp_db_ledger_pub_keys.json")
	for name, p := range map[string]Policy{s1: AzureContainerPlat(22), u2: receipts} {
		whole := read(t, name)
		measurement, err := parsed(whole)
		if err != nil {
			t.Fatal(err)
		}
		accepted := func(b []byte) bool {
			return len(judge(t, Input{Endorsement: b, Measurement: measurement, Now: later}, p)) == 0
		}
		if !accepted(whole) {
			t.Fatalf("%s itself is not accepted", name)
		}
		from, until := unprotected(t, whole)
		if p.RequireReceipt {
			from, until = 0, 0
		}
		for i := 0; i < len(whole); i += step {
			b := bytes.Clone(whole)
			b[i] ^= 1 << (i % 8)
			if (i < from || i >= until) && accepted(b) {
				t.Errorf("%s: accepted with byte %d changed", name, i)
			}
			if accepted(whole[:i]) {
				t.Errorf("%s: accepted with %d bytes", name, i)
			}
		}
		for _, tail := range [][]byte{{0}, whole[:1], whole} {
			if accepted(append(bytes.Clone(whole), tail...)) {
				t.Errorf("%s: accepted with %d bytes more", name, len(tail))
			}
		}
	}
}

func FuzzAppraise(f *testing.F) {
	f.Add([]byte{0xd2, 0x84, 0x40, 0xa0, 0x40, 0x40})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(judge(t, Input{Endorsement: b, Measurement: make([]byte, 48), Now: later}, AzureContainerPlat(1))) == 0 {
			t.Errorf("accepted: %x", b)
		}
	})
}
