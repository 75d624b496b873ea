// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ParsePort reads [IP:]HOST:GUEST[/tcp|/udp]; an IPv6 address is in brackets.
func ParsePort(s string) (Port, error) {
	bad := func(why string) (Port, error) {
		return Port{}, fmt.Errorf("port %q: %s; expected [IP:]HOST:GUEST[/udp]", s, why)
	}
	p := Port{Protocol: TCP}
	rest, proto, given := strings.Cut(s, "/")
	if given {
		p.Protocol = Protocol(proto)
		if p.Protocol != TCP && p.Protocol != UDP {
			return bad(fmt.Sprintf("protocol %q is neither tcp nor udp", proto))
		}
	}
	i := strings.LastIndexByte(rest, ':')
	if i < 0 {
		return bad("no colon")
	}
	host, guest := rest[:i], rest[i+1:]
	if i = strings.LastIndexByte(host, ':'); i >= 0 {
		ip, err := parseIP(host[:i])
		if err != nil {
			return bad(err.Error())
		}
		p.HostIP, host = ip, host[i+1:]
	}
	var err error
	if p.HostPort, err = parsePortNumber(host); err != nil {
		return bad("host: " + err.Error())
	}
	if p.GuestPort, err = parsePortNumber(guest); err != nil {
		return bad("guest: " + err.Error())
	}
	return p, nil
}

func parseIP(s string) (string, error) {
	bare, bracketed := strings.CutPrefix(s, "[")
	if bracketed {
		closed := false
		if bare, closed = strings.CutSuffix(bare, "]"); !closed {
			return "", fmt.Errorf("%q is no IP address", s)
		}
	}
	ip, err := netip.ParseAddr(bare)
	if err != nil || bracketed != ip.Is6() || ip.Zone() != "" {
		return "", fmt.Errorf("%q is no IP address (IPv6 needs brackets)", s)
	}
	return ip.String(), nil
}

func parsePortNumber(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || s[0] == '+' {
		return 0, fmt.Errorf("%q is not a port from 1 to 65535", s)
	}
	return int(n), nil
}

// memoryUnits are in MiB.
var memoryUnits = map[string]int{"m": 1, "mb": 1, "mib": 1, "g": 1024, "gb": 1024, "gib": 1024}

// ParseMemory reads a size such as 512m or 2GiB. Units are powers of 1024 and may not be left out: a bare number means
// bytes to some tools and megabytes to others.
func ParseMemory(s string) (int, error) {
	unit := strings.TrimLeft(s, "0123456789.")
	number := s[:len(s)-len(unit)]
	factor, ok := memoryUnits[strings.ToLower(unit)]
	switch {
	case number == "" || strings.Contains(number, "."):
		return 0, fmt.Errorf("memory %q is no whole number with a unit, such as 512m or 2g", s)
	case unit == "":
		return 0, fmt.Errorf("memory %q has no unit: write %sm for MiB, or %sg for GiB", s, s, s)
	case !ok:
		return 0, fmt.Errorf("memory %q: unit %q is none of m, g, MiB, GiB", s, unit)
	}
	n, err := strconv.ParseUint(number, 10, 24)
	if err != nil {
		return 0, fmt.Errorf("memory %q is too much", s)
	}
	return int(n) * factor, nil
}
