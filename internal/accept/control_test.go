// SPDX-License-Identifier: Apache-2.0

package accept

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/guestimage"
	"cofferdam.dev/internal/sandbox"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/simsp"
	"cofferdam.dev/internal/testcap"
)

// BenchmarkControl measures the control channel of a real machine, from a call's first byte to its answer's last: RPC,
// multiplexer, socket, virtio port, agent and back. Each iteration is a few hundred calls that the agent answers at once.
func BenchmarkControl(b *testing.B) {
	needVM(b)
	vm := bootAgent(b)
	const calls = 400
	var half, most []float64
	for b.Loop() {
		took := make([]float64, 0, calls)
		for range calls {
			begin := time.Now()
			_, err := vm.Guest().Hello(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			took = append(took, float64(time.Since(begin).Microseconds())/1000)
		}
		half = append(half, quantile(took, 0.50))
		most = append(most, quantile(took, 0.99))
	}
	b.ReportMetric(median(half), "call-p50-ms")
	b.ReportMetric(median(most), "call-p99-ms")
}

// bootAgent boots the guest image without a network and without a policy, and ends it with the benchmark.
func bootAgent(b *testing.B) *sandbox.VM {
	b.Helper()
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
	processor, err := simsp.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	cfg := sandbox.Config{
		Emulator: e, ConsolePath: filepath.Join(b.TempDir(), "console.log"),
		Machine: qemu.Config{
			Name: "control", Accelerator: qemu.TCG, TEE: qemu.Simulated, VCPUs: 1, MemoryMiB: 512,
			Kernel: boot.Kernel, Initrd: boot.Initrd, Cmdline: boot.Cmdline,
		},
	}
	cfg.Simulator, err = processor.Launch(simsp.Launch{
		KernelPath: boot.Kernel, InitrdPath: boot.Initrd, Cmdline: boot.Cmdline, VCPUs: 1,
		Policy: snp.GuestPolicy(qemu.DefaultSNPPolicy),
	})
	if err != nil {
		b.Fatal(err)
	}
	vm, err := sandbox.Start(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		vm.Kill()
		<-vm.Done()
	})
	err = vm.Ready(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return vm
}
