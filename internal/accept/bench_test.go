// SPDX-License-Identifier: Apache-2.0

package accept

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/testcap"
)

// BenchmarkBoot boots the bare machine, the agent alone and a container in turn, so that all see the same load, and
// reports medians, and medians of each turn's ratios: until the agent answers, in processor time of QEMU and by the
// clock, and until a container runs.
func BenchmarkBoot(b *testing.B) {
	needVM(b)
	m, h := newBare(b), home(b)
	boot(b, h, 0) // fills the layer cache
	var bares, ready, running, toReady, toReadyCPU, toRunning []float64
	for i := 0; b.Loop(); i++ {
		wall, cpu := m.boot(b)
		vm := bootAgent(b)
		toReadyCPU = append(toReadyCPU, cpuOf(b, vm.PID()).Seconds()/cpu.Seconds())
		vm.Kill()
		<-vm.Done()
		r := boot(b, h, i+1)
		bares = append(bares, wall.Seconds())
		ready = append(ready, r.ready.Seconds())
		running = append(running, r.running.Seconds())
		toReady = append(toReady, r.ready.Seconds()/wall.Seconds())
		toRunning = append(toRunning, r.running.Seconds()/wall.Seconds())
	}
	b.ReportMetric(median(bares), "bare-s")
	b.ReportMetric(median(ready), "ready-s")
	b.ReportMetric(median(running), "running-s")
	b.ReportMetric(median(toReady), "ready/bare")
	b.ReportMetric(median(toReadyCPU), "ready/bare-cpu")
	b.ReportMetric(median(toRunning), "running/bare")
	info, err := os.Stat(filepath.Join(testcap.Dir(), "home", "guest", "current", "initrd.cpio"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/(1<<20), "initramfs-MiB")
}

type bootTimes struct{ ready, running time.Duration }

// boot runs a container that does nothing and takes the times from the group's record.
func boot(b *testing.B, home string, i int) bootTimes {
	b.Helper()
	name := fmt.Sprintf("boot-%d", i)
	must(b, home, "run", "--name", name, "--network", "none", ref("busybox"), "--", "true")
	r := record(b, home, name)
	must(b, home, "group", "rm", name)
	at := map[string]time.Time{}
	for _, s := range r.Stages {
		at[s.Name] = s.Time
	}
	begin := at[group.StageMachine]
	return bootTimes{ready: at[group.StageGuest].Sub(begin), running: at[group.StageRunning].Sub(begin)}
}

func record(b testing.TB, home, name string) *group.Record {
	b.Helper()
	var r group.Record
	err := json.Unmarshal([]byte(must(b, home, "group", "inspect", name, "-o", "json").stdout), &r)
	if err != nil {
		b.Fatalf("reading the record of %s: %v", name, err)
	}
	return &r
}

func median(v []float64) float64 { return quantile(v, 0.5) }

// quantile returns the value that the given share of v lies below.
func quantile(v []float64, share float64) float64 {
	s := slices.Clone(v)
	slices.Sort(s)
	return s[min(int(share*float64(len(s))), len(s)-1)]
}

// BenchmarkOutput measures the way of standard output from a process in the guest to a user: pipe, control channel,
// supervisor, log, socket, command.
func BenchmarkOutput(b *testing.B) {
	needVM(b)
	h := home(b)
	const size = 64 << 20
	var rates []float64
	for b.Loop() {
		ctx, cancel := context.WithTimeout(b.Context(), patience)
		cmd := exec.CommandContext(ctx, testcap.Bin("cofferdam"), "run", "--rm", ref("busybox"), "--",
			"sh", "-c", fmt.Sprintf("echo; dd if=/dev/zero bs=64k count=%d 2>/dev/null", size>>16))
		cmd.Env = append(os.Environ(), "COFFERDAM_HOME="+h)
		out, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		err = cmd.Start()
		if err != nil {
			b.Fatal(err)
		}
		r := bufio.NewReader(out)
		_, err = r.ReadByte()
		if err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		n, err := io.Copy(io.Discard, r)
		took := time.Since(begin)
		if err != nil || n != size {
			b.Fatalf("got %d bytes, %v; want %d", n, err, size)
		}
		err = cmd.Wait()
		if err != nil {
			b.Fatal(err)
		}
		cancel()
		rates = append(rates, size/took.Seconds()/(1<<20))
	}
	b.ReportMetric(median(rates), "MiB/s")
}

// BenchmarkMemory reports what the guest itself takes of the machine's memory while a container runs, and what the
// machine takes of the host's.
func BenchmarkMemory(b *testing.B) {
	needVM(b)
	h := home(b)
	var inside, outside float64
	for b.Loop() {
		name := "memory"
		must(b, h, "run", "-d", "--name", name, "--network", "none", ref("busybox"), "--", "sh", "-c", "cat /proc/meminfo; sleep 600")
		var free, total float64
		eventually(b, "the container prints", func() error {
			out := must(b, h, "group", "logs", name).stdout
			total, free = kib(out, "MemTotal:"), kib(out, "MemAvailable:")
			if total == 0 || free == 0 {
				return fmt.Errorf("no memory figures in %q", out)
			}
			return nil
		})
		inside = (512<<10 - free) / 1024
		outside = rss(b, name) / 1024
		must(b, h, "group", "rm", "--force", name)
	}
	b.ReportMetric(inside, "guest-used-MiB")
	b.ReportMetric(outside, "host-rss-MiB")
}

func kib(text, key string) float64 {
	_, rest, ok := strings.Cut(text, key)
	if !ok {
		return 0
	}
	var n float64
	_, _ = fmt.Sscan(rest, &n) // zero means absent
	return n
}

// rss is the resident memory in KiB of the QEMU process whose machine has the given name.
func rss(b *testing.B, name string) float64 {
	b.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		b.Fatal(err)
	}
	for _, d := range dirs {
		cmdline, err := os.ReadFile(d)
		if err != nil || !strings.Contains(string(cmdline), "qemu-system") || !strings.Contains(string(cmdline), name) {
			continue
		}
		status, err := os.ReadFile(filepath.Join(filepath.Dir(d), "status"))
		if err == nil {
			return kib(string(status), "VmRSS:")
		}
	}
	b.Fatalf("no machine named %q runs", name)
	return 0
}
