// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/sandbox/network"
)

// networkOptions say what a group reaches: the mode of its network, and what is said beside it.
type networkOptions struct {
	Mode                string
	hostPorts           []uint
	addresses, gateways []string
	identity            string
}

func (o *networkOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.Mode, "network", group.NetworkNAT, "nat, ingress (only published ports), none, or the host's: tap:NAME or bridge:NAME")
	fixedValues(c, "network", group.NetworkNAT, group.NetworkIngress, group.NetworkNone)
	f.UintSliceVar(&o.hostPorts, "host-port", nil, "TCP port of this machine's loopback that the group may reach, at "+network.HostName)
	f.StringVar(&o.identity, "identity-token", "", "file with an access token, in place of the group's managed identity; for development")
	f.StringArrayVar(&o.addresses, "address", nil, "the group's address on a network of the host, such as 10.1.2.3/24")
	f.StringArrayVar(&o.gateways, "gateway", nil, "its router there; one of each family")
}

// check refuses what a network can not have.
func (o *networkOptions) check(cmd *cobra.Command) error {
	mode := o.Mode
	err := group.ValidateNetwork(mode)
	if err != nil {
		return console.Usage(cmd, "--network: "+err.Error())
	}
	for _, p := range o.hostPorts {
		if p == 0 || p > math.MaxUint16 {
			return console.Usage(cmd, fmt.Sprintf("--host-port is %d; want 1 to %d", p, math.MaxUint16))
		}
	}
	neighbour := group.Neighbourly(mode)
	if o.identity != "" {
		o.identity, err = filepath.Abs(o.identity)
		if err == nil {
			_, err = os.Stat(o.identity)
		}
		if err != nil {
			return console.Usage(cmd, "--identity-token: "+err.Error())
		}
		if neighbour || mode == group.NetworkNone {
			return console.Usage(cmd, "--identity-token and --network "+mode+" exclude each other")
		}
	}
	switch {
	case neighbour && len(o.addresses) == 0:
		return console.Usage(cmd, "--network "+mode+" needs --address: nothing there is asked for one")
	case neighbour && len(o.hostPorts) > 0, mode == group.NetworkNone && len(o.hostPorts) > 0:
		return console.Usage(cmd, "--host-port and --network "+mode+" exclude each other")
	case !neighbour && len(o.addresses)+len(o.gateways) > 0:
		return console.Usage(cmd, "--address and --gateway are for --network tap:NAME and bridge:NAME; --network "+mode+" brings its own")
	}
	for _, a := range o.addresses {
		_, err = netip.ParsePrefix(a)
		if err != nil {
			return console.Usage(cmd, "--address: "+err.Error())
		}
	}
	for _, g := range o.gateways {
		_, err = netip.ParseAddr(g)
		if err != nil {
			return console.Usage(cmd, "--gateway: "+err.Error())
		}
	}
	return nil
}

// apply puts the options into a plan. On a network of the host, published ports are the group's own ports, and nothing
// forwards to them.
func (o *networkOptions) apply(plan *group.Plan) {
	plan.Network, plan.Addresses, plan.Gateways, plan.IdentityFile = o.Mode, o.addresses, o.gateways, o.identity
	if group.Neighbourly(o.Mode) {
		plan.Ports = nil
	}
	for _, p := range o.hostPorts {
		plan.HostPorts = append(plan.HostPorts, uint16(p)) // checked with the flags
	}
}
