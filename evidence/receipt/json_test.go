// SPDX-License-Identifier: Apache-2.0

package receipt

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

func certificateOf(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(vector(t, name))
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func parsed(t testing.TB, data []byte) *JSON {
	t.Helper()
	r, err := ParseJSON(data)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestPublishedReceipts verifies those that Azure's documentation and client libraries show.
func TestPublishedReceipts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, service, evidence string
		steps                   int
	}{
		{"receipt_1.json", "service_certificate_1.pem", "ce:2.35:", 3},
		{"receipt_2.json", "service_certificate_2.pem", "ce:16.7415:", 10},
		{"get_receipt_response_1.json", "", "ce:2.40:", 2},
		{"get_receipt_response_2.json", "", "ce:2.13:", 3},
	} {
		r := parsed(t, vector(t, "ledger/acl/"+c.name))
		if !strings.HasPrefix(r.Leaf.CommitEvidence, c.evidence) || len(r.Path) != c.steps {
			t.Errorf("%s: %+v", c.name, r)
		}
		err := r.VerifySignature()
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if r.Verify(nil) == nil {
			t.Errorf("%s verifies without a service", c.name)
		}
		for _, service := range []string{"service_certificate_1.pem", "service_certificate_2.pem"} {
			err = r.Verify(certificateOf(t, "ledger/acl/"+service))
			if (err == nil) != (service == c.service) || err != nil && !errors.Is(err, ErrNode) {
				t.Errorf("%s under %s: %v", c.name, service, err)
			}
		}
	}
}

// TestClaims computes the digest of a published claim, in clear and hidden.
func TestClaims(t *testing.T) {
	t.Parallel()
	var digests [2][sha256.Size]byte
	for i, name := range []string{"application_claims_ledger_entry.json", "application_claims_digest.json"} {
		var claims []Claim
		err := json.Unmarshal(vector(t, "ledger/acl/"+name), &claims)
		if err != nil {
			t.Fatal(err)
		}
		entry, err := claims[0].EntryDigest()
		if err != nil || !strings.HasPrefix(hex.EncodeToString(entry[:]), "feb516ef") {
			t.Errorf("%s: %x, %v", name, entry, err)
		}
		if digests[i], err = ClaimsDigest(claims); err != nil {
			t.Fatal(err)
		}
	}
	answer := vector(t, "ledger/acl/get_receipt_response_2.json")
	r := parsed(t, answer)
	if digests[0] != digests[1] || digests[0] != r.Leaf.Claims {
		t.Errorf("digests are %x, the leaf's %x", digests, r.Leaf.Claims)
	}
	for _, from := range []string{"Hello world", "subledger:0", "Jde/"} {
		changed := bytes.Replace(answer, []byte(from), []byte("Jdf/"), 1)
		if err := parsed(t, changed).VerifySignature(); !errors.Is(err, ErrOtherStatement) {
			t.Errorf("%q changed: %v", from, err)
		}
	}
	for name, c := range map[string]Claim{
		"nothing": {}, "other kind": {Kind: "x"}, "entry that is none": {Kind: "LedgerEntry"}, "digest that is none": {Kind: "ClaimDigest"},
		"other protocol": {Kind: "ClaimDigest", Digest: &EntryDigest{Protocol: "V2", Value: strings.Repeat("0", 64)}},
		"short":          {Kind: "ClaimDigest", Digest: &EntryDigest{Protocol: claimProtocol, Value: "00"}},
		"no key":         {Kind: "LedgerEntry", Entry: &LedgerEntry{Protocol: claimProtocol, SecretKey: "!"}},
		"both":           {Kind: "LedgerEntry", Entry: &LedgerEntry{Protocol: claimProtocol}, Digest: &EntryDigest{}},
	} {
		if _, err := ClaimsDigest([]Claim{c}); err == nil {
			t.Errorf("%s has a digest", name)
		}
	}
}

// TestSweepJSON changes every digit of every digest, every character of the evidence and every byte of the signature.
func TestSweepJSON(t *testing.T) {
	t.Parallel()
	names := []string{"receipt_1.json", "receipt_2.json", "get_receipt_response_2.json"}
	if testing.Short() {
		names = names[:1]
	}
	for _, name := range names {
		data := vector(t, "ledger/acl/"+name)
		r := parsed(t, data)
		values := []string{
			hex.EncodeToString(r.NodeID[:]), hex.EncodeToString(r.Leaf.WriteSet[:]), hex.EncodeToString(r.Leaf.Claims[:]), r.Leaf.CommitEvidence,
		}
		for _, s := range r.Path {
			values = append(values, hex.EncodeToString(s.Hash[:]))
		}
		for _, v := range values {
			at := bytes.Index(data, []byte(`"`+v+`"`)) + 1
			if at == 0 {
				t.Fatalf("%s has no %s", name, v)
			}
			for i := range v {
				changed := bytes.Clone(data)
				changed[at+i] = "10"[changed[at+i]&1] // another digit of the two, and never the same
				refused(t, name, v, changed)
			}
		}
		code := base64.StdEncoding.EncodeToString(r.signature)
		for i := range r.signature {
			s := bytes.Clone(r.signature)
			s[i] ^= 1
			refused(t, name, "signature", bytes.Replace(data, []byte(code), []byte(base64.StdEncoding.EncodeToString(s)), 1))
		}
		refused(t, name, "side", bytes.Replace(data, []byte(`"left"`), []byte(`"right"`), 1))
	}
}

func refused(t *testing.T, name, what string, data []byte) {
	t.Helper()
	r, err := ParseJSON(data)
	if err == nil {
		err = r.VerifySignature()
	}
	if err == nil {
		t.Errorf("%s with a change in %s verifies", name, what)
	}
}

func TestParseJSONRefusals(t *testing.T) {
	t.Parallel()
	good := string(vector(t, "ledger/acl/receipt_1.json"))
	swap := func(from, to string) string {
		if !strings.Contains(good, from) {
			t.Fatalf("receipt has no %s", from)
		}
		return strings.Replace(good, from, to, 1)
	}
	for name, c := range map[string]struct{ data, want string }{
		"nothing":         {"", "EOF"},
		"loading":         {`{"state":"Loading","transactionId":"2.3"}`, "ask again later"},
		"unknown":         {swap(`"proof"`, `"proofs"`), "unknown field"},
		"more":            {good + "{}", "follows"},
		"no leaf":         {swap(`"leaf_components"`, `"x_components"`), "unknown field"},
		"two leaves":      {swap(`{`, `{"leaf":"00",`), "exactly one leaf"},
		"wrong kind":      {swap(`"is_signature_transaction": false`, `"is_signature_transaction": true`), "does not fit"},
		"two node ids":    {swap(`{`, `{"nodeId":"00",`), "node_id"},
		"short digest":    {swap(`"fef1aa`, `"fef1`), "write_set_digest"},
		"two sides":       {swap(`{"left": "`, `{"right":"00","left": "`), "proof[0]"},
		"no path":         {good[:strings.Index(good, `"proof"`)] + `"proof":[],` + good[strings.Index(good, `"signature"`):], "0 steps"},
		"no certificate":  {swap("BEGIN CERTIFICATE", "BEGIN CARTIFICATE"), "cert"},
		"no signature":    {swap(`"signature": "MEYC`, `"signature": "!!`), "base64"},
		"no endorsements": {swap(`"service_endorsements": []`, `"service_endorsements": ["x"]`), "service_endorsements[0]"},
		"too large":       {strings.Repeat(" ", MaxJSONSize+1), "at most"},
	} {
		_, err := ParseJSON([]byte(c.data))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
	}
}

// identity is a service's or a node's key and certificate.
type identity struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func identify(t *testing.T, name string, ca bool, by *identity) *identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Unix(1, 0), IsCA: ca, BasicConstraintsValid: true,
	}
	parent, signer := c, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &identity{key, c}
}

// TestRecoveredService verifies the receipt of a signature transaction from before the service got a new identity, which
// endorses the old one.
func TestRecoveredService(t *testing.T) {
	t.Parallel()
	present := identify(t, "Service", true, nil)
	former := identify(t, "Service", true, present)
	node := identify(t, "Node", false, former)
	stranger := identify(t, "Service", true, nil)
	root := sha256.Sum256([]byte("root"))
	signature, err := ecdsa.SignASN1(rand.Reader, node.key, root[:])
	if err != nil {
		t.Fatal(err)
	}
	id := sha256.Sum256(node.cert.RawSubjectPublicKeyInfo)
	text := func(c *x509.Certificate) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	with := func(endorsements ...string) *JSON {
		data, err := json.Marshal(map[string]any{
			"cert": text(node.cert), "node_id": hex.EncodeToString(id[:]), "is_signature_transaction": true,
			"leaf": hex.EncodeToString(root[:]), "proof": []any{}, "signature": base64.StdEncoding.EncodeToString(signature),
			"service_endorsements": endorsements,
		})
		if err != nil {
			t.Fatal(err)
		}
		return parsed(t, data)
	}
	for _, c := range []struct {
		name         string
		service      *identity
		endorsements []string
		ok           bool
	}{
		{"its own service", former, nil, true},
		{"the present service", present, []string{text(former.cert)}, true},
		{"the present service, without the former", present, nil, false},
		{"a stranger", stranger, []string{text(former.cert)}, false},
		{"a stranger's endorsement", stranger, []string{text(stranger.cert)}, false},
		{"a node", node, nil, false},
	} {
		err = with(c.endorsements...).Verify(c.service.cert)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrNode) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	claimed := with()
	claimed.Claims = []Claim{{}}
	if claimed.VerifySignature() == nil {
		t.Error("a signature transaction has claims")
	}
}

func FuzzParseJSON(f *testing.F) {
	f.Add([]byte(`{"state":"Ready","transactionId":"2.1","receipt":{"leaf":"00"}}`))
	f.Add([]byte(`{"leafComponents":{"claimsDigest":""},"nodeId":"` + strings.Repeat("0", 64) + `"}`))
	f.Fuzz(func(_ *testing.T, data []byte) {
		r, err := ParseJSON(data)
		if err == nil {
			_ = r.Verify(r.Node) // must not panic
		}
	})
}
