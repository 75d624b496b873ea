// SPDX-License-Identifier: Apache-2.0

package treetest

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"cofferdam.dev/evidence/dcap"
	"cofferdam.dev/evidence/hcl"
	"cofferdam.dev/evidence/sgx"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/evidence/tdx"
)

// layout is a table of fields with offsets, and the parser that it is about.
type layout struct {
	heading string
	example []byte // begins with the structure
	size    int
	parse   func([]byte) error
}

// layouts returns the formats whose fields have fixed offsets.
func layouts(t *testing.T) []layout {
	t.Helper()
	quote, err := (&dcap.Quote{
		Header:  dcap.Header{Version: dcap.Version3, AttestationKeyType: dcap.KeyECDSAP256},
		Enclave: &sgx.ReportBody{}, QEReport: &sgx.ReportBody{},
	}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return []layout{
		{"SEV-SNP attestation report", (&snp.Report{Version: 5}).Marshal(), snp.ReportSize,
			func(b []byte) error { _, err := snp.ParseReport(b); return err }},
		{"DCAP quote header", quote, 48, func(b []byte) error { _, err := dcap.ParseQuote(b); return err }},
		{"SGX report body", (&sgx.ReportBody{}).Marshal(), sgx.ReportBodySize,
			func(b []byte) error { _, err := sgx.ParseReportBody(b); return err }},
		{"SIGSTRUCT", (&sgx.Sigstruct{}).Marshal(), sgx.SigstructSize,
			func(b []byte) error { _, err := sgx.ParseSigstruct(b); return err }},
		{"TD quote body", (&tdx.Body{V15: &tdx.Body15{}}).Marshal(), tdx.BodySize15,
			func(b []byte) error { _, err := tdx.ParseBody(b); return err }},
		{"TDREPORT", (&tdx.Report{Version: 1}).Marshal(), tdx.ReportSize,
			func(b []byte) error { _, err := tdx.ParseReport(b); return err }},
		{"HCL report", (&hcl.Report{Version: 1, Kind: hcl.KindSNP}).Marshal()[:hclFixedSize], hclFixedSize,
			func(b []byte) error { _, err := hcl.ParseReport(b); return err }},
		{"ACPI table CCEL", nil, tdx.ACPITableSize, nil}, // every change breaks its checksum
	}
}

// hclFixedSize is the size of what precedes the claims in a report of the paravisor.
const hclFixedSize = 1236

var layoutRow = regexp.MustCompile(`(?m)^\| (.*)\| (\d+) \| (\d+) \| (.*)\|$`)

// TestDocsEvidenceFormats requires each table to cover its structure without gaps, and a change of any byte to be refused
// exactly where the table says that the byte is reserved or must have a value.
func TestDocsEvidenceFormats(t *testing.T) {
	text := page(t, "docs/reference/evidence-formats.md")
	for _, l := range layouts(t) {
		section, _, _ := strings.Cut(between(text, "\n## "+l.heading+"\n", "\n## "), "What follows")
		end := 0
		for _, m := range layoutRow.FindAllStringSubmatch(section, -1) {
			off, size := number(t, m[2]), number(t, m[3])
			if off != end {
				t.Errorf("%s: field %q is at offset %d, but the one in front of it ends at %d", l.heading, m[1], off, end)
			}
			end = off + size
			if l.parse == nil || end > l.size {
				continue
			}
			fixed := strings.HasPrefix(m[4], "reserved") || strings.HasPrefix(m[4], "must be")
			for i := off; i < end; i++ {
				b := bytes.Clone(l.example)
				b[i] ^= 0x40
				if err := l.parse(b); (err != nil) != fixed {
					t.Errorf("%s: byte %d of field %q, %q, is changed: %v", l.heading, i, m[1], m[4], err)
				}
			}
		}
		if end != l.size {
			t.Errorf("%s: fields have %d bytes together, not %d", l.heading, end, l.size)
		}
		if !strings.Contains(section, strconv.Itoa(l.size)+" bytes") {
			t.Errorf("%s: the page does not say that it has %d bytes", l.heading, l.size)
		}
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
