// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestFlagsAreNamed(t *testing.T) {
	t.Parallel()
	got := []string{
		Attributes(0).String(), (AttributeDebug | AttributeSEPTVEDisable | 2).String(),
		(AttributePERFMON | AttributeMigratable).String(), XFAM(0x42e7).String(), XFAM(1<<13 | 3).String(),
	}
	want := []string{
		"0x0 (none)", "0x10000003 (debug, sept-ve-disable, unknown 0x2)", "0x8000000020000000 (migratable, perfmon)",
		"0x42e7 (x87, sse, avx, avx512-opmask, avx512-zmm-hi256, avx512-hi16-zmm, pku, uintr)", "0x2003 (x87, sse, unknown 0x2000)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var known Attributes
	for i, name := range attributeNames {
		if name == "" {
			continue
		}
		known |= 1 << i
	}
	var states XFAM
	for i, name := range xfamNames {
		if name == "" {
			continue
		}
		states |= 1 << i
	}
	if known.Unknown() != 0 || (^known).Unknown() != ^known || states.Unknown() != 0 || (^states).Unknown() != ^states {
		t.Error("the names and the known bits differ")
	}
	if !Attributes(0x10000001).Has(AttributeDebug) || Attributes(0x10000000).Has(AttributeDebug|AttributeSEPTVEDisable) ||
		XFAM(1).Has(XFAMFixedOne) || Attributes(0x80)&AttributesUnderDebug == 0 {
		t.Error("bits are looked up wrongly")
	}
}

func TestBodySizes(t *testing.T) {
	t.Parallel()
	for n := range BodySize15 + 2 {
		b, err := ParseBody(make([]byte, n))
		if ok := n == BodySize10 || n == BodySize15; (err == nil) != ok {
			t.Errorf("%d bytes: %v", n, err)
		} else if ok && (b.V15 != nil) != (n == BodySize15) {
			t.Errorf("%d bytes: %+v", n, b.V15)
		}
	}
}

// TestReportIsParsedStrictly sets each byte of a report in turn: every one is reserved, constant, or read.
func TestReportIsParsedStrictly(t *testing.T) {
	t.Parallel()
	refused := map[int]bool{0: true, 1: true, 2: true, 3: true}
	for _, r := range [][2]int{{4, 16}, {192, 224}, {400, 512}, {960, 1024}} {
		for i := r[0]; i < r[1]; i++ {
			refused[i] = true
		}
	}
	for _, version := range []uint8{0, 1} {
		good := (&Report{Version: version}).Marshal()
		for i := range good {
			b := bytes.Clone(good)
			b[i] ^= 0x80
			r, err := ParseReport(b)
			serviceTD := version == 0 && i >= 512+400 && i < 512+448
			if (err != nil) != (refused[i] || serviceTD) {
				t.Errorf("version %d, byte %d: %v", version, i, err)
			}
			if err == nil && !bytes.Equal(r.Marshal(), b) {
				t.Errorf("version %d, byte %d: encoding gives other bytes", version, i)
			}
		}
	}
	for _, n := range []int{0, 1, ReportSize - 1, ReportSize + 1} {
		if _, err := ParseReport(make([]byte, n)); err == nil {
			t.Errorf("%d bytes: no error", n)
		}
	}
}

// anyBody draws a body of either version.
func anyBody(t *rapid.T) *Body {
	fill := func(b []byte) { copy(b, rapid.SliceOfN(rapid.Byte(), len(b), len(b)).Draw(t, "bytes")) }
	b := &Body{
		SEAMAttributes: rapid.Uint64().Draw(t, "seam"), TDAttributes: Attributes(rapid.Uint64().Draw(t, "attributes")),
		XFAM: XFAM(rapid.Uint64().Draw(t, "xfam")),
	}
	for _, f := range [][]byte{
		b.TEETCBSVN[:], b.MRSEAM[:], b.MRSignerSEAM[:], b.MRTD[:], b.MRConfigID[:], b.MROwner[:], b.MROwnerConfig[:],
		b.RTMR[0][:], b.RTMR[1][:], b.RTMR[2][:], b.RTMR[3][:], b.ReportData[:],
	} {
		fill(f)
	}
	if rapid.Bool().Draw(t, "1.5") {
		b.V15 = &Body15{}
		fill(b.V15.TEETCBSVN2[:])
		fill(b.V15.MRServiceTD[:])
	}
	return b
}

func TestBodyRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := anyBody(t)
		got, err := ParseBody(want.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestReportBodies makes a report of a body and finds the body again.
func TestReportBodies(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := anyBody(t)
		r := &Report{
			ReportData: want.ReportData,
			TCBInfo: TCBInfo{TEETCBSVN: want.TEETCBSVN, MRSEAM: want.MRSEAM, MRSignerSEAM: want.MRSignerSEAM,
				Attributes: want.SEAMAttributes},
			TD: Info{Attributes: want.TDAttributes, XFAM: want.XFAM, MRTD: want.MRTD, MRConfigID: want.MRConfigID,
				MROwner: want.MROwner, MROwnerConfig: want.MROwnerConfig, RTMR: want.RTMR},
		}
		if want.V15 != nil {
			r.Version, r.TCBInfo.TEETCBSVN2, r.TD.ServiceTDHash = 1, want.V15.TEETCBSVN2, want.V15.MRServiceTD
		}
		got, err := ParseReport(r.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if *got != *r {
			t.Fatalf("%+v became %+v", r, got)
		}
		body := got.Body()
		if want.V15 != nil {
			body = got.Body15()
		}
		if diff := cmp.Diff(want, body); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzParseBody(f *testing.F) {
	f.Add((&Body{}).Marshal())
	f.Add((&Body{TDAttributes: AttributeDebug, V15: &Body15{TEETCBSVN2: [16]byte{1}}}).Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		body, err := ParseBody(b)
		if err == nil && !bytes.Equal(body.Marshal(), b) {
			t.Error("encoding gives other bytes")
		}
	})
}

func FuzzParseReport(f *testing.F) {
	f.Add((&Report{}).Marshal())
	f.Add((&Report{Version: 1, TD: Info{ServiceTDHash: [48]byte{1}}}).Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReport(b)
		if err == nil && !bytes.Equal(r.Marshal(), b) {
			t.Error("encoding gives other bytes")
		}
	})
}

func FuzzParseACPITable(f *testing.F) {
	b := make([]byte, ACPITableSize)
	copy(b, acpiSignature)
	b[4], b[36] = ACPITableSize, acpiTypeTDX
	for _, v := range bytes.Clone(b) {
		b[9] -= v
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := ParseACPITable(b)
		if err == nil && table == nil {
			t.Error("there is neither a table nor an error")
		}
	})
}
