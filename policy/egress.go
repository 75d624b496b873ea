// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Egress is what the containers of a group may connect to. Without rules that is nothing.
type Egress struct {
	Rules []EgressRule
}

// EgressRule allows traffic to the addresses of a prefix. Every field has a value in the text; a list of no ports means
// all of them.
type EgressRule struct {
	Ports    []uint16 `json:"ports"`
	Prefix   string   `json:"prefix"`   // CIDR of IPv4 or IPv6, without bits beyond its length
	Protocol string   `json:"protocol"` // ProtocolTCP, ProtocolUDP, or ProtocolAny with no ports
}

// The protocols of an egress rule. Any is every protocol above IP.
const (
	ProtocolTCP = "tcp"
	ProtocolUDP = "udp"
	ProtocolAny = "any"
)

// The limits of an egress list. They keep the program that enforces it far below what the kernel takes.
const (
	MaxEgressRules = 128
	MaxEgressPorts = 1024 // of all rules together
)

// ParseEgress reads the JSON value of allow_egress. It accepts what Validate does, and no other keys.
func ParseEgress(data []byte) (*Egress, error) {
	var list []struct {
		Ports    *[]uint16 `json:"ports"`
		Prefix   *string   `json:"prefix"`
		Protocol *string   `json:"protocol"`
	}
	err := strictUnmarshal(data, &list)
	if err != nil {
		return nil, err
	}
	if list == nil {
		return nil, errors.New("it is null, expected a list")
	}
	e := &Egress{}
	for i, r := range list {
		if r.Ports == nil || r.Prefix == nil || r.Protocol == nil {
			return nil, fmt.Errorf("rule %d has not each of ports, prefix and protocol", i)
		}
		e.Rules = append(e.Rules, EgressRule{Ports: *r.Ports, Prefix: *r.Prefix, Protocol: *r.Protocol})
	}
	return e, e.Validate()
}

// Validate checks every rule. There is one way to write each: a prefix in its shortest form, ports in rising order.
func (e *Egress) Validate() error {
	if len(e.Rules) > MaxEgressRules {
		return fmt.Errorf("it has %d rules, at most %d are allowed", len(e.Rules), MaxEgressRules)
	}
	ports := 0
	for i, r := range e.Rules {
		err := r.validate()
		if err != nil {
			return fmt.Errorf("rule %d: %w", i, err)
		}
		ports += len(r.Ports)
	}
	if ports > MaxEgressPorts {
		return fmt.Errorf("it has %d ports, at most %d are allowed", ports, MaxEgressPorts)
	}
	return nil
}

func (r EgressRule) validate() error {
	p, err := netip.ParsePrefix(r.Prefix)
	if err != nil {
		return err
	}
	if p.Addr().Is4In6() || p.Masked().String() != r.Prefix {
		return fmt.Errorf("prefix is %q, expected %q", r.Prefix, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()).Masked())
	}
	switch r.Protocol {
	case ProtocolTCP, ProtocolUDP:
	case ProtocolAny:
		if len(r.Ports) > 0 {
			return fmt.Errorf("protocol %q has no ports; give a rule for each of tcp and udp", r.Protocol)
		}
	default:
		return fmt.Errorf("protocol is %q, expected %q, %q or %q", r.Protocol, ProtocolTCP, ProtocolUDP, ProtocolAny)
	}
	for i, port := range r.Ports {
		if port == 0 || i > 0 && r.Ports[i-1] >= port {
			return fmt.Errorf("ports %v are not in rising order from 1 on", r.Ports)
		}
	}
	return nil
}

// Allows says whether a connection may be made. It is what the guest enforces, in words of Go: nil allows everything.
// The group's own addresses, which are always allowed, are not known here.
func (e *Egress) Allows(to netip.Addr, protocol string, port uint16) bool {
	if e == nil {
		return true
	}
	to = to.Unmap()
	return slices.ContainsFunc(e.Rules, func(r EgressRule) bool {
		p, err := netip.ParsePrefix(r.Prefix)
		return err == nil && p.Contains(to) && (r.Protocol == ProtocolAny || r.Protocol == protocol) &&
			(len(r.Ports) == 0 || slices.Contains(r.Ports, port))
	})
}

// Within says that f allows all that e does. It looks at one rule of e at a time: where several rules of f cover one of
// e only together, it says no.
func (e *Egress) Within(f *Egress) bool {
	switch {
	case f == nil:
		return true
	case e == nil:
		return false
	}
	return !slices.ContainsFunc(e.Rules, func(r EgressRule) bool { return !slices.ContainsFunc(f.Rules, r.within) })
}

func (r EgressRule) within(big EgressRule) bool {
	p, err := netip.ParsePrefix(r.Prefix)
	q, errQ := netip.ParsePrefix(big.Prefix)
	return err == nil && errQ == nil && q.Bits() <= p.Bits() && q.Contains(p.Addr()) &&
		(big.Protocol == ProtocolAny || big.Protocol == r.Protocol) &&
		(len(big.Ports) == 0 || len(r.Ports) > 0 &&
			!slices.ContainsFunc(r.Ports, func(port uint16) bool { return !slices.Contains(big.Ports, port) }))
}

// MarshalJSON writes the list as the text has it.
func (e Egress) MarshalJSON() ([]byte, error) { return marshal(e.filled()) }

// UnmarshalJSON is ParseEgress.
func (e *Egress) UnmarshalJSON(data []byte) error {
	read, err := ParseEgress(data)
	if err != nil {
		return err
	}
	*e = *read
	return nil
}

// filled returns a copy whose lists are empty where they were nil.
func (e Egress) filled() []EgressRule {
	out := slices.Clone(filled(e.Rules))
	for i := range out {
		out[i].Ports = filled(out[i].Ports)
	}
	return out
}
