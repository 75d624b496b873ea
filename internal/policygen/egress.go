// SPDX-License-Identifier: Apache-2.0

package policygen

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
)

// egress writes the group's limit of connections as the policy has it. On Azure's own service nobody would enforce it,
// and a text that promises what nobody keeps is worse than none.
func egress(g *spec.Group) (*policy.Egress, error) {
	if g.Egress == nil {
		return nil, nil
	}
	if g.Platform != spec.PlatformOwn {
		return nil, errors.New("the group limits its connections (egress), which only machines of our own enforce")
	}
	out := &policy.Egress{}
	for i, r := range g.Egress.Rules {
		p, err := netip.ParsePrefix(r.Prefix)
		if err != nil {
			return nil, fmt.Errorf("egress rule %d: %w", i+1, err)
		}
		one := policy.EgressRule{Prefix: p.Masked().String(), Protocol: string(r.Protocol), Ports: slices.Clone(r.Ports)}
		slices.Sort(one.Ports)
		one.Ports = slices.Compact(one.Ports)
		switch {
		case one.Protocol != "":
			out.Rules = append(out.Rules, one)
		case len(one.Ports) == 0:
			one.Protocol = policy.ProtocolAny
			out.Rules = append(out.Rules, one)
		default: // only these have ports
			for _, protocol := range []string{policy.ProtocolTCP, policy.ProtocolUDP} {
				one.Protocol = protocol
				out.Rules = append(out.Rules, one)
			}
		}
	}
	err := out.Validate()
	if err != nil {
		return nil, fmt.Errorf("egress: %w", err)
	}
	return out, nil
}
