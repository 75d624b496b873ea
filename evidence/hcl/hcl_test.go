// SPDX-License-Identifier: Apache-2.0

package hcl

import (
	"bytes"
	"crypto/rsa"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-tpm/tpm2"

	"cofferdam.dev/internal/testcap"
)

// vectors are real evidence, with what it was asked to have signed.
var vectors = []struct {
	name, file string
	kind       Kind
	version    uint32
	claims     int
	extra      string
}{
	{"arrays", "snp/a1-3/evidence-v0.json", KindSNP, 1, 1110, "challenge"},
	{"texts 1", "snp/a1-3/evidence-v1.json", KindSNP, 1, 1110, "challenge"},
	{"texts 2", "snp/a1-3/evidence-v2.json", KindSNP, 1, 1110, "982f5c6e45df0ed3f10b6f60b02f0c8390e281300f3805e2279c16168cd6ae9aa398f647caa2338748cd0fd9f5f819ef"},
	{"wrapped", "snp/a5/evidence-v1.json", KindSNP, 1, 1110, "challenge"},
	{"live", "snp/a5/live-evidence.json", KindSNP, 1, 1110, "attestation-test-fixture"},
	{"no nonce", "snp/a5/milan-v3-attestation.json", KindSNP, 1, 1110, ""},
	{"TDX", "tdx/a6/evidence-v1.json", KindTDX, 2, 1201, "challenge"},
}

func load(t testing.TB, file string) ([]byte, *Evidence) {
	t.Helper()
	b, err := os.ReadFile(testcap.Vectors(t, "azure-vtpm/"+file))
	if err != nil {
		t.Fatal(err)
	}
	e, err := ParseEvidence(b)
	if err != nil {
		t.Fatal(err)
	}
	return b, e
}

func TestVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			_, e := load(t, v.file)
			r, err := ParseReport(e.Report)
			if err != nil {
				t.Fatal(err)
			}
			if r.Kind != v.kind || r.Version != v.version || len(r.Claims) != v.claims {
				t.Errorf("report is %s, version %d, with %d bytes of claims", r.Kind, r.Version, len(r.Claims))
			}
			if !bytes.Equal(r.Marshal(), e.Report) {
				t.Error("the report does not marshal to what was read")
			}
			c, err := ParseClaims(r.Claims)
			if err != nil {
				t.Fatal(err)
			}
			if c.AttestationKey.N.BitLen() != 2048 || c.EndorsementKey == nil || !c.VM.SecureBoot || !c.VM.TPMEnabled || len(c.VM.UniqueID) != 36 {
				t.Errorf("claims are %+v", c)
			}
			a, err := ParseAttest(e.Quote.Message)
			if err != nil {
				t.Fatal(err)
			}
			want := []byte(v.extra)
			if b, err := hex.DecodeString(v.extra); err == nil {
				want = b
			}
			if !bytes.Equal(a.ExtraData, want) {
				t.Errorf("extra data is %q, not %q", a.ExtraData, want)
			}
			if v.name == "texts 2" && !bytes.HasPrefix(c.UserData[:], want) {
				t.Errorf("user data is %x", c.UserData)
			}
			again, err := e.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			back, err := ParseEvidence(again)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(e, back); diff != "" {
				t.Errorf("evidence came back changed:\n%s", diff)
			}
		})
	}
}

// TestQuotesAgree compares what is read of each quote with what another library reads.
func TestQuotesAgree(t *testing.T) {
	t.Parallel()
	for _, v := range vectors {
		_, e := load(t, v.file)
		ours, err := ParseAttest(e.Quote.Message)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := tpm2.Unmarshal[tpm2.TPMSAttest](e.Quote.Message)
		if err != nil {
			t.Fatal(err)
		}
		quote, err := theirs.Attested.Quote()
		if err != nil {
			t.Fatal(err)
		}
		want := &Attest{
			QualifiedSigner: theirs.QualifiedSigner.Buffer, ExtraData: theirs.ExtraData.Buffer, Clock: theirs.ClockInfo.Clock,
			Resets: theirs.ClockInfo.ResetCount, Restarts: theirs.ClockInfo.RestartCount, Safe: bool(theirs.ClockInfo.Safe),
			Firmware: theirs.FirmwareVersion, PCRDigest: quote.PCRDigest.Buffer,
		}
		for _, s := range quote.PCRSelect.PCRSelections {
			sel := Selection{Algorithm: uint16(s.Hash)}
			for i := range 8 * len(s.PCRSelect) {
				if s.PCRSelect[i/8]>>(i%8)&1 == 1 {
					sel.PCRs = append(sel.PCRs, i)
				}
			}
			want.Selections = append(want.Selections, sel)
		}
		if diff := cmp.Diff(want, ours); diff != "" {
			t.Errorf("%s: differs from go-tpm:\n%s", v.name, diff)
		}
	}
}

// TestSignatureForms gives the same signature alone and within a TPMT_SIGNATURE that another library wrote.
func TestSignatureForms(t *testing.T) {
	t.Parallel()
	_, e := load(t, vectors[0].file)
	wrapped := tpm2.Marshal(tpm2.TPMTSignature{
		SigAlg: tpm2.TPMAlgRSASSA,
		Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSASSA, &tpm2.TPMSSignatureRSA{
			Hash: tpm2.TPMAlgSHA256, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: e.Quote.Signature},
		}),
	})
	for _, in := range [][]byte{e.Quote.Signature, wrapped} {
		if out, err := ParseSignature(in, 256); err != nil || !bytes.Equal(out, e.Quote.Signature) {
			t.Errorf("%d bytes became %d, %v", len(in), len(out), err)
		}
	}
	for n := range wrapped {
		if n == 256 {
			continue
		}
		if _, err := ParseSignature(wrapped[:n], 256); err == nil {
			t.Errorf("the first %d bytes are a signature", n)
		}
	}
	if _, err := ParseSignature(append(wrapped, 0), 256); err == nil {
		t.Error("a signature with something after it was let through")
	}
	wrapped[1] = 0x16 // RSAPSS
	if _, err := ParseSignature(wrapped, 256); err == nil {
		t.Error("another scheme was let through")
	}
}

// TestReportRefusals cuts and extends a report, and changes each byte outside of what the hardware binds or is.
func TestReportRefusals(t *testing.T) {
	t.Parallel()
	_, e := load(t, vectors[0].file)
	whole := e.Report
	end := claimsStart + vectors[0].claims
	for n := range whole {
		if _, err := ParseReport(whole[:n]); err == nil && n != end {
			t.Errorf("the first %d bytes are a report", n)
		}
	}
	for _, tail := range [][]byte{{0}, {1}, make([]byte, 100)} {
		if _, err := ParseReport(append(bytes.Clone(whole), tail...)); err == nil {
			t.Errorf("a report followed by %d bytes was let through", len(tail))
		}
	}
	for i := range whole {
		bound := i >= headerSize && i < runtimeStart || i >= claimsStart && i < end
		for bit := range 8 {
			b := bytes.Clone(whole)
			b[i] ^= 1 << bit
			if _, err := ParseReport(b); err == nil && !bound {
				t.Errorf("bit %d of byte %d could be changed", bit, i)
			}
		}
	}
	if r, err := ParseReport(whole[:end]); err != nil || !bytes.Equal(r.Marshal(), whole[:end]) {
		t.Errorf("a report without padding: %v", err)
	}
}

// TestEvidenceChanges changes each byte of the JSON: what is still accepted must mean what it meant.
func TestEvidenceChanges(t *testing.T) {
	t.Parallel()
	step := 61
	if testing.Short() {
		step = 509
	}
	for _, v := range vectors {
		whole, e := load(t, v.file)
		for i := 0; i < len(whole); i += step {
			b := bytes.Clone(whole)
			b[i] ^= 1 << (i % 8)
			got, err := ParseEvidence(b)
			if err != nil || !cmp.Equal(got, e) {
				continue
			}
			if !strings.ContainsRune(" \t\r\n", rune(b[i])) && !bytes.Contains(whole, []byte("-----BEGIN")) { // PEM has many spellings
				t.Errorf("%s: byte %d could become %q", v.name, i, b[i])
			}
		}
		for n := 0; n < len(bytes.TrimSpace(whole)); n += 3 * step {
			if _, err := ParseEvidence(whole[:n]); err == nil {
				t.Errorf("%s: the first %d bytes are evidence", v.name, n)
			}
		}
	}
}

func TestEvidenceRefusals(t *testing.T) {
	t.Parallel()
	whole, _ := load(t, "snp/a5/evidence-v1.json")
	arrays, _ := load(t, "snp/a1-3/evidence-v0.json")
	for name, c := range map[string]struct {
		in       []byte
		old, new string
	}{
		"unknown key":         {whole, `"version":`, `"more": 1, "version":`},
		"unknown inner key":   {whole, `"message":`, `"more": 1, "message":`},
		"another platform":    {whole, `"az-snp"`, `"az-tdx"`},
		"another version":     {whole, `"version": 1`, `"version": 3`},
		"no certificate":      {whole, `"vcek"`, `"td_quote"`},
		"upper case":          {whole, `"message": "ff`, `"message": "FF`},
		"repeated key":        {whole, `"version": 1`, `"version": 1, "version": 1`},
		"too large a number":  {arrays, "255,", "256,"},
		"a null":              {arrays, "255,", "null,"},
		"text for an array":   {arrays, `"pcrs": [`, `"pcrs": ["x",`},
		"two certificates":    {arrays, `-----END CERTIFICATE-----\n`, `-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n`},
		"not a certificate":   {arrays, `CERTIFICATE`, `PUBLIC KEY`},
		"something afterward": {append(bytes.Clone(whole), '{', '}'), "", ""},
	} {
		b := bytes.ReplaceAll(c.in, []byte(c.old), []byte(c.new))
		if c.old != "" && bytes.Equal(b, c.in) {
			t.Errorf("%s: the case changes nothing", name)
		}
		if c.old == "" {
			b = c.in
		}
		if _, err := ParseEvidence(b); err == nil {
			t.Errorf("%s was let through", name)
		}
	}
}

func TestClaimsRefusals(t *testing.T) {
	t.Parallel()
	_, e := load(t, vectors[0].file)
	r, err := ParseReport(e.Report)
	if err != nil {
		t.Fatal(err)
	}
	whole := string(r.Claims)
	for name, c := range map[string][2]string{
		"no key":           {"HCLAkPub", "HCLXkPub"},
		"two keys":         {"HCLEkPub", "HCLAkPub"},
		"another use":      {`"sign"`, `"encrypt"`},
		"another type":     {`"RSA"`, `"EC"`},
		"another exponent": {`"AQAB"`, `"Aw"`},
		"padded number":    {`"n":"mHSR`, `"n":"mH+R`},
		"short modulus":    {`"n":"mHSRbgAAhfrYaq4f0zFsxuZkkrvoJIbmndQGo6pP1X`, `"n":"1X`},
		"text for a truth": {`"secure-boot":true`, `"secure-boot":"true"`},
		"repeated":         {`"secure-boot":true`, `"secure-boot":true,"secure-boot":false`},
		"short user data":  {`"user-data":"00`, `"user-data":"`},
		"no configuration": {`"vm-configuration"`, `"VM-configuration"`},
	} {
		text := strings.Replace(whole, c[0], c[1], 1)
		if text == whole {
			t.Errorf("%s: the case changes nothing", name)
		}
		if got, err := ParseClaims([]byte(text)); err == nil {
			t.Errorf("%s became %+v", name, got)
		}
	}
	text := strings.Replace(whole, `"keys":[`, `"new":{},"keys":[{"kid":"other"},`, 1)
	if _, err := ParseClaims([]byte(text)); err != nil {
		t.Errorf("claims of a later version: %v", err)
	}
}

// TestAttestRefusals cuts and extends a quote, and changes its structure.
func TestAttestRefusals(t *testing.T) {
	t.Parallel()
	_, e := load(t, vectors[0].file)
	whole := e.Quote.Message
	for n := range whole {
		if _, err := ParseAttest(whole[:n]); err == nil {
			t.Errorf("the first %d bytes are a quote", n)
		}
	}
	if _, err := ParseAttest(append(bytes.Clone(whole), 0)); err == nil {
		t.Error("a quote with something after it was let through")
	}
	for name, at := range map[string]int{"magic": 0, "type": 5, "size of the signer": 6, "size of the extra data": 42, "number of selections": 81} {
		b := bytes.Clone(whole)
		b[at] ^= 0x40
		if a, err := ParseAttest(b); err == nil {
			t.Errorf("%s: became %+v", name, a)
		}
	}
}

func FuzzParseEvidence(f *testing.F) {
	f.Add([]byte(`{"version":1,"hcl_report":"","tpm_quote":{"message":"","signature":"","pcrs":[]},"vcek":""}`))
	f.Add([]byte(`{"platform":"az-tdx","evidence":{}}`))
	f.Add([]byte(`{"report":[1],"quote":{},"vcek":"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEvidence(b)
		if err != nil {
			return
		}
		again, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseEvidence(again); err != nil || !cmp.Equal(e, back) {
			t.Errorf("came back changed: %v", err)
		}
	})
}

func FuzzParseReport(f *testing.F) {
	r := &Report{Version: 1, Kind: KindSNP, Hardware: make([]byte, HardwareSize), Claims: []byte("{}")}
	f.Add(r.Marshal())
	r.Kind, r.Version = KindTDX, 2
	f.Add(r.Marshal()[:claimsStart+2])
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReport(b)
		if err == nil && !bytes.Equal(r.Marshal(), b) {
			t.Error("does not marshal to what was read")
		}
	})
}

func FuzzParseClaims(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"AQ"}],"vm-configuration":{},"user-data":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseClaims(b)
		if err == nil && (c.AttestationKey == nil || c.AttestationKey.E != exponent) {
			t.Errorf("key is %+v", (*rsa.PublicKey)(c.AttestationKey))
		}
	})
}

func FuzzParseAttest(f *testing.F) {
	b, _ := hex.DecodeString("ff544347801800000000000000000000000000000000000000000000000000000000000100000001000b03ffffff0000")
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, err := ParseAttest(b)
		if err != nil {
			return
		}
		theirs, err := tpm2.Unmarshal[tpm2.TPMSAttest](b)
		if err != nil || !bytes.Equal(theirs.ExtraData.Buffer, ours.ExtraData) {
			t.Errorf("go-tpm reads %+v, %v", theirs, err)
		}
	})
}
