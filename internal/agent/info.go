// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/attest"
	"cofferdam.dev/evidence"
	"cofferdam.dev/policy/engine"
)

// maxStacks bounds a dump of goroutine stacks.
const maxStacks = 1 << 20

// Hello implements guestv1.GuestService. It is a sign of life, so it waits for nothing that is going on.
func (s *Service) Hello(context.Context, *guestv1.HelloRequest) (*guestv1.HelloResponse, error) {
	var t unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t)
	if err != nil {
		return nil, failed("Hello", err)
	}
	return &guestv1.HelloResponse{
		Protocol: Protocol, Tee: s.cfg.TEE, Build: s.cfg.Build, PolicySet: s.policySet.Load(),
		UptimeMs: uint64(t.Nano() / 1e6), // time since boot
	}, nil
}

// Properties implements guestv1.GuestService.
func (s *Service) Properties(ctx context.Context, _ *guestv1.PropertiesRequest) (*guestv1.PropertiesResponse, error) {
	point := engine.PointGetProperties
	err := s.enter(string(point))
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	resp := &guestv1.PropertiesResponse{}
	err = s.decide(ctx, point, nil, func(ctx context.Context, u Unit) (engine.Decision, error) {
		return u.GetProperties(ctx)
	}, func(context.Context, engine.Decision) error {
		resp.MemoryTotalBytes, resp.MemoryAvailableBytes = s.cfg.Machine.MemoryBytes()
		for id, i := range s.containers {
			p := &guestv1.ContainerProperties{ContainerId: id, State: string(i.state())}
			if i.state() != stateStopped {
				u, err := s.cfg.Runtime.Usage(id)
				if err == nil { // it may have ended just now
					p.MemoryBytes, p.CpuUsec, p.Pids = u.MemoryBytes, u.CPUMicros, u.PIDs
				}
			}
			resp.Containers = append(resp.Containers, p)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(resp.Containers, func(a, b *guestv1.ContainerProperties) int {
		return slices.Compare([]byte(a.GetContainerId()), []byte(b.GetContainerId()))
	})
	return resp, nil
}

// DumpStacks implements guestv1.GuestService.
func (s *Service) DumpStacks(ctx context.Context, _ *guestv1.DumpStacksRequest) (*guestv1.DumpStacksResponse, error) {
	point := engine.PointDumpStacks
	err := s.enter(string(point))
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	resp := &guestv1.DumpStacksResponse{}
	err = s.decide(ctx, point, nil, func(ctx context.Context, u Unit) (engine.Decision, error) {
		return u.DumpStacks(ctx)
	}, func(context.Context, engine.Decision) error {
		buf := make([]byte, maxStacks)
		resp.Stacks = buf[:runtime.Stack(buf, true)]
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// Evidence implements guestv1.GuestService. What the report commits to is derived from the request in a form that
// marks it as the host's: the host can not choose report data, and so can not obtain the report of a workload.
func (s *Service) Evidence(ctx context.Context, r *guestv1.EvidenceRequest) (*guestv1.EvidenceResponse, error) {
	const call = "Evidence"
	c := newCheck(call)
	c.size("nonce", len(r.GetNonce()), minNonce, maxNonce)
	c.size("runtime_data", len(r.GetRuntimeData()), 0, maxRuntimeData)
	if c.err() != nil {
		return nil, c.err()
	}
	err := s.enter(call)
	if err != nil {
		return nil, err
	}
	s.mu.Unlock() // a slow processor holds up other reports only
	report, err := s.report(ctx, evidence.ReportData(evidence.SourceHost, r.GetNonce(), r.GetRuntimeData()))
	if err != nil {
		return nil, failed(call, err)
	}
	return &guestv1.EvidenceResponse{Type: report.Type, Report: report.Report, Certificates: report.Certificates}, nil
}

// report gets one report at a time, for the host and for the containers: who waits longest is next, and a container never
// waits twice. It holds up nothing else.
func (s *Service) report(ctx context.Context, reportData [64]byte) (*attest.Result, error) {
	s.reports.Lock()
	defer s.reports.Unlock()
	return s.cfg.Provider.Report(context.WithoutCancel(ctx), reportData)
}

// PowerOff implements guestv1.GuestService. It needs no policy: the host can always stop the machine.
func (s *Service) PowerOff(ctx context.Context, _ *guestv1.PowerOffRequest) (*guestv1.PowerOffResponse, error) {
	s.warn("unmounting what the host serves", s.cfg.Runtime.CloseShares()) // first: another call may be waiting for the host
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takeDown(context.WithoutCancel(ctx))
	s.broken = "it is powering off"
	s.offOnce.Do(func() { close(s.off) })
	return &guestv1.PowerOffResponse{}, nil
}

// takeDown ends containers and unmounts what it can. What can not be undone ends with the power.
func (s *Service) takeDown(ctx context.Context) {
	s.warn("unmounting what the host serves", s.cfg.Runtime.CloseShares())
	for id, i := range s.containers {
		if !i.removed {
			s.warn("ending a container", s.remove(ctx, id))
			i.removed = true
		}
	}
	for id, o := range s.overlays {
		s.warn("unmounting a root filesystem", s.cfg.Machine.UnmountOverlay(ctx, o.target))
		delete(s.overlays, id)
	}
	for target, x := range s.scratch {
		s.warn("unmounting a scratch disk", s.cfg.Machine.CloseScratch(ctx, x.at))
		delete(s.scratch, target)
	}
	for target := range s.layers {
		s.warn("unmounting a layer", s.cfg.Machine.CloseLayer(ctx, target))
		delete(s.layers, target)
	}
}

// warn logs what failed, not why: the reason may be the tenant's.
func (s *Service) warn(doing string, err error) {
	if err != nil {
		s.cfg.Log.Warn("failed on the way to power-off: " + doing)
	}
}
