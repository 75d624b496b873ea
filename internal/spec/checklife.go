// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// checkLives checks what containers say of their start, their watching and their end, and of each other.
func (g *Group) checkLives() error {
	if err := g.Restart.check(); err != nil {
		return fmt.Errorf("group: %w", err)
	}
	if g.StopTimeout != nil && *g.StopTimeout < 0 {
		return fmt.Errorf("group: time to stop is %v, which is negative", *g.StopTimeout)
	}
	if len(g.Containers) > 0 && !slices.ContainsFunc(g.Containers, func(c Container) bool { return !c.Init }) {
		return errors.New("group has init containers only, so nothing would run after them")
	}
	byName := map[string]*Container{}
	for i := range g.Containers {
		byName[g.Containers[i].Name] = &g.Containers[i]
	}
	for i := range g.Containers {
		c := &g.Containers[i]
		if err := c.checkLife(byName); err != nil {
			return fmt.Errorf("container %d (%q): %w", i+1, c.Name, err)
		}
	}
	return g.checkCycles(byName)
}

func (p RestartPolicy) check() error {
	if p != "" && p != RestartAlways && p != RestartOnFailure && p != RestartNever {
		return fmt.Errorf("restart policy %q is none of %s, %s, %s", p, RestartAlways, RestartOnFailure, RestartNever)
	}
	return nil
}

func (c *Container) checkLife(byName map[string]*Container) error {
	if err := c.Restart.check(); err != nil {
		return err
	}
	switch path := c.TerminationMessagePath; {
	case c.MaxRestarts < 0 || c.MaxRestarts > 0 && c.Restart != RestartOnFailure:
		return fmt.Errorf("it may be restarted %d times, which only %s with a number from 1 can say", c.MaxRestarts, RestartOnFailure)
	case c.StopTimeout != nil && *c.StopTimeout < 0:
		return fmt.Errorf("time to stop is %v, which is negative", *c.StopTimeout)
	case path != "" && !cleanAbsolute(path):
		return fmt.Errorf("path of the termination message %q is not an absolute, clean path below /", path)
	}
	if err := c.checkInit(); err != nil {
		return err
	}
	for _, d := range c.After {
		if err := c.checkDependency(d, byName[d.Container]); err != nil {
			return err
		}
	}
	if err := c.checkActions(); err != nil {
		return err
	}
	return c.Resources.check()
}

// checkInit: what runs once, before all others, is neither watched nor ordered.
func (c *Container) checkInit() error {
	sidecar := c.Restart == RestartAlways
	switch {
	case !c.Init:
		return nil
	case len(c.After) > 0:
		return errors.New("an init container waits for those before it, and can name no others")
	case c.Restart != "" && !sidecar:
		return fmt.Errorf("restart policy of an init container is %q, and only %s has a meaning there", c.Restart, RestartAlways)
	case !sidecar && (c.Startup != nil || c.Readiness != nil || c.Liveness != nil || c.PostStart != nil || c.PreStop != nil):
		return errors.New("an init container has no probes and no hooks, unless it is a sidecar")
	}
	return nil
}

func (c *Container) checkDependency(d Dependency, other *Container) error {
	switch {
	case d.Condition != ConditionStarted && d.Condition != ConditionHealthy && d.Condition != ConditionCompleted:
		return fmt.Errorf("condition %q is none of %s, %s, %s", d.Condition, ConditionStarted, ConditionHealthy, ConditionCompleted)
	case other == nil:
		return fmt.Errorf("it waits for %q, and the group has no such container", d.Container)
	case other.Init:
		return fmt.Errorf("it waits for %q, which is an init container and ends before it anyway", d.Container)
	case d.Condition == ConditionHealthy && other.Readiness == nil:
		return fmt.Errorf("it waits for %q to be healthy, which has nothing that checks its health", d.Container)
	}
	return nil
}

// checkCycles finds containers that wait for each other, and names them in order.
func (g *Group) checkCycles(byName map[string]*Container) error {
	done := map[string]bool{}
	for i := range g.Containers {
		if cycle := findCycle(g.Containers[i].Name, byName, done, nil); cycle != nil {
			return fmt.Errorf("containers wait for each other: %s", strings.Join(cycle, " → "))
		}
	}
	return nil
}

func findCycle(name string, byName map[string]*Container, done map[string]bool, trail []string) []string {
	if i := slices.Index(trail, name); i >= 0 {
		return append(slices.Clone(trail[i:]), name)
	}
	c := byName[name]
	if done[name] || c == nil {
		return nil
	}
	trail = append(trail, name)
	for _, d := range c.After {
		if cycle := findCycle(d.Container, byName, done, trail); cycle != nil {
			return cycle
		}
	}
	done[name] = true
	return nil
}

func (c *Container) checkActions() error {
	for _, p := range []struct {
		name  string
		probe *Probe
		once  bool // one success must be enough
	}{{"startup probe", c.Startup, true}, {"readiness probe", c.Readiness, false}, {"liveness probe", c.Liveness, true}} {
		if p.probe == nil {
			continue
		}
		if err := p.probe.check(p.once); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if err := c.checkAction(p.probe.Action); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	for name, hook := range map[string]*Action{"hook after the start": c.PostStart, "hook before the stop": c.PreStop} {
		if hook == nil {
			continue
		}
		if err := c.checkAction(*hook); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (p *Probe) check(once bool) error {
	for name, d := range map[string]time.Duration{
		"initial delay": p.InitialDelay, "period": p.Period, "timeout": p.Timeout, "start period": p.StartPeriod, "start interval": p.StartInterval,
	} {
		if d < 0 {
			return fmt.Errorf("%s is %v, which is negative", name, d)
		}
	}
	switch {
	case p.Sleep != 0:
		return errors.New("a probe can not sleep")
	case p.SuccessThreshold < 0 || p.FailureThreshold < 0:
		return fmt.Errorf("thresholds are %d and %d, expected 1 or more", p.SuccessThreshold, p.FailureThreshold)
	case once && p.SuccessThreshold > 1:
		return fmt.Errorf("it needs %d successes, and here one is enough always", p.SuccessThreshold)
	case p.Grace != nil && *p.Grace <= 0:
		return fmt.Errorf("time to stop is %v, expected more than nothing", *p.Grace)
	}
	return nil
}

// checkAction accepts exactly one thing to do. A command must be one that the policy will allow.
func (c *Container) checkAction(a Action) error {
	given := 0
	for _, is := range []bool{len(a.Exec) > 0, a.HTTP != nil, a.TCP != nil, a.Sleep != 0} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		return fmt.Errorf("it says %d things to do, expected exactly one", given)
	case a.Sleep < 0:
		return fmt.Errorf("it sleeps for %v, which is negative", a.Sleep)
	case a.TCP != nil && a.TCP.Port == 0 || a.HTTP != nil && a.HTTP.Port == 0:
		return errors.New("port 0 is not one from 1 to 65535")
	case a.HTTP != nil:
		return a.HTTP.check()
	case len(a.Exec) > 0 && !slices.ContainsFunc(c.AllowExec, func(cmd []string) bool { return slices.Equal(cmd, a.Exec) }):
		return fmt.Errorf("command %q is not among those that may be started in the container", a.Exec)
	}
	return nil
}

func (r *HTTPRequest) check() error {
	if !strings.HasPrefix(r.Path, "/") || strings.ContainsAny(r.Path, " \r\n\x00") {
		return fmt.Errorf("path %q of a request does not begin with a slash, or holds what a request line can not", r.Path)
	}
	for _, h := range r.Headers {
		if h.Name == "" || strings.Trim(h.Name, headerCharacters) != "" {
			return fmt.Errorf("header name %q is not allowed", h.Name)
		}
		if strings.ContainsAny(h.Value, "\r\n\x00") { // the value may be a secret: not in the message
			return fmt.Errorf("value of header %s holds a line break", h.Name)
		}
	}
	return nil
}

// headerCharacters are those of a token (RFC 9110 5.6.2).
const headerCharacters = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

func (r Resources) check() error {
	switch {
	case r.RequestCPUMillis < 0 || r.LimitCPUMillis < 0 || max(r.RequestCPUMillis, r.LimitCPUMillis) > 1000*MaxCPUs:
		return fmt.Errorf("processors are %dm and %dm, expected up to %d000m", r.RequestCPUMillis, r.LimitCPUMillis, MaxCPUs)
	case r.LimitCPUMillis > 0 && r.RequestCPUMillis > r.LimitCPUMillis:
		return fmt.Errorf("it asks for %dm of processors, and is limited to %dm", r.RequestCPUMillis, r.LimitCPUMillis)
	case max(r.RequestMemoryBytes, r.LimitMemoryBytes) > MaxMemoryMiB<<20:
		return fmt.Errorf("memory is more than the %d MiB that are possible", MaxMemoryMiB)
	case r.LimitMemoryBytes > 0 && r.RequestMemoryBytes > r.LimitMemoryBytes:
		return fmt.Errorf("it asks for %d bytes of memory, and is limited to %d", r.RequestMemoryBytes, r.LimitMemoryBytes)
	}
	return nil
}

func cleanAbsolute(s string) bool { return path.IsAbs(s) && path.Clean(s) == s && s != "/" }
