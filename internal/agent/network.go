// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/agent/machine"
)

// Bounds of what the host may say about the network.
const (
	maxNameservers = 8
	maxSearch      = 32
	maxResolver    = 16
	maxHosts       = 64
	maxHostNames   = 16
	maxAddresses   = 4
	maxGateways    = 2
)

// The forms of names in resolver and hosts files: nothing that could begin another field or line.
var (
	domainForm   = formOf(1, 253, `[A-Za-z0-9_.][A-Za-z0-9._-]*`)
	resolverForm = formOf(1, 64, `[a-z][a-z0-9-]*(:[0-9]+)?`)
	hostForm     = formOf(1, 253, `[A-Za-z0-9_][A-Za-z0-9._-]*`)
)

// ownNames are the names of the loopback addresses, which the host can not give to others.
var ownNames = []string{"localhost", "ip6-localhost", "ip6-loopback"}

// Addresses gives the network device other addresses than the built-in ones. What failed half-way and could not be undone
// is an error that wraps machine.ErrNotUndone.
type Addresses interface {
	Configure(addresses []netip.Prefix, gateways []netip.Addr) error
}

// ConfigureNetwork implements guestv1.GuestService.
func (s *Service) ConfigureNetwork(_ context.Context, r *guestv1.ConfigureNetworkRequest) (*guestv1.ConfigureNetworkResponse, error) {
	const call = "ConfigureNetwork"
	addresses, gateways, err := checkNetwork(call, r)
	if err != nil {
		return nil, err
	}
	err = s.enter(call)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	if s.settled {
		return nil, denial(guestv1.CodeWrongState, call, "the network is configured, or a container was created: it stays as it is")
	}
	n := s.network
	if len(addresses) > 0 {
		if s.cfg.Addresses == nil {
			return nil, denial(guestv1.CodeFailed, call, "the addresses of this guest's network device are fixed")
		}
		err = s.cfg.Addresses.Configure(addresses, gateways)
		if errors.Is(err, machine.ErrNotUndone) {
			return nil, s.breakDown(call, err)
		}
		if err != nil {
			return nil, failed(call, err)
		}
		n.Addresses = nil
		for _, p := range addresses {
			n.Addresses = append(n.Addresses, p.Addr())
		}
	}
	n.ResolvConf = resolvConf(r, n.ResolvConf)
	n.Hosts = hostLines(r.GetHosts())
	s.network, s.settled = n, true
	s.cfg.Runtime.SetNetwork(n)
	return &guestv1.ConfigureNetworkResponse{}, nil
}

// resolvConf is the content of the resolver files. Without name servers those of builtIn stay.
func resolvConf(r *guestv1.ConfigureNetworkRequest, builtIn string) string {
	var b strings.Builder
	if len(r.GetNameservers()) == 0 {
		b.WriteString(builtIn)
	}
	for _, a := range r.GetNameservers() {
		b.WriteString("nameserver " + a + "\n")
	}
	if len(r.GetSearch()) > 0 {
		b.WriteString("search " + strings.Join(r.GetSearch(), " ") + "\n")
	}
	if len(r.GetOptions()) > 0 {
		b.WriteString("options " + strings.Join(r.GetOptions(), " ") + "\n")
	}
	return b.String()
}

func hostLines(entries []*guestv1.HostsEntry) string {
	var b strings.Builder
	for _, e := range entries {
		b.WriteString(e.GetAddress() + " " + strings.Join(e.GetNames(), " ") + "\n")
	}
	return b.String()
}

// checkNetwork checks the form of a request and returns its addresses and gateways.
func checkNetwork(call string, r *guestv1.ConfigureNetworkRequest) ([]netip.Prefix, []netip.Addr, error) {
	c := newCheck(call)
	c.size("nameservers", len(r.GetNameservers()), 0, maxNameservers)
	for i, a := range r.GetNameservers() {
		c.address(fmt.Sprintf("nameservers[%d]", i), a)
	}
	c.forms("search", r.GetSearch(), maxSearch, domainForm)
	c.forms("options", r.GetOptions(), maxResolver, resolverForm)
	c.size("hosts", len(r.GetHosts()), 0, maxHosts)
	for i, e := range r.GetHosts() {
		at := fmt.Sprintf("hosts[%d].", i)
		c.address(at+"address", e.GetAddress())
		c.size(at+"names", len(e.GetNames()), 1, maxHostNames)
		c.forms(at+"names", e.GetNames(), maxHostNames, hostForm)
		for j, name := range e.GetNames() {
			own := slices.Contains(ownNames, strings.TrimRight(strings.ToLower(name), "."))
			c.that(!own, fmt.Sprintf("%snames[%d]", at, j), "no name of the loopback addresses", quote(name))
		}
	}
	addresses := c.deviceAddresses(r.GetAddresses())
	gateways := c.gateways(r.GetGateways(), addresses)
	return addresses, gateways, c.err()
}

func (c *check) forms(field string, list []string, most int, f form) {
	c.size(field, len(list), 0, most)
	for i, x := range list {
		c.form(fmt.Sprintf("%s[%d]", field, i), x, f)
	}
}

// address checks an address that is written in its usual form.
func (c *check) address(field, text string) netip.Addr {
	a, err := netip.ParseAddr(text)
	ok := err == nil && a.Zone() == "" && a.String() == text
	c.that(ok, field, "an address as it is usually written", quote(text))
	return a
}

// deviceAddresses checks the addresses of the network device: others can send to each of them.
func (c *check) deviceAddresses(list []string) []netip.Prefix {
	c.size("addresses", len(list), 0, maxAddresses)
	var prefixes []netip.Prefix
	for i, text := range list {
		at := fmt.Sprintf("addresses[%d]", i)
		p, err := netip.ParsePrefix(text)
		a := p.Addr()
		ok := err == nil && p.String() == text && a.IsGlobalUnicast() && !a.Is4In6() && p.Bits() > 0
		c.that(ok, at, "a unicast address with the length of its prefix, as in 10.1.2.3/24", quote(text))
		twice := slices.ContainsFunc(prefixes, func(q netip.Prefix) bool { return q.Addr() == a })
		c.that(!twice, at, "each address once", quote(text)+" again")
		prefixes = append(prefixes, p)
	}
	return prefixes
}

// gateways checks that each router is a neighbour, and the only one of its family.
func (c *check) gateways(list []string, addresses []netip.Prefix) []netip.Addr {
	c.size("gateways", len(list), 0, maxGateways)
	var gateways []netip.Addr
	for i, text := range list {
		at := fmt.Sprintf("gateways[%d]", i)
		g := c.address(at, text)
		near := slices.ContainsFunc(addresses, func(p netip.Prefix) bool {
			return p.Contains(g) && p.Addr() != g || g.Is6() && g.IsLinkLocalUnicast() && p.Addr().Is6()
		})
		c.that(near, at, "another address in the network of one of the addresses", quote(text))
		again := slices.ContainsFunc(gateways, func(o netip.Addr) bool { return o.Is4() == g.Is4() })
		c.that(!again, at, "one gateway of each family", quote(text)+" as well")
		gateways = append(gateways, g)
	}
	return gateways
}
