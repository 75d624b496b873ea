// SPDX-License-Identifier: Apache-2.0

package cose1

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/evidence/didx509"
	"cofferdam.dev/internal/cbor"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/internal/testchain"

	"github.com/veraison/go-cose"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(testcap.Vectors(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestRealMessages reads what Microsoft's services signed.
func TestRealMessages(t *testing.T) {
	t.Parallel()
	const endorser = "did:x509:0:sha256:I__iuL25oXEVFdTP_aBLx_eT1RPHbCQ_ECBQfYZpt9s::eku:1.3.6.1.4.1.311.76.59.1.2"
	for name, c := range map[string]struct {
		alg            Algorithm
		form           Form
		issuer, feed   string
		svn            int64
		at             string
		certs, payload int
		receipts       int
		verify         string
	}{
		"uvm/u1-esrp.test.cose": {
			ES384, FormText, "did:x509:0:sha256:T3wuOi7RTvgBsJ9df38hYzZTcuj-AECHzLeS-882ops::subject:CN:Gen%20Purpose%20NoCS%20P384%20384%20Test%201%20%28DO%20NOT%20TRUST%29",
			"KensHouseOfUVMImages", -1, "2022-11-09", 3, 30, 0, "",
		},
		"uvm/u2-esrp_transparent_hash_envelop.cose": {PS384, FormClaims, endorser, "ContainerPlat-AMD-UVM", 104, "2026-03-26", 3, 48, 1, ""},
		"ledger/scitt/uvm_0.2.10.cose":              {PS384, FormClaims, endorser, "ContainerPlat-AMD-UVM", 104, "2025-12-22", 3, 48, 1, ""},
		"ledger/attested-cose/css-attested-cosesign1-20260302.cose": {
			ES384, FormClaims, "did:attestedsvc:css-cts-ppe::8c0f0bff-5806-4d21-8802-ebe21a1afa4f:csstest-acc-05:testacc-05-profile",
			"my-subject", 0, "2026-03-02", 0, 11, 0, `critical header ["attestedsvc"]`,
		},
	} {
		m, err := Parse(read(t, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		h := m.Header
		if h.Algorithm != c.alg || h.Form != c.form || h.Issuer != c.issuer || h.Feed != c.feed || len(h.Chain) != c.certs ||
			len(m.Payload) != c.payload || len(m.Receipts) != c.receipts || h.IssuedAt.Format(time.DateOnly) != c.at ||
			(h.SVN == nil) != (c.svn < 0) || h.SVN != nil && *h.SVN != c.svn {
			t.Errorf("%s: %+v, %d receipts", name, h, len(m.Receipts))
		}
		wantError(t, m.Verify(), c.verify)
	}
	attested := read(t, "ledger/attested-cose/css-attested-cosesign1-20260302.cose")
	m, err := Parse(attested)
	wantError(t, err, "")
	wantError(t, m.VerifySignature(attestedKey(t, m)), "")
}

// attestedKey is the key that an attested message carries in itself (RFC 9052, 7).
func attestedKey(t *testing.T, m *Message) crypto.PublicKey {
	t.Helper()
	h, err := cbor.Decode(m.protected)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(h.Raw, []byte("cose_key"))
	for n := at + len("cose_key") + 1; n < len(h.Raw); n++ {
		if key, err := cbor.Decode(h.Raw[at+len("cose_key") : n]); err == nil && len(key.Pairs) > 0 {
			x, _ := key.Lookup(-2)
			y, _ := key.Lookup(-3)
			k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), append(append([]byte{4}, x.Bytes...), y.Bytes...))
			if err != nil {
				t.Fatal(err)
			}
			return k
		}
	}
	t.Fatal("message has no cose_key")
	return nil
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

// TestEveryBit flips bits of a real message: none may leave it verified but those of the unprotected header.
func TestEveryBit(t *testing.T) {
	t.Parallel()
	data := read(t, "uvm/u2-esrp_transparent_hash_envelop.cose")
	m, err := Parse(data)
	wantError(t, err, "")
	start := bytes.Index(data, m.protected) + len(m.protected)
	end := bytes.Index(data, m.Payload) - 2
	for i := 0; i < len(data); i++ {
		if i >= start && i < end || i > 600 && i < start && i%37 != 0 { // the certificates are long
			continue
		}
		changed := bytes.Clone(data)
		changed[i] ^= 1 << (i % 8)
		m, err := Parse(changed)
		if err == nil && m.Verify() == nil {
			t.Errorf("accepted with byte %d changed", i)
		}
	}
}

func keys(t testing.TB) map[Algorithm]crypto.Signer {
	t.Helper()
	list := map[Algorithm]crypto.Signer{}
	for alg, curve := range map[Algorithm]elliptic.Curve{ES256: elliptic.P256(), ES384: elliptic.P384(), ES512: elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		list[alg] = k
	}
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	list[PS256], list[PS384], list[PS512] = k, k, k
	_, list[EdDSA], err = ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func header(t testing.TB, c *testchain.Chain, alg Algorithm, form Form) Header {
	t.Helper()
	did, err := didx509.Subject(c.Certificates)
	if err != nil {
		t.Fatal(err)
	}
	h := Header{
		Algorithm: alg, ContentType: "application/unknown+rego", Chain: c.Certificates, Issuer: did, Feed: "feed", Form: form,
		IssuedAt: testchain.NotBefore.AddDate(0, 1, 0),
	}
	if form == FormClaims {
		svn := int64(7)
		h.SVN = &svn
	}
	return h
}

// TestSign signs in every algorithm and form; an independent library verifies it, and signs what is verified here.
func TestSign(t *testing.T) {
	t.Parallel()
	for alg, key := range keys(t) {
		for _, form := range []Form{FormText, FormClaims} {
			c := testchain.New(t, "Signer of Things", key)
			data, err := Sign(rand.Reader, key, header(t, c, alg, form), []byte("package x\n"))
			if err != nil {
				t.Errorf("%s: %v", alg, err)
				continue
			}
			m, err := Parse(data[1:]) // untagged
			wantError(t, err, "")
			wantError(t, m.Verify(), "")
			var theirs cose.Sign1Message
			wantError(t, theirs.UnmarshalCBOR(data), "")
			v, err := cose.NewVerifier(cose.Algorithm(alg), key.Public())
			wantError(t, err, "")
			wantError(t, theirs.Verify(nil, v), "")

			theirs.Payload = []byte("something else")
			s, err := cose.NewSigner(cose.Algorithm(alg), key)
			wantError(t, err, "")
			theirs.Signature = nil
			wantError(t, theirs.Sign(rand.Reader, nil, s), "")
			back, err := theirs.MarshalCBOR()
			wantError(t, err, "")
			m, err = Parse(back)
			wantError(t, err, "")
			wantError(t, m.Verify(), "")
			if m.Header.Feed != "feed" || string(m.Payload) != "something else" {
				t.Errorf("%+v", m)
			}
		}
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	c := testchain.New(t, "Signer", nil)
	other := testchain.New(t, "Signer", nil)
	for name, k := range map[string]struct {
		change func(*Header)
		want   string
	}{
		"other algorithm": {func(h *Header) { h.Algorithm = ES256 }, "does not fit ES256"},
		"no algorithm":    {func(h *Header) { h.Algorithm = 0 }, "not supported"},
		"no form":         {func(h *Header) { h.Form = FormNone }, "no form"},
		"no issuer":       {func(h *Header) { h.Issuer = "" }, "names no issuer"},
		"other issuer":    {func(h *Header) { h.Issuer = header(t, other, ES384, FormText).Issuer }, "no authority"},
		"other chain":     {func(h *Header) { h.Chain, h.Issuer = other.Certificates, header(t, other, ES384, FormText).Issuer }, "does not verify"},
		"no chain":        {func(h *Header) { h.Chain = nil }, "no certificate chain"},
		"too early":       {func(h *Header) { h.IssuedAt = testchain.NotBefore.Add(-time.Second) }, "not valid at 2024-12-31"},
		"too late":        {func(h *Header) { h.IssuedAt = testchain.NotAfter.Add(time.Second) }, "not valid at 2026-01-01"},
		"svn in text":     {func(h *Header) { h.Form = FormText }, "no place for an svn"},
	} {
		h := header(t, c, ES384, FormClaims)
		k.change(&h)
		_, err := Sign(rand.Reader, c.Key, h, []byte("x"))
		if err == nil || !strings.Contains(err.Error(), k.want) {
			t.Errorf("%s: error is %v, want %q", name, err, k.want)
		}
	}
}

// form makes an unsigned message of pieces of CBOR in hexadecimal, the protected header's map among them.
func form(protected, rest string) []byte {
	p, _ := hex.DecodeString(protected)
	r, _ := hex.DecodeString(rest)
	return append(cbor.AppendBytes([]byte{0xd2, 0x84}, p), r...)
}

func TestForms(t *testing.T) {
	t.Parallel()
	const end = "a041004100"
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"least":               {form("a10126", end), ""},
		"too large":           {make([]byte, MaxSize+1), "at most"},
		"empty":               {nil, "data ends"},
		"other tag":           {append([]byte{0xd1}, form("a10126", end)[1:]...), "not an array of four"},
		"tagged twice":        {append([]byte{0xd2}, form("a10126", end)...), "not an array of four"},
		"three":               {[]byte{0x83, 0x40, 0xa0, 0x40}, "not an array of four"},
		"detached":            {form("a10126", "a0f64100"), "payload is null"},
		"unprotected a list":  {form("a10126", "8041004100"), "unprotected header is an array"},
		"signature a text":    {form("a10126", "a041006100"), "signature is a text"},
		"trailing":            {form("a10126", end+"00"), "1 bytes follow"},
		"empty header":        {form("", end), "data ends"},
		"header no map":       {form("80", end), "want a map"},
		"header trailing":     {form("a1012600", end), "1 bytes follow"},
		"alg twice":           {form("a201260126", end), "repeated"},
		"no alg":              {form("a0", end), "no algorithm"},
		"alg unprotected":     {form("a0", "a1012641004100"), "no algorithm"},
		"alg by name":         {form("a1016545533235", end), "data ends"},
		"alg as text":         {form("a101614a", end), "no algorithm"},
		"crit empty":          {form("a201260280", end), "crit is not"},
		"crit absent":         {form("a20126028103", end), `names "3", which is not`},
		"chain a number":      {form("a20126182100", end), "x5chain is an integer"},
		"chain of text":       {form("a2012618218160", end), "certificate of x5chain is a text"},
		"chain not DER":       {form("a20126182141ff", end), "x5chain: certificate 0"},
		"chain too long":      {form("a201261821"+"89"+strings.Repeat("4100", 9), end), "at most 8"},
		"issuer a number":     {form("a2012663697373"+"01", end), "issuer is an integer"},
		"claims a list":       {form("a201260f80", end), "CWT claims are an array"},
		"two forms":           {form("a3012663697373"+"6161"+"0fa0", end), "two forms"},
		"feed and claims":     {form("a301266466656564"+"6161"+"0fa0", end), "two forms"},
		"svn negative":        {form("a201260fa16373766e20", end), "svn is not"},
		"svn a text":          {form("a201260fa16373766e6131", end), "svn is not"},
		"time a text":         {form("a201260fa10660", end), "time of signing"},
		"time zero":           {form("a201260fa10600", end), "time of signing"},
		"time beyond":         {form("a201260fa1061b0000ffffffffffff", end), "time of signing"},
		"time tagged":         {form("a201260fa106c101", end), ""},
		"time tagged wrongly": {form("a201260fa106c201", end), "time of signing"},
		"receipts a map":      {form("a10126", "a119018aa041004100"), "receipts are not"},
		"receipt a text":      {form("a10126", "a119018a816041004100"), "a receipt is a text"},
		"receipts":            {form("a10126", "a119018a81410141004100"), ""},
	} {
		m, err := Parse(c.data)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
		if err == nil && m.Verify() == nil {
			t.Errorf("%s: verified", name)
		}
	}
}

// TestSmallKeys refuses keys that mean nothing.
func TestSmallKeys(t *testing.T) {
	t.Parallel()
	m, err := Parse(form("a1013824", "a041004100"))
	wantError(t, err, "")
	key := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1023), E: 65537}
	wantError(t, m.VerifySignature(key), "RSA key has 1024 bits")
	wantError(t, m.VerifySignature("no key"), "not supported")
}

func FuzzParse(f *testing.F) {
	c := testchain.New(f, "Signer", nil)
	for _, form := range []Form{FormText, FormClaims} {
		data, err := Sign(rand.Reader, c.Key, header(f, c, ES384, form), []byte("package x\n"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add(form("a201260fa106c101", "a119018a81410141004100"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse(data)
		if err != nil {
			return
		}
		if m.Verify() == nil && (len(m.Header.Chain) < 2 || m.Header.Issuer == "") {
			t.Errorf("verified without a signer: %+v", m.Header)
		}
		// What is read as one message here is one for an independent reader, if it has what that one insists on.
		var theirs cose.UntaggedSign1Message
		if theirs.UnmarshalCBOR(bytes.TrimPrefix(data, []byte{0xd2})) == nil && !bytes.Equal(theirs.Payload, m.Payload) {
			t.Errorf("payload is %q, and %q for an independent reader", m.Payload, theirs.Payload)
		}
	})
}
