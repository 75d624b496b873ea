// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/appraisal"
	"cofferdam.dev/verify/check"
)

var quoteTime = time.Date(2025, 6, 21, 0, 0, 0, 0, time.UTC)

func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(testcap.Vectors(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// statements is the collateral of the first TDX vector.
func statements(t testing.TB) collateral.Embedded {
	t.Helper()
	var p map[string]string
	if err := json.Unmarshal(vector(t, "tdx/t1-v4-b0c06f/collateral.json"), &p); err != nil {
		t.Fatal(err)
	}
	list := func(name string) collateral.Item {
		b, err := hex.DecodeString(p[name])
		if err != nil {
			t.Fatal(err)
		}
		return collateral.Item{Body: b, IssuerChain: []byte(p[name+"_issuer_chain"])}
	}
	signed := func(member, name string) collateral.Item {
		return collateral.Item{Body: fmt.Appendf(nil, `{"%s":%s,"signature":"%s"}`, member, p[name], p[name+"_signature"]), IssuerChain: []byte(p[name+"_issuer_chain"])}
	}
	return collateral.Embedded{
		collateral.TCBInfo(collateral.TDX, [6]byte{0xb0, 0xc0, 0x6f}).Name(): signed("tcbInfo", "tcb_info"),
		collateral.QEIdentity(collateral.TDX).Name():                         signed("enclaveIdentity", "qe_identity"),
		collateral.PCKCRL(collateral.PlatformCA).Name():                      list("pck_crl"),
		collateral.RootCRL().Name():                                          list("root_ca_crl"),
		collateral.RootCRL().Name() + "-unused":                              {Body: []byte("unused")},
	}
}

func appraiser(t testing.TB, text string) *appraisal.Appraiser {
	t.Helper()
	p, err := appraisal.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	a, err := appraisal.New(t.Context(), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// fromQuote is a policy that pins what the first TDX vector says: report data at 48+520, MRTD at 48+136.
func fromQuote(quote []byte) string {
	return fmt.Sprintf(`{"schema":"cofferdam.dev/appraisal-policy/v1","evidence":["tdx"],"domains":["intel"],"hostData":{"allowNone":true},
"binding":{"reportData":["%x"]},"tdx":{"mrtd":["%x"],"rtmr0":{"any":true},"rtmr1":{"any":true},"rtmr2":{"any":true},"rtmr3":{"any":true},
"requiredAttributes":"0x10000000","allowedXFAM":"0xe5aff"}}`, quote[48+520:48+584], quote[48+136:48+184])
}

func tdx(t testing.TB) *Bundle {
	t.Helper()
	quote := vector(t, "tdx/t1-v4-b0c06f/tdx_quote.bin")
	b, err := Make(t.Context(), appraiser(t, fromQuote(quote)), &evidence.Document{Type: evidence.TypeTDX, Report: quote},
		appraisal.Request{Now: quoteTime.Add(time.Millisecond), Collateral: statements(t)})
	if err != nil {
		t.Fatal(err)
	}
	if !b.Verdict.Accepted() {
		t.Fatalf("verdict is %s: %+v", b.Verdict.Outcome, b.Verdict.Failures())
	}
	return b
}

// small is a bundle of evidence that is nonsense, which needs no vectors.
func small(t testing.TB) *Bundle {
	t.Helper()
	b, err := Make(t.Context(), appraiser(t, "schema: cofferdam.dev/appraisal-policy/v1\nevidence: [sev-snp]\ndomains: [amd]\nsnp: {}\n"),
		&evidence.Document{Type: evidence.TypeSEVSNP, Report: []byte{1}}, appraisal.Request{
			Now: quoteTime, Nonce: []byte("nonce-nonce"), RuntimeData: []byte{}, ReportData: [][]byte{{1}}, Collateral: collateral.Embedded{},
		})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestReverify makes a bundle, forgets everything else, and appraises it again then, later, and by another policy.
func TestReverify(t *testing.T) {
	t.Parallel()
	made, key := tdx(t), newKey(t)
	if len(made.Collateral) != 4 {
		t.Errorf("%d pieces of collateral are recorded, not those 4 that were used", len(made.Collateral))
	}
	data, err := made.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(data, &newKey(t).PublicKey, &key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	id, err := KeyID(&key.PublicKey)
	if err != nil || b.Signer != id {
		t.Errorf("signer is %q, not %q (%v)", b.Signer, id, err)
	}
	v, change, err := b.Reverify(t.Context(), Options{})
	if err != nil || !v.Accepted() || change.Changed() || len(change.Worse)+len(change.Better) != 0 || !v.Time.Equal(quoteTime) {
		t.Errorf("at its time: %v %+v at %s: %v", v, change, v.Time, err)
	}
	v, change, err = b.Reverify(t.Context(), Options{At: quoteTime.AddDate(5, 0, 0)})
	if err != nil || v.Outcome != verify.Undecided || !change.Changed() || len(change.Worse) == 0 || change.Worse[0].Result != check.NotDecided {
		t.Errorf("years later: %s, %+v: %v", v.Outcome, change, err)
	}
	other := appraiser(t, strings.Replace(fromQuote(b.Document.Report), `"tdx":`, `"intel":{"minimumEvaluationNumber":18},"tdx":`, 1))
	v, change, err = b.Reverify(t.Context(), Options{Appraiser: other})
	if err != nil || v.Outcome != verify.Refused || len(change.Worse) != 1 || change.Worse[0].Code != check.CodeEvaluationNumber {
		t.Errorf("by another policy: %s, %+v: %v", v.Outcome, change, err)
	}
}

// TestRoundTrip requires a bundle to come back as it was, with the same bytes.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	for name, b := range map[string]*Bundle{"small": small(t)} {
		data, err := b.Sign(key)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Open(data, &key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		again.Signer = ""
		if d := cmp.Diff(b, again); d != "" {
			t.Errorf("%s: it came back changed:\n%s", name, d)
		}
		one, err1 := b.MarshalUnsigned()
		two, err2 := again.MarshalUnsigned()
		if err1 != nil || err2 != nil || !bytes.Equal(one, two) {
			t.Errorf("%s: it is written in two ways: %v %v", name, err1, err2)
		}
	}
}

// TestEveryByte changes every byte of a signed bundle, and the signature to the other one that ECDSA takes as equal.
func TestEveryByte(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	data, err := small(t).Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = Open(data, &key.PublicKey); err != nil {
		t.Fatal(err)
	}
	for i := range data {
		for _, bit := range []byte{1, 0x20} {
			changed := bytes.Clone(data)
			changed[i] ^= bit
			if _, err = Open(changed, &key.PublicKey); err == nil {
				t.Errorf("byte %d of %d changed by %#x is not noticed", i, len(data), bit)
			}
		}
	}
	for _, changed := range [][]byte{data[:len(data)-1], append(bytes.Clone(data), '\n'), append([]byte(" "), data...)} {
		if _, err = Open(changed, &key.PublicKey); err == nil {
			t.Errorf("%d bytes instead of %d are not noticed", len(changed), len(data))
		}
	}
}

func TestSigners(t *testing.T) {
	t.Parallel()
	b, key := small(t), newKey(t)
	signed, err1 := b.Sign(key)
	unsigned, err2 := b.MarshalUnsigned()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if _, err := Open(signed, &newKey(t).PublicKey); !errors.Is(err, ErrSignature) {
		t.Errorf("another key: %v", err)
	}
	if _, err := Open(signed); !errors.Is(err, ErrSignature) {
		t.Errorf("no key: %v", err)
	}
	if _, err := Open(unsigned, &key.PublicKey); !errors.Is(err, ErrUnsigned) {
		t.Errorf("unsigned: %v", err)
	}
	if got, err := OpenInsecure(unsigned); err != nil || got.Signer != "" {
		t.Errorf("unsigned, insecure: %v", err)
	}
	if got, err := OpenInsecure(signed); err != nil || got.Signer == "" {
		t.Errorf("signed, insecure: %v", err)
	}
	if _, err := b.Sign(nil); err == nil {
		t.Error("nobody signs")
	}
	wide, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = b.Sign(wide); err == nil {
		t.Error("a key on P-384 signs")
	}
	if _, err = b.Sign(&ecdsa.PrivateKey{}); err == nil {
		t.Error("a key that is none signs")
	}
	for _, none := range []*ecdsa.PublicKey{nil, {}} {
		if _, err = Open(signed, none, &key.PublicKey); err == nil {
			t.Error("a bundle is opened although one of the keys is none")
		}
	}
	// Another key under the name of the trusted one.
	id, err := KeyID(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	other := newKey(t)
	forged, err := b.Sign(other)
	if err != nil {
		t.Fatal(err)
	}
	otherID, err := KeyID(&other.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = Open(bytes.Replace(forged, []byte(otherID), []byte(id), 1), &key.PublicKey); !errors.Is(err, ErrSignature) {
		t.Errorf("forged: %v", err)
	}
}

// TestPayloads reads payloads that were not written here.
func TestPayloads(t *testing.T) {
	t.Parallel()
	good, err := small(t).payload()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{`"schema":"cofferdam.dev/evidence-bundle/v1"`, `"schema":"other"`, `schema is "other"`},
		{`"policy":`, `"Policy":`, `key "Policy" is unknown`},
		{`"policy":`, `"policy":{},"policy":`, `"policy" occurs twice`},
		{`"outcome":"refused"`, `"outcome":"refused","outcome":"accepted"`, `"outcome" occurs twice`},
		{`"outcome":"refused"`, `"outcome":"good"`, `outcome "good"`},
		{`"outcome":"refused"`, `"outcome":"refused","more":1`, `unknown field "more"`},
		{`"request":{"time":"2025-06-21T00:00:00Z"`, `"request":{"time":"0001-01-01T00:00:00Z"`, `no time of appraisal`},
		{`"type":"sev-snp","report":"AQ=="`, `"type":"sev-snp","report":""`, `report has size 0`},
		{`"evidence":["sev-snp"]`, `"evidence":[]`, `the list is empty`},
		{`"policy":`, `"collateral":{"x":{"body":"AA=="}},"policy":`, `collateral`},
		{`"policy":`, `"collateral":{"amd/crl/Milan":{"body":""}},"policy":`, `is empty`},
	} {
		text := strings.Replace(string(good), c.old, c.new, 1)
		if text == string(good) {
			t.Errorf("%s is not in the payload:\n%s", c.old, good)
		}
		data, err := seal([]byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = OpenInsecure(data); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.new, err, c.want)
		}
	}
}

func TestEnvelopes(t *testing.T) {
	t.Parallel()
	payload := base64.StdEncoding.EncodeToString([]byte("{}"))
	for text, want := range map[string]string{
		"":  "no envelope",
		"x": "no envelope",
		`{"payload":"` + payload + `","payloadType":"a","signatures":[]}`:                                                              "of type",
		`{"payload":"` + payload + `","payloadType":"` + PayloadType + `"}`:                                                            "signatures",
		`{"payload":"` + payload + `","payloadType":"` + PayloadType + `","signatures":[{"keyid":"","sig":""},{"keyid":"","sig":""}]}`: "2 signatures",
		`{"payload":"` + payload + `","payloadType":"` + PayloadType + `","signatures":[]}`:                                            "not in the form",
		`{"payload":"!","payloadType":"` + PayloadType + `","signatures":[]}` + "\n":                                                   "not base64",
		`{"payload":"` + payload + `","payloadType":"` + PayloadType + `","signatures":[],"x":1}` + "\n":                               "unknown field",
		`{"payload":"` + payload + `","payloadType":"` + PayloadType + `","signatures":[]}` + "\n":                                     "schema is",
		strings.Repeat(" ", MaxSize+1): "more than",
	} {
		if _, err := OpenInsecure([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.200s: %v, want %s", text, err, want)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	sec1, err1 := x509.MarshalECPrivateKey(key)
	pkcs8, err2 := x509.MarshalPKCS8PrivateKey(key)
	spki, err3 := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	text := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for name, b := range map[string][]byte{
		"SEC 1": text("EC PRIVATE KEY", sec1), "PKCS #8": text("PRIVATE KEY", pkcs8), "OpenSSL": append(text("EC PARAMETERS", []byte{5, 0}), text("EC PRIVATE KEY", sec1)...),
	} {
		if k, err := ParsePrivateKey(b); err != nil || !k.Equal(key) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if k, err := ParsePublicKey(text("PUBLIC KEY", spki)); err != nil || !k.Equal(&key.PublicKey) {
		t.Errorf("public: %v", err)
	}
	for name, b := range map[string][]byte{"nothing": nil, "public": text("PUBLIC KEY", spki), "damaged": text("PRIVATE KEY", spki), "parameters": text("EC PARAMETERS", nil)} {
		if _, err := ParsePrivateKey(b); err == nil {
			t.Errorf("%s is a private key", name)
		}
	}
	for name, b := range map[string][]byte{"nothing": nil, "private": text("PRIVATE KEY", pkcs8), "damaged": text("PUBLIC KEY", sec1), "certificate": text("CERTIFICATE", spki)} {
		if _, err := ParsePublicKey(b); err == nil {
			t.Errorf("%s is a public key", name)
		}
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	b := small(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := b.Reverify(ctx, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("reverifying: %v", err)
	}
	if _, err := Make(ctx, appraiser(t, `{"schema":"cofferdam.dev/appraisal-policy/v1","evidence":["sev-snp"],"domains":["amd"],"snp":{}}`), b.Document, appraisal.Request{}); !errors.Is(err, context.Canceled) {
		t.Errorf("making: %v", err)
	}
}

// FuzzOpen looks for bytes that panic, or that are written differently from how they were read.
func FuzzOpen(f *testing.F) {
	payload, err := small(f).payload()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(payload)
	f.Add([]byte(`{"schema":"cofferdam.dev/evidence-bundle/v1"}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		data, err := seal(payload, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = OpenInsecure(payload)
		b, err := OpenInsecure(data)
		if err != nil {
			return
		}
		again, err := b.MarshalUnsigned()
		if err != nil {
			t.Fatal(err)
		}
		if c, err := OpenInsecure(again); err != nil || cmp.Diff(b, c) != "" {
			t.Errorf("read again it is another bundle: %v", err)
		}
	})
}
