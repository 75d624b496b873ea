// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func files() map[string]string {
	return map[string]string{
		"memory.current": "1052672\n", "pids.current": "3\n",
		"cpu.stat":      "usage_usec 81234\nuser_usec 50000\nsystem_usec 31234\n",
		"memory.events": "low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\noom_group_kill 0\n",
	}
}

func group(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRead(t *testing.T) {
	t.Parallel()
	dir := group(t, files())
	got, err := Read(dir)
	want := Stats{MemoryBytes: 1052672, CPUMicros: 81234, Processes: 3, OOMKills: 1}
	if err != nil || got != want {
		t.Errorf("counters are %+v, %v; want %+v", got, err, want)
	}
	if n, err := OOMKills(dir); err != nil || n != 1 {
		t.Errorf("kills are %d, %v; want 1", n, err)
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	if _, err := Read(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a group that does not exist: %v", err)
	}
	if _, err := OOMKills(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a group that does not exist: %v", err)
	}
	for name, text := range map[string]string{
		"memory.current": "max\n", "pids.current": "", "cpu.stat": "user_usec 1\n", "memory.events": "oom_kill\n",
	} {
		f := files()
		f[name] = text
		if got, err := Read(group(t, f)); err == nil {
			t.Errorf("%s with %q gave %+v", name, text, got)
		}
	}
}
