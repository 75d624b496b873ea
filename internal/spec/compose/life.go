// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// life reads when a service starts, whether it is started again, and how long it may take to stop.
func (r *reader) life(v *doc.Value, c *spec.Container) error {
	c.Restart = spec.RestartNever // which is what Compose does when nothing is said
	if err := r.restart(v, c); err != nil {
		return err
	}
	if w := v.Get("stop_grace_period"); !w.IsNull() {
		d, err := r.duration(v, "stop_grace_period")
		if err != nil {
			return err
		}
		c.StopTimeout = &d
	}
	return r.dependencies(v, c)
}

func (r *reader) restart(v *doc.Value, c *spec.Container) error {
	s, err := r.text(v, "restart")
	if err != nil {
		return err
	}
	policy, count, bounded := strings.Cut(s, ":")
	switch policy {
	case "", "no":
	case "always", "unless-stopped": // nothing is started when the machine of the host is
		c.Restart = spec.RestartAlways
	case "on-failure":
		c.Restart = spec.RestartOnFailure
	default:
		return v.Get("restart").Errorf("restart is %q, expected no, always, on-failure[:N] or unless-stopped", s)
	}
	if !bounded {
		return nil
	}
	n, err := strconv.ParseUint(count, 10, 31)
	if policy != "on-failure" || err != nil || n == 0 {
		return v.Get("restart").Errorf("restart is %q, and only on-failure has a number, from 1 on", s)
	}
	c.MaxRestarts = int(n)
	return nil
}

// conditions are those of depends_on.
var conditions = map[string]spec.Condition{
	"": spec.ConditionStarted, "service_started": spec.ConditionStarted, "service_healthy": spec.ConditionHealthy,
	"service_completed_successfully": spec.ConditionCompleted,
}

// dependencies reads depends_on, and links, which order services too.
func (r *reader) dependencies(v *doc.Value, c *spec.Container) error {
	d := v.Get("depends_on")
	if !d.IsNull() && d.Kind == doc.Object {
		for _, m := range d.Members {
			if err := r.dependency(m, c); err != nil {
				return err
			}
		}
	} else {
		names, err := r.texts(v, "depends_on")
		if err != nil {
			return err
		}
		for _, name := range names {
			after(c, spec.Dependency{Container: name, Condition: spec.ConditionStarted})
		}
	}
	links, err := r.texts(v, "links")
	if err != nil {
		return err
	}
	for _, link := range links {
		name, alias, given := strings.Cut(link, ":")
		after(c, spec.Dependency{Container: name, Condition: spec.ConditionStarted})
		if given {
			r.name(alias)
		}
	}
	return nil
}

// after adds a dependency unless there is one on the same service.
func after(c *spec.Container, d spec.Dependency) {
	for _, e := range c.After {
		if e.Container == d.Container {
			return
		}
	}
	c.After = append(c.After, d)
}

func (r *reader) dependency(m doc.Member, c *spec.Container) error {
	d := spec.Dependency{Container: m.Key, Condition: spec.ConditionStarted}
	if m.Value.IsNull() {
		after(c, d)
		return nil
	}
	if err := checkKeys(m.Value, "condition", "required", "restart"); err != nil {
		return err
	}
	condition, err := r.text(m.Value, "condition")
	if err != nil {
		return err
	}
	known := false
	if d.Condition, known = conditions[condition]; !known {
		return m.Value.Errorf("condition %q is none of service_started, service_healthy, service_completed_successfully", condition)
	}
	if w := m.Value.Get("required"); !w.IsNull() {
		required, err := truth(m.Value, "required")
		if err != nil {
			return err
		}
		d.Optional = !required
	}
	if again, err := truth(m.Value, "restart"); err != nil {
		return err
	} else if again {
		r.warnings.Add(spec.WarnIgnored, m.Value.Path, "a service is not started again because %q is", m.Key)
	}
	if d.Optional && r.root.Get("services").Get(m.Key) == nil {
		return nil
	}
	after(c, d)
	return nil
}

// What a health check has where nothing is said.
const (
	healthInterval      = 30 * time.Second
	healthTimeout       = 30 * time.Second
	healthRetries       = 3
	healthStartInterval = 5 * time.Second
)

// healthcheck reads how the health of a service is found out. Nothing is started again because of it: it decides when
// those start that wait for the service to be healthy.
func (r *reader) healthcheck(v *doc.Value, c *spec.Container) error {
	h := v.Get("healthcheck")
	if h.IsNull() {
		return nil
	}
	err := checkKeys(h, "test", "interval", "timeout", "retries", "start_period", "start_interval", "disable")
	if err != nil {
		return err
	}
	disabled, err := truth(h, "disable")
	if err != nil || disabled {
		return err
	}
	if h.Get("test").IsNull() {
		r.warnings.Add(spec.WarnIgnored, h.Path, "health checks of images are not read: name the test here")
		return nil
	}
	command, err := r.test(h)
	if err != nil || command == nil {
		return err
	}
	p := &spec.Probe{
		Action: spec.Action{Exec: command}, Period: healthInterval, Timeout: healthTimeout,
		FailureThreshold: healthRetries, StartInterval: healthStartInterval,
	}
	for key, to := range map[string]*time.Duration{
		"interval": &p.Period, "timeout": &p.Timeout, "start_period": &p.StartPeriod, "start_interval": &p.StartInterval,
	} {
		if h.Get(key).IsNull() {
			continue
		}
		d, err := r.duration(h, key)
		if err != nil {
			return err
		}
		if d > 0 { // nothing means what is usual
			*to = d
		}
	}
	if p.StartPeriod == 0 {
		p.StartInterval = 0
	}
	p.InitialDelay = cmp.Or(p.StartInterval, p.Period) // the first check comes an interval after the start
	if w := h.Get("retries"); !w.IsNull() {
		s, err := r.text(h, "retries")
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil {
			return w.Errorf("retries is %q, expected a whole number", s)
		}
		if n > 0 {
			p.FailureThreshold = int(n)
		}
	}
	c.Readiness = p
	c.AllowExec = append(c.AllowExec, command)
	return nil
}

// test reads the command of a health check; nil if there is none.
func (r *reader) test(h *doc.Value) ([]string, error) {
	test := h.Get("test")
	if test.Kind != doc.Array {
		s, err := r.text(h, "test")
		if err == nil && s == "NONE" {
			return nil, nil
		}
		return []string{"/bin/sh", "-c", s}, err
	}
	words, err := r.texts(h, "test")
	switch {
	case err != nil:
		return nil, err
	case len(words) == 1 && words[0] == "NONE":
		return nil, nil
	case len(words) == 2 && words[0] == "CMD-SHELL":
		return []string{"/bin/sh", "-c", words[1]}, nil
	case len(words) > 1 && words[0] == "CMD":
		return words[1:], nil
	}
	return nil, test.Errorf("a test is NONE, CMD with a command, or CMD-SHELL with a line")
}

// duration reads a time such as 1m30s.
func (r *reader) duration(v *doc.Value, key string) (time.Duration, error) {
	s, err := r.text(v, key)
	if err != nil {
		return 0, err
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, v.Get(key).Errorf("%s is %q, expected a time such as 1m30s", key, s)
	}
	return d, nil
}
