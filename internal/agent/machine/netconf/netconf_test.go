// SPDX-License-Identifier: Apache-2.0

package netconf

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRouteRequest holds the message that `ip route add default via 192.168.127.1` sends, but for its flags and
// sequence number, on a little-endian machine.
func TestRouteRequest(t *testing.T) {
	t.Parallel()
	const want = "24000000" + "1800" + "0506" + "01000000" + "00000000" + // length, type, flags, sequence, port
		"02" + "00" + "00" + "00" + "fe" + "03" + "00" + "01" + "00000000" + // family … table, protocol, scope, type, flags
		"0800" + "0500" + "c0a87f01" // RTA_GATEWAY
	got := hex.EncodeToString(routeRequest(unix.RTM_NEWROUTE, create, netip.MustParseAddr("192.168.127.1")))
	if got != want {
		t.Errorf("request is\n%s, want\n%s", got, want)
	}
}

func ack(code int32) []byte {
	b := make([]byte, 36)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.NLMSG_ERROR)
	binary.NativeEndian.PutUint32(b[16:], uint32(code))
	return b
}

func TestParseAck(t *testing.T) {
	t.Parallel()
	other := ack(0)
	other[4] = unix.NLMSG_DONE
	for _, tc := range []struct {
		name string
		b    []byte
		want error
	}{
		{"success", ack(0), nil},
		{"refused", ack(-int32(unix.EEXIST)), unix.EEXIST},
		{"positive number", ack(1), errAnswer},
		{"other message", other, errAnswer},
		{"short", ack(0)[:19], errAnswer},
		{"empty", nil, errAnswer},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if err := parseAck(tc.b); !errors.Is(err, tc.want) {
				t.Errorf("error is %v, want %v", err, tc.want)
			}
		})
	}
}

func FuzzParseAck(f *testing.F) {
	f.Add(ack(0))
	f.Add(ack(-17))
	f.Fuzz(func(t *testing.T, b []byte) {
		if parseAck(b) == nil && !bytes.Equal(b[16:20], make([]byte, 4)) {
			t.Errorf("%x counts as success", b)
		}
	})
}

// TestRequests holds the messages that iproute2 sends for `address add … nodad`, `route add default` and `neighbour add …
// nud permanent`, but for flags and sequence numbers, on a little-endian machine.
func TestRequests(t *testing.T) {
	t.Parallel()
	six := netip.MustParsePrefix("fd00::2/64")
	for name, tc := range map[string]struct {
		got  []byte
		want string
	}{
		"IPv4 address": {addressRequest(unix.RTM_NEWADDR, create, 2, netip.MustParsePrefix("10.1.2.3/24")),
			"28000000" + "1400" + "0506" + "01000000" + "00000000" + "02" + "18" + "00" + "00" + "02000000" + "0800" + "0200" + "0a010203" + "0800" + "0100" + "0a010203"},
		"IPv6 address": {addressRequest(unix.RTM_DELADDR, 0, 2, six),
			"40000000" + "1500" + "0500" + "01000000" + "00000000" + "0a" + "40" + "02" + "00" + "02000000" +
				"1400" + "0200" + "fd000000000000000000000000000002" + "1400" + "0100" + "fd000000000000000000000000000002"},
		"IPv6 route": {routeRequest(unix.RTM_NEWROUTE, create, six.Addr()),
			"30000000" + "1800" + "0506" + "01000000" + "00000000" + "0a" + "00" + "00" + "00" + "fe" + "03" + "00" + "01" + "00000000" +
				"1400" + "0500" + "fd000000000000000000000000000002"},
		"neighbour": {neighbourRequest(unix.RTM_NEWNEIGH, create, 2, six.Addr(), [6]byte{1, 2, 3, 4, 5, 6}),
			"3c000000" + "1c00" + "0506" + "01000000" + "00000000" + "0a000000" + "02000000" + "8000" + "00" + "00" +
				"1400" + "0100" + "fd000000000000000000000000000002" + "0a00" + "0200" + "010203040506" + "0000"},
	} {
		if got := hex.EncodeToString(tc.got); got != tc.want {
			t.Errorf("%s: request is\n%s, want\n%s", name, got, tc.want)
		}
	}
}

func TestDefault(t *testing.T) {
	t.Parallel()
	c := Default()
	if err := c.check(); err != nil || !c.neighbour(c.DNS) || len(c.Gateways) != 2 {
		t.Errorf("the network %+v does not hold together: %v", c, err)
	}
	if got := c.ResolvConf(); got != "nameserver 192.168.127.1\n" {
		t.Errorf("resolv.conf is %q", got)
	}
}

func TestConfigureRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		addresses []string
		gateways  []string
	}{
		"nothing":              {nil, nil},
		"five addresses":       {[]string{"10.0.0.1/8", "10.0.0.2/8", "10.0.0.3/8", "10.0.0.4/8", "10.0.0.5/8"}, nil},
		"loopback":             {[]string{"127.0.0.2/8"}, nil},
		"a group":              {[]string{"224.0.0.1/4"}, nil},
		"everybody":            {[]string{"255.255.255.255/32"}, nil},
		"nobody":               {[]string{"0.0.0.0/8"}, nil},
		"link-local":           {[]string{"fe80::1/64"}, nil},
		"mapped":               {[]string{"::ffff:10.0.0.1/120"}, nil},
		"the whole world":      {[]string{"10.0.0.1/0"}, nil},
		"twice":                {[]string{"10.0.0.1/8", "10.0.0.1/16"}, nil},
		"gateway elsewhere":    {[]string{"10.0.0.1/8"}, []string{"11.0.0.1"}},
		"gateway is the guest": {[]string{"10.0.0.1/8"}, []string{"10.0.0.1"}},
		"two gateways":         {[]string{"10.0.0.1/8"}, []string{"10.0.0.2", "10.0.0.3"}},
		"three gateways":       {[]string{"10.0.0.1/8"}, []string{"10.0.0.2", "10.0.0.3", "10.0.0.4"}},
		"other family":         {[]string{"10.0.0.1/8"}, []string{"fd00::1"}},
	} {
		var addresses []netip.Prefix
		for _, a := range tc.addresses {
			addresses = append(addresses, netip.MustParsePrefix(a))
		}
		var gateways []netip.Addr
		for _, g := range tc.gateways {
			gateways = append(gateways, netip.MustParseAddr(g))
		}
		d := &Device{Config: Default()}
		err := d.Configure(addresses, gateways)
		if err == nil || errors.Is(err, ErrIncomplete) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
	d := &Device{Config: Default()}
	d.Config.Interface = "none0"
	if err := d.Configure(Default().Addresses, nil); !errors.Is(err, ErrIncomplete) {
		t.Errorf("a device that does not exist: %v", err)
	}
}
