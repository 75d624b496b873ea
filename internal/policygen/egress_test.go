// SPDX-License-Identifier: Apache-2.0

package policygen

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
)

func TestEgress(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in   *spec.Egress
		want *policy.Egress
	}{
		"no limit": {nil, nil},
		"nothing":  {&spec.Egress{}, &policy.Egress{}},
		"rules": {&spec.Egress{Rules: []spec.EgressRule{
			{Prefix: "192.0.2.0/24", Protocol: spec.TCP, Ports: []uint16{443, 80}},
			{Prefix: "2001:db8::/32"},
			{Prefix: "10.0.0.1/32", Ports: []uint16{53}},
		}}, &policy.Egress{Rules: []policy.EgressRule{
			{Prefix: "192.0.2.0/24", Protocol: "tcp", Ports: []uint16{80, 443}},
			{Prefix: "2001:db8::/32", Protocol: "any"},
			{Prefix: "10.0.0.1/32", Protocol: "tcp", Ports: []uint16{53}},
			{Prefix: "10.0.0.1/32", Protocol: "udp", Ports: []uint16{53}},
		}}},
	} {
		_, p := generate(t, func(g *spec.Group, _ *ImageFacts) { g.Egress = tc.in })
		if diff := cmp.Diff(tc.want, p.Egress); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		again, err := policy.Parse(p.Text())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, d := range Differences(again, p) {
			if d.Field == policy.EgressRuleName {
				t.Errorf("%s: read back as %s", name, d.Have)
			}
		}
	}
}

func TestEgressRefusals(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*spec.Group){
		"only machines of our own": func(g *spec.Group) { g.Platform, g.Egress = spec.PlatformACI, &spec.Egress{} },
		"egress":                   func(g *spec.Group) { g.Egress = &spec.Egress{Rules: []spec.EgressRule{{Prefix: "example.org"}}} },
	} {
		g := webGroup()
		change(&g)
		_, err := Generate(g, webFacts(), RunOptions())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
}
