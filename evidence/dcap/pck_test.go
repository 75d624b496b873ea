// SPDX-License-Identifier: Apache-2.0

package dcap

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func certificateWith(exts ...pkix.Extension) *x509.Certificate {
	return &x509.Certificate{Extensions: exts}
}

func extension(t testing.TB, p *PCK) pkix.Extension {
	t.Helper()
	e, err := p.Extension()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// entries is a PCK extension as a list that tests can change. Those below pckTCB and pckConfiguration are lists, too.
type entries []sgxEntry

func plainEntries() entries {
	var tcb []sgxEntry
	arc := below(oidSGX, pckTCB)
	for n := 1; n <= tcbPCESVN; n++ {
		tcb = append(tcb, sgxEntry{below(arc, n), n})
	}
	tcb = append(tcb, sgxEntry{below(arc, tcbCPUSVN), make([]byte, 16)})
	yes := []sgxEntry{{below(below(oidSGX, pckConfiguration), configSMT), true}}
	return entries{
		{below(oidSGX, pckPPID), make([]byte, 16)}, {arc, tcb}, {below(oidSGX, pckPCEID), make([]byte, 2)},
		{below(oidSGX, pckFMSPC), make([]byte, 6)}, {below(oidSGX, pckType), asn1.Enumerated(1)},
		{below(oidSGX, pckInstanceID), make([]byte, 16)}, {below(oidSGX, pckConfiguration), yes},
	}
}

func (e entries) certificate(t *testing.T) *x509.Certificate {
	t.Helper()
	der, err := asn1.Marshal([]sgxEntry(e))
	if err != nil {
		t.Fatal(err)
	}
	return certificateWith(pkix.Extension{Id: oidSGX, Value: der})
}

func TestPCKIsParsedStrictly(t *testing.T) {
	t.Parallel()
	p, err := ParsePCK(plainEntries().certificate(t))
	if err != nil {
		t.Fatal(err)
	}
	smt := true
	want := &PCK{PCESVN: 17, Type: SGXScalable, Platform: &PCKPlatform{SMT: &smt}}
	for i := range want.Components {
		want.Components[i] = uint8(i + 1)
	}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Error(diff)
	}
	tcb := func(e entries) []sgxEntry { return e[1].Value.([]sgxEntry) }
	config := func(e entries) []sgxEntry { return e[6].Value.([]sgxEntry) }
	for name, c := range map[string]struct {
		change func(e entries) entries
		want   string
	}{
		"no PPID":            {func(e entries) entries { return e[1:] }, "13.1.1 is missing"},
		"no TCB":             {func(e entries) entries { return append(e[:1:1], e[2:]...) }, "13.1.2 is missing"},
		"no type":            {func(e entries) entries { return append(e[:4:4], e[5:]...) }, "13.1.5 is missing"},
		"two PPIDs":          {func(e entries) entries { return append(e, e[0]) }, "13.1.1 occurs twice"},
		"instance ID alone":  {func(e entries) entries { return e[:6] }, "but not both"},
		"unknown entry":      {func(e entries) entries { return append(e, sgxEntry{below(oidSGX, 8), 1}) }, "13.1.8: it is unknown"},
		"entry elsewhere":    {func(e entries) entries { e[0].ID = asn1.ObjectIdentifier{1, 2, 3}; return e }, "1.2.3 is not below"},
		"entry deeper":       {func(e entries) entries { e[0].ID = below(e[0].ID, 1); return e }, "is not below"},
		"PPID of 15 bytes":   {func(e entries) entries { e[0].Value = make([]byte, 15); return e }, "size is 15 bytes, not 16"},
		"PPID is a number":   {func(e entries) entries { e[0].Value = 7; return e }, "decoding bytes"},
		"FMSPC of 7 bytes":   {func(e entries) entries { e[3].Value = make([]byte, 7); return e }, "size is 7 bytes, not 6"},
		"type is negative":   {func(e entries) entries { e[4].Value = asn1.Enumerated(-1); return e }, "SGX type is -1"},
		"type is a number":   {func(e entries) entries { e[4].Value = 1; return e }, "decoding enumeration"},
		"no component 16":    {func(e entries) entries { e[1].Value = append(tcb(e)[:15:15], tcb(e)[16:]...); return e }, "13.1.2.16 is missing"},
		"no CPUSVN":          {func(e entries) entries { e[1].Value = tcb(e)[:17]; return e }, "13.1.2.18 is missing"},
		"two component 1":    {func(e entries) entries { e[1].Value = append(tcb(e), tcb(e)[0]); return e }, "13.1.2.1 occurs twice"},
		"component 256":      {func(e entries) entries { tcb(e)[0].Value = 256; return e }, "value is 256, not 0 to 255"},
		"component -1":       {func(e entries) entries { tcb(e)[0].Value = -1; return e }, "value is -1"},
		"PCESVN 65536":       {func(e entries) entries { tcb(e)[16].Value = 65536; return e }, "value is 65536, not 0 to 65535"},
		"TCB entry 19":       {func(e entries) entries { tcb(e)[0].ID[len(oidSGX)+1] = 19; return e }, "13.1.2.19: it is unknown"},
		"TCB is a number":    {func(e entries) entries { e[1].Value = 7; return e }, "decoding 1.2.840.113741.1.13.1.2"},
		"flag is a number":   {func(e entries) entries { config(e)[0].Value = 1; return e }, "decoding boolean"},
		"unknown flag":       {func(e entries) entries { config(e)[0].ID[len(oidSGX)+1] = 4; return e }, "13.1.7.4: it is unknown"},
		"component a string": {func(e entries) entries { tcb(e)[3].Value = "3"; return e }, "decoding integer"},
	} {
		_, err := ParsePCK(c.change(plainEntries()).certificate(t))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, not %q", name, err, c.want)
		}
	}
	e := extension(t, p)
	longer := pkix.Extension{Id: oidSGX, Value: append(e.Value, 0)}
	for name, cert := range map[string]*x509.Certificate{
		"none": certificateWith(), "two": certificateWith(e, e), "byte behind": certificateWith(longer),
		"empty": certificateWith(pkix.Extension{Id: oidSGX}), "empty, then another": certificateWith(pkix.Extension{Id: oidSGX}, e),
	} {
		if _, err := ParsePCK(cert); err == nil {
			t.Errorf("extensions %s: no error", name)
		}
	}
}

func TestAuthority(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]PCKAuthority{
		"Intel SGX PCK Processor CA": PCKProcessorCA, "Intel SGX PCK Platform CA": PCKPlatformCA, "Intel SGX Root CA": "",
	} {
		got, err := Authority(&x509.Certificate{Issuer: pkix.Name{CommonName: name}})
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestPCKRoundTrip(t *testing.T) {
	t.Parallel()
	flag := rapid.Ptr(rapid.Bool(), true)
	rapid.Check(t, func(t *rapid.T) {
		bytesOf := func(n int) []byte { return rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "bytes") }
		want := &PCK{
			PPID: [16]byte(bytesOf(16)), Components: [CPUComponents]uint8(bytesOf(CPUComponents)),
			PCESVN: rapid.Uint16().Draw(t, "PCE SVN"), CPUSVN: [16]byte(bytesOf(16)), PCEID: [2]byte(bytesOf(2)),
			FMSPC: [6]byte(bytesOf(6)), Type: SGXType(rapid.Byte().Draw(t, "type")),
		}
		if rapid.Bool().Draw(t, "platform") {
			want.Platform = &PCKPlatform{InstanceID: [16]byte(bytesOf(16)), Dynamic: flag.Draw(t, "dynamic"),
				CachedKeys: flag.Draw(t, "cached"), SMT: flag.Draw(t, "SMT")}
		}
		e, err := want.Extension()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParsePCK(certificateWith(e))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzParsePCK(f *testing.F) {
	smt := false
	f.Add(extension(f, &PCK{}).Value)
	f.Add(extension(f, &PCK{PCESVN: 300, Platform: &PCKPlatform{SMT: &smt}}).Value)
	f.Fuzz(func(t *testing.T, der []byte) {
		p, err := ParsePCK(certificateWith(pkix.Extension{Id: oidSGX, Value: der}))
		if err != nil {
			return
		}
		again, err := ParsePCK(certificateWith(extension(t, p)))
		if err != nil || !cmp.Equal(p, again) {
			t.Errorf("%+v became %+v: %v", p, again, err)
		}
	})
}
