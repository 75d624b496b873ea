// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"strconv"
	"strings"
	"time"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

const terminationLog = "/dev/termination-log"

// restart reads the pod's restart policy, and how long it may take to stop. A job's pods end.
func (p *pod) restart(workload *doc.Value) error {
	s, err := text(p.spec, "restartPolicy")
	if err != nil {
		return err
	}
	if kind := textOf(workload.Get("kind")); (kind == "Job" || kind == "CronJob") && s != string(spec.RestartOnFailure) && s != string(spec.RestartNever) {
		return p.spec.Errorf("restartPolicy of a %s is %q, expected OnFailure or Never", kind, s)
	}
	if s != "" {
		p.group.Restart = spec.RestartPolicy(s)
	}
	p.group.StopTimeout, err = seconds(p.spec, "terminationGracePeriodSeconds")
	return err
}

// instances warns of workloads of which one instance is run, and at once.
func (p *pod) instances(workload *doc.Value) error {
	if p.options.VirtualNode {
		return nil
	}
	v := workload.Get("spec")
	if textOf(workload.Get("kind")) == "CronJob" {
		p.warnings.Add(spec.WarnChanged, v.Path, "the job is run once, when the group starts: there is no schedule")
		v = v.Get("jobTemplate").Get("spec")
	}
	for _, key := range []string{"replicas", "parallelism", "completions"} {
		n, err := count(v, key)
		if err != nil {
			return err
		}
		if n > 1 {
			p.warnings.Add(spec.WarnChanged, v.Get(key).Path, "%s is %d, and one is run", key, n)
		}
	}
	for _, at := range []*doc.Value{v.Get("activeDeadlineSeconds"), v.Get("backoffLimit"), p.spec.Get("activeDeadlineSeconds")} {
		if !at.IsNull() {
			p.warnings.Add(spec.WarnIgnored, at.Path, "this has no effect here")
		}
	}
	return nil
}

// life reads the container's restart policy, its probes and its hooks. The commands that these start stand in the policy
// in this order.
func (p *pod) life(c *doc.Value, out *spec.Container) error {
	s, err := text(c, "restartPolicy")
	if err != nil {
		return err
	}
	out.Restart = spec.RestartPolicy(s)
	for _, probe := range []struct {
		key string
		to  **spec.Probe
	}{{"livenessProbe", &out.Liveness}, {"readinessProbe", &out.Readiness}, {"startupProbe", &out.Startup}} {
		v := c.Get(probe.key)
		if v.IsNull() {
			continue
		}
		if *probe.to, err = p.probe(c, v, out); err != nil {
			return err
		}
		if *probe.to != nil && probe.key == "readinessProbe" && (*probe.to).Grace != nil {
			return v.Errorf("a readiness probe ends nothing, so terminationGracePeriodSeconds has no meaning there")
		}
	}
	lifecycle := c.Get("lifecycle")
	if lifecycle.IsNull() {
		return nil
	}
	if err := checkKeys(lifecycle, "postStart", "preStop"); err != nil {
		return err
	}
	for _, hook := range []struct {
		key string
		to  **spec.Action
	}{{"postStart", &out.PostStart}, {"preStop", &out.PreStop}} {
		v := lifecycle.Get(hook.key)
		if v.IsNull() {
			continue
		}
		if err := checkKeys(v, "exec", "httpGet", "tcpSocket", "sleep"); err != nil {
			return err
		}
		a, err := p.action(c, v, out)
		if err != nil {
			return err
		}
		*hook.to = &a
	}
	return nil
}

// probe reads a probe. It is nil for one that the virtual node alone can run.
func (p *pod) probe(c, v *doc.Value, out *spec.Container) (*spec.Probe, error) {
	err := checkKeys(v, "exec", "httpGet", "tcpSocket", "grpc", "initialDelaySeconds", "periodSeconds", "timeoutSeconds",
		"successThreshold", "failureThreshold", "terminationGracePeriodSeconds")
	if err != nil {
		return nil, err
	}
	if grpc := v.Get("grpc"); !grpc.IsNull() {
		if p.options.VirtualNode {
			return nil, nil // no policy depends on it
		}
		return nil, grpc.Errorf("gRPC probes are not supported: use a tcpSocket, or exec with a client that the image brings")
	}
	probe := &spec.Probe{}
	if probe.Action, err = p.action(c, v, out); err != nil {
		return nil, err
	}
	for key, to := range map[string]*time.Duration{
		"initialDelaySeconds": &probe.InitialDelay, "periodSeconds": &probe.Period, "timeoutSeconds": &probe.Timeout,
	} {
		n, err := count(v, key)
		if err != nil {
			return nil, err
		}
		*to = time.Duration(n) * time.Second
	}
	for key, to := range map[string]*int{"successThreshold": &probe.SuccessThreshold, "failureThreshold": &probe.FailureThreshold} {
		if *to, err = count(v, key); err != nil {
			return nil, err
		}
	}
	probe.Grace, err = seconds(v, "terminationGracePeriodSeconds")
	return probe, err
}

// action reads what a probe or hook does. A command is noted as one that may be started in the container.
func (p *pod) action(c, v *doc.Value, out *spec.Container) (spec.Action, error) {
	var a spec.Action
	given := 0
	for key, read := range map[string]func(*doc.Value) error{
		"exec": func(w *doc.Value) error {
			if err := checkKeys(w, "command"); err != nil {
				return err
			}
			command, err := texts(w, "command")
			if err == nil && len(command) == 0 {
				err = w.Errorf("the command is missing")
			}
			a.Exec = command
			return err
		},
		"httpGet": func(w *doc.Value) (err error) { a.HTTP, err = p.request(c, w); return err },
		"tcpSocket": func(w *doc.Value) error {
			if err := p.checkHost(w, "port", "host"); err != nil {
				return err
			}
			port, err := portOf(c, w)
			a.TCP = &spec.TCPConnection{Port: port}
			return err
		},
		"sleep": func(w *doc.Value) error {
			if err := checkKeys(w, "seconds"); err != nil {
				return err
			}
			n, err := count(w, "seconds")
			if err == nil && n == 0 {
				err = w.Errorf("seconds is missing, or nothing")
			}
			a.Sleep = time.Duration(n) * time.Second
			return err
		},
	} {
		w := v.Get(key)
		if w.IsNull() {
			continue
		}
		if err := read(w); err != nil {
			return a, err
		}
		given++
	}
	if given != 1 {
		return a, v.Errorf("it needs exactly one of exec, httpGet, tcpSocket and, as a hook, sleep, and has %d", given)
	}
	if a.Exec != nil {
		out.AllowExec = append(out.AllowExec, a.Exec)
	}
	return a, nil
}

// checkHost refuses other hosts than the pod itself: only the group is watched, from within.
func (p *pod) checkHost(v *doc.Value, known ...string) error {
	if err := checkKeys(v, known...); err != nil {
		return err
	}
	host, err := text(v, "host")
	if err == nil && host != "" && host != "localhost" && host != "127.0.0.1" && !p.options.VirtualNode {
		err = v.Errorf("host is %q, and only the pod itself can be asked", host)
	}
	return err
}

func (p *pod) request(c, v *doc.Value) (*spec.HTTPRequest, error) {
	if err := p.checkHost(v, "host", "httpHeaders", "path", "port", "scheme"); err != nil {
		return nil, err
	}
	r := &spec.HTTPRequest{}
	var err error
	if r.Port, err = portOf(c, v); err != nil {
		return nil, err
	}
	if r.Path, err = text(v, "path"); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(r.Path, "/") {
		r.Path = "/" + r.Path
	}
	switch scheme, err := text(v, "scheme"); {
	case err != nil:
		return nil, err
	case scheme == "HTTPS":
		r.TLS = true
	case scheme != "" && scheme != "HTTP":
		return nil, v.Get("scheme").Errorf("scheme %q is neither HTTP nor HTTPS", scheme)
	}
	headers, err := items(v, "httpHeaders")
	if err != nil {
		return nil, err
	}
	for _, h := range headers {
		var header spec.Header
		if header.Name, err = text(h, "name"); err != nil {
			return nil, err
		}
		if header.Value, err = text(h, "value"); err != nil {
			return nil, err
		}
		r.Headers = append(r.Headers, header)
	}
	return r, nil
}

// terminationMessage reads where a container leaves its last words. The usual path, if nobody names it, changes no
// policy; a path or a policy that is named asks for the file.
func (p *pod) terminationMessage(c *doc.Value, out *spec.Container) error {
	path, err := text(c, "terminationMessagePath")
	if err != nil {
		return err
	}
	policy, err := text(c, "terminationMessagePolicy")
	if err != nil {
		return err
	}
	switch {
	case policy != "" && policy != "File" && policy != "FallbackToLogsOnError":
		return c.Get("terminationMessagePolicy").Errorf("terminationMessagePolicy is %q, expected File or FallbackToLogsOnError", policy)
	case p.options.VirtualNode && path != "" && path != terminationLog:
		return c.Errorf("terminationMessagePath is %q, and the virtual node has %s only", path, terminationLog)
	case p.options.VirtualNode || path == "" && policy == "":
		return nil
	case path == "":
		path = terminationLog
	}
	out.TerminationMessagePath, out.TerminationMessageFromLog = path, policy == "FallbackToLogsOnError"
	out.Mounts = append(out.Mounts, spec.Mount{Kind: spec.MountTerminationLog, Path: path})
	return nil
}

// count reads a whole number that is not negative; 0 if there is none.
func count(v *doc.Value, key string) (int, error) {
	w := v.Get(key)
	if w.IsNull() {
		return 0, nil
	}
	n, err := strconv.ParseUint(w.Text, 10, 31)
	if w.Kind != doc.Number || err != nil {
		return 0, w.Errorf("%s is no whole number from 0 on", key)
	}
	return int(n), nil
}

// seconds reads a time; nil if there is none.
func seconds(v *doc.Value, key string) (*time.Duration, error) {
	if v.Get(key).IsNull() {
		return nil, nil
	}
	n, err := count(v, key)
	d := time.Duration(n) * time.Second
	return &d, err
}
