// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"cofferdam.dev/attest"
	"cofferdam.dev/internal/agent/container"
	"cofferdam.dev/internal/agent/machine"
	"cofferdam.dev/internal/agent/machine/boot"
	"cofferdam.dev/internal/agent/machine/cgroup"
	"cofferdam.dev/internal/agent/machine/egress"
	"cofferdam.dev/internal/agent/machine/netconf"
	"cofferdam.dev/internal/agent/machine/reaper"
	"cofferdam.dev/internal/agent/workload"
	"cofferdam.dev/internal/channel"
	"cofferdam.dev/policy/engine"
)

// The names of the ports through which the host speaks to the guest, and the places of the guest's own.
const (
	controlPort   = "cofferdam.ctl"
	simulatorPort = "cofferdam.sp"
	hostname      = "cofferdam"
	runtimePath   = "/usr/bin/runc"
	bundleDir     = "/run/cofferdam"
	evidenceRoot  = "/run/evidence"
	volumeRoot    = engine.GuestRoot + "/sandbox/sandboxMounts"
)

// reportTimeout bounds the wait for the guest's own report.
const reportTimeout = time.Minute

// answerTime is what the answer to a power-off request gets to leave the machine.
const answerTime = 50 * time.Millisecond

// gcPercent makes collections rare: what lives is small, and an emulated processor takes long for each.
const gcPercent = 400

// reserve is what of the guest's memory the containers do not get: the agent must live through whatever they do.
func reserve(total uint64) uint64 { return 80<<20 + total/32 }

// Run is the guest's life from the kernel's first process to the end of its last request: it sets the system up, asks
// the processor about it, and serves the host until the host asks for power-off or goes away. The caller powers the
// machine off whatever Run returns.
func Run(ctx context.Context, build string, log *slog.Logger) error {
	sys, err := boot.Start(ctx, hostname)
	if err != nil {
		return err
	}
	if sys.NetworkError != nil {
		log.Warn("there is no network", slog.Any("error", sys.NetworkError))
	}
	provider, err := openProvider(ctx, sys)
	if err != nil {
		return err
	}
	m := machine.New(machine.Config{LoadModules: sys.Modules.Load, Log: log})
	runner, err := newRunner(m, log)
	if err != nil {
		return err
	}
	runner.Privilege = func() error { return sys.Modules.Load("volumes") }
	sockets := &workload.Server{Root: evidenceRoot}
	err = sockets.Setup()
	if err != nil {
		return err
	}
	broker := &channel.Broker{}
	reportCtx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	s, err := New(reportCtx, Config{
		TEE: sys.Parameters.TEE, Build: build, Provider: provider, Machine: m, Runtime: runner, Streams: broker,
		Evidence: sockets, LoadPolicy: LoadPolicy, VolumeRoot: volumeRoot, Log: log,
		Network: defaultNetwork(), Addresses: &addresses{netconf.Device{Config: netconf.Default()}},
		Egress: &egress.Limiter{Group: runner.Group()},
	})
	if err != nil {
		return err
	}
	go func() { // nobody waits for it: it only lets a panic of the kernel be told from a reset
		err := sys.Modules.Load("panic")
		if err != nil {
			log.Warn("a panic will look like a reset", slog.Any("error", err))
		}
	}()
	return serve(ctx, s, broker)
}

// serve answers the host on the control port.
func serve(ctx context.Context, s *Service, broker *channel.Broker) error {
	rpc, err := NewServer(s)
	if err != nil {
		return err
	}
	port, err := boot.OpenPort(ctx, controlPort)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- channel.Serve(ctx, port, rpc, broker) }()
	select {
	case err = <-ended:
		if err != nil {
			return fmt.Errorf("serving the host: %w", err)
		}
		return nil
	case <-s.PowerOffRequested():
		time.Sleep(answerTime)
		return nil
	}
}

// openProvider opens the source of reports that the measured command line names. There is no other.
func openProvider(ctx context.Context, sys *boot.System) (attest.Provider, error) {
	if sys.Parameters.TEE == "simulated" {
		port, err := boot.OpenPort(ctx, simulatorPort)
		if err != nil {
			return nil, err
		}
		return attest.OpenSimulated(port), nil
	}
	for _, group := range []string{sys.Parameters.TEE, "native"} {
		err := sys.Modules.Load(group)
		if err != nil {
			return nil, err
		}
	}
	err := boot.MountConfigFS()
	if err != nil {
		return nil, err
	}
	kind := attest.KindConfigfs
	if sys.Parameters.TEE == "tdx" {
		kind = attest.KindTDX // which can tell the guest what it is, too
	}
	return attest.Open(ctx, kind)
}

// newRunner sets up what runs containers, and keeps memory and processes back from them.
func newRunner(m *machine.Machine, log *slog.Logger) (*container.Runner, error) {
	total, _ := m.MemoryBytes()
	kept := reserve(total)
	if total < 2*kept {
		return nil, fmt.Errorf("the machine has %d MiB of memory, %d are needed", total>>20, 2*kept>>20)
	}
	debug.SetMemoryLimit(int64(kept / 2)) // the rest is for the runtime and the kernel
	debug.SetGCPercent(gcPercent)
	limit, err := processLimit("/proc/sys/kernel")
	if err != nil {
		return nil, fmt.Errorf("reading the limit of processes: %w", err)
	}
	r := &container.Runner{
		Runtime: runtimePath, Dir: bundleDir, Cgroups: cgroup.Root, Children: reaper.New(), Log: log,
		Volumes:   &container.Volumes{Root: volumeRoot, Network: defaultNetwork()},
		PIDsLimit: limit / 2, // the agent must find room for its own
	}
	err = r.Setup(total - kept)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// defaultNetwork describes the network that the guest has unless the host says otherwise.
func defaultNetwork() container.Network {
	n := netconf.Default()
	return container.Network{Addresses: n.IPs(), ResolvConf: n.ResolvConf()}
}

// addresses are those of the guest's network device. What it does half-way breaks the guest.
type addresses struct{ device netconf.Device }

// Configure implements Addresses.
func (a *addresses) Configure(list []netip.Prefix, gateways []netip.Addr) error {
	err := a.device.Configure(list, gateways)
	if errors.Is(err, netconf.ErrIncomplete) {
		return fmt.Errorf("%w: %w", machine.ErrNotUndone, err)
	}
	return err
}

// processLimit returns how many processes there can be: whichever ends first, threads or their numbers.
func processLimit(dir string) (int64, error) {
	limit := int64(math.MaxInt64)
	for _, name := range []string{"threads-max", "pid_max"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return 0, err
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		limit = min(limit, n)
	}
	return limit, nil
}
