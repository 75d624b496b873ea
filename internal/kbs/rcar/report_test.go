// SPDX-License-Identifier: Apache-2.0

package rcar

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"cofferdam.dev/internal/kbs/kbstest"
	"cofferdam.dev/internal/testcap"
)

func parseSNPJSON(t testing.TB, report map[string]any, chain any) (Evidence, error) {
	t.Helper()
	return parseEvidence(SNP, asJSON(t, map[string]any{"attestation_report": report, "cert_chain": chain}))
}

// TestReports takes reports of real processors apart and has them put together again.
func TestReports(t *testing.T) {
	t.Parallel()
	dir := testcap.Vectors(t, "snp")
	seen := 0
	for _, file := range []string{"s1-aci-milan-v2/snp_report.bin", "s3-milan-v2/report.bin", "s6-aci-v3/genoa_report.bin", "s6-aci-v3/milan_report.bin"} {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		e, err := parseSNPJSON(t, kbstest.Report(b), nil)
		if err != nil || !bytes.Equal(e.Report, b) {
			t.Errorf("%s: %v", file, err)
		}
		seen++
	}
	if seen == 0 {
		t.Error("there was no report")
	}
}

// blank returns a report of a version without values, but for those that a layout needs.
func blank(version uint32, family, model byte) []byte {
	b := make([]byte, 1184)
	binary.LittleEndian.PutUint32(b, version)
	if version >= 3 {
		b[0x188], b[0x189] = family, model
	} else if family == 0x19 {
		b[0x1A8] = 1 // a chip ID of more than eight bytes
	}
	return b
}

// TestEveryByteOfAReport sets the bytes of a report's fields, in each version and layout.
func TestEveryByteOfAReport(t *testing.T) {
	t.Parallel()
	fixed := [][2]int{{0, 4}, {0x4C, 0x50}, {0x188, 0x1A0}, {0x1EB, 0x1EC}, {0x1EF, 0x1F0}, {0x1F8, 0x2A0}, {0x2D0, 0x2E8}, {0x318, 1184}}
	rapid.Check(t, func(t *rapid.T) {
		version := rapid.Uint32Range(2, 5).Draw(t, "version")
		family := rapid.SampledFrom([]byte{0x19, 0x1a}).Draw(t, "family")
		b := blank(version, family, 1)
		free := rapid.SliceOfN(rapid.Byte(), len(b), len(b)).Draw(t, "bytes")
		skip := append([][2]int{{0x1A8, 0x1E0}}, fixed...)
		for _, at := range []int{0x38, 0x180, 0x1E0, 0x1F0} {
			if family == 0x1a {
				skip = append(skip, [2]int{at + 4, at + 7})
			} else {
				skip = append(skip, [2]int{at + 2, at + 6})
			}
		}
		for i := range b {
			in := false
			for _, s := range skip {
				in = in || i >= s[0] && i < s[1]
			}
			if !in {
				b[i] = free[i]
			}
		}
		if version >= 5 {
			copy(b[0x1F8:0x208], free)
		}
		raw, err := json.Marshal(map[string]any{"attestation_report": kbstest.Report(b), "cert_chain": nil})
		if err != nil {
			t.Fatal(err)
		}
		e, err := parseEvidence(SNP, raw)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(b, e.Report); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestBadReports has reports and certificates that are refused.
func TestBadReports(t *testing.T) {
	t.Parallel()
	good := kbstest.Report(blank(3, 0x19, 1))
	with := func(name string, value any) map[string]any {
		m := maps.Clone(good)
		m[name] = value
		return m
	}
	without := func(name string) map[string]any {
		m := maps.Clone(good)
		delete(m, name)
		return m
	}
	wide := make([]int, 72)
	wide[50] = 1
	tcb := map[string]any{"bootloader": 1, "tee": 1, "snp": 1}
	for name, c := range map[string]struct {
		report map[string]any
		want   string
	}{
		"unknown member":  {with("x", 1), "unknown"},
		"no report data":  {without("report_data"), "report_data"},
		"no policy":       {without("policy"), "policy"},
		"policy null":     {with("policy", nil), "policy"},
		"policy negative": {with("policy", -1), "policy"},
		"policy a text":   {with("policy", "1"), "policy"},
		"version":         {with("version", 9), "version"},
		"short":           {with("measurement", make([]int, 47)), "47 bytes"},
		"long":            {with("measurement", make([]int, 49)), "49 bytes"},
		"very long":       {with("measurement", make([]int, 4096)), "too long"},
		"no byte":         {with("host_data", append(make([]int, 31), 256)), "no byte"},
		"base64":          {with("host_data", "AAAA"), "host_data"},
		"family 256":      {with("cpuid_fam_id", 256), "cpuid_fam_id"},
		"TCB a number":    {with("current_tcb", 1), "current_tcb"},
		"TCB part":        {with("launch_tcb", tcb), "microcode"},
		"signature wide":  {with("signature", map[string]any{"r": wide, "s": make([]int, 72)}), "wider"},
		"signature none":  {without("signature"), "signature"},
		"firmware":        {with("current", map[string]any{"major": 1}), "minor"},
	} {
		if _, err := parseSNPJSON(t, c.report, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	entry := func(kind any, data ...int) any { return []any{map[string]any{"cert_type": kind, "data": data}} }
	e, err := parseSNPJSON(t, good, []any{
		map[string]any{"cert_type": "VCEK", "data": []int{1}}, map[string]any{"cert_type": map[string]string{"OTHER": "x"}, "data": []int{9}},
		map[string]any{"cert_type": "CRL", "data": []int{9}}, map[string]any{"cert_type": "ARK", "data": []int{2}},
	})
	if err != nil || cmp.Diff([][]byte{{1}, {2}}, e.Certificates) != "" {
		t.Errorf("%v, %v", e.Certificates, err)
	}
	for name, chain := range map[string]any{
		"no list": "x", "unknown type": entry("NEW", 1), "no data": entry("VCEK"), "no byte": entry("VCEK", 256),
		"more members": []any{map[string]any{"cert_type": "VCEK", "data": []int{1}, "x": 1}}, "too many": make([]any, maxCertificates+1),
	} {
		if _, err := parseSNPJSON(t, good, chain); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
