// SPDX-License-Identifier: Apache-2.0

package didx509

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/testcap"

	"pgregory.net/rapid"
)

var b64 = base64.RawURLEncoding

// readChain reads a PEM chain of the vectors.
func readChain(t *testing.T, name string) []*x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(testcap.Vectors(t, "did-x509/"+name))
	if err != nil {
		t.Fatal(err)
	}
	var der [][]byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		der = append(der, block.Bytes)
	}
	chain, err := ParseChain(der)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("refused: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("error is %v, want %q", err, want)
	}
}

// TestRealChains resolves identifiers over chains that other tools were tested with.
func TestRealChains(t *testing.T) {
	t.Parallel()
	const root = "did:x509:0:sha256:hH32p4SXlD8n_HLrk_mmNzIKArVh0KkbCeh6eAftfGE"
	const intermediate = "did:x509:0:sha256:VtqHIq_ZQGb_4eRZVHOkhUiSuEOggn1T-32PSu7R4Ys"
	const sigstore = "did:x509:0:sha256:O6e2zE6VRp1NM0tJyyV62FNwdvqEsMqH_07P5qVGgME"
	const workflow = "https://github.com/brendancassells/mcw-continuous-delivery-lab-files/.github/workflows/fabrikam-web.yml@refs/heads/main"
	const usage, subject = "::eku:1.3.6.1.4.1.311.10.3.21", "::subject:C:US:ST:Washington:L:Redmond:O:Microsoft%20Corporation:CN:Microsoft%20Corporation"
	for name, c := range map[string]struct{ file, did, want string }{
		"usage":             {"ms-code-signing.pem", root + usage, ""},
		"intermediate":      {"ms-code-signing.pem", intermediate + usage, ""},
		"subject":           {"ms-code-signing.pem", root + subject, ""},
		"subject by number": {"ms-code-signing.pem", root + "::subject:2.5.4.10:Microsoft%20Corporation", ""},
		"both":              {"ms-code-signing.pem", root + usage + subject, ""},
		"other usage":       {"ms-code-signing.pem", root + "::eku:1.3.6.1.4.1.311.10.3.22", "has not the extended key usage"},
		"one of two":        {"ms-code-signing.pem", root + subject + "::eku:1.2.3", "has not the extended key usage"},
		"other subject":     {"ms-code-signing.pem", root + "::subject:CN:Microsoft", "expected \"Microsoft\" once"},
		"other root":        {"ms-code-signing.pem", sigstore + usage, "no authority of the chain"},
		"no alternatives":   {"ms-code-signing.pem", root + "::san:dns:microsoft.com", "no alternative name"},
		"no Fulcio":         {"ms-code-signing.pem", root + "::fulcio-issuer:github.com", "Fulcio issuer"},
		"e-mail":            {"fulcio-email.pem", sigstore + "::fulcio-issuer:github.com%2Flogin%2Foauth::san:email:igarcia%40suse.com", ""},
		"other e-mail":      {"fulcio-email.pem", sigstore + "::san:email:mallory%40suse.com", "no alternative name"},
		"other kind":        {"fulcio-email.pem", sigstore + "::san:dns:igarcia%40suse.com", "no alternative name"},
		"issuer's prefix":   {"fulcio-email.pem", sigstore + "::fulcio-issuer:github.com%2Flogin", "Fulcio issuer"},
		"workflow":          {"fulcio-github-actions.pem", "::fulcio-issuer:token.actions.githubusercontent.com::san:uri:" + encode(workflow), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chain := readChain(t, c.file)
			if did, ok := strings.CutPrefix(c.did, "::"); ok {
				sum := sha256.Sum256(chain[len(chain)-1].Raw)
				c.did = prefix + "sha256:" + b64.EncodeToString(sum[:]) + "::" + did
			}
			key, err := Resolve(c.did, chain, time.Time{})
			wantError(t, err, c.want)
			if (key == nil) != (err != nil) {
				t.Errorf("key %v with error %v", key, err)
			}
		})
	}
	chain := readChain(t, "ms-code-signing.pem")
	_, err := Resolve(root+usage, chain, time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC))
	wantError(t, err, "not valid at 2024-01-01")
	_, err = Resolve(root+usage, chain, time.Date(2022, 8, 1, 0, 0, 0, 0, time.UTC))
	wantError(t, err, "")
}

func TestParse(t *testing.T) {
	t.Parallel()
	fp := "sha256:" + b64.EncodeToString(make([]byte, 32))
	for did, want := range map[string]string{
		prefix + fp + "::eku:1.2.3": "",
		prefix + "sha384:" + b64.EncodeToString(make([]byte, 48)) + "::eku:1.2.3": "",
		prefix + "sha512:" + b64.EncodeToString(make([]byte, 64)) + "::eku:1.2.3": "",
		"": "does not start", "did:x509:1:" + fp + "::eku:1.2.3": "does not start", "did:web:x": "does not start",
		prefix + "sha1:AAAA::eku:1.2.3":                 "fingerprint is not sha256",
		prefix + "sha256::eku:1.2.3":                    "fingerprint is not sha256",
		prefix + "sha256:AAAA::eku:1.2.3":               "not 32 bytes",
		prefix + fp + "=::eku:1.2.3":                    "not 32 bytes",
		prefix + fp[:len(fp)-1] + "B::eku:1.2.3":        "not 32 bytes",
		prefix + fp[:len(fp)-1] + "\n" + "A::eku:1.2.3": "not 32 bytes",
		prefix + fp:                                                          "has 0 policies",
		prefix + fp + "::":                                                   "its name is not",
		prefix + fp + "::eku":                                                "not one object identifier",
		prefix + fp + "::eku:1.2.3:1.2.4":                                    "not one object identifier",
		prefix + fp + "::eku:01.2":                                           "not one object identifier",
		prefix + fp + "::eku:1.2.3:":                                         "a value is empty",
		prefix + fp + "::eku:1.2.3:::eku:1.2":                                "its name is not",
		prefix + fp + "::subject:CN":                                         "no pairs",
		prefix + fp + "::subject:CN:a:CN:b":                                  "is repeated",
		prefix + fp + "::subject:CN:a:2.5.4.3:a":                             "is repeated",
		prefix + fp + "::subject:UID:a":                                      "is not known",
		prefix + fp + "::subject:CN:a b":                                     "not percent-encoded",
		prefix + fp + "::subject:CN:a%2":                                     "not percent-encoded",
		prefix + fp + "::subject:CN:a%zz":                                    "not percent-encoded",
		prefix + fp + "::subject:CN:%FF":                                     "not UTF-8",
		prefix + fp + "::subject:CN:a#0":                                     "not percent-encoded",
		prefix + fp + "::san:dn:a":                                           "san is not",
		prefix + fp + "::san:dns":                                            "san is not",
		prefix + fp + "::fulcio-issuer":                                      "not one value",
		prefix + fp + "::any:thing":                                          "its name is not",
		prefix + fp + strings.Repeat("::eku:1.2.3", maxPolicies+1):           "has 17 policies",
		prefix + fp + "::subject:CN:" + strings.Repeat("a", MaxLength):       "at most 4096",
		prefix + fp + "::eku:1.2.3?service=x":                                "not percent-encoded",
		"DID:x509:0:" + fp + "::eku:1.2.3":                                   "does not start",
		prefix + "SHA256" + strings.TrimPrefix(fp, "sha256") + "::eku:1.2.3": "fingerprint is not sha256",
	} {
		_, err := Parse(did)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, want %q", did, err, want)
		}
	}
}

// TestEncoding compares with the standard library, whose escapes differ only in characters that it leaves as they are.
func TestEncoding(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringN(1, 20, 60).Draw(t, "s")
		back, err := decode(encode(s))
		if err != nil || back != s {
			t.Fatalf("%q became %q, %v", s, back, err)
		}
		if std, err := url.PathUnescape(encode(s)); err != nil || std != s {
			t.Fatalf("net/url reads %q as %q, %v", encode(s), std, err)
		}
	})
}

// authority is a certificate with its key.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func issue(t testing.TB, name string, by *authority, change func(*x509.Certificate)) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	if change != nil {
		change(template)
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key}
}

func leafOnly(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature }

func chainOf(list ...*authority) []*x509.Certificate {
	var chain []*x509.Certificate
	for _, a := range list {
		chain = append(chain, a.cert)
	}
	return chain
}

func TestChains(t *testing.T) {
	t.Parallel()
	root := issue(t, "root", nil, nil)
	other := issue(t, "other", nil, nil)
	short := issue(t, "short", root, func(c *x509.Certificate) { c.MaxPathLenZero = true })
	middle := issue(t, "middle", root, nil)
	deep := issue(t, "deep", short, nil)
	past := issue(t, "past", root, func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(time.Hour) })
	leaf := issue(t, "leaf", middle, leafOnly)
	no := issue(t, "no authority", root, leafOnly)
	for name, c := range map[string]struct {
		chain []*x509.Certificate
		want  string
	}{
		"good":            {chainOf(leaf, middle, root), ""},
		"from the middle": {chainOf(leaf, middle), ""},
		"empty":           {nil, "has 0 certificates"},
		"leaf alone":      {chainOf(leaf), "has 1 certificates"},
		"nil":             {[]*x509.Certificate{nil, nil}, "not a parsed certificate"},
		"carried along":   {chainOf(leaf, other, middle, root), "was not signed by certificate 1"},
		"carried at end":  {chainOf(leaf, middle, root, other), "certificate 2 was not signed by certificate 3"},
		"out of order":    {chainOf(leaf, root, middle), "was not signed by certificate 1"},
		"root twice":      {chainOf(leaf, middle, root, root), "not in order"},
		"no authority":    {chainOf(issue(t, "x", no, leafOnly), no, root), "was not signed by certificate 1"},
		"path too long":   {chainOf(issue(t, "x", deep, leafOnly), deep, short, root), "too many intermediates"},
		"expired before":  {chainOf(issue(t, "x", past, leafOnly), past, root), "not valid at"},
		"key does not sign": {chainOf(issue(t, "x", root, func(c *x509.Certificate) {
			leafOnly(c)
			c.KeyUsage = x509.KeyUsageKeyEncipherment
		}), root), "key usage"},
		"too long": {chainOf(leaf, middle, root, root, root, root, root, root, root), "has 9 certificates"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantError(t, VerifyChain(c.chain, time.Time{}), c.want)
		})
	}
	// A stranger's leaf does not take an honest authority's name by carrying its certificate.
	evil := issue(t, "leaf", other, leafOnly)
	did, err := Subject(chainOf(leaf, middle, root))
	wantError(t, err, "")
	for _, chain := range [][]*x509.Certificate{chainOf(evil, other), chainOf(evil, root, other), chainOf(evil, other, root), chainOf(evil, middle, root)} {
		if _, err := Resolve(did, chain, time.Time{}); err == nil {
			t.Errorf("%s resolved over a stranger's chain", did)
		}
	}
	wide := sha512.Sum512(middle.cert.Raw)
	_, err = Resolve(prefix+"sha512:"+b64.EncodeToString(wide[:])+"::subject:CN:leaf", chainOf(leaf, middle, root), time.Time{})
	wantError(t, err, "")
	own := sha256.Sum256(leaf.cert.Raw)
	_, err = Resolve(prefix+"sha256:"+b64.EncodeToString(own[:])+"::subject:CN:leaf", chainOf(leaf, middle, root), time.Time{})
	wantError(t, err, "no authority of the chain")
	twice := issue(t, "x", root, func(c *x509.Certificate) {
		leafOnly(c)
		c.Subject = pkix.Name{CommonName: "leaf", ExtraNames: []pkix.AttributeTypeAndValue{{Type: []int{2, 5, 4, 3}, Value: "leaf"}, {Type: []int{2, 5, 4, 3}, Value: "b"}}}
	})
	sum := sha256.Sum256(root.cert.Raw)
	_, err = Resolve(prefix+"sha256:"+b64.EncodeToString(sum[:])+"::subject:CN:leaf", chainOf(twice, root), time.Time{})
	wantError(t, err, "once")
	if err := new(DID).match(chainOf(leaf, root)); err == nil {
		t.Error("the zero identifier matches")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(prefix + "sha256:" + b64.EncodeToString(make([]byte, 32)) + "::subject:C:US:O:Example%20Org::san:uri:https%3A%2F%2Fx")
	f.Add(prefix + "sha384:::eku:1")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := Parse(s)
		if err != nil {
			return
		}
		if d.String() != s || len(d.fingerprint) != d.algorithm.Size() || len(d.policies) == 0 {
			t.Errorf("%q parsed as %+v", s, d)
		}
	})
}

func FuzzChain(f *testing.F) {
	root := issue(f, "root", nil, nil)
	f.Add(issue(f, "leaf", root, leafOnly).cert.Raw, root.cert.Raw)
	f.Fuzz(func(_ *testing.T, a, b []byte) {
		chain, err := ParseChain([][]byte{a, b})
		if err == nil {
			_, _ = Resolve(prefix+"sha256:"+b64.EncodeToString(make([]byte, 32))+"::san:dns:x::eku:1.2::fulcio-issuer:x", chain, time.Time{})
			d := DID{algorithm: hashes["sha256"], fingerprint: make([]byte, 32)}
			_ = d.match(chain)
		}
	})
}
