// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReceiptsAndTrustLists writes and reads what confcom never makes: nothing else of the text may change for it.
func TestReceiptsAndTrustLists(t *testing.T) {
	t.Parallel()
	p := minimal()
	p.APIVersion, p.FrameworkVersion = PrereleaseAPI, PrereleaseFramework
	p.Fragments = []Fragment{{Feed: "f", Issuer: "i", MinimumSVN: "1", Includes: []string{"containers"}}}
	plain := string(p.Text())
	p.Fragments[0].RequiredReceipts = []string{"ledger.example", "TTL:list"}
	p.TrustLists = []TrustList{{Issuer: "i", Subject: "list", MinimumSVN: "2", AllowedLedgers: []string{"*"}}, {Issuer: "i"}}
	text := string(p.Text())
	for _, part := range []string{
		",\n    \"required_receipts\": [\n      \"ledger.example\",\n      \"TTL:list\"\n    ]",
		`transparency_trust_lists := [
  {
    "allowed_ledgers": [
      "*"
    ],
    "issuer": "i",
    "minimum_svn": "2",
    "subject": "list"
  },
  {
    "allowed_ledgers": [],
    "issuer": "i",
    "minimum_svn": "",
    "subject": ""
  }
]

`,
	} {
		if strings.Count(text, part) != 1 {
			t.Errorf("text has not once %s:\n%s", part, text)
		}
		text = strings.Replace(text, part, "", 1)
	}
	if diff := cmp.Diff(plain, text); diff != "" {
		t.Errorf("the rest of the text differs: %s", diff)
	}
	for _, form := range [][]byte{p.Text(), p.PrettyText()} {
		again, err := Parse(form)
		if err != nil {
			t.Fatal(err)
		}
		p.TrustLists[1].AllowedLedgers = []string{}
		if diff := cmp.Diff(p.TrustLists, again.TrustLists); diff != "" || !cmp.Equal(p.Fragments, again.Fragments) {
			t.Errorf("read back: %s", diff)
		}
	}
	for _, other := range []string{"transparency_trust_lists := []", "transparency_trust_lists := {}", `transparency_trust_lists := [{"ledger": 1}]`} {
		_, err := Parse([]byte(strings.Replace(plain, "containers := ", other+"\n\ncontainers := ", 1)))
		if err == nil {
			t.Errorf("a text with %s was read", other)
		}
	}
}
