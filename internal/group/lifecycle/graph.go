// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"fmt"
	"slices"

	"cofferdam.dev/internal/spec"
)

// Container is one container of a group, as far as its life goes.
type Container struct {
	Name string
	spec.Life
}

// sidecar is an init container that runs as long as the group.
func sidecar(l spec.Life) bool { return l.Init && l.Restart == spec.RestartAlways }

// Check tells whether containers can be started in some order: every dependency names another container and none
// waits for itself, be it through others.
func Check(containers []Container) error {
	needs := map[string][]string{}
	var inits []string
	for _, c := range containers {
		if _, twice := needs[c.Name]; twice {
			return fmt.Errorf("container %s is listed twice", c.Name)
		}
		needs[c.Name] = nil
		if c.Init {
			inits = append(inits, c.Name)
		}
	}
	for _, c := range containers {
		err := checkLife(c)
		if err != nil {
			return fmt.Errorf("container %s: %w", c.Name, err)
		}
		if c.Init {
			needs[c.Name] = append(needs[c.Name], inits[:slices.Index(inits, c.Name)]...)
		} else {
			needs[c.Name] = append(needs[c.Name], inits...)
		}
		for _, d := range c.After {
			if _, known := needs[d.Container]; !known {
				return fmt.Errorf("container %s waits for %s, which is no container of the group", c.Name, d.Container)
			}
			needs[c.Name] = append(needs[c.Name], d.Container)
		}
	}
	return acyclic(containers, needs)
}

func checkLife(c Container) error {
	switch c.Restart {
	case "", spec.RestartAlways, spec.RestartOnFailure, spec.RestartNever:
	default:
		return fmt.Errorf("restart policy is %q, want %s, %s or %s", c.Restart, spec.RestartAlways, spec.RestartOnFailure, spec.RestartNever)
	}
	for _, d := range c.After {
		switch d.Condition {
		case spec.ConditionStarted, spec.ConditionHealthy, spec.ConditionCompleted:
		default:
			return fmt.Errorf("the condition on %s is %q, want %s, %s or %s", d.Container, d.Condition,
				spec.ConditionStarted, spec.ConditionHealthy, spec.ConditionCompleted)
		}
	}
	return nil
}

// acyclic follows needs from every container.
func acyclic(containers []Container, needs map[string][]string) error {
	const onPath, done = 1, 2
	mark := map[string]int{}
	var visit func(name string) error
	visit = func(name string) error {
		switch mark[name] {
		case done:
			return nil
		case onPath:
			return fmt.Errorf("container %s waits for itself", name)
		}
		mark[name] = onPath
		for _, n := range needs[name] {
			err := visit(n)
			if err != nil {
				return err
			}
		}
		mark[name] = done
		return nil
	}
	for _, c := range containers {
		err := visit(c.Name)
		if err != nil {
			return err
		}
	}
	return nil
}
