// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"slices"
	"strings"
	"testing"

	"cofferdam.dev/policy"
)

// receiptPolicy lists one fragment that needs receipts, and two trust lists of one issuer.
func receiptPolicy(required ...string) *policy.Policy {
	p := fragmentPolicy()
	p.APIVersion, p.FrameworkVersion = policy.PrereleaseAPI, policy.PrereleaseFramework
	p.Fragments[0].RequiredReceipts = required
	p.TrustLists = []policy.TrustList{
		{Issuer: "did:t", Subject: "some", MinimumSVN: "3", AllowedLedgers: []string{"one", "two"}},
		{Issuer: "did:t", Subject: "all", MinimumSVN: "1", AllowedLedgers: []string{"*"}},
	}
	return p
}

func TestRequiredReceipts(t *testing.T) {
	t.Parallel()
	one := Receipt{Issuer: "one", TTLSubjects: []string{"some"}}
	two := Receipt{Issuer: "two", TTLSubjects: []string{"all", "other"}}
	odd := Receipt{Issuer: "TTL:some"}
	star := Receipt{Issuer: "*"}
	for name, c := range map[string]struct {
		required []string
		given    []Receipt
		missing  []string
	}{
		"none needed":               {nil, nil, nil},
		"none needed, some given":   {nil, []Receipt{one}, nil},
		"the ledger's":              {[]string{"one"}, []Receipt{one}, nil},
		"another ledger's":          {[]string{"one"}, []Receipt{two}, []string{"one"}},
		"nobody's":                  {[]string{"one"}, nil, []string{"one"}},
		"both":                      {[]string{"one", "two"}, []Receipt{two, one}, nil},
		"one of both":               {[]string{"one", "two"}, []Receipt{one}, []string{"two"}},
		"anybody's":                 {[]string{"*"}, []Receipt{two}, nil},
		"nobody's of anybody":       {[]string{"*"}, nil, []string{"*"}},
		"by a list":                 {[]string{"TTL:other"}, []Receipt{two}, nil},
		"by another list":           {[]string{"TTL:other"}, []Receipt{one}, []string{"TTL:other"}},
		"one for all three":         {[]string{"TTL:all", "two", "*"}, []Receipt{two}, nil},
		"a ledger named like a TTL": {[]string{"TTL:some"}, []Receipt{odd}, []string{"TTL:some"}},
		"a ledger named *":          {[]string{"*", "one"}, []Receipt{star}, []string{"one"}},
		"an empty name":             {[]string{""}, []Receipt{one}, []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := mustLoad(t, receiptPolicy(c.required...))
			d, err := e.LoadFragment(t.Context(), Fragment{Issuer: "did:a", Feed: "feed", Text: []byte(fragmentText), Receipts: c.given})
			var want []string
			for _, m := range c.missing {
				want = append(want, "missing receipt from "+m)
			}
			if err != nil || d.Allowed != (c.missing == nil) || !slices.Equal(d.Reasons, want) {
				t.Errorf("%+v, %v; want %q", d, err, want)
			}
		})
	}
}

// TestMalformedReceipts writes requirements that are no list of texts: none of them is read as no requirement.
func TestMalformedReceipts(t *testing.T) {
	t.Parallel()
	text := string(receiptPolicy("one").Text())
	const list = "\"required_receipts\": [\n      \"one\"\n    ]"
	if !strings.Contains(text, list) {
		t.Fatalf("the policy has no %s:\n%s", list, text)
	}
	asked := 0
	for _, other := range []string{`"one"`, `{"one": true}`, `{}`, `""`, `null`, `0`, `false`, `[0]`, `[null]`, `[["one"]]`, `{"one"}`} {
		e, err := New([]byte(strings.Replace(text, list, `"required_receipts": `+other, 1)), Options{})
		if err != nil {
			continue // no such policy can be in force
		}
		d, err := e.LoadFragment(t.Context(), Fragment{
			Issuer: "did:a", Feed: "feed", Text: []byte(fragmentText), Receipts: []Receipt{{Issuer: "one", TTLSubjects: []string{"some"}}},
		})
		if err == nil && (d.Allowed || !strings.HasPrefix(d.Reasons[0], "missing receipt from ")) {
			t.Errorf("required_receipts %s: %+v", other, d)
		}
		asked++
	}
	if asked < 9 {
		t.Errorf("only %d of the policies could be loaded", asked)
	}
}

const (
	noCandidate = "no TTL candidate matches the provided TTL's issuer, subject and svn"
	noLedger    = "The provided TTL does not contain any ledgers it is allowed to load"
)

func TestTrustLists(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		list TrustList
		want []string // ledgers
		deny string
	}{
		"all that it names":  {TrustList{"did:t", "some", 3, []string{"one", "two"}}, []string{"one", "two"}, ""},
		"less than it names": {TrustList{"did:t", "some", 4, []string{"three", "two"}}, []string{"two"}, ""},
		"any":                {TrustList{"did:t", "all", 1, []string{"three"}}, []string{"three"}, ""},
		"a ledger named *":   {TrustList{"did:t", "some", 3, []string{"*"}}, nil, noLedger},
		"other ledgers":      {TrustList{"did:t", "some", 3, []string{"three"}}, nil, noLedger},
		"no ledgers":         {TrustList{"did:t", "all", 1, nil}, nil, noLedger},
		"too old":            {TrustList{"did:t", "some", 2, []string{"one"}}, nil, noCandidate},
		"other issuer":       {TrustList{"did:x", "some", 3, []string{"one"}}, nil, noCandidate},
		"other subject":      {TrustList{"did:t", "none", 3, []string{"one"}}, nil, noCandidate},
		"fragment's issuer":  {TrustList{"did:a", "feed", 3, []string{"one"}}, nil, noCandidate},
		"nothing":            {TrustList{}, nil, noCandidate},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, got, err := mustLoad(t, receiptPolicy()).LoadTrustList(t.Context(), c.list)
			if err != nil || d.Allowed != (c.deny == "") || !slices.Equal(got, c.want) || c.deny != "" && !slices.Equal(d.Reasons, []string{c.deny}) {
				t.Errorf("%+v, %q, %v; want %q, %q", d, got, err, c.want, c.deny)
			}
		})
	}
}

// TestOldPoliciesKnowNoTrustLists asks policies whose version is older than the rule, or than the list's meaning.
func TestOldPoliciesKnowNoTrustLists(t *testing.T) {
	t.Parallel()
	list := TrustList{"did:t", "all", 1, []string{"one"}}
	for name, c := range map[string]struct{ api, framework, want string }{
		"older point": {policy.DeployedAPI, policy.PrereleaseFramework, "does not know load_transparency_trust_list"},
		"older list":  {policy.PrereleaseAPI, "0.4.9", noCandidate},
	} {
		p := receiptPolicy()
		p.APIVersion, p.FrameworkVersion = c.api, c.framework
		d, got, err := mustLoad(t, p).LoadTrustList(t.Context(), list)
		if err != nil || d.Allowed || len(got) > 0 || !strings.Contains(d.Reasons[0], c.want) {
			t.Errorf("%s: %+v, %q, %v", name, d, got, err)
		}
	}
}

// TestOwnRuleForTrustLists has policies with rules of their own, one of which names no ledgers.
func TestOwnRuleForTrustLists(t *testing.T) {
	t.Parallel()
	for rule, want := range map[string][]string{
		`{"allowed": true}`: nil, `{"allowed": true, "allowed_ledgers": ["three"]}`: nil, `{"allowed": true, "allowed_ledgers": ["one"]}`: {"one"},
	} {
		text := strings.Replace(string(receiptPolicy().Text()), "data.framework.load_transparency_trust_list", rule, 1)
		e, err := New([]byte(text), Options{})
		if err != nil {
			t.Fatal(err)
		}
		d, got, err := e.LoadTrustList(t.Context(), TrustList{"did:x", "x", 0, []string{"one", "two"}})
		if err != nil || d.Allowed != (want != nil) || !slices.Equal(got, want) {
			t.Errorf("%s: %+v, %q, %v", rule, d, got, err)
		}
	}
}

// TestFragmentBringsTrustList loads a fragment that the policy lets name trust lists, and one that it does not.
func TestFragmentBringsTrustList(t *testing.T) {
	t.Parallel()
	brings := `transparency_trust_lists := [{"issuer": "did:f", "subject": "its", "minimum_svn": "1", "allowed_ledgers": ["one"]}]` + "\n"
	text := "package part\nsvn := \"2\"\nframework_version := \"0.5.0\"\n" + brings
	for name, c := range map[string]struct {
		text     string
		includes []string
		ok       bool
	}{
		"included":     {text, []string{"transparency_trust_lists"}, true},
		"not included": {text, []string{"containers"}, false},
		"older":        {strings.Replace(text, "0.5.0", "0.4.0", 1), []string{"transparency_trust_lists"}, false},
	} {
		p := receiptPolicy()
		p.Fragments[0].Includes = c.includes
		e := mustLoad(t, p)
		d, err := e.LoadFragment(t.Context(), Fragment{Issuer: "did:a", Feed: "feed", Text: []byte(c.text)})
		mustAllow(t, d, err)
		d, got, err := e.LoadTrustList(t.Context(), TrustList{"did:f", "its", 1, []string{"one"}})
		if err != nil || d.Allowed != c.ok || c.ok != (len(got) == 1) {
			t.Errorf("%s: %+v, %q, %v", name, d, got, err)
		}
	}
}
