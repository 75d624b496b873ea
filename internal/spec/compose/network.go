// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// maxRange bounds a range of ports.
const maxRange = 1000

// ports reads the ports that are forwarded, and those that neighbours use.
func (r *reader) ports(v *doc.Value, c *spec.Container) error {
	list := v.Get("ports")
	if !list.IsNull() && list.Kind != doc.Array {
		return list.Errorf("ports is %s, expected a list", list.Kind)
	}
	if list != nil {
		for _, item := range list.Items {
			ports, err := r.port(item)
			if err != nil {
				return err
			}
			for _, p := range ports {
				target := strconv.Itoa(p.GuestPort) + "/" + string(p.Protocol)
				if other, taken := r.targets[target]; taken && other != c.Name {
					return item.Errorf("services %q and %q both listen on port %s, and a group has one network: let one of them use another port", other, c.Name, target)
				}
				r.targets[target] = c.Name
			}
			r.group.Ports = append(r.group.Ports, ports...)
		}
	}
	exposed, err := r.texts(v, "expose")
	if err != nil {
		return err
	}
	for _, text := range exposed {
		ports, err := portsOf("", "", text)
		if err != nil {
			return v.Get("expose").Errorf("%w", err)
		}
		c.Exposed = append(c.Exposed, ports...)
	}
	return nil
}

// port reads one entry, in its short or its long form.
func (r *reader) port(v *doc.Value) ([]spec.Port, error) {
	if v.Kind != doc.Object {
		s, err := r.str(v)
		if err != nil {
			return nil, err
		}
		ip, host, guest := splitPort(s)
		ports, err := portsOf(ip, host, guest)
		if err != nil {
			return nil, v.Errorf("port %q: %w", s, err)
		}
		return ports, nil
	}
	if err := checkKeys(v, "name", "target", "published", "host_ip", "protocol", "app_protocol", "mode"); err != nil {
		return nil, err
	}
	part := map[string]string{}
	for _, key := range []string{"target", "published", "host_ip", "protocol"} {
		s, err := r.text(v, key)
		if err != nil {
			return nil, err
		}
		part[key] = s
	}
	guest := part["target"]
	if part["protocol"] != "" {
		guest += "/" + part["protocol"]
	}
	ports, err := portsOf(part["host_ip"], part["published"], guest)
	if err != nil {
		return nil, v.Errorf("port %q: %w", part["target"], err)
	}
	return ports, nil
}

// splitPort takes [[IP:]HOST:]GUEST apart, from its end.
func splitPort(s string) (ip, host, guest string) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", "", s
	}
	host, guest = s[:i], s[i+1:]
	if i = strings.LastIndexByte(host, ':'); i < 0 {
		return "", host, guest
	}
	ip, host = host[:i], host[i+1:]
	if strings.HasPrefix(ip, "[") && strings.HasSuffix(ip, "]") {
		ip = ip[1 : len(ip)-1]
	}
	return ip, host, guest
}

// portsOf pairs the ports of two ranges. Without one of the host each gets any that is free.
func portsOf(ip, host, guest string) ([]spec.Port, error) {
	guest, protocol, given := strings.Cut(guest, "/")
	p := spec.Port{Protocol: spec.TCP}
	if given {
		if p.Protocol = spec.Protocol(protocol); p.Protocol != spec.TCP && p.Protocol != spec.UDP {
			return nil, fmt.Errorf("protocol %q is neither tcp nor udp", protocol)
		}
	}
	if ip != "" {
		address, err := netip.ParseAddr(ip)
		if err != nil || address.Zone() != "" {
			return nil, fmt.Errorf("%q is no IP address", ip)
		}
		p.HostIP = address.String()
	}
	first, last, err := portRange(guest)
	if err != nil {
		return nil, err
	}
	hostFirst, hostLast := 0, last-first
	if host != "" {
		if hostFirst, hostLast, err = portRange(host); err != nil {
			return nil, fmt.Errorf("of the host: %w", err)
		}
	}
	if hostLast-hostFirst != last-first {
		return nil, fmt.Errorf("the host has %d ports for %d", hostLast-hostFirst+1, last-first+1)
	}
	var out []spec.Port
	for i := range last - first + 1 {
		p.GuestPort = first + i
		if host != "" {
			p.HostPort = hostFirst + i
		}
		out = append(out, p)
	}
	return out, nil
}

// portRange reads FIRST[-LAST].
func portRange(s string) (first, last int, err error) {
	from, to, ranged := strings.Cut(s, "-")
	if !ranged {
		to = from
	}
	numbers := [2]int{}
	for i, text := range []string{from, to} {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return 0, 0, fmt.Errorf("%q is not a port from 1 to 65535", text)
		}
		numbers[i] = int(n)
	}
	if numbers[1] < numbers[0] || numbers[1]-numbers[0] >= maxRange {
		return 0, 0, fmt.Errorf("%q is no range of up to %d ports", s, maxRange)
	}
	return numbers[0], numbers[1], nil
}

// name adds a name under which a service is found.
func (r *reader) name(s string) {
	if s != "" && !slices.Contains(r.names, s) {
		r.names = append(r.names, s)
	}
}

// network reads names, hosts and resolver. All of them are the group's.
func (r *reader) network(v *doc.Value, c *spec.Container) error {
	hostname, err := r.text(v, "hostname")
	if err != nil {
		return err
	}
	own, err := r.text(v, "container_name")
	if err != nil {
		return err
	}
	for _, name := range []string{c.Name, own, hostname} {
		r.name(name)
	}
	if err := r.aliases(v.Get("networks")); err != nil {
		return err
	}
	if r.group.Hostname == "" {
		r.group.Hostname = hostname
	} else if hostname != "" && hostname != r.group.Hostname {
		r.warnings.Add(spec.WarnChanged, v.Get("hostname").Path, "the group has one host name, %s; %s is another name of it", r.group.Hostname, hostname)
	}
	if err := r.hosts(v.Get("extra_hosts")); err != nil {
		return err
	}
	return r.dns(v, c)
}

// aliases reads the further names of a service in its networks. The networks themselves are one.
func (r *reader) aliases(networks *doc.Value) error {
	for _, m := range networks.MembersOf() {
		if m.Value.IsNull() {
			continue
		}
		names, err := r.texts(m.Value, "aliases")
		if err != nil {
			return err
		}
		for _, name := range names {
			r.name(name)
		}
	}
	return nil
}

// hosts reads addresses of names, as a list or as an object.
func (r *reader) hosts(v *doc.Value) error {
	if v.IsNull() {
		return nil
	}
	if v.Kind != doc.Object {
		if v.Kind != doc.Array {
			return v.Errorf("extra_hosts is %s, expected a list or an object", v.Kind)
		}
		for _, item := range v.Items {
			s, err := r.str(item)
			if err != nil {
				return err
			}
			name, address, ok := strings.Cut(s, "=")
			if !ok {
				name, address, _ = strings.Cut(s, ":")
			}
			if err := r.host(item, name, address); err != nil {
				return err
			}
		}
		return nil
	}
	for _, m := range v.Members {
		list := []*doc.Value{m.Value}
		if m.Value.Kind == doc.Array {
			list = m.Value.Items
		}
		for _, item := range list {
			address, err := r.str(item)
			if err != nil {
				return err
			}
			if err := r.host(item, m.Key, address); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *reader) host(at *doc.Value, name, address string) error {
	bare := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(address), "["), "]")
	ip, err := netip.ParseAddr(bare)
	if err != nil || ip.Zone() != "" {
		return at.Errorf("%q has address %q, which is none: nothing of the host is reached by a name", name, address)
	}
	i := slices.IndexFunc(r.group.HostAliases, func(a spec.HostAlias) bool { return a.Address == ip.String() })
	if i < 0 {
		r.group.HostAliases = append(r.group.HostAliases, spec.HostAlias{Address: ip.String(), Names: []string{name}})
	} else if a := &r.group.HostAliases[i]; !slices.Contains(a.Names, name) {
		a.Names = append(a.Names, name)
	}
	return nil
}

// dns reads the resolver. Services that name one must name the same.
func (r *reader) dns(v *doc.Value, c *spec.Container) error {
	var d spec.DNS
	for key, to := range map[string]*[]string{"dns": &d.Servers, "dns_search": &d.Search, "dns_opt": &d.Options} {
		list := v.Get(key)
		var err error
		if !list.IsNull() && list.Kind != doc.Array {
			var s string
			if s, err = r.text(v, key); err == nil {
				*to = []string{s}
			}
		} else {
			*to, err = r.texts(v, key)
		}
		if err != nil {
			return err
		}
	}
	if len(d.Servers)+len(d.Search)+len(d.Options) == 0 {
		return nil
	}
	g := r.group
	if r.resolver == "" {
		r.resolver, g.DNS = c.Name, d
		if len(r.root.Get("services").MembersOf()) > 1 {
			r.warnings.Add(spec.WarnChanged, v.Path, "the resolver of service %q is that of the whole group", c.Name)
		}
		return nil
	}
	if !slices.Equal(g.DNS.Servers, d.Servers) || !slices.Equal(g.DNS.Search, d.Search) || !slices.Equal(g.DNS.Options, d.Options) {
		return v.Errorf("services %q and %q have different resolvers, and the group has one", r.resolver, c.Name)
	}
	return nil
}
