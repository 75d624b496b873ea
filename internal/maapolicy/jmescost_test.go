// SPDX-License-Identifier: Apache-2.0

package maapolicy

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jmespath-community/go-jmespath/pkg/parsing"
)

const someJSON = `{"a":[1,2,3],"s":"text","o":{"k":{"n":1},"l":{"n":2}},"e":[{"t":"x","d":{"v":[1,2]}},{"t":"y","d":{"v":[3]}}]}`

// TestQueryBombs has queries that would fill the machine's memory, or keep it busy for years.
func TestQueryBombs(t *testing.T) {
	t.Parallel()
	for name, query := range map[string]string{
		"a list that doubles":          strings.Repeat("[@,@]|", 40) + "@",
		"an object that doubles":       strings.Repeat("{a:@,b:@}|", 40) + "@",
		"flattened as it doubles":      strings.Repeat("[@,@][]|", 30) + "@",
		"doubled and thrown away":      strings.Repeat("[@,@][]|", 30) + "length(@)",
		"doubled in a condition":       "a[?" + strings.Repeat("[@,@]|", 40) + "@]",
		"doubled by map":               "map(&(" + strings.Repeat("[@,@]|", 40) + "@), a)",
		"doubled for sorting":          "sort_by(e, &length(" + strings.Repeat("[@,@][]|", 40) + "@))",
		"the whole in each part":       "[$" + strings.Repeat(",$", 3000) + "][*][*].[$,$,$,$,$,$,$,$,$,$]|" + strings.Repeat("[@,@]|", 14) + "@",
		"root in nested projections":   "e[*].[" + strings.Repeat("$.e[*].[", 12) + "a" + strings.Repeat("]", 13),
		"escapes of escapes":           strings.Repeat("to_string(", 40) + "@" + strings.Repeat(")", 40),
		"replaced by more":             strings.Repeat("replace(", 20) + "s" + strings.Repeat(",'t','tttttttt')", 20),
		"replaced by itself":           "replace(s, 't', s)",
		"joined by itself":             "join(s, [s,s])",
		"padded":                       "pad_left(s, `1000000000`, 'x')",
		"variables":                    "let $x = [@,@] in [$x,$x]",
		"joined many times":            strings.Repeat("join('aaaaaaaaaaaaaaaaaaaaaaaaaaaa', split(", 8) + "s" + strings.Repeat(", ''))", 8),
		"merged, itemised, and so on ": strings.Repeat("items(from_items(items(", 8) + "@" + strings.Repeat(")))", 8),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			err := checkQuery(query, len(someJSON))
			if err == nil {
				t.Error("it passes")
			}
			if took := time.Since(begin); took > time.Minute {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// TestQueryCost has the bound hold for queries that pass: none makes more than it was measured for.
func TestQueryCost(t *testing.T) {
	t.Parallel()
	var data any
	if err := json.Unmarshal([]byte(someJSON), &data); err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{
		"a", "a[0]", "a[1:]", "@", "$", "missing", "[missing,missing,missing]", "o.*.n", "e[*].d.v[]", "e[?t=='x'].d.v | [0]",
		"e[?t == 'x' && contains(t, 'x')].{t:t,w:d.v,z:`null`}", "sort_by(e,&t)[*].t", "to_string(@)", "split(s,'')", "join(',', e[*].t)",
		"keys(o)", "items(o)", "zip(a, a)", "merge(o, {x:`1`})", "reverse(a)", "map(&[@,@], a)", "replace(s,'','ab')", "upper(s)",
		"equals_ignore_case(s, 'TEXT')", "[a,a,a][][]", "group_by(e, &t)", "max_by(e,&t).t", "not_null(x, s)", "!a", "a || s", "a[*].['a','b']",
		"from_items(items(o))", "s[::-1]", "to_array(s)", "e[*].[`\"a long literal\"`]",
	} {
		if err := checkQuery(query, len(someJSON)); err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		result, err := search(query, data)
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		b, err := json.Marshal(result)
		if err != nil {
			t.Fatal(err)
		}
		if bound := bound(t, query); float64(len(b)) > bound {
			t.Errorf("%s makes %d bytes, more than %.0f", query, len(b), bound)
		}
	}
	// What policies do with a large log of events passes.
	if err := checkQuery("events[?event_type == 'EV_X' && contains(data, 'k')].data.{a:a,b:b} | [0]", 200_000); err != nil {
		t.Error(err)
	}
}

func bound(t *testing.T, query string) float64 {
	t.Helper()
	ast, err := parsing.NewParser().Parse(query)
	if err != nil {
		t.Fatal(err)
	}
	m := meter{float64(len(someJSON))}
	c, err := m.expression(&ast)
	if err != nil {
		t.Fatal(err)
	}
	return c.size.a*m.input + c.size.b
}
