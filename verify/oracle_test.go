// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"context"
	"crypto/x509"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	sevabi "github.com/google/go-sev-guest/abi"
	sevpb "github.com/google/go-sev-guest/proto/sevsnp"
	sevverify "github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"

	"cofferdam.dev/evidence"
)

// oracle has another implementation verify signature and chain under AMD's embedded roots. It covers less than Appraise:
// no policy, no reference values.
func oracle(t testing.TB, doc *evidence.Document, now time.Time) error {
	t.Helper()
	report, err := sevabi.ReportToProto(doc.Report)
	if err != nil {
		return err
	}
	leaf := doc.Certificates[0]
	cert, err := x509.ParseCertificate(leaf)
	if err != nil {
		return err
	}
	att := &sevpb.Attestation{Report: report, CertificateChain: &sevpb.CertificateChain{VcekCert: leaf}}
	att.Product = &sevpb.SevProduct{Name: sevpb.SevProduct_SEV_PRODUCT_MILAN}
	if cert.Issuer.CommonName == "SEV-Genoa" {
		att.Product.Name = sevpb.SevProduct_SEV_PRODUCT_GENOA
	}
	return sevverify.SnpAttestation(att, &sevverify.Options{
		DisableCertFetching: true, Now: now, Getter: noGetter{}, Product: att.GetProduct(),
	})
}

type noGetter struct{}

func (noGetter) Get(string) ([]byte, error) { return nil, errNoNetwork }

var errNoNetwork = context.DeadlineExceeded

var _ trust.HTTPSGetter = noGetter{}

// TestAgainstOracle requires both implementations to agree on genuine evidence and on damage that the signatures cover.
// They differ on purpose where the other one knows less (Turin, Siena, VLEK) or more tolerant: it reads reports with
// bytes behind their end.
func TestAgainstOracle(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for _, v := range vectors {
		doc, opts := acceptable(t, v)
		if err := oracle(t, doc, vectorTime); err != nil {
			t.Errorf("%s: the oracle refuses what is accepted here: %v", v.name, err)
		}
		for range 40 {
			d := *doc
			d.Report = slices.Clone(doc.Report)
			d.Certificates = slices.Clone(doc.Certificates)
			at, where := rng.IntN(0x2A0), "report"
			if rng.IntN(2) == 0 {
				d.Report[at] ^= 1 << rng.IntN(8)
			} else {
				where = "chip certificate"
				d.Certificates[0] = slices.Clone(d.Certificates[0])
				at = rng.IntN(len(d.Certificates[0]))
				d.Certificates[0][at] ^= 1 << rng.IntN(8)
			}
			theirs := oracle(t, &d, vectorTime)
			ours := Appraise(t.Context(), &d, followed(d.Report, opts))
			if (theirs == nil) != ours.Accepted() {
				t.Errorf("%s with %s damaged at %#x: the oracle says %v, the verdict is %q with %v", v.name, where, at,
					theirs, ours.Outcome, codes(ours))
			}
		}
	}
}
