// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"net/netip"
	"slices"

	"cofferdam.dev/internal/agent/container"
	"cofferdam.dev/internal/agent/machine/egress"
	"cofferdam.dev/policy"
)

// Limiter limits what containers connect to, those that run and those to come. It is an egress.Limiter.
type Limiter interface {
	// Limit puts a list in force, once. own are the guest's addresses.
	Limit(list *policy.Egress, own []netip.Addr) error
}

// limitEgress puts the policy's list in force. It is called before a container is made: if it fails, there is none.
func (s *Service) limitEgress() error {
	list := s.policy.Egress()
	switch {
	case list == nil:
		return nil
	case s.cfg.Egress == nil:
		return errors.New("the policy limits what containers connect to, and this guest can not enforce it")
	}
	return s.cfg.Egress.Limit(list, s.network.Addresses)
}

// withhold takes the capabilities from a process that would let it get around the policy's list.
func (s *Service) withhold(p *container.Process) {
	if s.policy.Egress() == nil {
		return
	}
	c := &p.Capabilities
	for _, set := range []*[]string{&c.Bounding, &c.Effective, &c.Permitted, &c.Inheritable, &c.Ambient} {
		*set = slices.DeleteFunc(slices.Clone(*set), func(name string) bool { return slices.Contains(egress.Withheld(), name) })
	}
}
