// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/lifecycle"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/sandbox/sandboxtest"
	"cofferdam.dev/internal/simsp"
	"cofferdam.dev/internal/testcap"
)

// The test binary is also the supervisor, as the command line would run it, and the emulator.
func TestMain(m *testing.M) {
	sandboxtest.RunIfEmulator()
	if len(os.Args) == 4 && os.Args[1] == "test-supervise" {
		logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
		err := Main(context.Background(), Config{
			Home: os.Args[2], Name: os.Args[3], Logger: logger, Times: testTimes(os.Args[3]), GitProtocols: []string{"file"},
			Probe: func(context.Context, string) (*qemu.Emulator, error) { return sandboxtest.Emulator() },
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := testcap.NoLeaks(m)
	if dir, err := simulatedRoot(); err == nil {
		_ = os.RemoveAll(dir) // of no use any more
	}
	os.Exit(code)
}

// testTimes are quick, but for the group whose wait is looked at.
func testTimes(name string) lifecycle.Times {
	if name == "crash" {
		return lifecycle.Times{BackOff: time.Hour, MaxBackOff: time.Hour, Calm: time.Hour}
	}
	return lifecycle.Times{BackOff: 10 * time.Millisecond, MaxBackOff: 50 * time.Millisecond, Calm: time.Hour}
}

// attempts is how often a test looks, 10 ms apart, for what must come about: for minutes, which only matter when something
// is broken.
const attempts = 12_000

// bench is one state directory with what plans need.
type bench struct {
	t     *testing.T
	home  string
	store *group.Store
	layer string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	home := t.TempDir()
	store, err := group.OpenStore(home)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, home: home, store: store, layer: filepath.Join(home, "layer,with comma.img")}
	copyRoot(t, filepath.Join(home, "simsp"))
	for _, f := range []string{"kernel", "initrd", "layer,with comma.img"} {
		err = os.WriteFile(filepath.Join(home, f), []byte(f), 0o600)
		if err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// simulatedRoot makes one root for all tests: making one takes seconds.
var simulatedRoot = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "simsp-")
	if err != nil {
		return "", err
	}
	_, err = simsp.Open(dir)
	return dir, err
})

// copyRoot copies the root to a state directory, keeping the files' modes.
func copyRoot(t *testing.T, to string) {
	t.Helper()
	from, err := simulatedRoot()
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Mkdir(filepath.Join(to, rel), 0o700)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bench) plan(name string, command ...string) *group.Plan {
	root := strings.Repeat("ab", 32)
	return &group.Plan{
		Name: name, Accelerator: "tcg", TEE: "simulated", VCPUs: 1, MemoryMiB: 256, Network: group.NetworkNone,
		Boot:   group.Boot{Kernel: filepath.Join(b.home, "kernel"), Initrd: filepath.Join(b.home, "initrd"), Cmdline: "quiet"},
		Policy: []byte("package policy"),
		Containers: []group.ContainerPlan{{
			Name: "main", Image: "test", Command: command, WorkingDir: "/",
			Layers: []group.Layer{{Path: b.layer, RootHash: root}, {Path: b.layer, RootHash: root}},
		}},
	}
}

// create makes a group of plan and starts its supervisor.
func (b *bench) create(plan *group.Plan) (*group.Created, *group.Starting) {
	b.t.Helper()
	c, err := b.store.Create(plan)
	if err != nil {
		b.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	s, err := group.Start(c, group.StartOptions{Command: []string{self, "test-supervise", b.home}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		b.leaveNothing(c)
		<-s.Exited()
		_ = s.Close()
	})
	return c, s
}

// leaveNothing checks that a group is gone, but for its record and logs.
func (b *bench) leaveNothing(c *group.Created) {
	b.t.Helper()
	b.waitDead(c.Record.Name)
	entries, _ := os.ReadDir(c.Dir)
	for _, e := range entries {
		switch e.Name() {
		case "record.json", "plan.json", "events.jsonl", "lock", "logs", "console.log", "supervisor.log":
		default:
			b.t.Errorf("%s is left behind", e.Name())
		}
	}
	if b.t.Failed() {
		log, _ := os.ReadFile(group.SupervisorLogPath(c.Dir))
		b.t.Logf("supervisor of %s:\n%s", c.Record.Name, log)
	}
}

// waitDead waits until nobody holds the group's lock any more, and returns the group, nil if it was removed.
func (b *bench) waitDead(name string) *group.Group {
	b.t.Helper()
	for range attempts {
		g, err := b.store.Lookup(name)
		if errors.Is(err, group.ErrNotFound) {
			return nil
		}
		if err != nil {
			b.t.Fatal(err)
		}
		if !g.Alive {
			return g
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.t.Fatalf("group %s lives on", name)
	return nil
}

// start starts a group that does not end by itself, waits until it runs, and connects to it.
func (b *bench) start(plan *group.Plan) (*group.Created, *group.Client) {
	b.t.Helper()
	c, s := b.create(plan)
	err := s.Wait(b.t.Context(), group.StageRunning)
	if err != nil {
		b.t.Fatal(err)
	}
	return c, b.dial(c)
}

func (b *bench) dial(c *group.Created) *group.Client {
	b.t.Helper()
	client, err := group.DialDir(c.Dir)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = client.Close() })
	return client
}

// foreground starts a group that waits for us, attaches, and lets it go.
func (b *bench) foreground(plan *group.Plan, stdin bool) (*group.Created, *group.Client, *group.Streams) {
	b.t.Helper()
	plan.WaitForAttach = true
	plan.Containers[0].Stdin = stdin
	c, s := b.create(plan)
	err := s.Wait(b.t.Context(), group.StageAttach)
	if err != nil {
		b.t.Fatal(err)
	}
	client := b.dial(c)
	streams, err := client.Attach(b.t.Context(), group.AttachOptions{Stdin: stdin, Wait: true})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = streams.Close() })
	err = s.Wait(b.t.Context(), group.StageRunning)
	if err != nil {
		b.t.Fatal(err)
	}
	return c, client, streams
}

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestForeground(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	c, client, s := b.foreground(b.plan("fg", "/bin/sh", "-c", "read a; echo out $a; echo err >&2; exit 3"), true)
	_, err := s.Stdin.Write([]byte("word\n"))
	if err != nil {
		t.Fatal(err)
	}
	if out, e := readAll(t, s.Stdout), readAll(t, s.Stderr); out != "out word\n" || e != "err\n" {
		t.Errorf("stdout %q, stderr %q", out, e)
	}
	end, err := client.Wait(t.Context(), "", "")
	if err != nil || end.ExitCode != 3 || end.Broken || end.Reason != "" {
		t.Errorf("end is %+v, %v", end, err)
	}
	_ = client.Close()
	g := b.waitDead("fg")
	code, ok := g.Record.ExitCode()
	if g.Record.State != group.StateExited || code != 3 || !ok || g.Record.Reason != "" {
		t.Errorf("record is %s (%s), exit code %d, %v", g.Record.State, g.Record.Reason, code, ok)
	}
	if !g.Record.Simulated || len(g.Record.Measurement) != 96 || len(g.Record.PolicyHash) != 64 {
		t.Errorf("record says simulated %v, measurement %q, policy %q", g.Record.Simulated, g.Record.Measurement, g.Record.PolicyHash)
	}
	_ = c
}

func TestStdinEnds(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, client, s := b.foreground(b.plan("cat", "/bin/cat"), true)
	go func() {
		_, _ = s.Stdin.Write([]byte(strings.Repeat("line\n", 100_000)))
		_ = s.Stdin.Close()
	}()
	if got := readAll(t, s.Stdout); got != strings.Repeat("line\n", 100_000) {
		t.Errorf("cat returned %d bytes", len(got))
	}
	end, err := client.Wait(t.Context(), "main", "")
	if err != nil || end.ExitCode != 0 {
		t.Errorf("end is %+v, %v", end, err)
	}
}

// TestSlowForeground checks that a foreground client loses nothing, however slowly it reads, even when the container
// has long ended and the log was rotated.
func TestSlowForeground(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	plan := b.plan("slow", "/bin/sh", "-c", "head -c 8000000 /dev/zero | tr '\\0' x")
	plan.Remove = true
	_, _, s := b.foreground(plan, false)
	time.Sleep(300 * time.Millisecond)
	total, buf := 0, make([]byte, 1<<20)
	for {
		n, err := s.Stdout.Read(buf)
		total += n
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if total != 8000000 {
		t.Errorf("got %d bytes, want 8000000", total)
	}
	_ = s.Close()
}

// TestLazyClient has a client attached that never reads and did not ask to be waited for: the container goes on.
func TestLazyClient(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	c, client := b.start(b.plan("lazy", "/bin/sh", "-c", "while ! test -e "+b.home+"/go; do sleep 0.01; done; head -c 8000000 /dev/zero | tr '\\0' x"))
	s, err := client.Attach(t.Context(), group.AttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	err = os.WriteFile(filepath.Join(b.home, "go"), nil, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	end, err := client.Wait(t.Context(), "", "")
	if err != nil || end.ExitCode != 0 {
		t.Errorf("end is %+v, %v", end, err)
	}
	_ = s.Close()
	_ = client.Close()
	if g := b.waitDead(c.Record.Name); g.Record.State != group.StateExited {
		t.Errorf("record is %s (%s)", g.Record.State, g.Record.Reason)
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	plan := b.plan("rm", "/bin/true")
	plan.Remove = true
	c, client, s := b.foreground(plan, false)
	_ = readAll(t, s.Stdout)
	end, err := client.Wait(t.Context(), "", "")
	if err != nil || end.ExitCode != 0 {
		t.Errorf("end is %+v, %v", end, err)
	}
	_ = client.Close()
	if g := b.waitDead("rm"); g != nil {
		t.Errorf("group is still there: %s", g.Record.State)
	}
	_, err = os.Stat(c.Dir)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory: %v", err)
	}
}

func TestDetached(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	plan := b.plan("", "/bin/sh", "-c", "trap 'echo bye; exit 5' TERM; echo one; while :; do sleep 0.05; done")
	plan.Containers[0].ScratchMiB = 1
	c, client := b.start(plan)
	g, err := b.store.Lookup(c.Record.ID[:6])
	if err != nil || !g.Alive || g.Record.State != group.StateRunning || g.Record.MachinePID == 0 {
		t.Fatalf("group is %+v, %v", g, err)
	}
	if err = b.store.Remove(c.Record.Name); !errors.Is(err, group.ErrRunning) {
		t.Errorf("removing a running group: %v", err)
	}
	id, streams, err := client.Exec(t.Context(), group.ExecOptions{Command: []string{"/bin/sh", "-c", "cat; exit 9"}, Stdin: true})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = streams.Stdin.Write([]byte("fed"))
	_ = streams.Stdin.Close()
	if out := readAll(t, streams.Stdout); out != "fed" {
		t.Errorf("exec's output is %q", out)
	}
	end, err := client.Wait(t.Context(), "", id)
	if err != nil || end.ExitCode != 9 {
		t.Errorf("exec ended %+v, %v", end, err)
	}
	late, err := client.Attach(t.Context(), group.AttachOptions{Replay: true})
	if err != nil {
		t.Fatal(err)
	}
	one := make([]byte, len("one\n"))
	_, err = io.ReadFull(late.Stdout, one) // from here on it hears its stop signal
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- client.Stop(t.Context(), time.Minute) }()
	if out := string(one) + readAll(t, late.Stdout); out != "one\nbye\n" {
		t.Errorf("a late client sees %q", out)
	}
	_ = late.Close()
	if err = <-stopped; err != nil {
		t.Error(err)
	}
	_ = client.Close()
	g = b.waitDead(c.Record.Name)
	code, _ := g.Record.ExitCode()
	if g.Record.State != group.StateExited || g.Record.Reason != "stopped" || code != 5 {
		t.Errorf("record is %s (%s), exit code %d", g.Record.State, g.Record.Reason, code)
	}
	if err = b.store.Remove(c.Record.Name); err != nil {
		t.Error(err)
	}
}

func TestAttest(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, client := b.start(b.plan("attest", "/bin/sleep", "100"))
	doc, err := client.Attest(t.Context(), []byte("12345678"), []byte("data"))
	if err != nil || !strings.Contains(string(doc), `"source": "host"`) {
		t.Errorf("document is %s, %v", doc, err)
	}
	_, err = client.Attest(t.Context(), []byte("short"), nil)
	if err == nil {
		t.Error("evidence without a fit nonce")
	}
	_ = client.Stop(t.Context(), 100*time.Millisecond)
}

// TestLoad loads signed messages into a group that runs; one that is refused changes nothing.
func TestLoad(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	plan := b.plan("load", "/bin/sleep", "100")
	plan.TrustLists, plan.Fragments = [][]byte{[]byte("list")}, [][]byte{[]byte("fragment")}
	_, client := b.start(plan)
	for _, trustList := range []bool{true, false} {
		loaded, err := client.Load(t.Context(), []byte("good"), trustList)
		if err != nil || loaded.Issuer == "" || loaded.Feed == "" || (len(loaded.Ledgers) > 0) != trustList {
			t.Errorf("loaded %+v, %v", loaded, err)
		}
		_, err = client.Load(t.Context(), []byte(sandboxtest.RefusedFragment), trustList)
		if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodePolicyDenied {
			t.Errorf("error is %v", err)
		}
	}
	_ = client.Stop(t.Context(), 100*time.Millisecond)
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	plan := b.plan("tty", "/bin/sh", "-c", "read a; test -t 1 && echo got $a; stty size")
	plan.Containers[0].Terminal = true
	_, client, s := b.foreground(plan, true)
	err := client.Resize(t.Context(), "", "", 100, 40)
	if err != nil {
		t.Fatal(err)
	}
	if !s.Terminal || s.Stderr != nil {
		t.Errorf("streams are %+v", s)
	}
	_, _ = s.Stdin.Write([]byte("x\n"))
	if out := readAll(t, s.Stdout); !strings.Contains(out, "got x\r\n40 100") {
		t.Errorf("output is %q", out)
	}
}

func TestDenials(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for name, c := range map[string]struct {
		change func(*group.Plan)
		code   string
	}{
		"policy": {func(p *group.Plan) { p.Policy = []byte(sandboxtest.MismatchedPolicy) }, guestv1.CodePolicyMismatch},
		"fragment": {func(p *group.Plan) {
			p.Fragments = [][]byte{[]byte("good"), []byte(sandboxtest.RefusedFragment)}
		}, guestv1.CodePolicyDenied},
		"trust-list": {func(p *group.Plan) {
			p.TrustLists = [][]byte{[]byte("good"), []byte(sandboxtest.RefusedFragment)}
			p.Fragments = [][]byte{[]byte("good")}
		}, guestv1.CodePolicyDenied},
		"command": {func(p *group.Plan) { p.Containers[0].Command = []string{sandboxtest.CommandDenied} }, guestv1.CodePolicyDenied},
		"start":   {func(p *group.Plan) { p.Containers[0].Command = []string{"/nonexistent"} }, guestv1.CodeFailed},
	} {
		plan := b.plan(name, "/bin/true")
		c.change(plan)
		_, s := b.create(plan)
		err := s.Wait(t.Context(), group.StageRunning)
		var se *group.StartError
		if !errors.As(err, &se) || se.Denial.GetCode() != c.code || !strings.Contains(se.Error(), se.Denial.GetReasons()[0]) {
			t.Errorf("%s: error is %v, want a denial %s", name, err, c.code)
		}
		g, err := b.store.Lookup(name)
		if err != nil || g.Alive || g.Record.State != group.StateFailed || g.Record.Reason == "" {
			t.Errorf("%s: group is %+v, %v", name, g, err)
		}
	}
}

func TestExecDenied(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, client := b.start(b.plan("deny", "/bin/sleep", "100"))
	_, _, err := client.Exec(t.Context(), group.ExecOptions{Command: []string{sandboxtest.CommandDenied}})
	d := guestv1.DenialFrom(err)
	if d.GetCode() != guestv1.CodePolicyDenied || d.GetPoint() != "exec_in_container" {
		t.Errorf("error is %v", err)
	}
	_, err = client.Attach(t.Context(), group.AttachOptions{Container: "other"})
	if err == nil || !strings.Contains(err.Error(), `no container "other"`) {
		t.Errorf("error is %v", err)
	}
	err = syscall.Kill(supervisorPID(t, client), syscall.SIGTERM) // stops the group in order
	if err != nil {
		t.Fatal(err)
	}
	<-client.Done()
	_ = client.Close()
	if g := b.waitDead("deny"); g.Record.State != group.StateExited {
		t.Errorf("state is %s (%s)", g.Record.State, g.Record.Reason)
	}
}

func supervisorPID(t *testing.T, c *group.Client) int {
	t.Helper()
	r, err := c.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r.SupervisorPID
}
