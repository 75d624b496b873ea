// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/sandbox/network"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/sandbox/sandboxtest"
	"cofferdam.dev/internal/testcap"
)

func TestMain(m *testing.M) {
	sandboxtest.RunIfEmulator()
	os.Exit(testcap.NoLeaks(m))
}

// silent is a simulator that answers nothing.
type silent struct{}

func (silent) Serve(_ context.Context, port io.ReadWriteCloser) error {
	_, err := io.Copy(io.Discard, port)
	return err
}

func config(t *testing.T, words ...string) Config {
	t.Helper()
	e, err := sandboxtest.Emulator()
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Emulator: e,
		Machine: qemu.Config{
			Name: "test", Accelerator: qemu.TCG, TEE: qemu.Simulated, VCPUs: 1, MemoryMiB: 256,
			Kernel: "/k", Initrd: "/i", Cmdline: strings.Join(words, " "),
		},
		Simulator:   silent{},
		ConsolePath: filepath.Join(t.TempDir(), "console.log"),
		BootTimeout: 2 * time.Minute,
	}
}

// boot starts a machine and waits until it answers.
func boot(t *testing.T, cfg Config) *VM {
	t.Helper()
	vm, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		vm.Kill()
		<-vm.Done()
		alive(t, vm.PID(), false)
	})
	err = vm.Ready(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

// alive checks whether a process exists.
func alive(t *testing.T, pid int, want bool) {
	t.Helper()
	err := syscall.Kill(pid, 0)
	if got := err == nil; got != want {
		t.Errorf("process %d: alive is %v, want %v", pid, got, want)
	}
}

const containerID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// run prepares and starts a container with a command on a booted machine.
func run(t *testing.T, vm *VM, command ...string) *Process {
	t.Helper()
	g := vm.Guest()
	err := g.SetPolicy(t.Context(), []byte("policy"))
	if err != nil {
		t.Fatal(err)
	}
	err = g.MountRoot(t.Context(), containerID, Root{
		Mount:   []Layer{{Serial: "layer0", Target: "/run/mounts/scsi/m0"}, {Serial: "layer1", Target: "/run/mounts/scsi/m1"}},
		Targets: []string{"/run/mounts/scsi/m0", "/run/mounts/scsi/m1"},
		Scratch: "scratch0",
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := g.CreateContainer(t.Context(), &guestv1.CreateContainerRequest{
		ContainerId: containerID, Command: command, Stdio: &guestv1.Stdio{Stdin: true, Stdout: true, Stderr: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.CloseStreams)
	err = p.Start(t.Context())
	if err != nil && !strings.HasPrefix(command[0], "/fake/") { // those may end the machine before it can answer
		t.Fatal(err)
	}
	return p
}

func TestContainer(t *testing.T) {
	t.Parallel()
	vm := boot(t, config(t))
	p := run(t, vm, "/bin/sh", "-c", "read line; echo out $line; echo err >&2; exit 7")
	_, err := p.Stdin.Write([]byte("hello\n"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(p.Stdout)
	if err != nil || string(out) != "out hello\n" {
		t.Errorf("stdout is %q, %v", out, err)
	}
	errOut, err := io.ReadAll(p.Stderr)
	if err != nil || string(errOut) != "err\n" {
		t.Errorf("stderr is %q, %v", errOut, err)
	}
	end, err := p.Wait(t.Context())
	if err != nil || end.GetExitCode() != 7 {
		t.Errorf("exit code is %d, %v, want 7", end.GetExitCode(), err)
	}
	exit := vm.PowerOff(t.Context(), 0)
	if exit.Reason != PoweredOff || exit.Err() != nil {
		t.Errorf("exit is %+v", exit)
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	vm := boot(t, config(t))
	p := run(t, vm, "/bin/sleep", "100")
	e, err := vm.Guest().Exec(t.Context(), &guestv1.ExecProcessRequest{
		ContainerId: containerID, Command: []string{"/bin/echo", "hi"}, Stdio: &guestv1.Stdio{Stdout: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(e.Stdout)
	if err != nil || string(out) != "hi\n" {
		t.Errorf("output is %q, %v", out, err)
	}
	_, err = vm.Guest().Exec(t.Context(), &guestv1.ExecProcessRequest{
		ContainerId: containerID, Command: []string{sandboxtest.CommandDenied},
	})
	var d *guestv1.Denial
	if !errors.As(err, &d) || d.GetCode() != guestv1.CodePolicyDenied || d.GetPoint() != "exec_in_container" {
		t.Errorf("error is %v, want the policy's denial", err)
	}
	err = p.Signal(t.Context(), 15)
	if err != nil {
		t.Fatal(err)
	}
	end, err := p.Wait(t.Context())
	if err != nil || end.GetExitCode() != 128+15 {
		t.Errorf("exit code is %d, %v, want 143", end.GetExitCode(), err)
	}
}

func TestEnds(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]struct {
		reason Reason
		text   string
	}{
		sandboxtest.CommandPanic:     {Panicked, "Kernel panic - not syncing"},
		sandboxtest.CommandFullPanic: {Panicked, "the guest's kernel panicked; the host's disk is full"},
		sandboxtest.CommandReset:     {ResetItself, "its agent ended"},
		sandboxtest.CommandPowerOff:  {StoppedItself, "without being asked"},
		sandboxtest.CommandKillQEMU:  {EmulatorKilled, "signal 9 (killed) from outside"},
		sandboxtest.CommandHang:      {Hung, "did not answer"},
		sandboxtest.CommandChannel:   {ChannelLost, "closed its control channel"},
	} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			cfg := config(t)
			if command == sandboxtest.CommandHang { // for the others a busy machine must not look like one that hangs
				cfg.HangTimeout = 15 * time.Second
			}
			vm := boot(t, cfg)
			run(t, vm, command)
			exit := vm.Exit()
			if exit.Reason != want.reason || !strings.Contains(fmt.Sprint(exit.Err()), want.text) {
				t.Errorf("exit is %q: %v; want %q: %q", exit.Reason, exit.Err(), want.reason, want.text)
			}
			err := vm.Guest().SetPolicy(t.Context(), nil)
			if err == nil {
				t.Error("a dead guest answers")
			}
		})
	}
}

func TestBootFailures(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		sandboxtest.BootFails:  "told to fail",
		sandboxtest.BootHangs:  "did not answer within",
		sandboxtest.BootPanics: "Kernel panic - not syncing",
		sandboxtest.BootLies:   `TEE "snp", want 1 and "simulated"`,
	} {
		t.Run(word, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, word)
			if word == sandboxtest.BootHangs {
				cfg.BootTimeout = time.Second
			}
			vm, err := Start(t.Context(), cfg)
			if err == nil {
				err = vm.Ready(t.Context())
				<-vm.Done()
				alive(t, vm.PID(), false)
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error is %v, want %q", err, want)
			}
		})
	}
}

func TestBootIsCalledOff(t *testing.T) {
	t.Parallel()
	vm, err := Start(t.Context(), config(t, sandboxtest.BootHangs))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = vm.Ready(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	<-vm.Done()
	alive(t, vm.PID(), false)
}

func TestPowerOffIsEnforced(t *testing.T) {
	t.Parallel()
	vm := boot(t, config(t, sandboxtest.IgnorePower))
	exit := vm.PowerOff(t.Context(), 200*time.Millisecond)
	if exit.Reason != Killed {
		t.Errorf("reason is %q, want %q", exit.Reason, Killed)
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	port := taken.Addr().(*net.TCPAddr).AddrPort().Port()
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"port in use": {func(c *Config) {
			c.Network = network.Ingress
			c.Forwards = []network.Forward{{Protocol: "tcp", HostIP: "127.0.0.1", HostPort: port, GuestPort: 80}}
		}, "address already in use"},
		"no emulator":   {func(c *Config) { c.Emulator = nil }, "an emulator is needed"},
		"no simulator":  {func(c *Config) { c.Simulator = nil }, "a simulator for the TEE"},
		"lost emulator": {func(c *Config) { c.Emulator.Path = "/nonexistent/qemu" }, "starting QEMU"},
		"no directory":  {func(c *Config) { c.ConsolePath = "/nonexistent/console.log" }, "opening the console's log"},
		"no vCPU":       {func(c *Config) { c.Machine.VCPUs = 0 }, "0 vCPUs"},
	} {
		cfg := config(t)
		c.change(&cfg)
		vm, err := Start(t.Context(), cfg)
		if err == nil {
			vm.Kill()
			<-vm.Done()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
	}
}

func TestConsoleIsBounded(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	vm := boot(t, cfg)
	run(t, vm, sandboxtest.CommandFloodPrint) // 4 MiB
	deadline := time.Now().Add(5 * time.Minute)
	for {
		total := int64(0)
		for _, path := range []string{cfg.ConsolePath, cfg.ConsolePath + ".1"} {
			info, err := os.Stat(path)
			if err == nil {
				total += info.Size()
			}
		}
		if total > 2*maxConsoleFile {
			t.Fatalf("console takes %d bytes", total)
		}
		if total > maxConsoleFile { // it was rotated
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("console has %d bytes after a flood", total)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	r := newRing(16)
	_, _ = r.Write([]byte("lost lost lost "))
	_, _ = r.Write([]byte("\x1b[31mred\r\n\xff\tend"))
	if got := r.String(); got != " ?[31mred\n?\tend" {
		t.Errorf("tail is %q (%s)", got, hex.EncodeToString([]byte(got)))
	}
}

// TestOrphan checks that a machine dies with its owner, even one that is killed.
func TestOrphan(t *testing.T) {
	t.Parallel()
	if os.Getenv("SANDBOX_TEST_OWNER") != "" {
		vm := boot(t, config(t))
		fmt.Printf("PID %d\n", vm.PID())
		_ = os.Stdout.Sync()
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	pid := ownerAndMachine(t)
	deadline := time.Now().Add(5 * time.Minute)
	for syscall.Kill(pid, 0) == nil && !isZombie(pid) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("QEMU process %d outlives its killed owner", pid)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
