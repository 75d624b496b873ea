// SPDX-License-Identifier: Apache-2.0

package dcap

import (
	"bytes"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"cofferdam.dev/evidence/sgx"
	"cofferdam.dev/evidence/tdx"
)

// plainQuote is a quote of a version and body that holds nothing.
func plainQuote(version uint16, body BodyType) *Quote {
	q := &Quote{
		Header:   Header{Version: version, AttestationKeyType: KeyECDSAP256},
		QEReport: &sgx.ReportBody{}, CertificationType: CertificationPPID, CertificationData: make([]byte, 36),
	}
	switch body {
	case BodySGX:
		q.Enclave = &sgx.ReportBody{}
	case BodyTDX10:
		q.Header.TEE, q.TD = TEETDX, &tdx.Body{}
	case BodyTDX15:
		q.Header.TEE, q.TD = TEETDX, &tdx.Body{V15: &tdx.Body15{}}
	}
	return q
}

// possible are the versions and bodies that go together.
var possible = []struct {
	version uint16
	body    BodyType
}{
	{Version3, BodySGX}, {Version4, BodySGX}, {Version4, BodyTDX10}, {Version5, BodySGX}, {Version5, BodyTDX10},
	{Version5, BodyTDX15},
}

func encode(t testing.TB, q *Quote) []byte {
	t.Helper()
	b, err := q.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestQuoteIsParsedStrictly(t *testing.T) {
	t.Parallel()
	v3, v4, v5 := encode(t, plainQuote(3, BodySGX)), encode(t, plainQuote(4, BodyTDX10)), encode(t, plainQuote(5, BodyTDX15))
	set := func(b []byte, off int, v ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[off:], v)
		return b
	}
	const sig3, sig4, sig5 = 48 + 384, 48 + 584, 54 + 648 // offsets of the signature data's size
	const qe = 4 + 128                                    // from there to the QE report in version 3
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"empty":                        {nil, "version at offset 0 needs 2 bytes, but 0 are left"},
		"too large":                    {make([]byte, MaxQuoteSize+1), "more than 65536"},
		"version 2":                    {set(v3, 0, 2), "version is 2, not 3 to 5"},
		"version 6":                    {set(v3, 0, 6), "version is 6"},
		"P-384 key":                    {set(v3, 2, 3), "attestation key type is 3"},
		"TDX in version 3":             {set(v3, 4, 0x81), "TEE type is 0x81, which version 3 does not have"},
		"unknown TEE":                  {set(v4, 4, 0x82), "TEE type is 0x82"},
		"reserved bytes in version 4":  {set(v4, 10, 1), "reserved bytes at offset 8"},
		"reserved byte of an enclave":  {set(v3, 48+96, 1), "reserved byte at offset 96"},
		"reserved byte of the QE":      {set(v3, sig3+qe+96, 1), "reserved byte at offset 96"},
		"body type 0":                  {set(v5, 48, 0), "body type is 0"},
		"body type 4":                  {set(v5, 48, 4), "body type is 4"},
		"body of an enclave in a TD's": {set(v5, 48, 1), "header's TEE type is TDX"},
		"body size":                    {set(v5, 50, 0x48), "size of body type 3 is 584 bytes, not 648"},
		"signature data too long":      {set(v3, sig3, v3[sig3]+1), "signature data at offset 436 has a size"},
		"signature data too short":     {set(v3, sig3, v3[sig3]-1), "but"},
		"signature data huge":          {set(v3, sig3, 0xff, 0xff, 0xff, 0xff), "4294967295 bytes"},
		"QE report not wrapped":        {set(v4, sig4+qe, 5), "of type 5 (PCK certificate chain), not of type 6"},
		"wrapper too long":             {set(v4, sig4+qe+2, v4[sig4+qe+2]+1), "certification data at offset"},
		"wrapper too short":            {set(v5, sig5+qe+2, v5[sig5+qe+2]-1), "but"},
		"authentication data too long": {set(v3, sig3+qe+448, 0xff, 0xff), "QE authentication data"},
		"certification data too long":  {set(v3, sig3+qe+452, 37), "certification data of the PCK"},
		"certification data too short": {set(v3, sig3+qe+452, 35), "belong to no field"},
		"chain that is none":           {set(v3, sig3+qe+450, 5), "splitting certificate chain"},
		"text behind":                  {append(bytes.Clone(v4), 0, 0, 1), "3 bytes that are not all zero follow the quote"},
	} {
		_, err := ParseQuote(c.b)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, not %q", name, err, c.want)
		}
	}
	for _, b := range [][]byte{v3, v4, v5} {
		for n := range b {
			if _, err := ParseQuoteIgnoringTrailing(b[:n]); err == nil {
				t.Errorf("version %d cut to %d bytes: no error", b[0], n)
			}
		}
	}
}

// TestEveryByteCounts changes each byte of real quotes: what is still accepted encodes to the changed bytes, so that no
// byte goes unread.
func TestEveryByteCounts(t *testing.T) {
	t.Parallel()
	for _, c := range realQuotes {
		b := c.read(t)
		step := 1
		if testing.Short() {
			step = 37
		}
		for i := 0; i < len(b); i += step {
			bad := bytes.Clone(b)
			bad[i] ^= 1 << (i % 8)
			q, err := ParseQuoteIgnoringTrailing(bad)
			if err != nil {
				continue
			}
			if again, err := q.Marshal(); err != nil || !bytes.Equal(again, bad) {
				t.Errorf("%s, byte %d: encoding gives other bytes: %v", c.name, i, err)
			}
		}
	}
}

func TestQuoteThatHasNoEncoding(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Quote){
		"no QE report":           func(q *Quote) { q.QEReport = nil },
		"no body":                func(q *Quote) { q.TD = nil },
		"TD said to be enclave":  func(q *Quote) { q.Header.TEE = TEESGX },
		"body of TDX 1.5":        func(q *Quote) { q.TD.V15 = &tdx.Body15{} },
		"large certification":    func(q *Quote) { q.CertificationData = make([]byte, MaxQuoteSize) },
		"authentication data":    func(q *Quote) { q.QEAuthData = make([]byte, 1<<16+1) },
		"chain that is none":     func(q *Quote) { q.CertificationType = CertificationPCKChain },
		"two bodies":             func(q *Quote) { q.Enclave = &sgx.ReportBody{} },
		"key of another type":    func(q *Quote) { q.Header.AttestationKeyType = 3 },
		"trailing bytes, large":  func(q *Quote) { q.Trailing = make([]byte, MaxQuoteSize) },
		"SVNs in version 4":      func(q *Quote) { q.Header.PCESVN = 1 },
		"version without format": func(q *Quote) { q.Header.Version = 6 },
	} {
		q := plainQuote(Version4, BodyTDX10)
		change(q)
		if b, err := q.Marshal(); err == nil {
			t.Errorf("%s: no error, but %d bytes", name, len(b))
		}
	}
	if (&Quote{}).ReportData() != [64]byte{} || len((&Quote{}).SignedBytes()) != headerSize {
		t.Error("an empty quote has report data or a body")
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	got := []string{TEESGX.String(), TEETDX.String(), TEEType(7).String(), SGXStandard.String(), SGXScalable.String(),
		SGXScalableIntegrity.String(), SGXType(9).String()}
	want := []string{"SGX", "TDX", "TEE type 0x7", "standard", "scalable", "scalable with integrity", "reserved(9)"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	seen := map[string]bool{}
	for c := range CertificationType(9) {
		seen[c.String()] = true
	}
	if len(seen) != 9 || !seen["type 5 (PCK certificate chain)"] || !seen["type 8 (unknown)"] {
		t.Errorf("certification types are named %v", seen)
	}
}

func TestSplitChain(t *testing.T) {
	t.Parallel()
	block := func(der string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(der)}))
	}
	one, two := block("one"), block("two")
	for name, text := range map[string]string{
		"plain": one + two, "zero byte": one + two + "\x00", "no last newline": strings.TrimSpace(one + two),
		"empty lines": "\n" + one + "\r\n\n" + two, "other line ends": strings.ReplaceAll(one+two, "\n", "\r\n"),
	} {
		got, err := SplitChain([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff([][]byte{[]byte("one"), []byte("two")}, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	header := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"A": "b"}, Bytes: []byte("x")}))
	for name, text := range map[string]string{
		"empty": "", "zero byte": "\x00", "text in front": "x\n" + one, "text between": one + "x\n" + two, "text behind": one + "x",
		"two zero bytes": one + "\x00\x00", "zero byte between": one + "\x00" + two, "header": header, "no certificate": block(""),
		"key":    string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})),
		"no end": strings.Split(one, "-----END")[0] + two, "bad base64": strings.Replace(one, "b25l", "b2?l", 1), "cut": one[:30],
		"many": strings.Repeat(one, MaxCertificates+1),
	} {
		if got, err := SplitChain([]byte(text)); err == nil {
			t.Errorf("%s: no error, but %q", name, got)
		}
	}
}

func TestQuoteRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		fill := func(b []byte) { copy(b, rapid.SliceOfN(rapid.Byte(), len(b), len(b)).Draw(t, "bytes")) }
		p := rapid.SampledFrom(possible).Draw(t, "version and body")
		want := plainQuote(p.version, p.body)
		if p.version == Version3 {
			want.Header.QESVN, want.Header.PCESVN = rapid.Uint16().Draw(t, "QE SVN"), rapid.Uint16().Draw(t, "PCE SVN")
		}
		for _, f := range [][]byte{want.Header.QEVendorID[:], want.Header.UserData[:], want.Signature[:], want.AttestationKey[:],
			want.QEReport.ReportData[:], want.QEReportSignature[:]} {
			fill(f)
		}
		if want.TD != nil {
			fill(want.TD.MRTD[:])
			fill(want.TD.ReportData[:])
		} else {
			fill(want.Enclave.MREnclave[:])
			fill(want.Enclave.ReportData[:])
		}
		want.QEAuthData = rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "auth")
		want.CertificationType = CertificationType(rapid.Uint16().Draw(t, "type"))
		want.CertificationData = rapid.SliceOfN(rapid.Byte(), 0, 500).Draw(t, "data")
		if want.CertificationType == CertificationPCKChain {
			want.Certificates = [][]byte{{1}, {2}}
			want.CertificationData = slicesOfPEM(want.Certificates)
		}
		want.Trailing = rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "trailing")
		b, err := want.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseQuoteIgnoringTrailing(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
		if !bytes.HasPrefix(b, got.SignedBytes()) || got.BodyType() != p.body || got.ReportData() != want.ReportData() {
			t.Fatal("signed bytes, body type or report data are wrong")
		}
	})
}

func slicesOfPEM(list [][]byte) []byte {
	var b []byte
	for _, der := range list {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return b
}

func FuzzParseQuote(f *testing.F) {
	for _, p := range possible {
		q := plainQuote(p.version, p.body)
		q.CertificationType, q.CertificationData = CertificationPCKChain, slicesOfPEM([][]byte{{1}, {2}})
		q.QEAuthData, q.Trailing = []byte("auth"), make([]byte, 3)
		f.Add(encode(f, q))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := ParseQuoteIgnoringTrailing(b)
		if err != nil {
			return
		}
		if again, err := q.Marshal(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("encoding gives other bytes: %v", err)
		}
		if _, err := ParseQuote(b[:len(b)-len(q.Trailing)]); err != nil {
			t.Errorf("without what follows: %v", err)
		}
		_, _ = q.PPID() // must not panic
	})
}

func FuzzSplitChain(f *testing.F) {
	f.Add(slicesOfPEM([][]byte{{1}, {2}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := SplitChain(b)
		if err != nil {
			return
		}
		again, err := SplitChain(slicesOfPEM(list))
		if err != nil || !cmp.Equal(list, again) {
			t.Errorf("%x became %x: %v", list, again, err)
		}
	})
}
