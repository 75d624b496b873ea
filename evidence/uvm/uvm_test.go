// SPDX-License-Identifier: Apache-2.0

package uvm

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/cbor"
	"cofferdam.dev/internal/testcap"
)

const microsoft = "did:x509:0:sha256:I__iuL25oXEVFdTP_aBLx_eT1RPHbCQ_ECBQfYZpt9s::eku:1.3.6.1.4.1.311.76.59.1.2"

func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(testcap.Vectors(t, name))
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(name, "base64") {
		b, err = DecodeFile(b)
		if err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func number(v uint64) *uint64 { return &v }

func TestVectors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file, issuer, feed, at, measurement string
		svn                                 *uint64
		receipts                            int
	}{
		{
			"uvm/u1-esrp.test.cose", "did:x509:0:sha256:T3wuOi7RTvgBsJ9df38hYzZTcuj-AECHzLeS-882ops::subject:CN:Gen%20Purpose%20NoCS%20P384%20384%20Test%201%20%28DO%20NOT%20TRUST%29",
			"KensHouseOfUVMImages", "2022-11-09T15:56:56Z", "", nil, 0,
		},
		{"uvm/u2-esrp_transparent_hash_envelop.cose", microsoft, "ContainerPlat-AMD-UVM", "2026-03-26T17:03:27Z", "dc3f5a93448923", number(104), 1},
		{"ledger/scitt/uvm_0.2.10.cose", microsoft, "ContainerPlat-AMD-UVM", "2025-12-22T21:11:27Z", "4904167aa9102a75", number(104), 1},
		{"snp/s1-aci-milan-v2/body.uvm_reference_info.bin", microsoft, "ContainerPlat-AMD-UVM", "2023-02-08T05:42:23Z", "51068107cdc7ee3d", number(22), 0},
		{"snp/s1b-security-context/reference-info-base64", microsoft, "ContainerPlat-AMD-UVM", "2023-04-20T23:48:38Z", "03fea02823189b25", number(100), 0},
	} {
		e, err := Parse(vector(t, c.file))
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		got := hex.EncodeToString(e.Measurement)
		if e.Issuer != c.issuer || e.Feed != c.feed || e.IssuedAt.Format(time.RFC3339) != c.at || len(e.Chain) != 3 ||
			len(e.Message.Receipts) != c.receipts || !strings.HasPrefix(got, c.measurement) || (c.measurement == "") != (got == "") {
			t.Errorf("%s: %s %s %s %s, %d certificates", c.file, e.Issuer, e.Feed, e.IssuedAt, got, len(e.Chain))
		}
		if (e.SVN == nil) != (c.svn == nil) || e.SVN != nil && *e.SVN != *c.svn {
			t.Errorf("%s: SVN is %v", c.file, e.SVN)
		}
	}
}

// message makes a message of a protected header and a payload, with a signature that means nothing.
func message(header []cbor.Entry, payload []byte) []byte {
	b := cbor.AppendArray(cbor.AppendTag(nil, 18), 4)
	b = cbor.AppendBytes(b, cbor.AppendMap(nil, append(header, cbor.Entry{Key: cbor.AppendInt(nil, 1), Value: cbor.AppendInt(nil, -38)})))
	b = cbor.AppendMap(b, nil)
	b = cbor.AppendBytes(b, payload)
	return cbor.AppendBytes(b, []byte("nothing"))
}

func entry(key any, value []byte) cbor.Entry {
	if s, ok := key.(string); ok {
		return cbor.Entry{Key: cbor.AppendText(nil, s), Value: value}
	}
	return cbor.Entry{Key: cbor.AppendInt(nil, int64(key.(int))), Value: value}
}

func texts() []cbor.Entry {
	return []cbor.Entry{entry("iss", cbor.AppendText(nil, "did")), entry(3, cbor.AppendText(nil, "application/json"))}
}

func claims(hash int64) []cbor.Entry {
	inner := cbor.AppendMap(nil, []cbor.Entry{entry(1, cbor.AppendText(nil, "did"))})
	return []cbor.Entry{entry(15, inner), entry(258, cbor.AppendInt(nil, hash))}
}

func TestForms(t *testing.T) {
	t.Parallel()
	m := strings.Repeat("ab", MeasurementSize)
	payload := func(s string) []byte { return []byte(s) }
	for name, c := range map[string]struct {
		header  []cbor.Entry
		payload []byte
		wrong   string // empty for none
	}{
		"number alone":          {texts(), payload(`{"x-ms-sevsnpvm-guestsvn-int":7,"x-ms-sevsnpvm-launchmeasurement":"` + m + `"}`), ""},
		"text and number":       {texts(), payload(`{"x-ms-sevsnpvm-guestsvn":"7","x-ms-sevsnpvm-guestsvn-int":7,"more":{}}`), ""},
		"neither":               {texts(), payload(`{}`), ""},
		"they differ":           {texts(), payload(`{"x-ms-sevsnpvm-guestsvn":"7","x-ms-sevsnpvm-guestsvn-int":8}`), "but"},
		"leading zero":          {texts(), payload(`{"x-ms-sevsnpvm-guestsvn":"07"}`), "not a number"},
		"negative":              {texts(), payload(`{"x-ms-sevsnpvm-guestsvn-int":-1}`), "not a number"},
		"fraction":              {texts(), payload(`{"x-ms-sevsnpvm-guestsvn-int":1.0}`), "not a number"},
		"number for text":       {texts(), payload(`{"x-ms-sevsnpvm-guestsvn":7}`), "not a string"},
		"short measurement":     {texts(), payload(`{"x-ms-sevsnpvm-launchmeasurement":"abab"}`), "48 bytes"},
		"measurement not text":  {texts(), payload(`{"x-ms-sevsnpvm-launchmeasurement":1}`), "not a string"},
		"repeated":              {texts(), payload(`{"x-ms-sevsnpvm-guestsvn":"7","x-ms-sevsnpvm-guestsvn":"8"}`), "twice"},
		"no JSON":               {texts(), payload(`7`), "JSON"},
		"too long":              {texts(), append(make([]byte, maxPayload), payload(`{}`)...), "bytes"},
		"no content type":       {texts()[:1], payload(`{}`), "content type"},
		"no form":               {nil, payload(`{}`), "neither"},
		"text with an envelope": {append(texts(), entry(258, cbor.AppendInt(nil, -43))), payload(`{}`), "neither"},
		"envelope":              {claims(-43), make([]byte, MeasurementSize), ""},
		"another hash":          {claims(-16), make([]byte, MeasurementSize), "SHA-384"},
		"another size":          {claims(-43), make([]byte, 32), "SHA-384"},
		"no envelope":           {claims(-43)[:1], make([]byte, MeasurementSize), "neither"},
		"hash by name":          {append(claims(-43)[:1], entry(258, cbor.AppendText(nil, "SHA-384"))), make([]byte, MeasurementSize), "integer"},
		"type of no hash":       {append(claims(-43)[:1], entry(259, cbor.AppendText(nil, "x"))), make([]byte, MeasurementSize), "integer"},
		"type of another kind":  {append(claims(-43), entry(259, cbor.AppendBytes(nil, nil))), make([]byte, MeasurementSize), "text or a number"},
		"critical": {
			append(claims(-43), entry("x", cbor.AppendInt(nil, 1)), entry(2, append(cbor.AppendArray(nil, 1), cbor.AppendText(nil, "x")...))),
			make([]byte, MeasurementSize), "critical",
		},
	} {
		_, err := Parse(message(c.header, c.payload))
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: error is %v, want %q", name, err, c.wrong)
		}
	}
	if _, err := Parse(make([]byte, MaxSize+1)); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("too large: %v", err)
	}
}

func TestSecurityContext(t *testing.T) {
	t.Parallel()
	dir := os.DirFS(testcap.Vectors(t, "snp/s1b-security-context"))
	c, err := ReadSecurityContext(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(c.Policy, []byte("package policy")) {
		t.Errorf("policy is %.40q", c.Policy)
	}
	if e, err := Parse(c.Endorsement); err != nil || e.SVN == nil || *e.SVN != 100 {
		t.Errorf("endorsement: %v", err)
	}
	want := snp.TCB{3, 0, 0, 0, 0, 0, 8, 0x73}
	if c.HostCert.TCB != want || len(c.HostCert.Certificates()) != 3 || c.HostCert.CacheControl != "86400" {
		t.Errorf("TCB is %v, %d certificates, cache control %s", c.HostCert.TCB, len(c.HostCert.Certificates()), c.HostCert.CacheControl)
	}
	if _, err := ReadSecurityContext(fstest.MapFS{}); err == nil || strings.Count(err.Error(), "base64") < 3 {
		t.Errorf("an empty directory: %v", err)
	}
	bad := fstest.MapFS{}
	for _, name := range []string{PolicyFile, ReferenceInfoFile, HostAMDCertFile} {
		bad[name] = &fstest.MapFile{Data: []byte("e30=\n")}
	}
	if _, err := ReadSecurityContext(bad); err == nil || !strings.Contains(err.Error(), HostAMDCertFile) {
		t.Errorf("an empty object: %v", err)
	}
}

func TestHostAMDCert(t *testing.T) {
	t.Parallel()
	whole := string(vector(t, "snp/s1-aci-milan-v2/uvm_host_amd_certificate.json"))
	if _, err := ParseHostAMDCert([]byte(whole)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string][2]string{
		"unknown key":     {`"tcbm"`, `"more": 1, "tcbm"`},
		"no TCB":          {`"tcbm"`, `"TCBM"`},
		"short TCB":       {"7308000000000003", "73080000000003"},
		"no hexadecimal":  {"7308000000000003", "g308000000000003"},
		"no PEM":          {`-----BEGIN CERTIFICATE-----`, ``},
		"another type":    {`CERTIFICATE-----`, `PUBLIC KEY-----`},
		"text before":     {`"-----BEGIN`, `"x-----BEGIN`},
		"number for text": {`"86400"`, `86400`},
	} {
		text := strings.ReplaceAll(whole, c[0], c[1])
		if text == whole {
			t.Errorf("%s: the case changes nothing", name)
		}
		if _, err := ParseHostAMDCert([]byte(text)); err == nil {
			t.Errorf("%s was let through", name)
		}
	}
	if _, err := ParseHostAMDCert(make([]byte, maxHostCert+1)); err == nil {
		t.Error("a file over its limit was let through")
	}
}

func TestDecodeFile(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"", "\n", "e3 0=", "e30", "e\n30=", "e31="} {
		if b, err := DecodeFile([]byte(in)); err == nil {
			t.Errorf("%q became %q", in, b)
		}
	}
	if b, err := DecodeFile([]byte("e30=\r\n")); err != nil || string(b) != "{}" {
		t.Errorf("became %q, %v", b, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(message(texts(), []byte(`{"x-ms-sevsnpvm-guestsvn":"7"}`)))
	f.Add(message(claims(-43), make([]byte, MeasurementSize)))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Parse(b)
		if err == nil && len(e.Measurement) != 0 && len(e.Measurement) != MeasurementSize {
			t.Errorf("measurement has %d bytes", len(e.Measurement))
		}
	})
}

func FuzzParseHostAMDCert(f *testing.F) {
	f.Add([]byte(`{"vcekCert":"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n","tcbm":"7308000000000003","certificateChain":"","cacheControl":"1"}`))
	f.Add([]byte(base64.StdEncoding.EncodeToString([]byte("{}"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseHostAMDCert(b)
		if err == nil && (len(c.VCEK) == 0 && len(c.Certificates()) < 2) {
			t.Error("there are no certificates")
		}
	})
}
