// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/evidence/hcl"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
	"cofferdam.dev/verify/intel"
)

// now lies in the validity of every certificate of the vectors.
var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

const tdxVector = "tdx/a6/evidence-v1.json"

// vectors are real evidence, with what the TPM was asked to sign.
var vectors = []struct{ file, extra string }{
	{"snp/a1-3/evidence-v0.json", "challenge"},
	{"snp/a1-3/evidence-v1.json", "challenge"},
	{"snp/a1-3/evidence-v2.json", "\x98\x2f\x5c\x6e\x45\xdf\x0e\xd3\xf1\x0b\x6f\x60\xb0\x2f\x0c\x83\x90\xe2\x81\x30\x0f\x38\x05\xe2\x27\x9c\x16\x16\x8c\xd6\xae\x9a\xa3\x98\xf6\x47\xca\xa2\x33\x87\x48\xcd\x0f\xd9\xf5\xf8\x19\xef"},
	{"snp/a5/evidence-v1.json", "challenge"},
	{"snp/a5/live-evidence.json", "attestation-test-fixture"},
	{"snp/a5/milan-v3-attestation.json", ""},
	{tdxVector, "challenge"},
}

func load(t testing.TB, file string) *hcl.Evidence {
	t.Helper()
	b, err := os.ReadFile(testcap.Vectors(t, "azure-vtpm/"+file))
	if err != nil {
		t.Fatal(err)
	}
	e, err := hcl.ParseEvidence(b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func marshal(t testing.TB, e *hcl.Evidence) []byte {
	t.Helper()
	b, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// input has everything that the vectors need but Intel's collateral.
func input(t testing.TB, b []byte) Input {
	t.Helper()
	rules := DefaultTDX()
	return Input{
		Evidence: b, Now: now, Roots: append(anchor.AMDRoots(), anchor.IntelRoot()),
		SNP: amd.Policy{
			MinimumTCB:          map[snp.ProductLine]snp.TCBParts{snp.Milan: {}, snp.Genoa: {}},
			AllowProvisionalTCB: true,
		},
		TDX: intel.Policy{TDX: &rules},
	}
}

// pinned trusts launch measurement and registers as they are.
func pinned(e *hcl.Evidence) Policy {
	const snpAt, tdxAt = 32 + 0x90, 32 + 512 + 16
	p := Policy{Measurements: [][]byte{bytes.Clone(e.Report[snpAt : snpAt+48]), bytes.Clone(e.Report[tdxAt : tdxAt+48])}, PCRs: map[int][][sha256.Size]byte{}}
	for i, v := range e.Quote.PCRs {
		p.PCRs[i] = [][sha256.Size]byte{v}
	}
	return p
}

// outcome is what an appraisal comes to without what package verify adds.
type outcome struct {
	failed, open []check.Code
	missing      []check.Name
}

func judge(t testing.TB, in Input, p Policy) (Result, outcome) {
	t.Helper()
	rec := &check.Record{}
	res := Appraise(context.Background(), rec, in, p)
	var o outcome
	made := map[check.Name]bool{}
	for _, c := range rec.Checks() {
		made[c.Name] = true
		switch c.Result {
		case check.Pass:
		case check.NotDecided:
			o.open = append(o.open, c.Code)
		default:
			o.failed = append(o.failed, c.Code)
		}
	}
	for _, n := range Mandatory(res.Kind) {
		if !made[n] {
			o.missing = append(o.missing, n)
		}
	}
	return res, o
}

func (o outcome) accepted() bool { return len(o.failed)+len(o.open)+len(o.missing) == 0 }

func TestVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors {
		e := load(t, v.file)
		res, o := judge(t, input(t, marshal(t, e)), pinned(e))
		if string(res.ExtraData) != v.extra {
			t.Errorf("%s: extra data are %q", v.file, res.ExtraData)
		}
		if v.file == tdxVector {
			if len(o.failed) != 0 || res.TDX == nil || res.TDX.Domain != anchor.Intel {
				t.Errorf("%s: %+v", v.file, o)
			}
			if len(o.open) == 0 || slices.ContainsFunc(o.open, func(c check.Code) bool { return c != check.CodeCollateralMissing }) {
				t.Errorf("%s: undecided by %v", v.file, o.open)
			}
			continue
		}
		if !o.accepted() {
			t.Errorf("%s: %+v", v.file, o)
		}
		if res.SNP == nil || res.SNP.Domain != anchor.AMD || res.SNP.Simulated || res.Claims == nil {
			t.Errorf("%s: result is %+v", v.file, res)
		}
	}
}

// TestChanges makes each thing wrong that the evidence of all vectors can have wrong, alone.
func TestChanges(t *testing.T) {
	t.Parallel()
	claims := func(at func(b []byte) int) func(*hcl.Evidence) {
		return func(e *hcl.Evidence) {
			r, err := hcl.ParseReport(e.Report)
			if err != nil {
				t.Fatal(err)
			}
			i := at(r.Claims) // which share the report's memory
			r.Claims[i] = map[bool]byte{true: 'B', false: 'A'}[r.Claims[i] == 'A']
		}
	}
	another := load(t, "snp/a5/live-evidence.json")
	for name, c := range map[string]struct {
		change func(*hcl.Evidence)
		want   []check.Code
	}{
		"claims": {claims(func(b []byte) int { return bytes.Index(b, []byte("vmUniqueId")) + 14 }), []check.Code{check.CodeClaimsNotBound}},
		"key": {
			claims(func(b []byte) int { return bytes.Index(b, []byte(`"n":"`)) + 20 }),
			[]check.Code{check.CodeClaimsNotBound, check.CodeTPMSignature},
		},
		"register": {func(e *hcl.Evidence) { e.Quote.PCRs[23][0] ^= 1 }, []check.Code{check.CodePCRDigest, check.CodePCR}},
		"register of the quote": {
			func(e *hcl.Evidence) { e.Quote.Message[len(e.Quote.Message)-1] ^= 1 },
			[]check.Code{check.CodeTPMSignature, check.CodePCRDigest},
		},
		"signature":  {func(e *hcl.Evidence) { e.Quote.Signature[100] ^= 1 }, []check.Code{check.CodeTPMSignature}},
		"extra data": {func(e *hcl.Evidence) { e.Quote.Message[30] ^= 1 }, []check.Code{check.CodeTPMSignature}},
		"selection": {
			func(e *hcl.Evidence) { e.Quote.Message[len(e.Quote.Message)-35] ^= 1 },
			[]check.Code{check.CodeTPMSignature, check.CodePCRSelection},
		},
		"no quote": {
			func(e *hcl.Evidence) { e.Quote.Message = e.Quote.Message[:20] },
			[]check.Code{check.CodeTPMQuoteMalformed, check.CodeTPMSignature},
		},
		"another quote": {
			func(e *hcl.Evidence) { e.Quote = another.Quote },
			nil, // asserted below: the registers differ by vector
		},
		"another hash": {func(e *hcl.Evidence) { e.Report[32+1184+12] = 2 }, []check.Code{check.CodeAzureMalformed}},
	} {
		for _, v := range vectors {
			if name == "another quote" && v.file == "snp/a5/live-evidence.json" {
				continue
			}
			e := load(t, v.file)
			p := pinned(e)
			c.change(e)
			_, o := judge(t, input(t, marshal(t, e)), p)
			if name == "another quote" {
				if !slices.Contains(o.failed, check.CodeTPMSignature) {
					t.Errorf("%s: %s: %v", v.file, name, o.failed)
				}
				continue
			}
			if diff := cmp.Diff(c.want, o.failed); diff != "" {
				t.Errorf("%s: %s:\n%s", v.file, name, diff)
			}
		}
	}
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	e := load(t, "snp/a1-3/evidence-v1.json")
	b := marshal(t, e)
	value := func(i int) [][sha256.Size]byte { return [][sha256.Size]byte{e.Quote.PCRs[i]} }
	wrong := [][sha256.Size]byte{{1}, {2}, {3}, {4}, {5}}
	for name, c := range map[string]struct {
		pcrs map[int][][sha256.Size]byte
		want []check.Code
	}{
		"nothing":          {nil, []check.Code{check.CodePCRNotPinned}},
		"boot manager":     {map[int][][sha256.Size]byte{4: value(4)}, nil},
		"secure boot":      {map[int][][sha256.Size]byte{7: value(7)}, nil},
		"one of several":   {map[int][][sha256.Size]byte{7: append(wrong, value(7)...)}, nil},
		"higher ones":      {map[int][][sha256.Size]byte{8: value(8), 11: value(11)}, []check.Code{check.CodePCRNotPinned}},
		"wrong":            {map[int][][sha256.Size]byte{7: wrong}, []check.Code{check.CodePCR}},
		"one wrong":        {map[int][][sha256.Size]byte{7: value(7), 0: wrong}, []check.Code{check.CodePCR}},
		"without a value":  {map[int][][sha256.Size]byte{7: {}}, []check.Code{check.CodePCRNotPinned}},
		"another's":        {map[int][][sha256.Size]byte{4: value(7)}, []check.Code{check.CodePCR}},
		"no such register": {map[int][][sha256.Size]byte{7: value(7), 24: wrong, -1: wrong}, []check.Code{check.CodePCR, check.CodePCR}},
	} {
		_, o := judge(t, input(t, b), Policy{PCRs: c.pcrs, Measurements: pinned(e).Measurements})
		if diff := cmp.Diff(c.want, o.failed); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	p := pinned(e)
	p.Measurements = nil
	if _, o := judge(t, input(t, b), p); !cmp.Equal(o.failed, []check.Code{check.CodeMeasurementNotSet}) {
		t.Errorf("no measurement: %+v", o)
	}
	p.Measurements = [][]byte{make([]byte, 48)}
	if _, o := judge(t, input(t, b), p); !cmp.Equal(o.failed, []check.Code{check.CodeMeasurement}) {
		t.Errorf("another measurement: %+v", o)
	}
	if _, o := judge(t, Input{}, Policy{}); o.accepted() || len(o.failed) == 0 {
		t.Errorf("nothing: %+v", o)
	}
	if _, o := judge(t, Input{Evidence: b}, pinned(e)); o.accepted() {
		t.Error("accepted without roots, floors and time")
	}
}

// TestLevel asks for the paravisor's level even of a caller who admits others.
func TestLevel(t *testing.T) {
	t.Parallel()
	e := load(t, "snp/a1-3/evidence-v1.json")
	e.Report[32+0x30] = 1 // VMPL
	in := input(t, marshal(t, e))
	in.SNP.MaxVMPL = 3
	_, o := judge(t, in, pinned(e))
	if diff := cmp.Diff([]check.Code{check.CodeSignatureInvalid, check.CodeVMPL}, o.failed); diff != "" {
		t.Error(diff)
	}
}

// TestKinds gives evidence whose parts belong to different kinds of hardware.
func TestKinds(t *testing.T) {
	t.Parallel()
	amdGuest, td := load(t, "snp/a1-3/evidence-v1.json"), load(t, tdxVector)
	for name, e := range map[string]*hcl.Evidence{
		"SNP report with a TD quote":    {Report: amdGuest.Report, Quote: amdGuest.Quote, TDQuote: td.TDQuote},
		"TDREPORT with a chip's key":    {Report: td.Report, Quote: td.Quote, VCEK: amdGuest.VCEK},
		"SNP report of another machine": {Report: amdGuest.Report, Quote: amdGuest.Quote, VCEK: load(t, "snp/a5/live-evidence.json").VCEK},
	} {
		_, o := judge(t, input(t, marshal(t, e)), pinned(e))
		if name[0:3] == "SNP" && len(e.VCEK) > 0 {
			if !slices.Contains(o.failed, check.CodeSignatureInvalid) {
				t.Errorf("%s: %v", name, o.failed)
			}
			continue
		}
		if !slices.Contains(o.failed, check.CodeAzureInconsistent) || !slices.Contains(o.missing, check.Signature) {
			t.Errorf("%s: %+v", name, o)
		}
	}
	bare := bytes.Clone(td.Report)
	bare[32+512+16] ^= 1 // MRTD
	e := &hcl.Evidence{Report: bare, Quote: td.Quote, TDQuote: td.TDQuote}
	if _, o := judge(t, input(t, marshal(t, e)), pinned(e)); !slices.Contains(o.failed, check.CodeTDReport) {
		t.Errorf("a TDREPORT of another guest: %+v", o)
	}
}

// TestSweepOfTexts cuts the evidence of every vector as it was delivered, and appends to it. Nothing of it may be accepted.
func TestSweepOfTexts(t *testing.T) {
	t.Parallel()
	step := 61
	if testing.Short() {
		step = 997
	}
	cache := anchor.NewCache(100)
	for _, v := range vectors {
		text, err := os.ReadFile(testcap.Vectors(t, "azure-vtpm/"+v.file))
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.TrimSpace(text)
		p := pinned(load(t, v.file))
		accepted := func(b []byte) bool {
			in := input(t, b)
			in.Cache = cache
			_, o := judge(t, in, p)
			return o.accepted()
		}
		if accepted(text) != (v.file != tdxVector) { // whose collateral is not at hand
			t.Errorf("%s: the whole is accepted: %t", v.file, accepted(text))
		}
		for i := 0; i < len(text); i += step {
			if accepted(text[:i]) {
				t.Errorf("%s: accepted when cut at %d", v.file, i)
			}
		}
		for _, tail := range [][]byte{{0}, []byte("{}"), []byte("x"), text} {
			if accepted(append(bytes.Clone(text), tail...)) {
				t.Errorf("%s: accepted with %d bytes more", v.file, len(tail))
			}
		}
	}
}

// TestSweep changes bits all over each SNP vector, and cuts and extends its parts. Nothing of it may be accepted.
func TestSweep(t *testing.T) {
	t.Parallel()
	step := 37
	if testing.Short() {
		step = 211
	}
	cache := anchor.NewCache(100)
	for _, v := range vectors {
		if v.file == tdxVector {
			continue // never accepted without collateral
		}
		e := load(t, v.file)
		p := pinned(e)
		accepted := func() bool {
			in := input(t, marshal(t, e))
			in.Cache = cache
			_, o := judge(t, in, p)
			return o.accepted()
		}
		for _, part := range [][]byte{e.Report, e.Quote.Message, e.Quote.Signature, e.VCEK} {
			for i := 0; i < len(part); i += step {
				part[i] ^= 1 << (i % 8)
				if accepted() {
					t.Errorf("%s: accepted with byte %d of %d changed", v.file, i, len(part))
				}
				part[i] ^= 1 << (i % 8)
			}
		}
		for name, part := range map[string]*[]byte{
			"report": &e.Report, "message": &e.Quote.Message, "signature": &e.Quote.Signature, "certificate": &e.VCEK,
		} {
			whole := *part
			for _, changed := range [][]byte{
				whole[:len(whole)-1], whole[:len(whole)/2], whole[1:], append(bytes.Clone(whole), 0), append(bytes.Clone(whole), whole...),
			} {
				*part = changed
				if b, err := e.Marshal(); err == nil { // it refuses what is too long
					in := input(t, b)
					in.Cache = cache
					if _, o := judge(t, in, p); o.accepted() {
						t.Errorf("%s: accepted with a %s of %d bytes instead of %d", v.file, name, len(changed), len(whole))
					}
				}
			}
			*part = whole
		}
		for i := range e.Quote.PCRs {
			e.Quote.PCRs[i][i] ^= 1
			if accepted() {
				t.Errorf("%s: accepted with PCR %d changed", v.file, i)
			}
			e.Quote.PCRs[i][i] ^= 1
		}
		if !accepted() {
			t.Errorf("%s itself is not accepted", v.file)
		}
	}
}

func FuzzAppraise(f *testing.F) {
	f.Add([]byte(`{"version":1,"hcl_report":"","tpm_quote":{"message":"","signature":"","pcrs":[]},"vcek":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, o := judge(t, input(t, b), Policy{}); o.accepted() {
			t.Errorf("accepted: %s", hex.EncodeToString(b))
		}
	})
}
