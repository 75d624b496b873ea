// SPDX-License-Identifier: Apache-2.0

package arm

import (
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// probes reads the two probes. A policy depends on their commands alone.
func (r *reader) probes(f *frame, properties *doc.Value, c *spec.Container) error {
	for _, p := range []struct {
		key string
		to  **spec.Probe
	}{{"readinessProbe", &c.Readiness}, {"livenessProbe", &c.Liveness}} {
		v, err := f.object(properties, p.key)
		if err != nil {
			return err
		}
		if v == nil {
			continue
		}
		command, err := f.command(v)
		if err != nil {
			return err
		}
		if command != nil {
			c.AllowExec = append(c.AllowExec, command)
		}
		probe, err := f.probe(v, command)
		if err != nil {
			if err := r.soft(v, err); err != nil {
				return err
			}
			continue
		}
		*p.to = probe
	}
	return nil
}

// command reads what a probe starts in the container; nil if nothing.
func (f *frame) command(v *doc.Value) ([]string, error) {
	exec, err := f.object(v, "exec")
	if err != nil || exec == nil {
		return nil, err
	}
	if err := checkKeys(exec, "command"); err != nil {
		return nil, err
	}
	command, err := f.texts(exec, "command")
	if err == nil && len(command) == 0 {
		err = exec.Errorf("the command of a probe is missing")
	}
	return command, err
}

func (f *frame) probe(v *doc.Value, command []string) (*spec.Probe, error) {
	err := checkKeys(v, "exec", "httpget", "tcpsocket", "initialdelayseconds", "periodseconds", "timeoutseconds",
		"successthreshold", "failurethreshold")
	if err != nil {
		return nil, err
	}
	p := &spec.Probe{Action: spec.Action{Exec: command}}
	if err := f.action(v, &p.Action); err != nil {
		return nil, err
	}
	for _, n := range []struct {
		key string
		set func(int64)
	}{
		{"initialDelaySeconds", func(n int64) { p.InitialDelay = time.Duration(n) * time.Second }},
		{"periodSeconds", func(n int64) { p.Period = time.Duration(n) * time.Second }},
		{"timeoutSeconds", func(n int64) { p.Timeout = time.Duration(n) * time.Second }},
		{"successThreshold", func(n int64) { p.SuccessThreshold = int(n) }},
		{"failureThreshold", func(n int64) { p.FailureThreshold = int(n) }},
	} {
		number, err := f.whole(v, n.key)
		if err != nil {
			return nil, err
		}
		n.set(number)
	}
	return p, nil
}

// action reads what a probe does, but for its command.
func (f *frame) action(v *doc.Value, a *spec.Action) error {
	get, err := f.object(v, "httpGet")
	if err != nil {
		return err
	}
	connect, err := f.object(v, "tcpSocket")
	if err != nil {
		return err
	}
	given := 0
	for _, is := range []bool{a.Exec != nil, get != nil, connect != nil} {
		if is {
			given++
		}
	}
	if given != 1 {
		return v.Errorf("a probe needs one of exec, httpGet and tcpSocket, and has %d", given)
	}
	if get != nil {
		a.HTTP, err = f.request(get)
	}
	if connect != nil {
		if err := checkKeys(connect, "port"); err != nil {
			return err
		}
		a.TCP = &spec.TCPConnection{}
		a.TCP.Port, err = f.port(connect, "port")
	}
	return err
}

func (f *frame) request(v *doc.Value) (*spec.HTTPRequest, error) {
	if err := checkKeys(v, "path", "port", "scheme", "httpheaders"); err != nil {
		return nil, err
	}
	r := &spec.HTTPRequest{}
	var err error
	if r.Port, err = f.port(v, "port"); err != nil {
		return nil, err
	}
	if r.Path, err = f.text(v, "path"); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(r.Path, "/") {
		r.Path = "/" + r.Path
	}
	switch scheme, err := f.text(v, "scheme"); {
	case err != nil:
		return nil, err
	case strings.EqualFold(scheme, "https"):
		r.TLS = true
	case scheme != "" && !strings.EqualFold(scheme, "http"):
		return nil, v.Fold("scheme").Errorf("scheme %q is neither http nor https", scheme)
	}
	headers, err := f.get(v, "httpHeaders")
	if err != nil || headers == nil {
		return r, err
	}
	list := []*doc.Value{headers} // one version of the API has a single one
	if headers.Kind == doc.Array {
		if list, err = f.items(headers); err != nil {
			return nil, err
		}
	}
	for _, h := range list {
		if err := checkKeys(h, "name", "value"); err != nil {
			return nil, err
		}
		var header spec.Header
		if header.Name, err = f.text(h, "name"); err != nil {
			return nil, err
		}
		if header.Value, err = f.text(h, "value"); err != nil {
			return nil, err
		}
		r.Headers = append(r.Headers, header)
	}
	return r, nil
}

// whole gets a whole number that is not negative, which may be written as a string. 0 if there is none.
func (f *frame) whole(v *doc.Value, key string) (int64, error) {
	w, err := f.get(v, key)
	if err != nil || w == nil {
		return 0, err
	}
	n, err := strconv.ParseUint(w.Text, 10, 31)
	if w.Kind != doc.Number && w.Kind != doc.String || err != nil {
		return 0, w.Errorf("%s is no whole number from 0 on", key)
	}
	return int64(n), nil
}

func (f *frame) port(v *doc.Value, key string) (uint16, error) {
	n, err := f.whole(v, key)
	if err != nil {
		return 0, err
	}
	if n < 1 || n > 65535 {
		return 0, v.Errorf("%s is no number from 1 to 65535", key)
	}
	return uint16(n), nil
}

// needs reads ports and resources.
func (r *reader) needs(f *frame, properties *doc.Value, c *spec.Container) error {
	list, err := f.list(properties, "ports")
	if err := r.soft(properties, err); err != nil {
		return err
	}
	for _, v := range list {
		p, err := f.containerPort(v)
		if err != nil {
			if err := r.soft(v, err); err != nil {
				return err
			}
			continue
		}
		c.Exposed = append(c.Exposed, p)
	}
	return r.soft(properties, f.resources(properties, c))
}

// containerPort reads port and protocol.
func (f *frame) containerPort(v *doc.Value) (spec.Port, error) {
	p := spec.Port{Protocol: spec.TCP}
	if err := checkKeys(v, "port", "protocol"); err != nil {
		return p, err
	}
	n, err := f.port(v, "port")
	if err != nil {
		return p, err
	}
	p.GuestPort = int(n)
	switch protocol, err := f.text(v, "protocol"); {
	case err != nil:
		return p, err
	case strings.EqualFold(protocol, "udp"):
		p.Protocol = spec.UDP
	case protocol != "" && !strings.EqualFold(protocol, "tcp"):
		return p, v.Fold("protocol").Errorf("protocol %q is neither TCP nor UDP", protocol)
	}
	return p, nil
}

func (f *frame) resources(properties *doc.Value, c *spec.Container) error {
	resources, err := f.object(properties, "resources")
	if err != nil || resources == nil {
		return err
	}
	if err := checkKeys(resources, "requests", "limits"); err != nil {
		return err
	}
	var read spec.Resources
	for _, part := range []struct {
		key    string
		millis *int
		bytes  *uint64
	}{
		{"requests", &read.RequestCPUMillis, &read.RequestMemoryBytes}, {"limits", &read.LimitCPUMillis, &read.LimitMemoryBytes},
	} {
		v, err := f.object(resources, part.key)
		if err != nil {
			return err
		}
		if v == nil {
			continue
		}
		if gpu := v.Fold("gpu"); !gpu.IsNull() {
			return gpu.Errorf("there are no GPUs for a group")
		}
		if err := checkKeys(v, "cpu", "memoryingb", "gpu"); err != nil {
			return err
		}
		millis, err := f.amount(v, "cpu", 1000)
		if err != nil {
			return err
		}
		bytes, err := f.amount(v, "memoryInGB", 1<<30)
		if err != nil {
			return err
		}
		*part.millis, *part.bytes = int(millis), bytes // amount bounds it
	}
	c.Resources = read
	return nil
}

var decimal = regexp.MustCompile(`^[0-9]{1,9}(?:\.[0-9]{1,9})?$`)

// amount gets a decimal number in parts of 1/unit, rounded up.
func (f *frame) amount(v *doc.Value, key string, unit int64) (uint64, error) {
	w, err := f.get(v, key)
	if err != nil || w == nil {
		return 0, err
	}
	q := new(big.Rat)
	ok := (w.Kind == doc.Number || w.Kind == doc.String) && decimal.MatchString(w.Text) // before it is worked on
	if ok {
		_, ok = q.SetString(w.Text)
	}
	if !ok {
		return 0, w.Errorf("%s is no decimal number such as 1.5", key)
	}
	q.Mul(q, big.NewRat(unit, 1))
	n, rest := new(big.Int).QuoRem(q.Num(), q.Denom(), new(big.Int))
	if rest.Sign() > 0 {
		n.Add(n, big.NewInt(1))
	}
	return n.Uint64(), nil // at most 10^9 times 2^30
}
