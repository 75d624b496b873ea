// SPDX-License-Identifier: Apache-2.0

package group

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"cofferdam.dev/internal/sandbox/tap"
)

// maxHostPorts bounds the ports of the host's loopback that a group may reach.
const maxHostPorts = 64

// Neighbourly says whether a plan's network is one of the host's, "tap:NAME" or "bridge:NAME" (tap.Parse), on which the
// group has addresses of its own.
func Neighbourly(network string) bool { return strings.Contains(network, ":") }

// ValidateNetwork checks the name of a network as a plan has it.
func ValidateNetwork(network string) error {
	switch {
	case network == NetworkNAT, network == NetworkIngress, network == NetworkNone:
		return nil
	case Neighbourly(network):
		_, err := tap.Parse(network)
		return err
	}
	return fmt.Errorf("network is %q, want %q, %q, %q, %s:NAME or %s:NAME", network, NetworkNAT, NetworkIngress, NetworkNone, tap.Existing, tap.Bridge)
}

func (p *Plan) validateNetwork() error {
	err := ValidateNetwork(p.Network)
	if err != nil {
		return err
	}
	if Neighbourly(p.Network) {
		return p.validateAddresses()
	}
	if len(p.Addresses)+len(p.Gateways) > 0 {
		return fmt.Errorf("plan has addresses, and network %q brings its own", p.Network)
	}
	if p.Network == NetworkNone && len(p.Ports) > 0 {
		return fmt.Errorf("network %q has no ports to forward; use %q", NetworkNone, NetworkIngress)
	}
	if len(p.HostPorts) > maxHostPorts || p.Network == NetworkNone && len(p.HostPorts) > 0 {
		return fmt.Errorf("plan has %d host ports on network %q, want at most %d, and none without a network", len(p.HostPorts), p.Network, maxHostPorts)
	}
	if p.IdentityFile != "" && (p.Network == NetworkNone || !filepath.IsAbs(p.IdentityFile)) {
		return fmt.Errorf("identity file %q on network %q: want an absolute path, and a network of the supervisor's", p.IdentityFile, p.Network)
	}
	return p.validatePorts()
}

// validateAddresses checks what a group on a network of the host's has. The guest checks the addresses themselves.
func (p *Plan) validateAddresses() error {
	if p.IdentityFile != "" {
		return fmt.Errorf("network %q has no stand-in for a managed identity", p.Network)
	}
	if len(p.Ports)+len(p.HostPorts) > 0 {
		return fmt.Errorf("network %q forwards no ports: the group is reached at its own addresses, and reaches the host at its", p.Network)
	}
	if len(p.Addresses) == 0 || len(p.Addresses) > 4 || len(p.Gateways) > 2 {
		return fmt.Errorf("network %q needs 1 to 4 addresses and at most 2 gateways, got %d and %d", p.Network, len(p.Addresses), len(p.Gateways))
	}
	for _, a := range p.Addresses {
		_, err := netip.ParsePrefix(a)
		if err != nil {
			return fmt.Errorf("address %q: %w", a, err)
		}
	}
	for _, g := range p.Gateways {
		_, err := netip.ParseAddr(g)
		if err != nil {
			return fmt.Errorf("gateway %q: %w", g, err)
		}
	}
	return nil
}

func (p *Plan) validatePorts() error {
	seen := map[string]bool{}
	for _, f := range p.Ports {
		if f.Protocol != "tcp" && f.Protocol != "udp" {
			return fmt.Errorf("port %s: protocol is %q, want tcp or udp", f, f.Protocol)
		}
		_, err := netip.ParseAddr(f.HostIP)
		if err != nil {
			return fmt.Errorf("port %s: host address: %w", f, err)
		}
		if f.GuestPort == 0 {
			return fmt.Errorf("port %s: guest port is 0", f)
		}
		key := fmt.Sprintf("%s/%s:%d", f.Protocol, f.HostIP, f.HostPort)
		if f.HostPort != 0 && seen[key] {
			return fmt.Errorf("port %s: %s is forwarded twice", f, key)
		}
		seen[key] = true
	}
	return nil
}
