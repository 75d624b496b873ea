// SPDX-License-Identifier: Apache-2.0

package diff

import (
	"testing"

	"cofferdam.dev/policy"
)

// TestReceiptsAndTrustLists compares what policies require of fragments, and whose word they take for ledgers' keys.
func TestReceiptsAndTrustLists(t *testing.T) {
	t.Parallel()
	const did = "did:x509:0:sha256:x"
	with := func(change func(*policy.Policy)) []byte {
		return testPolicy(func(p *policy.Policy) {
			p.APIVersion, p.FrameworkVersion = policy.PrereleaseAPI, policy.PrereleaseFramework
			p.Fragments = []policy.Fragment{{Feed: "f", Issuer: did, MinimumSVN: "4", Includes: []string{"containers"}, RequiredReceipts: []string{"one"}}}
			p.TrustLists = []policy.TrustList{{Issuer: did, Subject: "s", MinimumSVN: "2", AllowedLedgers: []string{"one"}}}
			if change != nil {
				change(p)
			}
		})
	}
	base := with(nil)
	for name, c := range map[string]struct {
		change func(*policy.Policy)
		want   Relation
	}{
		"nothing":           {nil, Equal},
		"no receipt":        {func(p *policy.Policy) { p.Fragments[0].RequiredReceipts = nil }, Narrower},
		"another's receipt": {func(p *policy.Policy) { p.Fragments[0].RequiredReceipts = []string{"two"} }, Incomparable},
		"two receipts":      {func(p *policy.Policy) { p.Fragments[0].RequiredReceipts = []string{"one", "TTL:s"} }, Wider},
		"anybody's receipt": {func(p *policy.Policy) { p.Fragments[0].RequiredReceipts = []string{"*"} }, Undecided}, // it is wider, and no rule concludes that
		"no list":           {func(p *policy.Policy) { p.TrustLists = nil }, Wider},
		"a second list": {func(p *policy.Policy) {
			p.TrustLists = append(p.TrustLists, policy.TrustList{Issuer: did, Subject: "t", MinimumSVN: "1", AllowedLedgers: []string{"*"}})
		}, Narrower},
		"an older list":     {func(p *policy.Policy) { p.TrustLists[0].MinimumSVN = "1" }, Narrower},
		"a newer list":      {func(p *policy.Policy) { p.TrustLists[0].MinimumSVN = "3" }, Wider},
		"any ledger":        {func(p *policy.Policy) { p.TrustLists[0].AllowedLedgers = []string{"*"} }, Narrower},
		"another ledger":    {func(p *policy.Policy) { p.TrustLists[0].AllowedLedgers = []string{"two"} }, Incomparable},
		"another signer":    {func(p *policy.Policy) { p.TrustLists[0].Issuer = "did:x509:0:sha256:y" }, Incomparable},
		"an older policy":   {func(p *policy.Policy) { p.FrameworkVersion = "0.4.1" }, Wider},
		"an older protocol": {func(p *policy.Policy) { p.APIVersion = policy.DeployedAPI }, Wider},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := compare(t, base, with(c.change))
			if r.Relation != c.want || (len(r.Changes) == 0) != (c.change == nil) {
				t.Errorf("%s, expected %s; changes %+v, notes %q, witnesses %+v, %+v", r.Relation, c.want, r.Changes, r.Notes, r.OnlyFirst, r.OnlySecond)
			}
		})
	}
}
