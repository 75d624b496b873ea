// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/x509"
	"slices"
	"testing"

	sevabi "github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	sevpb "github.com/google/go-sev-guest/proto/sevsnp"
	sevvalidate "github.com/google/go-sev-guest/validate"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/verify/check"
)

// TestDifferences holds the page docs/explanation/other-verifiers.md to what the other implementation does with real
// evidence. A row whose test fails has been mended there, and can go.
func TestDifferences(t *testing.T) {
	t.Parallel()
	doc := byName("s6-milan").document(t)
	attestation := func(report []byte) (*sevpb.Attestation, error) {
		r, err := sevabi.ReportToProto(report)
		if err != nil {
			return nil, err
		}
		return &sevpb.Attestation{Report: r, CertificateChain: &sevpb.CertificateChain{VcekCert: doc.Certificates[0]}}, nil
	}
	judged := func(report []byte, o Options) []check.Code {
		d := *doc
		d.Report = report
		return codes(Appraise(t.Context(), &d, o))
	}

	t.Run("bytes behind a report", func(t *testing.T) {
		t.Parallel()
		longer := slices.Concat(doc.Report, []byte{1})
		if _, err := attestation(longer); err != nil {
			t.Errorf("the other refuses: %v", err)
		}
		if got := judged(longer, pinned(t, doc)); !slices.Contains(got, check.CodeReportMalformed) {
			t.Errorf("codes %v", got)
		}
	})
	t.Run("options of zero", func(t *testing.T) {
		t.Parallel()
		a, err := attestation(doc.Report)
		if err != nil {
			t.Fatal(err)
		}
		// Its zero options refuse the one flag of this guest's policy; with that, nothing else is asked for.
		if err := sevvalidate.SnpAttestation(a, &sevvalidate.Options{GuestPolicy: sevabi.SnpPolicy{SMT: true}}); err != nil {
			t.Errorf("the other refuses: %v", err)
		}
		if got := judged(doc.Report, Options{}); len(got) < 8 {
			t.Errorf("codes %v", got)
		}
	})
	t.Run("chip certificate of Turin", func(t *testing.T) {
		t.Parallel()
		cert, err := x509.ParseCertificate(read(t, "snp/s10-virtee/vcek_turin.der"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kds.VcekCertificateExtensions(cert); err == nil {
			t.Error("the other reads it")
		}
		if c, err := snp.ParseChipCertificate(cert); err != nil || c.Line != snp.Turin || len(c.HWID) != 8 {
			t.Errorf("here it is %+v, %v", c, err)
		}
	})
	t.Run("platform bit of Turin", func(t *testing.T) {
		t.Parallel()
		if _, err := sevabi.ParseSnpPlatformInfo(uint64(snp.PlatformIOMMUWriteSafe)); err == nil {
			t.Error("the other knows bit 6")
		}
	})
	t.Run("Siena's product line", func(t *testing.T) {
		t.Parallel()
		const siena = 0x00aa0f02
		if line := kds.ProductLineFromFms(siena); line == "Genoa" {
			t.Error("the other knows Siena")
		}
		if line, err := snp.ParseCPUSignature(siena).ProductLine(); err != nil || line != snp.Genoa {
			t.Errorf("here it is %s, %v", line, err)
		}
	})
	t.Run("reported above committed", func(t *testing.T) {
		t.Parallel()
		r := slices.Clone(doc.Report)
		r[0x1e7]-- // committed microcode
		a, err := attestation(r)
		if err != nil {
			t.Fatal(err)
		}
		o := &sevvalidate.Options{GuestPolicy: sevabi.SnpPolicy{SMT: true}, PermitProvisionalFirmware: true}
		if err := sevvalidate.SnpAttestation(a, o); err != nil {
			t.Errorf("the other refuses: %v", err)
		}
		ours := pinned(t, doc)
		ours.SNP.AllowProvisionalTCB = true
		if got := judged(r, ours); !slices.Contains(got, check.CodeTCBOrder) {
			t.Errorf("codes %v", got)
		}
	})
	t.Run("masked chip ID", func(t *testing.T) {
		t.Parallel()
		r := slices.Clone(doc.Report)
		clear(r[0x1a0:0x1e0])
		a, err := attestation(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := sevvalidate.SnpAttestation(a, &sevvalidate.Options{GuestPolicy: sevabi.SnpPolicy{SMT: true}}); err != nil {
			t.Errorf("the other refuses: %v", err)
		}
		if got := judged(r, pinned(t, doc)); !slices.Contains(got, check.CodeChipIDMismatch) {
			t.Errorf("codes %v", got)
		}
	})
}
