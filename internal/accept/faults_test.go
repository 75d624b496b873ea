// SPDX-License-Identifier: Apache-2.0

package accept

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/testcap"
)

// faulty is a group whose containers do harm when they are told to, one at a time.
const faulty = `apiVersion: v1
kind: Pod
metadata: {name: faulty}
spec:
  restartPolicy: Always
  terminationGracePeriodSeconds: 1
  volumes: [{name: go, emptyDir: {}}]
  containers:
  - {name: calm, image: IMAGE, command: [sh, -c, "trap 'exit 0' TERM; sleep 10000 & wait"], volumeMounts: [{name: go, mountPath: /go}]}
  - name: limited
    image: IMAGE
    command: [sh, -c, "until [ -e /go/limited ]; do sleep 0.3; done; rm /go/limited; exec tail /dev/zero"]
    resources: {limits: {memory: 32Mi}}
    volumeMounts: [{name: go, mountPath: /go}]
  - name: hungry
    image: IMAGE
    command: [sh, -c, "until [ -e /go/hungry ]; do sleep 0.3; done; rm /go/hungry; exec tail /dev/zero"]
    volumeMounts: [{name: go, mountPath: /go}]
  - name: filler
    image: IMAGE
    command: [sh, -c, "until [ -e /go/filler ]; do sleep 0.3; done; rm /go/filler; cat /dev/zero >/full; ls /full; sleep 10000"]
    volumeMounts: [{name: go, mountPath: /go}]
  - name: leaking
    image: IMAGE
    command: [sh, -c, "until [ -e /go/leaking ]; do sleep 0.3; done; rm /go/leaking; (while :; do sleep 10000 & done); echo no more; sleep 10000"]
    volumeMounts: [{name: go, mountPath: /go}]
`

// faults is a test of the group faulty.
type faults struct {
	t    *testing.T
	home string
}

// TestFaultsInside has containers take all memory, all processes and all room, and at the end the machine killed. The
// guest and the other containers live on, and what is told of it is true.
func TestFaultsInside(t *testing.T) {
	t.Parallel()
	needVM(t)
	f := &faults{t: t, home: home(t)}
	file := filepath.Join(t.TempDir(), "pod.yaml")
	err := os.WriteFile(file, []byte(strings.ReplaceAll(faulty, "IMAGE", ref("busybox"))), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ended(t, f.home, "faulty")
	must(t, f.home, "group", "up", file, "--memory", "640m", "--scratch", "32m", "--debug")
	for _, name := range []string{"limited", "hungry"} {
		f.begin(name)
		f.outOfMemory(name)
		f.unharmed(name)
	}
	f.begin("filler")
	f.says("filler", "No space left on device", "/full")
	f.unharmed("filler")
	f.begin("leaking")
	f.says("leaking", "can't fork", "no more")
	f.unharmed("leaking")
	must(t, f.home, "group", "restart", "--container", "leaking", "faulty")
	f.unharmed("leaking, started again")
	f.machineKilled()
}

// begin tells a container to do what it does.
func (f *faults) begin(name string) {
	f.t.Helper()
	f.calm("touch /go/" + name)
}

// calm runs a line of shell in the container that does no harm.
func (f *faults) calm(line string) {
	f.t.Helper()
	r := cofferdam(f.t, f.home, line+"\n", "group", "exec", "-i", "--container", "calm", "faulty", "--", "/bin/sh")
	if r.code != 0 {
		f.t.Errorf("%s: exit code %d, %s", line, r.code, r.stderr)
	}
}

// outOfMemory waits until the kernel has ended a container and it was started again.
func (f *faults) outOfMemory(name string) {
	f.t.Helper()
	expectEvent(f.t, f.home, "faulty", name, "OutOfMemory", "want of memory")
	eventually(f.t, "the container is started again", func() error {
		c := containerOf(f.t, f.home, "faulty", name)
		if c.RestartCount == 0 || c.State != group.StateRunning {
			return fmt.Errorf("%s is %s, restarted %d times", name, c.State, c.RestartCount)
		}
		if c.Previous == nil || c.Previous.ExitCode == nil || *c.Previous.ExitCode != 137 || c.Previous.Reason != "out of memory" {
			f.t.Errorf("%s ended before with %+v", name, c.Previous)
		}
		return nil
	})
}

func (f *faults) says(name string, lines ...string) {
	f.t.Helper()
	eventually(f.t, name+" has come to its limit", func() error {
		r := must(f.t, f.home, "group", "logs", "--container", name, "faulty")
		for _, l := range lines {
			if !strings.Contains(r.stdout+r.stderr, l) {
				return fmt.Errorf("%q is not in %q", l, r.stdout+r.stderr)
			}
		}
		return nil
	})
}

// unharmed checks that the guest answers, that the calm container is the one that was started first, and works.
func (f *faults) unharmed(after string) {
	f.t.Helper()
	f.calm("test $(expr 20 + 22) = 42")
	if c := containerOf(f.t, f.home, "faulty", "calm"); c.State != group.StateRunning || c.RestartCount != 0 {
		f.t.Errorf("after %s the calm container is %s, restarted %d times", after, c.State, c.RestartCount)
	}
	must(f.t, f.home, "group", "stats", "faulty")
}

func (f *faults) machineKilled() {
	kill(f.t, record(f.t, f.home, "faulty").MachinePID)
	eventually(f.t, "the group is known to have failed", func() error {
		r := record(f.t, f.home, "faulty")
		if r.State != group.StateFailed || !strings.Contains(r.Reason, "signal 9") {
			return fmt.Errorf("it is %s (%s)", r.State, r.Reason)
		}
		for _, c := range r.Containers {
			if !c.State.Final() {
				return fmt.Errorf("container %s is %s", c.Name, c.State)
			}
		}
		return nil
	})
	expectEvent(f.t, f.home, "faulty", "", "MachineLost", "signal 9")
	if ps := must(f.t, f.home, "group", "ps", "-a").stdout; !strings.Contains(ps, " failed ") {
		f.t.Errorf("group ps:\n%s", ps)
	}
	nothingRuns(f.t, f.home)
	must(f.t, f.home, "group", "rm", "faulty")
	nothingLeft(f.t, f.home)
}

// kill ends one process.
func kill(t *testing.T, pid int) {
	t.Helper()
	if pid <= 0 { // that would be this process and all of its group
		t.Fatal("the process has ended before")
	}
	err := syscall.Kill(pid, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
}

// TestHostDiskFull has a state directory with less room than the scratch disks that are promised.
func TestHostDiskFull(t *testing.T) {
	t.Parallel()
	needVM(t)
	testcap.Require(t, testcap.Root)
	h := home(t)
	groups := filepath.Join(h, "groups")
	err := os.Mkdir(groups, 0o700)
	if err == nil {
		err = syscall.Mount("tmpfs", groups, "tmpfs", 0, "size=12m,mode=700")
	}
	if err != nil {
		t.Skipf("mounting a small filesystem: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(groups, syscall.MNT_DETACH) })
	ended(t, h, "narrow")
	must(t, h, "run", "-d", "--name", "narrow", "--scratch", "64m", ref("busybox"), "--", "sh", "-c",
		"trap 'exit 0' TERM; cat /dev/urandom >/full; sync; echo it went on; sleep 10000 & wait")
	expectEvent(t, h, "narrow", "", "ScratchFull", "disk")
	must(t, h, "group", "stop", "--timeout", "30s", "narrow")
	r := record(t, h, "narrow")
	if !r.State.Final() || strings.Contains(r.Reason, group.ReasonSupervisorGone) {
		t.Errorf("the group is %s (%s)", r.State, r.Reason)
	}
	eventually(t, "the processes of the group end", func() error { return errors.Join(processesOf(h)...) })
	must(t, h, "group", "rm", "narrow")
}

// TestSupervisorKilled kills the supervisor of a real machine at several moments of its life. The machine goes with it,
// and the group can be removed or started again.
func TestSupervisorKilled(t *testing.T) {
	t.Parallel()
	needVM(t)
	h := home(t)
	for _, stage := range []string{group.StageMachine, group.StagePolicy, group.StageRunning} {
		t.Run(stage, func(t *testing.T) {
			name := "orphan-" + stage
			ended(t, h, name)
			up := make(chan result)
			go func() {
				defer close(up)
				up <- cofferdam(t, h, "", "run", "-d", "--name", name, "--scratch", "32m", ref("busybox"), "--", "sleep", "1000")
			}()
			eventually(t, "the start comes so far", func() error {
				r := cofferdam(t, h, "", "group", "inspect", name, "-o", "json")
				if !strings.Contains(r.stdout, `"name": "`+stage+`"`) {
					return errors.New(r.stdout + r.stderr)
				}
				return nil
			})
			kill(t, record(t, h, name).SupervisorPID)
			started := <-up
			eventually(t, "the machine goes with it", func() error { return errors.Join(processesOf(h)...) })
			// A process loses its command line, by which it is found, a moment before its files, the lock among them.
			eventually(t, "the group's end is known", func() error {
				r := record(t, h, name)
				if r.State != group.StateFailed || r.Reason != group.ReasonSupervisorGone || r.MachinePID != 0 {
					return fmt.Errorf("it is %s (%s)", r.State, r.Reason)
				}
				return nil
			})
			// It may have come further than to the stage before it was killed.
			running := slices.ContainsFunc(record(t, h, name).Stages, func(s group.Stage) bool { return s.Name == group.StageRunning })
			if started.code == 0 && !running {
				t.Error("the command says that a start succeeded that did not")
			}
			if ps := must(t, h, "group", "ps", "-a").stdout; !strings.Contains(ps, " failed ") {
				t.Errorf("group ps:\n%s", ps)
			}
			expectEvent(t, h, name, "", "MachineLost", group.ReasonSupervisorGone)
			if stage == group.StageRunning {
				must(t, h, "group", "start", name)
				must(t, h, "group", "stop", "--timeout", "1s", name)
			}
			nothingRuns(t, h)
			must(t, h, "group", "rm", name)
			nothingLeft(t, h)
		})
	}
}
