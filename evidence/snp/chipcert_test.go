// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"slices"
	"testing"

	sevabi "github.com/google/go-sev-guest/abi"
	sevkds "github.com/google/go-sev-guest/kds"
)

func realCertificate(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	b := readVector(t, name)
	if block, _ := pem.Decode(b); block != nil {
		b = block.Bytes
	}
	cert, err := x509.ParseCertificate(b)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestRealChipCertificates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		product string
		tcb     string
		hwid    int
	}{
		{"snp/s1-aci-milan-v2/uvm_host_amd_certificate.pem", "Milan-B0", "0300000000000873", 64},
		{"snp/s2-debug-allowed/vcek.der", "Milan-B0", "0200000000000544", 64},
		{"snp/s6-aci-v3/milan_vcek.pem", "Milan-B0", "04000000000018db", 64},
		{"snp/s6-aci-v3/genoa_vcek.pem", "Genoa", "0a00000000001754", 64},
		{"snp/s10-virtee/vcek_turin.der", "Turin", "", 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cert := realCertificate(t, c.name)
			got, err := ParseChipCertificate(cert)
			if err != nil {
				t.Fatal(err)
			}
			if got.ProductName != c.product || len(got.HWID) != c.hwid || got.Key != SigningKeyVCEK ||
				(c.tcb != "" && got.TCB.String() != c.tcb) {
				t.Errorf("it says %+v", got)
			}
			if got.Line == Turin { // which the oracle does not read
				if _, err := got.TCB.Parts(Turin); err != nil || got.StructVersion != 1 {
					t.Errorf("struct version %d, %v", got.StructVersion, err)
				}
				return
			}
			o, err := sevkds.CertificateExtensions(cert, sevabi.VcekReportSigner)
			if err != nil {
				t.Fatal(err)
			}
			var le [8]byte
			for i := range le {
				le[i] = byte(uint64(o.TCBVersion) >> (8 * i))
			}
			if o.ProductName != got.ProductName || !bytes.Equal(o.HWID, got.HWID) || TCB(le) != got.TCB {
				t.Errorf("the oracle reads %+v", o)
			}
		})
	}
}

// TestChipExtensionsRoundTrip encodes what it parses, for each layout, and compares Turin's with a real certificate.
func TestChipExtensionsRoundTrip(t *testing.T) {
	t.Parallel()
	for product, tcb := range map[string]TCB{
		"Milan-B0": {1, 2, 3, 4, 5, 6, 7, 0xff}, "Genoa": {0x80}, "Turin": {1, 2, 3, 4, 5, 6, 7, 8},
	} {
		hwid := bytes.Repeat([]byte{7}, 64)
		if product == "Turin" {
			hwid = hwid[:8]
		}
		exts, err := ChipExtensions(product, tcb, hwid)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseChipCertificate(&x509.Certificate{Extensions: exts})
		if err != nil {
			t.Fatal(err)
		}
		if got.ProductName != product || got.TCB != tcb || !bytes.Equal(got.HWID, hwid) {
			t.Errorf("%s: %+v", product, got)
		}
	}
	cert := realCertificate(t, "snp/s10-virtee/vcek_turin.der")
	chip, err := ParseChipCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := ChipExtensions(chip.ProductName, chip.TCB, chip.HWID)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range cert.Extensions {
		same := slices.ContainsFunc(ours, func(o pkix.Extension) bool { return o.Id.Equal(e.Id) && bytes.Equal(o.Value, e.Value) })
		if !same {
			t.Errorf("extension %s with %x is encoded otherwise", e.Id, e.Value)
		}
	}
	if _, err := ChipExtensions("Rome", TCB{}, nil); err == nil {
		t.Error("extensions of an unknown product: no error")
	}
}

func TestChipCertificateIsParsedStrictly(t *testing.T) {
	t.Parallel()
	ext := func(value string, tail ...int) pkix.Extension {
		b, err := hex.DecodeString(value)
		if err != nil {
			t.Fatal(err)
		}
		return pkix.Extension{Id: append(slices.Clone(oidAMD), tail...), Value: b}
	}
	base, err := ChipExtensions("Milan-B0", TCB{7: 5}, make([]byte, 64))
	if err != nil {
		t.Fatal(err)
	}
	replace := func(e pkix.Extension) []pkix.Extension {
		out := slices.DeleteFunc(slices.Clone(base), func(o pkix.Extension) bool { return o.Id.Equal(e.Id) })
		return append(out, e)
	}
	without := func(tail ...int) []pkix.Extension {
		id := append(slices.Clone(oidAMD), tail...)
		return slices.DeleteFunc(slices.Clone(base), func(o pkix.Extension) bool { return o.Id.Equal(asn1.ObjectIdentifier(id)) })
	}
	for name, exts := range map[string][]pkix.Extension{
		"none":                    nil,
		"patch level twice":       append(slices.Clone(base), ext("020100", 3, 1)),
		"unknown patch level":     append(slices.Clone(base), ext("020100", 3, 10)),
		"Turin's patch level":     append(slices.Clone(base), ext("020100", 3, 9)),
		"patch level missing":     without(3, 8),
		"reserved level missing":  without(3, 4),
		"product missing":         without(2),
		"struct version missing":  without(1),
		"chip ID missing":         without(4),
		"patch level above 255":   replace(ext("02020100", 3, 8)),
		"negative patch level":    replace(ext("0201ff", 3, 8)),
		"patch level with a tail": replace(ext("02010000", 3, 8)),
		"patch level no integer":  replace(ext("0401aa", 3, 8)),
		"short chip ID":           replace(ext("00", 4)),
		"wrapped chip ID":         replace(ext("0440"+hex.EncodeToString(make([]byte, 64)), 4)),
		"unknown product":         replace(ext("1604526f6d65", 2)),
		"product in another type": replace(ext("0c054d696c616e", 2)),
		"product with a tail":     replace(ext("16054d696c616e00", 2)),
		"empty product":           replace(ext("1600", 2)),
		"empty value":             replace(ext("", 2)),
		"chip and provider":       append(slices.Clone(base), ext("160141", 5)),
	} {
		if got, err := ParseChipCertificate(&x509.Certificate{Extensions: exts}); err == nil {
			t.Errorf("%s: parsed as %+v", name, got)
		}
	}
	vlek, err := ParseChipCertificate(&x509.Certificate{Extensions: append(without(4), ext("160141", 5), ext("00", 77))})
	if err != nil || vlek.Key != SigningKeyVLEK || vlek.CSPID != "A" || vlek.HWID != nil {
		t.Errorf("a provider's certificate is parsed as %+v, %v", vlek, err)
	}
}

// FuzzParseChipCertificate holds the parser of extensions to its promise: no panic, and what it takes for a chip's or a
// provider's key says the same after it was encoded anew.
func FuzzParseChipCertificate(f *testing.F) {
	for _, exts := range [][]pkix.Extension{
		must(ChipExtensions("Milan-B0", TCB{4, 6: 0x18, 7: 0xdb}, bytes.Repeat([]byte{1}, 64))),
		must(ChipExtensions("Turin", TCB{1, 2, 3, 4, 7: 5}, bytes.Repeat([]byte{1}, 8))),
		must(ProviderExtensions("Genoa", TCB{}, "provider")),
	} {
		b, err := asn1.Marshal(exts)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var exts []pkix.Extension
		if _, err := asn1.Unmarshal(b, &exts); err != nil {
			return
		}
		c, err := ParseChipCertificate(&x509.Certificate{Extensions: exts})
		if err != nil {
			return
		}
		if c.Key == SigningKeyVCEK {
			exts, err = ChipExtensions(c.ProductName, c.TCB, c.HWID)
		} else if exts, err = ProviderExtensions(c.ProductName, c.TCB, c.CSPID); err != nil {
			return // names of other characters than those that are encoded
		}
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseChipCertificate(&x509.Certificate{Extensions: exts})
		if err != nil {
			t.Fatal(err)
		}
		again.StructVersion = c.StructVersion // follows the product line when it is encoded
		if again.Key != c.Key || again.TCB != c.TCB || again.Line != c.Line || again.CSPID != c.CSPID || !bytes.Equal(again.HWID, c.HWID) {
			t.Errorf("%+v became %+v", c, again)
		}
	})
}

// must returns what can not fail.
func must(exts []pkix.Extension, err error) []pkix.Extension {
	if err != nil {
		panic(err)
	}
	return exts
}
