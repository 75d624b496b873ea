// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/policy"
)

// decisions is how many BenchmarkLife makes in each iteration.
const decisions = 10_000

// life is a container's, from its layers to their removal: what a host asks of a guest, state included.
type life struct {
	e     *Engine
	times []time.Duration
}

func (l *life) ask(b *testing.B, want bool, f func(context.Context) (Decision, error)) {
	b.Helper()
	began := time.Now()
	d, err := f(b.Context())
	l.times = append(l.times, time.Since(began))
	if err != nil || d.Allowed != want {
		b.Fatalf("%s: %v, %q, %v", d.Point, d.Allowed, d.Reasons, err)
	}
}

// run has container c live as the nth of all.
func (l *life) run(b *testing.B, c policy.Container, i, n int) {
	id := testID2(n)
	root := GuestRoot + "/" + id + "/rootfs"
	targets := make([]string, len(c.Layers))
	for k, hash := range c.Layers {
		targets[k] = fmt.Sprintf("/run/mounts/scsi/m%d", k)
		l.ask(b, true, func(ctx context.Context) (Decision, error) { return l.e.MountDevice(ctx, targets[k], hash) })
	}
	top := slices.Clone(targets)
	slices.Reverse(top)
	l.ask(b, true, func(ctx context.Context) (Decision, error) { return l.e.MountOverlay(ctx, id, top, root) })
	l.ask(b, true, func(ctx context.Context) (Decision, error) { return l.e.CreateContainer(ctx, testCreate(id, i)) })
	exec := ExecInput{ContainerID: id, Process: testProcess(i)}
	for _, command := range []string{"/bin/sh", "/bin/other"} {
		exec.Args = []string{command}
		l.ask(b, command == "/bin/sh", func(ctx context.Context) (Decision, error) { return l.e.ExecInContainer(ctx, exec) })
	}
	l.ask(b, true, func(ctx context.Context) (Decision, error) { return l.e.GetProperties(ctx) })
	l.ask(b, true, func(ctx context.Context) (Decision, error) {
		return l.e.SignalContainerProcess(ctx, SignalInput{ContainerID: id, Signal: 15, Init: true, Args: c.Command})
	})
	l.ask(b, true, func(ctx context.Context) (Decision, error) { return l.e.ShutdownContainer(ctx, id) })
	l.ask(b, true, func(ctx context.Context) (Decision, error) { return l.e.UnmountOverlay(ctx, root) })
	for _, target := range targets {
		l.ask(b, true, func(ctx context.Context) (Decision, error) { return l.e.UnmountDevice(ctx, target) })
	}
}

// BenchmarkLife has containers live one after another until 10,000 decisions are made, in a policy of one container and
// in one of 200. One in 24 is a denial.
func BenchmarkLife(b *testing.B) {
	for _, n := range []int{1, 200} {
		b.Run(fmt.Sprintf("containers=%d", n), func(b *testing.B) {
			p := groupPolicy(n)
			l := life{e: mustLoad(b, p)}
			next := 0
			began := processor(b)
			for b.Loop() {
				for end := len(l.times) + decisions; len(l.times) < end; next++ {
					l.run(b, p.Containers[next%n], next%n, next)
				}
			}
			used := (processor(b) - began).Seconds() / float64(len(l.times))
			slices.Sort(l.times)
			at := func(q float64) float64 { return l.times[int(q*float64(len(l.times)))].Seconds() * 1e3 }
			b.ReportMetric(used*decisions, "cpu-s/10000")
			b.ReportMetric(1/used, "decisions/cpu-s")
			b.ReportMetric(float64(len(l.times))/b.Elapsed().Seconds(), "decisions/s")
			b.ReportMetric(at(0.5), "p50-ms")
			b.ReportMetric(at(0.99), "p99-ms")
		})
	}
}

// processor is the processor time that this process has used, in all its threads.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
