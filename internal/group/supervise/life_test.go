// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/event"
	"cofferdam.dev/internal/sandbox/sandboxtest"
	"cofferdam.dev/internal/spec"
)

// events are those of a group, "container name type message" each.
func (b *bench) events(name string) []string {
	b.t.Helper()
	var list []string
	err := b.store.Events(b.t.Context(), name, event.Options{}, func(e event.Event) error {
		list = append(list, fmt.Sprintf("%s %s %s %s", e.Container, e.Name, e.Type, e.Message))
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return list
}

// wants checks that each of want is the begin of an event.
func (b *bench) wants(name string, want ...string) {
	b.t.Helper()
	all := "\n" + strings.Join(b.events(name), "\n")
	for _, w := range want {
		if !strings.Contains(all, "\n"+w) {
			b.t.Errorf("no event %q among %s", w, all)
		}
	}
}

// told waits for an event that begins so.
func (b *bench) told(name, want string) {
	b.t.Helper()
	for range attempts {
		if strings.Contains("\n"+strings.Join(b.events(name), "\n"), "\n"+want) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.t.Fatalf("never told: %s", want)
}

// server is an HTTP server whose answers can be switched; the played guest probes it.
func server(t *testing.T) (*atomic.Int32, uint16) {
	t.Helper()
	var code atomic.Int32
	code.Store(http.StatusServiceUnavailable)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ready" || r.Header.Get("X-Probe") != "yes" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.WriteHeader(int(code.Load()))
	}))
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return &code, uint16(port)
}

// TestReadiness follows a readiness probe over HTTP, and who waits for it.
func TestReadiness(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	code, port := server(t)
	p := b.group("ready", spec.RestartAlways)
	readiness := &spec.Probe{Period: 20 * time.Millisecond, FailureThreshold: 1, Action: spec.Action{HTTP: &spec.HTTPRequest{
		Port: port, Path: "/ready", Headers: []spec.Header{{Name: "X-Probe", Value: "yes"}},
	}}, Timeout: time.Minute}
	b.member(p, "db", spec.Life{Readiness: readiness}, "exec sleep 100")
	b.member(p, "app", spec.Life{After: []spec.Dependency{{Container: "db", Condition: spec.ConditionHealthy}}}, "exec sleep 100")
	_, client := b.start(members(p))
	r := b.until(client, "waits", func(r *group.Record) bool { return r.Containers[1].State == group.StateWaiting })
	if a := r.Containers[1]; r.Ready || r.Containers[0].Ready || !strings.Contains(a.Reason, "waits for the container db") || r.State != group.StateStarting {
		t.Errorf("group is %s, ready %v; app waits: %q", r.State, r.Ready, a.Reason)
	}
	b.told("ready", "db Unhealthy Warning Readiness probe failed: status 503")
	code.Store(http.StatusNoContent)
	r = b.until(client, "ready", func(r *group.Record) bool { return r.Ready && r.Containers[1].State == group.StateRunning })
	if r.State != group.StateRunning || r.Started == nil {
		t.Errorf("group is %s since %v", r.State, r.Started)
	}
	code.Store(http.StatusInternalServerError)
	b.until(client, "not ready", func(r *group.Record) bool { return !r.Ready && !r.Containers[0].Ready && r.Containers[1].Ready })
	_ = client.Stop(t.Context(), 100*time.Millisecond)
	b.wants("ready", "db Unhealthy Warning Readiness probe failed: status 503", "db Unhealthy Warning Readiness probe failed: status 500",
		" GroupStopping Normal", "db Killing Normal Stopping container db", "app Started Normal Started container app", "app Created Normal", `db Pulled Normal Container image "test"`)
}

// TestLiveness has a container started again because its liveness probe fails, with the probe's output in the events.
func TestLiveness(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.group("alive", spec.RestartAlways)
	sick, up := filepath.Join(b.home, "sick"), filepath.Join(b.home, "up")
	grace := 10 * time.Millisecond
	b.member(p, "app", spec.Life{
		Startup: &spec.Probe{ // until it does not hear its stop signal any more
			Period: 10 * time.Millisecond, Timeout: time.Minute, FailureThreshold: 1 << 20, Action: spec.Action{Exec: []string{"/usr/bin/test", "-e", up}},
		},
		Liveness: &spec.Probe{
			Period: 20 * time.Millisecond, Timeout: time.Minute, FailureThreshold: 2, Grace: &grace,
			Action: spec.Action{Exec: []string{"/bin/sh", "-c", "test ! -e " + sick + " || { echo it is sick >&2; rm -f " + up + "; exit 1; }"}},
		},
	}, "trap '' TERM; >"+up+"; while :; do sleep 0.01; done")
	_, client := b.start(members(p))
	b.until(client, "running", func(r *group.Record) bool { return r.Containers[0].Ready })
	err := os.WriteFile(sick, nil, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	r := b.until(client, "restarted", func(r *group.Record) bool { return r.Containers[0].RestartCount > 0 })
	_ = os.Remove(sick)
	if previous := r.Containers[0].Previous; previous == nil || *previous.ExitCode != 137 {
		t.Errorf("the run before is %+v", previous)
	}
	_ = client.Stop(t.Context(), 10*time.Millisecond)
	b.wants("alive", "app Unhealthy Warning Liveness probe failed: the command ended with exit code 1: it is sick",
		"app Killing Normal Container app failed its liveness probe", "app Exited Warning Container app ended with exit code 137")
}

// TestTCPProbe fails to connect, so that the container is started again until the group is stopped.
func TestTCPProbe(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.group("tcp", spec.RestartAlways)
	b.member(p, "app", spec.Life{Startup: &spec.Probe{
		Period: 10 * time.Millisecond, Timeout: time.Minute, FailureThreshold: 1, Action: spec.Action{TCP: &spec.TCPConnection{Port: 1}},
	}}, "exec sleep 100")
	_, client := b.start(members(p))
	r := b.until(client, "restarted", func(r *group.Record) bool { return r.Containers[0].RestartCount > 1 })
	if r.Containers[0].Ready || r.Ready {
		t.Error("it is ready")
	}
	_ = client.Stop(t.Context(), 10*time.Millisecond)
	b.wants("tcp", "app Unhealthy Warning Startup probe failed: connection refused")
}

// TestHooks runs a PostStart and a PreStop hook, and one that fails.
func TestHooks(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.group("hooks", spec.RestartNever)
	trace, up := filepath.Join(b.home, "trace"), filepath.Join(b.home, "up")
	say := func(text string) []string { return []string{"/bin/sh", "-c", "echo " + text + " >>" + trace} }
	postStart := []string{"/bin/sh", "-c", "until test -e " + up + "; do sleep 0.01; done; echo post >>" + trace}
	b.member(p, "app", spec.Life{PostStart: &spec.Action{Exec: postStart}, PreStop: &spec.Action{Exec: say("pre")}},
		"trap 'echo term >>"+trace+"; exit 0' TERM; >"+up+"; while :; do sleep 0.01; done")
	b.member(p, "later", spec.Life{After: []spec.Dependency{{Container: "app", Condition: spec.ConditionStarted}}}, "echo later >>"+trace)
	b.member(p, "bad", spec.Life{PostStart: &spec.Action{Exec: []string{"/bin/sh", "-c", "echo no; exit 9"}}}, "exec sleep 100")
	_, client := b.start(members(p))
	b.until(client, "later", func(r *group.Record) bool {
		return r.Containers[1].State == group.StateExited && r.Containers[2].State == group.StateExited
	})
	err := client.Stop(t.Context(), time.Minute)
	if err != nil {
		t.Error(err)
	}
	text, _ := os.ReadFile(trace)
	if string(text) != "post\nlater\npre\nterm\n" {
		t.Errorf("order is %q", text)
	}
	b.wants("hooks", "bad FailedPostStartHook Warning PostStart hook failed: the command ended with exit code 9: no", "bad Killing Normal Container bad failed its PostStart hook")
}

// TestPreStopTakesAllTheTime leaves a container its last moments all the same.
func TestPreStopTakesAllTheTime(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.group("slowly", spec.RestartNever)
	b.member(p, "app", spec.Life{PreStop: &spec.Action{Sleep: time.Hour}}, "trap 'echo in time; exit 0' TERM; echo up; while :; do sleep 0.01; done")
	_, client := b.start(members(p))
	for b.logOf("slowly", "app") == "" {
		time.Sleep(10 * time.Millisecond)
	}
	err := client.Stop(t.Context(), 50*time.Millisecond)
	if err != nil {
		t.Error(err)
	}
	_ = client.Close()
	b.waitDead("slowly")
	if out := b.logOf("slowly", "app"); !strings.Contains(out, "in time\n") {
		t.Errorf("log is %q", out)
	}
}

// TestMessages has a message from a file, and one from the end of the output.
func TestMessages(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.group("words", spec.RestartNever)
	file := filepath.Join(b.home, "message")
	b.member(p, "file", spec.Life{TerminationMessagePath: file}, "printf 'the \\377 end' >"+file)
	p.Containers[1].Mounts = []group.Mount{{Destination: file, Source: "sandbox:///tmp/atlas/terminationLog/x", Type: "bind"}}
	b.member(p, "log", spec.Life{TerminationMessagePath: "/none", TerminationMessageFromLog: true}, "head -c 5000 /dev/zero | tr '\\0' x; echo last words; exit 1")
	b.member(p, "fine", spec.Life{TerminationMessageFromLog: true}, "echo all is well")
	p.Containers[3].Mounts = nil
	b.let(members(p))
	r := b.waitDead("words").Record
	if m := r.Containers[0].Message; m != "the \uFFFD end" {
		t.Errorf("message is %q", m)
	}
	if m := r.Containers[1].Message; len(m) > 2048 || !strings.Contains(m, "last words") {
		t.Errorf("message is %q", m)
	}
	if m := r.Containers[2].Message; m != "" {
		t.Errorf("message is %q", m)
	}
}

// line reads one line, and nothing more.
func (b *bench) line(from io.Reader) string {
	b.t.Helper()
	var line []byte
	for one := make([]byte, 1); !bytes.HasSuffix(line, []byte{'\n'}); line = append(line, one...) {
		_, err := io.ReadFull(from, one)
		if err != nil {
			b.t.Fatalf("after %q: %v", line, err)
		}
	}
	return string(line)
}

// TestRestartByHand restarts one container and then all, under clients that stay attached and that wait.
func TestRestartByHand(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.group("hand", spec.RestartAlways)
	b.member(p, "prepare", spec.Life{Init: true}, "echo once")
	b.member(p, "one", spec.Life{}, "trap 'exit 3' TERM; echo one runs; while :; do sleep 0.01; done")
	b.member(p, "two", spec.Life{}, "echo two runs; exec sleep 100")
	c, client := b.start(members(p))
	b.until(client, "running", func(r *group.Record) bool { return r.State == group.StateRunning })
	s, err := client.Attach(t.Context(), group.AttachOptions{Container: "one", Replay: true})
	if err != nil {
		t.Fatal(err)
	}
	other := b.dial(c)
	_, err = other.Attach(t.Context(), group.AttachOptions{Container: "one", Wait: true}) // so that it is told of the end, however late it asks
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan group.Ended, 1)
	go func() {
		end, err := other.Wait(t.Context(), "one", "")
		if err != nil {
			t.Error(err)
		}
		waited <- end
	}()
	out := ""
	for _, which := range []string{"one", "one", ""} {
		out += b.line(s.Stdout) // a run that is stopped too soon says nothing
		err = client.Restart(t.Context(), which)
		if err != nil {
			t.Fatal(err)
		}
	}
	out += b.line(s.Stdout)
	r, err := client.Inspect(t.Context())
	if err != nil || r.Containers[0].RestartCount != 0 || r.Containers[1].RestartCount < 3 || r.Containers[2].RestartCount < 1 {
		t.Errorf("record is %+v, %v", r, err)
	}
	select {
	case end := <-waited:
		t.Errorf("somebody was told of an end: %+v", end)
	default:
	}
	id, streams, err := client.Exec(t.Context(), group.ExecOptions{Container: "two", Command: []string{"/bin/echo", "exec"}})
	if err != nil {
		t.Fatal(err)
	}
	if out := readAll(t, streams.Stdout); out != "exec\n" {
		t.Errorf("exec's output is %q", out)
	}
	if end, err := client.Wait(t.Context(), "two", id); err != nil || end.ExitCode != 0 {
		t.Errorf("exec ended %+v, %v", end, err)
	}
	stats, err := client.Stats(t.Context())
	if err != nil || len(stats.Containers) != 2 || stats.Containers[0].Name != "one" || stats.Containers[0].State != "running" || stats.MemoryTotalBytes == 0 {
		t.Errorf("stats are %+v, %v", stats, err)
	}
	err = client.Stop(t.Context(), time.Minute)
	if err != nil {
		t.Error(err)
	}
	if out += readAll(t, s.Stdout); out != strings.Repeat("one runs\n", 4) {
		t.Errorf("a client that stayed saw %q", out)
	}
	if end := <-waited; end.ExitCode != 3 || end.Broken {
		t.Errorf("the end is %+v", end)
	}
}

// TestPolicyRefusal notes what the policy refused, in words, with the container's name.
func TestPolicyRefusal(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.group("refused", spec.RestartAlways)
	b.member(p, "app", spec.Life{}, "exec sleep 100")
	b.member(p, "deaf", spec.Life{}, "")
	p.Containers[2].Command = []string{sandboxtest.CommandNoSignals}
	_, client := b.start(members(p))
	_, _, err := client.Exec(t.Context(), group.ExecOptions{Container: "app", Command: []string{sandboxtest.CommandDenied}})
	if err == nil {
		t.Error("it was allowed")
	}
	_ = client.Signal(t.Context(), "deaf", "", 10)
	_ = client.Stop(t.Context(), 10*time.Millisecond)
	b.wants("refused", "app PolicyDenied Warning the policy refused exec_in_container: invalid command",
		"deaf PolicyDenied Warning the policy refused signal_container_process: signal is not allowed")
}

// TestMachineLostIsTold finds the reason of a lost machine among the events.
func TestMachineLostIsTold(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, s := b.create(b.plan("gone", sandboxtest.CommandKillQEMU))
	_ = s.Wait(t.Context(), group.StageRunning) // it may end before its start is answered
	b.waitDead("gone")
	all := strings.Join(b.events("gone"), "\n")
	if !strings.Contains(all, "signal 9") || !strings.Contains(all, "MachineLost") && !strings.Contains(all, "Failed Warning The group did not start") {
		t.Errorf("events are %s", all)
	}
}
