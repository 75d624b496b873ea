// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/guestimage"
	"cofferdam.dev/internal/sandbox/network"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/simsp"
	"cofferdam.dev/internal/testcap"
)

// realConfig boots the real guest image in the real emulator.
func realConfig(t *testing.T) Config {
	t.Helper()
	testcap.Require(t, testcap.QEMU, testcap.GuestImage)
	e, err := qemu.Probe(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	image, err := guestimage.Current(filepath.Join(testcap.Dir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	boot, err := image.Boot(qemu.Simulated, true)
	if err != nil {
		t.Fatal(err)
	}
	processor, err := simsp.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Emulator: e,
		Machine: qemu.Config{
			Name: "test", Accelerator: qemu.TCG, TEE: qemu.Simulated, VCPUs: 1, MemoryMiB: 512,
			Kernel: boot.Kernel, Initrd: boot.Initrd, Cmdline: boot.Cmdline, HostData: [32]byte{1},
		},
		ConsolePath: filepath.Join(t.TempDir(), "console.log"),
		Network:     network.NAT,
		Forwards:    []network.Forward{{Protocol: "tcp", HostIP: "127.0.0.1", GuestPort: 80}},
	}
	cfg.Simulator, err = processor.Launch(simsp.Launch{
		KernelPath: boot.Kernel, InitrdPath: boot.Initrd, Cmdline: boot.Cmdline, VCPUs: 1,
		HostData: cfg.Machine.HostData, Policy: snp.GuestPolicy(qemu.DefaultSNPPolicy),
	})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestRealGuest boots a real guest on QEMU's own network stack, sees it insist on the right policy, and powers it off.
func TestRealGuest(t *testing.T) {
	cfg := realConfig(t)
	cfg.Emulator.StreamNetwork = false
	begin := time.Now()
	vm := boot(t, cfg)
	t.Logf("the agent answers after %v", time.Since(begin).Round(time.Millisecond))
	err := vm.Guest().SetPolicy(t.Context(), []byte("package policy\n"))
	if d := guestv1.DenialFrom(err); d.GetCode() != guestv1.CodePolicyMismatch {
		t.Errorf("error is %v, want %s", err, guestv1.CodePolicyMismatch)
	}
	if len(vm.Warnings()) != 1 || vm.Forwards()[0].HostPort == 0 {
		t.Errorf("warnings %q, forwards %v", vm.Warnings(), vm.Forwards())
	}
	begin = time.Now()
	const calls = 50
	for range calls {
		_, err = vm.Guest().Hello(t.Context())
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("a call takes %v", time.Since(begin)/calls)
	exit := vm.PowerOff(t.Context(), 5*time.Minute)
	if exit.Err() != nil {
		t.Errorf("exit is %q: %v", exit.Reason, exit.Err())
	}
}

// TestRealHang stops a real machine in its tracks, on the network of the supervisor.
func TestRealHang(t *testing.T) {
	cfg := realConfig(t)
	cfg.HangTimeout = 10 * time.Second // long enough for a busy host's hiccups
	vm := boot(t, cfg)
	err := syscall.Kill(vm.PID(), syscall.SIGSTOP)
	if err != nil {
		t.Fatal(err)
	}
	exit := vm.Exit()
	if exit.Reason != Hung || !strings.Contains(exit.Err().Error(), "did not answer") {
		t.Errorf("exit is %q: %v", exit.Reason, exit.Err())
	}
}
