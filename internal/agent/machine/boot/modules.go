// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ModuleList names the modules of the guest image. Each line is a group and the path of a module, in loading order.
// The group "boot" is loaded always and first; any other is complete together with it.
const ModuleList = "/etc/cofferdam/modules"

const moduleDir = "/usr/lib/modules/"

// Modules loads kernel modules by group.
type Modules struct {
	groups map[string][]string // paths in loading order
	insert func(path string) error

	mu     sync.Mutex
	loaded map[string]bool
}

// OpenModules reads the list at path. With trusting, the kernel does not check the signature that each module carries.
// The modules are part of the measured initramfs either way, so the check proves nothing that the launch digest does
// not; under emulation it costs as much as the rest of loading. A kernel that is locked down refuses such a load.
func OpenModules(path string, trusting bool) (*Modules, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the list of modules: %w", err)
	}
	groups, err := parseModules(string(text))
	if err != nil {
		return nil, fmt.Errorf("reading the list of modules %s: %w", path, err)
	}
	flags := 0
	if trusting {
		// The kernel skips the signature of a module that it was told not to compare with its own version
		// (kernel/module/signing.c, module_sig_check).
		flags = unix.MODULE_INIT_IGNORE_VERMAGIC
	}
	insert := func(file string) error { return insertModule(file, flags) }
	return &Modules{groups: groups, insert: insert, loaded: make(map[string]bool)}, nil
}

func parseModules(text string) (map[string][]string, error) {
	groups := make(map[string][]string)
	n := 0
	for line := range strings.Lines(text) {
		n++
		group, file, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if !ok || group == "" || strings.Trim(group, "abcdefghijklmnopqrstuvwxyz") != "" {
			return nil, fmt.Errorf("line %d is %q, want GROUP PATH", n, line)
		}
		if path.Clean(file) != file || !strings.HasPrefix(file, moduleDir) || !strings.HasSuffix(file, ".ko") {
			return nil, fmt.Errorf("line %d: %q is not a module in %s", n, file, moduleDir)
		}
		groups[group] = append(groups[group], file)
	}
	return groups, nil
}

// Load loads the modules of a group. It does nothing when they were loaded before.
func (m *Modules) Load(group string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	files, ok := m.groups[group]
	if !ok {
		return fmt.Errorf("loading kernel modules: group %q is unknown", group)
	}
	if m.loaded[group] {
		return nil
	}
	for _, file := range files {
		err := m.insert(file)
		// EEXIST: another group had it. ENODEV: a driver found no hardware, which shows when the hardware is used.
		if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("loading kernel module %s: %w", path.Base(file), err)
		}
	}
	m.loaded[group] = true
	return nil
}

func insertModule(file string, flags int) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read from
	return unix.FinitModule(int(f.Fd()), "", flags)
}
