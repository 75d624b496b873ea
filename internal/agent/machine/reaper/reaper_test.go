// SPDX-License-Identifier: Apache-2.0

package reaper

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const partEnv = "REAPER_TEST_PART"

// A reaper takes the statuses of all children, so the tests run in a process of their own, which also becomes what
// PID 1 is: the one that orphans go to.
func TestMain(m *testing.M) {
	switch part, arg, _ := strings.Cut(os.Getenv(partEnv), ":"); part {
	case "":
		os.Exit(m.Run())
	case "inside":
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			panic(err)
		}
		_ = os.Unsetenv(partEnv)
		os.Exit(m.Run())
	case "exit":
		code, _ := strconv.Atoi(arg)
		os.Exit(code)
	case "sleep":
		time.Sleep(time.Hour)
	case "late":
		time.Sleep(200 * time.Millisecond)
		os.Exit(9)
	case "orphan":
		cmd := play(arg)
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		fmt.Println(cmd.Process.Pid)
	}
}

func play(part string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), partEnv+"="+part)
	return cmd
}

const insideEnv = "REAPER_TEST_INSIDE"

// inside runs the calling test alone in a process of its own; it returns true in that process.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideEnv) != "" {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), partEnv+"=inside", insideEnv+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

func start(t *testing.T, r *Reaper, cmd *exec.Cmd) *Process {
	t.Helper()
	p, err := r.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestExitCodes(t *testing.T) {
	if !inside(t) {
		return
	}
	r := New()
	defer r.Close()
	for _, want := range []int{0, 1, 42, 255} {
		p := start(t, r, play(fmt.Sprintf("exit:%d", want)))
		if got := ExitCode(p.Wait()); got != want || ExitCode(p.Wait()) != want {
			t.Errorf("exit code is %d, want %d, twice", got, want)
		}
	}
	p := start(t, r, play("sleep"))
	select {
	case <-p.Done():
		t.Error("a running process counts as ended")
	case <-time.After(50 * time.Millisecond):
	}
	if err := unix.Kill(p.PID, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if got := ExitCode(p.Wait()); got != 137 {
		t.Errorf("exit code after SIGKILL is %d, want 137", got)
	}
	if _, err := r.Start(exec.Command("/nonexistent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("starting what does not exist: %v", err)
	}
}

// TestOutputIsWhole makes sure that Wait does not return before the output was copied.
func TestOutputIsWhole(t *testing.T) {
	if !inside(t) {
		return
	}
	r := New()
	defer r.Close()
	var out bytes.Buffer
	cmd := exec.Command("head", "-c", "1000000", "/dev/zero")
	cmd.Stdout = &out
	p := start(t, r, cmd)
	if status := p.Wait(); ExitCode(status) != 0 || out.Len() != 1000000 {
		t.Errorf("status %v, %d bytes", status, out.Len())
	}
}

func TestManyAtOnce(t *testing.T) {
	if !inside(t) {
		return
	}
	r := New()
	defer r.Close()
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			p, err := r.Start(play(fmt.Sprintf("exit:%d", i)))
			if err != nil {
				t.Error(err)
				return
			}
			if got := ExitCode(p.Wait()); got != i {
				t.Errorf("exit code is %d, want %d", got, i)
			}
		})
	}
	wg.Wait()
	if len(r.claimed) != 0 || len(r.recent) != 0 {
		t.Errorf("%d claims and %d statuses are left", len(r.claimed), len(r.recent))
	}
}

func orphan(t *testing.T, r *Reaper, part string) int {
	t.Helper()
	var out bytes.Buffer
	cmd := play("orphan:" + part)
	cmd.Stdout = &out
	start(t, r, cmd).Wait()
	pid, err := strconv.Atoi(strings.TrimSpace(out.String()))
	if err != nil {
		t.Fatalf("the parent said %q", out.String())
	}
	return pid
}

func TestAdopt(t *testing.T) {
	if !inside(t) {
		return
	}
	r := New()
	defer r.Close()
	for _, tc := range []struct {
		name, part string
		want       int
		wait       time.Duration
	}{{"running", "late", 9, 0}, {"ended before", "exit:4", 4, 200 * time.Millisecond}} {
		pid := orphan(t, r, tc.part)
		time.Sleep(tc.wait)
		p, err := r.Adopt(pid)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if got := ExitCode(p.Wait()); got != tc.want {
			t.Errorf("%s: exit code is %d, want %d", tc.name, got, tc.want)
		}
		if _, err := r.Adopt(pid); !errors.Is(err, ErrNotChild) {
			t.Errorf("%s: adopting it again: %v", tc.name, err)
		}
	}
	for _, pid := range []int{-1, 0, 1, os.Getpid()} {
		if _, err := r.Adopt(pid); !errors.Is(err, ErrNotChild) {
			t.Errorf("adopting %d: %v, want ErrNotChild", pid, err)
		}
	}
	p := start(t, r, play("sleep"))
	if _, err := r.Adopt(p.PID); err == nil {
		t.Error("a process that is waited for was adopted")
	}
	_ = unix.Kill(p.PID, unix.SIGKILL)
	p.Wait()
}

// TestSignalReachesTheProcess signals adopted processes; one that has ended is never signalled by its number.
func TestSignalReachesTheProcess(t *testing.T) {
	if !inside(t) {
		return
	}
	r := New()
	defer r.Close()
	p, err := r.Adopt(orphan(t, r, "sleep"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(unix.SIGTERM); err != nil {
		t.Errorf("signalling a running process: %v", err)
	}
	if got := ExitCode(p.Wait()); got != 143 {
		t.Errorf("exit code is %d, want 143", got)
	}
	ended, err := r.Adopt(orphan(t, r, "exit:0"))
	if err != nil {
		t.Fatal(err)
	}
	<-ended.Done()
	other := start(t, r, play("sleep"))
	ended.PID = other.PID // as if the number had been given again
	for range 2 {
		if err := ended.Signal(unix.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("signalling a process that has ended: %v, want ErrProcessDone", err)
		}
		ended.Wait()
	}
	select {
	case <-other.Done():
		t.Error("another process got the signal")
	case <-time.After(50 * time.Millisecond):
	}
	_ = unix.Kill(other.PID, unix.SIGKILL)
	other.Wait()
	if open, err := os.ReadDir("/proc/self/fd"); err != nil || len(open) > 16 {
		t.Errorf("%d files are open, %v", len(open), err)
	}
}

// TestUnclaimedOrphans makes sure that they are collected, and that what is kept of them is bounded.
func TestUnclaimedOrphans(t *testing.T) {
	t.Parallel()
	r := &Reaper{claimed: map[int]*Process{}, recent: map[int]unix.WaitStatus{}}
	for pid := 2; pid < 2+3*maxRecent; pid++ {
		r.ended(pid, unix.WaitStatus(pid<<8))
	}
	r.ended(1+3*maxRecent, 7<<8) // the same number again
	if len(r.recent) != maxRecent || len(r.order) != maxRecent {
		t.Errorf("%d statuses in an order of %d are kept, want %d", len(r.recent), len(r.order), maxRecent)
	}
	status, ok := r.forget(1 + 3*maxRecent)
	if !ok || status.ExitStatus() != 7 || len(r.order) != maxRecent-1 {
		t.Errorf("the newest status is %v, %v; %d left", status, ok, len(r.order))
	}
	if _, ok := r.forget(2); ok {
		t.Error("the oldest status is still there")
	}
}
