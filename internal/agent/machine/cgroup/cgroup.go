// SPDX-License-Identifier: Apache-2.0

// Package cgroup reads what the kernel counted for a container's control group (cgroup v2).
//
// It only reads. The numbers come from the guest's own kernel; the container can influence them by what it does, and
// nothing else. They are leaked to the host as far as the policy allows it to ask.
package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Root is where the control groups are mounted.
const Root = "/sys/fs/cgroup"

// Stats are a group's counters, its descendants included.
type Stats struct {
	MemoryBytes uint64 // in use now
	CPUMicros   uint64 // used since the group was made
	Processes   uint64 // processes and threads now
	OOMKills    uint64 // processes killed for want of memory
}

// Read reads the counters of the group in dir.
func Read(dir string) (Stats, error) {
	var s Stats
	for _, f := range []struct {
		file, key string
		to        *uint64
	}{
		{"memory.current", "", &s.MemoryBytes},
		{"cpu.stat", "usage_usec", &s.CPUMicros},
		{"pids.current", "", &s.Processes},
		{"memory.events", "oom_kill", &s.OOMKills},
	} {
		text, err := os.ReadFile(filepath.Join(dir, f.file))
		if err != nil {
			return Stats{}, fmt.Errorf("reading control group: %w", err)
		}
		*f.to, err = value(string(text), f.key)
		if err != nil {
			return Stats{}, fmt.Errorf("reading control group: %s: %w", f.file, err)
		}
	}
	return s, nil
}

// OOMKills returns how many processes of the group in dir were killed for want of memory.
func OOMKills(dir string) (uint64, error) {
	text, err := os.ReadFile(filepath.Join(dir, "memory.events"))
	if err != nil {
		return 0, fmt.Errorf("reading control group: %w", err)
	}
	n, err := value(string(text), "oom_kill")
	if err != nil {
		return 0, fmt.Errorf("reading control group: memory.events: %w", err)
	}
	return n, nil
}

// value reads the number that stands after key on a line of its own; without a key, the only number in text.
func value(text, key string) (uint64, error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case key == "" && len(f) == 1:
			return strconv.ParseUint(f[0], 10, 64)
		case key != "" && len(f) == 2 && f[0] == key:
			return strconv.ParseUint(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("no number for %q", key)
}
