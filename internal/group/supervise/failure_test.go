// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/sandbox/sandboxtest"
)

func TestMachineEnds(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for name, c := range map[string]struct{ command, reason string }{
		"panic":   {sandboxtest.CommandPanic, "kernel panicked"},
		"reset":   {sandboxtest.CommandReset, "reset its machine"},
		"killed":  {sandboxtest.CommandKillQEMU, "ended by signal 9"},
		"channel": {sandboxtest.CommandChannel, "closed its control channel"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &bench{t: t, home: b.home, store: b.store, layer: b.layer}
			c2, s := b.create(b.plan(name, c.command))
			err := s.Wait(t.Context(), group.StageRunning)
			if err != nil && !strings.Contains(err.Error(), c.reason) { // it may end before its start is answered
				t.Errorf("error is %v, want %q", err, c.reason)
			}
			g := b.waitDead(c2.Record.Name)
			if g.Record.State != group.StateFailed || !strings.Contains(g.Record.Reason, c.reason) {
				t.Errorf("record is %s (%s), want %q", g.Record.State, g.Record.Reason, c.reason)
			}
			if ct := g.Record.Containers[0]; ct.State != group.StateFailed || !strings.Contains(ct.Reason, c.reason) || ct.ExitCode != nil {
				t.Errorf("container is %+v", ct)
			}
		})
	}
}

func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	c, s := b.create(b.plan("oom", sandboxtest.CommandOutOfMemory))
	err := s.Wait(t.Context(), group.StageRunning)
	if err != nil {
		t.Fatal(err)
	}
	g := b.waitDead(c.Record.Name)
	if ct := g.Record.Containers[0]; ct.Reason != "out of memory" || *ct.ExitCode != 137 {
		t.Errorf("container is %+v", ct)
	}
	b.wants("oom", "main OutOfMemory Warning The kernel ended a process of container main")
}

func TestBootFails(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	port := taken.Addr().(*net.TCPAddr).AddrPort().Port()
	for name, c := range map[string]struct {
		change func(*group.Plan)
		want   string
	}{
		"emulator": {func(p *group.Plan) { p.Boot.Cmdline = sandboxtest.BootFails }, "told to fail"},
		"panics":   {func(p *group.Plan) { p.Boot.Cmdline = sandboxtest.BootPanics }, "kernel panicked"},
		"kernel":   {func(p *group.Plan) { p.Boot.Kernel = "/nonexistent" }, "no such file"},
		"layer":    {func(p *group.Plan) { p.Containers[0].Layers[0].Path = "/nonexistent" }, "opening disk layer0"},
		"port": {func(p *group.Plan) {
			p.Network = group.NetworkNAT
			p.Ports = []group.Port{{Protocol: "tcp", HostIP: "127.0.0.1", HostPort: port, GuestPort: 80}}
		}, "address already in use"},
	} {
		plan := b.plan(name, "/bin/true")
		c.change(plan)
		_, s := b.create(plan)
		err := s.Wait(t.Context(), group.StageRunning)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
		err = b.store.Remove(name) // a failed start has let go of the group
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStartIsCalledOff(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	plan := b.plan("off", "/bin/true")
	plan.Boot.Cmdline = sandboxtest.BootHangs
	_, s := b.create(plan)
	err := s.Wait(t.Context(), group.StageMachine)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = s.Wait(ctx, group.StageRunning)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	g := b.waitDead("off")
	if g.Record.State != group.StateFailed || !strings.Contains(g.Record.Reason, "called off") {
		t.Errorf("record is %s (%s)", g.Record.State, g.Record.Reason)
	}
}

// TestStarterDies leaves a foreground start before it attaches.
func TestStarterDies(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	plan := b.plan("left", "/bin/true")
	plan.WaitForAttach = true
	_, s := b.create(plan)
	err := s.Wait(t.Context(), group.StageAttach)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	if g := b.waitDead("left"); g.Record.State != group.StateFailed {
		t.Errorf("record is %s (%s)", g.Record.State, g.Record.Reason)
	}
}

func TestSupervisorIsKilled(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	plan := b.plan("victim", "/bin/sleep", "100")
	plan.Containers[0].ScratchMiB = 1
	c, client := b.start(plan)
	r, err := client.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = syscall.Kill(r.SupervisorPID, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	<-client.Done()
	end, err := client.Wait(t.Context(), "", "")
	if !errors.Is(err, group.ErrSupervisorGone) {
		t.Errorf("a dead supervisor said %+v, %v", end, err)
	}
	g := b.waitDead("victim")
	if g.Record.State != group.StateFailed || g.Record.Reason != group.ReasonSupervisorGone {
		t.Errorf("record is %s (%s)", g.Record.State, g.Record.Reason)
	}
	for range attempts { // QEMU goes with it
		if syscall.Kill(r.MachinePID, 0) != nil || zombie(r.MachinePID) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("machine %d of %s lives on", r.MachinePID, c.Dir)
}

func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	return err == nil && strings.HasPrefix(rest, "Z")
}

func TestOneName(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var made, refused int
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			c, err := b.store.Create(b.plan("same", "/bin/true"))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				made++
				t.Cleanup(func() { _ = c.Close() })
			case errors.Is(err, group.ErrExists):
				refused++
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if made != 1 || refused != 7 {
		t.Errorf("%d made, %d refused", made, refused)
	}
}

func TestSignalsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	c, client := b.start(b.plan("deaf", sandboxtest.CommandNoSignals))
	err := client.Signal(t.Context(), "", "", 15)
	if err == nil || !strings.Contains(err.Error(), "signal is not allowed") {
		t.Errorf("error is %v", err)
	}
	err = client.Stop(t.Context(), time.Second)
	if err != nil {
		t.Error(err)
	}
	_ = client.Close()
	if g := b.waitDead(c.Record.Name); g.Record.State != group.StateExited {
		t.Errorf("record is %s (%s)", g.Record.State, g.Record.Reason)
	}
}

// TestStopInAHurry asks a container that ignores its stop signal for patience first, and then for none.
func TestStopInAHurry(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	c, client := b.start(b.plan("stubborn", "/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"))
	s, err := client.Attach(t.Context(), group.AttachOptions{Replay: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadFull(s.Stdout, make([]byte, len("up\n")))
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	patient := make(chan error, 1)
	go func() { patient <- client.Stop(t.Context(), 10*time.Minute) }()
	time.Sleep(100 * time.Millisecond) // the order of the two does not matter for the outcome, only for what is tested
	err = errors.Join(client.Stop(t.Context(), time.Millisecond), <-patient)
	if err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 5*time.Minute {
		t.Errorf("stopping took %v", took)
	}
	_ = errors.Join(s.Close(), client.Close()) // the group has ended
	g := b.waitDead(c.Record.Name)
	if code, _ := g.Record.ExitCode(); g.Record.State != group.StateExited || code != 137 {
		t.Errorf("record is %s (%s), exit code %d", g.Record.State, g.Record.Reason, code)
	}
}

// TestFullDisk has the log on a device that is always full. The container must not notice.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full")
	}
	b := newBench(t)
	plan := b.plan("full", "/bin/sh", "-c", "echo one; echo two")
	plan.WaitForAttach = true
	c, err := b.store.Create(plan)
	if err != nil {
		t.Fatal(err)
	}
	err = os.Symlink("/dev/full", group.LogPath(c.Dir, "main"))
	if err != nil {
		t.Fatal(err)
	}
	self, _ := os.Executable()
	s, err := group.Start(c, group.StartOptions{Command: []string{self, "test-supervise", b.home}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		<-s.Exited()
		_ = s.Close()
	}()
	err = s.Wait(t.Context(), group.StageAttach)
	if err != nil {
		t.Fatal(err)
	}
	client := b.dial(c)
	streams, err := client.Attach(t.Context(), group.AttachOptions{Wait: true})
	if err != nil {
		t.Fatal(err)
	}
	if out := readAll(t, streams.Stdout); out != "one\ntwo\n" {
		t.Errorf("output is %q", out)
	}
	_ = client.Close()
	g := b.waitDead("full")
	if code, _ := g.Record.ExitCode(); code != 0 || len(g.Record.Warnings) != 1 || !strings.Contains(g.Record.Warnings[0], "no space left") {
		t.Errorf("exit code %d, warnings %q", code, g.Record.Warnings)
	}
}

func TestSeveralGroups(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var names []string
	for i := range 3 {
		c, client := b.start(b.plan(fmt.Sprintf("many-%d", i), "/bin/sh", "-c", fmt.Sprintf("echo group %d; exec sleep 100", i)))
		names = append(names, c.Record.Name)
		defer func() { _ = client.Stop(context.Background(), time.Second) }()
	}
	list, err := b.store.List()
	if err != nil || len(list) != 3 || list[0].Record.Name != names[2] {
		t.Fatalf("list is %d groups, %v", len(list), err)
	}
	for i, name := range names {
		b.logged(name, fmt.Sprintf("group %d\n", i))
	}
}

func TestNotStartedByHand(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	c, err := b.store.Create(b.plan("hand", "/bin/true"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	self, _ := os.Executable()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	out := filepath.Join(b.home, "out")
	p, err := os.StartProcess(self, []string{self, "test-supervise", b.home, "hand"}, &os.ProcAttr{
		Files: []*os.File{null, null, mustCreate(t, out), null, null},
	})
	if err != nil {
		t.Fatal(err)
	}
	state, err := p.Wait()
	text, _ := os.ReadFile(out)
	if err != nil || state.Success() || !strings.Contains(string(text), "not by hand") {
		t.Errorf("ended %v, %v: %s", state, err, text)
	}
}

func mustCreate(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}
