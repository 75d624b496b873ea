// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
)

func limited(rules ...EgressRule) *Policy {
	return &Policy{APIVersion: DeployedAPI, FrameworkVersion: DeployedFramework, Egress: &Egress{Rules: rules}}
}

var someRules = []EgressRule{
	{Prefix: "192.0.2.0/24", Protocol: ProtocolTCP, Ports: []uint16{80, 443}},
	{Prefix: "2001:db8::/32", Protocol: ProtocolAny},
}

// TestEgressText holds the line and its place, and that a text without one has none.
func TestEgressText(t *testing.T) {
	t.Parallel()
	const want = "\n\nallow_egress := [\n  {\n    \"ports\": [\n      80,\n      443\n    ],\n    \"prefix\": \"192.0.2.0/24\",\n    \"protocol\": \"tcp\"\n  },\n" +
		"  {\n    \"ports\": [],\n    \"prefix\": \"2001:db8::/32\",\n    \"protocol\": \"any\"\n  }\n]\n\ncontainers := "
	if text := string(limited(someRules...).Text()); !strings.Contains(text, "fragments := []"+want) {
		t.Errorf("text is\n%s", text)
	}
	if text := string(limited().Text()); !strings.Contains(text, "\n\nallow_egress := []\n\ncontainers := ") {
		t.Errorf("text of an empty list is\n%s", text)
	}
	free := limited()
	free.Egress = nil
	if strings.Contains(string(free.Text()), "allow_egress") {
		t.Error("a text without a limit has the line")
	}
}

func TestEgressRoundTrip(t *testing.T) {
	t.Parallel()
	lists := limited(someRules...)
	lists.TrustLists = []TrustList{{Issuer: "i", Subject: "s", MinimumSVN: "1", AllowedLedgers: []string{"*"}}}
	for name, p := range map[string]*Policy{"rules": limited(someRules...), "none": limited(), "behind trust lists": lists} {
		for _, text := range [][]byte{p.Text(), p.PrettyText()} {
			got, err := Parse(text)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !bytes.Equal(got.Text(), p.Text()) || got.Egress == nil {
				t.Errorf("%s: read as\n%s", name, got.Text())
			}
		}
	}
}

func TestEgressRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ list, want string }{
		"null":             {`null`, "null"},
		"no list":          {`{}`, "cannot unmarshal"},
		"another key":      {`[{"ports":[],"prefix":"1.0.0.0/8","protocol":"tcp","name":"x"}]`, "unknown field"},
		"no ports":         {`[{"prefix":"1.0.0.0/8","protocol":"tcp"}]`, "not each of"},
		"null ports":       {`[{"ports":null,"prefix":"1.0.0.0/8","protocol":"tcp"}]`, "not each of"},
		"no protocol":      {`[{"ports":[],"prefix":"1.0.0.0/8"}]`, "not each of"},
		"a name":           {`[{"ports":[],"prefix":"example.org","protocol":"tcp"}]`, "no '/'"},
		"an address":       {`[{"ports":[],"prefix":"1.2.3.4","protocol":"tcp"}]`, "no '/'"},
		"bits beyond":      {`[{"ports":[],"prefix":"1.2.3.4/8","protocol":"tcp"}]`, `expected "1.0.0.0/8"`},
		"long form":        {`[{"ports":[],"prefix":"2001:0db8::/32","protocol":"tcp"}]`, `expected "2001:db8::/32"`},
		"mapped":           {`[{"ports":[],"prefix":"::ffff:1.2.3.0/120","protocol":"tcp"}]`, "prefix is"},
		"a zone":           {`[{"ports":[],"prefix":"fe80::%eth0/64","protocol":"tcp"}]`, "zone"},
		"another protocol": {`[{"ports":[],"prefix":"1.0.0.0/8","protocol":"icmp"}]`, "protocol is"},
		"any with ports":   {`[{"ports":[1],"prefix":"1.0.0.0/8","protocol":"any"}]`, "has no ports"},
		"port 0":           {`[{"ports":[0],"prefix":"1.0.0.0/8","protocol":"tcp"}]`, "rising order"},
		"ports twice":      {`[{"ports":[7,7],"prefix":"1.0.0.0/8","protocol":"tcp"}]`, "rising order"},
		"a large port":     {`[{"ports":[65536],"prefix":"1.0.0.0/8","protocol":"tcp"}]`, "cannot unmarshal"},
		"many rules":       {"[" + strings.Repeat(`{"ports":[],"prefix":"1.0.0.0/8","protocol":"tcp"},`, 128) + `{"ports":[],"prefix":"1.0.0.0/8","protocol":"tcp"}]`, "129 rules"},
	} {
		got, err := ParseEgress([]byte(tc.list))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %+v, %v; want %q", name, got, err, tc.want)
		}
	}
	many := limited()
	for range 2 {
		r := EgressRule{Prefix: "1.0.0.0/8", Protocol: ProtocolTCP}
		for port := range uint16(MaxEgressPorts/2 + 1) {
			r.Ports = append(r.Ports, port+1)
		}
		many.Egress.Rules = append(many.Egress.Rules, r)
	}
	_, err := Parse(many.Text())
	if err == nil || !strings.Contains(err.Error(), "allow_egress") || !strings.Contains(err.Error(), "1026 ports") {
		t.Errorf("too many ports: %v", err)
	}
}

func TestEgressAllows(t *testing.T) {
	t.Parallel()
	e := &Egress{Rules: someRules}
	for _, tc := range []struct {
		to, protocol string
		port         uint16
		want         bool
	}{
		{"192.0.2.1", "tcp", 443, true},
		{"::ffff:192.0.2.1", "tcp", 443, true},
		{"192.0.2.1", "udp", 443, false},
		{"192.0.2.1", "tcp", 22, false},
		{"192.0.3.1", "tcp", 443, false},
		{"2001:db8::1", "icmp", 0, true},
		{"2001:db9::1", "icmp", 0, false},
	} {
		if got := e.Allows(netip.MustParseAddr(tc.to), tc.protocol, tc.port); got != tc.want {
			t.Errorf("%s %s %d is %v", tc.to, tc.protocol, tc.port, got)
		}
	}
	if (&Egress{}).Allows(netip.MustParseAddr("192.0.2.1"), "tcp", 443) {
		t.Error("an empty list allows something")
	}
	if !(*Egress)(nil).Allows(netip.MustParseAddr("192.0.2.1"), "tcp", 443) {
		t.Error("no list forbids something")
	}
}

func TestEgressWithin(t *testing.T) {
	t.Parallel()
	list := func(r ...EgressRule) *Egress { return &Egress{Rules: r} }
	web := EgressRule{Prefix: "192.0.2.0/24", Protocol: ProtocolTCP, Ports: []uint16{443}}
	for name, tc := range map[string]struct {
		e, f *Egress
		want bool
	}{
		"no limits":      {nil, nil, true},
		"nothing":        {list(), list(), true},
		"limit in none":  {list(web), nil, true},
		"none in limit":  {nil, list(web), false},
		"itself":         {list(web), list(web), true},
		"longer prefix":  {list(EgressRule{Prefix: "192.0.2.128/25", Protocol: ProtocolTCP, Ports: []uint16{443}}), list(web), true},
		"shorter prefix": {list(EgressRule{Prefix: "192.0.0.0/16", Protocol: ProtocolTCP, Ports: []uint16{443}}), list(web), false},
		"all ports":      {list(EgressRule{Prefix: "192.0.2.0/24", Protocol: ProtocolTCP}), list(web), false},
		"any protocol":   {list(web), list(EgressRule{Prefix: "0.0.0.0/0", Protocol: ProtocolAny}), true},
		"other family":   {list(web), list(EgressRule{Prefix: "::/0", Protocol: ProtocolAny}), false},
	} {
		if got := tc.e.Within(tc.f); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
