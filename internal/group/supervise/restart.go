// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"time"

	groupv1 "cofferdam.dev/api/group/v1"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/lifecycle"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Restart implements the service.
func (c *client) Restart(ctx context.Context, r *groupv1.RestartRequest) (*groupv1.RestartResponse, error) {
	which := c.s.containers
	if r.GetContainer() != "" {
		ct, err := c.s.find(r.GetContainer())
		if err != nil {
			return nil, notFound(err)
		}
		which = []*container{ct}
	}
	runs := make(chan map[*container]int, 1)
	c.s.post(func(now time.Time) { runs <- c.s.restart(which, r.GetContainer() == "", now) })
	select {
	case awaited := <-runs:
		if len(awaited) == 0 {
			return nil, status.Error(codes.FailedPrecondition, "no container can be restarted: the group ends, or it was not started yet")
		}
		return &groupv1.RestartResponse{}, c.s.awaitRuns(ctx, awaited)
	case <-c.s.over:
		return nil, status.Error(codes.FailedPrecondition, "the group is ending")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// restart asks for new runs and returns which.
func (s *supervisor) restart(which []*container, all bool, now time.Time) map[*container]int {
	awaited := map[*container]int{}
	for _, ct := range which {
		ended := s.life.Status(ct.plan.Name).Phase == lifecycle.Ended
		if all && ended && ct.plan.Life.Init {
			continue // it has done its work
		}
		run := s.life.Restart(ct.plan.Name, now)
		if run > 0 {
			awaited[ct] = run
			ct.revive()
		}
	}
	return awaited
}

// awaitRuns waits until the record shows that each run was started, or could not be.
func (s *supervisor) awaitRuns(ctx context.Context, awaited map[*container]int) error {
	for {
		s.mu.Lock()
		noted, done := s.noted, true
		for ct, run := range awaited {
			rc := recordOf(s.record, ct)
			begun := rc.RestartCount >= run || rc.RestartCount == run-1 && rc.State != group.StateCreated
			done = done && begun
		}
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-noted:
		case <-s.over:
			return status.Error(codes.Aborted, "the group ended before its containers were started again")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Stats implements the service.
func (c *client) Stats(ctx context.Context, _ *groupv1.StatsRequest) (*groupv1.StatsResponse, error) {
	p, err := c.s.vm.Guest().Properties(ctx)
	if err != nil {
		return nil, c.s.explain(err)
	}
	resp := &groupv1.StatsResponse{MemoryTotalBytes: p.GetMemoryTotalBytes(), MemoryAvailableBytes: p.GetMemoryAvailableBytes()}
	for _, ct := range c.s.containers {
		id := ct.present().id
		for _, x := range p.GetContainers() {
			if x.GetContainerId() == id {
				resp.Containers = append(resp.Containers, &groupv1.ContainerStats{
					Name: ct.plan.Name, Id: id, State: x.GetState(), MemoryBytes: x.GetMemoryBytes(), CpuUsec: x.GetCpuUsec(), Pids: x.GetPids(),
				})
			}
		}
	}
	return resp, nil
}
