// SPDX-License-Identifier: Apache-2.0

package recording

import (
	"context"
	"log/slog"
	"strings"
	"sync"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/policy/denial"
	"cofferdam.dev/policy/engine"
)

// Options say what to do with what is seen.
type Options struct {
	// Log is told of refusals.
	Log *slog.Logger
	// Record takes the questions that the policy decided; nil records nothing.
	Record *Writer
	// Failed is told, once, that the recording ends early.
	Failed func(error)
	// Refused, if set, is told of each refusal of the policy, with the ID of the container that the request names.
	Refused func(container string, d *guestv1.Denial)
}

// Watch returns a guest that answers as g does, with somebody looking on.
func Watch(g guestv1.GuestService, o Options) guestv1.GuestService {
	return &watcher{GuestService: g, o: o, commands: map[process][]string{}}
}

// process names a process; an empty exec ID is the container's first one.
type process struct{ container, exec string }

type watcher struct {
	guestv1.GuestService
	o Options

	// One request at a time while a recording is made, as the guest handles them: so its order is the guest's.
	mu       sync.Mutex
	commands map[process][]string // of processes that may be signalled

	refusals struct {
		sync.Mutex
		last  string // what was logged last
		count int
	}
}

// maxRefusals bounds how many refusals are logged: a client that tries again and again must not fill the disk.
const maxRefusals = 1000

// refused logs a refusal, unless it is the last one over again.
func (w *watcher) refused(d *guestv1.Denial) {
	r := &w.refusals
	r.Lock()
	defer r.Unlock()
	decision := d.GetDecision()
	if len(decision) > denial.MaxMessage {
		decision = "" // no guest of ours makes such
	}
	this := d.GetPoint() + decision + d.Error()
	if this == r.last || r.count > maxRefusals {
		return
	}
	r.last = this
	r.count++
	if r.count > maxRefusals {
		w.o.Log.Warn("the guest refused a request; further refusals are not logged")
		return
	}
	w.o.Log.Warn("the guest refused a request", slog.String("point", d.GetPoint()),
		slog.String("reasons", strings.Join(d.GetReasons(), "; ")), slog.String("decision", decision))
}

// see makes a call and notes how it went. ask puts the question that the policy was asked.
func see[Q, A any](
	ctx context.Context, w *watcher, q Q, call func(context.Context, Q) (A, error),
	ask func(engine.Requests, A, *guestv1.Denial) (engine.Decision, error),
) (A, error) {
	if w.o.Record != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
	}
	a, err := call(ctx, q)
	d := guestv1.DenialFrom(err)
	if d.GetCode() == guestv1.CodePolicyDenied {
		w.refused(d)
		if w.o.Refused != nil {
			id := ""
			if named, ok := any(q).(interface{ GetContainerId() string }); ok {
				id = named.GetContainerId()
			}
			w.o.Refused(id, d)
		}
	}
	if w.o.Record != nil && (err == nil || d.GetCode() == guestv1.CodePolicyDenied) {
		w.record(d, func(r engine.Requests) (engine.Decision, error) { return ask(r, a, d) })
	}
	return a, err
}

// LoadFragment implements guestv1.GuestService. What a fragment says is in its own file, and no recording replays it.
func (w *watcher) LoadFragment(ctx context.Context, q *guestv1.LoadFragmentRequest) (*guestv1.LoadFragmentResponse, error) {
	return see(ctx, w, q, w.GuestService.LoadFragment, nothing[*guestv1.LoadFragmentResponse])
}

// LoadTrustList implements guestv1.GuestService; the same holds of a trust list.
func (w *watcher) LoadTrustList(ctx context.Context, q *guestv1.LoadTrustListRequest) (*guestv1.LoadTrustListResponse, error) {
	return see(ctx, w, q, w.GuestService.LoadTrustList, nothing[*guestv1.LoadTrustListResponse])
}

func (w *watcher) MountLayer(ctx context.Context, q *guestv1.MountLayerRequest) (*guestv1.MountLayerResponse, error) {
	return see(ctx, w, q, w.GuestService.MountLayer,
		func(r engine.Requests, _ *guestv1.MountLayerResponse, _ *guestv1.Denial) (engine.Decision, error) {
			return r.MountDevice(ctx, q.GetTarget(), hexadecimal(q.GetRootHash()))
		})
}

func (w *watcher) UnmountLayer(ctx context.Context, q *guestv1.UnmountLayerRequest) (*guestv1.UnmountLayerResponse, error) {
	return see(ctx, w, q, w.GuestService.UnmountLayer,
		func(r engine.Requests, _ *guestv1.UnmountLayerResponse, _ *guestv1.Denial) (engine.Decision, error) {
			return r.UnmountDevice(ctx, q.GetTarget())
		})
}

func (w *watcher) MountScratch(ctx context.Context, q *guestv1.MountScratchRequest) (*guestv1.MountScratchResponse, error) {
	return see(ctx, w, q, w.GuestService.MountScratch,
		func(r engine.Requests, _ *guestv1.MountScratchResponse, _ *guestv1.Denial) (engine.Decision, error) {
			return r.RWMountDevice(ctx, q.GetTarget(), true, true, scratchFilesystem)
		})
}

func (w *watcher) UnmountScratch(ctx context.Context, q *guestv1.UnmountScratchRequest) (*guestv1.UnmountScratchResponse, error) {
	return see(ctx, w, q, w.GuestService.UnmountScratch,
		func(r engine.Requests, _ *guestv1.UnmountScratchResponse, _ *guestv1.Denial) (engine.Decision, error) {
			return r.RWUnmountDevice(ctx, q.GetTarget())
		})
}

func (w *watcher) MountOverlay(ctx context.Context, q *guestv1.MountOverlayRequest) (*guestv1.MountOverlayResponse, error) {
	return see(ctx, w, q, w.GuestService.MountOverlay,
		func(r engine.Requests, _ *guestv1.MountOverlayResponse, _ *guestv1.Denial) (engine.Decision, error) {
			return r.MountOverlay(ctx, q.GetContainerId(), q.GetLayerTargets(), q.GetTarget())
		})
}

func (w *watcher) UnmountOverlay(ctx context.Context, q *guestv1.UnmountOverlayRequest) (*guestv1.UnmountOverlayResponse, error) {
	return see(ctx, w, q, w.GuestService.UnmountOverlay,
		func(r engine.Requests, _ *guestv1.UnmountOverlayResponse, _ *guestv1.Denial) (engine.Decision, error) {
			return r.UnmountOverlay(ctx, q.GetTarget())
		})
}

func (w *watcher) CreateContainer(ctx context.Context, q *guestv1.CreateContainerRequest) (*guestv1.CreateContainerResponse, error) {
	return see(ctx, w, q, w.GuestService.CreateContainer,
		func(r engine.Requests, a *guestv1.CreateContainerResponse, d *guestv1.Denial) (engine.Decision, error) {
			w.commands[process{container: q.GetContainerId()}] = q.GetCommand()
			return r.CreateContainer(ctx, createInput(q, a.GetIdentity(), d))
		})
}

func (w *watcher) ExecProcess(ctx context.Context, q *guestv1.ExecProcessRequest) (*guestv1.ExecProcessResponse, error) {
	return see(ctx, w, q, w.GuestService.ExecProcess,
		func(r engine.Requests, a *guestv1.ExecProcessResponse, d *guestv1.Denial) (engine.Decision, error) {
			if a.GetExecId() != "" {
				w.commands[process{q.GetContainerId(), a.GetExecId()}] = q.GetCommand()
			}
			return r.ExecInContainer(ctx, execInput(q, a.GetIdentity(), d))
		})
}

func (w *watcher) SignalProcess(ctx context.Context, q *guestv1.SignalProcessRequest) (*guestv1.SignalProcessResponse, error) {
	return see(ctx, w, q, w.GuestService.SignalProcess,
		func(r engine.Requests, _ *guestv1.SignalProcessResponse, _ *guestv1.Denial) (engine.Decision, error) {
			return r.SignalContainerProcess(ctx, engine.SignalInput{
				ContainerID: q.GetContainerId(), Signal: int(q.GetSignal()), Init: q.GetExecId() == "",
				Args: w.commands[process{q.GetContainerId(), q.GetExecId()}],
			})
		})
}

// WaitProcess implements guestv1.GuestService. No policy is asked; the process is forgotten when it has ended.
func (w *watcher) WaitProcess(ctx context.Context, q *guestv1.WaitProcessRequest) (*guestv1.WaitProcessResponse, error) {
	a, err := w.GuestService.WaitProcess(ctx, q)
	if err == nil && q.GetExecId() != "" {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.commands, process{q.GetContainerId(), q.GetExecId()})
	}
	return a, err
}

func (w *watcher) ShutdownContainer(ctx context.Context, q *guestv1.ShutdownContainerRequest) (*guestv1.ShutdownContainerResponse, error) {
	return see(ctx, w, q, w.GuestService.ShutdownContainer,
		func(r engine.Requests, _ *guestv1.ShutdownContainerResponse, _ *guestv1.Denial) (engine.Decision, error) {
			return r.ShutdownContainer(ctx, q.GetContainerId())
		})
}

func (w *watcher) Properties(ctx context.Context, q *guestv1.PropertiesRequest) (*guestv1.PropertiesResponse, error) {
	return see(ctx, w, q, w.GuestService.Properties,
		func(r engine.Requests, _ *guestv1.PropertiesResponse, _ *guestv1.Denial) (engine.Decision, error) {
			return r.GetProperties(ctx)
		})
}

func (w *watcher) DumpStacks(ctx context.Context, q *guestv1.DumpStacksRequest) (*guestv1.DumpStacksResponse, error) {
	return see(ctx, w, q, w.GuestService.DumpStacks,
		func(r engine.Requests, _ *guestv1.DumpStacksResponse, _ *guestv1.Denial) (engine.Decision, error) {
			return r.DumpStacks(ctx)
		})
}

func nothing[A any](engine.Requests, A, *guestv1.Denial) (engine.Decision, error) {
	return engine.Decision{}, nil
}
