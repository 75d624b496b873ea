// SPDX-License-Identifier: Apache-2.0

package dcap

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"testing"

	tdxabi "github.com/google/go-tdx-guest/abi"
	"github.com/google/go-tdx-guest/pcs"
	pb "github.com/google/go-tdx-guest/proto/tdx"
)

// TestQuotesAgainstOracle reads every quote of version 4 with another implementation too.
func TestQuotesAgainstOracle(t *testing.T) {
	t.Parallel()
	for _, c := range realQuotes {
		if c.version != Version4 {
			continue // it knows no others
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := c.read(t)
			q, err := ParseQuote(b)
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := tdxabi.QuoteToProto(b)
			if err != nil {
				t.Fatal(err)
			}
			o, ok := theirs.(*pb.QuoteV4)
			if !ok {
				t.Fatalf("the oracle reads a %T", theirs)
			}
			compareBody(t, q, o)
			compareSignatureData(t, q, o)
			comparePCK(t, q)
		})
	}
}

func compareBody(t *testing.T, q *Quote, o *pb.QuoteV4) {
	t.Helper()
	ours, theirs := q.TD, o.GetTdQuoteBody()
	for name, pair := range map[string][2][]byte{
		"QE vendor ID": {q.Header.QEVendorID[:], o.GetHeader().GetQeVendorId()}, "user data": {q.Header.UserData[:], o.GetHeader().GetUserData()},
		"TCB": {ours.TEETCBSVN[:], theirs.GetTeeTcbSvn()}, "MRSEAM": {ours.MRSEAM[:], theirs.GetMrSeam()},
		"MRSIGNERSEAM": {ours.MRSignerSEAM[:], theirs.GetMrSignerSeam()}, "MRTD": {ours.MRTD[:], theirs.GetMrTd()},
		"SEAM attributes": {binary.LittleEndian.AppendUint64(nil, ours.SEAMAttributes), theirs.GetSeamAttributes()},
		"attributes":      {binary.LittleEndian.AppendUint64(nil, uint64(ours.TDAttributes)), theirs.GetTdAttributes()},
		"XFAM":            {binary.LittleEndian.AppendUint64(nil, uint64(ours.XFAM)), theirs.GetXfam()},
		"MRCONFIGID":      {ours.MRConfigID[:], theirs.GetMrConfigId()}, "MROWNER": {ours.MROwner[:], theirs.GetMrOwner()},
		"MROWNERCONFIG": {ours.MROwnerConfig[:], theirs.GetMrOwnerConfig()}, "report data": {ours.ReportData[:], theirs.GetReportData()},
		"RTMRs": {bytes.Join([][]byte{ours.RTMR[0][:], ours.RTMR[1][:], ours.RTMR[2][:], ours.RTMR[3][:]}, nil),
			bytes.Join(theirs.GetRtmrs(), nil)},
		"trailing bytes": {q.Trailing, o.GetExtraBytes()},
	} {
		if !bytes.Equal(pair[0], pair[1]) {
			t.Errorf("%s: ours is %x, theirs %x", name, pair[0], pair[1])
		}
	}
	if uint32(q.Header.TEE) != o.GetHeader().GetTeeType() || uint32(q.Header.AttestationKeyType) != o.GetHeader().GetAttestationKeyType() {
		t.Error("headers differ")
	}
}

func compareSignatureData(t *testing.T, q *Quote, o *pb.QuoteV4) {
	t.Helper()
	signed := o.GetSignedData()
	qe := signed.GetCertificationData().GetQeReportCertificationData()
	report, err := tdxabi.EnclaveReportToAbiBytes(qe.GetQeReport())
	if err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string][2][]byte{
		"signature": {q.Signature[:], signed.GetSignature()}, "key": {q.AttestationKey[:], signed.GetEcdsaAttestationKey()},
		"QE report": {q.QEReport.Marshal(), report}, "QE report signature": {q.QEReportSignature[:], qe.GetQeReportSignature()},
		"QE authentication data": {q.QEAuthData, qe.GetQeAuthData().GetData()},
		"certification data":     {q.CertificationData, qe.GetPckCertificateChainData().GetPckCertChain()},
	} {
		if !bytes.Equal(pair[0], pair[1]) {
			t.Errorf("%s: ours is %x, theirs %x", name, pair[0], pair[1])
		}
	}
	if t4 := qe.GetPckCertificateChainData().GetCertificateDataType(); t4 != uint32(q.CertificationType) {
		t.Errorf("certification type: ours is %s, theirs %d", q.CertificationType, t4)
	}
}

func comparePCK(t *testing.T, q *Quote) {
	t.Helper()
	leaf := parseChain(t, q)[0]
	ours, err := ParsePCK(leaf)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := pcs.PckCertificateExtensions(leaf)
	if err != nil {
		t.Fatal(err)
	}
	if hex.EncodeToString(ours.PPID[:]) != theirs.PPID || hex.EncodeToString(ours.FMSPC[:]) != theirs.FMSPC ||
		hex.EncodeToString(ours.PCEID[:]) != theirs.PCEID || ours.PCESVN != theirs.TCB.PCESvn ||
		!bytes.Equal(ours.CPUSVN[:], theirs.TCB.CPUSvn) || !bytes.Equal(ours.Components[:], theirs.TCB.CPUSvnComponents) {
		t.Errorf("ours is %+v, theirs %+v", ours, theirs)
	}
}
