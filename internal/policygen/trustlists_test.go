// SPDX-License-Identifier: Apache-2.0

package policygen

import (
	"strings"
	"testing"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
)

// TestTrustLists needs the form of the text that can allow them.
func TestTrustLists(t *testing.T) {
	t.Parallel()
	g := spec.Group{Fragments: []spec.Fragment{{Issuer: "i", Feed: "f", MinimumSVN: "1", RequiredReceipts: []string{"ledger"}}}}
	o := Options{ExcludePause: true, ExcludeDefaultFragment: true, TrustLists: []policy.TrustList{{Issuer: "i", Subject: "s", MinimumSVN: "1"}}}
	_, err := Generate(g, nil, o)
	if err == nil || !strings.Contains(err.Error(), "trust lists need api_version 0.12.0") {
		t.Errorf("with the deployed form: %v", err)
	}
	o.APIVersion, o.FrameworkVersion = policy.PrereleaseAPI, policy.PrereleaseFramework
	p, err := Generate(g, nil, o)
	if err != nil || len(p.TrustLists) != 1 || p.Fragments[0].RequiredReceipts[0] != "ledger" {
		t.Fatalf("%+v, %v", p, err)
	}
	other, err := Generate(g, nil, Options{ExcludePause: true, ExcludeDefaultFragment: true, APIVersion: o.APIVersion, FrameworkVersion: o.FrameworkVersion})
	if err != nil {
		t.Fatal(err)
	}
	d := Differences(p, other)
	if len(d) != 1 || d[0].Field != "transparency_trust_lists" {
		t.Errorf("differences are %+v", d)
	}
}
