// SPDX-License-Identifier: Apache-2.0

package diff

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"cofferdam.dev/policy"
	"cofferdam.dev/policy/outline"
)

// Connection is one that a container may make under one policy and not under the other.
type Connection struct {
	Address  string `json:"address"`
	Protocol string `json:"protocol"`
	Port     uint16 `json:"port"`
}

// String returns c for a message.
func (c Connection) String() string {
	return fmt.Sprintf("traffic by %s to %s, port %d", c.Protocol, c.Address, c.Port)
}

func (c Connection) allowed(e *policy.Egress) bool {
	addr, err := netip.ParseAddr(c.Address)
	return err == nil && e.Allows(addr, c.Protocol, c.Port)
}

func (s *side) egressWithin(t *side) string {
	if !s.outline.Egress.Within(t.outline.Egress) {
		return policy.EgressRuleName + " of the other policy may not cover all connections"
	}
	return ""
}

// connection looks for a connection that s allows and t does not. It tries the ends of what s allows, which finds one
// unless rules of t cover a rule of s together.
func (s *side) connection(t *side) *Connection {
	mine, theirs := s.outline.Egress, t.outline.Egress
	if theirs == nil {
		return nil
	}
	rules := []policy.EgressRule{{Prefix: "0.0.0.0/0", Protocol: policy.ProtocolAny}, {Prefix: "::/0", Protocol: policy.ProtocolAny}}
	if mine != nil {
		rules = mine.Rules
	}
	for _, r := range rules {
		for _, c := range samples(r, theirs) {
			if c.allowed(mine) && !c.allowed(theirs) {
				return &c
			}
		}
	}
	return nil
}

// samples are connections that r allows: to both ends of its prefix, and to the neighbours of what others allows.
func samples(r policy.EgressRule, others *policy.Egress) []Connection {
	var addresses []netip.Addr
	p, err := netip.ParsePrefix(r.Prefix)
	if err != nil {
		return nil
	}
	addresses = append(addresses, p.Addr(), last(p))
	ports := append([]uint16{443, 53, 1, 65535}, r.Ports...)
	for _, o := range others.Rules {
		q, err := netip.ParsePrefix(o.Prefix)
		if err != nil {
			continue
		}
		addresses = append(addresses, q.Addr(), q.Addr().Prev(), last(q).Next())
		for _, n := range o.Ports {
			ports = append(ports, n+1)
		}
	}
	protocols := []string{r.Protocol}
	if r.Protocol == policy.ProtocolAny {
		protocols = []string{policy.ProtocolTCP, policy.ProtocolUDP, "icmp"}
	}
	var out []Connection
	for _, a := range addresses {
		if !a.IsValid() || !p.Contains(a) {
			continue
		}
		for _, protocol := range protocols {
			for _, port := range ports {
				out = append(out, Connection{a.String(), protocol, port})
			}
		}
	}
	return out
}

// last is the highest address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b) // as long as an address is
	return a
}

// egressChanges compares the lists rule by rule. The list itself narrows: a text without one sets no limit.
func egressChanges(a, b *outline.Outline) []Change {
	first, second := a.Rules[policy.EgressRuleName], b.Rules[policy.EgressRuleName]
	x, y := ruleText(a, policy.EgressRuleName), ruleText(b, policy.EgressRuleName)
	var mine, theirs []json.RawMessage
	switch {
	case x == y:
		return nil
	case x == "":
		return []Change{change(policy.EgressRuleName, x, y, Narrows)}
	case y == "":
		return []Change{change(policy.EgressRuleName, x, y, Widens)}
	case json.Unmarshal(first.Constant, &mine) == nil && json.Unmarshal(second.Constant, &theirs) == nil:
		return listChanges(policy.EgressRuleName, mine, theirs)
	}
	return []Change{change(policy.EgressRuleName, x, y, Differs)}
}
