// SPDX-License-Identifier: Apache-2.0

package fragment

import (
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/evidence/cose1"
	"cofferdam.dev/evidence/receipt"
	"cofferdam.dev/internal/cbor"
	"cofferdam.dev/internal/testchain"
	"cofferdam.dev/internal/testledger"

	"github.com/google/go-cmp/cmp"
)

// keysOf is what a trust list says of a ledger.
func keysOf(t testing.TB, l *testledger.Ledger) receipt.KeySet {
	t.Helper()
	data, err := l.JWKS()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := receipt.ParseKeys(data)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// listing is a trust list that names ledgers.
func listing(t testing.TB, subject string, ledgers ...*testledger.Ledger) *TrustList {
	t.Helper()
	s := signer(t, testchain.New(t, "Publisher", nil))
	svn := int64(2)
	s.Feed, s.SVN = subject, &svn
	content := map[string]receipt.KeySet{}
	for _, l := range ledgers {
		content[l.Name] = keysOf(t, l)
	}
	message, err := s.SignTrustList(rand.Reader, content)
	if err != nil {
		t.Fatal(err)
	}
	list, err := OpenTrustList(message)
	if err != nil {
		t.Fatal(err)
	}
	if list.Subject != subject || list.SVN != 2 || list.Issuer != s.Issuer || !list.SignedAt.Equal(s.At) || !cmp.Equal(list.Ledgers, content) {
		t.Fatalf("%+v", list)
	}
	return list
}

// recorded is a fragment with receipts.
func recorded(t testing.TB, ledgers ...*testledger.Ledger) *Signed {
	t.Helper()
	s := signer(t, testchain.New(t, "Publisher", nil))
	message, err := s.Sign(rand.Reader, []byte(text))
	for _, l := range ledgers {
		if err == nil {
			message, err = l.Attach(message)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(message)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestLedgers(t *testing.T) {
	t.Parallel()
	one, two := testledger.New(t, "one"), testledger.New(t, "two")
	impostor := testledger.New(t, "one") // another key under the first one's name
	f := recorded(t, one, two)
	var none Ledgers
	some := none.With(listing(t, "some", one, two), []string{"one"})
	both := some.With(listing(t, "other", one, two), []string{"one", "two"})
	fake := none.With(listing(t, "fake", impostor), []string{"one"})
	for name, c := range map[string]struct {
		ledgers Ledgers
		f       *Signed
		want    []Receipt
	}{
		"no keys":             {none, f, nil},
		"allowed alone":       {some, f, []Receipt{{"one", []string{"some"}}}},
		"both":                {both, f, []Receipt{{"one", []string{"some", "other"}}, {"two", []string{"other"}}}},
		"the impostor's keys": {fake, f, nil},
		"the impostor":        {both, recorded(t, impostor), nil},
		"an impostor added":   {both, recorded(t, impostor, one), []Receipt{{"one", []string{"some", "other"}}}},
		"both keys":           {some.With(listing(t, "x", impostor), []string{"one"}), recorded(t, impostor), []Receipt{{"one", []string{"x"}}}},
		"no receipts":         {both, recorded(t), nil},
		"nothing allowed":     {none.With(listing(t, "s", one), nil), f, nil},
		"others allowed":      {none.With(listing(t, "s", one), []string{"two", "*"}), f, nil},
		"twice the same":      {some.With(listing(t, "some", one), []string{"one"}), f, []Receipt{{"one", []string{"some"}}}},
	} {
		if diff := cmp.Diff(c.want, c.ledgers.Verified(c.f)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if some.Size() != 1 || both.Size() != 2 || none.Size() != 0 {
		t.Errorf("sizes are %d, %d, %d", some.Size(), both.Size(), none.Size())
	}
	if diff := cmp.Diff([]Receipt{{"one", []string{"some"}}}, some.Verified(f)); diff != "" {
		t.Errorf("With changed what it was called on: %s", diff)
	}
}

// TestOtherFragmentsReceipt moves a receipt to a fragment that the ledger never saw, beside some that are none.
func TestOtherFragmentsReceipt(t *testing.T) {
	t.Parallel()
	l := testledger.New(t, "one")
	keys := Ledgers{}.With(listing(t, "some", l), []string{"one"})
	f, other := recorded(t, l), recorded(t)
	other.Receipts = f.Receipts
	if got := keys.Verified(other); got != nil {
		t.Errorf("another fragment has %+v", got)
	}
	f.Receipts = slices.Concat([][]byte{nil, []byte("x"), {0xf6}}, f.Receipts)
	if got := keys.Verified(f); len(got) != 1 {
		t.Errorf("beside what is none: %+v", got)
	}
}

// TestOpenTrustListRefuses opens what is signed well and is no trust list, and what is not signed well.
func TestOpenTrustListRefuses(t *testing.T) {
	t.Parallel()
	c := testchain.New(t, "Publisher", nil)
	s := signer(t, c)
	svn := int64(2)
	s.SVN = &svn
	l := testledger.New(t, "ledger")
	good, err := s.SignTrustList(rand.Reader, map[string]receipt.KeySet{"ledger": keysOf(t, l)})
	if err != nil {
		t.Fatal(err)
	}
	m, err := cose1.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	as := func(change func(*cose1.Header), payload []byte) []byte {
		h := cose1.Header{
			Algorithm: cose1.ES384, ContentType: TrustListType, Chain: c.Certificates, Issuer: s.Issuer, Feed: "subject",
			Form: cose1.FormClaims, SVN: &svn, IssuedAt: s.At,
		}
		if change != nil {
			change(&h)
		}
		message, err := cose1.Sign(rand.Reader, c.Key, h, payload)
		if err != nil {
			t.Fatal(err)
		}
		return message
	}
	renamed := func(name string) []byte {
		it, err := cbor.Decode(m.Payload)
		if err != nil {
			t.Fatal(err)
		}
		return as(nil, cbor.AppendMap(nil, []cbor.Entry{{Key: cbor.AppendText(nil, name), Value: it.Pairs[0].Value.Raw}}))
	}
	fragment, err := s.Sign(rand.Reader, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	tampered := slices.Clone(good)
	tampered[len(tampered)-1] ^= 1
	for name, c := range map[string]struct {
		message []byte
		want    string
	}{
		"nothing":         {nil, "decoding CBOR"},
		"too large":       {make([]byte, MaxTrustListSize+1), "at most"},
		"tampered":        {tampered, "does not verify"},
		"fragment":        {fragment, `signed as "application/unknown+rego"`},
		"no type":         {as(func(h *cose1.Header) { h.ContentType = "" }, m.Payload), `signed as ""`},
		"no subject":      {as(func(h *cose1.Header) { h.Feed = "" }, m.Payload), "no subject"},
		"no svn":          {as(func(h *cose1.Header) { h.SVN = nil }, m.Payload), "no svn"},
		"text keys":       {as(func(h *cose1.Header) { h.Form, h.SVN = cose1.FormText, nil }, m.Payload), "no svn"},
		"no CBOR":         {as(nil, []byte("ledgers")), "decoding CBOR"},
		"no map":          {as(nil, []byte{0x80}), "not a map"},
		"no ledgers":      {as(nil, []byte{0xa0}), "not a map of 1"},
		"number as name":  {as(nil, []byte{0xa1, 1, 0xa0}), "ledger's name"},
		"no keys":         {as(nil, []byte{0xa1, 0x61, 'x', 0xa0}), `ledger "x" has no keys`},
		"keys alone":      {as(nil, []byte{0xa1, 0x61, 'x', 0x80}), `ledger "x" has no keys`},
		"empty keys":      {as(nil, []byte{0xa1, 0x61, 'x', 0xa1, 1, 0x80}), "COSE_KeySet"},
		"any ledger":      {renamed("*"), "stands for something else"},
		"a trust list's":  {renamed("TTL:x"), "stands for something else"},
		"an empty name":   {renamed(""), "1 to"},
		"a name too long": {renamed(strings.Repeat("x", maxLedgerName+1)), "1 to"},
	} {
		_, err := OpenTrustList(c.message)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
	}
	for name, message := range map[string][]byte{
		"as it was": as(nil, m.Payload), "older type": as(func(h *cose1.Header) { h.ContentType = trustListTypes[1] }, m.Payload), "renamed": renamed("x"),
	} {
		if _, err := OpenTrustList(message); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err = Open(good); err == nil || !strings.Contains(err.Error(), "it was signed as") {
		t.Errorf("a trust list as a fragment: %v", err)
	}
}

func TestSignTrustListRefuses(t *testing.T) {
	t.Parallel()
	s := signer(t, testchain.New(t, "Publisher", nil))
	content := map[string]receipt.KeySet{"ledger": keysOf(t, testledger.New(t, "ledger"))}
	if _, err := s.SignTrustList(rand.Reader, content); err == nil {
		t.Error("signed without an svn")
	}
	svn := int64(1)
	s.SVN = &svn
	for name, bad := range map[string]map[string]receipt.KeySet{"nothing": nil, "no keys": {"ledger": nil}, "any ledger": {"*": content["ledger"]}} {
		if _, err := s.SignTrustList(rand.Reader, bad); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	s.At = testchain.NotAfter.Add(time.Hour)
	if _, err := s.SignTrustList(rand.Reader, content); err == nil {
		t.Error("signed after the certificate's end")
	}
}

func FuzzOpenTrustList(f *testing.F) {
	s := signer(f, testchain.New(f, "Publisher", nil))
	svn := int64(1)
	s.SVN = &svn
	message, err := s.SignTrustList(rand.Reader, map[string]receipt.KeySet{"ledger": keysOf(f, testledger.New(f, "ledger"))})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(message)
	m, err := cose1.Parse(message)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.Payload)
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := OpenTrustList(data)
		if err == nil && (list.Issuer == "" || list.Subject == "" || len(list.Ledgers) == 0) {
			t.Errorf("opened %+v", list)
		}
		_, _ = readLedgers(data) // must not panic
	})
}
