// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"cofferdam.dev/internal/guestimage"
	"cofferdam.dev/internal/guestimage/cpio"
	"cofferdam.dev/internal/testcap"
)

var only = flag.String("guest", "", "run only the guest's tests whose name contains this text")

// disk is one disk of the machine.
type disk struct {
	serial, path string
	writable     bool
}

// TestGuest boots the machine on the host, and runs the tests in the guest.
func TestGuest(t *testing.T) {
	if inGuest {
		runGuestTests(t)
		return
	}
	testcap.Require(t, testcap.QEMU, testcap.GuestImage)
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	dir := t.TempDir()
	plan, disks := makePlan(t, dir)
	plan.Only = *only
	out := bootMachine(t, dir, plan, disks)
	repeat(t, out)
	if t.Failed() {
		console, err := os.ReadFile(filepath.Join(dir, "console"))
		t.Logf("console: %v\n%s", err, console)
	}
	checkDisksAfterwards(t, dir)
}

func bootMachine(t *testing.T, dir string, plan plan, disks []disk) string {
	t.Helper()
	img, err := guestimage.Current(filepath.Join(testcap.Dir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := img.Boot(guestimage.Simulated, true)
	if err != nil {
		t.Fatal(err)
	}
	initrd := filepath.Join(dir, "initrd")
	writeInitrd(t, initrd, b.Initrd, plan)
	console, out := filepath.Join(dir, "console"), filepath.Join(dir, "out")
	args := []string{
		"-M", "q35", "-accel", "tcg", "-cpu", cpu(t), "-smp", "1", "-m", "768", "-nodefaults", "-no-user-config",
		"-display", "none", "-no-reboot", "-kernel", b.Kernel, "-initrd", initrd, "-append", b.Cmdline + " rdinit=" + program,
		"-serial", "file:" + console,
		"-device", "virtio-serial-pci", "-chardev", "file,id=out,path=" + out, "-device", "virtserialport,chardev=out,name=" + outPort,
		"-netdev", "user,id=n0,restrict=on,net=192.168.127.0/24,host=192.168.127.1,dns=192.168.127.3",
		"-device", "virtio-net-pci,netdev=n0,romfile=", "-device", "virtio-rng-pci", "-device", "virtio-scsi-pci,id=scsi",
	}
	for i, d := range disks {
		ro := "on"
		if d.writable {
			ro = "off"
		}
		args = append(args, "-drive", fmt.Sprintf("if=none,id=d%d,format=raw,file=%s,readonly=%s", i, d.path, ro),
			"-device", fmt.Sprintf("scsi-hd,bus=scsi.0,lun=%d,drive=d%d,serial=%s", i, i, d.serial))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 18*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	start := time.Now()
	said, err := cmd.CombinedOutput()
	t.Logf("the machine ran for %.1f s, %.1f s of processor time", time.Since(start).Seconds(),
		(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds())
	log, _ := os.ReadFile(console)
	if err != nil {
		t.Fatalf("qemu: %v\n%s\n%s", err, said, log)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(exitLine)) {
		t.Errorf("the guest did not finish; console:\n%s", log)
	}
	return string(text)
}

// cpu avoids an instruction that QEMU before 8 emulates wrongly.
func cpu(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("qemu-system-x86_64", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	if regexp.MustCompile(`version [0-7]\.`).Match(out) {
		return "max,-cx16"
	}
	return "max"
}

// writeInitrd writes the image's initramfs followed by an archive of ours.
func writeInitrd(t *testing.T, path, base string, p plan) {
	t.Helper()
	archive, err := os.ReadFile(base)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile(staticBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	b := bytes.NewBuffer(archive)
	err = cpio.Write(b, []cpio.Entry{cpio.File(program[1:], 0o555, self), cpio.File(planFile[1:], 0o444, text)})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// staticBinary builds this package's tests again: the running binary may be instrumented and dynamically linked.
func staticBinary(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "vmtest")
	cmd := exec.Command("go", "test", "-c", "-trimpath", "-ldflags=-s -w", "-o", out, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the guest's tests: %v\n%s", err, said)
	}
	return out
}

var (
	runLine    = regexp.MustCompile(`^=== RUN +TestGuest/(\S+)$`)
	resultLine = regexp.MustCompile(`^ {4}--- (PASS|FAIL|SKIP): TestGuest/(\S+) \(`)
)

// repeat makes the guest's results those of subtests here.
func repeat(t *testing.T, out string) {
	t.Helper()
	text := map[string]*strings.Builder{}
	result := map[string]string{}
	var order []string
	current := ""
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\r\n")
		if m := runLine.FindStringSubmatch(line); m != nil {
			current, _, _ = strings.Cut(m[1], "/")
			if text[current] == nil {
				text[current] = &strings.Builder{}
				order = append(order, current)
			}
			continue
		}
		if m := resultLine.FindStringSubmatch(line); m != nil {
			result[m[2]] = m[1]
		}
		if current != "" {
			text[current].WriteString(line + "\n")
		}
	}
	if len(order) == 0 {
		t.Fatalf("no test ran in the guest:\n%s", out)
	}
	for _, name := range order {
		t.Run(name, func(t *testing.T) {
			t.Log(text[name])
			if result[name] != "PASS" {
				t.Errorf("result in the guest is %q", result[name])
			}
		})
	}
	if !strings.Contains(out, exitLine+" 0\n") {
		t.Error("the guest's tests did not end well")
	}
}
