// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/agent/container"
	"cofferdam.dev/internal/evidencewire"
	"cofferdam.dev/policy/engine"
)

// form is what a name or path looks like. The length is bounded apart from the pattern: a bounded repetition makes a
// pattern that is slow to prepare, which counts when a processor is emulated.
type form struct {
	pattern  string
	compiled func() *regexp.Regexp // when first used: all of them would take a part of the boot
	low, max int                   // length in bytes
}

func formOf(low, high int, pattern string) form {
	whole := "^" + pattern + "$"
	compiled := sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(whole) })
	return form{pattern: whole, compiled: compiled, low: low, max: high}
}

func (f form) match(s string) bool {
	return f.low <= len(s) && len(s) <= f.max && f.compiled().MatchString(s)
}

func (f form) String() string {
	return fmt.Sprintf("%s, %d to %d bytes", f.pattern, f.low, f.max)
}

const digits = "[0-9a-f]+"

// The forms of names and paths. Paths that the guest mounts at are derived from them, never taken over.
var (
	containerIDForm = formOf(64, 64, digits)
	execIDForm      = formOf(32, 32, digits)
	serialForm      = formOf(1, 20, "[a-z0-9-]+")
	layerForm       = formOf(1, 24, "/run/mounts/scsi/m(0|[1-9][0-9]*)")
	scratchForm     = formOf(len(engine.GuestRoot)+65, len(engine.GuestRoot)+65, engine.GuestRoot+"/"+digits)
	rootfsForm      = formOf(len(engine.GuestRoot)+72, len(engine.GuestRoot)+72, engine.GuestRoot+"/"+digits+"/rootfs")
	capabilityForm  = formOf(5, 36, "CAP_[A-Z_]+")
	hostnameForm    = formOf(0, 63, "([A-Za-z0-9][A-Za-z0-9.-]*)?")
	userForm        = formOf(0, 256, `[^:/\x00-\x20\x7f]*(:[^:/\x00-\x20\x7f]+)?`)
	sourceForm      = formOf(1, 180, sandboxScheme+container.SourcePattern)
)

// mountOptions are the options that a bind mount may have; which of them, the policy says.
var mountOptions = []string{
	"rbind", "bind", "rw", "ro", "rshared", "shared", "rslave", "slave", "rprivate", "private",
	"nosuid", "suid", "nodev", "dev", "noexec", "exec", "noatime", "relatime",
}

// Bounds of a request.
const (
	maxDataBlocks   = 128 << 30 / 4096 // layer scheme 1: file systems of at most 128 GiB
	maxLayers       = 128
	maxArgs         = 4096
	maxArgBytes     = 128 << 10 // what the kernel takes as one string
	maxArgsBytes    = 1 << 20
	maxPath         = 4096 - 1
	maxCapabilities = 64
	maxSeccomp      = 256 << 10
	maxMounts       = 256
	maxOptions      = 16
	maxCPUMillis    = 1 << 20
	minMemory       = 6 << 20 // the runtime does not start below
	maxMemory       = 1 << 50
	maxTerminalSize = 4096
	maxSignal       = 64
	minNonce        = 8
	maxNonce        = 64
	maxRuntimeData  = 4096
	maxQuoted       = 80
)

// check looks at the fields of one request and keeps the first fault.
type check struct {
	call  string
	fault *guestv1.Denial
}

func newCheck(call string) *check { return &check{call: call} }

// err returns the fault, nil if there is none.
func (c *check) err() error {
	if c.fault == nil {
		return nil // not a nil *Denial in an error
	}
	return c.fault
}

func (c *check) that(ok bool, field, expected, actual string) {
	if ok || c.fault != nil {
		return
	}
	c.fault = denial(guestv1.CodeBadRequest, c.call, "the field "+field+" does not have the form it must have")
	c.fault.Field, c.fault.Expected, c.fault.Actual = field, expected, actual
}

func quote(s string) string { return strconv.QuoteToASCII(clip(s, maxQuoted)) }

func (c *check) form(field, value string, f form) {
	c.that(f.match(value), field, f.String(), quote(value))
}

func (c *check) size(field string, have, low, high int) {
	c.that(low <= have && have <= high, field, fmt.Sprintf("%d to %d", low, high), strconv.Itoa(have))
}

func (c *check) number(field string, have, low, high uint64) {
	c.that(low <= have && have <= high, field, fmt.Sprintf("%d to %d", low, high), strconv.FormatUint(have, 10))
}

func (c *check) containerID(id string) { c.form("container_id", id, containerIDForm) }

// process checks the processes's identifiers; an empty exec ID stands for the container's first process.
func (c *check) process(containerID, execID string) {
	c.containerID(containerID)
	if execID != "" {
		c.form("exec_id", execID, execIDForm)
	}
}

// strings checks a list of C strings.
func (c *check) strings(field string, list []string, low, high int) {
	c.size(field, len(list), low, high)
	total := 0
	for i, s := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		c.size(at, len(s), 0, maxArgBytes)
		c.that(!strings.Contains(s, "\x00"), at, "no NUL byte", "one")
		total += len(s) + 1
	}
	c.size(field+" in bytes", total, 0, maxArgsBytes)
}

// environment checks NAME=VALUE pairs; it shows no value.
func (c *check) environment(list []string) {
	c.strings("env", list, 0, maxArgs)
	seen := make(map[string]bool, len(list))
	for i, kv := range list {
		at := fmt.Sprintf("env[%d]", i)
		name, _, ok := strings.Cut(kv, "=")
		c.that(ok && name != "", at, "NAME=VALUE", "no name, or no =")
		c.that(!seen[name], at, "each name once", quote(name)+" again")
		seen[name] = true
	}
}

// path checks an absolute path within a container.
func (c *check) path(field, p string) {
	ok := path.IsAbs(p) && len(p) <= maxPath && !strings.Contains(p, "\x00") && !slices.Contains(strings.Split(p, "/"), "..")
	c.that(ok, field, "an absolute path without ..", quote(p))
}

func (c *check) capabilities(sets *guestv1.Capabilities) {
	for _, s := range []struct {
		name string
		list []string
	}{
		{"bounding", sets.GetBounding()},
		{"effective", sets.GetEffective()},
		{"inheritable", sets.GetInheritable()},
		{"permitted", sets.GetPermitted()},
		{"ambient", sets.GetAmbient()},
	} {
		field := "capabilities." + s.name
		c.size(field, len(s.list), 0, maxCapabilities)
		for i, name := range s.list {
			c.form(fmt.Sprintf("%s[%d]", field, i), name, capabilityForm)
			c.that(!slices.Contains(s.list[:i], name), fmt.Sprintf("%s[%d]", field, i), "each once", quote(name)+" again")
		}
	}
}

func (c *check) mounts(list []*guestv1.Mount) {
	c.size("mounts", len(list), 0, maxMounts)
	seen := map[string]bool{}
	logs := 0
	for i, m := range list {
		at := fmt.Sprintf("mounts[%d].", i)
		destination := m.GetDestination()
		c.path(at+"destination", destination)
		clean := path.Clean(destination) == destination && destination != "/"
		c.that(clean, at+"destination", "a clean path below /", quote(destination))
		own := destination == evidencewire.Directory || strings.HasPrefix(destination, evidencewire.Directory+"/") ||
			strings.HasPrefix(destination, evidencewire.ContextPrefix)
		c.that(!own, at+"destination", "a path outside of "+evidencewire.Directory+" and "+evidencewire.ContextPrefix+"*, which are the guest's own", quote(destination))
		c.that(!seen[destination], at+"destination", "each once", quote(destination)+" again")
		seen[destination] = true
		c.form(at+"source", m.GetSource(), sourceForm)
		if container.IsTerminationLog(strings.TrimPrefix(m.GetSource(), sandboxScheme)) {
			logs++
			c.that(logs == 1, at+"source", "one termination log", quote(m.GetSource())+" as well")
		}
		c.that(m.GetType() == "bind", at+"type", `"bind"`, quote(m.GetType()))
		c.size(at+"options", len(m.GetOptions()), 0, maxOptions)
		for j, o := range m.GetOptions() {
			c.that(slices.Contains(mountOptions, o), fmt.Sprintf("%soptions[%d]", at, j), "a bind mount's option", quote(o))
		}
	}
	c.nothingBelowShares(list)
}

// systemDirectories are where each container has mounts of the guest's own, by their usual other name too: many images have
// /var/run as a link.
var systemDirectories = []string{
	"/dev/pts", "/proc/sys", "/sys/fs/cgroup", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf",
	evidencewire.Directory, "/var" + evidencewire.Directory,
}

// nothingBelowShares keeps every other mount out of the directories that the host may serve: it could have such a mount go away,
// and put something of its own in its place, or lead the runtime astray while it is made.
func (c *check) nothingBelowShares(list []*guestv1.Mount) {
	for i, m := range list {
		if !container.MayBeShared(strings.TrimPrefix(m.GetSource(), sandboxScheme)) {
			continue
		}
		below := func(p string) bool { return strings.HasPrefix(p, m.GetDestination()+"/") }
		for j, o := range list {
			c.that(!below(o.GetDestination()), fmt.Sprintf("mounts[%d].destination", j), "a path outside of what the host may serve", quote(o.GetDestination()))
		}
		c.that(!slices.ContainsFunc(systemDirectories, below), fmt.Sprintf("mounts[%d].destination", i),
			"a path above none of the guest's own mounts", quote(m.GetDestination()))
	}
}

// program checks what create and exec have in common.
func (c *check) program(command, env []string, dir, user string, caps *guestv1.Capabilities) {
	c.strings("command", command, 1, maxArgs)
	c.that(len(command) == 0 || command[0] != "", "command[0]", "a program", "an empty string")
	c.environment(env)
	c.path("working_dir", dir)
	c.form("user", user, userForm)
	c.capabilities(caps)
}
