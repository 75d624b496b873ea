// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/agent/container"
)

// call is one request of the host.
type call func(context.Context, *rig) error

func done[T any](_ T, err error) error { return err }

// with changes a request that is in order.
func with[T proto.Message](r T, change func(T)) T {
	change(r)
	return r
}

func mountLayer(change func(*guestv1.MountLayerRequest)) call {
	return func(ctx context.Context, r *rig) error { return done(r.MountLayer(ctx, with(layerRequest(7), change))) }
}

func mountOverlay(change func(*guestv1.MountOverlayRequest)) call {
	return func(ctx context.Context, r *rig) error {
		return done(r.MountOverlay(ctx, with(overlayRequest(idB), change)))
	}
}

func create(change func(*guestv1.CreateContainerRequest)) call {
	return func(ctx context.Context, r *rig) error {
		return done(r.CreateContainer(ctx, with(createRequest(idA), change)))
	}
}

func exec(change func(*guestv1.ExecProcessRequest)) call {
	return func(ctx context.Context, r *rig) error {
		return done(r.ExecProcess(ctx, with(execRequest(idA), change)))
	}
}

func signal(change func(*guestv1.SignalProcessRequest)) call {
	return func(ctx context.Context, r *rig) error {
		return done(r.SignalProcess(ctx, with(&guestv1.SignalProcessRequest{ContainerId: idA, Signal: 15}, change)))
	}
}

func mountOf(change func(*guestv1.Mount)) call {
	return create(func(q *guestv1.CreateContainerRequest) {
		m := &guestv1.Mount{Destination: "/data", Source: "sandbox:///tmp/atlas/emptydir/x", Type: "bind", Options: []string{"rw"}}
		change(m)
		q.Mounts = append(q.Mounts, m)
	})
}

// shareAnd mounts a volume that the host may serve at one place, and one that it has nothing to do with at another.
func shareAnd(share, other string) call {
	return create(func(q *guestv1.CreateContainerRequest) {
		q.Mounts = []*guestv1.Mount{
			{Destination: share, Source: "sandbox:///tmp/atlas/azureFileVolume/x", Type: "bind", Options: []string{"rw"}},
			{Destination: other, Source: "sandbox:///tmp/atlas/emptydir/x", Type: "bind", Options: []string{"rw"}},
		}
	})
}

// TestMalformedRequests sends requests with one field wrong. None reaches the policy, none does anything, and the
// field is named.
func TestMalformedRequests(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxArgBytes+1)
	tests := map[string]struct {
		field string
		send  call
	}{
		"serial empty":                  {"serial", mountLayer(func(q *guestv1.MountLayerRequest) { q.Serial = "" })},
		"serial with a slash":           {"serial", mountLayer(func(q *guestv1.MountLayerRequest) { q.Serial = "../sda" })},
		"serial too long":               {"serial", mountLayer(func(q *guestv1.MountLayerRequest) { q.Serial = strings.Repeat("a", 21) })},
		"serial in two lines":           {"serial", mountLayer(func(q *guestv1.MountLayerRequest) { q.Serial = "a\n" })},
		"root hash short":               {"root_hash", mountLayer(func(q *guestv1.MountLayerRequest) { q.RootHash = q.RootHash[1:] })},
		"root hash missing":             {"root_hash", mountLayer(func(q *guestv1.MountLayerRequest) { q.RootHash = nil })},
		"no data blocks":                {"data_blocks", mountLayer(func(q *guestv1.MountLayerRequest) { q.DataBlocks = 0 })},
		"too many data blocks":          {"data_blocks", mountLayer(func(q *guestv1.MountLayerRequest) { q.DataBlocks = 1 << 60 })},
		"layer outside the allowed":     {"target", mountLayer(func(q *guestv1.MountLayerRequest) { q.Target = "/usr/bin" })},
		"layer target climbs":           {"target", mountLayer(func(q *guestv1.MountLayerRequest) { q.Target = "/run/mounts/scsi/m1/../../x" })},
		"layer target with a line end":  {"target", mountLayer(func(q *guestv1.MountLayerRequest) { q.Target = layer0 + "\n" })},
		"overlay of no layers":          {"layer_targets", mountOverlay(func(q *guestv1.MountOverlayRequest) { q.LayerTargets = nil })},
		"overlay of a layer twice":      {"layer_targets[1]", mountOverlay(func(q *guestv1.MountOverlayRequest) { q.LayerTargets[1] = q.LayerTargets[0] })},
		"overlay of a foreign path":     {"layer_targets[0]", mountOverlay(func(q *guestv1.MountOverlayRequest) { q.LayerTargets[0] = "/etc" })},
		"overlay at another container":  {"target", mountOverlay(func(q *guestv1.MountOverlayRequest) { q.Target = rootfsA })},
		"overlay on another's scratch":  {"scratch_target", mountOverlay(func(q *guestv1.MountOverlayRequest) { q.ScratchTarget = "/run/gcs/c/" + idA })},
		"container ID short":            {"container_id", create(func(q *guestv1.CreateContainerRequest) { q.ContainerId = "abc" })},
		"container ID upper case":       {"container_id", create(func(q *guestv1.CreateContainerRequest) { q.ContainerId = strings.ToUpper(idA) })},
		"container ID climbs":           {"container_id", create(func(q *guestv1.CreateContainerRequest) { q.ContainerId = "../../" + idA[6:] })},
		"command missing":               {"command", create(func(q *guestv1.CreateContainerRequest) { q.Command = nil })},
		"command empty":                 {"command[0]", create(func(q *guestv1.CreateContainerRequest) { q.Command = []string{""} })},
		"command with NUL":              {"command[1]", create(func(q *guestv1.CreateContainerRequest) { q.Command = []string{"a", "b\x00c"} })},
		"argument too long":             {"command[1]", create(func(q *guestv1.CreateContainerRequest) { q.Command = []string{"a", long} })},
		"too many arguments":            {"command", create(func(q *guestv1.CreateContainerRequest) { q.Command = make([]string, maxArgs+1) })},
		"variable without value":        {"env[0]", create(func(q *guestv1.CreateContainerRequest) { q.Env = []string{"PATH"} })},
		"variable without name":         {"env[0]", create(func(q *guestv1.CreateContainerRequest) { q.Env = []string{"=x"} })},
		"variable twice":                {"env[2]", create(func(q *guestv1.CreateContainerRequest) { q.Env = append(q.Env, "PATH=/evil") })},
		"variable with NUL":             {"env[0]", create(func(q *guestv1.CreateContainerRequest) { q.Env = []string{"A=b\x00C=d"} })},
		"working directory relative":    {"working_dir", create(func(q *guestv1.CreateContainerRequest) { q.WorkingDir = "tmp" })},
		"working directory climbs":      {"working_dir", create(func(q *guestv1.CreateContainerRequest) { q.WorkingDir = "/tmp/../.." })},
		"user with a path":              {"user", create(func(q *guestv1.CreateContainerRequest) { q.User = "../root" })},
		"user of three parts":           {"user", create(func(q *guestv1.CreateContainerRequest) { q.User = "a:b:c" })},
		"user unknown to the image":     {"user", create(func(q *guestv1.CreateContainerRequest) { q.User = "nobody-knows" })},
		"capability of another form":    {"capabilities.bounding[0]", create(func(q *guestv1.CreateContainerRequest) { q.Capabilities.Bounding[0] = "chown" })},
		"capability twice":              {"capabilities.ambient[1]", create(func(q *guestv1.CreateContainerRequest) { q.Capabilities.Ambient = []string{"CAP_KILL", "CAP_KILL"} })},
		"hostname with a space":         {"hostname", create(func(q *guestv1.CreateContainerRequest) { q.Hostname = "a b" })},
		"hostname with a line end":      {"hostname", create(func(q *guestv1.CreateContainerRequest) { q.Hostname = "a\n127.0.0.1 bank" })},
		"memory below the runtime's":    {"memory_limit_bytes", create(func(q *guestv1.CreateContainerRequest) { q.MemoryLimitBytes = 1 })},
		"memory beyond all":             {"memory_limit_bytes", create(func(q *guestv1.CreateContainerRequest) { q.MemoryLimitBytes = 1 << 63 })},
		"seccomp not JSON":              {"seccomp", create(func(q *guestv1.CreateContainerRequest) { q.Seccomp = []byte("{") })},
		"seccomp with an unknown field": {"seccomp", create(func(q *guestv1.CreateContainerRequest) { q.Seccomp = []byte(`{"defaultActoin":"SCMP_ACT_ALLOW"}`) })},
		"seccomp with a listener": {"seccomp", create(func(q *guestv1.CreateContainerRequest) {
			q.Seccomp = []byte(`{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/x"}`)
		})},
		"seccomp twice":               {"seccomp", create(func(q *guestv1.CreateContainerRequest) { q.Seccomp = []byte(`{"defaultAction":"x"}{}`) })},
		"mount over the root":         {"mounts[0].destination", mountOf(func(m *guestv1.Mount) { m.Destination = "/" })},
		"mount destination climbs":    {"mounts[0].destination", mountOf(func(m *guestv1.Mount) { m.Destination = "/a/../../b" })},
		"mount destination unclean":   {"mounts[0].destination", mountOf(func(m *guestv1.Mount) { m.Destination = "/a//b" })},
		"mount over the guest's own":  {"mounts[0].destination", mountOf(func(m *guestv1.Mount) { m.Destination = "/run/cofferdam" })},
		"mount into the guest's own":  {"mounts[0].destination", mountOf(func(m *guestv1.Mount) { m.Destination = "/run/cofferdam/x" })},
		"mount below a file share":    {"mounts[1].destination", shareAnd("/data", "/data/cache")},
		"share above a later mount":   {"mounts[1].destination", shareAnd("/data", "/data/a/b")},
		"share over the agent's own":  {"mounts[0].destination", shareAnd("/run", "/data")},
		"share by another name":       {"mounts[0].destination", shareAnd("/var/run", "/data")},
		"share over network files":    {"mounts[0].destination", shareAnd("/etc", "/data")},
		"share over devices":          {"mounts[0].destination", shareAnd("/dev", "/data")},
		"mount of a guest path":       {"mounts[0].source", mountOf(func(m *guestv1.Mount) { m.Source = "/etc" })},
		"mount source climbs":         {"mounts[0].source", mountOf(func(m *guestv1.Mount) { m.Source = "sandbox:///tmp/atlas/emptydir/.." })},
		"mount source below a volume": {"mounts[0].source", mountOf(func(m *guestv1.Mount) { m.Source = "sandbox:///tmp/atlas/emptydir/x/link" })},
		"mount of a device type":      {"mounts[0].type", mountOf(func(m *guestv1.Mount) { m.Type = "proc" })},
		"mount option unknown":        {"mounts[0].options[0]", mountOf(func(m *guestv1.Mount) { m.Options = []string{"upperdir=/"} })},
		"exec ID of another form":     {"exec_id", signal(func(q *guestv1.SignalProcessRequest) { q.ExecId = "../init" })},
		"signal zero":                 {"signal", signal(func(q *guestv1.SignalProcessRequest) { q.Signal = 0 })},
		"signal beyond all":           {"signal", signal(func(q *guestv1.SignalProcessRequest) { q.Signal = 65 })},
		"exec without command":        {"command", exec(func(q *guestv1.ExecProcessRequest) { q.Command = nil })},
		"scratch outside the allowed": {"target", func(ctx context.Context, r *rig) error {
			return done(r.MountScratch(ctx, &guestv1.MountScratchRequest{Serial: "s", Target: "/run"}))
		}},
		"unmount of a foreign path": {"target", func(ctx context.Context, r *rig) error {
			return done(r.UnmountLayer(ctx, &guestv1.UnmountLayerRequest{Target: "/"}))
		}},
		"unmount of a foreign root": {"target", func(ctx context.Context, r *rig) error {
			return done(r.UnmountOverlay(ctx, &guestv1.UnmountOverlayRequest{Target: "/run/gcs/c/x/rootfs"}))
		}},
		"terminal of no size": {"columns", func(ctx context.Context, r *rig) error {
			return done(r.ResizeTerminal(ctx, &guestv1.ResizeTerminalRequest{ContainerId: idA, Rows: 1}))
		}},
		"nonce too short": {"nonce", func(ctx context.Context, r *rig) error {
			return done(r.Evidence(ctx, &guestv1.EvidenceRequest{Nonce: []byte("short")}))
		}},
		"runtime data too long": {"runtime_data", func(ctx context.Context, r *rig) error {
			return done(r.Evidence(ctx, &guestv1.EvidenceRequest{Nonce: make([]byte, 8), RuntimeData: make([]byte, 4097)}))
		}},
		"policy empty": {"policy", func(ctx context.Context, r *rig) error {
			return done(r.SetPolicy(ctx, &guestv1.SetPolicyRequest{}))
		}},
		"policy too large": {"policy", func(ctx context.Context, r *rig) error {
			return done(r.SetPolicy(ctx, &guestv1.SetPolicyRequest{Policy: make([]byte, maxPolicy+1)}))
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := ready(t)
			mounted(t, r)
			r.log.take()
			err := tt.send(t.Context(), r)
			d := guestv1.DenialFrom(err)
			if d.GetCode() != guestv1.CodeBadRequest || d.GetField() != tt.field || len(d.GetReasons()) == 0 {
				t.Errorf("got %v, want %s for the field %s", err, guestv1.CodeBadRequest, tt.field)
			}
			if strings.Contains(d.Error(), "s3cret") || len(d.Error()) > 1000 {
				t.Errorf("the denial quotes too much: %s", d.Error())
			}
			if e := r.log.take(); len(e) != 0 {
				t.Errorf("the request led to %q", e)
			}
		})
	}
}

// TestOutOfOrder sends well-formed requests that do not fit what was done before. The policy would allow everything.
func TestOutOfOrder(t *testing.T) {
	t.Parallel()
	nothing := func(t testing.TB) *rig { return ready(t) }
	layersOnly := func(t testing.TB) *rig {
		r := ready(t)
		mounted(t, r)
		return r
	}
	created := func(t testing.TB) *rig {
		r := layersOnly(t)
		if err := create(func(*guestv1.CreateContainerRequest) {})(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	stopped := func(t testing.TB) *rig {
		r := running(t)
		r.runtime.handles[idA].End(container.Exit{})
		return r
	}
	shut := func(t testing.TB) *rig {
		r := running(t)
		if err := shutdown(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	same := func(q *guestv1.ExecProcessRequest) {}
	tests := map[string]struct {
		from func(testing.TB) *rig
		code string
		send call
	}{
		"policy a second time": {nothing, guestv1.CodePolicyAlreadySet, func(ctx context.Context, r *rig) error {
			return done(r.SetPolicy(ctx, &guestv1.SetPolicyRequest{Policy: policyText}))
		}},
		"layer's disk a second time": {layersOnly, guestv1.CodeWrongState, mountLayer(func(q *guestv1.MountLayerRequest) { q.Serial = "layer0" })},
		"scratch on a layer's disk": {layersOnly, guestv1.CodeWrongState, func(ctx context.Context, r *rig) error {
			return done(r.MountScratch(ctx, &guestv1.MountScratchRequest{Serial: "layer0", Target: "/run/gcs/c/" + idB}))
		}},
		"scratch under a mounted root": {layersOnly, guestv1.CodeWrongState, func(ctx context.Context, r *rig) error {
			return done(r.MountScratch(ctx, &guestv1.MountScratchRequest{Serial: "s", Target: "/run/gcs/c/" + idA}))
		}},
		"overlay of layers not mounted": {nothing, guestv1.CodeNotFound, mountOverlay(func(*guestv1.MountOverlayRequest) {})},
		"overlay a second time":         {layersOnly, guestv1.CodeWrongState, mountOverlay(func(q *guestv1.MountOverlayRequest) { q.ContainerId, q.Target = idA, rootfsA })},
		"overlay on scratch not mounted": {layersOnly, guestv1.CodeNotFound, mountOverlay(func(q *guestv1.MountOverlayRequest) {
			q.ScratchTarget = "/run/gcs/c/" + idB
		})},
		"unmount of a layer in use": {layersOnly, guestv1.CodeWrongState, func(ctx context.Context, r *rig) error {
			return done(r.UnmountLayer(ctx, &guestv1.UnmountLayerRequest{Target: layer0}))
		}},
		"unmount of a layer not mounted": {nothing, guestv1.CodeNotFound, func(ctx context.Context, r *rig) error {
			return done(r.UnmountLayer(ctx, &guestv1.UnmountLayerRequest{Target: layer0}))
		}},
		"unmount of a root in use":        {running, guestv1.CodeWrongState, unmountOverlay},
		"unmount of a stopped root":       {stopped, guestv1.CodeWrongState, unmountOverlay},
		"unmount of a root not mounted":   {nothing, guestv1.CodeNotFound, unmountOverlay},
		"unmount of scratch not mounted":  {nothing, guestv1.CodeNotFound, unmountScratch},
		"create without a root":           {nothing, guestv1.CodeNotFound, create(func(*guestv1.CreateContainerRequest) {})},
		"create replayed":                 {created, guestv1.CodeWrongState, create(func(*guestv1.CreateContainerRequest) {})},
		"create replayed after shutdown":  {shut, guestv1.CodeWrongState, create(func(*guestv1.CreateContainerRequest) {})},
		"start of nothing":                {layersOnly, guestv1.CodeNotFound, start},
		"start twice":                     {running, guestv1.CodeWrongState, start},
		"start after the end":             {stopped, guestv1.CodeWrongState, start},
		"exec in nothing":                 {layersOnly, guestv1.CodeNotFound, exec(same)},
		"exec before start":               {created, guestv1.CodeWrongState, exec(same)},
		"exec in a stopped container":     {stopped, guestv1.CodeWrongState, exec(same)},
		"exec after shutdown":             {shut, guestv1.CodeWrongState, exec(same)},
		"signal to nothing":               {layersOnly, guestv1.CodeNotFound, signal(func(*guestv1.SignalProcessRequest) {})},
		"signal to an ended process":      {stopped, guestv1.CodeWrongState, signal(func(*guestv1.SignalProcessRequest) {})},
		"signal to an unknown exec":       {running, guestv1.CodeNotFound, signal(func(q *guestv1.SignalProcessRequest) { q.ExecId = idA[:32] })},
		"wait for nothing":                {layersOnly, guestv1.CodeNotFound, wait},
		"resize of a process without one": {running, guestv1.CodeWrongState, resize},
		"shutdown of nothing":             {layersOnly, guestv1.CodeNotFound, shutdown},
		"shutdown twice":                  {shut, guestv1.CodeWrongState, shutdown},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := tt.from(t)
			r.log.take()
			err := tt.send(t.Context(), r)
			if d := guestv1.DenialFrom(err); d.GetCode() != tt.code || len(d.GetReasons()) == 0 {
				t.Errorf("got %v, want %s", err, tt.code)
			}
			if a := acts(r.log.take()); len(a) != 0 {
				t.Errorf("the request led to %q", a)
			}
		})
	}
}

func unmountOverlay(ctx context.Context, r *rig) error {
	return done(r.UnmountOverlay(ctx, &guestv1.UnmountOverlayRequest{Target: rootfsA}))
}

func unmountScratch(ctx context.Context, r *rig) error {
	return done(r.UnmountScratch(ctx, &guestv1.UnmountScratchRequest{Target: "/run/gcs/c/" + idA}))
}

func start(ctx context.Context, r *rig) error {
	return done(r.StartContainer(ctx, &guestv1.StartContainerRequest{ContainerId: idA}))
}

func shutdown(ctx context.Context, r *rig) error {
	return done(r.ShutdownContainer(ctx, &guestv1.ShutdownContainerRequest{ContainerId: idA}))
}

func wait(ctx context.Context, r *rig) error {
	return done(r.WaitProcess(ctx, &guestv1.WaitProcessRequest{ContainerId: idA}))
}

func resize(ctx context.Context, r *rig) error {
	return done(r.ResizeTerminal(ctx, &guestv1.ResizeTerminalRequest{ContainerId: idA, Columns: 80, Rows: 24}))
}

// everyCall is one well-formed request of each kind but Hello, SetPolicy and PowerOff.
func everyCall() map[string]call {
	return map[string]call{
		"MountLayer": mountLayer(func(*guestv1.MountLayerRequest) {}),
		"UnmountLayer": func(ctx context.Context, r *rig) error {
			return done(r.UnmountLayer(ctx, &guestv1.UnmountLayerRequest{Target: layer0}))
		},
		"MountScratch": func(ctx context.Context, r *rig) error {
			return done(r.MountScratch(ctx, &guestv1.MountScratchRequest{Serial: "s", Target: "/run/gcs/c/" + idA}))
		},
		"UnmountScratch":    unmountScratch,
		"MountOverlay":      mountOverlay(func(*guestv1.MountOverlayRequest) {}),
		"UnmountOverlay":    unmountOverlay,
		"CreateContainer":   create(func(*guestv1.CreateContainerRequest) {}),
		"StartContainer":    start,
		"ExecProcess":       exec(func(*guestv1.ExecProcessRequest) {}),
		"SignalProcess":     signal(func(*guestv1.SignalProcessRequest) {}),
		"WaitProcess":       wait,
		"ResizeTerminal":    resize,
		"ShutdownContainer": shutdown,
		"LoadFragment": func(ctx context.Context, r *rig) error {
			return done(r.LoadFragment(ctx, &guestv1.LoadFragmentRequest{Message: []byte("x")}))
		},
		"LoadTrustList": func(ctx context.Context, r *rig) error {
			return done(r.LoadTrustList(ctx, &guestv1.LoadTrustListRequest{Message: []byte("x")}))
		},
		"TerminationMessage": func(ctx context.Context, r *rig) error {
			return done(r.TerminationMessage(ctx, &guestv1.TerminationMessageRequest{ContainerId: idA}))
		},
		"Probe":            probeOf(func(*guestv1.ProbeRequest) {}),
		"ShareVolume":      shareVolume(func(*guestv1.ShareVolumeRequest) {}),
		"FillVolume":       fill(func(*guestv1.FillVolumeRequest) {}),
		"ConfigureNetwork": configureNetwork(func(*guestv1.ConfigureNetworkRequest) {}),
		"Properties":       func(ctx context.Context, r *rig) error { return done(r.Properties(ctx, &guestv1.PropertiesRequest{})) },
		"DumpStacks":       func(ctx context.Context, r *rig) error { return done(r.DumpStacks(ctx, &guestv1.DumpStacksRequest{})) },
		"Evidence": func(ctx context.Context, r *rig) error {
			return done(r.Evidence(ctx, &guestv1.EvidenceRequest{Nonce: make([]byte, 8)}))
		},
	}
}

// TestNothingBeforeThePolicy sends every call before SetPolicy.
func TestNothingBeforeThePolicy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, send := range everyCall() {
		err := send(t.Context(), r)
		if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeNoPolicy {
			t.Errorf("%s before the policy: %v, want %s", name, err, guestv1.CodeNoPolicy)
		}
	}
	if e := r.log.take(); len(e) != 0 {
		t.Errorf("the requests led to %q", e)
	}
	if len(r.provider.asked) != 1 {
		t.Errorf("the processor was asked %d times, want once, at the start", len(r.provider.asked))
	}
}

// TestBrokenGuest makes an unmount fail: from then on everything but Hello and PowerOff is refused.
func TestBrokenGuest(t *testing.T) {
	t.Parallel()
	breaking := map[string]struct {
		doing string
		send  call
		setup func(*rig) error
	}{
		"CloseLayer": {"CloseLayer", func(ctx context.Context, r *rig) error {
			return done(r.UnmountLayer(ctx, &guestv1.UnmountLayerRequest{Target: "/run/mounts/scsi/m7"}))
		}, func(r *rig) error { return mountLayer(func(*guestv1.MountLayerRequest) {})(context.Background(), r) }},
		"CloseScratch": {"CloseScratch", func(ctx context.Context, r *rig) error {
			return done(r.UnmountScratch(ctx, &guestv1.UnmountScratchRequest{Target: "/run/gcs/c/" + idB}))
		}, func(r *rig) error {
			return done(r.MountScratch(context.Background(), &guestv1.MountScratchRequest{Serial: "s", Target: "/run/gcs/c/" + idB}))
		}},
		"UnmountOverlay": {"UnmountOverlay", unmountOverlay, func(r *rig) error { return shutdown(context.Background(), r) }},
		"Remove":         {"Remove", shutdown, func(*rig) error { return nil }},
	}
	for name, tt := range breaking {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := running(t)
			if err := tt.setup(r); err != nil {
				t.Fatal(err)
			}
			fail := func(doing string) error {
				if doing == tt.doing {
					return errors.New("device or resource busy")
				}
				return nil
			}
			r.machine.fail, r.runtime.fail = fail, fail
			err := tt.send(t.Context(), r)
			if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeBroken {
				t.Fatalf("got %v, want %s", err, guestv1.CodeBroken)
			}
			r.log.take()
			for call, send := range everyCall() {
				err = send(t.Context(), r)
				if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeBroken {
					t.Errorf("%s in a broken guest: %v, want %s", call, err, guestv1.CodeBroken)
				}
			}
			if e := r.log.take(); len(e) != 0 {
				t.Errorf("requests to the broken guest led to %q", e)
			}
			_, err = r.Hello(t.Context(), &guestv1.HelloRequest{})
			if err != nil {
				t.Errorf("Hello in a broken guest: %v", err)
			}
			_, err = r.PowerOff(t.Context(), &guestv1.PowerOffRequest{})
			if err != nil {
				t.Errorf("PowerOff of a broken guest: %v", err)
			}
		})
	}
}

// TestUnknownFieldsAreRefused sends a request with a field that this version does not know.
func TestUnknownFieldsAreRefused(t *testing.T) {
	r := ready(t)
	g, _ := r.host(t)
	inner := createRequest(idA)
	inner.Stdio.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
	_, err := g.CreateContainer(t.Context(), inner)
	if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeBadRequest {
		t.Errorf("got %v, want %s", err, guestv1.CodeBadRequest)
	}
	outer := layerRequest(0)
	outer.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
	_, err = g.MountLayer(t.Context(), outer)
	if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodeBadRequest {
		t.Errorf("got %v, want %s", err, guestv1.CodeBadRequest)
	}
	if e := r.log.take(); len(e) != 0 {
		t.Errorf("the requests led to %q", e)
	}
}
