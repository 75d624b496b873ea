// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"crypto/rand"
	"slices"
	"strings"
	"testing"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/evidence/receipt"
	"cofferdam.dev/internal/testchain"
	"cofferdam.dev/internal/testledger"
	"cofferdam.dev/policy"
	"cofferdam.dev/policy/fragment"
)

// trustList signs a list of ledgers.
func trustList(t *testing.T, c *testchain.Chain, subject string, svn int64, ledgers ...*testledger.Ledger) []byte {
	t.Helper()
	content := map[string]receipt.KeySet{}
	for _, l := range ledgers {
		data, err := l.JWKS()
		if err != nil {
			t.Fatal(err)
		}
		content[l.Name], err = receipt.ParseKeys(data)
		if err != nil {
			t.Fatal(err)
		}
	}
	var message []byte
	sign(t, c, subject, fragmentText(t, "1"), func(s *fragment.Signer) {
		s.SVN = &svn
		var err error
		message, err = s.SignTrustList(rand.Reader, content)
		if err != nil {
			t.Fatal(err)
		}
	})
	return message
}

// recorded is a message with the receipts of ledgers.
func recorded(t *testing.T, message []byte, ledgers ...*testledger.Ledger) []byte {
	t.Helper()
	for _, l := range ledgers {
		var err error
		message, err = l.Attach(message)
		if err != nil {
			t.Fatal(err)
		}
	}
	return message
}

// requiring is a policy that lists nothing but a fragment that ledgers must have recorded, and trust lists.
func requiring(t *testing.T, message []byte, required []string, lists ...policy.TrustList) []byte {
	t.Helper()
	f, err := fragment.Open(message)
	if err != nil {
		t.Fatal(err)
	}
	statement, err := f.Import("1", nil)
	if err != nil {
		t.Fatal(err)
	}
	statement.RequiredReceipts = required
	p := policy.Policy{
		APIVersion: policy.PrereleaseAPI, FrameworkVersion: policy.PrereleaseFramework,
		Fragments: []policy.Fragment{statement}, TrustLists: lists,
	}
	return p.Text()
}

// accepting is a policy's statement about a trust list.
func accepting(t *testing.T, list []byte, minimum string, ledgers ...string) policy.TrustList {
	t.Helper()
	l, err := fragment.OpenTrustList(list)
	if err != nil {
		t.Fatal(err)
	}
	return policy.TrustList{Issuer: l.Issuer, Subject: l.Subject, MinimumSVN: minimum, AllowedLedgers: ledgers}
}

// TestRecordedFragment runs a container of a fragment that a ledger must have recorded, as its receipt and a trust list
// show.
func TestRecordedFragment(t *testing.T) {
	t.Parallel()
	ledger, other := testledger.New(t, "ledger.example"), testledger.New(t, "other.example")
	message := sign(t, testchain.New(t, "Publisher", nil), "registry/app", fragmentText(t, "3"), nil)
	list := trustList(t, testchain.New(t, "Auditor", nil), "ledgers", 2, ledger, other)
	text := requiring(t, message, []string{"ledger.example", "TTL:ledgers", "*"}, accepting(t, list, "2", "ledger.example"))
	r := enforced(t, text)
	ctx := t.Context()
	good := recorded(t, message, other, ledger)

	_, err := r.LoadFragment(ctx, &guestv1.LoadFragmentRequest{Message: good})
	d := guestv1.DenialFrom(err)
	if d.GetCode() != guestv1.CodePolicyDenied || d.GetActual() != "2, of which 0 verify" ||
		!slices.Equal(d.GetReasons(), []string{"missing receipt from *", "missing receipt from TTL:ledgers", "missing receipt from ledger.example"}) {
		t.Fatalf("before the trust list: %v", err)
	}
	answer, err := r.LoadTrustList(ctx, &guestv1.LoadTrustListRequest{Message: list})
	if err != nil {
		t.Fatal(err)
	}
	if answer.GetSubject() != "ledgers" || !strings.Contains(answer.GetIssuer(), "CN:Auditor") || !slices.Equal(answer.GetLedgers(), []string{"ledger.example"}) {
		t.Errorf("answer is %v", answer)
	}
	for name, bad := range map[string][]byte{
		"no receipt":                        message,
		"another ledger's":                  recorded(t, message, other),
		"of a ledger that has another key":  recorded(t, message, testledger.New(t, "ledger.example")),
		"over another fragment":             stolen(t, message, sign(t, testchain.New(t, "Publisher", nil), "registry/app", fragmentText(t, "4"), nil), ledger),
		"changed":                           tamperedReceipt(t, recorded(t, message, ledger)),
		"of a ledger named like the list":   recorded(t, message, testledger.New(t, "TTL:ledgers")),
		"of a ledger named like any ledger": recorded(t, message, testledger.New(t, "*")),
	} {
		_, err = r.LoadFragment(ctx, &guestv1.LoadFragmentRequest{Message: bad})
		d := guestv1.DenialFrom(err)
		if d.GetCode() != guestv1.CodePolicyDenied || !slices.Contains(d.GetReasons(), "missing receipt from ledger.example") {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = r.MountLayer(ctx, layerRequest(0))
	if err == nil {
		t.Fatal("a refused fragment's layer can be mounted")
	}
	_, err = r.LoadFragment(ctx, &guestv1.LoadFragmentRequest{Message: good})
	if err != nil {
		t.Fatal(err)
	}
	mounted(t, r)
	_, err = r.CreateContainer(ctx, createRequest(idA))
	if err != nil {
		t.Fatal(err)
	}
}

// stolen puts the receipt of one message onto another.
func stolen(t *testing.T, to, from []byte, l *testledger.Ledger) []byte {
	t.Helper()
	with := recorded(t, to, l)
	own, err := fragment.Open(with)
	if err != nil {
		t.Fatal(err)
	}
	other, err := fragment.Open(recorded(t, from, l))
	if err != nil {
		t.Fatal(err)
	}
	out := bytes.Replace(with, own.Receipts[0], other.Receipts[0], 1)
	f, err := fragment.Open(out)
	if err != nil || !bytes.Equal(f.Receipts[0], other.Receipts[0]) {
		t.Fatalf("the receipt was not moved: %v", err)
	}
	return out
}

// tamperedReceipt changes the last byte of a message's receipt, which is one of its signature.
func tamperedReceipt(t *testing.T, message []byte) []byte {
	t.Helper()
	f, err := fragment.Open(message)
	if err != nil {
		t.Fatal(err)
	}
	out := bytes.Clone(message)
	out[bytes.Index(out, f.Receipts[0])+len(f.Receipts[0])-1] ^= 1
	return out
}

// TestTrustListRefused loads lists that the policy does not take, and messages that are none.
func TestTrustListRefused(t *testing.T) {
	t.Parallel()
	auditor, stranger := testchain.New(t, "Auditor", nil), testchain.New(t, "Auditor", nil)
	ledger := testledger.New(t, "ledger.example")
	message := sign(t, testchain.New(t, "Publisher", nil), "registry/app", fragmentText(t, "3"), nil)
	good := trustList(t, auditor, "ledgers", 2, ledger)
	tampered := bytes.Replace(good, []byte("ledger.example"), []byte("ledger.exampel"), 1)
	text := requiring(t, message, []string{"*"}, accepting(t, good, "2", "ledger.example"))
	const noCandidate = "no TTL candidate matches"
	for name, c := range map[string]struct {
		message      []byte
		code, reason string
	}{
		"nothing":       {nil, guestv1.CodeBadRequest, "message"},
		"too much":      {make([]byte, fragment.MaxTrustListSize+1), guestv1.CodeBadRequest, "message"},
		"no COSE":       {[]byte("ledgers"), guestv1.CodeTrustListInvalid, "parsing COSE_Sign1"},
		"tampered":      {tampered, guestv1.CodeTrustListInvalid, "signature does not verify"},
		"a fragment":    {message, guestv1.CodeTrustListInvalid, "it was signed as"},
		"stranger":      {trustList(t, stranger, "ledgers", 2, ledger), guestv1.CodePolicyDenied, noCandidate},
		"other subject": {trustList(t, auditor, "other", 2, ledger), guestv1.CodePolicyDenied, noCandidate},
		"too old":       {trustList(t, auditor, "ledgers", 1, ledger), guestv1.CodePolicyDenied, noCandidate},
		"other ledger":  {trustList(t, auditor, "ledgers", 2, testledger.New(t, "x")), guestv1.CodePolicyDenied, "does not contain any ledgers"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := enforced(t, text)
			_, err := r.LoadTrustList(t.Context(), &guestv1.LoadTrustListRequest{Message: c.message})
			d := guestv1.DenialFrom(err)
			if d.GetCode() != c.code || !strings.Contains(d.Error(), c.reason) {
				t.Errorf("got %v, want %s: %s", err, c.code, c.reason)
			}
			_, err = r.LoadFragment(t.Context(), &guestv1.LoadFragmentRequest{Message: recorded(t, message, ledger)})
			if d := guestv1.DenialFrom(err); !slices.Equal(d.GetReasons(), []string{"missing receipt from *"}) {
				t.Errorf("a receipt counts after a refused list: %v", err)
			}
			_, err = r.LoadFragment(t.Context(), &guestv1.LoadFragmentRequest{Message: good})
			if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeFragmentInvalid {
				t.Errorf("a trust list as a fragment: %v", err)
			}
		})
	}
}

// TestManyTrustLists loads one list until no more are taken.
func TestManyTrustLists(t *testing.T) {
	t.Parallel()
	message := trustList(t, testchain.New(t, "Auditor", nil), "ledgers", 2, testledger.New(t, "ledger.example"))
	r := ready(t)
	for range maxTrustLists {
		_, err := r.LoadTrustList(t.Context(), &guestv1.LoadTrustListRequest{Message: message})
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := r.LoadTrustList(t.Context(), &guestv1.LoadTrustListRequest{Message: message})
	if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeTooMany {
		t.Errorf("got %v, want %s", err, guestv1.CodeTooMany)
	}
}
