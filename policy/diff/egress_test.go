// SPDX-License-Identifier: Apache-2.0

package diff

import (
	"testing"

	"cofferdam.dev/policy"
)

func TestEgress(t *testing.T) {
	t.Parallel()
	list := func(rules ...policy.EgressRule) *policy.Egress { return &policy.Egress{Rules: rules} }
	rule := func(prefix, protocol string, ports ...uint16) policy.EgressRule {
		return policy.EgressRule{Prefix: prefix, Protocol: protocol, Ports: ports}
	}
	web, wide := rule("192.0.2.0/24", "tcp", 443), rule("192.0.0.0/16", "tcp")
	halves := list(rule("192.0.2.0/25", "tcp", 443), rule("192.0.2.128/25", "tcp", 443))
	for name, tc := range map[string]struct {
		a, b *policy.Egress
		want Relation
	}{
		"no limit":         {nil, list(web), Wider},
		"nothing":          {list(), list(web), Narrower},
		"order":            {list(web, wide), list(wide, web), Equal},
		"wider prefix":     {list(web), list(wide), Narrower},
		"another prefix":   {list(web), list(rule("198.51.100.0/24", "tcp", 443)), Incomparable},
		"another protocol": {list(web), list(rule("192.0.2.0/24", "udp", 443)), Incomparable},
		"one port less":    {list(rule("192.0.2.0/24", "tcp", 80, 443)), list(web), Wider},
		"all ports":        {list(rule("192.0.2.0/24", "tcp")), list(web), Wider},
		"other than tcp and udp": {
			list(rule("192.0.2.0/24", "any")), list(rule("192.0.2.0/24", "tcp"), rule("192.0.2.0/24", "udp")), Wider,
		},
		"everywhere, and not by IPv6": {list(rule("0.0.0.0/0", "any")), nil, Narrower},
		"two halves":                  {list(web), halves, Undecided}, // they are the same, and no rule concludes that
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := func(e *policy.Egress) []byte { return testPolicy(func(p *policy.Policy) { p.Egress = e }) }
			r := compare(t, text(tc.a), text(tc.b))
			if r.Relation != tc.want {
				t.Errorf("%s, want %s; %+v, %+v, notes %q", r.Relation, tc.want, r.OnlyFirst, r.OnlySecond, r.Notes)
			}
			if name != "order" && len(r.Changes) == 0 {
				t.Error("no change was named")
			}
		})
	}
}

// TestEgressChanges holds which way each change of the text goes.
func TestEgressChanges(t *testing.T) {
	t.Parallel()
	web := policy.EgressRule{Prefix: "192.0.2.0/24", Protocol: "tcp", Ports: []uint16{443}}
	for name, tc := range map[string]struct {
		a, b *policy.Egress
		want Effect
		risk string
	}{
		"a limit":     {nil, &policy.Egress{}, Narrows, riskLow},
		"no limit":    {&policy.Egress{}, nil, Widens, riskHigh},
		"a rule":      {&policy.Egress{}, &policy.Egress{Rules: []policy.EgressRule{web}}, Widens, riskHigh},
		"a rule less": {&policy.Egress{Rules: []policy.EgressRule{web}}, &policy.Egress{}, Narrows, riskLow},
	} {
		text := func(e *policy.Egress) []byte { return testPolicy(func(p *policy.Policy) { p.Egress = e }) }
		r := compare(t, text(tc.a), text(tc.b))
		if len(r.Changes) != 1 || r.Changes[0].Effect != tc.want || r.Changes[0].Risk != tc.risk {
			t.Errorf("%s: %+v", name, r.Changes)
		}
	}
}
