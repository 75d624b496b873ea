// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// variants is how often Samples tries.
const variants = 6

// Samples returns texts that a policy's pattern matches as it is enforced, anchors added to its ends: the shortest and
// some longer ones, and some that slip past the anchors if that is possible. There may be none.
func Samples(pattern string) []string {
	if !strings.HasPrefix(pattern, "^") {
		pattern = "^" + pattern
	}
	if !strings.HasSuffix(pattern, "$") {
		pattern += "$"
	}
	enforced, err := regexp.Compile(pattern)
	if err != nil {
		return nil
	}
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil
	}
	var out []string
	add := func(s string) {
		if len(s) < maxSample && enforced.MatchString(s) && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	for pick := range variants {
		s := sample(tree, pick, 0)
		add(s)
		add(s + "~after")
		add("before~" + s)
	}
	return out
}

const (
	maxSample = 1 << 12
	maxRepeat = 64
	maxNested = 200
)

// sample walks through one way of matching. Anchors and boundaries add nothing; whether the result matches is tried.
func sample(re *syntax.Regexp, pick, depth int) string {
	if depth > maxNested {
		return ""
	}
	times := func(low, high int) string {
		n := low + pick
		if high >= 0 {
			n = min(n, high)
		}
		one := sample(re.Sub[0], pick, depth+1)
		if len(one)*n > maxSample {
			n = low
		}
		return strings.Repeat(one, min(n, maxRepeat+low))
	}
	switch re.Op {
	case syntax.OpLiteral:
		return string(re.Rune)
	case syntax.OpCharClass:
		if len(re.Rune) < 2 {
			return ""
		}
		from := re.Rune[2*(pick%(len(re.Rune)/2))]
		to := re.Rune[2*(pick%(len(re.Rune)/2))+1]
		return string(min(max(from, 'a'), to))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return string("x/y=z"[pick%5])
	case syntax.OpCapture:
		return sample(re.Sub[0], pick, depth+1)
	case syntax.OpStar:
		return times(0, -1)
	case syntax.OpPlus:
		return times(1, -1)
	case syntax.OpQuest:
		return times(0, 1)
	case syntax.OpRepeat:
		return times(re.Min, re.Max)
	case syntax.OpConcat:
		var b strings.Builder
		for _, sub := range re.Sub {
			b.WriteString(sample(sub, pick, depth+1))
		}
		return b.String()
	case syntax.OpAlternate:
		return sample(re.Sub[pick%len(re.Sub)], pick/len(re.Sub), depth+1)
	}
	return ""
}
