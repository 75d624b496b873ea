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
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/testcap"
)

// openDoor is a policy that allows everything: what a guest without policies would do.
const openDoor = `package policy

api_version := "0.11.0"

mount_device := {"allowed": true}
unmount_device := {"allowed": true}
rw_mount_device := {"allowed": true}
mount_overlay := {"allowed": true}
unmount_overlay := {"allowed": true}
create_container := {"allowed": true, "allow_stdio_access": true}
exec_in_container := {"allowed": true, "allow_stdio_access": true}
shutdown_container := {"allowed": true}
signal_container_process := {"allowed": true}
get_properties := {"allowed": true}
scratch_mount := {"allowed": true}
scratch_unmount := {"allowed": true}
`

// measured is a group that works when it is asked to, and whose machine's processor time is measured.
type measured struct {
	name          string
	redis, spawns int // ports
	pid           int
}

// spawner starts as many processes as a connection says, one after another.
const spawner = `read -r n; while [ $n -gt 0 ]; do /bin/busybox true; n=$((n-1)); done; echo done`

// startMeasured starts a group of a database and a spawner.
func startMeasured(b *testing.B, home, name string, args ...string) *measured {
	b.Helper()
	m := &measured{name: name, redis: freePort(b), spawns: freePort(b)}
	file := filepath.Join(b.TempDir(), "compose.yaml")
	text := fmt.Sprintf(`name: %s
services:
  db: {image: '%s', ports: ['%d:6379']}
  spawner:
    image: '%s'
    command: [nc, -ll, -p, '9000', -e, sh, -c, %q]
    ports: ['%d:9000']
`, name, ref("redis"), m.redis, ref("busybox"), strings.ReplaceAll(spawner, "$", "$$"), m.spawns)
	err := os.WriteFile(file, []byte(text), 0o600)
	if err != nil {
		b.Fatal(err)
	}
	ended(b, home, name)
	must(b, home, append([]string{"group", "up", "--memory", "512m", file}, args...)...)
	m.pid = record(b, home, name).MachinePID
	eventually(b, "the database answers", func() error { return ask(m.redis, 25, query) })
	eventually(b, "the spawner answers", func() error { return ask(m.spawns, 1, spawn) })
	return m
}

// ask connects to a port and has work done there.
func ask(port, size int, work func(net.Conn, int) error) error {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), patience)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // the answers are there
	err = c.SetDeadline(time.Now().Add(patience))
	if err != nil {
		return err
	}
	return work(c, size)
}

// cost is the processor time that the machine takes for one portion of work.
func (m *measured) cost(b *testing.B, port, size int, work func(net.Conn, int) error) float64 {
	b.Helper()
	before := clockOf(b, m.pid)
	err := ask(port, size, work)
	if err != nil {
		b.Fatalf("%s: %v", m.name, err)
	}
	return (clockOf(b, m.pid) - before).Seconds()
}

// clockOf is the processor time of all threads that a process ever had, finer than what /proc tells.
func clockOf(b *testing.B, pid int) time.Duration {
	b.Helper()
	const scheduled = 2 // CPUCLOCK_SCHED of the kernel's posix-timers.h; the process stands above it, inverted
	var t unix.Timespec
	err := unix.ClockGettime(int32(^pid<<3|scheduled), &t)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}

func spawn(c net.Conn, n int) error {
	_, err := fmt.Fprintf(c, "%d\n", n)
	if err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && line != "done\n" {
		err = fmt.Errorf("the spawner says %q", line)
	}
	return err
}

// query has the database set and read a value n times, with fifty requests under way.
func query(c net.Conn, n int) error {
	const pair, answers, batch = "SET colour deepblue\r\nSTRLEN colour\r\n", "+OK\r\n:8\r\n", 25
	buf := make([]byte, batch*len(answers))
	for range n / batch {
		_, err := io.WriteString(c, strings.Repeat(pair, batch))
		if err == nil {
			_, err = io.ReadFull(c, buf)
		}
		if err != nil {
			return err
		}
		if string(buf) != strings.Repeat(answers, batch) {
			return fmt.Errorf("the database says %q", buf)
		}
	}
	return nil
}

// BenchmarkPolicyCost compares the processor time of machines under a generated policy and under one that allows
// everything, for the same work inside. A second machine under the open policy shows how much two of the same differ. The
// machines take turns, and are new ones in each iteration. Of many small portions the cheapest counts: what else this
// machine does makes others dearer, and none cheaper.
func BenchmarkPolicyCost(b *testing.B) {
	needVM(b)
	h := home(b)
	open := filepath.Join(b.TempDir(), "open.rego")
	err := os.WriteFile(open, []byte(openDoor), 0o600)
	if err != nil {
		b.Fatal(err)
	}
	ratios := map[string][]float64{}
	for b.Loop() {
		machines := []*measured{
			startMeasured(b, h, "off", "--policy", open), startMeasured(b, h, "on"), startMeasured(b, h, "same", "--policy", open),
		}
		for _, w := range []struct {
			name string
			size int
			work func(net.Conn, int) error
		}{{"redis", 1000, query}, {"spawn", 100, spawn}} {
			var cost [3][]float64
			for round := range 24 {
				for i := range machines {
					i = (i + round) % len(machines) // each is the first as often as the others
					m, port := machines[i], machines[i].redis
					if w.name == "spawn" {
						port = m.spawns
					}
					used := m.cost(b, port, w.size, w.work)
					if round > 0 { // the emulator translates what it has not run before
						cost[i] = append(cost[i], used)
					}
				}
			}
			for i, what := range []string{"", "on/off", "same/off"} {
				if i > 0 {
					ratios[w.name+"-"+what] = append(ratios[w.name+"-"+what], slices.Min(cost[i])/slices.Min(cost[0]))
				}
			}
		}
		must(b, h, "group", "down", "on", "off", "same")
	}
	for what, list := range ratios {
		b.ReportMetric(median(list), what)
	}
}

// BenchmarkExec measures a command in a running container, from the start of our command to its end, and beside it a
// question to the guest that starts nothing. The two take turns.
func BenchmarkExec(b *testing.B) {
	needVM(b)
	h := home(b)
	ended(b, h, "exec")
	must(b, h, "run", "-d", "--name", "exec", "--network", "none", "--allow-exec", "true", ref("busybox"), "--", "sleep", "10000")
	var execs, stats []float64
	took := func(args ...string) float64 {
		begin := time.Now()
		must(b, h, args...)
		return time.Since(begin).Seconds() * 1000
	}
	took("group", "exec", "exec", "--", "true")
	for b.Loop() {
		for range 40 {
			execs = append(execs, took("group", "exec", "exec", "--", "true"))
			stats = append(stats, took("group", "stats", "exec"))
		}
	}
	b.ReportMetric(median(execs), "exec-p50-ms")
	b.ReportMetric(quantile(execs, 0.99), "exec-p99-ms")
	b.ReportMetric(median(stats), "stats-p50-ms")
	b.ReportMetric(median(execs)/median(stats), "exec/stats")
}

// BenchmarkFollow measures the way of standard output from a process in the guest to somebody who follows the log.
func BenchmarkFollow(b *testing.B) {
	needVM(b)
	h := home(b)
	const size = 64 << 20
	var rates []float64
	for i := 0; b.Loop(); i++ {
		name := fmt.Sprintf("follow-%d", i)
		line := fmt.Sprintf("until [ -e /go ]; do sleep 0.1; done; echo; dd if=/dev/zero bs=64k count=%d 2>/dev/null", size>>16)
		must(b, h, "run", "-d", "--name", name, "--network", "none", "--allow-exec", "touch /go", ref("busybox"), "--", "sh", "-c", line)
		ended(b, h, name)
		rates = append(rates, follow(b, h, name, size))
	}
	b.ReportMetric(median(rates), "MiB/s")
}

// follow follows a log until the group ends, and returns the bytes of it in a second.
func follow(b *testing.B, home, name string, least int64) float64 {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, testcap.Bin("cofferdam"), "group", "logs", "--follow", name)
	cmd.Env = append(os.Environ(), "COFFERDAM_HOME="+home)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	must(b, home, "group", "exec", name, "--", "touch", "/go")
	r := bufio.NewReaderSize(out, 1<<20)
	_, err = r.ReadByte()
	if err != nil {
		b.Fatal(err)
	}
	begin := time.Now()
	n, err := io.Copy(io.Discard, r)
	took := time.Since(begin)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil || n < least {
		b.Fatalf("got %d bytes, %v; want %d at least", n, err, least)
	}
	return float64(n) / took.Seconds() / (1 << 20)
}
