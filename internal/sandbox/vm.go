// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/channel"
	"cofferdam.dev/internal/sandbox/network"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/sandbox/qmp"
	"cofferdam.dev/internal/sandbox/tap"
)

// The times that a machine is given. They are generous: an emulated machine on a loaded host stalls for many seconds,
// and a wrong guess ends somebody's work.
const (
	DefaultBootTimeout     = 4 * time.Minute
	DefaultHangTimeout     = 90 * time.Second
	DefaultPowerOffTimeout = 30 * time.Second
	heartbeatInterval      = time.Second
	channelGrace           = 10 * time.Second
	monitorTimeout         = 30 * time.Second
	emulatorGrace          = 10 * time.Second
)

// Device answers the guest on a port of its own.
type Device interface {
	Serve(ctx context.Context, port io.ReadWriteCloser) error
}

// Config describes a machine and what belongs to it.
type Config struct {
	Emulator *qemu.Emulator
	// Machine needs neither Version nor FDs nor UserNetwork: they are filled in here.
	Machine qemu.Config
	// Simulator is the simulated secure processor. It is required for the simulated TEE and refused otherwise.
	Simulator Device
	// Network is "" for a machine without a network. TAP, if set, connects it to one of the host's instead, with neither
	// forwards nor host ports.
	Network  network.Mode
	TAP      tap.Network
	Forwards []network.Forward
	// HostPorts are TCP ports of the host's loopback that the machine may reach (network.Config).
	HostPorts []uint16
	// Metadata answers the machine at the address of the cloud's metadata service (network.Config).
	Metadata http.Handler
	// ConsolePath is the file that the console is written to; empty keeps only the end of it in memory.
	ConsolePath string
	// BootTimeout and HangTimeout are how long the guest may take to answer for the first time, and later; 0 means the
	// default.
	BootTimeout, HangTimeout time.Duration
	Logger                   *slog.Logger
	// Watch puts somebody between us and the guest who sees what is asked; nil is nobody.
	Watch func(guestv1.GuestService) guestv1.GuestService
}

// VM is a machine that was started.
type VM struct {
	cfg      Config
	proc     *process
	control  *channel.Client
	guest    *Guest
	console  *console
	net      *network.Network
	tap      *os.File // the host's device, until QEMU has it
	forwards []network.Forward
	warnings []string

	ctx     context.Context // ends with the machine; the goroutines hang on it
	cancel  context.CancelFunc
	workers sync.WaitGroup
	ready   chan struct{} // closed when the guest has answered
	done    chan struct{}
	full    chan struct{} // closed when the host had no room for what the machine wrote
	exit    Exit

	mu  sync.Mutex
	obs observed
}

// Start boots a machine and returns when QEMU runs. Ports that are in use, missing files and the like are told at once.
// Follow it with Ready. The machine ends with this process, or with Kill, if it does not end by itself.
func Start(ctx context.Context, cfg Config) (*VM, error) {
	if cfg.BootTimeout == 0 {
		cfg.BootTimeout = DefaultBootTimeout
	}
	if cfg.HangTimeout == 0 {
		cfg.HangTimeout = DefaultHangTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Emulator == nil || (cfg.Simulator != nil) != (cfg.Machine.TEE == qemu.Simulated) {
		return nil, fmt.Errorf("starting a machine: an emulator is needed, and a simulator for the TEE %q alone", qemu.Simulated)
	}
	cfg.Machine.Version = cfg.Emulator.Version
	vm := &VM{cfg: cfg, ready: make(chan struct{}), done: make(chan struct{}), full: make(chan struct{})}
	vm.ctx, vm.cancel = context.WithCancel(context.WithoutCancel(ctx))
	err := vm.start(ctx)
	if err != nil {
		vm.cancel()
		return nil, err
	}
	return vm, nil
}

// start builds the parts in order. On an error it takes down what was built.
func (vm *VM) start(ctx context.Context) error {
	var undo []func()
	ok := false
	defer func() {
		for i := len(undo) - 1; i >= 0 && !ok; i-- {
			undo[i]()
		}
	}()
	err := vm.openNetwork()
	if err != nil {
		return err
	}
	if vm.tap != nil {
		defer func() { _ = vm.tap.Close() }() // QEMU's copy is what counts
	}
	if vm.net != nil {
		undo = append(undo, func() { _ = vm.net.Close() }) // the first error is the telling one
	}
	p, err := vm.openPorts()
	undo = append(undo, p.closeTheirs, p.closeOurs)
	if err != nil {
		return err
	}
	args, err := vm.cfg.Machine.Args()
	if err != nil {
		return err
	}
	vm.console, err = openConsole(vm.cfg.ConsolePath)
	if err != nil {
		return err
	}
	vm.proc, err = startProcess(vm.cfg.Emulator.Path, args, p.theirs)
	if err != nil {
		return err
	}
	p.closeTheirs() // the child has its copies; ours would keep the channels open after its death
	return vm.connect(ctx, p, &ok)
}

// connect starts what serves the running machine. From here on the machine's end is waited for in one place, watch,
// and *started tells the caller that watch takes down what it built.
func (vm *VM) connect(ctx context.Context, p *ports, started *bool) error {
	printed := make(chan struct{})
	go func() {
		defer close(printed)
		vm.console.run(p.console)
	}()
	if p.simulator != nil {
		vm.workers.Go(func() {
			err := vm.cfg.Simulator.Serve(vm.ctx, p.simulator)
			vm.note("simulated secure processor", err)
		})
	}
	if p.network != nil {
		vm.workers.Go(func() { vm.note("network", vm.net.Serve(p.network)) })
	}
	*started = true
	monitor := make(chan *qmp.Client, 1)
	go vm.watch(p, monitor, printed)

	ctx, cancel := context.WithTimeout(ctx, monitorTimeout)
	defer cancel()
	m, err := qmp.New(ctx, p.monitor)
	if err == nil {
		vm.control, err = channel.NewClient(p.control)
	}
	if err == nil {
		vm.guest = NewGuest(vm.control)
		if vm.cfg.Watch != nil {
			vm.guest.rpc = vm.cfg.Watch(vm.guest.rpc)
		}
		vm.workers.Go(vm.heartbeat)
		vm.workers.Go(vm.watchChannel)
	}
	monitor <- m
	if err == nil {
		return nil
	}
	select { // if QEMU gave up, its own words say more
	case <-vm.proc.exited:
	case <-ctx.Done():
	case <-time.After(emulatorGrace):
	}
	vm.Kill()
	<-vm.done
	if exit := vm.exit.Err(); exit != nil && vm.exit.Reason != Killed {
		return exit
	}
	return fmt.Errorf("starting the machine: %w", err)
}

func (vm *VM) note(what string, err error) {
	if err != nil && vm.ctx.Err() == nil {
		vm.cfg.Logger.Warn("a part of the machine ended", slog.String("part", what), slog.Any("error", err))
	}
}

// Ready waits until the agent inside answers, and has it watched from then on. It is called once. If it does not answer in time, or the
// machine ends, the machine is down when Ready returns its error.
func (vm *VM) Ready(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, vm.cfg.BootTimeout)
	defer cancel()
	hello, err := vm.guest.Hello(call)
	if err != nil {
		return vm.notReady(ctx, call, err)
	}
	if hello.GetProtocol() != Protocol || hello.GetTee() != vm.cfg.Machine.TEE {
		vm.Kill()
		<-vm.done
		return fmt.Errorf("guest speaks protocol %d for TEE %q, want %d and %q",
			hello.GetProtocol(), hello.GetTee(), Protocol, vm.cfg.Machine.TEE)
	}
	close(vm.ready)
	return nil
}

func (vm *VM) notReady(ctx, call context.Context, err error) error {
	if ctx.Err() != nil {
		vm.Kill()
		<-vm.done
		return fmt.Errorf("waiting for the guest: %w", ctx.Err())
	}
	if call.Err() != nil {
		vm.kill(Hung)
		<-vm.done
		return &ExitError{Exit{vm.exit.Reason, fmt.Sprintf("the guest did not answer within %v of its start", vm.cfg.BootTimeout), vm.exit.Console}}
	}
	select {
	case <-vm.done:
	case <-time.After(channelGrace):
		vm.kill(ChannelLost)
		<-vm.done
	}
	exit := vm.exit.Err()
	if exit == nil {
		return fmt.Errorf("waiting for the guest: %w", err)
	}
	return fmt.Errorf("waiting for the guest: %w", exit)
}

// Guest is the client of the agent inside.
func (vm *VM) Guest() *Guest { return vm.guest }

// PID is QEMU's process.
func (vm *VM) PID() int { return vm.proc.cmd.Process.Pid }

// Forwards are the forwarded ports with the host ports that were bound.
func (vm *VM) Forwards() []network.Forward { return vm.forwards }

// Warnings say what the machine does without.
func (vm *VM) Warnings() []string { return vm.warnings }

// Done is closed when the machine has ended and nothing of it is left.
func (vm *VM) Done() <-chan struct{} { return vm.done }

// Disconnected is closed when the guest can not be reached any more.
func (vm *VM) Disconnected() <-chan struct{} { return vm.control.Done() }

// DiskFull is closed the first time that the host has no room for what the machine writes to a disk.
func (vm *VM) DiskFull() <-chan struct{} { return vm.full }

// Exit is how the machine ended. It waits for that.
func (vm *VM) Exit() Exit {
	<-vm.done
	return vm.exit
}

// PowerOff asks the guest to power off, waits for it, and kills the machine when it does not within timeout (0 means
// DefaultPowerOffTimeout). It returns how the machine ended.
func (vm *VM) PowerOff(ctx context.Context, timeout time.Duration) Exit {
	if timeout == 0 {
		timeout = DefaultPowerOffTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	vm.mu.Lock()
	vm.obs.asked = true
	vm.mu.Unlock()
	err := vm.guest.PowerOff(ctx)
	if err != nil {
		vm.cfg.Logger.Debug("asking the guest to power off", slog.Any("error", err)) // it may be gone before it can answer
	}
	select {
	case <-vm.done:
	case <-ctx.Done():
		vm.Kill()
		<-vm.done
	}
	return vm.exit
}

// Kill ends the machine at once. Wait for Done to know that nothing is left.
func (vm *VM) Kill() { vm.kill(Killed) }

func (vm *VM) kill(why Reason) {
	select {
	case <-vm.proc.exited: // it ended by itself, and that is what counts
		return
	default:
	}
	vm.mu.Lock()
	if vm.obs.killed == "" {
		vm.obs.killed = why
	}
	vm.mu.Unlock()
	vm.proc.kill()
}
