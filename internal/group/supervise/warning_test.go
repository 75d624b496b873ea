// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"os"
	"slices"
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
