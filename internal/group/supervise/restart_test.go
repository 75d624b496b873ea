// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/logfile"
	"cofferdam.dev/internal/sandbox/sandboxtest"
	"cofferdam.dev/internal/spec"
)

// member adds a container to a plan.
func (b *bench) member(p *group.Plan, name string, life spec.Life, script string) {
	c := p.Containers[0]
	c.Name, c.Life, c.Command = name, life, []string{"/bin/sh", "-c", script}
	p.Containers = append(p.Containers, c)
}

// group is a plan without any container yet.
func (b *bench) group(name string, policy spec.RestartPolicy) *group.Plan {
	p := b.plan(name, "/bin/true")
	p.RestartPolicy = policy
	return p
}

// members drops the container that a plan begins with.
func members(p *group.Plan) *group.Plan {
	p.Containers = p.Containers[1:]
	return p
}

func (b *bench) logOf(name, container string) string {
	b.t.Helper()
	var text string
	err := b.store.Logs(b.t.Context(), name, container, logfile.Options{}, func(e logfile.Entry) error {
		text += string(e.Bytes())
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return text
}

// until waits for a record that is as wanted.
func (b *bench) until(c *group.Client, what string, wanted func(*group.Record) bool) *group.Record {
	b.t.Helper()
	var r *group.Record
	for range attempts {
		var err error
		r, err = c.Inspect(b.t.Context())
		if err != nil {
			b.t.Fatal(err)
		}
		if wanted(r) {
			return r
		}
		time.Sleep(10 * time.Millisecond)
	}
	text, _ := r.Marshal()
	b.t.Fatalf("never came about: %s\n%s", what, text)
	return nil
}

// let starts a group that may have ended before anybody can connect to it.
func (b *bench) let(p *group.Plan) {
	b.t.Helper()
	_, s := b.create(p)
	err := s.Wait(b.t.Context(), group.StageRunning)
	if err != nil {
		b.t.Fatal(err)
	}
}

// TestRestartOnFailure has a container that fails twice and then succeeds, with its log in one piece.
func TestRestartOnFailure(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.group("again", spec.RestartOnFailure)
	count := filepath.Join(b.home, "count")
	b.member(p, "app", spec.Life{}, fmt.Sprintf("echo x >>%s; n=$(wc -l <%s); echo run $n; test $n -ge 3 || exit 7", count, count))
	p = members(p)
	p.Containers[0].ScratchMiB = 1
	_, client, s := b.foreground(p, false)
	end, err := client.Wait(t.Context(), "app", "")
	if err != nil || end.ExitCode != 0 || end.Broken {
		t.Errorf("end is %+v, %v", end, err)
	}
	if out := readAll(t, s.Stdout); out != "run 1\nrun 2\nrun 3\n" {
		t.Errorf("a client that stayed saw %q", out)
	}
	_ = client.Close()
	r := b.waitDead("again").Record
	a := r.Containers[0]
	if code, ok := r.ExitCode(); r.State != group.StateExited || code != 0 || !ok {
		t.Errorf("group is %s (%s), exit code %d", r.State, r.Reason, code)
	}
	if a.RestartCount != 2 || a.Previous == nil || *a.Previous.ExitCode != 7 || a.ID == p.Containers[0].ID || a.ID == "" {
		t.Errorf("container is %+v", a)
	}
	if out := b.logOf("again", "app"); out != "run 1\nrun 2\nrun 3\n" {
		t.Errorf("log is %q", out)
	}
}

// TestInitOrder runs two init containers, a sidecar and two containers that depend on one another.
func TestInitOrder(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.group("order", spec.RestartNever)
	trace := filepath.Join(b.home, "trace")
	say := func(text string) string { return fmt.Sprintf("echo %s >>%s", text, trace) }
	stay := func(name string) string {
		return fmt.Sprintf("trap 'echo %s-ends >>%s; exit 0' TERM; echo %s >>%s; while :; do sleep 0.02; done", name, trace, name, trace)
	}
	b.member(p, "second", spec.Life{After: []spec.Dependency{{Container: "first", Condition: spec.ConditionCompleted}}}, say("second"))
	b.member(p, "init-a", spec.Life{Init: true}, "sleep 0.2; "+say("init-a"))
	b.member(p, "side", spec.Life{Init: true, Restart: spec.RestartAlways}, stay("side"))
	b.member(p, "init-b", spec.Life{Init: true}, "until grep -q side "+trace+"; do sleep 0.02; done; "+say("init-b"))
	b.member(p, "first", spec.Life{}, "sleep 0.1; "+say("first"))
	b.let(members(p))
	g := b.waitDead("order")
	text, _ := os.ReadFile(trace)
	want := "init-a\nside\ninit-b\nfirst\nsecond\nside-ends\n"
	if string(text) != want {
		t.Errorf("order is %q, want %q", text, want)
	}
	if code, ok := g.Record.ExitCode(); g.Record.State != group.StateExited || g.Record.Reason != "" || code != 0 || !ok {
		record, _ := g.Record.Marshal()
		t.Errorf("group is %s (%s), %d: %s", g.Record.State, g.Record.Reason, code, record)
	}
}

// TestInitFails ends a group whose init container fails for good: nothing else is started.
func TestInitFails(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.group("unfit", spec.RestartNever)
	b.member(p, "prepare", spec.Life{Init: true}, "exit 4")
	b.member(p, "app", spec.Life{}, "echo ran")
	b.let(members(p))
	r := b.waitDead("unfit").Record
	code, ok := r.ExitCode()
	if r.State != group.StateFailed || !strings.Contains(r.Reason, "init container prepare failed") || code != 4 || !ok {
		t.Errorf("group is %s (%s), exit code %d", r.State, r.Reason, code)
	}
	if a := r.Containers[1]; a.State != group.StateExited || !strings.Contains(a.Reason, "prepare") || a.ExitCode != nil || b.logOf("unfit", "app") != "" {
		t.Errorf("the other container is %+v", a)
	}
}

// TestBackOffIsShown stops a group whose container fails again and again while that waits.
func TestBackOffIsShown(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.group("crash", spec.RestartAlways)
	b.member(p, "app", spec.Life{}, "exit 3")
	_, client := b.start(members(p))
	r := b.until(client, "back-off", func(r *group.Record) bool {
		return r.Containers[0].State == group.StateWaiting && r.Containers[0].RestartCount == 1
	})
	if a := r.Containers[0]; !strings.Contains(a.Reason, "back-off") || *a.Previous.ExitCode != 3 || r.State != group.StateRunning {
		t.Errorf("container is %+v", a)
	}
	err := client.Stop(t.Context(), time.Second)
	if err != nil {
		t.Error(err)
	}
	_ = client.Close()
	r = b.waitDead("crash").Record
	if a := r.Containers[0]; r.State != group.StateExited || a.State != group.StateExited || *a.ExitCode != 3 {
		t.Errorf("group is %s, container %+v", r.State, a)
	}
}

// TestLostMachineIsNotRevived has QEMU killed under a group that restarts always.
func TestLostMachineIsNotRevived(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.group("lost", spec.RestartAlways)
	b.member(p, "app", spec.Life{}, "sleep 100")
	p.Containers[0] = p.Containers[1]
	p.Containers[0].Name = "killer"
	p.Containers[0].Command = []string{sandboxtest.CommandKillQEMU}
	p.Containers[0].Life.After = []spec.Dependency{{Container: "app", Condition: spec.ConditionStarted}}
	_, s := b.create(p)
	_ = s.Wait(context.WithoutCancel(t.Context()), group.StageRunning) // it may end before its start is answered
	r := b.waitDead("lost").Record
	if r.State != group.StateFailed || !strings.Contains(r.Reason, "signal 9") || r.Containers[1].State != group.StateFailed {
		t.Errorf("group is %s (%s), container %+v", r.State, r.Reason, r.Containers[1])
	}
}

// TestLogIsBounded keeps the newest output of many runs, and no more than the plan allows.
func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.group("chatty", spec.RestartOnFailure)
	p.LogLimitBytes = 64 << 10
	count := filepath.Join(b.home, "count")
	b.member(p, "app", spec.Life{}, fmt.Sprintf("echo x >>%s; n=$(wc -l <%s); seq -f \"run $n line %%g\" 2000; test $n -ge 4", count, count))
	c, client, _ := b.foreground(members(p), false)
	_ = client.Close() // the log alone is followed
	var followed strings.Builder
	err := b.store.Logs(t.Context(), "chatty", "app", logfile.Options{Follow: true}, func(e logfile.Entry) error {
		followed.Write(e.Bytes())
		return nil
	})
	if err != nil || !strings.HasSuffix(followed.String(), "run 4 line 2000\n") {
		t.Errorf("following: %d bytes, %v", followed.Len(), err)
	}
	b.waitDead("chatty")
	out := b.logOf("chatty", "app")
	if !strings.HasSuffix(out, "run 4 line 1999\nrun 4 line 2000\n") || strings.Contains(out, "run 1 ") {
		t.Errorf("log has %d bytes and ends %q", len(out), out[max(0, len(out)-40):])
	}
	files, _ := filepath.Glob(filepath.Join(c.Dir, "logs", "*"))
	var total int64
	for _, f := range files {
		info, err := os.Stat(f)
		if err == nil {
			total += info.Size()
		}
	}
	if total > p.LogLimitBytes {
		t.Errorf("%d files hold %d bytes", len(files), total)
	}
}

// TestStalledClient has a client that wants to be waited for and never reads. It holds up its container, but neither the
// end of the group nor that of the machine.
func TestStalledClient(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, name := range []string{"stalled", "stalled-lost"} {
		p := b.group(name, spec.RestartOnFailure)
		b.member(p, "app", spec.Life{}, "head -c 8000000 /dev/zero | tr '\\0' x; exit 1")
		c, client, _ := b.foreground(members(p), false)
		other := b.dial(c)
		r := b.until(other, "running", func(r *group.Record) bool { return r.MachinePID != 0 })
		var err error
		if name == "stalled" {
			err = other.Stop(t.Context(), 10*time.Millisecond)
		} else {
			err = syscall.Kill(r.MachinePID, syscall.SIGKILL)
		}
		if err != nil {
			t.Error(err)
		}
		for range attempts { // the record is final before the clients are let go
			g, err := b.store.Lookup(name)
			if err == nil && g.Record.State.Final() {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		_ = client.Close()
		_ = other.Close()
		if g := b.waitDead(name); !g.Record.State.Final() {
			t.Errorf("%s is %s", name, g.Record.State)
		}
	}
}

// TestRefusedForGood does not try again what the policy refuses, and says which container and why.
func TestRefusedForGood(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.group("once", spec.RestartAlways)
	b.member(p, "app", spec.Life{}, "")
	p.Containers[1].Command = []string{sandboxtest.CommandOnce}
	_, client, _ := b.foreground(members(p), false)
	end, err := client.Wait(t.Context(), "app", "")
	if err != nil || end.ExitCode != 128 || !strings.Contains(end.Reason, "invalid command") {
		t.Errorf("end is %+v, %v", end, err)
	}
	_ = client.Close()
	r := b.waitDead("once").Record
	if a := r.Containers[0]; r.State != group.StateExited || a.RestartCount != 1 || a.State != group.StateFailed || *a.Previous.ExitCode != 1 {
		t.Errorf("group is %s, container %+v", r.State, a)
	}
	b.wants("once", "app PolicyDenied Warning the policy refused create_container: invalid command", "app Failed Warning Error: ")
}
