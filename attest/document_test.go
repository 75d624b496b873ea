// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/snp"
)

func TestDocument(t *testing.T) {
	t.Parallel()
	table, err := snp.MarshalCertificateTable([]snp.CertificateEntry{
		{GUID: snp.GUIDVCEK, Data: []byte("vcek")}, {GUID: snp.GUID{1}, Data: []byte("something else")}, {GUID: snp.GUIDARK, Data: []byte("ark")},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &Result{Type: TypeSEVSNP, Report: []byte("report"), Certificates: table}
	got, err := r.Document(evidence.SourceWorkload, []byte("nonce"), []byte("data"))
	want := &evidence.Document{
		Type: "sev-snp", Report: []byte("report"), Certificates: [][]byte{[]byte("vcek"), []byte("ark")},
		Source: evidence.SourceWorkload, Nonce: []byte("nonce"), RuntimeData: []byte("data"),
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	r.Certificates = nil
	if got, err = r.Document(evidence.SourceWorkload, nil, nil); err != nil || got.Certificates != nil {
		t.Errorf("without a table: %q, %v", got.Certificates, err)
	}
	r.Certificates = table[:30]
	if got, err = r.Document(evidence.SourceWorkload, nil, nil); err == nil {
		t.Errorf("of half a table: %q", got.Certificates)
	}
}
