// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/agent/machine/block"
	"cofferdam.dev/internal/agent/machine/devmapper"
	"cofferdam.dev/internal/guestimage/scratchfmt"
)

// Errors that a caller may tell apart.
var (
	// ErrInUse says that the target holds a mount already, or that something still uses what should be closed.
	ErrInUse = errors.New("in use")
	// ErrNotMounted says that the target is none of ours.
	ErrNotMounted = errors.New("not mounted")
	// ErrNotUndone says that an operation failed half-way and that a part of it is left: what the kernel holds is not
	// what the caller's records say.
	ErrNotUndone = devmapper.ErrLeft
)

// Config is what a Machine needs. The zero Config is that of the guest.
type Config struct {
	// Disks finds disks by serial number.
	Disks block.Finder
	// LoadModules loads the kernel modules of a group; nil means that they are there.
	LoadModules func(group string) error
	// Template reads the empty filesystem of a size class; nil means from scratchfmt's directory.
	Template func(scratchfmt.Class) (*scratchfmt.Template, error)
	// Log gets one line for each device opened and closed; nil discards them.
	Log *slog.Logger
}

// Machine is the guest's kernel. Its methods may be called from several goroutines at once.
type Machine struct {
	cfg Config
	dm  func() (*devmapper.Client, error)

	devices atomic.Uint64 // counts the mapped devices made

	mu       sync.Mutex
	layers   map[string]devmapper.Device // by target
	scratch  map[string]scratchDisk      // by target
	overlays map[string]overlay          // by target
	busy     map[string]bool             // targets on which an operation is under way
}

// New returns a machine with nothing mounted.
func New(cfg Config) *Machine {
	if cfg.LoadModules == nil {
		cfg.LoadModules = func(string) error { return nil }
	}
	if cfg.Template == nil {
		cfg.Template = readTemplate
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Machine{
		cfg:      cfg,
		dm:       sync.OnceValues(devmapper.Open), // the control device appears with the module
		layers:   make(map[string]devmapper.Device),
		scratch:  make(map[string]scratchDisk),
		overlays: make(map[string]overlay),
		busy:     make(map[string]bool),
	}
}

// begin reserves target for one operation. The caller must call the function it returns when it is done.
func (m *Machine) begin(target string) (func(), error) {
	err := checkPath(target)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.busy[target] {
		return nil, fmt.Errorf("another operation on %s is under way: %w", target, ErrInUse)
	}
	m.busy[target] = true
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.busy, target)
	}, nil
}

// free returns an error when something of ours is mounted at target.
func (m *Machine) free(target string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, layer := m.layers[target]
	_, scratch := m.scratch[target]
	_, over := m.overlays[target]
	if layer || scratch || over {
		return fmt.Errorf("%s holds a mount already: %w", target, ErrInUse)
	}
	return nil
}

// pathChars are what our own target paths are made of; none of them has a meaning in a mount option.
const pathChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-"

const maxPath = 200 // fsconfig(2) takes values of up to 255 bytes

func checkPath(p string) error {
	if !path.IsAbs(p) || path.Clean(p) != p || p == "/" || len(p) > maxPath || strings.Trim(p, pathChars) != "" {
		return fmt.Errorf("path %q is not an absolute, clean path of at most %d plain characters", p, maxPath)
	}
	return nil
}

// undone joins the error of an operation with that of undoing what it did until then.
func undone(err, undo error) error {
	if undo == nil {
		return err
	}
	return errors.Join(err, fmt.Errorf("%w: %w", ErrNotUndone, undo))
}

// deviceName makes a device-mapper name that was not used before.
func (m *Machine) deviceName(kind string) string {
	return fmt.Sprintf("%s-%d", kind, m.devices.Add(1))
}

// MemoryBytes is the guest's memory and what of it is available for new work now. Both are 0 when the kernel does not
// say.
func (m *Machine) MemoryBytes() (total, available uint64) {
	total, available, err := readMemory("/proc/meminfo")
	if err != nil {
		m.cfg.Log.Warn("reading the memory's size", slog.Any("error", err))
		return 0, 0
	}
	return total, available
}

// PowerOff writes out what is cached and stops the machine. It returns only when that fails.
func (m *Machine) PowerOff() error {
	unix.Sync()
	err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	if err != nil {
		return fmt.Errorf("powering off: %w", err)
	}
	return nil
}
