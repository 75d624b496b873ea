// SPDX-License-Identifier: Apache-2.0

package uvm

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/pem"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/evidence/cose1"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/cbor"
	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

const (
	attestedMilan = "ledger/attested-cose/css-attested-cosesign1-20250617.cose"
	attestedGenoa = "ledger/attested-cose/css-attested-cosesign1-20260302.cose"
)

// attested is a message by a key that lives in a container group, with the group's evidence in its protected header.
type attested struct {
	message             *cose1.Message
	kid, keyBytes       []byte
	key                 *ecdsa.PublicKey
	report, endorsement []byte
	certificates        [][]byte
}

func readAttested(t testing.TB, file, section string) *attested {
	t.Helper()
	b := read(t, file)
	m, err := cose1.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	outer, err := cbor.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	header, err := cbor.Decode(outer.Items[0].Items[0].Bytes)
	if err != nil {
		t.Fatal(err)
	}
	kid, _ := header.Lookup(4)
	in, ok := header.LookupText(section)
	if !ok {
		t.Fatalf("%s has no section %q", file, section)
	}
	field := func(name string) cbor.Item {
		v, ok := in.LookupText(name)
		if !ok {
			t.Fatalf("%s has no %q", file, name)
		}
		return v
	}
	key := field("cose_key")
	x, _ := key.Lookup(-2)
	y, _ := key.Lookup(-3)
	point, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), slices.Concat([]byte{4}, x.Bytes, y.Bytes))
	if err != nil {
		t.Fatal(err)
	}
	a := &attested{
		key: point, message: m, kid: kid.Bytes, keyBytes: key.Raw, report: field("attestation").Bytes, endorsement: field("uvm_endorsements").Bytes,
	}
	for rest := field("snp_endorsements").Bytes; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		a.certificates = append(a.certificates, block.Bytes)
	}
	return a
}

// appraise judges a report and the endorsement of its measurement together.
func appraise(t testing.TB, report []byte, certs [][]byte, endorsement []byte, p Policy) (*snp.Report, []check.Code) {
	t.Helper()
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	rec := &check.Record{}
	res := amd.Appraise(context.Background(), rec, amd.Input{Report: report, Certificates: certs, Now: now, Roots: anchor.AMDRoots()},
		amd.Policy{MinimumTCB: amd.DefaultMinimumTCB()})
	if res.Report == nil {
		t.Fatal("there is no report")
	}
	Appraise(context.Background(), rec, Input{Endorsement: endorsement, Measurement: res.Report.Measurement[:], Now: now}, p)
	var codes []check.Code
	for _, c := range rec.Checks() {
		if c.Result != check.Pass {
			codes = append(codes, c.Code)
		}
	}
	return res.Report, codes
}

// TestAttested follows real messages from their key to the silicon: the signature is by a key whose hash the group's
// report binds, the report is by a chip of AMD's, and its measurement is one that Microsoft endorses.
func TestAttested(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file, section string
		svn           uint64
	}{{attestedMilan, "msft-css-dev", 101}, {attestedGenoa, "attestedsvc", 104}} {
		a := readAttested(t, c.file, c.section)
		if err := a.message.VerifySignature(a.key); err != nil {
			t.Errorf("%s: %v", c.file, err)
		}
		if a.message.Verify() == nil {
			t.Errorf("%s: a message with a critical header that is not understood was taken as it is", c.file)
		}
		r, codes := appraise(t, a.report, a.certificates, a.endorsement, AzureContainerPlat(c.svn))
		if diff := cmp.Diff([]check.Code(nil), codes); diff != "" {
			t.Errorf("%s:\n%s", c.file, diff)
		}
		sum := sha256.Sum256(a.keyBytes)
		if !bytes.Equal(sum[:], a.kid) || !bytes.Equal(sum[:], r.ReportData[:32]) || !bytes.Equal(r.ReportData[32:], make([]byte, 32)) {
			t.Errorf("%s: key %x, kid %x, report data %x", c.file, sum, a.kid, r.ReportData)
		}
		_, codes = appraise(t, a.report, a.certificates, a.endorsement, AzureContainerPlat(c.svn+1))
		if diff := cmp.Diff([]check.Code{check.CodeEndorsementSVN}, codes); diff != "" {
			t.Errorf("%s: a higher floor:\n%s", c.file, diff)
		}
	}
}

// TestEndorsementForOthers takes the endorsement out of one message for reports of other machines with the same utility VM.
func TestEndorsementForOthers(t *testing.T) {
	t.Parallel()
	milan, genoa := readAttested(t, attestedMilan, "msft-css-dev"), readAttested(t, attestedGenoa, "attestedsvc")
	for name, c := range map[string]struct {
		report, vcek string
		endorsement  []byte
		want         []check.Code
	}{
		"Milan":               {"snp/s6-aci-v3/milan_report.bin", "snp/s6-aci-v3/milan_vcek.pem", milan.endorsement, nil},
		"Genoa":               {"snp/s6-aci-v3/genoa_report.bin", "snp/s6-aci-v3/genoa_vcek.pem", milan.endorsement, nil},
		"another measurement": {"snp/s6-aci-v3/milan_report.bin", "snp/s6-aci-v3/milan_vcek.pem", genoa.endorsement, []check.Code{check.CodeMeasurement}},
	} {
		block, _ := pem.Decode(read(t, c.vcek))
		_, codes := appraise(t, read(t, c.report), [][]byte{block.Bytes}, c.endorsement, AzureContainerPlat(101))
		if diff := cmp.Diff(c.want, codes); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}
