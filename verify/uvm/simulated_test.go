// SPDX-License-Identifier: Apache-2.0

package uvm

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/evidence/cose1"
	"cofferdam.dev/evidence/didx509"
	"cofferdam.dev/evidence/uvm"
	"cofferdam.dev/internal/testchain"
	"cofferdam.dev/verify/check"
)

func parsed(b []byte) ([]byte, error) {
	e, err := uvm.Parse(b)
	if err != nil {
		return nil, err
	}
	return e.Measurement, nil
}

// TestOwnIssuer judges endorsements of a publisher that lives as long as the test, with one thing wrong each.
func TestOwnIssuer(t *testing.T) {
	t.Parallel()
	chain, other := testchain.New(t, "publisher", nil), testchain.New(t, "publisher", nil)
	did, err := didx509.Subject(chain.Certificates)
	if err != nil {
		t.Fatal(err)
	}
	m := bytes.Repeat([]byte{0xab}, uvm.MeasurementSize)
	p := Policy{Issuers: []string{did}, Feed: "images", MinimumSVN: 3}
	within := testchain.NotBefore.AddDate(0, 1, 0)
	for name, c := range map[string]struct {
		svn    string
		change func(*cose1.Header)
		swap   *testchain.Chain // certificates that replace those of the signed message
		want   []check.Code
	}{
		"good":         {svn: "3"},
		"no time":      {svn: "3", change: func(h *cose1.Header) { h.IssuedAt = time.Time{} }, want: []check.Code{check.CodeEndorsementTime}},
		"too old":      {svn: "2", want: []check.Code{check.CodeEndorsementSVN}},
		"another feed": {svn: "3", change: func(h *cose1.Header) { h.Feed = "others" }, want: []check.Code{check.CodeEndorsementFeed}},
		"no feed":      {svn: "3", change: func(h *cose1.Header) { h.Feed = "" }, want: []check.Code{check.CodeEndorsementFeed}},
		"another authority": {
			svn: "3", swap: other,
			want: []check.Code{check.CodeEndorsementUnresolved, check.CodeSignatureNotChecked},
		},
	} {
		h := cose1.Header{
			Algorithm: cose1.ES384, ContentType: "application/json", Chain: chain.Certificates, Issuer: did, Feed: "images",
			Form: cose1.FormText, IssuedAt: within,
		}
		if c.change != nil {
			c.change(&h)
		}
		payload := fmt.Appendf(nil, `{"x-ms-sevsnpvm-guestsvn":"%s","x-ms-sevsnpvm-launchmeasurement":"%x"}`, c.svn, m)
		b, err := cose1.Sign(rand.Reader, chain.Key, h, payload)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if c.swap != nil { // sizes of the two chains may differ by a byte or two, so parse and write again
			b = swap(t, b, chain, c.swap)
		}
		got := judge(t, Input{Endorsement: b, Measurement: m, Now: later}, p)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

// TestSignedOutsideOfValidity has messages that were signed before and after the leaf's validity. The signer of package
// cose1 refuses to make them, so the leaf is one whose period is elsewhere.
func TestSignedOutsideOfValidity(t *testing.T) {
	t.Parallel()
	chain := testchain.New(t, "publisher", nil)
	did, err := didx509.Subject(chain.Certificates)
	if err != nil {
		t.Fatal(err)
	}
	m := make([]byte, uvm.MeasurementSize)
	for name, at := range map[string]time.Time{
		"before": testchain.NotBefore.Add(-time.Second), "after": testchain.NotAfter.Add(time.Second),
	} {
		b := unchecked(t, chain, did, at, m)
		p := Policy{Issuers: []string{did}, Feed: "images", MinimumSVN: 1}
		if diff := cmp.Diff([]check.Code{check.CodeEndorsementTime}, judge(t, Input{Endorsement: b, Measurement: m, Now: later}, p)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}
