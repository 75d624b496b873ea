// SPDX-License-Identifier: Apache-2.0

package sgx

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"cofferdam.dev/internal/testcap"
)

func readVector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(testcap.Vectors(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRealReportBodies parses the bodies of quotes of version 3, which follow a header of 48 bytes.
func TestRealReportBodies(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		offset int
		flags  string
		xfrm   string
		misc   MiscSelect
	}{
		"sgx/g1-v3-00a067/sgx_quote.bin":                 {0, "0x5 (init, mode64)", "0xe7 (x87, sse, avx, avx512-opmask, avx512-zmm-hi256, avx512-hi16-zmm)", 0},
		"sgx/g3-oasis/quote_v3_ecdsa_p256_pck_chain.bin": {0, "0x5 (init, mode64)", "0x3 (x87, sse)", 0},
		"sgx/g3-oasis/quote_v3_ecdsa_p256_eppid.bin":     {0, "0x5 (init, mode64)", "0x3 (x87, sse)", 0},
		"sgx/g3-occlum-debug/occlum_quote.dat":           {0, "0x7 (init, debug, mode64)", "0xe7 (x87, sse, avx, avx512-opmask, avx512-zmm-hi256, avx512-hi16-zmm)", MiscEXINFO},
		"sgx/g4-openenclave/evidence":                    {81, "0x7 (init, debug, mode64)", "0x7 (x87, sse, avx)", 0},
	} {
		b := readVector(t, name)[c.offset+48:][:ReportBodySize]
		r, err := ParseReportBody(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(r.Marshal(), b) {
			t.Errorf("%s: encoding gives other bytes", name)
		}
		if r.Attributes.Flags.String() != c.flags || r.Attributes.XFRM.String() != c.xfrm || r.MiscSelect != c.misc {
			t.Errorf("%s: %s, misc %s", name, r.Attributes, r.MiscSelect)
		}
		if r.Attributes.Flags.Unknown() != 0 || r.Attributes.XFRM.Unknown() != 0 || r.MiscSelect.Unknown() != 0 {
			t.Errorf("%s: there are unknown bits", name)
		}
	}
}

// TestRealSigstruct parses a published SIGSTRUCT and verifies its signature.
func TestRealSigstruct(t *testing.T) {
	t.Parallel()
	b := readVector(t, "sgx/sigstruct/sig1.sigstruct.bin")
	s, err := ParseSigstruct(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(s.Marshal(), b) {
		t.Error("encoding gives other bytes")
	}
	if err := s.CheckSignature(); err != nil {
		t.Error(err)
	}
	signer := s.MRSigner()
	if got := hex.EncodeToString(signer[:]); got != "83d719e77deaca1470f6baf62a4d774303c899db69020f9c70ee1dfc08c7ce9e" {
		t.Errorf("MRSIGNER is %s", got)
	}
	if !strings.HasPrefix(hex.EncodeToString(s.EnclaveHash[:]), "c50673624a6cb17c") || s.ISVProdID != 0 || s.ISVSVN != 0 ||
		s.Vendor != VendorOther || s.Date != 0x20160109 {
		t.Errorf("it says %+v", s)
	}
	if want := (Attributes{Flags: FlagMode64, XFRM: 3}); s.Attributes != want || s.AttributesMask.Flags.Has(FlagDebug) {
		t.Errorf("attributes %s under %s", s.Attributes, s.AttributesMask)
	}
}

// TestSigstructChanges changes one bit of each byte. Either the structure is refused or its signature is.
func TestSigstructChanges(t *testing.T) {
	t.Parallel()
	b := readVector(t, "sgx/sigstruct/sig1.sigstruct.bin")
	for i := range b {
		if testing.Short() && i%16 != 0 {
			continue
		}
		bad := bytes.Clone(b)
		bad[i] ^= 1 << (i % 8)
		s, err := ParseSigstruct(bad)
		if err == nil {
			err = s.CheckSignature()
		}
		if err == nil {
			t.Errorf("byte %d changed: no error", i)
		}
	}
	for _, n := range []int{0, 1, SigstructSize - 1} {
		if _, err := ParseSigstruct(b[:n]); err == nil {
			t.Errorf("%d bytes: no error", n)
		}
	}
	if _, err := ParseSigstruct(append(bytes.Clone(b), 0)); err == nil {
		t.Error("one byte more: no error")
	}
	if err := (&Sigstruct{}).CheckSignature(); err == nil {
		t.Error("zeros: no error")
	}
}

func TestReportBodyIsParsedStrictly(t *testing.T) {
	t.Parallel()
	good := (&ReportBody{}).Marshal()
	reserved := map[int]bool{}
	for _, r := range [][2]int{{21, 32}, {96, 128}, {160, 192}, {262, 304}} {
		for i := r[0]; i < r[1]; i++ {
			reserved[i] = true
		}
	}
	for i := range good {
		b := bytes.Clone(good)
		b[i] = 0x80
		r, err := ParseReportBody(b)
		if (err != nil) != reserved[i] {
			t.Errorf("byte %d: %v", i, err)
		}
		if err == nil && !bytes.Equal(r.Marshal(), b) {
			t.Errorf("byte %d: encoding gives other bytes", i)
		}
	}
	for _, b := range [][]byte{nil, good[1:], append(bytes.Clone(good), 0)} {
		if _, err := ParseReportBody(b); err == nil {
			t.Errorf("%d bytes: no error", len(b))
		}
	}
}

func TestFlagsAreNamed(t *testing.T) {
	t.Parallel()
	got := []string{
		Flags(0).String(), (FlagDebug | FlagKSS | 1<<63).String(), XFRM(1<<17 | 1<<18 | 1<<8).String(),
		(MiscEXINFO | MiscCPINFO | 4).String(), Attributes{Flags: FlagInit, XFRM: 3}.String(),
	}
	want := []string{
		"0x0 (none)", "0x8000000000000082 (debug, kss, unknown 0x8000000000000000)",
		"0x60100 (amx-tilecfg, amx-tiledata, unknown 0x100)", "0x7 (exinfo, cpinfo, unknown 0x4)",
		"flags 0x1 (init), XFRM 0x3 (x87, sse)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for i, name := range flagNames {
		if name == "" {
			continue
		}
		if Flags(1<<i).Unknown() != 0 {
			t.Errorf("%s is unknown", name)
		}
	}
	for i, name := range xfrmNames {
		if name == "" {
			continue
		}
		if XFRM(1<<i).Unknown() != 0 {
			t.Errorf("%s is unknown", name)
		}
	}
	if (Flags(1<<63)|FlagDebug).Unknown() != 1<<63 || XFRM(1<<8).Unknown() != 1<<8 || MiscSelect(7).Unknown() != 4 {
		t.Error("an unknown bit is known")
	}
	if m := (Attributes{Flags: 0x0102, XFRM: 0x0304}).Marshal(); m != [16]byte{2, 1, 0, 0, 0, 0, 0, 0, 4, 3} {
		t.Errorf("attributes are encoded as %x", m)
	}
}

func TestReportBodyRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		fill := func(b []byte) { copy(b, rapid.SliceOfN(rapid.Byte(), len(b), len(b)).Draw(t, "bytes")) }
		want := ReportBody{
			MiscSelect: MiscSelect(rapid.Uint32().Draw(t, "misc")), CETAttributes: rapid.Byte().Draw(t, "cet"),
			Attributes: Attributes{Flags(rapid.Uint64().Draw(t, "flags")), XFRM(rapid.Uint64().Draw(t, "xfrm"))},
			ISVProdID:  rapid.Uint16().Draw(t, "prod"), ISVSVN: rapid.Uint16().Draw(t, "svn"),
			ConfigSVN: rapid.Uint16().Draw(t, "config svn"),
		}
		for _, f := range [][]byte{
			want.CPUSVN[:], want.ISVExtProdID[:], want.MREnclave[:], want.MRSigner[:], want.ConfigID[:], want.ISVFamilyID[:],
			want.ReportData[:],
		} {
			fill(f)
		}
		got, err := ParseReportBody(want.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if *got != want {
			t.Fatalf("%+v became %+v", want, *got)
		}
	})
}

func FuzzParseReportBody(f *testing.F) {
	f.Add((&ReportBody{}).Marshal())
	f.Add((&ReportBody{Attributes: Attributes{Flags: 7, XFRM: 0xe7}, ISVSVN: 0x102, ConfigSVN: 3}).Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReportBody(b)
		if err == nil && !bytes.Equal(r.Marshal(), b) {
			t.Error("encoding gives other bytes")
		}
		if err == nil && r.Attributes.String() == "" {
			t.Error("attributes have no name")
		}
	})
}

func FuzzParseSigstruct(f *testing.F) {
	f.Add((&Sigstruct{}).Marshal())
	f.Add((&Sigstruct{Vendor: VendorIntel, Date: 0x20260101, ISVSVN: 1, Modulus: [384]byte{383: 0x80}}).Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSigstruct(b)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Marshal(), b) {
			t.Error("encoding gives other bytes")
		}
		_ = s.CheckSignature() // must not panic, whatever the numbers are
	})
}
