// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/spec"
)

// processes are those whose command line holds all of words, but for this one and those that only wait to be reaped.
func processes(words ...string) []int {
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		all := err == nil && !zombie(pid)
		for _, w := range words {
			all = all && bytes.Contains(line, []byte(w))
		}
		if all {
			pids = append(pids, pid)
		}
	}
	return pids
}

// busy is a group with much going on: an init container, a sidecar, one that fails again and again, disks, a volume.
func (b *bench) busy(name string) *group.Plan {
	p := b.group(name, spec.RestartOnFailure)
	withSecret(p, filepath.Join(b.home, "volumes-"+name))
	p.Volumes[0].Files = p.Volumes[0].Files[:1]
	p.ScratchMiB = 1
	count := filepath.Join(b.home, "count-"+name)
	b.member(p, "prepare", spec.Life{Init: true}, "true "+b.home)
	b.member(p, "side", spec.Life{Init: true, Restart: spec.RestartAlways}, "echo side "+b.home+"; trap 'exit 0' TERM; while :; do sleep 0.01; done")
	b.member(p, "app", spec.Life{
		Readiness: &spec.Probe{Period: 5 * time.Millisecond, Timeout: time.Minute, Action: spec.Action{Exec: []string{"/bin/true", b.home}}},
	}, fmt.Sprintf("echo x >>%s; sleep 0.02; test $(wc -l <%s) -ge 4", count, count))
	p.Containers[3].ScratchMiB = 1
	return members(p)
}

// TestSupervisorIsKilledAnywhere kills the supervisor at random moments of a group's life. Nothing of it may be left but
// its files, and what they say must be true.
func TestSupervisorIsKilledAnywhere(t *testing.T) {
	t.Parallel()
	const workers = 4
	points := 200
	if testing.Short() {
		points = 20
	}
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	var all sync.WaitGroup
	var done [2]int // groups that had ended before, and others
	var mu sync.Mutex
	for w := range workers {
		b := newBench(t)
		r := rand.New(rand.NewPCG(uint64(seed), uint64(w)))
		all.Go(func() {
			for i := range points / workers {
				ended := b.killOnce(fmt.Sprintf("victim-%d", i), time.Duration(r.Int64N(int64(800*time.Millisecond))))
				mu.Lock()
				done[ended]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	t.Logf("%d groups were killed, %d had ended before", done[0], done[1])
	if done[0] == 0 {
		t.Error("no group was killed while it lived")
	}
}

// killOnce starts a group, kills its supervisor after a while, and looks at what is left. It returns 1 if the group had
// ended before.
func (b *bench) killOnce(name string, after time.Duration) int {
	p := b.busy(name)
	contents := group.Contents{"keys": {{Path: "token", Content: spec.Content(secretText)}}}
	c, err := b.store.Create(p)
	if err != nil {
		b.t.Error(err)
		return 0
	}
	self, err := os.Executable()
	if err != nil {
		b.t.Error(err)
		return 0
	}
	s, err := group.Start(c, group.StartOptions{Command: []string{self, "test-supervise", b.home}, Contents: contents})
	if err != nil {
		b.t.Error(err)
		return 0
	}
	go func() { _ = s.Wait(b.t.Context(), group.StageRunning) }() // it may well fail
	time.Sleep(after)
	for _, pid := range processes("test-supervise", b.home, "\x00"+name+"\x00") {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	}
	<-s.Exited()
	_ = s.Close()
	return b.inspectDead(c)
}

// inspectDead checks what is left of a group whose supervisor was killed.
func (b *bench) inspectDead(c *group.Created) int {
	name := c.Record.Name
	for range attempts { // QEMU and what it plays go with the supervisor
		if len(processes(b.home)) == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, pid := range processes(b.home) {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		b.t.Errorf("process %d of %s lives on: %q", pid, name, line)
	}
	g, err := b.store.Lookup(name)
	for range attempts { // a process that another worker forks has copies of all descriptors, the lock's too, until it runs its program
		if err != nil || !g.Alive {
			break
		}
		time.Sleep(10 * time.Millisecond)
		g, err = b.store.Lookup(name)
	}
	if err != nil {
		b.t.Errorf("%s: %v", name, err)
		return 0
	}
	if g.Alive || !g.Record.State.Final() || g.Record.SupervisorPID != 0 || g.Record.MachinePID != 0 {
		b.t.Errorf("%s is %s (%s), alive %v", name, g.Record.State, g.Record.Reason, g.Alive)
	}
	for _, ct := range g.Record.Containers {
		if !ct.State.Final() {
			b.t.Errorf("%s: container %s is %s", name, ct.Name, ct.State)
		}
	}
	entries, _ := os.ReadDir(c.Dir)
	for _, e := range entries {
		switch e.Name() {
		case "record.json", "plan.json", "events.jsonl", "lock", "logs", "console.log", "supervisor.log":
		default:
			b.t.Errorf("%s: %s is left behind", name, e.Name())
		}
	}
	_ = b.events(name)
	_ = b.logOf(name, "app")
	err = b.store.Remove(name)
	if err != nil {
		b.t.Error(err)
	}
	if g.Record.Reason == group.ReasonSupervisorGone {
		return 0
	}
	return 1
}
