// SPDX-License-Identifier: Apache-2.0

// Package boot makes a running system out of a kernel that has just started PID 1 from its initramfs.
//
// It mounts what programs expect, moves the root so that pivot_root works, loads kernel modules, closes what nobody in
// the guest needs, and brings up the network. Everything that it does is fixed here or in the initramfs and the kernel
// command line, which the launch measured; nothing is taken from the host. The host decides which devices exist: a
// missing one is an error or a wait, never another way of working.
package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/agent/machine/netconf"
)

// System is a booted guest.
type System struct {
	// Parameters are ours on the kernel command line.
	Parameters Parameters
	// Modules loads further kernel modules.
	Modules *Modules
	// NetworkError says why there is no network; nil when it is up. A guest without network is of use.
	NetworkError error
}

// Start turns PID 1 of an initramfs into a running system. It must be called once, before the program has opened files
// by path or started processes.
func Start(ctx context.Context, hostname string) (*System, error) {
	for _, step := range []struct {
		doing string
		do    func() error
	}{
		{"moving the root", moveRoot},
		{"mounting", mountAll},
		{"enabling cgroup controllers", enableControllers},
		{"protecting PID 1", protect},
		{"setting the hostname", func() error { return unix.Sethostname([]byte(hostname)) }},
		{"setting kernel parameters", func() error { return setSysctls("/proc/sys") }},
	} {
		err := step.do()
		if err != nil {
			return nil, fmt.Errorf("booting: %s: %w", step.doing, err)
		}
	}
	s, err := load(ctx)
	if err != nil {
		return nil, fmt.Errorf("booting: %w", err)
	}
	return s, nil
}

func load(ctx context.Context) (*System, error) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, err
	}
	s := &System{}
	s.Parameters, err = ParseCommandLine(string(line))
	if err != nil {
		return nil, err
	}
	s.Modules, err = OpenModules(ModuleList, s.Parameters.TEE == "simulated")
	if err != nil {
		return nil, err
	}
	err = s.Modules.Load("boot")
	if err != nil {
		return nil, err
	}
	err = waitForEntropy(ctx)
	if err != nil {
		return nil, err
	}
	s.NetworkError = netconf.Up(netconf.Default())
	return s, nil
}

// moveRoot puts a mount of its own over the initramfs. The kernel refuses pivot_root, which container runtimes use,
// while the root is the initramfs itself.
func moveRoot() error {
	const place = "/run" // any directory that is empty now
	err := unix.Mount("/", place, "", unix.MS_BIND, "")
	if err != nil {
		return fmt.Errorf("binding the root: %w", err)
	}
	err = unix.Chdir(place)
	if err != nil {
		return err
	}
	err = unix.Mount(".", "/", "", unix.MS_MOVE, "")
	if err != nil {
		return fmt.Errorf("moving the new root over the old: %w", err)
	}
	err = unix.Chroot(".")
	if err != nil {
		return err
	}
	return unix.Chdir("/")
}

// enableControllers lets child groups be limited and counted.
func enableControllers() error {
	return os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+cpu +memory +pids +io"), 0)
}

// MaxFiles is the limit on open files that PID 1 gives itself and its children.
const MaxFiles = 524288

// protect keeps the out-of-memory killer away from PID 1, whose end is the machine's end, and sets limits that
// children inherit. Children inherit the protection too: whoever starts a container must give it a score of its own.
func protect() error {
	err := os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0)
	if err != nil {
		return err
	}
	err = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) // a core file would put memory on a disk
	if err != nil {
		return fmt.Errorf("forbidding core files: %w", err)
	}
	err = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: MaxFiles, Max: MaxFiles})
	if err != nil {
		return fmt.Errorf("raising the limit on open files: %w", err)
	}
	unix.Umask(0o022)
	return nil
}

// waitForEntropy waits until the kernel's random number generator is seeded, so that no key is drawn before.
func waitForEntropy(ctx context.Context) error {
	var b [1]byte
	for {
		_, err := unix.Getrandom(b[:], unix.GRND_NONBLOCK)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("reading random numbers: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the random number generator: %w", ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Parameters are what the kernel command line says to the agent.
type Parameters struct {
	// TEE is "simulated", "snp" or "tdx".
	TEE string
}

// ParseCommandLine reads the words that begin with "cofferdam." and ignores the kernel's own. An unknown word, one
// given twice and a missing TEE are errors: the line is measured, so a wrong one is a build's mistake.
func ParseCommandLine(line string) (Parameters, error) {
	const prefix = "cofferdam."
	var p Parameters
	for word := range strings.FieldsSeq(line) {
		if !strings.HasPrefix(word, prefix) {
			continue
		}
		key, value, _ := strings.Cut(strings.TrimPrefix(word, prefix), "=")
		switch {
		case key != "tee":
			return Parameters{}, fmt.Errorf("kernel command line: parameter %q is unknown", word)
		case p.TEE != "":
			return Parameters{}, fmt.Errorf("kernel command line: %stee is given twice", prefix)
		case value != "simulated" && value != "snp" && value != "tdx":
			return Parameters{}, fmt.Errorf("kernel command line: %stee is %q, want simulated, snp or tdx", prefix, value)
		}
		p.TEE = value
	}
	if p.TEE == "" {
		return Parameters{}, fmt.Errorf("kernel command line: %stee is missing", prefix)
	}
	return p, nil
}
