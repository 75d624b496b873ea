// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/lifecycle"
	"cofferdam.dev/internal/group/recording"
	"cofferdam.dev/internal/sandbox"
	"cofferdam.dev/internal/sandbox/metadata"
	"cofferdam.dev/internal/sandbox/network"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/sandbox/tap"
	"cofferdam.dev/internal/simsp"
)

// errCalledOff ends a start whose starter is gone.
var errCalledOff = errors.New("the start was called off, or the command that asked for it ended")

// start takes the group from its plan to running containers. On an error the caller takes down what was reached.
func (s *supervisor) start(ctx context.Context, rep *report) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-rep.gone:
			cancel(errCalledOff)
		case <-ctx.Done():
		}
	}()
	err := s.startIn(ctx, rep)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (s *supervisor) startIn(ctx context.Context, rep *report) error {
	s.update(func(r *group.Record) { r.State, r.SupervisorPID = group.StateStarting, os.Getpid() })
	life, err := lifecycle.New(s.plan.Lives(), s.plan.RestartPolicy, s.cfg.Times)
	if err != nil {
		return err
	}
	s.life = life
	contents, err := s.contents()
	if err != nil {
		return err
	}
	defer contents.Zero()
	roots, err := s.bootMachine(ctx)
	if err != nil {
		return err
	}
	s.stage(rep, group.StageMachine)
	err = s.vm.Ready(ctx)
	if err != nil {
		return err
	}
	s.stage(rep, group.StageGuest)
	err = s.vm.Guest().SetPolicy(ctx, s.plan.Policy)
	if err != nil {
		return s.explain(err)
	}
	err = s.loadSigned(ctx)
	if err != nil {
		return s.explain(err)
	}
	s.stage(rep, group.StagePolicy)
	s.tellImages()
	err = s.configureNetwork(ctx)
	if err != nil {
		return s.explain(err)
	}
	for i, c := range s.plan.Containers {
		err = s.vm.Guest().MountRoot(ctx, c.ID, roots[i])
		if err != nil {
			return s.explain(fmt.Errorf("container %s: %w", c.Name, err))
		}
		s.containers = append(s.containers, newContainer(c, roots[i], !lifecycle.MayRestart(c.Life, s.plan.RestartPolicy)))
	}
	s.stage(rep, group.StageLayers)
	err = s.prepareVolumes(ctx, contents)
	if err != nil {
		return s.explain(err)
	}
	contents.Zero()
	err = s.createContainers(ctx)
	if err != nil {
		return s.explain(err)
	}
	err = s.listen()
	if err != nil {
		return err
	}
	s.stage(rep, group.StageContainers)
	err = s.awaitAttach(ctx, rep)
	if err != nil {
		return s.explain(err)
	}
	return s.begin(ctx, rep)
}

// contents are the files of the plan's volumes.
func (s *supervisor) contents() (group.Contents, error) {
	if !s.plan.NeedsContents() {
		return nil, nil
	}
	if s.cfg.Contents == nil {
		return nil, group.ErrContentsNeeded
	}
	return s.cfg.Contents(s.plan)
}

// loadSigned hands over what adds to the policy: trust lists first, since fragments may need receipts of their ledgers.
func (s *supervisor) loadSigned(ctx context.Context) error {
	for i, l := range s.plan.TrustLists {
		_, err := s.vm.Guest().LoadTrustList(ctx, l)
		if err != nil {
			return fmt.Errorf("trust list %d: %w", i, err)
		}
	}
	for i, f := range s.plan.Fragments {
		_, err := s.vm.Guest().LoadFragment(ctx, f)
		if err != nil {
			return fmt.Errorf("fragment %d: %w", i, err)
		}
	}
	return nil
}

// explain prefers the machine's end to the broken call that was its consequence.
func (s *supervisor) explain(err error) error {
	if s.diskFull() {
		err = fmt.Errorf("%s (while: %w)", sandbox.DiskFull, err)
	}
	if guestv1.DenialFrom(err) != nil {
		return err
	}
	select {
	case <-s.vm.Done():
	case <-s.vm.Disconnected(): // then the machine ends too, or is ended soon
		select {
		case <-s.vm.Done():
		case <-time.After(killGrace):
			return err
		}
	case <-time.After(time.Second): // a call breaks a moment before the connection is known to be gone
		return err
	}
	exit := s.vm.Exit().Err()
	if exit == nil {
		return err
	}
	return fmt.Errorf("%w (while: %w)", exit, err)
}

// bootMachine starts the machine and returns the containers' root filesystems.
func (s *supervisor) bootMachine(ctx context.Context) ([]sandbox.Root, error) {
	emulator, err := s.cfg.Probe(ctx, s.plan.QEMU)
	if err != nil {
		return nil, err
	}
	disks, err := arrange(s.plan, s.dir)
	if err != nil {
		return nil, err
	}
	err = disks.prepare()
	if err != nil {
		return nil, err
	}
	cfg := sandbox.Config{
		Emulator: emulator,
		Machine: qemu.Config{
			Name: s.plan.Name, Accelerator: s.plan.Accelerator, TEE: s.plan.TEE,
			VCPUs: s.plan.VCPUs, MemoryMiB: s.plan.MemoryMiB,
			Kernel: s.plan.Boot.Kernel, Initrd: s.plan.Boot.Initrd, Cmdline: s.plan.Boot.Cmdline,
			Firmware: s.plan.Boot.Firmware, HostData: s.plan.PolicyHash(), Disks: disks.disks,
			TDX: qemu.TDXConfig{QuoteCID: qemu.DefaultQuoteCID, QuotePort: qemu.DefaultQuotePort}, // asked only for quotes
		},
		ConsolePath: group.ConsolePath(s.dir),
		Logger:      s.log,
	}
	cfg.Watch, err = s.watcher()
	if err != nil {
		return nil, err
	}
	switch {
	case group.Neighbourly(s.plan.Network):
		cfg.TAP, err = tap.Parse(s.plan.Network)
		if err != nil {
			return nil, err
		}
	case s.plan.Network != group.NetworkNone:
		cfg.Network, cfg.HostPorts = network.Mode(s.plan.Network), s.plan.HostPorts
		if s.plan.IdentityFile != "" {
			cfg.Metadata = &metadata.Server{TokenFile: s.plan.IdentityFile}
			s.warn("a token in a file stands in for the group's managed identity: for development only")
		}
		for _, p := range s.plan.Ports {
			cfg.Forwards = append(cfg.Forwards, network.Forward(p))
		}
	}
	if s.plan.TEE == qemu.Simulated {
		err = s.launchSimulated()
		if err != nil {
			return nil, err
		}
		cfg.Simulator = s.sim
	}
	s.vm, err = sandbox.Start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithCancel(s.ctx)
	s.serving, s.close = context.WithCancel(s.ctx)
	s.noteMachine(emulator)
	s.notes.Go(s.noteDiskFull)
	s.notes.Go(func() {
		<-s.vm.Done()
		cancel()
	})
	return disks.roots, nil
}

// watcher looks on at what the guest is asked: refusals go to our log, and everything to a recording if there is one.
func (s *supervisor) watcher() (func(guestv1.GuestService) guestv1.GuestService, error) {
	o := recording.Options{Log: s.log, Failed: func(err error) { s.warn(err.Error()) }, Refused: s.denied}
	if s.plan.Record != "" {
		var err error
		s.recording, err = recording.Create(s.plan.Record)
		if err != nil {
			return nil, err
		}
		o.Record = s.recording
	}
	return func(g guestv1.GuestService) guestv1.GuestService { return recording.Watch(g, o) }, nil
}

// launchSimulated has the simulated secure processor measure what will be booted.
func (s *supervisor) launchSimulated() error {
	p, err := simsp.Open(filepath.Join(s.store.Home(), "simsp"))
	if err != nil {
		return err
	}
	s.sim, err = p.Launch(simsp.Launch{
		KernelPath: s.plan.Boot.Kernel, InitrdPath: s.plan.Boot.Initrd, Cmdline: s.plan.Boot.Cmdline,
		VCPUs: s.plan.VCPUs, HostData: s.plan.PolicyHash(), Policy: snp.GuestPolicy(qemu.DefaultSNPPolicy),
	})
	return err
}

func (s *supervisor) noteMachine(emulator *qemu.Emulator) {
	s.update(func(r *group.Record) {
		r.MachinePID = s.vm.PID()
		r.QEMU = fmt.Sprintf("%s %s", emulator.Path, emulator.Version)
		r.Ports = nil
		for _, f := range s.vm.Forwards() {
			r.Ports = append(r.Ports, group.Port(f))
		}
		r.Warnings = append(r.Warnings, s.vm.Warnings()...)
		if s.sim != nil {
			m := s.sim.Measurement()
			r.Measurement = hex.EncodeToString(m[:])
		}
	})
}

// createContainers creates every container, those that start much later too: what a policy refuses is known at once.
func (s *supervisor) createContainers(ctx context.Context) error {
	err := s.openLogs()
	if err != nil {
		return err
	}
	for _, c := range s.containers {
		r := &run{n: 1, id: c.plan.ID, over: make(chan struct{}), left: remains{overlay: true, scratch: c.root.Scratch != ""}}
		c.announce(r.id)
		err = s.create(ctx, c, r)
		if err != nil {
			return fmt.Errorf("container %s: %w", c.plan.Name, err)
		}
		c.replace(r)
	}
	return nil
}

// dropped are the names of variables that were asked for and not given. Their values are nobody's business.
func dropped(asked, given []string) []string {
	var names []string
	for _, v := range asked {
		name, _, _ := strings.Cut(v, "=")
		if !slices.Contains(given, v) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func createRequest(c *group.ContainerPlan, id string) *guestv1.CreateContainerRequest {
	r := &guestv1.CreateContainerRequest{
		ContainerId: id, Command: c.Command, Env: c.Env, WorkingDir: c.WorkingDir, User: c.User,
		NoNewPrivileges: c.NoNewPrivileges, Privileged: c.Privileged, Seccomp: c.Seccomp, Hostname: c.Hostname,
		MemoryLimitBytes: c.MemoryLimitBytes, CpuMillis: c.CPUMillis, ReadOnlyRoot: c.ReadOnlyRoot,
		Capabilities: capabilities(c.Capabilities), Stdio: &guestv1.Stdio{},
	}
	if !c.NoStdio {
		r.Stdio = &guestv1.Stdio{Stdin: c.Stdin || c.Terminal, Stdout: true, Stderr: !c.Terminal, Terminal: c.Terminal}
	}
	for _, m := range c.Mounts {
		r.Mounts = append(r.Mounts, &guestv1.Mount{
			Destination: m.Destination, Source: m.Source, Type: m.Type, Options: m.Options,
		})
	}
	return r
}

func capabilities(k *group.Capabilities) *guestv1.Capabilities {
	if k == nil {
		return nil
	}
	return &guestv1.Capabilities{
		Bounding: k.Bounding, Effective: k.Effective, Inheritable: k.Inheritable, Permitted: k.Permitted, Ambient: k.Ambient,
	}
}

// awaitAttach holds the start until a client is attached, if the plan asks for that.
func (s *supervisor) awaitAttach(ctx context.Context, rep *report) error {
	if !s.plan.WaitForAttach {
		return nil
	}
	s.stage(rep, group.StageAttach)
	select {
	case <-s.attached:
		return nil
	case <-s.stop:
		return errStopped
	case <-ctx.Done():
		return ctx.Err()
	case <-s.vm.Done():
		return errors.New("waiting for a client to attach")
	}
}
