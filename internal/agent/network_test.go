// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/agent/container"
	"cofferdam.dev/internal/agent/machine"
	"cofferdam.dev/policy/engine"
)

func networkRequest() *guestv1.ConfigureNetworkRequest {
	return &guestv1.ConfigureNetworkRequest{
		Nameservers: []string{"192.0.2.53", "2001:db8::53"}, Search: []string{"example.org", "svc.cluster.local."},
		Options: []string{"ndots:5", "single-request-reopen"},
		Hosts:   []*guestv1.HostsEntry{{Address: "192.0.2.9", Names: []string{"db", "cache_1"}}},
	}
}

func configureNetwork(change func(*guestv1.ConfigureNetworkRequest)) call {
	return func(ctx context.Context, r *rig) error {
		return done(r.ConfigureNetwork(ctx, with(networkRequest(), change)))
	}
}

// fakeAddresses records what the network device gets.
type fakeAddresses struct {
	got string
	err error
}

func (f *fakeAddresses) Configure(addresses []netip.Prefix, gateways []netip.Addr) error {
	f.got = fmt.Sprint(addresses, gateways)
	return f.err
}

func TestConfigureNetwork(t *testing.T) {
	t.Parallel()
	builtIn := container.Network{Addresses: []netip.Addr{netip.MustParseAddr("192.168.127.2")}, ResolvConf: "nameserver 192.168.127.1\n"}
	all := "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch example.org svc.cluster.local.\noptions ndots:5 single-request-reopen\n"
	tests := map[string]struct {
		change func(*guestv1.ConfigureNetworkRequest)
		want   container.Network
		device string
	}{
		"everything but addresses": {func(*guestv1.ConfigureNetworkRequest) {},
			container.Network{Addresses: builtIn.Addresses, ResolvConf: all, Hosts: "192.0.2.9 db cache_1\n"}, ""},
		"nothing": {func(q *guestv1.ConfigureNetworkRequest) { *q = guestv1.ConfigureNetworkRequest{} }, builtIn, ""},
		"search only": {func(q *guestv1.ConfigureNetworkRequest) {
			*q = guestv1.ConfigureNetworkRequest{Search: []string{"example.org"}}
		}, container.Network{Addresses: builtIn.Addresses, ResolvConf: "nameserver 192.168.127.1\nsearch example.org\n"}, ""},
		"addresses": {func(q *guestv1.ConfigureNetworkRequest) {
			*q = guestv1.ConfigureNetworkRequest{Addresses: []string{"10.1.2.3/24", "fd00::3/64"}, Gateways: []string{"10.1.2.1", "fe80::1"}}
		}, container.Network{
			Addresses:  []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fd00::3")},
			ResolvConf: builtIn.ResolvConf,
		}, "[10.1.2.3/24 fd00::3/64] [10.1.2.1 fe80::1]"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := ready(t)
			device := &fakeAddresses{}
			r.network, r.cfg.Addresses = builtIn, device
			err := configureNetwork(tt.change)(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			opt := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
			if diff := cmp.Diff(tt.want, r.runtime.network, opt); diff != "" {
				t.Errorf("the containers' network (-want +got):\n%s", diff)
			}
			if device.got != tt.device {
				t.Errorf("the device got %q, want %q", device.got, tt.device)
			}
			err = configureNetwork(tt.change)(t.Context(), r)
			if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeWrongState {
				t.Errorf("a second time: %v, want %s", err, guestv1.CodeWrongState)
			}
		})
	}
}

// TestNetworkIsSettledByTheFirstContainer lets no container see another network than the next.
func TestNetworkIsSettledByTheFirstContainer(t *testing.T) {
	t.Parallel()
	r := ready(t)
	mounted(t, r)
	send := create(func(*guestv1.CreateContainerRequest) {})
	r.decider.decide = func(p engine.Point, _ string) engine.Decision { return engine.Decision{Point: p} }
	if send(t.Context(), r) == nil {
		t.Fatal("a denied container was created")
	}
	r.decider.decide = allowAll
	r.cfg.Addresses = &fakeAddresses{err: errors.New("no such device")}
	with := func(q *guestv1.ConfigureNetworkRequest) { q.Addresses = []string{"10.1.2.3/24"} }
	err := configureNetwork(with)(t.Context(), r)
	if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeFailed {
		t.Fatalf("a device that fails: %v, want %s", err, guestv1.CodeFailed)
	}
	r.cfg.Addresses = nil
	err = configureNetwork(with)(t.Context(), r)
	if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeFailed {
		t.Fatalf("a guest without other addresses: %v, want %s", err, guestv1.CodeFailed)
	}
	if err := send(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	err = configureNetwork(func(*guestv1.ConfigureNetworkRequest) {})(t.Context(), r)
	if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeWrongState {
		t.Errorf("after the first container: %v, want %s", err, guestv1.CodeWrongState)
	}
}

func TestNetworkThatCanNotBeUndone(t *testing.T) {
	t.Parallel()
	r := ready(t)
	r.cfg.Addresses = &fakeAddresses{err: machine.ErrNotUndone}
	err := configureNetwork(func(q *guestv1.ConfigureNetworkRequest) { q.Addresses = []string{"10.1.2.3/24"} })(t.Context(), r)
	if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeBroken {
		t.Errorf("got %v, want %s", err, guestv1.CodeBroken)
	}
}

func TestMalformedNetworks(t *testing.T) {
	t.Parallel()
	type q = guestv1.ConfigureNetworkRequest
	hosts := func(address string, names ...string) func(*q) {
		return func(r *q) { r.Hosts = []*guestv1.HostsEntry{{Address: address, Names: names}} }
	}
	addresses := func(list ...string) func(*q) { return func(r *q) { r.Addresses = list } }
	gateways := func(list ...string) func(*q) {
		return func(r *q) { r.Addresses, r.Gateways = []string{"10.1.2.3/24"}, list }
	}
	tests := map[string]struct {
		field  string
		change func(*q)
	}{
		"too many nameservers":         {"nameservers", func(r *q) { r.Nameservers = make([]string, maxNameservers+1) }},
		"nameserver's name":            {"nameservers[0]", func(r *q) { r.Nameservers = []string{"dns.example.org"} }},
		"nameserver with a line end":   {"nameservers[0]", func(r *q) { r.Nameservers = []string{"192.0.2.1\noptions x"} }},
		"nameserver with a zone":       {"nameservers[0]", func(r *q) { r.Nameservers = []string{"fe80::1%eth0"} }},
		"nameserver written otherwise": {"nameservers[0]", func(r *q) { r.Nameservers = []string{"2001:DB8::1"} }},
		"search with a space":          {"search[0]", func(r *q) { r.Search = []string{"a b"} }},
		"search with a line end":       {"search[1]", func(r *q) { r.Search = []string{"a", "b\nnameserver 192.0.2.1"} }},
		"too many search domains":      {"search", func(r *q) { r.Search = make([]string, maxSearch+1) }},
		"option with a space":          {"options[0]", func(r *q) { r.Options = []string{"ndots:5 debug"} }},
		"option empty":                 {"options[0]", func(r *q) { r.Options = []string{""} }},
		"too many options":             {"options", func(r *q) { r.Options = make([]string, maxResolver+1) }},
		"too many hosts":               {"hosts", func(r *q) { r.Hosts = make([]*guestv1.HostsEntry, maxHosts+1) }},
		"host of no address":           {"hosts[0].address", hosts("", "a")},
		"host without names":           {"hosts[0].names", hosts("192.0.2.1")},
		"host of too many names":       {"hosts[0].names", hosts("192.0.2.1", make([]string, maxHostNames+1)...)},
		"host with a line end":         {"hosts[0].names[0]", hosts("192.0.2.1", "a\n192.0.2.2 bank")},
		"host with a comment":          {"hosts[0].names[0]", hosts("192.0.2.1", "a#")},
		"another localhost":            {"hosts[0].names[1]", hosts("192.0.2.1", "a", "LocalHost")},
		"localhost with a final dot":   {"hosts[0].names[1]", hosts("192.0.2.1", "a", "localhost.")},
		"too many addresses":           {"addresses", addresses(make([]string, maxAddresses+1)...)},
		"address without a prefix":     {"addresses[0]", addresses("10.1.2.3")},
		"address of everything":        {"addresses[0]", addresses("10.1.2.3/0")},
		"loopback address":             {"addresses[0]", addresses("127.0.0.2/8")},
		"multicast address":            {"addresses[0]", addresses("224.0.0.1/4")},
		"link-local address":           {"addresses[0]", addresses("fe80::2/64")},
		"IPv4 written as IPv6":         {"addresses[0]", addresses("::ffff:10.1.2.3/112")},
		"address twice":                {"addresses[1]", addresses("10.1.2.3/24", "10.1.2.3/16")},
		"gateway elsewhere":            {"gateways[0]", gateways("10.9.0.1")},
		"gateway is the guest":         {"gateways[0]", gateways("10.1.2.3")},
		"gateway of no family":         {"gateways[0]", gateways("fe80::1")},
		"two gateways of a family":     {"gateways[1]", gateways("10.1.2.1", "10.1.2.2")},
		"too many gateways":            {"gateways", gateways(make([]string, maxGateways+1)...)},
		"gateway without addresses":    {"gateways[0]", func(r *q) { r.Gateways = []string{"192.168.127.1"} }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := ready(t)
			r.cfg.Addresses = &fakeAddresses{}
			err := configureNetwork(tt.change)(t.Context(), r)
			d := guestv1.DenialFrom(err)
			if d.GetCode() != guestv1.CodeBadRequest || d.GetField() != tt.field || strings.Contains(d.Error(), "\n") {
				t.Errorf("got %v, want %s for the field %s", err, guestv1.CodeBadRequest, tt.field)
			}
		})
	}
}
