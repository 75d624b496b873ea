// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"fmt"
	"net/netip"
	"strings"
)

// egressForm is what an error shows.
const egressForm = "PREFIX[:PORT[,PORT]…][/tcp|/udp], such as 192.0.2.0/24:443/tcp"

// ParseEgressList reads rules that white space separates. The word none allows nothing; an empty text is an error, since
// it could mean that or the opposite.
func ParseEgressList(s string) (*Egress, error) {
	words := strings.Fields(s)
	switch {
	case len(words) == 0:
		return nil, fmt.Errorf("egress is empty: write none to allow nothing, or leave it out to allow everything")
	case len(words) == 1 && words[0] == "none":
		return &Egress{}, nil
	}
	return ParseEgress(words)
}

// ParseEgress reads rules. No rules allow nothing.
func ParseEgress(rules []string) (*Egress, error) {
	e := &Egress{}
	for _, text := range rules {
		r, err := parseEgressRule(text)
		if err != nil {
			return nil, fmt.Errorf("egress rule %q: %w; expected %s", text, err, egressForm)
		}
		e.Rules = append(e.Rules, r)
	}
	return e, e.check()
}

func parseEgressRule(s string) (EgressRule, error) {
	var r EgressRule
	for _, p := range []Protocol{TCP, UDP} {
		if rest, ok := strings.CutSuffix(s, "/"+string(p)); ok {
			r.Protocol, s = p, rest
		}
	}
	address, rest, ok := strings.Cut(s, "/")
	if !ok {
		return r, fmt.Errorf("the length of the prefix is missing")
	}
	length, ports, given := strings.Cut(rest, ":")
	r.Prefix = address + "/" + length
	if _, err := netip.ParsePrefix(r.Prefix); err != nil {
		return r, fmt.Errorf("%q is no prefix", r.Prefix)
	}
	if !given {
		return r, nil
	}
	for text := range strings.SplitSeq(ports, ",") {
		n, err := parsePortNumber(text)
		if err != nil {
			return r, err
		}
		r.Ports = append(r.Ports, uint16(n)) // bounded by parsePortNumber
	}
	return r, nil
}
