// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestReportDataGolden pins the encoding: guests and verifiers of different versions must agree on it.
func TestReportDataGolden(t *testing.T) {
	t.Parallel()
	got := ReportData(SourceHost, []byte("nonce"), []byte("data"))
	preimage := "\x00\x00\x00\x00\x00\x00\x00\x1ccofferdam.dev/report-data/v1" + "\x00\x00\x00\x00\x00\x00\x00\x04host" +
		"\x00\x00\x00\x00\x00\x00\x00\x05nonce" + "\x00\x00\x00\x00\x00\x00\x00\x04data"
	if want := sha512.Sum512([]byte(preimage)); got != want {
		t.Errorf("report data is %x, the documented encoding gives %x", got, want)
	}
	const golden = "d904cf1ab8ab6ee4ede2cf606876fa9203dcdafc36ffdbb8a8d607ca63fcd3fc" +
		"8db9c06667c4db4ddee2fdccc13ed8e5878720bae2da862bf9b7b1f88e333a9e"
	if hex.EncodeToString(got[:]) != golden {
		t.Errorf("report data is %x, not %s", got, golden)
	}
}

// TestQualifyingDataGolden pins what TPMs are asked to sign: the example of the reference.
func TestQualifyingDataGolden(t *testing.T) {
	t.Parallel()
	nonce, err := hex.DecodeString("00112233445566778899aabbccddeeff")
	if err != nil {
		t.Fatal(err)
	}
	got := QualifyingData(SourceHost, nonce, []byte("hello"))
	if want := "6d7897db9850dca1c89a2dcfcc7f00d5be82dce4f5c4280e883273988f876c45"; hex.EncodeToString(got[:]) != want {
		t.Errorf("qualifying data are %x, not %s", got, want)
	}
}

// TestReportDataIsInjective draws pairs of triples, most of which share bytes across borders.
func TestReportDataIsInjective(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) [3]string {
			var s [3]string
			for i := range s {
				s[i] = rapid.StringMatching("[ab]{0,3}").Draw(t, label)
			}
			return s
		}
		a, b := draw("a"), draw("b")
		da := ReportData(Source(a[0]), []byte(a[1]), []byte(a[2]))
		db := ReportData(Source(b[0]), []byte(b[1]), []byte(b[2]))
		if (a == b) != (da == db) {
			t.Fatalf("%q and %q", a, b)
		}
	})
}

func sample() *Document {
	return &Document{
		Type: TypeSEVSNP, Report: []byte{1, 2, 3}, Certificates: [][]byte{{4}, {5, 6}}, Source: SourceHost,
		Nonce: []byte("12345678"), RuntimeData: []byte("key"), Policy: []byte("package policy\n\x00"),
		Endorsements: [][]byte{{0xd2}}, EventLog: []byte("log"), Collateral: map[string]Item{
			"amd/crl/Milan": {Body: []byte("list")}, "intel/root-crl": {Body: []byte("crl"), IssuerChain: []byte("pem")},
		},
	}
}

func TestDocumentRoundTrip(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]*Document{
		"full":   sample(),
		"barest": {Type: TypeSEVSNP, Report: []byte{0}},
	} {
		b, err := want.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseDocument(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestDocumentIsParsedStrictly(t *testing.T) {
	t.Parallel()
	b, err := sample().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	good := string(b)
	replace := func(old, with string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("the sample has no %q", old)
		}
		return strings.Replace(good, old, with, 1)
	}
	for name, text := range map[string]string{
		"nothing":              "",
		"another value":        `"text"`,
		"array":                "[]",
		"cut":                  good[:len(good)-3],
		"tail":                 good + "{}",
		"other schema":         replace("evidence/v1", "evidence/v2"),
		"no schema":            replace(`"schema": "cofferdam.dev/evidence/v1",`, ""),
		"unknown key":          replace(`"type"`, `"extra": 1, "type"`),
		"key twice":            replace(`"type"`, `"type": "sev-snp", "type"`),
		"key in capitals":      replace(`"type"`, `"Type"`),
		"null":                 replace(`"source": "host"`, `"source": null`),
		"number":               replace(`"source": "host"`, `"source": 1`),
		"other source":         replace(`"host"`, `"Host"`),
		"no source":            replace(`"source": "host",`, ""),
		"base64 with a break":  replace(`"AQID"`, `"AQ\nID"`),
		"base64 cut":           replace(`"AQID"`, `"AQI"`),
		"base64 of URLs":       replace(`"AQID"`, `"-_-_"`),
		"base64 not canonical": replace(`"BA=="`, `"BB=="`),
		"no report":            replace(`"AQID"`, `""`),
		"empty certificate":    replace(`"BA=="`, `""`),
		"null certificate":     replace(`"BA=="`, `null`),
		"no type":              replace(`"sev-snp"`, `""`),
		"collateral twice":     replace(`"intel/root-crl"`, `"amd/crl/Milan"`),
		"collateral as a list": replace(`"collateral": {`, `"collateral": [{`),
		"body in capitals":     replace(`"body"`, `"Body"`),
		"body twice":           replace(`"issuerChain"`, `"body"`),
		"extra key of an item": replace(`"issuerChain"`, `"issuer"`),
		"item as text":         replace(`"collateral": {`, `"collateral": {"x": "y", `),
		"null item":            replace(`"collateral": {`, `"collateral": {"x": null, `),
		"item with no body":    replace(`"collateral": {`, `"collateral": {"x": {}, `),
		"empty name":           replace(`"intel/root-crl"`, `""`),
		"empty endorsement":    replace(`"0g=="`, `""`),
	} {
		if got, err := ParseDocument([]byte(text)); err == nil {
			t.Errorf("%s: parsed as %+v", name, got)
		}
	}
}

func TestDocumentLimits(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Document){
		"report":            func(d *Document) { d.Report = make([]byte, MaxReportSize+1) },
		"certificates":      func(d *Document) { d.Certificates = make([][]byte, MaxCertificates+1) },
		"certificate":       func(d *Document) { d.Certificates[0] = make([]byte, MaxCertificateSize+1) },
		"short nonce":       func(d *Document) { d.Nonce = d.Nonce[:MinNonceSize-1] },
		"long nonce":        func(d *Document) { d.Nonce = make([]byte, MaxNonceSize+1) },
		"runtime data":      func(d *Document) { d.RuntimeData = make([]byte, MaxRuntimeDataSize+1) },
		"policy":            func(d *Document) { d.Policy = make([]byte, MaxPolicySize+1) },
		"type":              func(d *Document) { d.Type = strings.Repeat("x", 65) },
		"nonce, no source":  func(d *Document) { d.Source, d.RuntimeData = "", nil },
		"data, no source":   func(d *Document) { d.Source, d.Nonce = "", nil },
		"source, no nonce":  func(d *Document) { d.Nonce = nil },
		"source of another": func(d *Document) { d.Source = "guest" },
		"endorsements":      func(d *Document) { d.Endorsements = make([][]byte, MaxEndorsements+1) },
		"endorsement":       func(d *Document) { d.Endorsements[0] = make([]byte, MaxEndorsementSize+1) },
		"event log":         func(d *Document) { d.EventLog = make([]byte, MaxEventLogSize+1) },
		"collateral name":   func(d *Document) { d.Collateral[strings.Repeat("x", MaxCollateralName+1)] = Item{Body: []byte{1}} },
		"collateral body":   func(d *Document) { d.Collateral["x"] = Item{Body: make([]byte, MaxCollateralSize+1)} },
		"issuer chain": func(d *Document) {
			d.Collateral["x"] = Item{Body: []byte{1}, IssuerChain: make([]byte, MaxCollateralSize+1)}
		},
		"collateral": func(d *Document) {
			for i := range MaxCollateral {
				d.Collateral[strings.Repeat("x", i+1)] = Item{Body: []byte{1}}
			}
		},
		"collateral of strange name": func(d *Document) { d.Collateral["a b"] = Item{Body: []byte{1}} },
	} {
		d := sample()
		change(d)
		if d.Validate() == nil {
			t.Errorf("%s: valid", name)
		}
		if _, err := d.Marshal(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
	largest := sample()
	largest.Report, largest.Policy = make([]byte, MaxReportSize), make([]byte, MaxPolicySize)
	largest.RuntimeData = make([]byte, MaxRuntimeDataSize)
	largest.EventLog = make([]byte, MaxEventLogSize)
	largest.Collateral = map[string]Item{"x": {Body: make([]byte, MaxCollateralSize-1), IssuerChain: []byte{1}}}
	largest.Certificates, largest.Endorsements = nil, nil
	for range MaxEndorsements {
		largest.Endorsements = append(largest.Endorsements, make([]byte, MaxEndorsementSize))
	}
	for range MaxCertificates {
		largest.Certificates = append(largest.Certificates, make([]byte, MaxCertificateSize))
	}
	b, err := largest.Marshal()
	if err != nil || len(b) > MaxDocumentSize {
		t.Fatalf("the largest document has %d bytes, %v", len(b), err)
	}
	if _, err := ParseDocument(b); err != nil {
		t.Error(err)
	}
	if _, err := ParseDocument(bytes.Repeat([]byte(" "), MaxDocumentSize+1)); err == nil {
		t.Error("a larger text is parsed")
	}
}

// FuzzParseDocument looks for texts that parse and do not come back the same.
func FuzzParseDocument(f *testing.F) {
	b, err := sample().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"schema":"cofferdam.dev/evidence/v1","type":"sev-snp","report":"AQID"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDocument(b)
		if err != nil {
			return
		}
		again, err := d.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseDocument(again)
		if err != nil || !cmp.Equal(d, back) {
			t.Errorf("%+v became %+v, %v", d, back, err)
		}
	})
}
