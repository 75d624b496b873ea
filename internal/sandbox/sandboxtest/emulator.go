// SPDX-License-Identifier: Apache-2.0

// Package sandboxtest is a QEMU that is none: a test binary that runs itself as the emulator, speaks the monitor's
// protocol, and plays a guest agent whose containers are ordinary processes. Tests of a machine's life use it, because
// it starts in milliseconds and can be told to misbehave. It is for tests alone and protects nothing.
package sandboxtest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"cofferdam.dev/internal/sandbox/qemu"
)

// The words that the kernel command line may hold to make the emulator misbehave.
const (
	BootFails   = "fake.fails"    // QEMU ends with an error message
	BootHangs   = "fake.hangs"    // the guest never answers
	BootPanics  = "fake.panics"   // the guest's kernel panics before the agent runs
	BootLies    = "fake.lies"     // the guest claims another TEE
	IgnorePower = "fake.no-power" // the guest does not power off
)

// The commands of containers that are not run but acted out.
const (
	CommandDenied      = "/fake/denied"      // refused by the policy on creation
	CommandOnce        = "/fake/once"        // fails on start, and is refused by the policy when it is created again
	CommandPanic       = "/fake/panic"       // the kernel panics on start
	CommandReset       = "/fake/reset"       // the machine resets on start
	CommandPowerOff    = "/fake/power-off"   // the machine powers off on start
	CommandHang        = "/fake/hang"        // the guest answers nothing any more
	CommandChannel     = "/fake/channel"     // the agent closes the channel and goes on
	CommandKillQEMU    = "/fake/kill"        // QEMU is killed
	CommandOutOfMemory = "/fake/out-of-mem"  // the process is killed for want of memory
	CommandDiskFull    = "/fake/disk-full"   // the host has no room for many writes, and the process fails
	CommandFullPanic   = "/fake/full-panic"  // likewise, and the kernel panics
	CommandNoSignals   = "/fake/no-signals"  // sleeps; the policy allows no signals
	CommandFloodPrint  = "/fake/flood-print" // sleeps, and floods the console
)

// DroppedVariable is the name of a variable that the played policy does not let through.
const DroppedVariable = "FAKE_DROPPED"

// RunIfEmulator plays the emulator and does not return, if the program was started as one. Call it first in TestMain.
func RunIfEmulator() {
	if len(os.Args) > 2 && os.Args[1] == "-name" && slices.Contains(os.Args, "-nodefaults") {
		os.Exit(run(os.Args[1:]))
	}
}

// Emulator is the running test binary as an emulator.
func Emulator() (*qemu.Emulator, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding the test binary: %w", err)
	}
	return &qemu.Emulator{Path: path, Version: qemu.Version{Major: 10}, StreamNetwork: true}, nil
}

// machine is the played machine.
type machine struct {
	append  string
	tee     string
	console net.Conn

	mu      sync.Mutex
	monitor net.Conn
	exit    chan int
	// listened is closed when the monitor has had its first command: QEMU tells of no event before.
	listened   chan struct{}
	listenOnce sync.Once
}

func run(args []string) int {
	m := &machine{append: commandLine(args), tee: qemu.Simulated, exit: make(chan int, 1), listened: make(chan struct{})}
	if m.has(BootFails) {
		fmt.Fprintln(os.Stderr, "qemu: the fake emulator was told to fail")
		return 1
	}
	var err error
	m.monitor, err = inherited(args, "qmp")
	if err != nil {
		fmt.Fprintln(os.Stderr, "qemu:", err)
		return 1
	}
	m.console, err = inherited(args, "console")
	if err != nil {
		fmt.Fprintln(os.Stderr, "qemu:", err)
		return 1
	}
	control, err := inherited(args, "ctl")
	if err != nil {
		fmt.Fprintln(os.Stderr, "qemu:", err)
		return 1
	}
	go m.serveMonitor()
	_, _ = m.console.Write([]byte("the fake kernel boots\n"))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	switch {
	case m.has(BootHangs):
	case m.has(BootPanics):
		go func() {
			<-m.listened
			m.end("guest-panic", true)
		}()
	default:
		go newGuest(m).serve(ctx, control)
	}
	return <-m.exit
}

func (m *machine) has(word string) bool { return slices.Contains(strings.Fields(m.append), word) }

// commandLine returns the kernel's command line.
func commandLine(args []string) string {
	i := slices.Index(args, "-append")
	if i < 0 || i+1 >= len(args) {
		return ""
	}
	return args[i+1]
}

// inherited returns the connection behind a socket chardev.
func inherited(args []string, id string) (net.Conn, error) {
	find := regexp.MustCompile(`^socket,id=` + id + `,fd=([0-9]+)$`)
	for _, a := range args {
		match := find.FindStringSubmatch(a)
		if match == nil {
			continue
		}
		fd, err := strconv.Atoi(match[1])
		if err != nil {
			return nil, err
		}
		f := os.NewFile(uintptr(fd), id)
		defer func() { _ = f.Close() }()
		return net.FileConn(f)
	}
	return nil, fmt.Errorf("no chardev %s", id)
}

// serveMonitor speaks the monitor's protocol.
func (m *machine) serveMonitor() {
	m.send(`{"QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 0}}, "capabilities": []}}`)
	s := bufio.NewScanner(m.monitor)
	for s.Scan() {
		var c struct {
			Execute string `json:"execute"`
		}
		if json.Unmarshal(s.Bytes(), &c) != nil {
			m.send(`{"error": {"class": "GenericError", "desc": "bad JSON"}}`)
			continue
		}
		m.send(`{"return": {}}`)
		m.listenOnce.Do(func() { close(m.listened) })
		if c.Execute == "quit" {
			m.end("host-qmp-quit", false)
		}
	}
}

func (m *machine) send(line string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _ = m.monitor.Write([]byte(line + "\n"))
}

// noSpace says many times that the host's disk is full.
func (m *machine) noSpace() {
	for range 10 {
		m.send(`{"event": "BLOCK_IO_ERROR", "data": {"device": "", "node-name": "disk1", "operation": "write", ` +
			`"action": "report", "nospace": true, "reason": "No space left on device"}}`)
	}
}

// end tells why the machine ends, and ends it.
func (m *machine) end(reason string, panicked bool) {
	if panicked {
		_, _ = m.console.Write([]byte("Kernel panic - not syncing: the fake kernel was told to\n"))
		m.send(`{"event": "GUEST_PANICKED", "data": {"action": "shutdown"}}`)
	}
	m.send(fmt.Sprintf(`{"event": "SHUTDOWN", "data": {"guest": true, "reason": %q}}`, reason))
	select {
	case m.exit <- 0:
	default:
	}
}
