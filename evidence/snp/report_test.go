// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	sevabi "github.com/google/go-sev-guest/abi"
	"pgregory.net/rapid"

	"cofferdam.dev/internal/testcap"
)

// realReports are reports of real machines.
var realReports = []string{
	"snp/s1-aci-milan-v2/snp_report.bin", "snp/s2-debug-allowed/attestation.bin", "snp/s3-milan-v2/report.bin",
	"snp/s6-aci-v3/milan_report.bin", "snp/s6-aci-v3/genoa_report.bin", "snp/s10-virtee/report_milan.hex",
}

func readVector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(testcap.Vectors(t, name))
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(name, ".hex") {
		if b, err = hex.DecodeString(strings.TrimSpace(string(b))); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// TestRealReports parses reports of real machines, encodes them again, and compares fields with another implementation.
func TestRealReports(t *testing.T) {
	t.Parallel()
	for _, name := range realReports {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := readVector(t, name)
			r, err := ParseReport(b)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(r.Marshal(), b) || !bytes.Equal(r.SignedBytes(), b[:SignedSize]) {
				t.Error("encoding gives other bytes")
			}
			o, err := sevabi.ReportToProto(b)
			if err != nil {
				t.Fatal(err)
			}
			le := binary.LittleEndian.Uint64
			if r.Version != o.GetVersion() || r.GuestSVN != o.GetGuestSvn() || uint64(r.Policy) != o.GetPolicy() ||
				!bytes.Equal(r.Measurement[:], o.GetMeasurement()) || !bytes.Equal(r.HostData[:], o.GetHostData()) ||
				!bytes.Equal(r.ReportData[:], o.GetReportData()) || !bytes.Equal(r.ChipID[:], o.GetChipId()) ||
				le(r.CurrentTCB[:]) != o.GetCurrentTcb() || le(r.ReportedTCB[:]) != o.GetReportedTcb() ||
				le(r.CommittedTCB[:]) != o.GetCommittedTcb() || le(r.LaunchTCB[:]) != o.GetLaunchTcb() ||
				uint64(r.PlatformInfo) != o.GetPlatformInfo() || r.VMPL != o.GetVmpl() ||
				!bytes.Equal(r.ReportID[:], o.GetReportId()) || !bytes.Equal(r.ReportIDMA[:], o.GetReportIdMa()) ||
				uint32(r.CurrentVersion.Major) != o.GetCurrentMajor() ||
				uint32(r.CommittedVersion.Build) != o.GetCommittedBuild() {
				t.Errorf("the oracle reads other values: %+v, %v", r, o)
			}
		})
	}
}

// TestEmbeddedReports parses the reports inside Azure's evidence, where a header of 32 bytes precedes them, and the one of
// an attestation service's documentation.
func TestEmbeddedReports(t *testing.T) {
	t.Parallel()
	var reports [][]byte
	for _, name := range []string{"a1-3/evidence-v1.json", "a1-3/evidence-v2.json", "a5/milan-v3-attestation.json",
		"a5/live-evidence.json", "a5/evidence-v1.json"} {
		b := decodeLong(t, readVector(t, "azure-vtpm/snp/"+name), "SENM")
		reports = append(reports, b[32:32+ReportSize])
	}
	outer := decodeLong(t, readVector(t, "maa/rest-2022-08-01/AttestSevSnpVm.json"), "CiAg")
	reports = append(reports, decodeLong(t, outer, "AQAA")[:ReportSize])
	versions := map[uint32]int{}
	for i, b := range reports {
		r, err := ParseReport(b)
		if err != nil {
			t.Fatalf("report %d: %v", i, err)
		}
		if !bytes.Equal(r.Marshal(), b) {
			t.Errorf("report %d: encoding gives other bytes", i)
		}
		versions[r.Version]++
	}
	if diff := cmp.Diff(map[uint32]int{1: 1, 2: 1, 3: 4}, versions); diff != "" {
		t.Errorf("reports by version (-want +got):\n%s", diff)
	}
}

// decodeLong finds a long base64url string that begins with a prefix, and decodes it.
func decodeLong(t *testing.T, text []byte, prefix string) []byte {
	t.Helper()
	var m []byte
	for _, s := range regexp.MustCompile(prefix+"[A-Za-z0-9_-]+").FindAll(text, -1) {
		if len(s) > len(m) {
			m = s
		}
	}
	b, err := base64.RawURLEncoding.DecodeString(string(m))
	if err != nil || len(b) < ReportSize {
		t.Fatalf("string with prefix %s: %d bytes, %v", prefix, len(b), err)
	}
	return b
}

func TestReportIsParsedStrictly(t *testing.T) {
	t.Parallel()
	good := (&Report{Version: 3}).Marshal()
	set := func(off int, v byte) []byte {
		b := bytes.Clone(good)
		b[off] = v
		return b
	}
	for name, b := range map[string][]byte{
		"empty":                        nil,
		"one byte short":               good[:ReportSize-1],
		"one byte long":                append(bytes.Clone(good), 0),
		"version 0":                    set(0, 0),
		"version 6":                    set(0, 6),
		"reserved word after key info": set(0x4c, 1),
		"reserved after CPUID":         set(0x18b, 1),
		"before chip ID":               set(0x19f, 1),
		"after current version":        set(0x1eb, 1),
		"after committed version":      set(0x1ef, 1),
		"mitigations in version 3":     set(0x1f8, 1),
		"before signature":             set(0x29f, 1),
		"above R":                      set(0x2d0, 1),
		"above S":                      set(0x318, 1),
		"last byte":                    set(ReportSize-1, 1),
	} {
		if _, err := ParseReport(b); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for name, b := range map[string][]byte{
		"plain": good, "CPUID": set(0x188, 0x19), "unknown policy bit": set(0x0f, 0x80),
		"unknown platform bit": set(0x47, 0x80), "unknown key bit": set(0x4b, 0x80),
	} {
		if r, err := ParseReport(b); err != nil || !bytes.Equal(r.Marshal(), b) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseReport(func() []byte { b := set(0, 2); b[0x188] = 0x19; return b }()); err == nil {
		t.Error("CPUID in version 2: no error")
	}
}

// anyReport draws a report whose fields exist in its version.
func anyReport(t *rapid.T) *Report {
	bytesOf := func(n int, label string) []byte { return rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, label) }
	u64 := func(label string) uint64 { return rapid.Uint64().Draw(t, label) }
	r := &Report{
		Version: rapid.Uint32Range(1, 5).Draw(t, "version"), GuestSVN: rapid.Uint32().Draw(t, "svn"),
		Policy: GuestPolicy(u64("policy")), FamilyID: [16]byte(bytesOf(16, "family")), ImageID: [16]byte(bytesOf(16, "image")),
		VMPL: rapid.Uint32().Draw(t, "vmpl"), SignatureAlgorithm: rapid.Uint32().Draw(t, "alg"),
		CurrentTCB: TCB(bytesOf(8, "current")), PlatformInfo: PlatformInfo(u64("platform")),
		KeyInfo: KeyInfo(rapid.Uint32().Draw(t, "key")), ReportData: [64]byte(bytesOf(64, "data")),
		Measurement: [48]byte(bytesOf(48, "measurement")), HostData: [32]byte(bytesOf(32, "host data")),
		IDKeyDigest: [48]byte(bytesOf(48, "id key")), AuthorKeyDigest: [48]byte(bytesOf(48, "author key")),
		ReportID: [32]byte(bytesOf(32, "id")), ReportIDMA: [32]byte(bytesOf(32, "ma")),
		ReportedTCB: TCB(bytesOf(8, "reported")), ChipID: [64]byte(bytesOf(64, "chip")),
		CommittedTCB: TCB(bytesOf(8, "committed")), CurrentVersion: FirmwareVersion{1, 2, 3},
		CommittedVersion: FirmwareVersion{4, 5, 6}, LaunchTCB: TCB(bytesOf(8, "launch")),
		R: [48]byte(bytesOf(48, "r")), S: [48]byte(bytesOf(48, "s")),
	}
	if r.Version >= 3 {
		r.CPUID = CPUID{rapid.Byte().Draw(t, "f"), rapid.Byte().Draw(t, "m"), rapid.Byte().Draw(t, "s")}
	}
	if r.Version >= 5 {
		r.LaunchMitigations, r.CurrentMitigations = u64("launch mit"), u64("current mit")
	}
	return r
}

func TestReportRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := anyReport(t)
		b := want.Marshal()
		got, err := ParseReport(b)
		if err != nil {
			t.Fatal(err)
		}
		if *got != *want || len(b) != ReportSize {
			t.Fatalf("%+v became %+v", want, got)
		}
	})
}

func FuzzParseReport(f *testing.F) {
	f.Add((&Report{Version: 2}).Marshal())
	f.Add((&Report{Version: 5, LaunchMitigations: 1}).Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReport(b)
		if err == nil && !bytes.Equal(r.Marshal(), b) {
			t.Error("encoding gives other bytes")
		}
	})
}
