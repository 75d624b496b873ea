// SPDX-License-Identifier: Apache-2.0

package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"math/big"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/testcap"
)

// realQuote is a quote of a real machine and what must be read from it.
type realQuote struct {
	name     string
	offset   int // of the quote in the file
	version  uint16
	body     BodyType
	trailing int
	fmspc    string // of the PCK certificate, or "" when there is none
	ca       PCKAuthority
}

var realQuotes = []realQuote{
	{"tdx/t1-v4-b0c06f/tdx_quote.bin", 0, 4, BodyTDX10, 70, "b0c06f000000", PCKPlatformCA},
	{"tdx/t3-v4-debug-50806f/tdx_quote_4.dat", 0, 4, BodyTDX10, 0, "50806f000000", PCKPlatformCA},
	{"tdx/t5-google/quote_v5_sample.dat", 0, 5, BodyTDX15, 0, "90c06f000000", PCKPlatformCA},
	{"tdx/t6-ccel-google/cos-113-tdx-quote.dat", 0, 4, BodyTDX10, 3065, "00806f050000", PCKPlatformCA},
	{"tdx/t7-ccel-mismatch/pair-a/tdx_quote_live.dat", 0, 4, BodyTDX10, 307, "b0c06f000000", PCKPlatformCA},
	{"sgx/g1-v3-00a067/sgx_quote.bin", 0, 3, BodySGX, 0, "00a067110000", PCKProcessorCA},
	{"sgx/g3-oasis/quote_v3_ecdsa_p256_pck_chain.bin", 0, 3, BodySGX, 0, "00606a000000", PCKPlatformCA},
	{"sgx/g3-oasis/quote_v3_ecdsa_p256_eppid.bin", 0, 3, BodySGX, 0, "", ""},
	{"sgx/g3-oasis/quote_v4_tdx_ecdsa_p256.bin", 0, 4, BodyTDX10, 0, "c0806f000000", PCKPlatformCA},
	{"sgx/g3-oasis/quote_v4_tdx_ecdsa_p256_trailing.bin", 0, 4, BodyTDX10, 70, "c0806f000000", PCKPlatformCA},
	{"sgx/g3-oasis/quote_v4_tdx_ecdsa_p256_out_of_date.bin", 0, 4, BodyTDX10, 0, "50806f000000", PCKPlatformCA},
	{"sgx/g3-occlum-debug/occlum_quote.dat", 0, 3, BodySGX, 0, "00606a000000", PCKPlatformCA},
	{"sgx/g4-openenclave/evidence", 81, 3, BodySGX, 0, "00906ed50000", PCKProcessorCA},
}

func (r realQuote) read(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile(testcap.Vectors(t, r.name))
	if err != nil {
		t.Fatal(err)
	}
	return b[r.offset:]
}

// TestRealQuotes parses quotes of real machines, encodes them again, and verifies every signature that they hold: that
// shows that the signed bytes and the keys were found where they are.
func TestRealQuotes(t *testing.T) {
	t.Parallel()
	for _, c := range realQuotes {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := c.read(t)
			q, err := ParseQuote(b)
			if err != nil {
				t.Fatal(err)
			}
			again, err := q.Marshal()
			if err != nil || !bytes.Equal(again, b) {
				t.Errorf("encoding gives other bytes: %v", err)
			}
			if q.Header.Version != c.version || q.BodyType() != c.body || len(q.Trailing) != c.trailing ||
				q.Header.QEVendorID != IntelQEVendorID || (q.Enclave == nil) == (q.TD == nil) {
				t.Errorf("version %d, body %d, %d trailing bytes, vendor %x", q.Header.Version, q.BodyType(), len(q.Trailing),
					q.Header.QEVendorID)
			}
			verifyInside(t, q)
			if c.fmspc == "" {
				return
			}
			chain := parseChain(t, q)
			pck, err := ParsePCK(chain[0])
			if err != nil {
				t.Fatal(err)
			}
			if !verifyPair(chain[0].PublicKey.(*ecdsa.PublicKey), q.QEReport.Marshal(), q.QEReportSignature) {
				t.Error("the PCK did not sign the QE report")
			}
			ca, err := Authority(chain[0])
			if err != nil || ca != c.ca || hex.EncodeToString(pck.FMSPC[:]) != c.fmspc || (pck.Platform != nil) != (ca == PCKPlatformCA) {
				t.Errorf("FMSPC %x of the %s CA, %v, platform %+v", pck.FMSPC, ca, err, pck.Platform)
			}
			ext, err := pck.Extension()
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range chain[0].Extensions {
				if e.Id.Equal(ext.Id) && !bytes.Equal(e.Value, ext.Value) {
					t.Errorf("the SGX extension is encoded otherwise:\n%x\n%x", ext.Value, e.Value)
				}
			}
		})
	}
}

// verifyInside verifies what needs no certificate: the quote's signature, and the digest that binds its key to the QE.
func verifyInside(t *testing.T, q *Quote) {
	t.Helper()
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, q.AttestationKey[:]...))
	if err != nil {
		t.Fatal(err)
	}
	if !verifyPair(key, q.SignedBytes(), q.Signature) {
		t.Error("the attestation key did not sign the quote")
	}
	digest := sha256.Sum256(append(bytes.Clone(q.AttestationKey[:]), q.QEAuthData...))
	var want [64]byte
	copy(want[:], digest[:])
	if q.QEReport.ReportData != want {
		t.Error("the QE report does not name the attestation key")
	}
}

func verifyPair(key *ecdsa.PublicKey, signed []byte, sig [64]byte) bool {
	digest := sha256.Sum256(signed)
	return ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
}

func parseChain(t *testing.T, q *Quote) []*x509.Certificate {
	t.Helper()
	if len(q.Certificates) != 3 {
		t.Fatalf("there are %d certificates", len(q.Certificates))
	}
	var chain []*x509.Certificate
	for i, der := range q.Certificates {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			if err := chain[i-1].CheckSignatureFrom(cert); err != nil {
				t.Errorf("certificate %d: %v", i-1, err)
			}
		}
		chain = append(chain, cert)
	}
	return chain
}

// TestEncryptedPPID reads a quote that no certificate comes with.
func TestEncryptedPPID(t *testing.T) {
	t.Parallel()
	q, err := ParseQuote(realQuotes[7].read(t))
	if err != nil {
		t.Fatal(err)
	}
	p, err := q.PPID()
	if err != nil {
		t.Fatal(err)
	}
	if q.CertificationType != CertificationPPIDRSA3072 || q.Certificates != nil || len(p.Encrypted) != 384 || p.PCESVN != 12 || p.PCEID != 0 {
		t.Errorf("%s, %d certificates, %+v", q.CertificationType, len(q.Certificates), p)
	}
	chain, err := ParseQuote(realQuotes[0].read(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chain.PPID(); err == nil {
		t.Error("a certificate chain was read as a PPID")
	}
}

// TestTrailingText parses a quote that text follows, which only the lenient parser accepts.
func TestTrailingText(t *testing.T) {
	t.Parallel()
	b := realQuote{name: "tdx/t5-google/tdx_prod_quote_SPR_E4.dat"}.read(t)
	_, err := ParseQuote(b)
	var trailing *TrailingError
	if !errors.As(err, &trailing) {
		t.Fatalf("error is %v", err)
	}
	if diff := cmp.Diff(TrailingError{Offset: 4935, Size: 39}, *trailing); diff != "" {
		t.Error(diff)
	}
	q, err := ParseQuoteIgnoringTrailing(b)
	if err != nil {
		t.Fatal(err)
	}
	if string(q.Trailing) != "\nextra bytes(only for testing purpose)\n" {
		t.Errorf("trailing bytes are %q", q.Trailing)
	}
	verifyInside(t, q)
	again, err := q.Marshal()
	if err != nil || !bytes.Equal(again, b) {
		t.Errorf("encoding gives other bytes: %v", err)
	}
	if _, err := ParseQuote(b[:trailing.Offset]); err != nil {
		t.Errorf("without the text: %v", err)
	}
}
