// SPDX-License-Identifier: Apache-2.0

package accept

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cofferdam.dev/internal/guestimage"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/testcap"
)

// bare boots the same kernel in the same machine with a trivial init: what no guest can be quicker than.
type bare struct {
	emulator *qemu.Emulator
	machine  qemu.Config
}

func newBare(b *testing.B) *bare {
	b.Helper()
	dir := b.TempDir()
	program := filepath.Join(dir, "bareinit")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", program, "cofferdam.dev/internal/guestimage/bareinit")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("building the trivial init: %v\n%s", err, out)
	}
	initrd, err := os.Create(filepath.Join(dir, "initrd.cpio"))
	if err != nil {
		b.Fatal(err)
	}
	err = guestimage.WriteBareInitramfs(initrd, program)
	if err != nil {
		b.Fatal(err)
	}
	err = initrd.Close()
	if err != nil {
		b.Fatal(err)
	}
	img, err := guestimage.Current(filepath.Join(testcap.Dir(), "home"))
	if err != nil {
		b.Fatal(err)
	}
	boot, err := img.Boot(guestimage.Simulated, true)
	if err != nil {
		b.Fatal(err)
	}
	path, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		b.Fatal(err)
	}
	e, err := qemu.Probe(b.Context(), path)
	if err != nil {
		b.Fatal(err)
	}
	return &bare{emulator: e, machine: qemu.Config{
		Name: "bare", Version: e.Version, Accelerator: qemu.TCG, TEE: qemu.Simulated, VCPUs: 1, MemoryMiB: 512,
		Kernel: boot.Kernel, Initrd: initrd.Name(), Cmdline: boot.Cmdline,
		FDs: qemu.FDs{Control: 3, Monitor: 4, Console: 5, Simulator: 6},
	}}
}

// boot returns how long it took from the start of QEMU until the init spoke, by the clock and in CPU time.
func (m *bare) boot(b *testing.B) (wall, cpu time.Duration) {
	b.Helper()
	args, err := m.machine.Args()
	if err != nil {
		b.Fatal(err)
	}
	var ours []net.Conn
	var theirs []*os.File
	for range 4 {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		f := os.NewFile(uintptr(fds[0]), "ours")
		c, err := net.FileConn(f)
		if err != nil {
			b.Fatal(err)
		}
		_ = f.Close() // FileConn works on a copy
		ours, theirs = append(ours, c), append(theirs, os.NewFile(uintptr(fds[1]), "theirs"))
	}
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, m.emulator.Path, args...)
	cmd.ExtraFiles = theirs
	begin := time.Now()
	err = cmd.Start()
	if err != nil {
		b.Fatal(err)
	}
	for i, f := range theirs {
		_ = f.Close() // the child has its copy
		if i > 0 {
			go func() { _, _ = io.Copy(io.Discard, ours[i]) }() // ends with the machine
		}
	}
	line, err := bufio.NewReader(ours[0]).ReadString('\n')
	wall, cpu = time.Since(begin), cpuOf(b, cmd.Process.Pid)
	if err != nil || line != "BARE-INIT\n" {
		b.Fatalf("the trivial init said %q, %v", line, err)
	}
	_, err = ours[0].Write([]byte("x"))
	if err != nil {
		b.Fatal(err)
	}
	err = cmd.Wait()
	if err != nil {
		b.Fatalf("the bare machine: %v", err)
	}
	for _, c := range ours {
		_ = c.Close() // the machine is gone
	}
	return wall, cpu
}

// cpuOf returns the processor time that a process has used so far, in the kernel's ticks of 10 ms.
func cpuOf(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // after the name, which has no bracket here
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		b.Fatalf("process %d has the state %q", pid, text)
	}
	var user, system time.Duration
	_, err = fmt.Sscan(fields[11]+" "+fields[12], &user, &system)
	if err != nil {
		b.Fatal(err)
	}
	return (user + system) * 10 * time.Millisecond
}
