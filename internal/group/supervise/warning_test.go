// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"os"
	"slices"
	"strings"
	"testing"

	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/sandbox/sandboxtest"
)

// A policy may drop variables. Whoever starts the group is told which, and never their values.
func TestDroppedVariables(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	plan := b.plan("dropped", "/bin/true")
	plan.Containers[0].Env = []string{"KEPT=1", sandboxtest.DroppedVariable + "=hunter2", "EMPTY="}
	c, err := b.store.Create(plan)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	s, err := group.Start(c, group.StartOptions{
		Command: []string{self, "test-supervise", b.home}, Warning: func(text string) { told = append(told, text) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		<-s.Exited()
		_ = s.Close()
	}()
	err = s.Wait(t.Context(), group.StageRunning)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"the policy drops environment variables of main: " + sandboxtest.DroppedVariable}
	if !slices.Equal(told, want) {
		t.Errorf("the starter was told %q, want %q", told, want)
	}
	if g := b.waitDead("dropped"); !slices.Equal(g.Record.Warnings, want) {
		t.Errorf("the record says %q, want %q", g.Record.Warnings, want)
	}
}

// A full disk of the host is told once, however many writes it fails, and in the process's end.
func TestHostDiskFull(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	plan := b.plan("filled", sandboxtest.CommandDiskFull)
	plan.Containers[0].ScratchMiB = 1
	_, client, _ := b.foreground(plan, false) // it may have ended before anybody could connect to a group that waits for nobody
	end, err := client.Wait(t.Context(), "", "")
	if err != nil || end.ExitCode != 1 || end.Reason != "the host's disk is full" || end.Broken {
		t.Errorf("end is %+v, %v", end, err)
	}
	_ = client.Close()
	r := b.waitDead("filled").Record
	want := []string{"the host's disk is full: writes to a container's scratch disk failed"}
	if !slices.Equal(r.Warnings, want) || r.Containers[0].Reason != "the host's disk is full" {
		t.Errorf("the record says %q of the group and %q of the container", r.Warnings, r.Containers[0].Reason)
	}
	b.wants("filled", " ScratchFull Warning the host's disk is full", "main Exited Warning Container main ended with exit code 1: the host's disk is full")
}

// The machine's end says it, too.
func TestHostDiskFullAndPanic(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, s := b.create(b.plan("panicked", sandboxtest.CommandFullPanic))
	_ = s.Wait(t.Context(), group.StageRunning) // the machine may end before its start is answered
	r := b.waitDead("panicked").Record
	if r.State != group.StateFailed || !strings.Contains(r.Reason, "the guest's kernel panicked; the host's disk is full") || len(r.Warnings) != 1 {
		t.Errorf("record is %s (%s), warnings %q", r.State, r.Reason, r.Warnings)
	}
}
