// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"testing"

	"cofferdam.dev/evidence"
	"cofferdam.dev/verify/check"
)

// TestBindingForms holds each kind of evidence to its own form: what a TPM signs is the hash of report data, because TPMs
// do not take as much.
func TestBindingForms(t *testing.T) {
	t.Parallel()
	nonce, data := []byte("sixteen bytes 16"), []byte("key")
	report, tpm := evidence.ReportData(evidence.SourceWorkload, nonce, data), evidence.QualifyingData(evidence.SourceWorkload, nonce, data)
	for _, c := range []struct {
		kind string
		data []byte
		want check.Result
	}{
		{evidence.TypeSEVSNP, report[:], check.Pass},
		{evidence.TypeSEVSNP, tpm[:], check.Fail},
		{evidence.TypeTDX, report[:], check.Pass},
		{evidence.TypeAzureVTPM, tpm[:], check.Pass},
		{evidence.TypeAzureVTPM, report[:], check.Fail},
		{evidence.TypeAzureVTPM, nonce, check.Fail},
		{evidence.TypeAzureVTPM, nil, check.Fail},
	} {
		a := &appraisal{Record: &check.Record{}, opts: &Options{Source: evidence.SourceWorkload, Nonce: nonce, RuntimeData: data}}
		doc := &evidence.Document{Type: c.kind, Source: evidence.SourceWorkload, Nonce: nonce, RuntimeData: data}
		a.binding(&subject{reportData: c.data}, doc)
		checks := a.Checks()
		if last := checks[len(checks)-1]; last.Name != check.ReportData || last.Result != c.want {
			t.Errorf("%s with %x: %s is %s, not %s", c.kind, c.data, last.Name, last.Result, c.want)
		}
	}
}
