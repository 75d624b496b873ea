// SPDX-License-Identifier: Apache-2.0

package guestimage

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/testcap"
)

// TestKernelBoots boots the image's unpacked kernel with its command line and an initramfs of our own format, in a
// machine of the kind that the product uses, and waits for a line from PID 1. The kernel is the judge of all three.
func TestKernelBoots(t *testing.T) {
	testcap.Require(t, testcap.QEMU, testcap.GuestImage)
	img, err := Current(filepath.Join(testcap.Dir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	boot, err := img.Boot(Simulated, true)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := WriteBareInitramfs(&archive, staticProgram(t)); err != nil {
		t.Fatal(err)
	}
	initrd := filepath.Join(t.TempDir(), FileInitrd)
	if err := os.WriteFile(initrd, archive.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(pair[0], true); err != nil { // so that reading has a deadline
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "control"), os.NewFile(uintptr(pair[1]), "control")
	log := filepath.Join(t.TempDir(), "console")
	cmd := exec.Command("qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", "max,-cx16", "-m", "256M",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-kernel", boot.Kernel, "-initrd", initrd,
		"-append", boot.Cmdline, "-serial", "file:"+log, "-device", "virtio-serial-pci,id=vs0",
		"-chardev", "socket,id=ctl,fd=3", "-device", "virtserialport,bus=vs0.0,chardev=ctl,name=cofferdam.ctl")
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // killed
	})
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	if err := ours.SetReadDeadline(time.Now().Add(8 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("BARE-INIT\n"))
	n, err := io.ReadFull(ours, line)
	if got := string(line[:n]); err != nil || got != "BARE-INIT\n" {
		console, _ := os.ReadFile(log) // for the message only
		t.Fatalf("read %q, %v; the console says:\n%s", got, err, console)
	}
	if err := ours.Close(); err != nil { // PID 1 powers off
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("QEMU: %v", err)
	}
}
