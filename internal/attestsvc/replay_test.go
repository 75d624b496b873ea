// SPDX-License-Identifier: Apache-2.0

package attestsvc

import (
	"bytes"
	"crypto/elliptic"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/store"
)

// TestReplayInAnotherForm presents evidence again in forms that are as good as the first.
func TestReplayInAnotherForm(t *testing.T) {
	t.Parallel()
	s := newService(t, func(o *Options) { o.RefuseReplays = true })
	r := theWorld(t).evidence(t, runtimeJSON)
	if _, err := s.Attest(t.Context(), DefaultTenant, r); err != nil {
		t.Fatal(err)
	}
	reversed, twin := *r, *r
	reversed.Certificates = slices.Clone(r.Certificates)
	slices.Reverse(reversed.Certificates)
	twin.Report = twinSignature(r.Report)
	unbound := *r
	unbound.Runtime = nil
	for name, other := range map[string]*Request{"the same": r, "chain in another order": &reversed, "the other signature": &twin, "unbound": &unbound} {
		var bad *RequestError
		if _, err := s.Attest(t.Context(), DefaultTenant, other); !errors.As(err, &bad) || !strings.Contains(bad.Message, "accepted before") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Without the rule the other signature is accepted: it is genuine.
	if _, err := newService(t, nil).Attest(t.Context(), DefaultTenant, &twin); err != nil {
		t.Errorf("the other signature is no twin: %v", err)
	}
}

// twinSignature replaces S of the report's signature by the curve's order less S, which verifies as well.
func twinSignature(report []byte) []byte {
	const size = 72 // of R and S, little-endian
	b := bytes.Clone(report)
	field := b[snp.SignedSize+size : snp.SignedSize+2*size]
	slices.Reverse(field)
	s := new(big.Int).SetBytes(field)
	s.Sub(elliptic.P384().Params().N, s).FillBytes(field)
	slices.Reverse(field)
	return b
}

// TestNonceOutlivesClocks keeps a used nonce for instances whose clock is behind.
func TestNonceOutlivesClocks(t *testing.T) {
	t.Parallel()
	ahead := time.Duration(0)
	s := newService(t, func(o *Options) { o.Now = func() time.Time { return time.Now().Add(ahead) } })
	nonce, until, err := s.Challenge(DefaultTenant)
	if err != nil {
		t.Fatal(err)
	}
	r := theWorld(t).evidence(t, `{"nonce":"`+nonce+`"}`)
	r.Nonce = nonce
	if _, err := s.Attest(t.Context(), DefaultTenant, r); err != nil {
		t.Fatal(err)
	}
	used := func() int {
		n := 0
		if err := s.store.View(t.Context(), func(rd store.Reader) error {
			list, err := rd.List("used/", "", 10)
			n = len(list)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, c := range []struct {
		ahead time.Duration
		left  int
	}{{time.Until(until) + time.Minute, 1}, {sweepLater + NonceLife + time.Minute, 0}} {
		ahead = c.ahead
		if err := s.sweepPrefix(t.Context(), "used/"); err != nil {
			t.Fatal(err)
		}
		if used() != c.left {
			t.Errorf("%s later: %d nonces", c.ahead, used())
		}
	}
}
