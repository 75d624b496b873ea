// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"bytes"
	"encoding/base64"
	"os"
	"testing"
	"testing/fstest"
	"time"

	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/evidence/uvm"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/anchor"
	verifyuvm "cofferdam.dev/verify/uvm"
)

// TestHostContext makes the document of a real Azure container group, as a container of it would, and has it judged.
func TestHostContext(t *testing.T) {
	t.Parallel()
	read := func(name string) []byte {
		b, err := os.ReadFile(testcap.Vectors(t, "snp/s1-aci-milan-v2/"+name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	encoded := func(b []byte) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(base64.StdEncoding.EncodeToString(b))}
	}
	dir := fstest.MapFS{
		uvm.PolicyFile:        &fstest.MapFile{Data: read("uvm_security_policy.base64")},
		uvm.ReferenceInfoFile: encoded(read("body.uvm_reference_info.bin")),
		uvm.HostAMDCertFile:   encoded(read("uvm_host_amd_certificate.json")),
	}
	d := &evidence.Document{Type: evidence.TypeSEVSNP, Report: read("snp_report.bin")}
	if err := addHostContext(d, dir); err != nil {
		t.Fatal(err)
	}
	b, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if d, err = evidence.ParseDocument(b); err != nil {
		t.Fatal(err)
	}
	r, err := snp.ParseReport(d.Report)
	if err != nil {
		t.Fatal(err)
	}
	v := verify.Appraise(t.Context(), d, verify.Options{
		Roots: anchor.AMDRoots(), Now: time.Date(2023, 3, 1, 0, 0, 0, 0, time.UTC), UVM: verifyuvm.AzureContainerPlat(22),
		HostData: [][32]byte{r.HostData}, ReportData: [][]byte{r.ReportData[:]},
		SNP: amd.Policy{MinimumTCB: map[snp.ProductLine]snp.TCBParts{snp.Milan: {SNP: 8}}},
	})
	if !v.Accepted() || v.Endorsement == nil {
		t.Errorf("outcome is %s: %+v", v.Outcome, v.Failures())
	}
	delete(dir, uvm.PolicyFile)
	bare := &evidence.Document{Type: evidence.TypeSEVSNP, Report: d.Report}
	if err := addHostContext(bare, dir); err == nil || len(bare.Certificates)+len(bare.Endorsements) != 0 {
		t.Errorf("without a policy: %v, %d certificates, %d endorsements", err, len(bare.Certificates), len(bare.Endorsements))
	}
	dir[uvm.PolicyFile] = encoded(bytes.Repeat([]byte("#"), evidence.MaxPolicySize+1))
	if err := addHostContext(bare, dir); err == nil || bare.Policy != nil {
		t.Errorf("with a policy that is too large: %v", err)
	}
}
