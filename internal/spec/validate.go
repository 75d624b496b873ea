// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of a group.
const (
	MaxNameLength = 63
	MaxCPUs       = 256
	// MinMemoryMiB is what a guest surely needs to come up. With some 10 MiB less it refuses to go on, for want of what
	// it keeps back for itself; how many depends on the size of its kernel and its system.
	MinMemoryMiB    = 224
	MaxMemoryMiB    = 16 << 20
	maxStringLength = 128 << 10 // the longest argument or variable that Linux accepts (MAX_ARG_STRLEN)
)

// Validate checks the group and names the first thing that is wrong.
func (g *Group) Validate() error {
	switch {
	case g.Name != "" && g.Platform == PlatformOwn && checkName(g.Name) != nil:
		return fmt.Errorf("group: %w", checkName(g.Name))
	case len(g.Containers)+len(g.Definitions)+len(g.Fragments)+len(g.FragmentReferences) == 0:
		return errors.New("group has no containers")
	case g.CPUs < 0 || g.CPUs > MaxCPUs:
		return fmt.Errorf("group has %d processors, expected 1 to %d", g.CPUs, MaxCPUs)
	case g.MemoryMiB != 0 && g.MemoryMiB < MinMemoryMiB:
		return fmt.Errorf("group has %d MiB of memory, and a guest needs at least %d MiB to come up", g.MemoryMiB, MinMemoryMiB)
	case g.MemoryMiB > MaxMemoryMiB:
		return fmt.Errorf("group has %d MiB of memory, at most %d are possible", g.MemoryMiB, MaxMemoryMiB)
	}
	names := map[string]bool{}
	for i := range g.Containers {
		c := &g.Containers[i]
		if err := c.validate(g.Platform); err != nil {
			return fmt.Errorf("container %d (%q): %w", i+1, c.Name, err)
		}
		if len(g.Containers) > 1 && (c.Name == "" || names[c.Name] && c.Name != c.Image) {
			return fmt.Errorf("container %d (%q): in a group of several, each needs a name of its own", i+1, c.Name)
		}
		names[c.Name] = true
	}
	for _, check := range []func() error{g.checkLives, g.checkVolumes, g.checkNetwork} {
		if err := check(); err != nil {
			return err
		}
	}
	return checkPorts(g.Ports)
}

func checkPorts(ports []Port) error {
	for i, p := range ports {
		if err := p.check(); err != nil {
			return err
		}
		for _, q := range ports[:i] {
			same := p.HostIP == q.HostIP || p.HostIP == "" || q.HostIP == ""
			if p.HostPort != 0 && p.Protocol == q.Protocol && p.HostPort == q.HostPort && same {
				return fmt.Errorf("host port %d/%s is forwarded twice", p.HostPort, p.Protocol)
			}
		}
	}
	return nil
}

// checkName accepts what is a DNS label, so that a name can be a host name and a directory everywhere.
func checkName(s string) error {
	if len(s) > MaxNameLength {
		return fmt.Errorf("name %q has %d characters, at most %d are allowed", s, len(s), MaxNameLength)
	}
	if s == "" || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || s[0] == '-' || s[len(s)-1] == '-' {
		return fmt.Errorf("name %q may hold only lower-case letters, digits and inner hyphens", s)
	}
	return nil
}

func (c *Container) validate(p Platform) error {
	// Other platforms have rules of their own for names, and for an image alone its reference is the name.
	if c.Name != "" && c.Name != c.Image && p == PlatformOwn {
		if err := checkName(c.Name); err != nil {
			return err
		}
	}
	if c.Image == "" {
		return errors.New("image is missing")
	}
	for _, s := range slices.Concat(c.Command, c.Args, []string{c.Name, c.Image, c.WorkingDir, c.User}, slices.Concat(c.AllowExec...)) {
		if err := checkText(s); err != nil {
			return err
		}
	}
	for _, v := range c.Env {
		if err := v.validate(); err != nil {
			return err
		}
	}
	if c.WorkingDir != "" && !path.IsAbs(c.WorkingDir) {
		return fmt.Errorf("working directory %q is not absolute", c.WorkingDir)
	}
	for i, m := range c.Mounts {
		if !path.IsAbs(m.Path) || path.Clean(m.Path) != m.Path || m.Path == "/" {
			return fmt.Errorf("mount path %q is not an absolute, clean path below /", m.Path)
		}
		if slices.ContainsFunc(c.Mounts[:i], func(o Mount) bool { return o.Path == m.Path }) {
			return fmt.Errorf("mount path %q is used twice", m.Path)
		}
	}
	if slices.ContainsFunc(c.AllowExec, func(cmd []string) bool { return len(cmd) == 0 }) {
		return errors.New("an allowed command is empty")
	}
	return checkUser(c.User)
}

func (v EnvVar) validate() error {
	if v.Name == "" {
		return errors.New("an environment variable has no name")
	}
	if v.Regexp {
		return v.validateRegexp()
	}
	for i, r := range v.Name {
		letter := r == '_' || r == '-' || r == '.' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return fmt.Errorf("environment variable name %q: %q is not allowed there", v.Name, r)
		}
	}
	if err := checkText(v.Value); err != nil {
		// The value may be a secret: not in the message.
		return fmt.Errorf("value of environment variable %s: %w", v.Name, errors.Unwrap(err))
	}
	return nil
}

func (v EnvVar) validateRegexp() error {
	for _, part := range []string{v.Name, v.Value} {
		if err := checkText(part); err != nil {
			return fmt.Errorf("rule for environment variable %q: %w", v.Name, errors.Unwrap(err))
		}
		// Each part by itself, so that neither can close what the other opens.
		if _, err := regexp.Compile(part); err != nil {
			return fmt.Errorf("rule for environment variable %q is no regular expression: %w", v.Name, err)
		}
	}
	return nil
}

var (
	errNUL    = errors.New("holds a NUL byte")
	errUTF8   = errors.New("is not UTF-8")
	errLength = fmt.Errorf("is longer than %d bytes", maxStringLength)
)

// checkText accepts what can be an argument of a process and a string of a policy.
func checkText(s string) error {
	shown := s[:min(len(s), 40)]
	switch {
	case len(s) > maxStringLength:
		return fmt.Errorf("%q… %w", shown, errLength)
	case strings.IndexByte(s, 0) >= 0:
		return fmt.Errorf("%q %w", shown, errNUL)
	case !utf8.ValidString(s):
		return fmt.Errorf("%q %w", shown, errUTF8)
	}
	return nil
}

func checkUser(s string) error {
	if s == "" {
		return nil
	}
	user, group, given := strings.Cut(s, ":")
	for _, part := range []string{user, group} {
		if part == "" && !given {
			continue
		}
		if part == "" || strings.ContainsAny(part, ": \t\n/") {
			return fmt.Errorf("user %q is not USER[:GROUP]", s)
		}
		if strings.Trim(part, "0123456789") == "" {
			if _, err := strconv.ParseUint(part, 10, 32); err != nil {
				return fmt.Errorf("user %q: %s is no 32-bit number", s, part)
			}
		}
	}
	return nil
}
