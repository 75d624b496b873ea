// SPDX-License-Identifier: Apache-2.0

package fusefile

import (
	"os/exec"
	"sync"
	"testing"

	"cofferdam.dev/internal/testcap"
)

// TestForks mounts and unmounts while other goroutines start processes that live on: none of those keeps a mount busy.
// No other test runs meanwhile: until a process has become another program it has all files that its parent had open.
func TestForks(t *testing.T) {
	testcap.Require(t, testcap.Root, testcap.FUSE)
	const rounds, most = 20, 300
	stop := make(chan struct{})
	var forking sync.WaitGroup
	for range 2 {
		forking.Go(func() {
			var started []*exec.Cmd
			for done := false; !done && len(started) < most; {
				select {
				case <-stop:
					done = true
				default:
					c := exec.Command("sleep", "600")
					if err := c.Start(); err != nil {
						t.Error(err)
						done = true
						continue
					}
					started = append(started, c)
				}
			}
			for _, c := range started {
				_ = c.Process.Kill() // it was only there
				_ = c.Wait()         // killed
			}
		})
	}
	for round := range rounds {
		m, err := Serve(t.TempDir(), newMemory(1), Options{})
		if err != nil {
			t.Error(err)
			break
		}
		if err := m.Close(); err != nil {
			t.Errorf("round %d: %v", round, err)
			_ = m.Abort() // says what was said before
			break
		}
	}
	close(stop)
	forking.Wait()
}
