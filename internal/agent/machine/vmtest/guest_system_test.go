// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/agent/machine/boot"
	"cofferdam.dev/internal/agent/machine/cgroup"
	"cofferdam.dev/internal/agent/machine/reaper"
)

func (g *guest) testBoot(t *testing.T) {
	uptime := read(t, "/proc/uptime")
	t.Logf("boot.Start took %v, uptime is now %s", booted.Round(time.Millisecond), strings.Fields(uptime)[0])
	if system.Parameters.TEE != "simulated" {
		t.Errorf("the TEE is %q", system.Parameters.TEE)
	}
	if name, err := os.Hostname(); err != nil || name != "vmtest" {
		t.Errorf("the hostname is %q, %v", name, err)
	}
	for file, want := range map[string]string{
		"/proc/self/oom_score_adj": "-1000\n", "/proc/sys/kernel/kexec_load_disabled": "1\n", "/proc/sys/kernel/modprobe": "\n",
		"/proc/sys/kernel/unprivileged_userns_clone": "0\n", "/proc/sys/kernel/io_uring_disabled": "1\n",
		"/proc/sys/kernel/sysrq": "0\n", "/proc/sys/net/ipv4/ip_unprivileged_port_start": "0\n",
		"/sys/fs/cgroup/cgroup.subtree_control": "cpu io memory pids\n",
	} {
		wantFile(t, file, want)
	}
	mounts := read(t, "/proc/self/mounts")
	for _, want := range []string{
		"proc /proc proc rw,nosuid,nodev,noexec", "sysfs /sys sysfs rw,nosuid,nodev,noexec", "devtmpfs /dev devtmpfs rw,nosuid,noexec",
		"devpts /dev/pts devpts rw,nosuid,noexec", "shm /dev/shm tmpfs rw,nosuid,nodev,noexec", "run /run tmpfs rw,nosuid,nodev,",
		"tmp /tmp tmpfs rw,nosuid,nodev,noexec", "cgroup /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec",
	} {
		if !strings.Contains(mounts, want) {
			t.Errorf("no mount begins with %q:\n%s", want, mounts)
		}
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil || limit.Max != 0 {
		t.Errorf("core files may have %d bytes, %v", limit.Max, err)
	}
	total, available := g.machine.MemoryBytes()
	if total < 512<<20 || total > 768<<20 || available == 0 || available >= total {
		t.Errorf("memory is %d bytes, available %d", total, available)
	}
	if _, err := os.OpenFile("/dev/null", os.O_WRONLY, 0); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := boot.OpenPort(ctx, "nobody"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a port that is not there: %v", err)
	}
}

func (g *guest) testNetwork(t *testing.T) {
	if system.NetworkError != nil {
		t.Fatal(system.NetworkError)
	}
	for name, want := range map[string][]string{"lo": {"127.0.0.1/8", "::1/128"}, "eth0": {"192.168.127.2/24", "fdc0:ff3d:a400::2/64"}} {
		i, err := net.InterfaceByName(name)
		if err != nil {
			t.Error(err)
			continue
		}
		addrs, err := i.Addrs()
		var got []string
		for _, a := range addrs {
			got = append(got, a.String())
		}
		if err != nil || !slices.Equal(got, want) || i.Flags&net.FlagUp == 0 {
			t.Errorf("%s has %v, flags %v, %v; want %v", name, got, i.Flags, err, want)
		}
	}
	if routes := read(t, "/proc/net/route"); !strings.Contains(routes, "eth0\t00000000\t017FA8C0\t0003") {
		t.Errorf("there is no default route by 192.168.127.1:\n%s", routes)
	}
	// The gateway answers ARP, so a connection gets as far as a refusal or, where the network drops it, a timeout; with
	// no route it would fail at once with another error.
	c, err := net.DialTimeout("tcp", "192.168.127.1:9", 500*time.Millisecond)
	if err == nil {
		_ = c.Close()
	} else if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("the gateway can not be reached: %v", err)
	}
}

func (g *guest) testModules(t *testing.T) {
	for _, group := range []string{"boot", "scratch", "volumes", "panic", "snp", "tdx"} { // there is no SNP or TDX here
		start := time.Now()
		if err := system.Modules.Load(group); err != nil {
			t.Errorf("group %s: %v", group, err)
		}
		t.Logf("group %s took %v", group, time.Since(start).Round(time.Millisecond))
	}
	if err := system.Modules.Load("other"); err == nil {
		t.Error("an unknown group was loaded")
	}
	if err := boot.MountConfigFS(); err != nil {
		t.Error(err)
	}
}

// theReaper is the one of this process.
var theReaper *reaper.Reaper

func command(part string) *exec.Cmd {
	cmd := exec.Command(program)
	cmd.Env = []string{childEnv + "=" + part}
	return cmd
}

func (g *guest) testReaper(t *testing.T) {
	theReaper = reaper.New()
	for _, code := range []int{0, 3, 255} {
		p, err := theReaper.Start(command(fmt.Sprintf("exit:%d", code)))
		if err != nil {
			t.Fatal(err)
		}
		if got := reaper.ExitCode(p.Wait()); got != code {
			t.Errorf("exit code is %d, want %d", got, code)
		}
	}
	p, err := theReaper.Start(command("sleep"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(p.PID, unix.SIGTERM); err != nil {
		t.Error(err)
	}
	if got := reaper.ExitCode(p.Wait()); got != 128+15 {
		t.Errorf("exit code after SIGTERM is %d, want 143", got)
	}
	for _, tc := range []struct {
		part string
		want int
		wait time.Duration
	}{{"late", 9, 0}, {"exit:4", 4, 500 * time.Millisecond}} {
		pid := orphan(t, tc.part)
		time.Sleep(tc.wait) // the second one is collected before it is asked for
		o, err := theReaper.Adopt(pid)
		if err != nil {
			t.Fatal(err)
		}
		if got := reaper.ExitCode(o.Wait()); got != tc.want {
			t.Errorf("exit code of orphan %q is %d, want %d", tc.part, got, tc.want)
		}
		if _, err := theReaper.Adopt(pid); !errors.Is(err, reaper.ErrNotChild) {
			t.Errorf("adopting a process that is gone: %v, want ErrNotChild", err)
		}
	}
	orphan(t, "exit:0") // nobody asks for this one
	time.Sleep(300 * time.Millisecond)
	left := zombies(t)
	for end := time.Now().Add(20 * time.Second); left != "" && time.Now().Before(end); left = zombies(t) {
		time.Sleep(50 * time.Millisecond)
	}
	if left != "" {
		t.Errorf("a zombie is left: %s", left)
	}
}

// zombies returns what the kernel says about the processes that ended and were not collected.
func zombies(t *testing.T) string {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, s := range stats {
		b, _ := os.ReadFile(s) // it may be gone
		if bytes.Contains(b, []byte(") Z ")) {
			all = append(all, b...)
		}
	}
	return string(all)
}

// orphan starts a process whose parent ends at once, and returns its number.
func orphan(t *testing.T, part string) int {
	t.Helper()
	var out bytes.Buffer
	cmd := command("orphan:" + part)
	cmd.Stdout = &out
	p, err := theReaper.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	p.Wait()
	pid, err := strconv.Atoi(strings.TrimSpace(out.String()))
	if err != nil {
		t.Fatalf("the parent said %q", out.String())
	}
	return pid
}

func (g *guest) testCgroup(t *testing.T) {
	dir := filepath.Join(cgroup.Root, "vmtest")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/memory.max", []byte("33554432"), 0); err != nil {
		t.Fatal(err)
	}
	p, err := theReaper.Start(command("eat:" + dir))
	if err != nil {
		t.Fatal(err)
	}
	if got := reaper.ExitCode(p.Wait()); got != 128+9 {
		t.Errorf("exit code is %d, want 137", got)
	}
	s, err := cgroup.Read(dir)
	if err != nil || s.OOMKills != 1 || s.CPUMicros == 0 || s.Processes != 0 {
		t.Errorf("counters are %+v, %v", s, err)
	}
	if n, err := cgroup.OOMKills(dir); err != nil || n != 1 {
		t.Errorf("%d kills, %v", n, err)
	}
	if err := os.Remove(dir); err != nil {
		t.Error(err)
	}
}

// testContainer runs a container with the image's runtime, which needs a root that pivot_root accepts.
func (g *guest) testContainer(t *testing.T) {
	base := g.open(t, "base")
	target := g.overlay(t, 8, "", base)
	spec := map[string]any{
		"ociVersion": "1.0.2",
		"process": map[string]any{"args": []string{program}, "cwd": "/", "env": []string{childEnv + "=inside"},
			"user": map[string]any{"uid": 0, "gid": 0}, "oomScoreAdj": 0},
		"root":     map[string]any{"path": target},
		"hostname": "inside",
		"mounts": []any{
			map[string]any{"destination": "/proc", "type": "proc", "source": "proc"},
			map[string]any{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "mode=755"}},
			map[string]any{"destination": program, "type": "bind", "source": program, "options": []string{"bind", "ro"}},
		},
		"linux": map[string]any{
			"cgroupsPath": "/c/test",
			"namespaces":  []any{map[string]any{"type": "pid"}, map[string]any{"type": "mount"}, map[string]any{"type": "ipc"}, map[string]any{"type": "uts"}},
		},
	}
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	bundle := path.Dir(target)
	if err := os.WriteFile(bundle+"/config.json", text, 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command("/usr/bin/runc", "--root", "/run/runc", "run", "--bundle", bundle, "test")
	cmd.Stdout, cmd.Stderr = &out, &out
	start := time.Now()
	p, err := theReaper.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	code := reaper.ExitCode(p.Wait())
	t.Logf("the container ran for %v and said %s", time.Since(start).Round(time.Millisecond), out.String())
	if code != 7 || !strings.Contains(out.String(), "big") || strings.Contains(out.String(), "usr") {
		t.Errorf("exit code is %d, want 7 and a list of the container's own root", code)
	}
	g.unmount(t, target)
	g.close(t, base)
}
