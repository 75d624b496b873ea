// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/guestimage"
	"cofferdam.dev/internal/image"
	"cofferdam.dev/internal/layer"
	"cofferdam.dev/internal/sandbox"
	"cofferdam.dev/internal/sandbox/network"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/simsp"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/policy"
)

const (
	vmTimeout = 10 * time.Minute
	podID     = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	hogID     = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
	badID     = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	env       = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
)

// vmContainer is a policy's container for the tests: a shell that says hello, waits for a line and ends with 7.
func vmContainer(name string, roots []string, command ...string) policy.Container {
	caps := []string{"CAP_CHOWN", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"}
	return policy.Container{
		Name: name, Layers: roots, Command: command, WorkingDir: "/", AllowStdioAccess: true,
		EnvRules:      []policy.EnvRule{{Pattern: env, Strategy: policy.StrategyString}},
		ExecProcesses: []policy.ExecProcess{{Command: []string{"/bin/sh", "-c", "tty; stty size; id -u; exit 5"}}},
		Signals:       []int{9, 15},
		Mounts: []policy.Mount{{
			Destination: "/data", Source: "sandbox:///tmp/atlas/emptydir/.+", Type: "bind", Options: []string{"rbind", "rshared", "rw"},
		}, {
			Destination: "/run", Source: "sandbox:///tmp/atlas/emptydir/.+", Type: "bind", Options: []string{"rbind", "rshared", "ro"},
		}},
		Capabilities:    policy.Capabilities{Bounding: caps, Effective: caps, Permitted: caps, Ambient: []string{}, Inheritable: []string{}},
		NoNewPrivileges: true,
		User: policy.User{
			Umask: "0022", UserIDName: policy.IDName{Strategy: policy.StrategyAny},
			GroupIDNames: []policy.IDName{{Strategy: policy.StrategyAny}},
		},
	}
}

const script = "echo hello; echo warning >&2; hostname; cat /etc/resolv.conf; cat /sys/class/net/eth0/operstate; grep NoNewPrivs /proc/self/status; touch /data/x; ls /run/cofferdam; touch /run/x 2>/dev/null || echo read-only; read line; echo \"got $line\"; exit 7"

func createRequest(id string, c policy.Container) *guestv1.CreateContainerRequest {
	return &guestv1.CreateContainerRequest{
		ContainerId: id, Command: c.Command, Env: []string{env}, WorkingDir: "/", NoNewPrivileges: true,
		Capabilities: &guestv1.Capabilities{
			Bounding: c.Capabilities.Bounding, Effective: c.Capabilities.Effective, Permitted: c.Capabilities.Permitted,
		},
		Mounts: []*guestv1.Mount{{
			Destination: "/data", Source: "sandbox:///tmp/atlas/emptydir/data", Type: "bind", Options: []string{"rbind", "rshared", "rw"},
		}},
		Hostname: "smoke",
		Stdio:    &guestv1.Stdio{Stdin: true, Stdout: true, Stderr: true},
	}
}

// vmLayers converts an image's layers; the last is converted a second time with one byte of its data flipped.
func vmLayers(ctx context.Context, t *testing.T) []layer.Entry {
	t.Helper()
	img, err := image.Open(ctx, "oci-archive:"+filepath.Join(testcap.Dir(), "images", "busybox.tar"), image.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	cache, err := layer.OpenCache(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	entries, err := cache.GetAll(ctx, layer.Sources(img.Layers()), nil)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// flip copies a layer and changes one byte of every block that holds data of /bin/busybox.
func flip(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(b), "\x7fELF")
	if at < 0 {
		t.Fatal("the layer holds no program")
	}
	b[at+64] ^= 1
	bad := filepath.Join(t.TempDir(), "flipped")
	err = os.WriteFile(bad, b, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return bad
}

// bootVM starts a machine with the guest image of the cache directory.
func bootVM(ctx context.Context, t *testing.T, text []byte, disks []qemu.Disk, changes ...func(*sandbox.Config)) *sandbox.VM {
	t.Helper()
	img, err := guestimage.Current(filepath.Join(testcap.Dir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	boot, err := img.Boot(guestimage.Simulated, true)
	if err != nil {
		t.Fatal(err)
	}
	processor, err := simsp.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	guest, err := processor.Launch(simsp.Launch{
		KernelPath: boot.Kernel, InitrdPath: boot.Initrd, Cmdline: boot.Cmdline, VCPUs: 1,
		HostData: policy.Hash(text), Policy: qemu.DefaultSNPPolicy,
	})
	if err != nil {
		t.Fatal(err)
	}
	emulator, err := qemu.Probe(ctx, "qemu-system-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	console := filepath.Join(t.TempDir(), "console")
	t.Cleanup(func() {
		if t.Failed() {
			b, _ := os.ReadFile(console)
			t.Logf("console:\n%s", b)
		}
	})
	cfg := sandbox.Config{
		Emulator: emulator, Simulator: guest, ConsolePath: console, Logger: slog.New(slog.DiscardHandler),
		Network: network.Ingress,
		Machine: qemu.Config{
			Name: "agent-test", Accelerator: qemu.TCG, TEE: qemu.Simulated, VCPUs: 1, MemoryMiB: 512,
			Kernel: boot.Kernel, Initrd: boot.Initrd, Cmdline: boot.Cmdline, HostData: policy.Hash(text), Disks: disks,
		},
	}
	for _, change := range changes {
		change(&cfg)
	}
	vm, err := sandbox.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		vm.Kill()
		<-vm.Done()
	})
	err = vm.Ready(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

// TestRealGuest boots one machine and runs through a container's life, and through a few that the policy does not
// allow.
func TestRealGuest(t *testing.T) {
	testcap.Require(t, testcap.QEMU, testcap.GuestImage, testcap.Images)
	if testing.Short() {
		t.Skip("boots a machine, which the race detector does not see into")
	}
	ctx, cancel := context.WithTimeout(t.Context(), vmTimeout)
	defer cancel()
	entries := vmLayers(ctx, t)
	var roots []string
	var disks []qemu.Disk
	var root sandbox.Root
	for i, e := range entries {
		roots = append(roots, hex.EncodeToString(e.RootHash[:]))
		serial, target := fmt.Sprintf("layer%d", i), fmt.Sprintf("/run/mounts/scsi/m%d", i)
		disks = append(disks, qemu.Disk{Path: e.Path, Serial: serial, ReadOnly: true})
		root.Mount = append(root.Mount, sandbox.Layer{Serial: serial, Root: e.RootHash, DataBlocks: e.DataBlocks, Target: target})
		root.Targets = append(root.Targets, target)
	}
	last := entries[0] // the one with the programs
	disks = append(disks, qemu.Disk{Path: flip(t, last.Path), Serial: "flipped", ReadOnly: true})

	scratchDisk := filepath.Join(t.TempDir(), "scratch")
	must(t, os.WriteFile(scratchDisk, nil, 0o600))
	must(t, os.Truncate(scratchDisk, 1<<30))
	disks = append(disks, qemu.Disk{Path: scratchDisk, Serial: "scratch0"})

	good := vmContainer("good", roots, "/bin/sh", "-c", script)
	hog := vmContainer("hog", roots, "/bin/sh", "-c", "ls -A /data/cofferdam; trap '' TERM; x=aaaaaaaa; while :; do x=$x$x; done")
	hog.NoNewPrivileges, hog.User.UserIDName = false, policy.IDName{Pattern: "nobody", Strategy: policy.StrategyName}
	bad := vmContainer("bad", []string{hex.EncodeToString(last.RootHash[:])}, "/bin/sh", "-c", "exit 0")
	text := (&policy.Policy{
		APIVersion: policy.DeployedAPI, FrameworkVersion: policy.DeployedFramework,
		Containers: []policy.Container{good, bad, hog}, AllowPropertiesAccess: true, AllowDumpStacks: true, AllowRuntimeLogging: true,
		Fragments: []policy.Fragment{},
	}).Text()

	began := time.Now()
	vm := bootVM(ctx, t, text, disks)
	g := vm.Guest()
	hello, err := g.Hello(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("ready after %v, guest uptime %d ms", time.Since(began), hello.GetUptimeMs())

	wantCode(t, g.MountRoot(ctx, podID, root), guestv1.CodeNoPolicy)
	wantCode(t, g.SetPolicy(ctx, append(text, '\n')), guestv1.CodePolicyMismatch)
	began = time.Now()
	must(t, g.SetPolicy(ctx, text))
	t.Logf("policy set after %v", time.Since(began))
	wantCode(t, g.SetPolicy(ctx, text), guestv1.CodePolicyAlreadySet)

	began = time.Now()
	must(t, g.MountRoot(ctx, podID, root))
	t.Logf("root filesystem mounted after %v", time.Since(began))
	wider := createRequest(podID, good)
	wider.Command = append(wider.Command, "more")
	_, err = g.CreateContainer(ctx, wider)
	wantCode(t, err, guestv1.CodePolicyDenied)
	began = time.Now()
	first := createRequest(podID, good)
	first.Mounts = append(first.Mounts, &guestv1.Mount{ // the agent's own mount lies in it
		Destination: "/run", Source: "sandbox:///tmp/atlas/emptydir/run", Type: "bind", Options: []string{"rbind", "rshared", "ro"},
	})
	p, err := g.CreateContainer(ctx, first)
	must(t, err)
	t.Logf("created after %v", time.Since(began))
	began = time.Now()
	must(t, p.Start(ctx))
	t.Logf("started after %v", time.Since(began))
	vmExec(ctx, t, g)
	vmFlipped(ctx, t, g, last, bad)
	vmHog(ctx, t, g, root.Targets, hog)
	vmEvidence(ctx, t, g, text)
	vmEnd(ctx, t, p)

	props, err := g.Properties(ctx)
	must(t, err)
	t.Logf("memory: %d MiB, %d available", props.GetMemoryTotalBytes()>>20, props.GetMemoryAvailableBytes()>>20)
	must(t, g.ShutdownContainer(ctx, podID))
	exit := vm.PowerOff(ctx, 5*time.Minute)
	if exit.Err() != nil {
		t.Errorf("power-off: %v", exit.Err())
	}
}

// vmEnd checks what the container says and how it ends.
func vmEnd(ctx context.Context, t *testing.T, p *sandbox.Process) {
	t.Helper()
	_, err := p.Stdin.Write([]byte("a line\n"))
	must(t, err)
	must(t, p.Stdin.Close())
	out, err := io.ReadAll(p.Stdout)
	must(t, err)
	want := "hello\nsmoke\nnameserver 192.168.127.1\nup\nNoNewPrivs:\t1\nevidence.sock\npolicy.rego\nsecurity-policy-base64\nread-only\ngot a line\n"
	if string(out) != want {
		t.Errorf("standard output is %q, want %q", out, want)
	}
	errs, err := io.ReadAll(p.Stderr)
	must(t, err)
	if string(errs) != "warning\n" {
		t.Errorf("standard error is %q", errs)
	}
	p.CloseStreams()
	for range 2 {
		w, err := p.Wait(ctx)
		must(t, err)
		if w.GetExitCode() != 7 || w.GetOutOfMemory() {
			t.Errorf("exit is %v, want code 7", w)
		}
	}
	wantCode(t, p.Signal(ctx, 9), guestv1.CodeWrongState)
}

// vmExec runs a further process on a terminal.
func vmExec(ctx context.Context, t *testing.T, g *sandbox.Guest) {
	t.Helper()
	req := &guestv1.ExecProcessRequest{
		ContainerId: podID, Command: []string{"/bin/sh", "-c", "tty; stty size; id -u; exit 5"}, Env: []string{env}, WorkingDir: "/",
		NoNewPrivileges: true, Stdio: &guestv1.Stdio{Stdin: true, Stdout: true, Terminal: true},
		Capabilities: &guestv1.Capabilities{},
	}
	began := time.Now()
	e, err := g.Exec(ctx, req)
	if d := guestv1.DenialFrom(err); d != nil { // the policy wants the container's own capabilities
		caps := vmContainer("", nil).Capabilities
		req.Capabilities = &guestv1.Capabilities{Bounding: caps.Bounding, Effective: caps.Effective, Permitted: caps.Permitted}
		began = time.Now()
		e, err = g.Exec(ctx, req)
	}
	must(t, err)
	t.Logf("exec after %v", time.Since(began))
	out, err := io.ReadAll(e.Stdout)
	must(t, err)
	if !strings.HasPrefix(string(out), "/dev/pts/0\r\n") || !strings.HasSuffix(string(out), "\r\n0\r\n") {
		t.Errorf("output on the terminal is %q", out)
	}
	w, err := e.Wait(ctx)
	must(t, err)
	if w.GetExitCode() != 5 {
		t.Errorf("exit code of exec is %d, want 5", w.GetExitCode())
	}
	e.CloseStreams()
	req.Command = []string{"/bin/sh"}
	_, err = g.Exec(ctx, req)
	wantCode(t, err, guestv1.CodePolicyDenied)
}

// vmFlipped mounts a layer that was changed on the host: what was changed can not be read.
func vmFlipped(ctx context.Context, t *testing.T, g *sandbox.Guest, e layer.Entry, c policy.Container) {
	t.Helper()
	const target = "/run/mounts/scsi/m99"
	must(t, g.MountRoot(ctx, badID, sandbox.Root{
		Mount:   []sandbox.Layer{{Serial: "flipped", Root: e.RootHash, DataBlocks: e.DataBlocks, Target: target}},
		Targets: []string{target},
	}))
	req := createRequest(badID, c)
	p, err := g.CreateContainer(ctx, req)
	must(t, err)
	must(t, p.Start(ctx))
	w, err := p.Wait(ctx)
	must(t, err)
	said, err := io.ReadAll(p.Stderr)
	must(t, err)
	p.CloseStreams()
	t.Logf("exit code %d, %q", w.GetExitCode(), said)
	if w.GetExitCode() == 0 || !strings.Contains(string(said), "input/output error") {
		t.Errorf("a program of a changed layer ended with code %d and said %q, want an input/output error", w.GetExitCode(), said)
	}
}

// vmHog runs a container on an encrypted scratch disk that takes more memory than it may have. It shares a volume with the
// first container, and not what the agent mounted into it there.
func vmHog(ctx context.Context, t *testing.T, g *sandbox.Guest, targets []string, c policy.Container) {
	t.Helper()
	began := time.Now()
	must(t, g.MountRoot(ctx, hogID, sandbox.Root{Targets: targets, Scratch: "scratch0"}))
	t.Logf("scratch disk and root filesystem after %v", time.Since(began))
	req := createRequest(hogID, c)
	req.NoNewPrivileges, req.User, req.MemoryLimitBytes = false, "nobody", 32<<20
	req.Mounts[0].Source = "sandbox:///tmp/atlas/emptydir/run" // in which the other container has the agent's mount
	p, err := g.CreateContainer(ctx, req)
	must(t, err)
	must(t, p.Start(ctx))
	w, err := p.Wait(ctx)
	must(t, err)
	if w.GetExitCode() != 137 || !w.GetOutOfMemory() {
		t.Errorf("exit is %v, want code 137 for want of memory", w)
	}
	seen, err := io.ReadAll(p.Stdout)
	if err != nil || len(seen) != 0 {
		t.Errorf("of the other container's evidence socket it sees %q, %v", seen, err)
	}
	p.CloseStreams()
	must(t, g.ShutdownContainer(ctx, hogID))
}

func vmEvidence(ctx context.Context, t *testing.T, g *sandbox.Guest, text []byte) {
	t.Helper()
	nonce := []byte("0123456789abcdef")
	resp, err := g.Evidence(ctx, nonce, []byte("data"))
	must(t, err)
	r, err := snp.ParseReport(resp.GetReport())
	must(t, err)
	if r.HostData != policy.Hash(text) || r.ReportData != evidence.ReportData(evidence.SourceHost, nonce, []byte("data")) {
		t.Errorf("report holds HOST_DATA %x and report data %x", r.HostData, r.ReportData)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if d := guestv1.DenialFrom(err); d.GetCode() != code {
		t.Errorf("got %v, want a denial with code %s", err, code)
	}
}
