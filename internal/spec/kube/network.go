// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"slices"
	"strconv"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// network reads names, hosts and resolver of the pod.
func (p *pod) network(*doc.Value) error {
	var err error
	if p.group.Hostname, err = text(p.spec, "hostname"); err != nil {
		return err
	}
	list, err := items(p.spec, "hostAliases")
	if err != nil {
		return err
	}
	for _, v := range list {
		if err := checkKeys(v, "ip", "hostnames"); err != nil {
			return err
		}
		var a spec.HostAlias
		if a.Address, err = text(v, "ip"); err != nil {
			return err
		}
		if a.Names, err = texts(v, "hostnames"); err != nil {
			return err
		}
		p.group.HostAliases = append(p.group.HostAliases, a)
	}
	return p.resolver()
}

// resolver reads how names are resolved. There is no cluster whose names could come first, so every policy but None
// means what the network brings, unless the pod names servers.
func (p *pod) resolver() error {
	policy, err := text(p.spec, "dnsPolicy")
	if err != nil {
		return err
	}
	if !slices.Contains([]string{"", "ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"}, policy) {
		return p.spec.Get("dnsPolicy").Errorf("dnsPolicy %q is not known", policy)
	}
	v := p.spec.Get("dnsConfig")
	if !v.IsNull() {
		if err := checkKeys(v, "nameservers", "searches", "options"); err != nil {
			return err
		}
	}
	d := &p.group.DNS
	if d.Servers, err = texts(v, "nameservers"); err != nil {
		return err
	}
	if d.Search, err = texts(v, "searches"); err != nil {
		return err
	}
	options, err := items(v, "options")
	if err != nil {
		return err
	}
	for _, o := range options {
		name, err := text(o, "name")
		if err != nil {
			return err
		}
		value, err := text(o, "value")
		if err != nil {
			return err
		}
		if value != "" {
			name += ":" + value
		}
		d.Options = append(d.Options, name)
	}
	if policy == "None" && len(d.Servers) == 0 {
		return p.spec.Errorf("dnsPolicy is None, and dnsConfig names no servers")
	}
	return nil
}

// ports reads those of a container, and forwards the ones that it has the node forward.
func (p *pod) ports(c *doc.Value, out *spec.Container) error {
	list, err := items(c, "ports")
	if err != nil {
		return err
	}
	for _, v := range list {
		if err := checkKeys(v, "name", "containerPort", "hostPort", "hostIP", "protocol"); err != nil {
			return err
		}
		port := spec.Port{}
		if port.Protocol, err = protocol(v); err != nil {
			return err
		}
		if port.GuestPort, err = count(v, "containerPort"); err != nil {
			return err
		}
		out.Exposed = append(out.Exposed, port)
		if port.HostPort, err = count(v, "hostPort"); err != nil {
			return err
		}
		if port.HostPort == 0 {
			continue
		}
		if port.HostIP, err = text(v, "hostIP"); err != nil {
			return err
		}
		p.group.Ports = append(p.group.Ports, port)
	}
	return nil
}

func protocol(v *doc.Value) (spec.Protocol, error) {
	s, err := text(v, "protocol")
	switch {
	case err != nil:
		return "", err
	case s == "" || s == "TCP":
		return spec.TCP, nil
	case s == "UDP":
		return spec.UDP, nil
	}
	return "", v.Get("protocol").Errorf("protocol %q is neither TCP nor UDP", s)
}

// portOf reads the port of a probe or hook: a number, or a name among the container's ports.
func portOf(c, v *doc.Value) (uint16, error) {
	w := v.Get("port")
	if w.IsNull() {
		return 0, v.Errorf("the port is missing")
	}
	number := w.Text
	if w.Kind == doc.String {
		for _, p := range c.Get("ports").ItemsOf() {
			if textOf(p.Get("name")) == w.Text && p.Get("containerPort") != nil {
				number = p.Get("containerPort").Text
			}
		}
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 {
		return 0, w.Errorf("%q is neither a port from 1 to 65535 nor the name of one of the container's", w.Text)
	}
	return uint16(n), nil
}

// published forwards the ports of Services that select the pod and are reached from outside of a cluster.
func (p *pod) published(*doc.Value) error {
	for _, s := range p.services {
		v := s.Get("spec")
		kind := textOf(v.Get("type"))
		if kind != "NodePort" && kind != "LoadBalancer" || !p.selects(s) {
			continue
		}
		list, err := items(v, "ports")
		if err != nil {
			return err
		}
		for _, port := range list {
			out, err := p.target(port)
			if err != nil {
				return err
			}
			same := func(q spec.Port) bool {
				return q.Protocol == out.Protocol && q.HostPort == out.HostPort && q.GuestPort == out.GuestPort
			}
			if !slices.ContainsFunc(p.group.Ports, same) {
				p.group.Ports = append(p.group.Ports, out)
			}
		}
	}
	return nil
}

// selects says whether a Service leads to the pod: it has every label that the selector names.
func (p *pod) selects(service *doc.Value) bool {
	namespace := func(s string) string {
		if s == "" {
			return "default"
		}
		return s
	}
	selector := service.Get("spec").Get("selector").MembersOf()
	if len(selector) == 0 || namespace(textOf(service.Get("metadata").Get("namespace"))) != namespace(p.namespace) {
		return false
	}
	for _, m := range selector {
		label := p.meta.Get("labels").Get(m.Key)
		if label == nil || label.Kind != doc.String || textOf(m.Value) != label.Text {
			return false
		}
	}
	return true
}

// target reads one port of a Service: where it leads to is a number, or a name among the ports of all containers.
func (p *pod) target(v *doc.Value) (spec.Port, error) {
	var out spec.Port
	var err error
	if out.Protocol, err = protocol(v); err != nil {
		return out, err
	}
	if out.HostPort, err = count(v, "port"); err != nil {
		return out, err
	}
	if out.HostPort == 0 {
		return out, v.Errorf("a port of a Service is missing")
	}
	to := v.Get("targetPort")
	switch {
	case to.IsNull():
		out.GuestPort = out.HostPort
		return out, nil
	case to.Kind != doc.String:
		out.GuestPort, err = count(v, "targetPort")
		return out, err
	}
	for _, c := range p.spec.Get("containers").ItemsOf() {
		for _, port := range c.Get("ports").ItemsOf() {
			if textOf(port.Get("name")) == to.Text {
				out.GuestPort, err = count(port, "containerPort")
				return out, err
			}
		}
	}
	if n, err := strconv.ParseUint(to.Text, 10, 16); err == nil {
		out.GuestPort = int(n)
		return out, nil
	}
	return out, to.Errorf("no container has a port named %q", to.Text)
}
