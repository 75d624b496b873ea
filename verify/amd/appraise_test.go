// SPDX-License-Identifier: Apache-2.0

package amd

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/testamd"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

// machine is a chip of a product line with its authorities, and a report that it signed.
type machine struct {
	authority *testamd.Authority
	chip      *testamd.Chip
	report    snp.Report
	product   string
}

var (
	testTime = testamd.Begin.AddDate(1, 0, 0)
	chipID   = bytes.Repeat([]byte{0xc1}, 64)
	turinID  = bytes.Repeat([]byte{0xc2}, 8)
)

func newMachine(t testing.TB, product string, version uint32, provider string) *machine {
	t.Helper()
	line, err := snp.ParseProductLine(product)
	if err != nil {
		t.Fatal(err)
	}
	tcb, err := snp.TCBParts{Bootloader: 1, TEE: 2, SNP: 0x20, Microcode: 9}.TCB(line)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{authority: testamd.New(t, line, provider != ""), product: product}
	id := chipID
	if line == snp.Turin {
		id = turinID
	}
	m.report = snp.Report{
		Version: version, Policy: snp.DefaultGuestPolicy, ReportedTCB: tcb, CommittedTCB: tcb, CurrentTCB: tcb, LaunchTCB: tcb,
	}
	copy(m.report.ChipID[:], id)
	if version >= 3 {
		m.report.CPUID = map[snp.ProductLine]snp.CPUID{
			snp.Milan: {Family: 0x19, Model: 1, Stepping: 1}, snp.Genoa: {Family: 0x19, Model: 0xa0, Stepping: 2},
			snp.Turin: {Family: 0x1a, Model: 2, Stepping: 1},
		}[line]
	}
	if provider != "" {
		m.report.KeyInfo, m.report.ChipID = 1<<2, [64]byte{}
		m.chip = m.authority.Provider(t, product, tcb, provider)
	} else {
		m.chip = m.authority.VCEK(t, product, tcb, id)
	}
	return m
}

func (m *machine) input(t testing.TB) Input {
	t.Helper()
	root, err := anchor.NewRoot(anchor.Simulated, "test", m.authority.Root)
	if err != nil {
		t.Fatal(err)
	}
	return Input{
		Report: m.chip.Sign(t, m.report), Certificates: [][]byte{m.chip.Certificate.Raw, m.authority.Intermediate.Raw},
		Now: testTime, Roots: []anchor.Root{root}, AllowSimulated: true,
	}
}

func (m *machine) pem() []byte {
	var b []byte
	for _, der := range [][]byte{m.authority.Intermediate.Raw, m.authority.Root.Raw} {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return b
}

// lenient admits all product lines and nothing else of note.
func lenient() Policy {
	return Policy{MinimumTCB: map[snp.ProductLine]snp.TCBParts{snp.Milan: {}, snp.Genoa: {}, snp.Turin: {}}}
}

// judge appraises and returns the result, what did not pass, and whether every mandatory check was made and passed.
func judge(t testing.TB, in Input, p Policy) (Result, []check.Code, bool) {
	t.Helper()
	rec := &check.Record{}
	res := Appraise(t.Context(), rec, in, p)
	passed := map[check.Name]bool{}
	complete := true
	for _, c := range rec.Checks() {
		passed[c.Name] = true
		complete = complete && c.Result == check.Pass
	}
	for _, n := range Mandatory() {
		complete = complete && passed[n]
	}
	return res, codes(rec), complete
}

// TestEveryKindOfMachine appraises signed reports of every line, version and kind of key, real code end to end.
func TestEveryKindOfMachine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		product  string
		version  uint32
		provider string
	}{
		{"Milan-B0", 2, ""}, {"Milan-B0", 3, ""}, {"Milan-B0", 5, ""}, {"Genoa", 3, ""}, {"Genoa", 5, ""}, {"Turin", 3, ""},
		{"Turin", 5, ""}, {"Milan-B0", 2, "provider"}, {"Genoa", 3, "provider"}, {"Turin", 5, "provider"},
	} {
		m := newMachine(t, c.product, c.version, c.provider)
		p := lenient()
		if c.provider != "" {
			_, got, _ := judge(t, m.input(t), p)
			if diff := cmp.Diff([]check.Code{check.CodeSignerNotAllowed}, got); diff != "" {
				t.Errorf("%+v without providers (-want +got):\n%s", c, diff)
			}
			p.Providers = []string{c.provider}
		}
		res, got, complete := judge(t, m.input(t), p)
		if !complete || len(got) != 0 || len(res.Chain) != 3 || !res.Simulated || res.Domain != anchor.Simulated {
			t.Errorf("%+v: codes %v, complete %v, chain %v", c, got, complete, res.Chain)
		}
		in := m.input(t)
		in.Report[0x90] ^= 1
		if _, got, _ := judge(t, in, p); !slices.Contains(got, check.CodeSignatureInvalid) {
			t.Errorf("%+v damaged: codes %v", c, got)
		}
		if _, got, complete := judge(t, m.input(t), Policy{Providers: p.Providers}); complete || !slices.Contains(got, check.CodeTCBFloorMissing) {
			t.Errorf("%+v under the zero policy: codes %v", c, got)
		}
	}
}

// TestReportVersions judges versions that are too old or not known yet.
func TestReportVersions(t *testing.T) {
	t.Parallel()
	b := make([]byte, snp.ReportSize)
	for version, want := range map[byte]check.Code{
		0: check.CodeReportMalformed, 1: check.CodeVersionUnsupported, 6: check.CodeVersionUnsupported,
	} {
		b[0] = version
		if _, got, _ := judge(t, Input{Report: b, Now: testTime}, lenient()); len(got) == 0 || got[0] != want {
			t.Errorf("version %d: codes %v", version, got)
		}
	}
}

// TestProfile has keys sign that a genuine authority certified for something else.
func TestProfile(t *testing.T) {
	t.Parallel()
	exts, err := snp.ChipExtensions("Milan-B0", snp.TCB{}, chipID)
	if err != nil {
		t.Fatal(err)
	}
	genoa, err := snp.ChipExtensions("Genoa", snp.TCB{}, chipID)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		vlek bool
		leaf string
		exts []pkix.Extension
	}{
		{"chip key of the providers' authority", true, "SEV-VCEK", exts},
		{"chip key by the name of a provider's", false, "SEV-VLEK", exts},
		{"chip key of another line", false, "SEV-VCEK", genoa},
		{"unknown critical extension", false, "SEV-VCEK", append(exts[:len(exts):len(exts)],
			pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})},
	} {
		m := newMachine(t, "Milan-B0", 2, "")
		m.authority = testamd.New(t, snp.Milan, c.vlek)
		m.chip = m.authority.Key(t, c.leaf, c.exts)
		m.report.ReportedTCB = snp.TCB{}
		if _, got, _ := judge(t, m.input(t), lenient()); !slices.Equal(got, []check.Code{check.CodeChainProfile}) {
			t.Errorf("%s: codes %v", c.name, got)
		}
	}
}

// TestTimeIsGiven leaves the time out.
func TestTimeIsGiven(t *testing.T) {
	t.Parallel()
	in := newMachine(t, "Milan-B0", 3, "").input(t)
	in.Now = time.Time{}
	if _, got, _ := judge(t, in, lenient()); !slices.Equal(got, []check.Code{check.CodeTimeNotSet, check.CodeCertificateNotYet}) {
		t.Errorf("codes %v", got)
	}
}

// TestCollateralIsFetched leaves out certificates and serves them from a source.
func TestCollateralIsFetched(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, product, provider string
		version                 uint32
		keep                    int // certificates that stay in the evidence
		change                  func(*machine, collateral.Embedded)
		want                    []check.Code
	}{
		{"all of Milan", "Milan-B0", "", 3, 0, nil, nil},
		{"all of Genoa, unnamed by the report", "Genoa", "", 2, 0, nil, nil},
		{"all of Turin", "Turin", "", 5, 0, nil, nil},
		{"the intermediate", "Genoa", "", 3, 1, nil, nil},
		{"the intermediate of a provider", "Milan-B0", "provider", 3, 1, nil, nil},
		{"a provider's key can not be had", "Milan-B0", "provider", 3, 0, nil,
			[]check.Code{check.CodeCertificateMissing, check.CodeSignatureNotChecked}},
		{"nothing is there", "Milan-B0", "", 3, 0, func(_ *machine, e collateral.Embedded) { clear(e) },
			[]check.Code{check.CodeCertificateMissing, check.CodeSignatureNotChecked}},
		{"no intermediate is there", "Milan-B0", "", 3, 0, func(_ *machine, e collateral.Embedded) {
			delete(e, collateral.Chain("Milan", false).Name())
		}, []check.Code{check.CodeCertificateMissing}},
		{"a chip certificate that is none", "Milan-B0", "", 3, 0, func(m *machine, e collateral.Embedded) {
			e[m.vcek().Name()] = collateral.Item{Body: []byte("<html>")}
		}, []check.Code{check.CodeCollateralMalformed, check.CodeCertificateMissing, check.CodeSignatureNotChecked}},
		{"a chain that is none", "Milan-B0", "", 3, 1, func(_ *machine, e collateral.Embedded) {
			e[collateral.Chain("Milan", false).Name()] = collateral.Item{Body: []byte("<html>")}
		}, []check.Code{check.CodeCollateralMalformed, check.CodeCertificateMissing}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, c.product, c.version, c.provider)
			e := collateral.Embedded{
				m.vcek().Name(): {Body: m.chip.Certificate.Raw},
				collateral.Chain(string(m.authority.Line), m.authority.VLEK).Name(): {Body: m.pem()},
			}
			if c.change != nil {
				c.change(m, e)
			}
			in := m.input(t)
			in.Certificates, in.Collateral = in.Certificates[:c.keep], e
			p := lenient()
			p.Providers = []string{"provider"}
			res, got, complete := judge(t, in, p)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if complete != (c.want == nil) || complete && len(res.Chain) != 3 {
				t.Errorf("complete %v, chain %v", complete, res.Chain)
			}
		})
	}
}

func (m *machine) vcek() collateral.Request {
	return collateral.VCEK(string(m.authority.Line), m.report.ChipID[:], m.report.ReportedTCB)
}

// TestRevocation judges one machine with lists of all sorts.
func TestRevocation(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "Milan-B0", 3, "")
	from, until := testTime.AddDate(0, -1, 0), testTime.AddDate(0, 1, 0)
	current := testamd.List{From: from, Until: until}
	with := func(serials ...*big.Int) testamd.List {
		l := current
		l.Serials = serials
		return l
	}
	revoked := []check.Code{check.CodeCertificateRevoked}
	genoa := testamd.New(t, snp.Genoa, false)
	flipped := m.authority.CRL(t, current)
	flipped[len(flipped)-1] ^= 1
	partial := current
	partial.Partial = true
	for _, c := range []struct {
		name               string
		list               []byte
		optional, required []check.Code
	}{
		{"none", nil, nil, []check.Code{check.CodeCollateralMissing}},
		{"current", m.authority.CRL(t, current), nil, nil},
		{"names another", m.authority.CRL(t, with(big.NewInt(7))), nil, nil},
		{"names the intermediate", m.authority.CRL(t, with(big.NewInt(7), m.authority.Intermediate.SerialNumber)), revoked, revoked},
		{"names the root", m.authority.CRL(t, with(m.authority.Root.SerialNumber)), revoked, revoked},
		{"names the serial of all chips", m.authority.CRL(t, with(big.NewInt(0))), nil, nil},
		{"outdated", m.authority.CRL(t, testamd.List{From: from, Until: testTime.Add(-time.Second)}), nil, []check.Code{check.CodeCollateralExpired}},
		{"outdated, names the intermediate", m.authority.CRL(t, testamd.List{
			From: from, Until: testTime.Add(-time.Second), Serials: []*big.Int{m.authority.Intermediate.SerialNumber},
		}), revoked, revoked},
		{"outdated in a moment", m.authority.CRL(t, testamd.List{From: from, Until: testTime}), nil, nil},
		{"of this moment", m.authority.CRL(t, testamd.List{From: testTime, Until: until}), nil, nil},
		{"of the future", m.authority.CRL(t, testamd.List{From: testTime.Add(time.Second), Until: until}), nil,
			[]check.Code{check.CodeCollateralNotYet}},
		{"of another root", genoa.CRL(t, current), nil, []check.Code{check.CodeCollateralMissing}},
		{"changed", flipped, []check.Code{check.CodeCollateralSignature}, []check.Code{check.CodeCollateralSignature}},
		{"a part of a list", m.authority.CRL(t, partial), []check.Code{check.CodeCollateralMalformed}, []check.Code{check.CodeCollateralMalformed}},
		{"followed by a byte", append(m.authority.CRL(t, current), 0), []check.Code{check.CodeCollateralMalformed}, []check.Code{check.CodeCollateralMalformed}},
		{"followed by another list", append(m.authority.CRL(t, current), m.authority.CRL(t, current)...),
			[]check.Code{check.CodeCollateralMalformed}, []check.Code{check.CodeCollateralMalformed}},
		{"no list at all", []byte("<html>"), []check.Code{check.CodeCollateralMalformed}, []check.Code{check.CodeCollateralMalformed}},
	} {
		for _, required := range []bool{false, true} {
			in, p, want := m.input(t), lenient(), c.optional
			if c.list != nil {
				in.Collateral = collateral.Embedded{collateral.CRL("Milan", false).Name(): {Body: c.list}}
			}
			if p.RequireRevocation = required; required {
				want = c.required
			}
			res, got, _ := judge(t, in, p)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, required %v (-want +got):\n%s", c.name, required, diff)
			}
			if c.name == "outdated" && !required && !res.Until.After(testTime) {
				t.Errorf("the window ends at %s with a list that does not count", res.Until)
			}
			if c.name == "current" && (!res.From.Equal(from) || !res.Until.Equal(until)) {
				t.Errorf("the window is %s to %s, not that of the list", res.From, res.Until)
			}
		}
	}
}

// TestWellFormedLists takes lists of forms that the standard library does not make.
func TestWellFormedLists(t *testing.T) {
	t.Parallel()
	delta := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 27}}
	for name, c := range map[string]struct {
		list x509.RevocationList
		ok   bool
	}{
		"plain":                 {x509.RevocationList{ThisUpdate: testTime, NextUpdate: testTime.Add(1)}, true},
		"no next update":        {x509.RevocationList{ThisUpdate: testTime}, false},
		"ends at its beginning": {x509.RevocationList{ThisUpdate: testTime, NextUpdate: testTime}, false},
		"delta, not critical": {x509.RevocationList{
			ThisUpdate: testTime, NextUpdate: testTime.Add(1), Extensions: []pkix.Extension{delta},
		}, false},
	} {
		if err := wellFormed(&c.list); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestProviderList takes the list of the authority that issues providers' keys.
func TestProviderList(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "Milan-B0", 3, "provider")
	list := m.authority.CRL(t, testamd.List{
		From: testTime.AddDate(0, -1, 0), Until: testTime.AddDate(0, 1, 0), Serials: []*big.Int{m.authority.Intermediate.SerialNumber},
	})
	in, p := m.input(t), lenient()
	p.Providers, p.RequireRevocation = []string{"provider"}, true
	in.Collateral = collateral.Embedded{collateral.CRL("Milan", true).Name(): {Body: list}}
	if _, got, _ := judge(t, in, p); !slices.Equal(got, []check.Code{check.CodeCertificateRevoked}) {
		t.Errorf("codes %v", got)
	}
}
