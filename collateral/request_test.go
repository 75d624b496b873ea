// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var (
	testChip = bytes.Repeat([]byte{0xab}, 64)
	testTCB  = [8]byte{4, 0, 0, 0, 0, 0, 0x18, 0xdb}
)

func TestNames(t *testing.T) {
	t.Parallel()
	turinField := append([]byte{1, 2, 3, 4, 5, 6, 7, 0}, make([]byte, 56)...)
	numbered := TCBInfo(SGX, [6]byte{0, 0x60, 0x6a})
	numbered.EvaluationNumber = 17
	identity := QEIdentity(TDX)
	identity.EvaluationNumber = 18
	for name, r := range map[string]Request{
		"amd/vcek/Milan/" + strings.Repeat("ab", 64) + "/04000000000018db": VCEK("Milan", testChip, testTCB),
		"amd/vcek/Turin/0102030405060700/0000000000000000":                 VCEK("Turin", turinField, [8]byte{}),
		"amd/chain/Genoa/vcek":               Chain("Genoa", false),
		"amd/chain/Turin/vlek":               Chain("Turin", true),
		"amd/crl/Milan":                      CRL("Milan", false),
		"amd/crl/Milan-vlek":                 CRL("Milan", true),
		"intel/tcb-info/tdx/b0c06f000000":    TCBInfo(TDX, [6]byte{0xb0, 0xc0, 0x6f}),
		"intel/tcb-info/sgx/00606a0000-17":   {},
		"intel/tcb-info/sgx/00606a000000-17": numbered,
		"intel/qe-identity/sgx":              QEIdentity(SGX),
		"intel/qe-identity/tdx-18":           identity,
		"intel/pck-crl/platform":             PCKCRL(PlatformCA),
		"intel/root-crl":                     RootCRL(),
	} {
		got, err := ParseName(name)
		if r.Kind == "" {
			if err == nil {
				t.Errorf("ParseName(%q) accepts a short FMSPC", name)
			}
			continue
		}
		if err != nil {
			t.Error(err)
			continue
		}
		if d := cmp.Diff(r, got); d != "" {
			t.Errorf("ParseName(%q) differs (-want +got):\n%s", name, d)
		}
		if r.Name() != name {
			t.Errorf("Name() = %q, want %q", r.Name(), name)
		}
	}
}

func TestParseNameRefuses(t *testing.T) {
	t.Parallel()
	chip := strings.Repeat("ab", 64)
	for _, name := range []string{
		"", "/", "amd", "amd/crl", "amd/crl/", "amd/crl/Milan/", "/amd/crl/Milan", "amd/crl/milan", "amd/crl/Bergamo",
		"amd/crl/../crl/Milan", "amd//crl/Milan", "amd/crl/Milan\n", "amd/crl/Milan.issuer-chain.pem", "AMD/crl/Milan",
		"amd/vcek/Milan/" + chip, "amd/vcek/Milan/" + chip + "/04", "amd/vcek/Milan/" + chip[2:] + "/04000000000018db",
		"amd/vcek/Milan/" + chip[1:] + "/04000000000018db", "amd/vcek/Milan/" + strings.ToUpper(chip) + "/04000000000018db",
		"amd/vcek/Milan/" + strings.Repeat("0", 128) + "/04000000000018db", "amd/vcek/Turin/" + chip + "/04000000000018db",
		"amd/chain/Milan", "amd/chain/Milan/both", "intel/tcb-info/tdx/B0C06F000000", "intel/tcb-info/tdx/b0c06f000000-0",
		"intel/tcb-info/tdx/b0c06f000000-017", "intel/tcb-info/tdx/b0c06f000000-100000", "intel/tcb-info/snp/b0c06f000000",
		"intel/qe-identity", "intel/qe-identity/sgx-", "intel/pck-crl/root", "intel/root-crl/", "amd/root-crl",
		strings.Repeat("a", 10_000),
	} {
		if r, err := ParseName(name); err == nil {
			t.Errorf("ParseName(%q) = %+v, want an error", name, r)
		} else if len(err.Error()) > 1000 {
			t.Errorf("the error about a long name has %d bytes", len(err.Error()))
		}
	}
}

func TestValidateRefuses(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]Request{
		"zero":                   {},
		"unknown kind":           {Kind: "amd-ark"},
		"Bergamo":                Chain("Bergamo", false),
		"no product":             Chain("", false),
		"masked chip":            VCEK("Milan", make([]byte, 64), testTCB),
		"short chip":             VCEK("Milan", testChip[:63], testTCB),
		"Turin with a long chip": VCEK("Turin", testChip, testTCB),
		"Turin masked":           VCEK("Turin", make([]byte, 64), testTCB),
		"VLEK of a chip":         {Kind: AMDVCEK, Product: "Milan", ChipID: testChip, VLEK: true},
		"CRL with a TEE":         {Kind: AMDCRL, Product: "Milan", TEE: TDX},
		"no TEE":                 TCBInfo("", [6]byte{}),
		"negative evaluation":    {Kind: IntelQEIdentity, TEE: SGX, EvaluationNumber: -1},
		"large evaluation":       {Kind: IntelQEIdentity, TEE: SGX, EvaluationNumber: 100_000},
		"no CA":                  PCKCRL(""),
		"path as product":        CRL("../..", false),
		"root CRL with a CA":     {Kind: IntelRootCRL, CA: PlatformCA},
	} {
		if r.Validate() == nil || r.Name() != "" {
			t.Errorf("%s: Validate() = %v, Name() = %q", name, r.Validate(), r.Name())
		}
	}
}

// drawRequest draws any valid request.
func drawRequest(t *rapid.T) Request {
	tee := rapid.SampledFrom([]string{SGX, TDX}).Draw(t, "tee")
	product := rapid.SampledFrom(products).Draw(t, "product")
	vlek := rapid.Bool().Draw(t, "vlek")
	bytesOf := func(n int) []byte { return rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "bytes") }
	var r Request
	switch rapid.SampledFrom([]Kind{AMDVCEK, AMDChain, AMDCRL, IntelTCBInfo, IntelQEIdentity, IntelPCKCRL, IntelRootCRL}).Draw(t, "kind") {
	case AMDVCEK:
		n := chipIDSize
		if product == turin {
			n = turinIDSize
		}
		id := bytesOf(n)
		id[0] |= 1
		return VCEK(product, id, [8]byte(bytesOf(8)))
	case AMDChain:
		return Chain(product, vlek)
	case AMDCRL:
		return CRL(product, vlek)
	case IntelTCBInfo:
		r = TCBInfo(tee, [6]byte(bytesOf(6)))
	case IntelQEIdentity:
		r = QEIdentity(tee)
	case IntelPCKCRL:
		return PCKCRL(rapid.SampledFrom([]string{ProcessorCA, PlatformCA}).Draw(t, "ca"))
	default:
		return RootCRL()
	}
	r.EvaluationNumber = rapid.IntRange(0, maxEvaluation).Draw(t, "evaluation")
	return r
}

func TestNameRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := drawRequest(t)
		got, err := ParseName(r.Name())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(r, got); d != "" {
			t.Fatalf("%q is another request (-want +got):\n%s", r.Name(), d)
		}
	})
}

// TestNamesAreNoPrefixes holds what a directory needs: a name is never a directory of another.
func TestNamesAreNoPrefixes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawRequest(t).Name(), drawRequest(t).Name()
		if strings.HasPrefix(b, a+"/") {
			t.Fatalf("%q is a directory of %q", a, b)
		}
	})
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"amd/crl/Milan", "amd/vcek/Turin/0102030405060700/0000000000000000", "intel/qe-identity/tdx-18"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseName(s)
		if err == nil && r.Name() != s {
			t.Errorf("%q is parsed and named %q", s, r.Name())
		}
	})
}
