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
	got := hex.EncodeToString(routeRequest(netip.MustParseAddr("192.168.127.1")))
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

func TestMask(t *testing.T) {
	t.Parallel()
	for bits, want := range map[int][4]byte{0: {}, 1: {128}, 24: {255, 255, 255, 0}, 32: {255, 255, 255, 255}} {
		if got := mask(bits); got != want {
			t.Errorf("mask of %d bits is %v, want %v", bits, got, want)
		}
	}
}

func TestDefault(t *testing.T) {
	t.Parallel()
	c := Default()
	if !c.Address.Contains(c.Gateway) || !c.Address.Contains(c.DNS) || c.Address.Addr() == c.Gateway {
		t.Errorf("the network %+v does not hold together", c)
	}
	if got := c.ResolvConf(); got != "nameserver 192.168.127.1\n" {
		t.Errorf("resolv.conf is %q", got)
	}
}
